"""Advice -> text: what is wrong, what to do, and what it brought when it was tried."""

from collections.abc import Sequence

from mlia.advice import Advice, Advised, Attempt
from mlia.figures import Figures
from mlia.render.text import LABEL, NOTHING, Page, identity, kibibytes, milliseconds, plural
from mlia.report import CheckReport, Fixed
from mlia.results import OperatorId, Skipped

SHOWN, LINES_SHOWN = 5, 41  # so that advice fits on one screen, with what is left out
OPERATORS_SHOWN = 8
SHOWN_ATTEMPTS = 3
HANG = 4


def show_advice(page: Page, advised: Advised, everything: bool) -> None:
    """All advice for one target, the most useful first."""
    page.heading("Advice")
    page.paragraph(_counts(advised, everything))
    shown = advised.advice if everything else _fitting(page, advised.advice[:SHOWN])
    for advice in shown:
        page.gap()
        _show_one(page, advice, everything)
    if rest := advised.advice[len(shown) :]:
        codes = ", ".join(sorted({advice.code for advice in rest}))
        page.gap()
        page.paragraph(f"and {len(rest)} more: {codes} (--all-advice shows them)")
    if everything:
        _show_silent(page, advised)


def _fitting(page: Page, advice: Sequence[Advice]) -> Sequence[Advice]:
    """As much of the advice as one screen has room for; one piece at least."""
    measure = Page(page.width, color=False)
    for number, each in enumerate(advice):
        measure.gap()
        _show_one(measure, each, False)
        if number and measure.height > LINES_SHOWN:
            return advice[:number]
    return advice


def advice_by_target(report: CheckReport) -> dict[Advice, list[str]]:
    """The same advice for several targets once, without what was tried, each with the targets it is for."""
    found: dict[Advice, list[str]] = {}
    for entry in report.targets:
        for advice in entry.advised.advice:
            found.setdefault(_alike(advice), []).append(entry.target.name)
    return found


def show_alike(page: Page, advice: Advice, targets: Sequence[str]) -> None:
    """One piece of advice for several targets."""
    page.paragraph(f"{advice.code} {advice.name}, for {', '.join(targets)}", hang=2)
    _show_body(page, advice)


def show_fixed(page: Page, fixed: Fixed | Skipped, quantized: str) -> None:
    """What was applied to the model that was written, and what was not.

    `quantized` says by what data the model was quantized before, and is empty when it was not.
    """
    if isinstance(fixed, Skipped):
        page.heading("Fixed")
        page.paragraph(f"nothing is written: {fixed.reason}")
        return
    page.heading(f"Fixed: {fixed.file}")
    if quantized:
        page.paragraph(f"as above; calibration {quantized}", "quantized", LABEL)
    if not fixed.applied:
        page.paragraph("No lossless remedy was found that brings something; the model is written without any.")
    for change in fixed.applied:
        page.paragraph(f"{change.transform} {change.where}: {change.what}", "applied", LABEL)
    if fixed.applied:
        page.paragraph(f"{difference(fixed.before, fixed.after)}; {fixed.proof}", "brought", LABEL)
    for skipped in fixed.left:
        page.paragraph(f"{skipped.what}: {skipped.reason}", "left", LABEL)


def codes_by_operator(advised: Advised) -> dict[OperatorId, str]:
    """The codes of warnings that are about an operator, for the column that says why."""
    found: dict[OperatorId, dict[str, None]] = {}
    for advice in advised.advice:
        for operator in advice.operators:
            if advice.code.startswith("CMP"):
                found.setdefault(operator, {})[advice.code] = None
    return {operator: " ".join(codes) for operator, codes in found.items()}


def _alike(advice: Advice) -> Advice:
    return Advice(
        advice.code, advice.name, advice.severity, advice.operators, advice.evidence, advice.remedy, advice.safety,
        (), None, None, None,
    )  # fmt: skip


def _counts(advised: Advised, everything: bool) -> str:
    codes = {advice.code for advice in advised.advice}
    silent = {skipped.what for skipped in advised.rejected} - codes
    whole = len(codes) + len(silent) + len(advised.passed) + len(advised.skipped)
    parts = [f"{len(codes)} of {plural(whole, 'rule')} found something", f"{len(advised.passed)} passed"]
    parts += [f"{len(silent)} would bring nothing"] if silent else []
    if number := len(advised.skipped):
        parts.append(f"{number} {'does' if number == 1 else 'do'} not apply")
    return f"{', '.join(parts)}{'' if everything else ' (--all-advice tells which)'}."


def _show_one(page: Page, advice: Advice, everything: bool) -> None:
    page.paragraph(f"{advice.code} {advice.name}{_where(advice.operators)}", hang=2)
    _show_body(page, advice)
    attempts = [each for each in advice.attempts if isinstance(each, Attempt)]
    untried = [each for each in advice.attempts if isinstance(each, Skipped)]
    useful = _useful(attempts)
    for attempt in attempts if everything else useful:
        kept = f" [{attempt.kept_as}]" if attempt.kept_as else ""
        safety = "" if attempt.target else f" ({attempt.safety})"  # another target changes no numbers
        brought = difference(attempt.before, attempt.after)
        page.paragraph(f"tried {attempt.what}{safety}: {brought}{kept}", hang=HANG)
    if attempts and not any(attempt.is_gain for attempt in attempts):
        page.paragraph(f"That {'is not enough' if _helps(attempts[0]) else 'brings nothing'} here.", hang=HANG)
    reasons = [_reason(skipped, len(untried)) for skipped in untried if everything or not attempts]
    for reason in dict.fromkeys(reasons):
        page.paragraph(f"not tried: {reason}", hang=HANG)


def _helps(attempt: Attempt) -> bool:
    """Whether it brings something, though not what it was for."""
    pairs = (
        (attempt.before.known_ms, attempt.after.known_ms),
        (attempt.before.sram_bytes, attempt.after.sram_bytes),
    )
    return any(old is not None and new is not None and new < 0.95 * old for old, new in pairs)


def _useful(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Those worth reading: what brings something, each result once; or else the best."""
    by_result: dict[Figures, Attempt] = {}
    for attempt in attempts:
        if attempt.is_gain:
            by_result.setdefault(attempt.after, attempt)
    return list(by_result.values())[:SHOWN_ATTEMPTS] or list(attempts[:1])


def _reason(skipped: Skipped, number: int) -> str:
    """Why a remedy was not tried; which one it is matters only where others were."""
    is_said = skipped.what == "a remedy" or (number > 1 and skipped.reason.startswith("--"))
    return skipped.reason if is_said else f"{skipped.what}: {skipped.reason}"


def _show_body(page: Page, advice: Advice) -> None:
    page.paragraph(f"{advice.evidence[:1].upper()}{advice.evidence[1:]}. {advice.remedy}", hang=HANG)


def _where(operators: Sequence[OperatorId]) -> str:
    if not operators:
        return ""
    names = [identity(operator.subgraph, operator.index) for operator in operators]
    more = f" and {len(names) - OPERATORS_SHOWN} more" if len(names) > OPERATORS_SHOWN else ""
    return f" (operator{'s' if len(names) > 1 else ''} {', '.join(names[:OPERATORS_SHOWN])}{more})"


def difference(before: Figures, after: Figures) -> str:
    """The figures that changed: time and SRAM always, others where they did."""
    parts = [_time(before, after)]
    for name, old, new in (
        ("SRAM", before.sram_bytes, after.sram_bytes),
        ("DRAM", before.planned_dram_bytes, after.planned_dram_bytes),
        ("flash", before.flash_bytes, after.flash_bytes),
    ):
        if (old or 0) != (new or 0) and kibibytes(old) != kibibytes(new):
            parts.append(f"{name} {kibibytes(old or 0)} -> {kibibytes(new or 0)} KiB")
    if before.cpu_operators != after.cpu_operators:
        parts.append(f"{before.cpu_operators} -> {plural(after.cpu_operators, 'operator')} on the CPU")
    if before.lost_outputs != after.lost_outputs:
        parts.append(f"{before.lost_outputs} -> {plural(after.lost_outputs, 'lost output')}")
    return ", ".join(parts)


def _time(before: Figures, after: Figures) -> str:
    if before.known_ms is None and after.known_ms is None:
        return NOTHING
    return f"{milliseconds(before.known_ms)} -> {milliseconds(after.known_ms)} ms"


def _show_silent(page: Page, advised: Advised) -> None:
    """Rules that gave no advice, with their reasons; the same reason once."""
    page.gap()
    for skipped in advised.rejected:
        page.paragraph(f"{skipped.what}: {skipped.reason}", hang=HANG)
    reasons: dict[str, list[str]] = {}
    for skipped in advised.skipped:
        reasons.setdefault(skipped.reason, []).append(skipped.what)
    for reason, codes in reasons.items():
        page.paragraph(f"{', '.join(codes)} {'does' if len(codes) == 1 else 'do'} not apply: {reason}", hang=HANG)
    if advised.passed:
        page.paragraph(f"passed: {', '.join(advised.passed)}", hang=HANG)
