"""The operators of a model on a Cortex-M: the kernel and the time of each."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from mlia.backends.cortex_m.costs import cycles_of
from mlia.backends.cortex_m.kernels import kernel_of
from mlia.cpu_results import CpuCost, CpuTime
from mlia.estimates import Origin, Source
from mlia.graph.cost import macs, weights_bytes
from mlia.graph.graph import Graph, Operator, Subgraph
from mlia.targets.cores import Core, load_core
from mlia.targets.target import Processor

MODEL = "mlia's Cortex-M model"


def source_of(core: Core) -> Source:
    """Who estimates: our model, in the version of its coefficients."""
    return Source(Origin.ESTIMATED, MODEL, core.version)


def cpu_costs(graph: Graph, host: Processor) -> tuple[CpuCost, ...]:
    """What each operator of a model costs on a Cortex-M."""
    core = load_core(host.core)
    return tuple(
        _cost(operator, subgraph, core, host) for subgraph in graph.subgraphs for operator in subgraph.operators
    )


def added(host: Processor, costs: Sequence[CpuCost], runs: Mapping[int, int | None]) -> CpuTime:
    """Those that can run, one after the other, each as often as its subgraph runs; not known counts as not at all.

    The bands add up too: what is estimated too low for one is so for the others.
    """
    times = [(cost, runs.get(cost.subgraph) or 0) for cost in costs]
    return cpu_time(
        host,
        sum((cost.total_cycles or 0) * count for cost, count in times),
        sum((cost.low_cycles or 0) * count for cost, count in times),
        sum((cost.high_cycles or 0) * count for cost, count in times),
    )


def loops_told(graph: Graph, runs: Mapping[int, int | None]) -> str:
    """How often subgraphs run that are in a total; empty where there are none."""
    told = [f"'{graph.subgraphs[each].name}' {count}" for each, count in runs.items() if each and count]
    return f"as often as constants say it, these subgraphs are in the total: {', '.join(told)} times" if told else ""


def cpu_time(host: Processor, cycles: int, low: int, high: int) -> CpuTime:
    """Cycles with their time at the host's clock."""
    low_ms, latency_ms, high_ms = (count / (host.clock_mhz * 1000) for count in (low, cycles, high))
    return CpuTime(cycles, low, high, latency_ms, low_ms, high_ms)


def with_share(cost: CpuCost, whole: CpuTime) -> CpuCost:
    """The cost with its share of all cycles."""
    if cost.total_cycles is None or cost.subgraph or not whole.cycles:
        return cost
    return replace(cost, cycles_percent=100 * cost.total_cycles / whole.cycles)


def _cost(operator: Operator, subgraph: Subgraph, core: Core, host: Processor) -> CpuCost:
    found = cycles_of(operator, subgraph, core)
    time = cpu_time(host, found.cycles, found.low, found.high) if found is not None else None
    return CpuCost(
        subgraph=subgraph.index,
        index=operator.index,
        kind=operator.custom_code or operator.kind,
        name=subgraph.operator_name(operator),
        kernel=kernel_of(operator, subgraph, core),
        total_cycles=time.cycles if time is not None else None,
        low_cycles=time.low_cycles if time is not None else None,
        high_cycles=time.high_cycles if time is not None else None,
        latency_ms=time.latency_ms if time is not None else None,
        low_ms=time.low_ms if time is not None else None,
        high_ms=time.high_ms if time is not None else None,
        cycles_percent=None,
        macs=macs(operator, subgraph),
        weights_bytes=weights_bytes(operator, subgraph),
    )
