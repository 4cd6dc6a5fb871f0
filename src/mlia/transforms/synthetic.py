"""Samples made up from a seed, drawn anew whenever they are read: of all of them one is in memory at a time.

They travel to child processes as the state of a generator, and come out the same there.
"""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy

from mlia.errors import TransformError
from mlia.graph.graph import Tensor
from mlia.transforms.calibration import INTEGERS, Array

MOST_BYTES = 1 << 30  # of all samples to calibrate with: more would take long to draw, and to compute
LARGEST_BYTES = 4 << 30  # of one sample
_OTHERS = ("bool", "complex64", "complex128")
_PIECE = 1 << 20  # numbers that are drawn at a time, as many are in float64 before they become float32


class _Law:
    """What the numbers of one input are like: how some of them are drawn."""

    def __init__(self, tensor: Tensor) -> None:
        self.shape, self._range = tensor.shape, None
        if tensor.dtype in INTEGERS and tensor.quantization is not None:
            self.dtype, self._range = "float32", _range(tensor)
        elif tensor.dtype.startswith("float"):
            self.dtype = "float32"
        elif tensor.dtype in (*INTEGERS, *_OTHERS):
            self.dtype = tensor.dtype
        else:
            raise TransformError(f"no samples can be made up for '{tensor.name}', which is {tensor.dtype}")

    @property
    def size_bytes(self) -> int:
        """Of one sample."""
        return prod(self.shape) * numpy.dtype(self.dtype).itemsize

    def numbers(self, random: numpy.random.Generator, count: int) -> Array:
        if self._range is not None:
            low, high = self._range
            return numpy.clip(random.normal((low + high) / 2, (high - low) / 6, count), low, high)
        if self.dtype == "float32":
            return random.normal(0, 1, count)
        return random.integers(0, 2 if self.dtype == "bool" else 8, count)


class Drawn(Sequence[Array]):
    """The samples of one input: `shape` is (samples, *shape of the input).

    An index gives a sample; a slice, or an array of positions, those samples stacked in memory.
    """

    def __init__(self, law: _Law, count: int, random: numpy.random.Generator) -> None:
        """They are what the generator gives from the state that it has now."""
        self._law, self._count, self._state = law, count, random.bit_generator.state
        self.shape = (count, *law.shape)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Array]:
        random = self._generator()
        for _ in range(self._count):
            sample = numpy.empty(prod(self._law.shape), self._law.dtype)
            for start in range(0, sample.size, _PIECE):
                piece = sample[start : start + _PIECE]
                piece[...] = self._law.numbers(random, piece.size)
            yield sample.reshape(self._law.shape)

    def __getitem__(self, index: Any) -> Any:
        wanted = numpy.arange(self._count)[index]
        if wanted.ndim == 0:
            return next(sample for number, sample in enumerate(self) if number == wanted)
        places: dict[int, list[int]] = {}
        for place, number in enumerate(wanted.tolist()):
            places.setdefault(number, []).append(place)
        stacked = numpy.empty((len(wanted), *self._law.shape), self._law.dtype)
        last = max(places, default=-1)
        for number, sample in enumerate(self):
            if number > last:
                break
            stacked[places.get(number, [])] = sample
        return stacked

    def passed(self) -> numpy.random.Generator:
        """The generator as it is when all samples have been drawn."""
        random = self._generator()
        left = self._count * prod(self._law.shape)
        while left:
            piece = min(left, _PIECE)
            self._law.numbers(random, piece)
            left -= piece
        return random

    def _generator(self) -> numpy.random.Generator:
        random = numpy.random.default_rng()
        random.bit_generator.state = self._state
        return random


def how_many(inputs: Sequence[Tensor], samples: int) -> tuple[int, str]:
    """How many samples are made up where so many are asked for, and why not all of them, for behind that number.

    Raises:
        TransformError: an input is no number, or one sample has more than LARGEST_BYTES.
    """
    size = max(1, sum(_Law(tensor).size_bytes for tensor in inputs))
    if size > LARGEST_BYTES:
        raise TransformError(f"the inputs take {size >> 20:,} MiB for one sample, too much to compute with")
    count = min(samples, max(1, MOST_BYTES // size))
    return count, f", because one is {size >> 20:,} MiB" if count < samples else ""


def draw(inputs: Sequence[Tensor], samples: int, seed: int) -> tuple[tuple[Drawn, ...], tuple[Drawn, ...]]:
    """Samples to calibrate with, and as many more, for each input; all follow from the seed."""
    random = numpy.random.default_rng(seed)
    drawn = []
    for tensor in (*inputs, *inputs):
        drawn.append(Drawn(_Law(tensor), samples, random))
        if len(drawn) < 2 * len(inputs):
            random = drawn[-1].passed()
    return tuple(drawn[: len(inputs)]), tuple(drawn[len(inputs) :])


def _range(tensor: Tensor) -> tuple[float, float]:
    """The least and largest number that a quantized tensor can hold."""
    assert tensor.quantization is not None
    limits = numpy.iinfo(tensor.dtype)
    zero_point, scale = (*tensor.quantization.zero_point, 0)[0], tensor.quantization.scale[0]
    return (limits.min - zero_point) * scale, (limits.max - zero_point) * scale
