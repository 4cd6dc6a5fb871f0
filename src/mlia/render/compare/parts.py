"""What every renderer of a CompareReport says, as text: figures with their change, and operators in groups."""

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from mlia.difference import (
    CompareReport,
    Match,
    OperatorDifference,
    OperatorFigures,
    Side,
    TargetDifference,
    Total,
    Verdict,
)
from mlia.render.evidence import band_text
from mlia.render.text import (
    NOTHING,
    count,
    display_names,
    identity,
    kibibytes,
    milliseconds,
    percent,
    plural,
    source_text,
)
from mlia.report import Budget

LABELS = {
    "latency_ms": "latency ms",
    "npu_latency_ms": "NPU ms",
    "cpu_latency_ms": "CPU ms",
    "handover_ms": "hand-over ms",
    "inference_cycles": "cycles per run",
    "total_cycles": "cycles",
    "vela_total_cycles": "by Vela alone",
    "npu_cycles": "NPU busy, cycles",
    "npu_percent": "operators on NPU %",
    "npu_mac_percent": "MACs on NPU %",
    "npu_segments": "segments",
    "cpu_operators": "operators on CPU",
    "unsupported_operators": "without a kernel",
    "macs": "MACs",
    "sram_bytes": "SRAM KiB",
    "planned_dram_bytes": "DRAM KiB",
    "flash_bytes": "flash KiB",
    "arena_bytes": "arena KiB",
    "weights_bytes": "weights KiB",
    "compressed_weights_bytes": "compressed weights KiB",
    "file_bytes": "TFLite file KiB",
}
LOW, HIGH = "  low", "  high"
# What is nothing on most targets, and worth a line only where it is something.
_IF_ANY = (
    "cpu_latency_ms", "cpu_operators", "unsupported_operators", "planned_dram_bytes", "flash_bytes", "sram_bytes",
    "macs",
)  # fmt: skip


class Group(Struct, frozen=True):
    """Operators with something in common."""

    title: str
    operators: tuple[OperatorDifference, ...]


def names_of(found: CompareReport) -> tuple[str, str]:
    """What to call both sides: the models, or the files where the models have one name."""
    before, after = found.before, found.after
    if before.model.name != after.model.name:
        return before.model.name, after.model.name
    return before.given, after.given


def headline(found: CompareReport) -> str:
    """What became of the time, on all targets."""
    if len(found.targets) == 1:
        return verdict_text(found.targets[0])
    told = Counter(entry.verdict for entry in found.targets)
    return ", ".join(
        f"{verdict} on {told[verdict]} of {len(found.targets)} targets" for verdict in Verdict if told[verdict]
    )


def verdict_text(entry: TargetDifference) -> str:
    """What became of the time on one target: "8.8 % less time"."""
    if entry.verdict == Verdict.UNKNOWN:
        return "what became of the time is not known"
    what = "time" if entry.figure == "latency_ms" else "cycles of the NPU"
    if entry.verdict == Verdict.EQUAL or entry.percent is None:
        return f"{entry.verdict}, by {what}"
    size = percent(abs(entry.percent)) if abs(entry.percent) < 1000 else f"{abs(entry.percent):,.0f}"
    sure = ", the bands overlap" if entry.is_within_bands else ""
    return f"{size} % {'more' if entry.verdict == Verdict.SLOWER else 'less'} {what}{sure}"


def side_text(side: Side) -> str:
    """What one side is."""
    model = side.model
    text = f"{kibibytes(model.size_bytes)} KiB, {plural(model.operators, 'operator')}"
    if model.conversion is not None and model.conversion.quantized:
        text += f", quantized ({model.conversion.calibration})"
    return f"{text}; a report of mlia {side.mlia_version}" if side.is_report else text


def matches_text(operators: Sequence[OperatorDifference]) -> str:
    """How many operators are the same, changed, added and removed."""
    told = Counter(each.match for each in operators)
    return ", ".join(f"{told[match]:,} {match}" for match in Match if told[match] or match == Match.SAME)


def estimate_text(entry: TargetDifference) -> str:
    """Who estimated the times of both sides."""
    rests = [entry.before_rests_on, entry.after_rests_on]
    told = [
        (source_text(each.source) if each.source else "not estimated")
        + (f" ({band_text(each.calibration)})" if each.calibration else "")
        for each in rests
    ]
    return told[0] if told[0] == told[1] else f"before {told[0]}; after {told[1]}"


def not_measured(entry: TargetDifference) -> str:
    """What nothing was measured of, on either side."""
    rests = (entry.before_rests_on.calibration, entry.after_rests_on.calibration)
    return "; ".join(dict.fromkeys(text for each in rests if each is not None for text in each.not_measured))


def total_rows(entry: TargetDifference) -> list[tuple[str, str, str, str, str]]:
    """Each figure with what it was, is, and by how much they differ; the ends of a band have rows of their own."""
    shown = {total.figure: total for total in entry.totals}
    cycles, per_run = shown.get("total_cycles"), shown.get("inference_cycles")
    if cycles and per_run and (cycles.before, cycles.after) == (per_run.before, per_run.after):
        del shown["inference_cycles"]
    if not _has_value(shown.get("cpu_latency_ms")) and not _has_value(shown.get("handover_ms")):
        shown.pop("npu_latency_ms", None)
    rows = []
    for name, total in shown.items():
        values = (total.before.value, total.after.value)
        if all(value is None for value in values) or (name in _IF_ANY and not any(values)):
            continue
        before, after = (figure_text(name, value) for value in values)
        share = "" if name.endswith("_percent") else percent_text(total.percent)  # percent of percent misleads
        rows.append((LABELS[name], before, after, change_text(name, total.difference), share))
        if name in ("latency_ms", "total_cycles"):
            rows += _band_rows(name, total)
    return rows


def unknown_lines(entry: TargetDifference) -> list[str]:
    """Why a figure is missing on one side only, one line for each reason."""
    reasons: dict[str, list[str]] = {}
    for total in entry.totals:
        for side, amount, other in (("before", total.before, total.after), ("after", total.after, total.before)):
            # What the verdict is about is explained with it.
            if amount.value is None and total.figure != entry.figure and other.value:
                reasons.setdefault(f"not known {side}: {amount.reason}", []).append(LABELS[total.figure])
    return [f"{', '.join(labels)}: {reason}" for reason, labels in reasons.items()]


def _has_value(total: Total | None) -> bool:
    return total is not None and bool(total.before.value or total.after.value)


def _band_rows(figure: str, total: Total) -> list[tuple[str, str, str, str, str]]:
    bands = [(LOW, total.before.low, total.after.low), (HIGH, total.before.high, total.after.high)]
    return [
        (label, figure_text(figure, before), figure_text(figure, after), "", "")
        for label, before, after in bands
        if before is not None or after is not None
    ]


def figure_text(figure: str, value: float | None) -> str:
    """A figure in the unit of its label."""
    if value is None:
        return NOTHING
    if figure.endswith("_ms"):
        return milliseconds(value)
    if figure.endswith("_percent"):
        return percent(value)
    return kibibytes(int(value)) if figure.endswith("_bytes") else count(int(value))


def change_text(figure: str, value: float | None) -> str:
    """A difference with its sign, in the unit of the label."""
    if value is None or value == 0:
        return NOTHING if value is None else "0"
    text = figure_text(figure, abs(value))
    return f"{'+' if value > 0 else '-'}{'<0.1' if text == '0.0' else text}"


def percent_text(value: float | None) -> str:
    """A difference in percent with its sign."""
    return change_text("_percent", value) if value is None or abs(value) < 1000 else f"{value:+,.0f}"


def groups(entry: TargetDifference) -> list[Group]:
    """Operators by what became of them, each in one group; those that cost most, or save most, first."""
    titles: dict[str, list[OperatorDifference]] = {
        "Moved between CPU and NPU": [],
        "Changed": [],
        "Slower": [],
        "Faster": [],
        "Added": [],
        "Removed": [],
        "As before": [],
    }
    for each in entry.operators:
        titles[_group(each)].append(each)
    return [
        Group(title, tuple(sorted(found, key=lambda each: -abs(each.difference_ms or 0))))
        for title, found in titles.items()
        if found
    ]


def _group(each: OperatorDifference) -> str:
    # What has another kind now is another operator, wherever it runs.
    if each.is_moved and each.before and each.after and each.before.kind == each.after.kind:
        return "Moved between CPU and NPU"
    if each.match in (Match.CHANGED, Match.ADDED, Match.REMOVED):
        return each.match.capitalize()
    if not each.difference_ms:
        return "As before"
    return "Slower" if each.difference_ms > 0 else "Faster"


def operator_rows(entry: TargetDifference, group: Group) -> list[tuple[str, ...]]:
    """Each operator: number before and after, kind, name, where it runs, ms and cycles before and after, and why."""
    names = _short_names(entry)
    return [_operator_row(each, names) for each in group.operators]


def _operator_row(each: OperatorDifference, names: dict[str, str]) -> tuple[str, ...]:
    before, after = each.before, each.after
    known = after or before
    assert known is not None, "an operator is on one side at least"
    return (
        identity(before.subgraph, before.index) if before else NOTHING,
        identity(after.subgraph, after.index) if after else NOTHING,
        known.kind,
        names[known.name],
        _arrow([str(side.processor or NOTHING) for side in (before, after) if side]),
        milliseconds(before.latency_ms if before else None),
        milliseconds(after.latency_ms if after else None),
        change_text("_ms", each.difference_ms),
        count(before.total_cycles if before else None),
        count(after.total_cycles if after else None),
        why_text(each),
    )


def _short_names(entry: TargetDifference) -> dict[str, str]:
    """All operators' names without what most of them share."""
    full = list(dict.fromkeys(side.name for each in entry.operators for side in (each.before, each.after) if side))
    return dict(zip(full, display_names(full), strict=True))


def _arrow(texts: Sequence[str]) -> str:
    return " -> ".join(dict.fromkeys(texts))


def why_text(each: OperatorDifference) -> str:
    """What else of an operator differs; of one that is on one side only, what it is."""
    sides = [side for side in (each.before, each.after) if side]
    told = [
        ("", [side.kind for side in sides]),
        ("named ", [side.name or NOTHING for side in sides]),
        ("", [_shapes(side) for side in sides]),
        ("", [" ".join(side.data_types) for side in sides]),
        ("bound by ", [str(side.bound_by or "") for side in sides]),
        ("kernel ", [side.kernel for side in sides]),
        ("compressed weights KiB ", [_compressed(side) for side in sides]),
    ]
    if len(sides) == 1:
        return _shapes(sides[0])
    return ", ".join(f"{what}{_arrow(texts)}" for what, texts in told if texts[0] != texts[1] and all(texts))


def _compressed(figures: OperatorFigures) -> str:
    return kibibytes(figures.compressed_weights_bytes) if figures.compressed_weights_bytes is not None else ""


def change_lines(group: Group) -> list[str]:
    """What operators of a group are now and were before, where that is another kind or shape."""
    changed = [each for each in group.operators if each.match == Match.CHANGED]
    return [
        f"{identity(each.before.subgraph, each.before.index)} -> {identity(each.after.subgraph, each.after.index)}:"
        f" {why_text(each)}"
        for each in changed
        if each.before and each.after
    ]


def reason_lines(group: Group) -> list[str]:
    """Why operators of a group run on the CPU, each reason once."""
    reasons: dict[str, list[str]] = {}
    for each in group.operators:
        for figures in (each.before, each.after):
            for reason in figures.reasons if figures else ():
                reasons.setdefault(reason, []).append(number_text(each, figures))
    return [f"{', '.join(numbers)}: {reason}" for reason, numbers in reasons.items()]


def number_text(each: OperatorDifference, figures: OperatorFigures | None) -> str:
    """An operator's number, with the side that it is of."""
    assert figures is not None, "a number is of an operator that is there"
    return f"{identity(figures.subgraph, figures.index)} {'before' if figures is each.before else 'after'}"


def _shapes(figures: OperatorFigures) -> str:
    shapes = [
        "x".join("?" if size == -1 else str(size) for size in shape) or "scalar" for shape in figures.output_shapes
    ]
    return " ".join(shapes)


def budget_text(budget: Budget) -> str:
    """Whether one limit is kept, with the figure."""
    verdict = "kept" if budget.is_kept else "missed"
    value = "not known" if budget.value is None else f"{percent_text(budget.value)} %"
    reason = f" ({budget.reason})" if budget.reason else ""
    return f"{verdict}: {value}{reason}, at most {budget.limit:+g} %"
