"""The whole system: what the NPU's host adds to the time of an inference."""

from collections import defaultdict
from collections.abc import Mapping

from msgspec.structs import replace

from mlia.backends.cortex_m.operators import added, cpu_time, loops_told, source_of, with_share
from mlia.cpu_results import CpuCost, CpuTime, SystemTime
from mlia.estimates import Origin, Source
from mlia.graph.graph import Graph, Subgraph, Tensor
from mlia.graph.loops import subgraph_runs
from mlia.graph.tflite import ELEMENT_BITS
from mlia.results import (
    NOT_CALLED,
    ONCE,
    Compatibility,
    OperatorId,
    Performance,
    Placement,
    Result,
    Skipped,
    Unit,
)
from mlia.targets.cores import load_core
from mlia.targets.target import Processor, Target

# Handing the first segment of an inference over, from the driver's start to the interrupt that is handled, with its
# band. Measured on an FPGA board with an Ethos-U85 (Kwon-GiHwan/mps4_prototyping_board, 2026: all cycles less those in
# which the NPU was active): 5.9 to 6.1 thousand in seven networks. They are cycles of the NPU there, and taken for as
# many of the host, which is what spends them. The band is for other drivers and hosts, and is assumed:
# Arm's FVP idles for as little as 360 cycles.
FIRST_CYCLES = (5_900, 2_000, 12_000)
# Each further segment. On Arm's FVP a model of ten segments idles for 10,954 cycles. Its processor is not accurate to
# the cycle, and idles for less than a board in the first segment too: so the band reaches up to what that takes.
FURTHER_CYCLES = (1_100, 500, 6_100)
# Cleaning or invalidating a line of the data cache, in cycles. Assumed: a loop of one store for each line of 32 bytes
# (CMSIS, SCB_CleanDCache_by_Addr), faster for lines that are not in the cache and slower for those that are written.
LINE_CYCLES = (8, 4, 30)
LINE_BYTES = 32
HANDOVER = Source(Origin.ESTIMATED, "a measured hand-over, and cache maintenance that is assumed", "2026-12-01")
NO_BAND = "Vela gives no band of its own: what stands in brackets leaves out how far it may be off"
NOTE = (
    "hand-over: 5,900 cycles for the first segment, as measured on an FPGA board with Ethos-U85, and 1,100 for each"
    " further one, as on Arm's FVP; looking after the host's data cache by constants that are assumed; nothing is"
    " copied, because host and NPU share the arena"
)


def with_host(result: Result, graph: Graph, target: Target, costs: tuple[CpuCost, ...]) -> Result:
    """The result with the cost of what the host runs, and the time of the whole inference.

    `costs` are those of all the model's operators on the host: cpu_costs(graph, target.host).
    """
    performance, compatibility = result.performance, result.compatibility
    if not isinstance(performance, Performance) or not isinstance(compatibility, Compatibility):
        return result
    if graph.is_tosa:
        return replace(result, performance=replace(performance, system=Skipped("system", "TOSA has no CPU kernels")))
    on_cpu = {
        OperatorId(placement.subgraph, placement.index)
        for placement in compatibility.operators
        if placement.processor == Unit.CPU
    }
    alone, costs = costs, tuple(cost for cost in costs if OperatorId(cost.subgraph, cost.index) in on_cpu)
    runs = subgraph_runs(graph)
    needed = [cost for cost in costs if cost.subgraph in runs and runs[cost.subgraph] != 0]
    missing = [cost for cost in needed if cost.total_cycles is None]
    called = [each for each in performance.further_subgraphs if each.runs != ONCE]
    unknown = [each.name for each in called if runs.get(each.subgraph) is None]
    on_npu = [each.name for each in called if each.total_cycles]
    cpu = added(target.host, costs, runs)
    if missing:
        system: SystemTime | Skipped = Skipped("system", f"{missing[0].kind}: {missing[0].kernel.reason}")
    elif unknown:
        system = Skipped("system", f"how often '{unknown[0]}' and the like are called is not known")
    elif on_npu:
        system = Skipped("system", f"what starting the NPU in each run of '{on_npu[0]}' takes is not known")
    else:
        handover = _handover(compatibility.operators, graph.main, target.host)
        performance = _with_time(performance, cpu, handover)
        segments = len({each.segment for each in compatibility.operators if each.segment and not each.subgraph})
        system = _system(performance, segments, cpu, handover, _alone(alone, target.host, runs), target)
        system = replace(system, note="; ".join(filter(None, (system.note, loops_told(graph, runs)))))
    core = load_core(target.host.core)
    known = {OperatorId(cost.subgraph, cost.index): cost.latency_ms for cost in costs}
    performance = replace(
        performance,
        operators=tuple(
            replace(each, latency_ms=known[at]) if (at := OperatorId(each.subgraph, each.index)) in known else each
            for each in performance.operators
        ),
        skipped=tuple(each for each in performance.skipped if each.reason == NOT_CALLED),
        cpu_costs=tuple(with_share(cost, cpu) for cost in costs),
        cpu_source=source_of(core),
        cpu_stack=core.stack,
        system=system,
    )
    return replace(result, performance=performance)


def _with_time(performance: Performance, cpu: CpuTime, handover: CpuTime) -> Performance:
    """The time of the whole inference, all of which come one after the other; their bands add up."""
    npu_ms, band = performance.npu_latency_ms or 0.0, performance.calibration
    return replace(
        performance,
        latency_ms=npu_ms + cpu.latency_ms + handover.latency_ms,
        low_ms=npu_ms * (band.band_low if band else 1) + cpu.low_ms + handover.low_ms,
        high_ms=npu_ms * (band.band_high if band else 1) + cpu.high_ms + handover.high_ms,
        npu_latency_ms=npu_ms,
        handover_ms=handover.latency_ms,
        cpu_latency_ms=cpu.latency_ms,
    )


def _system(
    performance: Performance,
    segments: int,
    cpu: CpuTime,
    handover: CpuTime,
    alone: CpuTime | None,
    target: Target,
) -> SystemTime:
    core = load_core(target.host.core)
    latency_ms, band = performance.latency_ms, performance.calibration
    compared = alone if segments and latency_ms else None
    return SystemTime(
        cpu=cpu,
        handover=handover,
        segments=segments,
        cpu_alone=alone,
        speedup=compared.latency_ms / latency_ms if compared and latency_ms else None,
        speedup_low=compared.low_ms / performance.high_ms if compared and performance.high_ms else None,
        speedup_high=compared.high_ms / performance.low_ms if compared and performance.low_ms else None,
        npu_source=performance.source,
        cpu_source=source_of(core),
        handover_source=HANDOVER,
        stack=core.stack,
        note="; ".join(([NOTE] if band else [NO_BAND, NOTE]) if segments else []),
    )


def _alone(costs: tuple[CpuCost, ...], host: Processor, runs: Mapping[int, int | None]) -> CpuTime | None:
    """The whole model on the host; None where TensorFlow Lite Micro cannot run it."""
    if any(cost.total_cycles is None and runs.get(cost.subgraph) for cost in costs):
        return None
    return added(host, costs, runs)


def _handover(placements: tuple[Placement, ...], main: Subgraph, host: Processor) -> CpuTime:
    """Starting each segment, and the cache lines of what goes in and comes out of it."""
    segments: dict[int, set[int]] = {}
    passing: set[int] = set()  # folded into their neighbors, or removed
    for placement in placements:
        if placement.subgraph:
            continue
        if placement.segment:
            segments.setdefault(placement.segment, set()).add(placement.index)
        elif placement.processor != Unit.CPU:
            passing.add(placement.index)
    lines = _lines(main, list(segments.values()), passing) if load_core(host.core).has_data_cache else 0
    cycles, low, high = (
        first * bool(segments) + further * max(len(segments) - 1, 0) + lines * line
        for first, further, line in zip(FIRST_CYCLES, FURTHER_CYCLES, LINE_CYCLES, strict=True)
    )
    return cpu_time(host, cycles, low, high)


def _lines(main: Subgraph, segments: list[set[int]], passing: set[int]) -> int:
    """Cache lines of the tensors that cross the borders of the segments.

    An operator that passes its input on (a folded reshape) makes no tensor: its output is its input.
    """
    same: dict[int, int] = {}
    for operator in main.operators:
        if operator.index in passing and operator.inputs:
            same |= dict.fromkeys(operator.outputs, same.get(operator.inputs[0], operator.inputs[0]))
    readers: dict[int, set[int]] = defaultdict(set)
    for operator in main.operators:
        for index in operator.inputs if operator.index not in passing else ():
            readers[same.get(index, index)].add(operator.index)
    left = {same.get(index, index) for index in main.outputs}
    lines = 0
    for segment in segments:
        inside = [main.operators[index] for index in segment - passing]
        made = {index for operator in inside for index in operator.outputs}
        read = {same.get(index, index) for operator in inside for index in operator.inputs if index >= 0}
        crossing = {index for index in read - made if not main.tensors[index].is_constant}
        crossing |= {index for index in made if index in left or not readers[index] <= segment}
        lines += sum(_lines_of(main.tensors[index]) for index in crossing)
    return lines


def _lines_of(tensor: Tensor) -> int:
    return -(-(tensor.elements * ELEMENT_BITS.get(tensor.dtype, 8) // 8) // LINE_BYTES)
