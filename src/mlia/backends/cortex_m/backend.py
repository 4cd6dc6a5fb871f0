"""The Cortex-M backend: which kernel of TensorFlow Lite Micro runs each operator, and what that costs."""

from collections.abc import Mapping
from typing import ClassVar

from msgspec import Struct

from mlia.backends.cortex_m.arena import arena_use
from mlia.backends.cortex_m.operators import added, cpu_costs, loops_told, source_of, with_share
from mlia.backends.refusals import ALREADY_COMPILED, refuse_arena, refuse_unaddressable
from mlia.cpu_results import CpuCompatibility, CpuPerformance
from mlia.graph.graph import Graph
from mlia.graph.loops import subgraph_runs
from mlia.results import Result, Skipped
from mlia.targets.cores import load_core
from mlia.targets.target import CpuTarget

NOT_COUNTED = "not in the total are the subgraphs {}: how often they run is not known"


class CortexM(Struct, frozen=True):
    """A Cortex-M with TensorFlow Lite Micro: arithmetic on the model, nothing is run."""

    name: ClassVar[str] = "cortex-m"

    def available(self) -> str | None:
        """None: it needs nothing."""
        return None

    def run(self, graph: Graph, target: CpuTarget) -> Result:
        """Kernel and cost of each operator, and the memory of the whole model.

        Raises:
            BackendError: the model needs more memory than a Cortex-M can address.
        """
        if reason := _obstacle(graph):
            return Result(self.name, Skipped("compatibility", reason), Skipped("performance", reason))
        refuse_unaddressable(graph, target)
        core = load_core(target.host.core)
        source = source_of(core)
        operators = cpu_costs(graph, target.host)
        arena = arena_use(graph, core)
        refuse_arena(arena.size_bytes, target)
        unsupported = sum(not cost.kernel.is_supported for cost in operators)
        compatibility = CpuCompatibility(source, core.stack, operators, len(operators) - unsupported, unsupported)
        runs = subgraph_runs(graph)
        time = added(target.host, operators, runs)
        performance = CpuPerformance(
            source=source,
            stack=core.stack,
            core=target.host.name,
            clock_mhz=target.host.clock_mhz,
            latency_ms=None if unsupported else time.latency_ms,
            low_ms=None if unsupported else time.low_ms,
            high_ms=None if unsupported else time.high_ms,
            total_cycles=None if unsupported else time.cycles,
            low_cycles=None if unsupported else time.low_cycles,
            high_cycles=None if unsupported else time.high_cycles,
            sram_bytes=arena.size_bytes,
            flash_bytes=len(graph.content),
            arena_bytes=arena.size_bytes,
            macs=sum(cost.macs * (runs.get(cost.subgraph) or 0) for cost in operators),
            weights_bytes=sum(cost.weights_bytes for cost in operators),
            arena=arena,
            operators=tuple(with_share(cost, time) for cost in operators),
            unsupported_operators=unsupported,
            fitted_on=core.sources,
            note=" ".join(filter(None, (core.note, *_further(graph, runs)))),
        )
        return Result(self.name, compatibility, performance)


def _obstacle(graph: Graph) -> str:
    """Why a model cannot be looked at; empty when it can."""
    if graph.is_tosa:
        return "TensorFlow Lite Micro runs no TOSA models; give the model that it was made from"
    return ALREADY_COMPILED if graph.is_compiled else ""


def _further(graph: Graph, runs: Mapping[int, int | None]) -> list[str]:
    """Which further subgraphs are in the total, and which are not, as sentences."""
    unknown = [each.name for each in graph.called_subgraphs() if runs.get(each.index, 0) is None]
    left_out = NOT_COUNTED.format(", ".join(map(repr, unknown))) if unknown else ""
    told = (loops_told(graph, runs), left_out)
    return [f"{each[0].upper()}{each[1:]}." for each in told if each]
