"""What the NPU spends its cycles on."""

from mlia.results import Bound
from mlia.rules.rule import Case

FAR = (Bound.FLASH, Bound.DRAM)


def bound_share(case: Case, *bounds: Bound) -> float:
    """The part of the NPU's cycles, 0..1, in steps that one of these bounds; 0 when nothing runs there."""
    steps = [step for cost in case.performance.operators for step in cost.steps]
    every = sum(step.total_cycles for step in steps)
    return sum(step.total_cycles for step in steps if step.bound_by in bounds) / every if every else 0.0


def waiting_share(case: Case) -> float:
    """The part of the cycles, 0..1, in which the NPU computes nothing; 0 when nothing runs there."""
    total, busy = case.performance.total_cycles, case.performance.npu_cycles
    return max(1 - busy / total, 0.0) if total and busy is not None else 0.0
