"""Inputs that show whether two ways to compute a model agree: seeded noise over all codes, and their edges."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Tensor
from mlia.transforms.calibration import Array

RANDOM_SAMPLES = 3
_CARRYING = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "CAST")  # indexes that pass through stay indexes
EDGES = ("lowest", "highest", "zero point", "alternating")


def describe(random_samples: int = RANDOM_SAMPLES) -> str:
    """The samples in words."""
    return f"{random_samples} random inputs and {len(EDGES)} at the edges ({', '.join(EDGES)})"


def edge_and_random_samples(
    inputs: Sequence[Tensor], seed: int, random_samples: int = RANDOM_SAMPLES, sizes: Sequence[int | None] = ()
) -> Iterator[list[Array]]:
    """Samples in the codes that the inputs store, an array of its shape for each.

    First seeded noise over the whole range of each type, then one sample for each of EDGES. Float inputs get normal
    noise, and edges at -8 and 8; integers of more than 16 bits are indexes and the like, and stay 0 or 1. `sizes` are
    of what inputs are indexes into, where that is known (`index_sizes`): then every index is drawn that there is.

    Raises:
        TransformError: an input is no number.
    """
    if odd := [tensor for tensor in inputs if _kind(tensor.dtype) not in "fiub"]:
        raise TransformError(f"no inputs can be made up for '{odd[0].name}', which is {odd[0].dtype}")
    random = numpy.random.default_rng(seed)
    given = list(zip(inputs, (*sizes, *(None,) * (len(inputs) - len(sizes))), strict=True))
    for _ in range(random_samples):
        yield [_random(random, tensor, size) for tensor, size in given]
    for edge in EDGES:
        yield [_edge(edge, tensor, size) for tensor, size in given]


def index_sizes(graph: Graph) -> list[int | None]:
    """For each input of a model how many entries there are in what it is an index into; None if it is none."""
    main = graph.main
    found: dict[int, int] = {}
    for operator in reversed(main.operators):
        size = None
        if operator.kind == "EMBEDDING_LOOKUP":
            index, size = operator.inputs[0], main.tensors[operator.inputs[1]].shape[0]
        elif operator.kind in ("GATHER", "GATHER_ND"):
            index, shape = operator.inputs[1], main.tensors[operator.inputs[0]].shape
            axis = int(operator.options.get("axis") or 0)  # type: ignore[arg-type]
            last = main.tensors[index].shape[-1:]
            size = shape[axis] if operator.kind == "GATHER" else min(shape[: last[0]] if last else shape)
        elif operator.kind in _CARRYING and operator.outputs[0] in found:
            index, size = operator.inputs[0], found[operator.outputs[0]]
        if size is not None and size > 0:
            found[index] = min(size, found.get(index, size))
    return [found.get(index) for index in main.inputs]


def _kind(dtype: str) -> str:
    """numpy's letter for a type; nothing for those that numpy does not have."""
    try:
        return numpy.dtype(dtype).kind
    except TypeError:
        return "-"


def _random(random: numpy.random.Generator, tensor: Tensor, size: int | None) -> Array:
    dtype = numpy.dtype(tensor.dtype)
    if dtype.kind == "f":
        return random.normal(0, 1, tensor.shape).astype(dtype)
    low, high = _range(dtype, size)
    return random.integers(low, high, tensor.shape, endpoint=True).astype(dtype)


def _edge(edge: str, tensor: Tensor, size: int | None) -> Array:
    dtype = numpy.dtype(tensor.dtype)
    low, high = (-8.0, 8.0) if dtype.kind == "f" else _range(dtype, size)
    zero_points = tensor.quantization.zero_point if tensor.quantization else ()
    if edge == "alternating":
        flat = numpy.arange(tensor.elements) % 2
        return numpy.where(flat.reshape(tensor.shape) == 1, high, low).astype(dtype)
    value = {"lowest": low, "highest": high, "zero point": (*zero_points, 0)[0]}[edge]
    return numpy.full(tensor.shape, value, dtype)


def _range(dtype: numpy.dtype[Any], size: int | None) -> tuple[int, int]:
    if size is not None:
        return 0, size - 1
    if dtype.kind == "b" or dtype.itemsize > 2:
        return 0, 1
    limits = numpy.iinfo(dtype)
    return int(limits.min), int(limits.max)
