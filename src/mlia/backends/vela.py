"""The Ethos-U backend: asks Arm's Vela compiler where each operator runs and what it costs."""

from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from mlia.backends.command_stream import COMPILED_OPERATOR, compiled_for
from mlia.backends.vela_output import (
    MEMORY_NAMES,
    CompiledStep,
    Refusal,
    add_traffic,
    constraints_of,
    find_causes,
    most_bound,
    read_refusals,
    steps_by_operator,
)
from mlia.backends.vela_process import DEFAULT_TIMEOUT_S, Compilation, compile_model
from mlia.errors import BackendError, BackendUnavailable
from mlia.graph.cost import macs, weights_bytes
from mlia.graph.graph import Graph, Operator, Subgraph
from mlia.graph.tflite import ELEMENT_BITS, single_subgraph
from mlia.results import (
    Compatibility,
    Constraint,
    MemoryUse,
    OperatorCost,
    Origin,
    Performance,
    Placement,
    Result,
    Skipped,
    Source,
    Step,
    SubgraphCost,
    TensorLife,
    Traffic,
    Unit,
)
from mlia.targets.target import Target, installed_version

NO_REASON = Constraint("Vela leaves it to the CPU and prints no reason")


class Program(Struct, frozen=True):
    """One subgraph as compiled: the steps of each operator, and what the compiler refused."""

    subgraph: Subgraph
    steps: dict[int, list[CompiledStep]]
    on_npu: set[int]
    refusals: list[Refusal]


class Vela(Struct, frozen=True):
    """Arm's Ethos-U compiler, in a child process that is ended after `timeout_s` seconds."""

    timeout_s: float = DEFAULT_TIMEOUT_S
    name: ClassVar[str] = "vela"
    families: ClassVar[tuple[str, ...]] = ("ethos-u55", "ethos-u65", "ethos-u85")

    def available(self) -> str | None:
        """None, or how to get the compiler."""
        try:
            installed_version()
        except BackendUnavailable as error:
            return str(error)
        return None

    def run(self, graph: Graph, target: Target) -> Result:
        """Compile the model and report placement and cost of each of its operators.

        Raises:
            BackendError: Vela is not installed, refused the model, crashed or took too long.
        """
        source = Source(Origin.ESTIMATED, "Vela", installed_version())
        if _is_compiled(graph):
            reason = "the model is already compiled by Vela; give the model it was compiled from"
            return Result(
                self.name, Skipped("compatibility", reason), Skipped("performance", reason), compiled_for(graph)
            )
        _refuse_narrow_weights(graph)
        whole = self._compile(graph, target)
        programs = self._programs(graph, target, whole)
        compatibility = _compatibility(programs, whole, target, source)
        return Result(self.name, compatibility, _performance(programs, compatibility, whole, target, source))

    def _compile(self, graph: Graph, target: Target) -> Compilation:
        try:
            return compile_model(graph.content, target, self.timeout_s)
        except BackendError as error:
            if not graph.provenance.format.startswith("TOSA"):
                raise
            hint = "a TOSA model is compiled whole or not at all, and Ethos-U85 takes most operators"
            raise BackendError(f"{error}; {hint}", error.log) from None

    def _programs(self, graph: Graph, target: Target, whole: Compilation) -> list[Program]:
        """Each subgraph compiled by itself, because the compiler keeps the steps of the last one only."""
        if len(graph.subgraphs) == 1:
            return [_program(graph.main, whole)]
        return [
            _program(subgraph, compile_model(single_subgraph(graph.content, subgraph.index), target, self.timeout_s))
            for subgraph in graph.subgraphs
        ]


def _is_compiled(graph: Graph) -> bool:
    return any(
        operator.custom_code == COMPILED_OPERATOR for subgraph in graph.subgraphs for operator in subgraph.operators
    )


def _refuse_narrow_weights(graph: Graph) -> None:
    """Vela 5.2 dies of an arithmetic signal on weights of less than a byte; say it in words instead."""
    for subgraph in graph.subgraphs:
        for tensor in subgraph.tensors:
            if tensor.is_constant and ELEMENT_BITS.get(tensor.dtype, 8) in (2, 4):
                raise BackendError(
                    f"Vela cannot compile the {tensor.dtype} weights of '{tensor.name}'; quantize them to int8"
                )


def _program(subgraph: Subgraph, compilation: Compilation) -> Program:
    steps = steps_by_operator(compilation)
    on_npu = {index for index, found in steps.items() if any(step.on_npu for step in found)}
    if on_npu:  # what left no step at all was folded into a neighbor
        on_npu |= {operator.index for operator in subgraph.operators} - steps.keys()
    return Program(subgraph, steps, on_npu, read_refusals(compilation.log))


def _compatibility(programs: list[Program], whole: Compilation, target: Target, source: Source) -> Compatibility:
    placements: list[Placement] = []
    segments = 0
    for program in programs:
        for operator in program.subgraph.operators:
            placements.append(_placement(program, operator, segments))
        segments = max([segments, *(placement.segment or 0 for placement in placements)])
    operators = tuple(placements)
    on_npu = [placement for placement in operators if placement.processor == Unit.NPU]
    all_macs = sum(placement.macs for placement in operators)
    npu_macs = sum(placement.macs for placement in on_npu)
    return Compatibility(
        source=Source(source.origin, source.by, source.version),
        operators=operators,
        npu_operators=len(on_npu),
        cpu_operators=len(operators) - len(on_npu),
        npu_percent=100 * len(on_npu) / len(operators),
        npu_mac_percent=100 * npu_macs / all_macs if all_macs else None,
        npu_segments=len(whole.rows("cmdstream")),
        findings=find_causes(operators, target.npu.name),
    )


def _placement(program: Program, operator: Operator, segments_before: int) -> Placement:
    subgraph = program.subgraph
    on_npu = operator.index in program.on_npu
    steps = program.steps.get(operator.index, [])
    segment = next((step.segment for step in steps if step.segment), None)
    return Placement(
        subgraph=subgraph.index,
        index=operator.index,
        kind=operator.custom_code or operator.kind,
        name=subgraph.operator_name(operator),
        processor=Unit.NPU if on_npu else Unit.CPU,
        segment=segments_before + segment if segment else None,
        macs=macs(operator, subgraph),
        is_folded=on_npu and not steps,
        constraints=() if on_npu else constraints_of(operator, subgraph, program.refusals) or (NO_REASON,),
    )


def _performance(
    programs: list[Program], compatibility: Compatibility, whole: Compilation, target: Target, source: Source
) -> Performance:
    report = whole.report
    runs = compatibility.npu_segments > 0
    total_cycles = report["total_cycles"] if runs else None
    costs = _Costs(target, report["total_cycles"])
    operators = costs.of_all(programs, compatibility)
    model_macs = sum(placement.macs for placement in compatibility.operators if placement.processor == Unit.NPU)
    return Performance(
        source=source,
        npu_cycles=report["npu_cycles"] if runs else None,
        total_cycles=total_cycles,
        latency_ms=costs.latency_ms(total_cycles) if total_cycles is not None else None,
        clock_mhz=target.npu.clock_mhz,
        macs=model_macs,
        compiled_macs=report["macs"],
        mac_utilization=costs.utilization(model_macs, total_cycles),
        traffic=_whole_traffic(report["memories"]),
        memory=_memory_use(whole, target) if runs else None,
        operators=_with_known_weights(operators, report["compressed_weights_bytes"]),
        further_subgraphs=_further_subgraphs(programs),
        skipped=_not_estimated(compatibility, target),
    )


class _Costs(Struct, frozen=True):
    """Turns cycles into the figures of a report, for one target and one sum."""

    target: Target
    all_cycles: int

    def latency_ms(self, cycles: int) -> float:
        return cycles / (self.target.npu.clock_mhz * 1000)

    def utilization(self, work_macs: int, cycles: int | None) -> float | None:
        return work_macs / (cycles * self.target.npu.macs_per_cycle) if cycles else None

    def of_all(self, programs: list[Program], compatibility: Compatibility) -> tuple[OperatorCost, ...]:
        placements = iter(compatibility.operators)
        return tuple(
            self.of_one(program, operator, next(placements))
            for program in programs
            for operator in program.subgraph.operators
        )

    def of_one(self, program: Program, operator: Operator, placement: Placement) -> OperatorCost:
        steps = program.steps.get(operator.index, [])
        known = placement.processor == Unit.NPU
        cycles = sum(step.total_cycles for step in steps) if known else None
        weights = weights_bytes(operator, program.subgraph)
        return OperatorCost(
            subgraph=placement.subgraph,
            index=placement.index,
            kind=placement.kind,
            name=placement.name,
            processor=placement.processor,
            npu_cycles=sum(step.npu_cycles for step in steps) if known else None,
            total_cycles=cycles,
            latency_ms=self.latency_ms(cycles) if cycles is not None else None,
            cycles_percent=100 * cycles / self.all_cycles if cycles is not None and self.all_cycles else None,
            macs=placement.macs,
            mac_utilization=self.utilization(placement.macs, cycles),
            bound_by=most_bound(steps) if known else None,
            traffic=add_traffic(steps),
            weights_bytes=weights,
            compressed_weights_bytes=sum(step.compressed_weights_bytes for step in steps) if known else None,
            steps=tuple(Step(step.kind, step.npu_cycles, step.total_cycles, step.bound_by) for step in steps)
            if known
            else (),
            note=_note(placement, steps),
        )


def _note(placement: Placement, steps: list[CompiledStep]) -> str:
    if placement.processor == Unit.CPU:
        return "runs on the CPU: not estimated"
    if not steps:
        return "folded into its neighbors: costs nothing"
    return "" if any(step.total_cycles for step in steps) else "joined to another operator: counted there"


def _with_known_weights(operators: tuple[OperatorCost, ...], compressed_bytes: int) -> tuple[OperatorCost, ...]:
    """Operators whose steps share their weights (the time steps of an LSTM) must not count them repeatedly.

    The compiler's own sum is right; what one such operator has is that sum less all others. With several
    such operators nobody can tell, and the figure is left out.
    """
    counted = sum(cost.compressed_weights_bytes or 0 for cost in operators)
    sharing = [cost for cost in operators if cost.compressed_weights_bytes and len(cost.steps) > 1]
    if counted == compressed_bytes or not sharing:
        return operators
    others = counted - sum(cost.compressed_weights_bytes or 0 for cost in sharing)
    own = compressed_bytes - others if len(sharing) == 1 else None
    return tuple(replace(cost, compressed_weights_bytes=own) if cost in sharing else cost for cost in operators)


def _further_subgraphs(programs: list[Program]) -> tuple[SubgraphCost, ...]:
    called_once = {
        operator.number("init_subgraph_index", -1)
        for program in programs
        for operator in program.subgraph.operators
        if operator.kind == "CALL_ONCE"
    }
    return tuple(
        SubgraphCost(
            subgraph=program.subgraph.index,
            name=program.subgraph.name,
            total_cycles=sum(step.total_cycles for steps in program.steps.values() for step in steps),
            runs="once, at the start" if program.subgraph.index in called_once else "when called",
        )
        for program in programs[1:]
    )


def _not_estimated(compatibility: Compatibility, target: Target) -> tuple[Skipped, ...]:
    if not compatibility.npu_segments:
        return (Skipped("latency", "nothing runs on the NPU"),)
    if not compatibility.cpu_operators:
        return ()
    operators = "operator" if compatibility.cpu_operators == 1 else "operators"
    what = f"{compatibility.cpu_operators} {operators} on the {target.host.name}"
    return (Skipped(what, "the figures are of the NPU's part only; CPU time is not estimated"),)


def _whole_traffic(memories: dict[str, dict[str, int]]) -> tuple[Traffic, ...]:
    return tuple(
        Traffic(MEMORY_NAMES[name], memory["read_bytes"], memory["write_bytes"])
        for name, memory in sorted(memories.items())
        if name in MEMORY_NAMES
    )


def _memory_use(whole: Compilation, target: Target) -> MemoryUse:
    report = whole.report
    peaks = {"sram": 0, "dram": 0, "flash": 0}
    for name, memory in report["memories"].items():
        if name in MEMORY_NAMES:
            peaks[MEMORY_NAMES[name]] += memory["peak_bytes"]
    arena = MEMORY_NAMES[target.arena_memory.kind]
    shared = target.constants_memory.kind == target.arena_memory.kind
    return MemoryUse(
        sram_bytes=peaks["sram"],
        dram_bytes=peaks["dram"],
        flash_bytes=peaks["flash"],
        arena_memory=arena,
        arena_bytes=peaks[arena] - (report["read_only_bytes"] if shared else 0),
        constants_bytes=report["read_only_bytes"],
        weights_bytes=report["weights_bytes"],
        compressed_weights_bytes=report["compressed_weights_bytes"],
        tensors=tuple(
            TensorLife(
                name=row["name"],
                memory=MEMORY_NAMES.get(row["memory"], row["memory"].lower()),
                usage=row["usage"],
                start_time=int(row["start_time"]),
                end_time=int(row["end_time"]),
                address=int(row["start_address"], 16),
                size_bytes=int(row["size"], 16),
            )
            for row in whole.rows("tensors")
        ),
    )
