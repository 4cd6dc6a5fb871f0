"""What the NPU spends its cycles on."""

from mlia.results import Bound
from mlia.rules.rule import Case

FAR = (Bound.FLASH, Bound.DRAM)
COMPUTING = (Bound.MACS, Bound.OUTPUT_UNIT)


def bound_share(case: Case, *bounds: Bound) -> float:
    """The part of the NPU's cycles, 0..1, in steps that one of these bounds; 0 when nothing runs there."""
    steps = [step for cost in case.performance.operators for step in cost.steps]
    every = sum(step.total_cycles for step in steps)
    return sum(step.total_cycles for step in steps if step.bound_by in bounds) / every if every else 0.0


def waiting_share(case: Case) -> float:
    """The part of the cycles, 0..1, that no memory would save at most; 0 when nothing runs there.

    The rest is not computing alone: on an Ethos-U85 it has the first reads of each step in it.
    """
    total, busy = case.performance.total_cycles, case.performance.npu_cycles
    return max(1 - busy / total, 0.0) if total and busy is not None else 0.0


def npu_share(case: Case) -> float:
    """The part of an inference, 0..1, that the NPU takes; 1 where nothing is known of the host's part."""
    cost = case.performance
    return cost.npu_latency_ms / cost.latency_ms if cost.npu_latency_ms is not None and cost.latency_ms else 1.0
