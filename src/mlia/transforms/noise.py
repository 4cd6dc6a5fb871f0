"""Inputs that show whether two ways to compute a model agree: seeded noise over all codes, and their edges."""

from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import zip_longest
from math import prod
from typing import Any, NamedTuple

import numpy

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Tensor
from mlia.transforms.calibration import Array

RANDOM_SAMPLES = 3
EDGES = ("lowest", "highest", "zero point", "alternating")
_CARRYING = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "CAST")  # indexes that pass through stay indexes
_PIECE = 1 << 20  # numbers that are drawn at a time


def describe(random_samples: int = RANDOM_SAMPLES) -> str:
    """The samples in words."""
    return f"{random_samples} random inputs and {len(EDGES)} at the edges ({', '.join(EDGES)})"


class Noise(Sized, Iterable[list[Array]]):
    """Samples in the codes that the inputs store, an array of its shape for each, made when they are asked for.

    First seeded noise over the whole range of each type, then one sample for each of EDGES. Float inputs get normal
    noise, and edges at -8 and 8; integers of more than 16 bits are indexes and the like, and stay 0 or 1. `sizes` are
    of what inputs are indexes into, where that is known (`index_sizes`): then every index is drawn that there is.

    Raises:
        TransformError: an input is no number.
    """

    def __init__(
        self,
        inputs: Sequence[Tensor],
        seed: int,
        random_samples: int = RANDOM_SAMPLES,
        sizes: Sequence[int | None] = (),
    ) -> None:
        if odd := [tensor for tensor in inputs if _kind(tensor.dtype) not in "fiub"]:
            raise TransformError(f"no inputs can be made up for '{odd[0].name}', which is {odd[0].dtype}")
        self._inputs = [
            _Input(each.shape, each.dtype, _zero_point(each), size) for each, size in zip_longest(inputs, sizes)
        ]
        self._seed, self._random_samples = seed, random_samples

    def __len__(self) -> int:
        return self._random_samples + len(EDGES)

    def __iter__(self) -> Iterator[list[Array]]:
        random = numpy.random.default_rng(self._seed)
        for _ in range(self._random_samples):
            yield [_random(random, each) for each in self._inputs]
        for edge in EDGES:
            yield [_edge(edge, each) for each in self._inputs]


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


class _Input(NamedTuple):
    """What is known of an input; unlike a Tensor it can travel to a child process."""

    shape: tuple[int, ...]
    dtype: str
    zero_point: int
    size: int | None  # of what it is an index into


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
    low, high = (0, 0) if dtype.kind == "f" else _range(dtype, each.size)
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
    low, high = (-8.0, 8.0) if dtype.kind == "f" else _range(dtype, each.size)
    if edge == "alternating":
        numbers = numpy.full(prod(each.shape), low, dtype)
        numbers[1::2] = high
        return numbers.reshape(each.shape)
    value = {"lowest": low, "highest": high, "zero point": each.zero_point}[edge]
    return numpy.full(each.shape, value, dtype)


def _range(dtype: numpy.dtype[Any], size: int | None) -> tuple[int, int]:
    if size is not None:
        return 0, size - 1
    if dtype.kind == "b" or dtype.itemsize > 2:
        return 0, 1
    limits = numpy.iinfo(dtype)
    return int(limits.min), int(limits.max)
