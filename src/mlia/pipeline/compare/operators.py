"""What each operator costs on a target, before and after."""

from collections.abc import Sequence

from mlia.cpu_results import CpuCompatibility, CpuCost, CpuPerformance
from mlia.difference import Match, OperatorDifference, OperatorFigures
from mlia.pipeline.compare.match import Matched
from mlia.pipeline.compare.totals import difference
from mlia.report import OperatorSummary, TargetReport
from mlia.results import Compatibility, OperatorCost, OperatorId, Performance, Placement, Unit

_PROCESSORS = {Unit.NPU, Unit.CPU}


def compare_operators(
    matched: Sequence[Matched], before: TargetReport, after: TargetReport
) -> tuple[OperatorDifference, ...]:
    """Each match with what both sides of it cost."""
    left, right = Costs(before), Costs(after)
    return tuple(_compared(each, left, right) for each in matched)


def _compared(matched: Matched, left: "Costs", right: "Costs") -> OperatorDifference:
    before = left.figures(matched.before) if matched.before else None
    after = right.figures(matched.after) if matched.after else None
    moved = before is not None and after is not None and before.processor != after.processor
    return OperatorDifference(
        match=matched.match,
        before=before,
        after=after,
        is_moved=moved and {before.processor, after.processor} == _PROCESSORS if before and after else False,
        difference_ms=difference(before.latency_ms if before else 0.0, after.latency_ms if after else 0.0),
    )


class Costs:
    """What a report says of each operator on one target."""

    def __init__(self, entry: TargetReport) -> None:
        result = entry.results[0]
        self._placements: dict[OperatorId, Placement] = {}
        self._npu: dict[OperatorId, OperatorCost] = {}
        cpu: tuple[CpuCost, ...] = ()
        if isinstance(result.compatibility, Compatibility):
            self._placements = {_id(each): each for each in result.compatibility.operators}
        elif isinstance(result.compatibility, CpuCompatibility):
            cpu = result.compatibility.operators
        if isinstance(result.performance, Performance):
            self._npu = {_id(each): each for each in result.performance.operators}
            cpu = result.performance.cpu_costs
        elif isinstance(result.performance, CpuPerformance):
            cpu = result.performance.operators
        self._cpu = {_id(each): each for each in cpu}
        # A check for --compatibility knows the kernels of a Cortex-M, and its costs were not asked for.
        self._is_timed = isinstance(result.performance, Performance | CpuPerformance)
        self._is_cpu_alone = entry.target.npu is None

    def figures(self, operator: OperatorSummary) -> OperatorFigures:
        """What one operator costs."""
        number = OperatorId(operator.subgraph, operator.index)
        placement, npu = self._placements.get(number), self._npu.get(number)
        processor = self._processor(placement, npu)
        cpu = self._cpu.get(number) if processor != Unit.NPU else None
        timed = cpu if cpu is not None and self._is_timed else npu
        cycles, latency_ms = (timed.total_cycles, timed.latency_ms) if timed is not None else (None, None)
        return OperatorFigures(
            subgraph=operator.subgraph,
            index=operator.index,
            kind=operator.kind,
            name=operator.name,
            output_shapes=tuple(tensor.shape for tensor in operator.outputs),
            data_types=tuple(tensor.data_type for tensor in operator.outputs),
            processor=processor,
            total_cycles=cycles,
            latency_ms=latency_ms,
            bound_by=npu.bound_by if npu is not None else None,
            macs=next((each.macs for each in (npu, cpu, placement) if each is not None), None),
            weights_bytes=next((each.weights_bytes for each in (npu, cpu) if each is not None), None),
            compressed_weights_bytes=npu.compressed_weights_bytes if npu is not None else None,
            kernel=f"{cpu.kernel.library}: {cpu.kernel.name}" if cpu is not None and cpu.kernel.name else "",
            reasons=tuple(each.violation for each in placement.constraints) if placement is not None else (),
            note=_note(npu, cpu),
        )

    def _processor(self, placement: Placement | None, npu: OperatorCost | None) -> Unit | None:
        if self._is_cpu_alone:
            return Unit.CPU
        known = placement or npu
        return known.processor if known is not None else None


def _id(each: Placement | OperatorCost | CpuCost) -> OperatorId:
    return OperatorId(each.subgraph, each.index)


def _note(npu: OperatorCost | None, cpu: CpuCost | None) -> str:
    if cpu is not None and not cpu.kernel.is_supported:
        return cpu.kernel.reason
    return npu.note if npu is not None and cpu is None else ""


def is_alike(each: OperatorDifference) -> bool:
    """Whether an operator is in both and takes as long in both, where it is known."""
    return each.match in (Match.SAME, Match.RENAMED) and each.difference_ms == 0 and not each.is_moved


def common_percent(operators: Sequence[OperatorDifference]) -> float | None:
    """How much of the slower side's time is in operators that take as long in both."""
    times = [[_ms(each.before), _ms(each.after)] for each in operators]
    if not times:
        return None
    longest = max(sum(left for left, _ in times), sum(right for _, right in times))
    common = sum(_ms(each.after) for each in operators if is_alike(each))
    return 100 * common / longest if longest else None


def _ms(figures: OperatorFigures | None) -> float:
    return (figures.latency_ms or 0.0) if figures is not None else 0.0
