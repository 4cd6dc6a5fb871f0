"""Weights that compress better, to see what that brings: pruned, clustered, or with one scale for all.

Nothing is made up for here: codes go to zero or to the nearest cluster. Which operators are taken is what
`mlia optimize` takes, so that its gain in time is the same; it also keeps the accuracy.
"""

import math
from functools import partial

import numpy
from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Operator, Quantization, Subgraph, Tensor
from mlia.recipe import Clustering, Pattern, Pruning, Recipe
from mlia.transforms.calibration import Array
from mlia.transforms.codes.aims import aims_of
from mlia.transforms.codes.codebook import GROUP, KEPT_OF_GROUP, LARGEST_CODE
from mlia.transforms.codes.compress import input_channels
from mlia.transforms.codes.patches import weights_matrix, weights_tensor
from mlia.transforms.constants import patched, stored
from mlia.transforms.dequantize import bias_of

ROUNDS = 8  # of k-means; more change nothing that compresses


def compressed(
    graph: Graph, *, prune: float = 0.0, clusters: int | None = None, pattern: Pattern = "unstructured"
) -> Graph:
    """The graph with a share of the weights zero, and at most so many different codes.

    Raises:
        TransformError: there is no operator that this can be done to.
    """
    recipe = Recipe(
        pruning=Pruning(prune, pattern) if prune else None,
        clustering=Clustering(clusters) if clusters is not None else None,
    )
    aims, skipped = aims_of(graph, recipe)
    if not aims:
        reason = f": {skipped[0].what}: {skipped[0].reason}" if skipped else ""
        raise TransformError(f"there are no int8 weights that can be pruned or clustered{reason}")
    constants = {}
    for aim in aims:
        operator = graph.operators[aim.operator]
        tensor = graph.main.tensors[operator.inputs[1]]
        codes = weights_matrix(operator, stored(tensor)).astype(numpy.int16)
        kept = numpy.ones(codes.shape, bool)
        if aim.prune and aim.pattern == "2:4":
            kept = _two_of_four(numpy.abs(codes), input_channels(operator, tensor.shape))
        elif aim.prune:
            kept = _largest(numpy.abs(codes) * _scales(operator, tensor)[:, None], aim.prune)
        codes = numpy.where(kept, codes, 0)
        if aim.clusters is not None:
            codes = _nearest(codes, kept, aim.clusters)
        constants[operator.inputs[1]] = weights_tensor(operator, codes, tensor.shape).astype(numpy.int8)
    return patched(graph, constants)


pruned = partial(compressed, prune=0.6)
clustered = partial(compressed, clusters=16)
pruned_and_clustered = partial(compressed, prune=0.6, clusters=16)
two_of_four = partial(compressed, prune=0.5, pattern="2:4")


def _scales(operator: Operator, tensor: Tensor) -> Array:
    """One scale for each row of the weights matrix."""
    assert tensor.quantization is not None, "what is not quantized has no aim"
    scale = numpy.array(tensor.quantization.scale, numpy.float64)
    rows = weights_matrix(operator, numpy.empty(tensor.shape, numpy.int8)).shape[0]
    return numpy.broadcast_to(scale, rows) if scale.size in (1, rows) else numpy.ones(rows)


def _largest(magnitudes: Array, share: float) -> Array:
    """False for the smallest share."""
    removed = math.ceil(share * magnitudes.size)
    kept = numpy.ones(magnitudes.size, bool)
    kept[numpy.argpartition(magnitudes, min(removed, magnitudes.size - 1), axis=None)[:removed]] = False
    return kept.reshape(magnitudes.shape)


def _two_of_four(magnitudes: Array, channels: int) -> Array:
    """True for the two largest of each four channels at one position of the kernel."""
    positions = magnitudes.reshape(-1, channels)
    padded = numpy.pad(positions, ((0, 0), (0, -channels % GROUP)), constant_values=-1)
    groups = padded.reshape(len(positions), -1, GROUP)
    rank = numpy.argsort(numpy.argsort(-groups, axis=2, kind="stable"), axis=2)
    kept: Array = (rank < KEPT_OF_GROUP).reshape(len(positions), -1)[:, :channels]
    return kept.reshape(magnitudes.shape)


def _nearest(codes: Array, kept: Array, clusters: int) -> Array:
    """Each code as the nearest of so many, found by k-means (Lloyd, 1957) on how often each code occurs."""
    values = numpy.arange(-LARGEST_CODE - 1, LARGEST_CODE + 1)
    mass = numpy.bincount(codes[kept].reshape(-1) - values[0], minlength=values.size).astype(numpy.float64)
    has_zeros = not kept.all()
    count = max(clusters - has_zeros, 1)
    used = numpy.cumsum(mass) / max(mass.sum(), 1)
    centers = numpy.interp((numpy.arange(count) + 0.5) / count, used, values)
    for _ in range(ROUNDS):
        owner = numpy.searchsorted((centers[1:] + centers[:-1]) / 2, values)
        weight = numpy.bincount(owner, mass, count)
        total = numpy.bincount(owner, mass * values, count)
        centers = numpy.sort(numpy.where(weight > 0, total / numpy.where(weight > 0, weight, 1), centers))
    book = numpy.clip(numpy.round(centers), -LARGEST_CODE, LARGEST_CODE).astype(numpy.int16)
    table = book[numpy.searchsorted((book[1:] + book[:-1]) / 2, values)]
    return numpy.where(kept, table[codes - values[0]], 0)


def one_scale_for_dense(graph: Graph) -> Graph:
    """The graph with one scale for all rows of int8 FULLY_CONNECTED weights, where each had its own.

    The largest scale stays; codes of other rows get smaller, and with them the compressed weights.

    Raises:
        TransformError: there are no such weights.
    """
    main = graph.main
    tensors = list(main.tensors)
    readers = [index for operator in main.operators for index in operator.inputs]
    changed = False
    for operator in main.operators:
        if is_per_row_dense(main, operator) and readers.count(operator.inputs[1]) == 1:
            bias = bias_of(operator)
            if bias is None or (readers.count(bias) == 1 and main.tensors[bias].dtype == "int32"):
                changed = True
                _give_one_scale(tensors, operator, bias)
    if not changed:
        raise TransformError("no FULLY_CONNECTED has int8 weights with a scale for each row")
    return replace(graph, subgraphs=(replace(main, tensors=tuple(tensors)), *graph.subgraphs[1:]))


def is_per_row_dense(subgraph: Subgraph, operator: Operator) -> bool:
    """Whether it is a FULLY_CONNECTED with constant int8 weights, symmetric, with a scale for each row."""
    if operator.kind != "FULLY_CONNECTED" or len(operator.inputs) < 2:
        return False
    tensor = subgraph.tensor(operator.inputs[1])
    if tensor is None or not tensor.is_constant or tensor.dtype != "int8" or len(tensor.shape) != 2:
        return False
    quantization = tensor.quantization
    return (
        quantization is not None and len(quantization.scale) == tensor.shape[0] > 1 and not any(quantization.zero_point)
    )


def _give_one_scale(tensors: list[Tensor], operator: Operator, bias: int | None) -> None:
    index = operator.inputs[1]
    weights = tensors[index]
    assert weights.quantization is not None, "it was looked at before"
    scale = numpy.array(weights.quantization.scale, numpy.float64)
    largest = float(scale.max())
    ratio = scale / largest if largest > 0 else numpy.ones(scale.shape)
    codes = numpy.round(stored(weights) * ratio[:, None]).astype(numpy.int8)
    tensors[index] = replace(weights, data=memoryview(codes.tobytes()), quantization=Quantization((largest,), (0,)))
    if bias is None:
        return
    old = tensors[bias]
    values = numpy.round(stored(old) * ratio).astype(numpy.int32)
    quantization = old.quantization
    if quantization is not None and len(quantization.scale) == scale.size:
        quantization = Quantization((max(quantization.scale),), (0,))
    tensors[bias] = replace(old, data=memoryview(values.tobytes()), quantization=quantization)
