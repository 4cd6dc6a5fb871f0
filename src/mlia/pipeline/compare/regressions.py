"""A limit of how much slower a model may get on each target: whether it is kept, and what to blame."""

from collections.abc import Iterable

from mlia.difference import OperatorDifference, TargetDifference, Total
from mlia.report import Blamed, Budget
from mlia.results import Skipped, Unit

FIGURE = "regression_percent"
BLAMED = 5  # operators at most
ROUNDING = 1e-9


def budgets(limit: float, targets: Iterable[TargetDifference], missing: Iterable[Skipped]) -> tuple[Budget, ...]:
    """The limit on every target; where nothing can be told it is missed."""
    told = [_budget(limit, target) for target in targets]
    unknown = [Budget(each.what, FIGURE, limit, None, False, each.reason, ()) for each in missing]
    return (*told, *unknown)


def _budget(limit: float, found: TargetDifference) -> Budget:
    judged = found.judged
    reason = _why_unknown(found, judged)
    value = None if reason else found.percent
    is_kept = value is not None and value <= limit + ROUNDING
    if not reason and judged is not None and judged.figure != "latency_ms":
        reason = f"of {judged.figure}, because the latency of the whole system is not known on either side"
    blamed = () if is_kept else _blamed(found, judged)
    return Budget(found.target.name, FIGURE, limit, value, is_kept, reason, blamed)


def _why_unknown(found: TargetDifference, judged: Total | None) -> str:
    if judged is None:
        return "neither side has a time"
    if found.target_changes:
        return f"the target is not the same: {'; '.join(found.target_changes)}"
    if found.before_rests_on.source != found.after_rests_on.source:
        return "the times are not estimated alike"
    for side, amount in (("before", judged.before), ("after", judged.after)):
        if amount.value is None:
            return f"{judged.figure} is not known {side}: {amount.reason}"
    if found.percent is None:
        return f"{judged.figure} was 0 before"
    if judged.figure != "latency_ms" and (moved := [each for each in found.operators if _is_off_the_npu(each)]):
        return f"{len(moved)} more of the operators are on the CPU, whose time is not known"
    return ""


def _is_off_the_npu(each: OperatorDifference) -> bool:
    """Whether an operator is on the CPU now that was not: cycles of the NPU fall by that, and time does not."""
    is_there = each.after is not None and each.after.processor == Unit.CPU
    return is_there and (each.is_moved or each.before is None)


def _blamed(found: TargetDifference, judged: Total | None) -> tuple[Blamed, ...]:
    """What takes longest beyond what it took before, in percent of the whole time before."""
    whole = judged.before.value if judged is not None else None
    if not whole:
        return ()
    by_cycles = judged is not None and judged.figure != "latency_ms"
    grown = [(value, each) for each in found.operators if (value := _growth(each, by_cycles)) > 0]
    grown.sort(key=lambda item: -item[0])
    return tuple(
        Blamed(each.after.subgraph, each.after.index, each.after.kind, each.after.name, 100 * value / whole)
        for value, each in grown[:BLAMED]
        if each.after is not None
    )


def _growth(each: OperatorDifference, by_cycles: bool) -> float:
    if each.after is None:
        return 0.0
    if not by_cycles:
        return each.difference_ms or 0.0
    before = each.before.total_cycles if each.before is not None and each.before.processor == Unit.NPU else 0
    after = each.after.total_cycles if each.after.processor == Unit.NPU else 0
    return float((after or 0) - (before or 0))
