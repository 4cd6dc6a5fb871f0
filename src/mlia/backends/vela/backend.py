"""The Ethos-U backend: asks Arm's Vela compiler where each operator runs and what it costs."""

from collections import defaultdict
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from mlia.backends.cortex_m.arena import arena_use
from mlia.backends.ethos_u.features import StepFeatures, features_of
from mlia.backends.refusals import ALREADY_COMPILED, refuse_unaddressable
from mlia.backends.vela.costs import Program, not_called, performance_of, timed
from mlia.backends.vela.output import (
    CompiledStep,
    by_output,
    compiled_steps,
    constraints_of,
    read_refusals,
    tensor_lives,
)
from mlia.backends.vela.process import DEFAULT_TIMEOUT_S, Compilation, compile_model, forget
from mlia.backends.vela.stream import compiled_for, lost_outputs
from mlia.errors import BackendError, BackendUnavailable
from mlia.estimates import Estimator, Origin, Source
from mlia.graph.cost import macs
from mlia.graph.graph import Graph, Operator, Subgraph
from mlia.graph.tflite import ELEMENT_BITS, read_tflite, single_subgraph
from mlia.graph.tflite_writer import with_plain_names
from mlia.results import Compatibility, Constraint, Placement, Result, Skipped, Unit
from mlia.targets.cores import load_core
from mlia.targets.target import Target, installed_version

NO_REASON = Constraint("Vela leaves it to the CPU and prints no reason")


class Vela(Struct, frozen=True):
    """Arm's Ethos-U compiler, in a child process that is ended after `timeout_s` seconds.

    `estimator` says who estimates how long the compiled steps take.
    """

    timeout_s: float = DEFAULT_TIMEOUT_S
    estimator: Estimator = Estimator.CALIBRATED
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
        if graph.is_compiled:
            reason = ALREADY_COMPILED
            return Result(
                self.name, Skipped("compatibility", reason), Skipped("performance", reason), compiled_for(graph)
            )
        whole, programs = self.compiled(graph, target)
        # What is made of TOSA has its outputs in another order, and TensorFlow Lite Micro does not run it.
        made = None if graph.is_tosa else read_tflite(whole.model)
        lost = lost_outputs(graph, made) if made is not None else ()  # it drops some, and says nothing of it (Vela 5.2)
        arena = arena_use(made, load_core(target.host.core)) if made is not None else None
        compatibility = _compatibility(programs, source, lost)
        if self.estimator == Estimator.CALIBRATED:
            source = replace(source, by=f"calibrated {source.by}")
        performance = performance_of(graph, programs, compatibility, whole, target, source, arena)
        return Result(self.name, compatibility, performance)

    def compiled(self, graph: Graph, target: Target) -> tuple[Compilation, list[Program]]:
        """What the compiler makes of a whole model, and of each of its subgraphs.

        Raises:
            BackendError: as run().
        """
        _refuse_what_kills_vela(graph)
        refuse_unaddressable(graph, target)
        named = graph
        if not _has_plain_names(graph):
            forget(graph.content, target)
            named = with_plain_names(graph)
        whole = self._compile(named, target)
        return whole, self._programs(graph, named, target, whole)

    def _compile(self, graph: Graph, target: Target) -> Compilation:
        try:
            return compile_model(graph.content, target, self.timeout_s)
        except BackendError as error:
            if not graph.is_tosa:
                raise
            hint = "a TOSA model is compiled whole or not at all, and Ethos-U85 takes most operators"
            raise BackendError(f"{error}; {hint}", error.log) from None

    def _programs(self, graph: Graph, named: Graph, target: Target, whole: Compilation) -> list[Program]:
        """Each subgraph compiled by itself, because the compiler keeps the steps of the last one only."""
        if len(graph.subgraphs) == 1:
            return [self._program(graph.main, named.main, whole, target)]
        programs, called = [], {subgraph.index for subgraph in graph.called_subgraphs()}
        for original, subgraph in zip(graph.subgraphs, named.subgraphs, strict=True):
            if subgraph.index not in called:
                programs.append(not_called(original))
            elif subgraph.operators:
                content = single_subgraph(named.content, subgraph.index)
                compilation = compile_model(content, target, self.timeout_s)
                programs.append(self._program(original, subgraph, compilation, target))
        return programs

    def _program(self, subgraph: Subgraph, named: Subgraph, compilation: Compilation, target: Target) -> Program:
        steps, features = compiled_steps(compilation), tuple[StepFeatures, ...]()
        if self.estimator == Estimator.CALIBRATED:
            features = features_of(compilation, target)
            steps = timed(steps, features, target)
        return _program(subgraph, named, compilation, steps, features)


def vela(estimator: str, timeout_s: float) -> Vela:
    """The compiler with an estimator by its name.

    Raises:
        BackendError: there is no such estimator.
    """
    if estimator not in [*Estimator]:
        raise BackendError(f"no estimator '{estimator}': choose from {', '.join(Estimator)}")
    return Vela(timeout_s, Estimator(estimator))


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


def _program(
    subgraph: Subgraph,
    named: Subgraph,
    compilation: Compilation,
    steps: list[tuple[int, CompiledStep]],
    features: tuple[StepFeatures, ...],
) -> Program:
    of_operators: dict[int, list[CompiledStep]] = defaultdict(list)
    for operator, step in steps:
        of_operators[operator].append(step)
    on_npu = {operator for operator, found in of_operators.items() if any(step.on_npu for step in found)}
    needed = subgraph.needed_operators()
    units = {}
    for index in (operator.index for operator in subgraph.operators):  # in TOSA not the position, for constants count
        if index in of_operators:
            units[index] = Unit.NPU if index in on_npu else Unit.CPU
        elif index not in needed:
            units[index] = Unit.REMOVED
        else:  # what left no step at all was folded into a neighbor
            units[index] = Unit.NPU if on_npu else Unit.CPU
    names = {own.name: tensor.name for own, tensor in zip(named.tensors, subgraph.tensors, strict=True)}
    lives = tensor_lives(compilation, subgraph.index, names)
    refusals, segments = by_output(read_refusals(compilation.log)), len(compilation.keys("cmdstream"))
    return Program(subgraph, named, of_operators, units, refusals, lives, segments, features)


def _compatibility(programs: list[Program], source: Source, lost: tuple[int, ...]) -> Compatibility:
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
        npu_segments=sum(program.segments for program in programs),
        lost_outputs=lost,
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
