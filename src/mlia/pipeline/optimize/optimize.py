"""optimize(): a model and a recipe in, a smaller and faster model out, with what it gained and what it lost."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mlia.backends.vela.backend import vela
from mlia.errors import BackendError, TransformError
from mlia.estimates import Estimator
from mlia.graph.load import ModelSource
from mlia.pipeline.optimize.candidates import (
    Candidate,
    Evaluate,
    OptimizedModel,
    Task,
    begin,
    trial_of,
)
from mlia.pipeline.optimize.gains import SMALL
from mlia.pipeline.optimize.search import search
from mlia.pipeline.optimize.search_limits import Limits
from mlia.pipeline.options import DEFAULT, Options
from mlia.pipeline.parallel import map_in_parallel
from mlia.recipe import Channels, Recipe, brief, checked, load_recipe
from mlia.report import Trial
from mlia.targets.profiles import TargetSource
from mlia.transforms.codes.aims import check_layers

if TYPE_CHECKING:
    from mlia.transforms.calibration import SampleSource

SUGGESTED_KEEP = 0.75


def optimize(
    model: ModelSource,
    target: TargetSource | Sequence[TargetSource],
    recipe: Recipe | str | Path | None = None,
    *,
    limits: Limits | None = None,
    calibration: "SampleSource | None" = None,
    evaluate: Evaluate | None = None,
    options: Options = DEFAULT,
) -> OptimizedModel:
    """Make a model smaller and faster by a recipe, and measure what that gained and lost.

    Args:
        model: path of a model in any format that mlia reads, the bytes of a .tflite, a Keras model, or a Graph;
            float or integer.
        target: name of a built-in target, path of a TOML profile, or a Target; or several of them.
        recipe: what to do, or the path of a TOML file that says it; None searches for one.
        limits: what a recipe that is searched must keep.
        calibration: samples, as check() takes them; a fifth of them is held out and judges the result.
            Without it, seeded noise is used.
        evaluate: your own judge: is given a TFLite file's content and returns a figure, the larger the better. It is
            reported, and in a search it is what `max_loss` limits. It is called by one thread at a time.
        options: sizes of open inputs, the estimator, the limit of time, and who is told of progress.

    Raises:
        ModelError: the model cannot be read.
        TargetError: no such target, or an impossible one.
        TransformError: the recipe asks for what cannot be, or a step of it cannot be done at all.
        BackendError: the compiler refused a model, crashed, or took too long; or no such estimator.
    """
    if not isinstance(recipe, Recipe | str | os.PathLike | None):
        kind = type(recipe).__name__
        raise TransformError(f"a recipe is a Recipe or the path of a TOML file, and not a value of type {kind}")
    if recipe is not None and not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    if recipe is not None and limits is not None:
        raise TransformError("limits are for a search: give either a recipe or limits")
    recipe = checked(recipe) if recipe is not None else None
    backend = vela(options.estimator or Estimator.CALIBRATED, options.timeout_s)
    task = begin(model, target, calibration, options.input_shapes, backend, evaluate, options.progress)
    if recipe is None:
        found = search(task, limits or Limits())
        return task.finish(
            found.plain,
            found.chosen,
            trials=found.trials,
            missed_limit=found.missed_limit,
            notes=found.notes,
        )
    check_layers(recipe, task.original.graph)
    before, after = _before_and_after(task, recipe)
    suggestions, notes = _suggestions(task, before, after)
    return task.finish(before, after, suggestions=suggestions, notes=notes)


def _before_and_after(task: Task, recipe: Recipe) -> tuple[Candidate, Candidate]:
    def make(wanted: Recipe | None) -> Candidate:
        return task.plain() if wanted is None else task.candidate(wanted)

    before, after = map_in_parallel(make, (None, recipe))
    return before, after


def _suggestions(task: Task, before: Candidate, after: Candidate) -> tuple[tuple[Trial, ...], tuple[str, ...]]:
    """What gains time where the recipe does not, because the NPU computes rather than waits: fewer channels."""
    cycles = before.cycles, after.cycles
    if after.recipe.channels is not None or any(old >= SMALL * new for old, new in zip(*cycles, strict=True)):
        return (), ()
    recipe = replace(after.recipe, channels=Channels(SUGGESTED_KEEP), finetune=None)
    try:
        candidate = task.candidate(recipe)
    except (TransformError, BackendError) as error:
        return (), (f"could not try {brief(recipe)}: {error}",)
    faster = any(new and old > new for old, new in zip(after.cycles, candidate.cycles, strict=True))
    if not faster:
        return (), (f"{brief(recipe)} was tried and gains no time either",)
    return (trial_of(candidate, None, "", False),), ()
