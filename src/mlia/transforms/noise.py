"""Inputs that show whether two ways to compute a model agree: seeded noise over all codes, and their edges."""

from collections.abc import Iterable, Iterator, Sequence, Sized
from math import prod
from typing import Any, NamedTuple

import numpy

from mlia.errors import TransformError
from mlia.graph.graph import Tensor
from mlia.transforms.calibration import Array

RANDOM_SAMPLES = 3
EDGES = ("lowest", "highest", "zero point", "alternating")
_PIECE = 1 << 20  # numbers that are drawn at a time


def describe(random_samples: int = RANDOM_SAMPLES) -> str:
    """The samples in words."""
    return f"{random_samples} random inputs and {len(EDGES)} at the edges ({', '.join(EDGES)})"


class Noise(Sized, Iterable[list[Array]]):
    """Samples in the codes that the inputs store, an array of its shape for each, made when they are asked for.

    First seeded noise over the whole range of each type, then one sample for each of EDGES. Float inputs get normal
    noise, and edges at -8 and 8; integers of more than 16 bits are indexes and the like, and stay 0 or 1.

    Raises:
        TransformError: an input is no number.
    """

    def __init__(self, inputs: Sequence[Tensor], seed: int, random_samples: int = RANDOM_SAMPLES) -> None:
        if odd := [tensor for tensor in inputs if _kind(tensor.dtype) not in "fiub"]:
            raise TransformError(f"no inputs can be made up for '{odd[0].name}', which is {odd[0].dtype}")
        self._inputs = [_Input(each.shape, each.dtype, _zero_point(each)) for each in inputs]
        self._seed, self._random_samples = seed, random_samples

    def __len__(self) -> int:
        return self._random_samples + len(EDGES)

    def __iter__(self) -> Iterator[list[Array]]:
        random = numpy.random.default_rng(self._seed)
        for _ in range(self._random_samples):
            yield [_random(random, each) for each in self._inputs]
        for edge in EDGES:
            yield [_edge(edge, each) for each in self._inputs]


class _Input(NamedTuple):
    """What is known of an input; unlike a Tensor it can travel to a child process."""

    shape: tuple[int, ...]
    dtype: str
    zero_point: int


def _zero_point(tensor: Tensor) -> int:
    return (*tensor.quantization.zero_point, 0)[0] if tensor.quantization else 0


def _kind(dtype: str) -> str:
    """numpy's letter for a type; nothing for those that numpy does not have."""
    try:
        return numpy.dtype(dtype).kind
    except TypeError:
        return "-"


def _random(random: numpy.random.Generator, each: _Input) -> Array:
    """Drawn in pieces, because numbers are made in eight bytes before they become those of the type."""
    dtype = numpy.dtype(each.dtype)
    low, high = (0, 0) if dtype.kind == "f" else _range(dtype)
    numbers = numpy.empty(prod(each.shape), dtype)
    for start in range(0, numbers.size, _PIECE):
        piece = numbers[start : start + _PIECE]
        is_float = dtype.kind == "f"
        piece[...] = (
            random.normal(0, 1, piece.size) if is_float else random.integers(low, high, piece.size, endpoint=True)
        )
    return numbers.reshape(each.shape)


def _edge(edge: str, each: _Input) -> Array:
    dtype = numpy.dtype(each.dtype)
    low, high = (-8.0, 8.0) if dtype.kind == "f" else _range(dtype)
    if edge == "alternating":
        numbers = numpy.full(prod(each.shape), low, dtype)
        numbers[1::2] = high
        return numbers.reshape(each.shape)
    value = {"lowest": low, "highest": high, "zero point": each.zero_point}[edge]
    return numpy.full(each.shape, value, dtype)


def _range(dtype: numpy.dtype[Any]) -> tuple[int, int]:
    if dtype.kind == "b" or dtype.itemsize > 2:
        return 0, 1
    limits = numpy.iinfo(dtype)
    return int(limits.min), int(limits.max)
