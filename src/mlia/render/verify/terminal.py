"""VerifyReport -> text: whether the NPU computes what the model says, and where it does not."""

from collections.abc import Sequence

from mlia.render.text import LABEL, NOTHING, Column, Page, count, display_names, identity, plural, source_text
from mlia.verification import Danger, Outcome, TensorCheck, VerifyReport

DANGERS_SHOWN = 10


def render_verification(found: VerifyReport, width: int, color: bool, all_operators: bool) -> str:
    """The verification as text, ending with a newline."""
    page = Page(width, color)
    page.title(f"{found.model.name}: {verdict(found)}")
    if found.target is not None:
        page.paragraph(
            f"{found.target.name}, {found.target.system_config}, {found.target.memory_mode}", "target", LABEL
        )
    for each in found.compiled:
        page.paragraph(f"for {each.npu}-{each.macs_per_cycle}, by {each.compiler}", "compiled", LABEL)
    parts = f"{plural(found.npu_segments, 'command stream')}, {plural(found.host_operators, 'operator')} on the host"
    page.paragraph(f"{parts}; {source_text(found.source)}", "executed", LABEL)
    page.paragraph(found.samples, "samples", LABEL)
    if found.outputs:
        page.paragraph(f"{found.reference.by} {found.reference.version}", "reference", LABEL)
    for note in found.notes:
        page.paragraph(note, "note", LABEL)
    for skipped in found.skipped:
        page.paragraph(f"{skipped.what}: {skipped.reason}", "left out", LABEL)
    if found.outputs:
        page.heading("Outputs")
        _table(page, found.outputs)
        _show_operators(page, found, all_operators)
    certain = [danger for danger in found.dangers if danger.certain]
    _show_dangers(page, "Dangers in the command streams", certain)
    possible = [danger for danger in found.dangers if not danger.certain]
    _show_dangers(page, "What cannot be ruled out in the command streams", possible)
    return page.text


def _show_dangers(page: Page, heading: str, dangers: Sequence[Danger]) -> None:
    if not dangers:
        return
    page.heading(heading)
    for danger in dangers[:DANGERS_SHOWN]:
        page.paragraph(f"stream {danger.stream}, {danger.offset:#x}: {danger.kind}: {danger.what}", "-", 4)
    if len(dangers) > DANGERS_SHOWN:
        page.paragraph(f"and {len(dangers) - DANGERS_SHOWN} more", hang=4)


def verdict(found: VerifyReport) -> str:
    """What the execution showed, in a few words."""
    outcomes = {check.outcome for check in (*found.outputs, *found.operators)}
    if any(danger.kind == "wrong NPU" for danger in found.dangers):
        return "compiled for another NPU"
    if Outcome.DIFFERENT in outcomes:
        return "the NPU computes something else"
    if any(danger.certain for danger in found.dangers):
        return "the command stream is dangerous"
    if not found.outputs:
        return "it executes"
    if not outcomes - {Outcome.NOT_COMPARED, Outcome.NOT_COMPUTED}:
        return "it executes, and nothing can be compared"
    if Outcome.NOT_COMPUTED in outcomes:
        uncomputed = sum(check.outcome == Outcome.NOT_COMPUTED for check in found.operators)
        return f"the same as far as LiteRT can compute it; it cannot {plural(uncomputed, 'operator')}"
    if Outcome.NOT_JUDGED in outcomes:
        unjudged = sum(check.outcome == Outcome.NOT_JUDGED for check in found.operators)
        return f"the same as far as it can be seen; {plural(unjudged, 'operator')} cannot be judged"
    if Outcome.DOCUMENTED in outcomes:
        return "the same, but for differences that are known"
    same = "computes the same, bit by bit"
    return f"the NPU {same}" if found.npu_segments else f"nothing runs on the NPU, and the host {same}"


def _show_operators(page: Page, found: VerifyReport, all_operators: bool) -> None:
    exact = [check for check in found.operators if check.outcome == Outcome.EXACT]
    unseen = [check for check in found.operators if check.outcome in (Outcome.NOT_COMPARED, Outcome.NOT_COMPUTED)]
    others = [check for check in found.operators if check not in exact and check not in unseen]
    page.heading("Operators")
    page.paragraph(
        f"{len(exact)} of {plural(len(found.operators), 'operator')} give exactly the reference's tensor,"
        f" {len(unseen)} cannot be compared, {len(others)} differ."
    )
    if others:
        first = others[0]
        page.paragraph(f"The first that differs is {_name(first)}.")
    shown = found.operators if all_operators else others
    if shown:
        page.gap()
        _table(page, shown)


def _name(check: TensorCheck) -> str:
    number = identity(check.operator.subgraph, check.operator.index) if check.operator else NOTHING
    return f"{check.kind} '{check.name}' (operator {number})"


def _table(page: Page, checks: Sequence[TensorCheck]) -> None:
    columns = (
        Column("#"),
        Column("operator", align_right=False),
        Column("name", align_right=False, flexible=True),
        Column("outcome", align_right=False),
        Column("different"),
        Column("of", rank=1),
        Column("by LSB"),
    )
    names = display_names([check.name for check in checks])
    rows = [
        (
            identity(check.operator.subgraph, check.operator.index) if check.operator else NOTHING,
            check.kind,
            name,
            str(check.outcome),
            count(check.different_elements) if check.elements else NOTHING,
            count(check.elements) if check.elements else NOTHING,
            str(check.largest_codes) if check.elements else NOTHING,
        )
        for check, name in zip(checks, names, strict=True)
    ]
    page.table(columns, rows)
    reasons = dict.fromkeys((check.outcome, check.reason) for check in checks if check.reason)
    for outcome, reason in reasons:
        page.paragraph(f"{outcome}: {reason}", hang=4)
