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
    aims, skipped = [], []
    weighted = [operator for operator in graph.operators if operator.kind in WEIGHTED]
    shared = _shared(graph.main)
    for position, operator in enumerate(weighted):
        name = graph.main.operator_name(operator)
        wish, reasons = _wish(recipe, name, operator, is_first=position == 0)
        pattern = recipe.pruning.pattern if recipe.pruning else "unstructured"
        channels = input_channels(operator, graph.main.tensors[operator.inputs[1]].shape)
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


def _wish(recipe: Recipe, name: str, operator: Operator, is_first: bool) -> tuple[_Wish, dict[str, str]]:
    layer = recipe.layer(name)
    reasons = {}
    prune = recipe.pruning.target if recipe.pruning else 0.0
    if prune and layer.pruning is None and (is_first or is_depthwise(operator)):
        what = "the first operator has few weights, and all others depend on it" if is_first else _DEPTHWISE
        reasons["pruning"] = f"{what}; it is only pruned when --layer says so"
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


_DEPTHWISE = "a depthwise operator has few weights, and each of them matters"


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
