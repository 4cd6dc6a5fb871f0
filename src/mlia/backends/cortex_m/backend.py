"""The Cortex-M backend: which kernel of TensorFlow Lite Micro runs each operator, and what that costs."""

from collections.abc import Sequence
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from mlia.backends.cortex_m.arena import plan_arena
from mlia.backends.cortex_m.cores import Core, load_core
from mlia.backends.cortex_m.costs import cycles_of
from mlia.backends.cortex_m.kernels import kernel_of
from mlia.errors import BackendError
from mlia.graph.cost import macs, weights_bytes
from mlia.graph.graph import Graph, Operator, Subgraph
from mlia.results import (
    ArenaUse,
    CpuCompatibility,
    CpuCost,
    CpuPerformance,
    CpuTime,
    OperatorId,
    Origin,
    Result,
    Source,
)
from mlia.targets.target import CpuTarget, Processor

MODEL = "mlia's Cortex-M model"
MAIN_ONLY = "operators of further subgraphs are not in the total: how often they run is not known"


class CortexM(Struct, frozen=True):
    """A Cortex-M with TensorFlow Lite Micro: arithmetic on the model, nothing is run."""

    name: ClassVar[str] = "cortex-m"

    def available(self) -> str | None:
        """None: it needs nothing."""
        return None

    def run(self, graph: Graph, target: CpuTarget) -> Result:
        """Kernel and cost of each operator, and the memory of the whole model.

        Raises:
            BackendError: the model is no TFLite model.
        """
        if graph.provenance.format.startswith("TOSA"):
            raise BackendError("TensorFlow Lite Micro runs no TOSA models; give the model that it was made from")
        core = load_core(target.host.core)
        source = source_of(core)
        operators = cpu_costs(graph, target.host)
        unsupported = sum(not cost.kernel.is_supported for cost in operators)
        compatibility = CpuCompatibility(source, core.stack, operators, len(operators) - unsupported, unsupported)
        main = [cost for cost in operators if not cost.subgraph]
        time = added(target.host, [cost.time for cost in main if cost.time is not None])
        performance = CpuPerformance(
            source=source,
            stack=core.stack,
            core=target.host.name,
            clock_mhz=target.host.clock_mhz,
            time=time,
            macs=sum(cost.macs for cost in main),
            weights_bytes=sum(cost.weights_bytes for cost in operators),
            flash_bytes=len(graph.content),
            arena=_arena(graph, core),
            operators=tuple(_with_share(cost, time) for cost in operators),
            unsupported_operators=unsupported,
            fitted_on=core.sources,
            note="; ".join(filter(None, (core.note, MAIN_ONLY if len(graph.subgraphs) > 1 else ""))),
        )
        return Result(self.name, compatibility, performance)


def source_of(core: Core) -> Source:
    """Who estimates: our model, in the version of its coefficients."""
    return Source(Origin.ESTIMATED, MODEL, core.version)


def cpu_costs(graph: Graph, host: Processor, only: set[OperatorId] | None = None) -> tuple[CpuCost, ...]:
    """What the operators of a model cost on a Cortex-M, or those of them that are asked for."""
    core = load_core(host.core)
    return tuple(
        _cost(operator, subgraph, core, host)
        for subgraph in graph.subgraphs
        for operator in subgraph.operators
        if only is None or OperatorId(subgraph.index, operator.index) in only
    )


def added(host: Processor, times: Sequence[CpuTime]) -> CpuTime:
    """One after the other. The bands add up too: what is estimated too low for one is so for the others."""
    return cpu_time(
        host,
        sum(time.cycles for time in times),
        sum(time.low_cycles for time in times),
        sum(time.high_cycles for time in times),
    )


def cpu_time(host: Processor, cycles: int, low: int, high: int) -> CpuTime:
    """Cycles with their time at the host's clock."""
    low_ms, latency_ms, high_ms = (count / (host.clock_mhz * 1000) for count in (low, cycles, high))
    return CpuTime(cycles, low, high, latency_ms, low_ms, high_ms)


def _cost(operator: Operator, subgraph: Subgraph, core: Core, host: Processor) -> CpuCost:
    found = cycles_of(operator, subgraph, core)
    return CpuCost(
        subgraph=subgraph.index,
        index=operator.index,
        kind=operator.custom_code or operator.kind,
        name=subgraph.operator_name(operator),
        kernel=kernel_of(operator, subgraph, core),
        time=cpu_time(host, found.cycles, found.low, found.high) if found is not None else None,
        cycles_percent=None,
        macs=macs(operator, subgraph),
        weights_bytes=weights_bytes(operator, subgraph),
    )


def _with_share(cost: CpuCost, whole: CpuTime) -> CpuCost:
    if cost.time is None or cost.subgraph or not whole.cycles:
        return cost
    return replace(cost, cycles_percent=100 * cost.time.cycles / whole.cycles)


def _arena(graph: Graph, core: Core) -> ArenaUse:
    arena = plan_arena(graph, cmsis_nn=core.extension != "none", extension=core.extension)
    return ArenaUse(
        size_bytes=arena.size_bytes,
        minimum_bytes=arena.minimum_bytes,
        planned_bytes=arena.nonpersistent_bytes,
        scratch_bytes=arena.scratch_bytes,
        persistent_bytes=arena.persistent_bytes,
    )
