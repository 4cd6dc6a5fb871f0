"""Which operators of an integer model a recipe prunes and clusters, and why it leaves the others alone."""

import re
from collections import Counter
from typing import NamedTuple

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Operator, Subgraph
from mlia.recipe import Recipe
from mlia.results import Skipped
from mlia.transforms.codes.codebook import KEPT_OF_GROUP
from mlia.transforms.codes.compress import Aim, input_channels
from mlia.transforms.codes.patches import is_depthwise
from mlia.transforms.dequantize import WEIGHTED

# An operator with so much of a model's weights is pruned even where it reads the model's input.
LARGE_SHARE = 0.2


class _Wish(NamedTuple):
    """What a recipe says about one operator."""

    prune: float
    clusters: int | None


def check_layers(recipe: Recipe, graph: Graph) -> None:
    """Refuse a pattern that is found in no operator with weights.

    Raises:
        TransformError: there is one.
    """
    weighted = [graph.main.operator_name(operator) for operator in graph.operators if operator.kind in WEIGHTED]
    for layer in recipe.layers:
        if not any(re.search(layer.match, name) for name in weighted):
            known = ", ".join(weighted[:6]) + (", …" if len(weighted) > 6 else "")
            raise TransformError(f"'{layer.match}' is found in no operator with weights; there are {known or 'none'}")


def aims_of(graph: Graph, recipe: Recipe) -> tuple[tuple[Aim, ...], tuple[Skipped, ...]]:
    """What to do with each operator that has weights, in their order, and what is left alone, with the reason."""
    aims: list[Aim] = []
    skipped: list[Skipped] = []
    shared, spared = _shared(graph.main), _spared(graph.main)
    pattern = recipe.pruning.pattern if recipe.pruning else "unstructured"
    for operator in graph.operators:
        if operator.kind not in WEIGHTED:
            if (recipe.pruning or recipe.clustering) and _has_matrix(graph.main, operator):
                name = graph.main.operator_name(operator)
                skipped.append(Skipped(f"weights of {name}", f"those of {operator.kind} are not understood"))
            continue
        name = graph.main.operator_name(operator)
        wish, reasons = _wish(recipe, name, operator, operator.index in spared)
        channels = input_channels(operator, graph.main.tensors[operator.inputs[1]].shape or (1,))
        if wish.prune and pattern == "2:4" and channels <= KEPT_OF_GROUP:
            wish = wish._replace(prune=0.0)
            reasons["pruning"] = f"2:4 keeps two of every four input channels, and it has {channels}"
        skipped += [Skipped(f"{what} of {name}", reason) for what, reason in reasons.items()]
        if not wish.prune and wish.clusters is None:
            continue
        if reason := _obstacle(graph.main, operator, shared):
            skipped.append(Skipped(f"weights of {name}", reason))
            continue
        aims.append(Aim(operator.index, wish.prune, pattern, wish.clusters))
    return tuple(aims), tuple(skipped)


def _wish(recipe: Recipe, name: str, operator: Operator, is_spared: bool) -> tuple[_Wish, dict[str, str]]:
    layer = recipe.layer(name)
    reasons = {}
    prune = recipe.pruning.target if recipe.pruning else 0.0
    if prune and layer.pruning is None and (is_spared or is_depthwise(operator)):
        reasons["pruning"] = f"{_INPUT if is_spared else _DEPTHWISE}; it is only pruned when --layer says so"
        prune = 0.0
    if layer.pruning is not None:
        if layer.pruning is False and prune:
            reasons["pruning"] = "the recipe leaves it alone"
        prune = float(layer.pruning)
    clusters = recipe.clustering.target if recipe.clustering else None
    if layer.clustering is not None:
        if layer.clustering is False and clusters:
            reasons["clustering"] = "the recipe leaves it alone"
        clusters = int(layer.clustering) or None
    return _Wish(prune, clusters), reasons


_INPUT = "it reads the model's input, and all others miss what it loses"
_DEPTHWISE = "a depthwise operator has few weights, and each of them matters"


def _spared(subgraph: Subgraph) -> set[int]:
    """Indexes of weighted operators that read the model's input, unless they hold much of the model's weights.

    An input is also read behind operators without weights, as QUANTIZE, PAD or a division by 255, alone or joined
    with constants and state; not where it is joined with what other weights made of it.
    """
    weighted = [operator for operator in subgraph.operators if operator.kind in WEIGHTED]
    sizes = {operator.inputs[1]: subgraph.tensors[operator.inputs[1]].elements for operator in weighted}
    few = LARGE_SHARE * sum(sizes.values())
    given = {*subgraph.inputs}  # computed from the model's inputs without any weights
    later: set[int] = set()  # computed with weights
    spared = set()
    for operator in subgraph.operators:
        has_weights = operator.kind in WEIGHTED or _has_matrix(subgraph, operator)
        reads_only_input = not given.isdisjoint(operator.inputs) and later.isdisjoint(operator.inputs)
        if reads_only_input and operator.kind in WEIGHTED and sizes[operator.inputs[1]] < few:
            spared.add(operator.index)
        if has_weights or not later.isdisjoint(operator.inputs):
            later.update(operator.outputs)
        elif reads_only_input:
            given.update(operator.outputs)
    return spared


def _has_matrix(subgraph: Subgraph, operator: Operator) -> bool:
    """Whether it reads stored integers along more than one axis, which are weights rather than a scale or an offset."""
    tensors = (subgraph.tensor(index) for index in operator.inputs)
    return any(
        tensor is not None
        and tensor.is_constant
        and tensor.quantization is not None
        and tensor.dtype != "int32"
        and sum(size > 1 for size in tensor.shape) > 1
        for tensor in tensors
    )


def _shared(subgraph: Subgraph) -> set[int]:
    """Indexes of tensors that more than one operator reads, or whose bytes another tensor has as well."""
    readers = Counter(index for operator in subgraph.operators for index in {*operator.inputs})
    places = Counter(id(tensor.data) for tensor in subgraph.tensors if tensor.is_constant)
    return {
        index
        for index, tensor in enumerate(subgraph.tensors)
        if tensor.is_constant and (readers[index] > 1 or places[id(tensor.data)] > 1)
    }


def _obstacle(subgraph: Subgraph, operator: Operator, shared: set[int]) -> str:
    """Why an operator's weights cannot be changed by themselves; empty when they can."""
    weights = subgraph.tensors[operator.inputs[1]]
    if not weights.is_constant:
        return "they are computed, not stored"
    if weights.dtype != "int8" or weights.quantization is None:
        return f"they are {weights.dtype}, not int8"
    if any(weights.quantization.zero_point):
        return "their zero is not at code 0, as old quantizers have it"
    if operator.inputs[1] in shared:
        return "another operator reads them too"
    return ""
