"""The Ethos-U backend: asks Arm's Vela compiler where each operator runs and what it costs."""

from collections import Counter
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from mlia.backends.command_stream import COMPILED_OPERATOR, compiled_for
from mlia.backends.vela_output import (
    CompiledStep,
    Refusal,
    add_traffic,
    constraints_of,
    memory_use,
    most_bound,
    read_refusals,
    steps_by_operator,
    tensor_lives,
    whole_traffic,
)
from mlia.backends.vela_process import DEFAULT_TIMEOUT_S, Compilation, compile_model
from mlia.errors import BackendError, BackendUnavailable
from mlia.graph.cost import macs, weights_bytes
from mlia.graph.graph import Graph, Operator, Subgraph
from mlia.graph.tflite import ELEMENT_BITS, single_subgraph
from mlia.graph.tflite_writer import with_plain_names
from mlia.results import (
    Compatibility,
    Constraint,
    OperatorCost,
    OperatorId,
    Origin,
    Performance,
    Placement,
    Result,
    Skipped,
    Source,
    Step,
    SubgraphCost,
    TensorLife,
    Unit,
)
from mlia.targets.target import Target, installed_version

COMPILED = "the model is already compiled by Vela; give the model it was compiled from"
ONCE = "once, at the start"
NO_REASON = Constraint("Vela leaves it to the CPU and prints no reason")


class Program(Struct, frozen=True):
    """One subgraph as compiled: the steps of each operator, where each runs, and what the compiler refused.

    `named` is the subgraph under the names that the compiler was given.
    """

    subgraph: Subgraph
    named: Subgraph
    steps: dict[int, list[CompiledStep]]
    units: dict[int, Unit]
    refusals: list[Refusal]
    tensors: tuple[TensorLife, ...]


class Vela(Struct, frozen=True):
    """Arm's Ethos-U compiler, in a child process that is ended after `timeout_s` seconds."""

    timeout_s: float = DEFAULT_TIMEOUT_S
    name: ClassVar[str] = "vela"

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
        if is_compiled(graph):
            reason = COMPILED
            return Result(
                self.name, Skipped("compatibility", reason), Skipped("performance", reason), compiled_for(graph)
            )
        _refuse_what_kills_vela(graph)
        named = graph if _has_plain_names(graph) else with_plain_names(graph)
        whole = self._compile(named, target)
        programs = self._programs(graph, named, target, whole)
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

    def _programs(self, graph: Graph, named: Graph, target: Target, whole: Compilation) -> list[Program]:
        """Each subgraph compiled by itself, because the compiler keeps the steps of the last one only."""
        if len(graph.subgraphs) == 1:
            return [_program(graph.main, named.main, whole)]
        programs = []
        for original, subgraph in zip(graph.subgraphs, named.subgraphs, strict=True):
            if subgraph.operators:
                content = single_subgraph(named.content, subgraph.index)
                programs.append(_program(original, subgraph, compile_model(content, target, self.timeout_s)))
        return programs


def is_compiled(graph: Graph) -> bool:
    """Whether the model is what the compiler makes, rather than what it takes."""
    return any(
        operator.custom_code == COMPILED_OPERATOR for subgraph in graph.subgraphs for operator in subgraph.operators
    )


def _has_plain_names(graph: Graph) -> bool:
    """Whether the compiler's log can be read: no two operators' outputs share a name, and each is on one line."""
    for subgraph in graph.subgraphs:
        names = [subgraph.tensors[index].name for operator in subgraph.operators for index in operator.outputs]
        if len({*names}) < len(names) or not all(name and name.isprintable() for name in names):
            return False
    return True


def _refuse_what_kills_vela(graph: Graph) -> None:
    """Models on which Vela 5.2 dies of a signal or, for sparse weights, reads past their end: in words instead."""
    for subgraph in graph.subgraphs:
        if subgraph.index and not subgraph.operators:
            raise BackendError(f"Vela cannot compile the subgraph '{subgraph.name}', which has no operators")
        for tensor in subgraph.tensors:
            if tensor.is_sparse:
                raise BackendError(f"Vela cannot compile the sparse weights of '{tensor.name}'; store them dense")
            if tensor.is_constant and ELEMENT_BITS.get(tensor.dtype, 8) in (2, 4):
                raise BackendError(
                    f"Vela cannot compile the {tensor.dtype} weights of '{tensor.name}'; quantize them to int8"
                )
        for operator in subgraph.operators:
            for index in operator.outputs:
                if 0 in subgraph.tensors[index].shape:
                    raise BackendError(f"Vela cannot compile '{subgraph.tensors[index].name}', whose size is zero")


def _program(subgraph: Subgraph, named: Subgraph, compilation: Compilation) -> Program:
    steps = steps_by_operator(compilation)
    runs_on_npu = any(step.on_npu for found in steps.values() for step in found)
    needed = subgraph.needed_operators()
    units = {}
    for operator in subgraph.operators:
        found = steps.get(operator.index, [])
        if not found and operator.index not in needed:
            units[operator.index] = Unit.REMOVED
        else:  # what left no step at all was folded into a neighbor
            on_npu = any(step.on_npu for step in found) or (not found and runs_on_npu)
            units[operator.index] = Unit.NPU if on_npu else Unit.CPU
    names = {own.name: tensor.name for own, tensor in zip(named.tensors, subgraph.tensors, strict=True)}
    lives = tensor_lives(compilation, subgraph.index, names)
    return Program(subgraph, named, steps, units, read_refusals(compilation.log), lives)


def _compatibility(programs: list[Program], whole: Compilation, target: Target, source: Source) -> Compatibility:
    placements: list[Placement] = []
    segments = 0
    for program in programs:
        for operator in program.subgraph.operators:
            placements.append(_placement(program, operator, segments))
        segments = max([segments, *(placement.segment or 0 for placement in placements)])
    operators = tuple(placements)
    on_npu = [placement for placement in operators if placement.processor == Unit.NPU]
    on_cpu = [placement for placement in operators if placement.processor == Unit.CPU]
    all_macs = sum(placement.macs for placement in (*on_npu, *on_cpu))
    npu_macs = sum(placement.macs for placement in on_npu)
    return Compatibility(
        source=source,
        operators=operators,
        npu_operators=len(on_npu),
        cpu_operators=len(on_cpu),
        npu_percent=100 * len(on_npu) / max(len(on_npu) + len(on_cpu), 1),
        npu_mac_percent=100 * npu_macs / all_macs if all_macs else None,
        npu_segments=len(whole.rows("cmdstream")),
    )


def _placement(program: Program, operator: Operator, segments_before: int) -> Placement:
    unit = program.units[operator.index]
    steps = program.steps.get(operator.index, [])
    segment = next((step.segment for step in steps if step.segment), None)
    constraints: tuple[Constraint, ...] = ()
    if unit == Unit.CPU:
        constraints = constraints_of(operator, program.named, program.refusals) or (NO_REASON,)
    return Placement(
        subgraph=program.subgraph.index,
        index=operator.index,
        kind=operator.custom_code or operator.kind,
        name=program.subgraph.operator_name(operator),
        processor=unit,
        segment=segments_before + segment if segment else None,
        macs=macs(operator, program.subgraph),
        is_folded=unit == Unit.NPU and not steps,
        constraints=constraints,
    )


def _performance(
    programs: list[Program], compatibility: Compatibility, whole: Compilation, target: Target, source: Source
) -> Performance:
    report = whole.report
    runs = compatibility.npu_segments > 0
    total_cycles = report["total_cycles"] if runs else None
    costs = _Costs(target, report["total_cycles"])
    operators = costs.of_all(programs, compatibility)
    further = _further_subgraphs(programs)
    lives = tuple(life for program in programs for life in program.tensors)
    once = sum(subgraph.total_cycles for subgraph in further if subgraph.runs == ONCE)
    inference_cycles = total_cycles - once if total_cycles is not None else None
    model_macs = sum(placement.macs for placement in compatibility.operators if placement.processor == Unit.NPU)
    return Performance(
        source=source,
        npu_cycles=report["npu_cycles"] if runs else None,
        total_cycles=total_cycles,
        inference_cycles=inference_cycles,
        latency_ms=costs.latency_ms(inference_cycles) if inference_cycles is not None else None,
        clock_mhz=target.npu.clock_mhz,
        macs=model_macs,
        compiled_macs=report["macs"],
        mac_utilization=costs.utilization(model_macs, total_cycles),
        traffic=whole_traffic(report["memories"]),
        memory=memory_use(whole, target, lives) if runs else None,
        operators=_with_known_weights(operators, _sharing(programs), report["compressed_weights_bytes"]),
        further_subgraphs=further,
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
    if placement.processor == Unit.REMOVED:
        return "removed: nothing reads what it computes"
    if placement.processor == Unit.CPU:
        return "runs on the CPU"
    if not steps:
        return "folded into its neighbors: costs nothing"
    return "" if any(step.total_cycles for step in steps) else "joined to another operator: counted there"


def _sharing(programs: list[Program]) -> set[OperatorId]:
    """Operators whose compressed weights stand in more than one step: time steps of an LSTM, or shared constants."""
    sharing = set()
    for program in programs:
        tensors = program.subgraph.tensors
        readers = Counter(index for operator in program.subgraph.operators for index in {*operator.inputs})
        for operator in program.subgraph.operators:
            steps = program.steps.get(operator.index, [])
            constants = [index for index in operator.inputs if index >= 0 and tensors[index].is_constant]
            repeats = sum(bool(step.compressed_weights_bytes) for step in steps) > 1
            if repeats or any(readers[index] > 1 for index in constants):
                sharing.add(OperatorId(program.subgraph.index, operator.index))
    return sharing


def _with_known_weights(
    operators: tuple[OperatorCost, ...], sharing: set[OperatorId], compressed_bytes: int
) -> tuple[OperatorCost, ...]:
    """The compiler counts shared weights in each step, and once in its own sum, which is right.

    So a single operator that shares has that sum less all others; with several nobody can tell, and the
    figure is left out.
    """
    shared = [
        cost for cost in operators if OperatorId(cost.subgraph, cost.index) in sharing and cost.compressed_weights_bytes
    ]
    if sum(cost.compressed_weights_bytes or 0 for cost in operators) == compressed_bytes or not shared:
        return operators
    others = sum(cost.compressed_weights_bytes or 0 for cost in operators if cost not in shared)
    own = compressed_bytes - others if len(shared) == 1 and compressed_bytes >= others else None
    note = "" if own is not None else "shares its weights: what of their compressed size is its own cannot be told"
    return tuple(
        replace(cost, compressed_weights_bytes=own, note=cost.note or note) if cost in shared else cost
        for cost in operators
    )


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
            runs=ONCE if program.subgraph.index in called_once else "when called",
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
