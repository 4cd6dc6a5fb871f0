"""Both models on one target: what became of the time, and how far to believe that."""

from collections.abc import Sequence

from mlia.cpu_results import CpuPerformance
from mlia.difference import Amount, Rests, TargetDifference, Total, Verdict
from mlia.pipeline.compare.match import Matched
from mlia.pipeline.compare.operators import common_percent, compare_operators
from mlia.pipeline.compare.totals import totals
from mlia.report import CheckReport, MemorySummary, TargetReport, TargetSummary
from mlia.results import Performance

LATENCY, CYCLES = "latency_ms", "inference_cycles"


def compare_target(
    matched: Sequence[Matched], before: tuple[CheckReport, TargetReport], after: tuple[CheckReport, TargetReport]
) -> TargetDifference:
    """The figures of both sides on one target, and the verdict."""
    figures = totals(before, after)
    judged = _judged(figures)
    operators = compare_operators(matched, before[1], after[1])
    common = common_percent(operators)
    rests = _rests(before[1]), _rests(after[1])
    changes = target_changes(before[1].target, after[1].target)
    overlap = bands_overlap(judged.before, judged.after)
    return TargetDifference(
        target=after[1].target,
        target_changes=changes,
        before_rests_on=rests[0],
        after_rests_on=rests[1],
        verdict=_verdict(judged),
        figure=judged.figure,
        percent=judged.percent,
        is_within_bands=overlap,
        common_percent=common,
        explanation=_explanation(judged, rests, bool(changes), overlap, common),
        totals=figures,
        operators=operators,
    )


def _judged(figures: Sequence[Total]) -> Total:
    """The latency, where a side has one; else the cycles of the NPU."""
    by_name = {total.figure: total for total in figures}
    for name in (LATENCY, CYCLES):
        total = by_name.get(name)
        if total is not None and (total.before.value is not None or total.after.value is not None):
            return total
    return by_name[LATENCY]


def _verdict(judged: Total) -> Verdict:
    if judged.difference is None:
        return Verdict.UNKNOWN
    if judged.difference == 0:
        return Verdict.EQUAL
    return Verdict.SLOWER if judged.difference > 0 else Verdict.FASTER


def bands_overlap(before: Amount, after: Amount) -> bool | None:
    """Whether one true value could lie in the bands of both; None where one has none."""
    if before.low is None or before.high is None or after.low is None or after.high is None:
        return None
    return before.low <= after.high and after.low <= before.high


def _rests(entry: TargetReport) -> Rests:
    performance = entry.results[0].performance
    if isinstance(performance, Performance):
        return Rests(performance.source, performance.calibration)
    return Rests(performance.source if isinstance(performance, CpuPerformance) else None, None)


def _explanation(
    judged: Total, rests: tuple[Rests, Rests], is_other_target: bool, overlap: bool | None, common: float | None
) -> str:
    """How far to believe the difference."""
    if judged.difference is None:
        unknown = judged.before if judged.before.value is None else judged.after
        return f"the time {'before' if unknown is judged.before else 'after'} is not known: {unknown.reason}"
    if is_other_target:
        return "the target is not the same on both sides, and the difference is of both, model and target"
    left, right = (_without_gaps(each) for each in rests)
    if left != right:
        return "the times are not estimated alike on both sides: what differs may be the estimates"
    if judged.difference == 0:
        return ""
    if overlap is None:
        return "how far off these estimates are is not known"
    if not overlap:
        return "the bands do not touch, so the sign is right even if both estimates are off, each its own way"
    shared = (
        f"{common:.0f} % of the time is in operators that take as long in both"
        if common is not None
        else "much is in both"
    )
    return (
        f"the bands overlap, but each is of one estimate by itself: {shared}, where the same error is on both sides and"
        " cancels; what changed has errors of its own, so of a small difference not even the sign is sure"
    )


def _without_gaps(rests: Rests) -> object:
    """Whose estimate it is, whatever the model has that nothing was measured of."""
    source, found = rests.source, rests.calibration
    fit = (found.fitted_on, found.n, found.band_low, found.band_high) if found is not None else None
    return source, fit


def target_changes(before: TargetSummary, after: TargetSummary) -> tuple[str, ...]:
    """What else a target of the same name is, "clock_mhz 500 -> 400"."""
    left, right = _described(before), _described(after)
    names = dict.fromkeys((*left, *right))
    return tuple(
        f"{name} {left.get(name, 'none')} -> {right.get(name, 'none')}"
        for name in names
        if left.get(name) != right.get(name)
    )


def _described(target: TargetSummary) -> dict[str, object]:
    """All that figures depend on. Where the configuration was read from is no part of it."""
    left_out = ("name", "memories", "vela_config_source")
    found = {field: getattr(target, field) for field in TargetSummary.__struct_fields__ if field not in left_out}
    for memory in target.memories:
        for field in MemorySummary.__struct_fields__[1:]:
            value = getattr(memory, field)
            found[f"{memory.name} {field}"] = " ".join(value) if isinstance(value, tuple) else value
    return found
