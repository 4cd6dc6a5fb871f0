"""One model to optimize: what was measured of it, and where its changed versions are made, compiled and compared."""

import math
from collections.abc import Callable, Sequence
from hashlib import sha256
from threading import Lock

from msgspec import Struct

import mlia
from mlia.backends.cortex_m.operators import cpu_costs
from mlia.backends.refusals import ALREADY_COMPILED
from mlia.backends.system import with_host
from mlia.backends.vela.backend import Vela
from mlia.errors import TargetError, TransformError
from mlia.fidelity import Fidelity, TensorFidelity
from mlia.graph.graph import Graph, InputShapes
from mlia.graph.load import ModelSource, name_of
from mlia.pipeline.figures import figures_of
from mlia.pipeline.load import load, notes_on, summarize_model, summarize_target
from mlia.pipeline.made import MadeModel
from mlia.pipeline.optimize.gains import explain
from mlia.pipeline.parallel import map_in_parallel
from mlia.recipe import Recipe, brief
from mlia.report import SCHEMA_VERSION, Comparison, Evaluation, OptimizeReport, Trial
from mlia.results import Change, Compatibility, Performance, Skipped
from mlia.targets.profiles import TargetSource, load_targets
from mlia.targets.target import CpuTarget, Target
from mlia.transforms.apply import Original, RecipeRunner, measured
from mlia.transforms.calibration import SampleSource, load_calibration, synthetic_calibration
from mlia.transforms.memo import Memo
from mlia.transforms.prepare import as_read

Progress = Callable[[str], None]
Evaluate = Callable[[bytes], float]
TAKEN = ("float32", "float16", "int8", "int16")

NOISE = "noise is no data: speed and memory are right, closeness is of noise; give --calibration before you deploy"


class OptimizedModel(MadeModel, frozen=True):
    """The optimized model, and the report of what it gained and lost."""

    report: OptimizeReport


class Cost(Struct, frozen=True):
    """What a model costs on one target, and how many of its operators run on the CPU there."""

    performance: Performance
    cpu_operators: int


class Candidate(Struct, frozen=True):
    """A model that a recipe made, and what was measured of it."""

    recipe: Recipe
    graph: Graph
    changes: tuple[Change, ...]
    skipped: tuple[Skipped, ...]
    costs: tuple[Cost, ...]
    fidelity: Fidelity

    @property
    def worst(self) -> TensorFidelity:
        """The output that is farthest from the original's."""
        return max(self.fidelity.outputs, key=lambda output: output.relative_error)

    @property
    def error(self) -> float:
        """The relative error of that output."""
        return self.worst.relative_error

    @property
    def cycles(self) -> tuple[int, ...]:
        """Total cycles on each target; 0 where nothing runs on the NPU."""
        return tuple(cost.performance.total_cycles or 0 for cost in self.costs)


class Task:
    """Makes and measures changed versions of one model. Each content is compiled once for each target."""

    def __init__(
        self,
        name: str,
        original: Original,
        targets: Sequence[Target],
        backend: Vela,
        evaluate: Evaluate | None,
        progress: Progress,
    ) -> None:
        self.name = name
        self.original = original
        self.targets = tuple(targets)
        self.progress = progress
        self._workbench = RecipeRunner(original, progress)
        self._backend = backend
        self._costs: Memo[tuple[str, Target], Cost] = Memo()
        self._evaluate = evaluate
        self._judging = Lock()
        self._scores: dict[str, float] = {}

    def plain(self) -> Candidate:
        """The model without any recipe: quantized, if it was not."""
        graph = self._workbench.plain()
        return Candidate(Recipe(), graph, (), (), self._cost(graph), self.original.closeness(graph))

    def candidate(self, recipe: Recipe) -> Candidate:
        """The model that a recipe makes, compiled and run.

        Raises:
            TransformError: a step of the recipe cannot be done at all.
            BackendError: the compiler refused the model, crashed, or took too long.
        """
        made = self._workbench.apply(recipe)
        costs, fidelity = self._cost(made.graph), self.original.closeness(made.graph)
        return Candidate(recipe, made.graph, made.changes, made.skipped, costs, fidelity)

    def _cost(self, graph: Graph) -> tuple[Cost, ...]:
        digest = sha256(graph.content).hexdigest()

        def run(target: Target) -> Cost:
            return self._costs.get((digest, target), lambda: _compiled(self._backend, graph, target))

        return map_in_parallel(run, self.targets)

    def score(self, graph: Graph) -> float | None:
        """What the user's own judge says, asked once for each content and by one thread at a time; None without one.

        Raises:
            TransformError: it is no finite number.
        """
        if self._evaluate is None:
            return None
        digest = sha256(graph.content).hexdigest()
        with self._judging:
            if digest not in self._scores:
                self._scores[digest] = float(self._evaluate(graph.file))
            score = self._scores[digest]
        if not math.isfinite(score):
            raise TransformError(f"evaluate said {score:g}, which is no figure to compare")
        return score

    def finish(
        self,
        before: Candidate,
        after: Candidate,
        trials: tuple[Trial, ...] = (),
        suggestions: tuple[Trial, ...] = (),
        missed_limit: str = "",
        notes: tuple[str, ...] = (),
    ) -> OptimizedModel:
        """The result, with the difference told."""
        scores = [self.score(each.graph) for each in (before, after)]
        evaluation = Evaluation(scores[0], scores[1]) if scores[0] is not None and scores[1] is not None else None
        conversion = as_read(self.original.graph)
        report = OptimizeReport(
            schema_version=SCHEMA_VERSION,
            mlia_version=mlia.__version__,
            model=summarize_model(self.name, before.graph, conversion),
            optimized=summarize_model(self.name, after.graph, None),
            float_bytes=self.original.given_bytes if self.original.is_float else None,
            calibration=self.original.calibration.description,
            recipe=after.recipe,
            changes=after.changes,
            skipped=after.skipped,
            fidelity_before=before.fidelity if self.original.is_float else None,
            fidelity_after=after.fidelity,
            evaluation=evaluation,
            comparisons=tuple(
                _compare(target, old, new, len(before.graph.content), len(after.graph.content))
                for target, old, new in zip(self.targets, before.costs, after.costs, strict=True)
            ),
            trials=trials,
            suggestions=suggestions,
            missed_limit=missed_limit,
            notes=(*notes, *notes_on(self.original.graph), *self._notes(after.recipe)),
        )
        return OptimizedModel(after.graph, report)

    def _notes(self, recipe: Recipe) -> tuple[str, ...]:
        notes = []
        if self.original.calibration.is_synthetic:
            notes.append(NOISE)
            if recipe.channels or recipe.finetune:
                notes.append("which channels matter, and what fine-tuning aims at, is taken from noise as well")
        if not self.original.is_float:
            notes.append("the model was quantized already: closeness is to the model that was given")
        return tuple(notes)


def trial_of(candidate: Candidate, score: float | None, objection: str, is_chosen: bool) -> Trial:
    """A candidate as the report tells it."""
    performances = [cost.performance for cost in candidate.costs]
    memories = [performance.memory for performance in performances]
    return Trial(
        recipe=candidate.recipe,
        description=brief(candidate.recipe),
        total_cycles=tuple(performance.total_cycles for performance in performances),
        compressed_weights_bytes=tuple(each.compressed_weights_bytes if each else None for each in memories),
        flash_bytes=tuple(performance.flash_bytes for performance in performances),
        relative_error=candidate.error,
        sqnr_db=candidate.worst.sqnr_db,
        top1_agreement=candidate.worst.top1_agreement,
        accuracy=candidate.fidelity.quantized_accuracy,
        score=score,
        objection=objection,
        is_chosen=is_chosen,
    )


def begin(
    model: ModelSource,
    target: TargetSource | Sequence[TargetSource],
    calibration: SampleSource | None,
    input_shapes: InputShapes,
    backend: Vela,
    evaluate: Evaluate | None,
    progress: Progress,
) -> Task:
    """Read the model and the samples, and run the one on the other."""
    targets = []
    for entry in load_targets(target):
        if isinstance(entry, CpuTarget):
            raise TargetError(f"{entry.name} has no NPU, and models are optimized for one: choose an Ethos-U target")
        targets.append(entry)
    progress(f"reading {name_of(model)}")
    graph = load(model, input_shapes)
    if graph.is_tosa:
        raise TransformError("a TOSA model cannot be optimized; give the model that it was made from")
    if graph.is_compiled:
        raise TransformError(ALREADY_COMPILED)
    if not any(tensor.dtype in TAKEN for tensor in graph.main.tensors):
        raise TransformError(f"the model has nothing that can be optimized: no tensors of {', '.join(TAKEN)}")
    samples = synthetic_calibration(graph) if calibration is None else load_calibration(calibration, graph)
    progress(f"running {name_of(model)}")
    return Task(name_of(model), measured(graph, samples), targets, backend, evaluate, progress)


def _compiled(backend: Vela, graph: Graph, target: Target) -> Cost:
    result = with_host(backend.run(graph, target), graph, target, cpu_costs(graph, target.host))
    if not isinstance(result.performance, Performance) or not isinstance(result.compatibility, Compatibility):
        reason = getattr(result.performance, "reason", "it was not compiled")
        raise TransformError(f"the model cannot be optimized: {reason}")
    return Cost(result.performance, result.compatibility.cpu_operators)


def _compare(target: Target, before: Cost, after: Cost, before_bytes: int, after_bytes: int) -> Comparison:
    """What a target makes of both models."""
    old = figures_of(before.performance, before.cpu_operators, before_bytes)
    new = figures_of(after.performance, after.cpu_operators, after_bytes)
    gain = old.total_cycles / new.total_cycles if old.total_cycles and new.total_cycles else None
    ceiling = old.total_cycles / old.npu_cycles if old.total_cycles and old.npu_cycles else None
    explanation = explain(before.performance, old, new)
    return Comparison(
        summarize_target(target),
        after.performance.source,
        after.performance.calibration,
        old,
        new,
        gain,
        ceiling,
        explanation,
    )
