"""A recipe applied to a model, step by step: graph rewrites, channels, quantization, codes, fine-tuning.

1. Rewrites change the model as it was given.
2. Channels are removed in float, so an integer model is taken back to float first.
3. A float model is quantized; an integer one gets its own ranges back, unless the recipe asks for others.
4. Weights are pruned and clustered on their codes.
5. Fine-tuning moves codes and biases toward the original's outputs.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from mlia.fidelity import Fidelity
from mlia.graph.graph import Graph
from mlia.graph.tflite import read_tflite
from mlia.recipe import Quantize, Recipe
from mlia.results import Change, Skipped
from mlia.transforms.calibration import Array, Calibration, affordable
from mlia.transforms.child import call, call_with_progress, call_without_limit
from mlia.transforms.codes.aims import aims_of
from mlia.transforms.codes.compress import Aim, compress
from mlia.transforms.constants import stored, with_constants
from mlia.transforms.dequantize import WEIGHTED, can_be_requantized, dequantized, requantized
from mlia.transforms.fidelity import fidelity
from mlia.transforms.float_weights import with_float_weights
from mlia.transforms.interpreter import outputs
from mlia.transforms.memo import Memo
from mlia.transforms.quantize import quantize
from mlia.transforms.transform import Transformed

Progress = Callable[[str], None]
MOST_OUTPUT_BYTES = 256 << 20  # of what the original computes for the samples held out, which is kept


class Original(Struct, frozen=True):
    """The user's model, the samples, and what it computes for those that are held out: an array per output.

    `given_bytes` is the size of the model as TFLite, before narrow weights of a float model were widened.
    """

    graph: Graph
    given_bytes: int
    calibration: Calibration
    expected: tuple[Array, ...]

    @property
    def is_float(self) -> bool:
        return self.graph.computes_in_float

    def closeness(self, graph: Graph) -> Fidelity:
        """How close a changed model is to the original.

        Raises:
            TransformError: LiteRT cannot run it.
        """
        found = call(outputs, graph.file, self.calibration.held_out)
        names = [self.graph.main.tensors[index].name for index in self.graph.main.outputs]
        return fidelity(names, self.expected, found, self.calibration)


def measured(graph: Graph, calibration: Calibration) -> Original:
    """The user's model with what it computes. Where its outputs are large, fewer samples are held out, for memory.

    Raises:
        TransformError: LiteRT cannot run it.
    """
    given_bytes = len(graph.content)
    graph = with_float_weights(graph)[0] if graph.computes_in_float else graph
    output_bytes = sum(8 * graph.main.tensors[index].elements for index in graph.main.outputs)
    held_out = affordable(calibration.held_out, output_bytes, MOST_OUTPUT_BYTES)
    labels = None if calibration.labels is None else calibration.labels[: len(held_out[0])]
    calibration = replace(calibration, held_out=held_out, labels=labels)
    return Original(graph, given_bytes, calibration, call(outputs, graph.file, calibration.held_out))


class _Prepared(Struct, frozen=True):
    """The integer model whose codes are changed next, and the model whose outputs they are fitted to."""

    graph: Graph
    reference: Graph
    changes: tuple[Change, ...]
    skipped: tuple[Skipped, ...]


class RecipeRunner:
    """Applies recipes to one model, and keeps what several of them have in common."""

    def __init__(self, original: Original, progress: Progress) -> None:
        self._original = original
        self._progress = progress
        self._prepared: Memo[Recipe, _Prepared] = Memo()

    def plain(self) -> Graph:
        """The model as it would be deployed without any recipe."""
        return self._prepare(Recipe()).graph

    def apply(self, recipe: Recipe) -> Transformed:
        """The integer model that the recipe makes.

        Raises:
            TransformError: a step cannot be done at all.
        """
        prepared = self._prepare(recipe)
        made = self._change_codes(prepared, recipe)
        changes, skipped = (*prepared.changes, *made.changes), (*prepared.skipped, *made.skipped)
        return Transformed(made.graph, changes, skipped)

    def _prepare(self, recipe: Recipe) -> _Prepared:
        """The steps before codes are changed, done once for all recipes that have them in common."""
        layers = tuple(layer for layer in recipe.layers if layer.channels is not None)
        usual = (Quantize(), Quantize("int8"))
        wanted = None if self._original.is_float and recipe.quantize in usual else recipe.quantize
        key = Recipe(quantize=wanted, rewrite=recipe.rewrite, channels=recipe.channels, layers=layers)
        if recipe.channels is not None:
            key = replace(key, compensate=recipe.compensate)
        return self._prepared.get(key, lambda: self._made_integer(key))

    def _made_integer(self, recipe: Recipe) -> _Prepared:
        samples = self._original.calibration.calibrating
        steps = [Transformed(self._original.graph)]
        if recipe.rewrite is not None:
            from mlia.transforms.rewrites.rewrite import rewrite

            self._progress("rewriting the graph")
            made = _in_child(rewrite, steps[-1].graph, samples, recipe.rewrite)
            if not made.changes and not made.skipped:
                made = Transformed(made.graph, (), (Skipped("rewrite", "nothing was found to replace"),))
            steps.append(made)
        given = steps[-1].graph
        is_float, wanted = self._original.is_float, recipe.quantize
        floating = given if is_float else None
        if recipe.channels is not None:
            from mlia.transforms.channels.remove import remove_channels

            self._progress("removing channels")
            floating = given if is_float else dequantized(given)
            steps.append(_in_child(remove_channels, floating, samples, recipe))
            floating = steps[-1].graph
        if not is_float and wanted is not None and not _is_quantized_as(given, wanted):
            floating = floating or dequantized(given)
        elif not is_float and floating is not None and can_be_requantized(given):
            steps.append(Transformed(requantized(floating, given)))
            return _joined(steps, floating)
        if floating is None:
            return _joined(steps, given)
        wanted = wanted or Quantize()
        activations = wanted.activations or ("int8" if is_float else _widest(given))
        self._progress(f"quantizing to {activations}")
        quantized = quantize(
            floating, self._original.calibration, activations=activations, per_tensor_fc=wanted.per_tensor_fc
        )
        what = f"{activations}, by {quantized.quantizer}"
        steps.append(Transformed(quantized.graph, (Change("quantize", "all operators", what),)))
        return _joined(steps, floating)

    def _change_codes(self, prepared: _Prepared, recipe: Recipe) -> Transformed:
        aims, skipped = aims_of(prepared.graph, recipe)
        skipped = (*skipped, *_unmatched(prepared.graph, recipe))
        steps = [Transformed(prepared.graph, (), skipped)]
        samples = self._original.calibration.calibrating
        if aims:
            given = samples if recipe.compensate else ()
            reference, content = prepared.reference.file, prepared.graph.file
            is_noise = self._original.calibration.is_synthetic
            compressed = call_with_progress(self._progress, compress, reference, content, given, aims, is_noise)
            graph = with_constants(prepared.graph, compressed.constants)
            names = {aim.operator: graph.main.operator_name(graph.operators[aim.operator]) for aim in aims}
            left = tuple(
                Skipped(f"compensation of {names[index]}", reason) for index, reason in compressed.uncompensated.items()
            )
            steps.append(Transformed(graph, _told(prepared.graph, graph, aims), left))
        if recipe.finetune is not None:
            steps.append(self._finetuned(steps[-1].graph, aims, recipe.finetune.steps))
        changes = tuple(change for step in steps for change in step.changes)
        return Transformed(steps[-1].graph, changes, tuple(item for step in steps for item in step.skipped))

    def _finetuned(self, graph: Graph, aims: Sequence[Aim], steps: int) -> Transformed:
        from mlia.transforms.distill.finetune import Restriction, finetune

        self._progress("fine-tuning")
        restrictions = {
            graph.operators[aim.operator].inputs[1]: Restriction(aim.prune > 0, aim.clusters, aim.pattern)
            for aim in aims
        }
        samples = self._original.calibration.calibrating
        teacher = self._original.graph.file
        tuned = call_without_limit(self._progress, finetune, teacher, graph.file, samples, restrictions, steps)
        if not tuned.step:
            return Transformed(graph, (), (Skipped("fine-tuning", f"none of {steps} steps made it closer"),))
        what = (
            f"step {tuned.step} of {steps} kept: relative error {tuned.before:.3f} -> {tuned.after:.3f}"
            " on a slice of the calibration samples"
        )
        return Transformed(with_constants(graph, tuned.constants), (Change("finetune", "all operators", what),))


def _joined(steps: Sequence[Transformed], reference: Graph) -> _Prepared:
    changes = tuple(change for step in steps for change in step.changes)
    return _Prepared(steps[-1].graph, reference, changes, tuple(item for step in steps for item in step.skipped))


def _is_quantized_as(graph: Graph, wanted: Quantize) -> bool:
    """Whether an integer model already is what the recipe asks for."""
    has_width = wanted.activations is None or _widths(graph) == {wanted.activations}
    return has_width and not (wanted.per_tensor_fc and _has_per_channel_fc(graph))


def _widths(graph: Graph) -> set[str]:
    computed = [graph.main.tensors[index] for operator in graph.operators for index in operator.outputs]
    return {tensor.dtype for tensor in computed if tensor.quantization is not None}


def _widest(graph: Graph) -> str:
    return "int16" if "int16" in _widths(graph) else "int8"


def _has_per_channel_fc(graph: Graph) -> bool:
    dense = [operator for operator in graph.operators if operator.kind == "FULLY_CONNECTED"]
    quantizations = [graph.main.tensors[operator.inputs[1]].quantization for operator in dense]
    return any(quantization is not None and len(quantization.scale) > 1 for quantization in quantizations)


def _unmatched(graph: Graph, recipe: Recipe) -> tuple[Skipped, ...]:
    """Overrides whose operators have other names now, because a rewrite joined them to others."""
    names = [graph.main.operator_name(operator) for operator in graph.operators if operator.kind in WEIGHTED]
    return tuple(
        Skipped(
            f"--layer '{layer.match}'", f"after the rewrites no operator has that name; there are {', '.join(names)}"
        )
        for layer in recipe.layers
        if not any(re.search(layer.match, name) for name in names)
    )


def _told(before: Graph, after: Graph, aims: Sequence[Aim]) -> tuple[Change, ...]:
    """What became of each operator's weights, counted in the model that was made."""
    import numpy

    changes = []
    for aim in aims:
        operator = after.operators[aim.operator]
        name = after.main.operator_name(operator)
        old, new = (stored(graph.main.tensors[operator.inputs[1]]) for graph in (before, after))
        if aim.prune:
            zeros = 100 * float((new == 0).mean())
            pattern = " (2:4)" if aim.pattern == "2:4" else ""
            changes.append(Change("pruning", name, f"{zeros:.1f} % zero{pattern}"))
        if aim.clusters is not None:
            counts = len(numpy.unique(old)), len(numpy.unique(new))
            changes.append(Change("clustering", name, f"{counts[0]} -> {counts[1]} codes"))
    return tuple(changes)


def _in_child(function: Callable[..., Transformed], graph: Graph, *args: Any) -> Transformed:
    """Run a transform in a child process; graphs travel as files."""
    content, changes, skipped = call(_run, function, graph.file, args)
    return Transformed(replace(read_tflite(content), provenance=graph.provenance), changes, skipped)


def _run(
    function: Callable[..., Transformed], content: bytes, args: tuple[Any, ...]
) -> tuple[bytes, tuple[Change, ...], tuple[Skipped, ...]]:
    made = function(read_tflite(content), *args)
    return made.graph.file, made.changes, made.skipped
