"""Inputs that show whether two ways to compute a model agree: seeded noise over all codes, and their edges."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy

from mlia.errors import TransformError
from mlia.graph.graph import Tensor
from mlia.transforms.calibration import Array

RANDOM_SAMPLES = 3
EDGES = ("lowest", "highest", "zero point", "alternating")


def describe(random_samples: int = RANDOM_SAMPLES) -> str:
    """The samples in words."""
    return f"{random_samples} random inputs and {len(EDGES)} at the edges ({', '.join(EDGES)})"


def edge_and_random_samples(
    inputs: Sequence[Tensor], seed: int, random_samples: int = RANDOM_SAMPLES
) -> Iterator[list[Array]]:
    """Samples in the codes that the inputs store, an array of its shape for each.

    First seeded noise over the whole range of each type, then one sample for each of EDGES. Float inputs get normal
    noise, and edges at -8 and 8; integers of more than 16 bits are indexes and the like, and stay 0 or 1.

    Raises:
        TransformError: an input is no number.
    """
    if odd := [tensor for tensor in inputs if _kind(tensor.dtype) not in "fiub"]:
        raise TransformError(f"no inputs can be made up for '{odd[0].name}', which is {odd[0].dtype}")
    random = numpy.random.default_rng(seed)
    for _ in range(random_samples):
        yield [_random(random, tensor) for tensor in inputs]
    for edge in EDGES:
        yield [_edge(edge, tensor) for tensor in inputs]


def _kind(dtype: str) -> str:
    """numpy's letter for a type; nothing for those that numpy does not have."""
    try:
        return numpy.dtype(dtype).kind
    except TypeError:
        return "-"


def _random(random: numpy.random.Generator, tensor: Tensor) -> Array:
    dtype = numpy.dtype(tensor.dtype)
    if dtype.kind == "f":
        return random.normal(0, 1, tensor.shape).astype(dtype)
    low, high = _range(dtype)
    return random.integers(low, high, tensor.shape, endpoint=True).astype(dtype)


def _edge(edge: str, tensor: Tensor) -> Array:
    dtype = numpy.dtype(tensor.dtype)
    low, high = (-8.0, 8.0) if dtype.kind == "f" else _range(dtype)
    zero_points = tensor.quantization.zero_point if tensor.quantization else ()
    if edge == "alternating":
        flat = numpy.arange(tensor.elements) % 2
        return numpy.where(flat.reshape(tensor.shape) == 1, high, low).astype(dtype)
    value = {"lowest": low, "highest": high, "zero point": (*zero_points, 0)[0]}[edge]
    return numpy.full(tensor.shape, value, dtype)


def _range(dtype: numpy.dtype[Any]) -> tuple[int, int]:
    if dtype.kind == "b" or dtype.itemsize > 2:
        return 0, 1
    limits = numpy.iinfo(dtype)
    return int(limits.min), int(limits.max)
