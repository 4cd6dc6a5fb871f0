"""The whole system: what the NPU's host adds to the time of an inference."""

from msgspec.structs import replace

from mlia.backends.cortex_m.cores import load_core
from mlia.backends.cortex_m.operators import added, cpu_time, source_of
from mlia.graph.graph import Graph, Subgraph
from mlia.graph.tflite import ELEMENT_BITS
from mlia.results import (
    Compatibility,
    CpuCost,
    CpuTime,
    OperatorId,
    Performance,
    Placement,
    Result,
    Skipped,
    SystemTime,
    Unit,
)
from mlia.targets.target import Processor, Target

# Starting the NPU once, in cycles of the host, with its band. No measurement is published: Arm's driver
# (ethos-u-core-driver, ethosu_driver.c) writes some 60 registers over a slow bus, waits for an interrupt and takes two
# semaphores, and TensorFlow Lite Micro's interpreter calls one operator.
INVOCATION_CYCLES = (5_000, 2_000, 12_000)
# Cleaning or invalidating a line of the data cache, in cycles: a loop of one store for each line of 32 bytes (CMSIS,
# SCB_CleanDCache_by_Addr), faster for lines that are not in the cache and slower for those that must be written.
LINE_CYCLES = (8, 4, 30)
LINE_BYTES = 32
WITH_CACHE = ("cortex-m7", "cortex-m55", "cortex-m85")
NOTE = (
    "hand-over: starting the NPU and looking after the host's data cache, by constants that are assumed and not"
    " measured; nothing is copied, because host and NPU share the arena"
)


def with_host(result: Result, graph: Graph, target: Target, costs: tuple[CpuCost, ...]) -> Result:
    """The result with the cost of what the host runs, and the time of the whole inference.

    `costs` are those of all the model's operators on the host: cpu_costs(graph, target.host).
    """
    performance, compatibility = result.performance, result.compatibility
    if not isinstance(performance, Performance) or not isinstance(compatibility, Compatibility):
        return result
    if graph.provenance.format.startswith("TOSA"):
        return replace(result, performance=replace(performance, system=Skipped("system", "TOSA has no CPU kernels")))
    on_cpu = {
        OperatorId(placement.subgraph, placement.index)
        for placement in compatibility.operators
        if placement.processor == Unit.CPU
    }
    alone, costs = costs, tuple(cost for cost in costs if OperatorId(cost.subgraph, cost.index) in on_cpu)
    missing = [cost for cost in costs if cost.time is None and not cost.subgraph]
    if missing:
        system: SystemTime | Skipped = Skipped("system", f"{missing[0].kind}: {missing[0].kernel.reason}")
    else:
        cpu = added(target.host, [cost.time for cost in costs if cost.time is not None and not cost.subgraph])
        system = _system(performance, compatibility.operators, cpu, _alone(alone, target.host), graph.main, target)
    skipped = performance.skipped if isinstance(system, Skipped) else ()
    return replace(result, performance=replace(performance, cpu_operators=costs, system=system, skipped=skipped))


def _system(
    performance: Performance,
    placements: tuple[Placement, ...],
    cpu: CpuTime,
    alone: CpuTime | None,
    main: Subgraph,
    target: Target,
) -> SystemTime:
    core = load_core(target.host.core)
    handover = _handover(placements, main, target.host)
    npu_ms = performance.latency_ms or 0.0
    total_ms = npu_ms + cpu.latency_ms + handover.latency_ms
    segments = len({placement.segment for placement in placements if placement.segment})
    return SystemTime(
        npu_ms=npu_ms,
        cpu=cpu,
        handover=handover,
        total_ms=total_ms,
        low_ms=npu_ms + cpu.low_ms + handover.low_ms,
        high_ms=npu_ms + cpu.high_ms + handover.high_ms,
        segments=segments,
        cpu_alone=alone,
        speedup=alone.latency_ms / total_ms if alone is not None and total_ms and segments else None,
        sources=(performance.source, source_of(core)),
        stack=core.stack,
        note=NOTE,
    )


def _alone(costs: tuple[CpuCost, ...], host: Processor) -> CpuTime | None:
    """The whole model on the host; None where TensorFlow Lite Micro cannot run it."""
    main = [cost for cost in costs if not cost.subgraph]
    times = [cost.time for cost in main if cost.time is not None]
    return added(host, times) if len(times) == len(main) else None


def _handover(placements: tuple[Placement, ...], main: Subgraph, host: Processor) -> CpuTime:
    """Starting each segment, and the cache lines of what goes in and comes out of it."""
    segments: dict[int, set[int]] = {}
    for placement in placements:
        if placement.segment and not placement.subgraph:
            segments.setdefault(placement.segment, set()).add(placement.index)
    lines = sum(_lines(main, operators) for operators in segments.values()) if host.core in WITH_CACHE else 0
    cycles, low, high = (
        len(segments) * invocation + lines * line
        for invocation, line in zip(INVOCATION_CYCLES, LINE_CYCLES, strict=True)
    )
    return cpu_time(host, cycles, low, high)


def _lines(main: Subgraph, segment: set[int]) -> int:
    """Cache lines of the tensors that cross the border of a segment."""
    inside = [operator for operator in main.operators if operator.index in segment]
    made = {index for operator in inside for index in operator.outputs}
    read = {index for operator in inside for index in operator.inputs if index >= 0}
    outside = {index for operator in main.operators if operator.index not in segment for index in operator.inputs}
    crossing = {index for index in read - made if not main.tensors[index].is_constant}
    crossing |= made & (outside | {*main.outputs})
    sizes = [main.tensors[index].elements * ELEMENT_BITS.get(main.tensors[index].dtype, 8) // 8 for index in crossing]
    return sum(-(-size // LINE_BYTES) for size in sizes)
