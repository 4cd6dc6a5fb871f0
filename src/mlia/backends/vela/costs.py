"""Compiled steps -> what the model and each of its operators cost."""

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from mlia.backends.ethos_u.coefficients import coefficients_for
from mlia.backends.ethos_u.coverage import band_of, not_measured
from mlia.backends.ethos_u.features import StepFeatures
from mlia.backends.ethos_u.reasons import why_not_vela
from mlia.backends.ethos_u.timing import StepTime, estimate
from mlia.backends.vela.output import (
    MEMORY_NAMES,
    PRODUCT,
    CompiledStep,
    Refusals,
    add_traffic,
    memory_plan,
    most_bound,
    whole_traffic,
)
from mlia.backends.vela.process import Compilation
from mlia.cpu_results import ArenaUse
from mlia.estimates import Calibration, Evidence, Source
from mlia.graph.cost import weights_bytes
from mlia.graph.graph import Graph, Operator, Subgraph
from mlia.results import (
    NOT_CALLED,
    ONCE,
    Compatibility,
    MemoryPlan,
    OperatorCost,
    OperatorId,
    Performance,
    Placement,
    Skipped,
    Step,
    SubgraphCost,
    TensorLifetime,
    Unit,
)
from mlia.targets.target import Target


class Program(Struct, frozen=True):
    """One subgraph as compiled: the steps of each operator, where each runs, and what the compiler refused.

    `named` is the subgraph under the names that the compiler was given. `segments` counts its command streams.
    `features` are those of the steps whose cycles were estimated again; empty where they are the compiler's own.
    """

    subgraph: Subgraph
    named: Subgraph
    steps: dict[int, list[CompiledStep]]
    units: dict[int, Unit]
    refusals: Refusals
    tensors: tuple[TensorLifetime, ...]
    segments: int
    features: tuple[StepFeatures, ...] = ()

    @property
    def is_called(self) -> bool:
        return Unit.NOT_CALLED not in self.units.values()


def not_called(subgraph: Subgraph) -> Program:
    """A subgraph that nothing calls. A compilation of its own would tell what never takes place."""
    return Program(subgraph, subgraph, {}, dict.fromkeys(range(len(subgraph.operators)), Unit.NOT_CALLED), {}, (), 0)


def timed(
    steps: list[tuple[int, CompiledStep]], features: Sequence[StepFeatures], target: Target
) -> list[tuple[int, CompiledStep]]:
    """The steps with their cycles estimated by the model that is fitted to measurements, of their features in order."""
    known: dict[tuple[int, int], CompiledStep] = {}  # like steps with like times are one object
    found = []
    times = estimate(features, target)
    for (operator, step), time in zip(steps, times, strict=True):
        key = id(step), id(time)
        if key not in known:
            known[key] = _timed(step, time)
        found.append((operator, known[key]))
    return found


def _timed(step: CompiledStep, time: StepTime) -> CompiledStep:
    cycles, busy = round(time.cycles), round(time.busy_cycles)
    return replace(step, npu_cycles=busy, total_cycles=cycles, bound_by=time.bound_by)


def performance_of(
    graph: Graph,
    programs: list[Program],
    compatibility: Compatibility,
    whole: Compilation,
    target: Target,
    source: Source,
    arena: ArenaUse | None,
) -> Performance:
    """What a compiled model costs on the NPU; with_host() adds the host's part, and the time of the whole inference.

    `source` is who estimated the cycles of the steps, `arena` the tensor arena of the compiled file.
    """
    report = whole.report
    runs = compatibility.npu_segments > 0
    steps = [step for program in programs for found in program.steps.values() for step in found]
    is_calibrated = any(program.features for program in programs)
    is_part = not all(program.is_called for program in programs)  # the compiler's sums are of the whole file
    has_products = any(step.kind == PRODUCT for step in steps)  # whose traffic it does not count whole
    npu_cycles = sum(step.npu_cycles for step in steps) if is_calibrated or is_part else report["npu_cycles"]
    all_cycles = sum(step.total_cycles for step in steps) if is_calibrated or is_part else report["total_cycles"]
    total_cycles = all_cycles if runs else None
    costs = _Costs(target, all_cycles)
    operators = costs.of_all(programs, compatibility)
    further = _further_subgraphs(programs)
    lives = tuple(life for program in programs for life in program.tensors)
    once = sum(subgraph.total_cycles for subgraph in further if subgraph.runs == ONCE)
    inference_cycles = total_cycles - once if total_cycles is not None else None
    calibration = None
    if is_calibrated and runs:
        calibration = _calibration(graph, programs, target, all_cycles, report["total_cycles"])
    model_macs = sum(placement.macs for placement in compatibility.operators if placement.processor == Unit.NPU)
    plan = memory_plan(whole, target, lives) if runs else None
    return Performance(
        source=source,
        latency_ms=None,
        low_ms=None,
        high_ms=None,
        total_cycles=total_cycles,
        sram_bytes=_sram_bytes(plan, arena, target),
        flash_bytes=len(whole.model),
        arena_bytes=arena.size_bytes if arena is not None else None,
        macs=model_macs,
        npu_latency_ms=costs.latency_ms(inference_cycles) if inference_cycles is not None else None,
        npu_cycles=npu_cycles if runs else None,
        handover_ms=None,
        cpu_latency_ms=None,
        vela_total_cycles=report["total_cycles"] if runs else None,
        inference_cycles=inference_cycles,
        clock_mhz=target.npu.clock_mhz,
        compiled_macs=report["macs"],
        mac_utilization=costs.utilization(model_macs, total_cycles),
        traffic=add_traffic(steps) if is_part or has_products else whole_traffic(report["memories"]),
        arena=arena,
        memory=plan,
        operators=_with_known_weights(
            operators, _sharing(programs), None if is_part else report["compressed_weights_bytes"]
        ),
        further_subgraphs=further,
        skipped=(*_not_estimated(compatibility, target), *_not_called(programs)),
        calibration=calibration,
    )


def _sram_bytes(plan: MemoryPlan | None, arena: ArenaUse | None, target: Target) -> int:
    """What a program needs of SRAM: what is planned there, and what the interpreter adds to an arena in SRAM."""
    planned, planned_arena = (plan.planned_sram_bytes, plan.planned_arena_bytes) if plan is not None else (0, 0)
    if arena is None or MEMORY_NAMES[target.arena_memory.kind] != "sram":
        return planned
    return planned + max(arena.size_bytes - planned_arena, 0)


def _calibration(
    graph: Graph, programs: list[Program], target: Target, cycles: float, vela_cycles: float
) -> Calibration:
    found = coefficients_for(target)
    features = [step for program in programs for step in program.features]
    like, low, high = band_of(graph, features, found, cycles, vela_cycles)
    evidence = {name: getattr(found, name) for name in Evidence.__struct_fields__} | {
        "band_low": low,
        "band_high": high,
    }
    return Calibration(
        **evidence, not_measured=not_measured(graph, features, target), like=like, why=why_not_vela(features, target)
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
            vela_total_cycles=sum(step.vela_total_cycles for step in steps) if known else None,
            latency_ms=self.latency_ms(cycles) if cycles is not None else None,
            cycles_percent=100 * cycles / self.all_cycles if cycles is not None and self.all_cycles else None,
            macs=placement.macs,
            mac_utilization=self.utilization(placement.macs, cycles),
            bound_by=most_bound(steps) if known else None,
            traffic=add_traffic(steps),
            weights_bytes=weights,
            compressed_weights_bytes=sum(step.compressed_weights_bytes for step in steps) if known else None,
            steps=tuple(map(_step, steps)) if known else (),
            note=_note(placement, steps),
        )


def _step(step: CompiledStep) -> Step:
    return Step(step.kind, step.npu_cycles, step.total_cycles, step.vela_total_cycles, step.bound_by)


def _note(placement: Placement, steps: list[CompiledStep]) -> str:
    if placement.processor == Unit.REMOVED:
        return "removed: nothing reads what it computes"
    if placement.processor == Unit.NOT_CALLED:
        return "not called: nothing runs it"
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
    operators: tuple[OperatorCost, ...], sharing: set[OperatorId], compressed_bytes: int | None
) -> tuple[OperatorCost, ...]:
    """The compiler counts shared weights in each step, and once in its own sum, which is right.

    So a single operator that shares has that sum less all others; with several nobody can tell, and the
    figure is left out; so it is where that sum, None, has subgraphs in it that are not analyzed.
    """
    shared = [
        cost for cost in operators if OperatorId(cost.subgraph, cost.index) in sharing and cost.compressed_weights_bytes
    ]
    if sum(cost.compressed_weights_bytes or 0 for cost in operators) == compressed_bytes or not shared:
        return operators
    others = sum(cost.compressed_weights_bytes or 0 for cost in operators if cost not in shared)
    is_known = compressed_bytes is not None and len(shared) == 1 and compressed_bytes >= others
    own = compressed_bytes - others if compressed_bytes is not None and is_known else None
    note = "" if own is not None else "shares its weights: what of their compressed size is its own cannot be told"
    return tuple(
        replace(cost, compressed_weights_bytes=own, note=cost.note or note) if cost in shared else cost
        for cost in operators
    )


def called_once(programs: Sequence[Program]) -> set[int]:
    """The subgraphs that run once, at the start."""
    return {
        operator.number("init_subgraph_index", -1)
        for program in programs
        for operator in program.subgraph.operators
        if operator.kind == "CALL_ONCE"
    }


def _further_subgraphs(programs: list[Program]) -> tuple[SubgraphCost, ...]:
    once = called_once(programs)
    return tuple(
        SubgraphCost(
            subgraph=program.subgraph.index,
            name=program.subgraph.name,
            total_cycles=sum(step.total_cycles for steps in program.steps.values() for step in steps),
            runs=ONCE if program.subgraph.index in once else "when called",
        )
        for program in programs[1:]
        if program.is_called
    )


def _not_called(programs: list[Program]) -> tuple[Skipped, ...]:
    uncalled = [program.subgraph for program in programs if not program.is_called]
    operators = sum(len(subgraph.operators) for subgraph in uncalled)
    what = f"{_counted(operators, 'operator')} in {_counted(len(uncalled), 'subgraph')}"
    return (Skipped(what, NOT_CALLED),) if uncalled else ()


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _not_estimated(compatibility: Compatibility, target: Target) -> tuple[Skipped, ...]:
    if not compatibility.npu_segments:
        return (Skipped("latency", "nothing runs on the NPU"),)
    if not compatibility.cpu_operators:
        return ()
    what = f"{_counted(compatibility.cpu_operators, 'operator')} on the {target.host.name}"
    return (Skipped(what, "the figures are of the NPU's part only; CPU time is not estimated"),)
