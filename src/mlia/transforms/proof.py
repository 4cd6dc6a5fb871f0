"""Whether two TFLite models compute the same, bit by bit, found by running both.

prove() runs in our child process, because it runs LiteRT.
"""

from collections.abc import Iterator
from typing import Any

import numpy

from mlia.errors import TransformError
from mlia.transforms.calibration import Array
from mlia.transforms.interpreter import ReferenceModel, first_line

RANDOM_SAMPLES = 3
EDGES = ("lowest", "highest", "zero point", "alternating")
SAMPLES = f"{RANDOM_SAMPLES} random inputs and {len(EDGES)} at the edges ({', '.join(EDGES)})"


def prove(before: bytes, after: bytes, seed: int = 0) -> str:
    """Why two models do not compute the same; empty when all bits of all outputs are equal.

    Both run by LiteRT's reference kernels, because optimized ones may round by position in memory. Inputs are
    `RANDOM_SAMPLES` of seeded noise over the whole range of their type and one for each of `EDGES`; an input that is
    left open has the size 1 there.

    Raises:
        TransformError: LiteRT cannot run the model as it was.
    """
    try:
        old = ReferenceModel(before)
        expected = _runs(old, seed)
    except (RuntimeError, ValueError) as error:
        raise TransformError(f"LiteRT cannot run the model: {first_line(error)}") from None
    try:
        new = ReferenceModel(after)
        if objection := _other_ends(old, new):
            return objection
        found = _runs(new, seed)
    except (RuntimeError, ValueError) as error:
        return f"LiteRT cannot run it: {first_line(error)}"
    for theirs, ours in zip(expected, found, strict=True):
        for detail, one, other in zip(old.outputs, theirs, ours, strict=True):
            if one.shape != other.shape or one.tobytes() != other.tobytes():
                return f"'{detail['name']}' differs{_by_how_much(one, other)}"
    return ""


def _runs(model: ReferenceModel, seed: int) -> list[list[Array]]:
    """The outputs for each sample, each from the same state."""
    runs = []
    for sample in edge_and_random_samples(model.inputs, seed):
        model.reset()
        runs.append(model.run(sample))
    return runs


def _other_ends(old: ReferenceModel, new: ReferenceModel) -> str:
    """Whether inputs or outputs are not what they were."""
    for what, before, after in (("inputs", old.inputs, new.inputs), ("outputs", old.outputs, new.outputs)):
        if [_end(detail) for detail in before] != [_end(detail) for detail in after]:
            return f"its {what} are not what they were"
    return ""


def _end(detail: dict[str, Any]) -> tuple[Any, ...]:
    scales, zero_points = (detail["quantization_parameters"][key].tolist() for key in ("scales", "zero_points"))
    return tuple(detail["shape"].tolist()), numpy.dtype(detail["dtype"]), scales, zero_points


def edge_and_random_samples(inputs: list[dict[str, Any]], seed: int) -> Iterator[list[Array]]:
    """Samples in codes: seeded noise over the whole range of each input's type, and its edges."""
    random = numpy.random.default_rng(seed)
    for _ in range(RANDOM_SAMPLES):
        yield [_random(random, detail) for detail in inputs]
    for edge in EDGES:
        yield [_edge(edge, detail) for detail in inputs]


def _random(random: numpy.random.Generator, detail: dict[str, Any]) -> Array:
    dtype, shape = numpy.dtype(detail["dtype"]), tuple(detail["shape"])
    if dtype.kind == "f":
        return random.normal(0, 1, shape).astype(dtype)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(dtype)
    low, high = _range(dtype)
    return random.integers(low, high, shape, endpoint=True).astype(dtype)


def _edge(edge: str, detail: dict[str, Any]) -> Array:
    dtype, shape = numpy.dtype(detail["dtype"]), tuple(detail["shape"])
    low, high = (-8.0, 8.0) if dtype.kind == "f" else (0, 1) if dtype.kind == "b" else _range(dtype)
    zero_points = detail["quantization_parameters"]["zero_points"]
    middle = int(zero_points[0]) if len(zero_points) else 0
    if edge == "alternating":
        flat = numpy.arange(int(numpy.prod(shape, dtype=numpy.int64))) % 2
        return numpy.where(flat.reshape(shape) == 1, high, low).astype(dtype)
    value = {"lowest": low, "highest": high, "zero point": middle}[edge]
    return numpy.full(shape, value, dtype)


def _range(dtype: numpy.dtype[Any]) -> tuple[int, int]:
    """What an input of this type can be; wide integers are indexes and the like, and stay small."""
    limits = numpy.iinfo(dtype)
    return (int(limits.min), int(limits.max)) if dtype.itemsize <= 2 else (0, 1)


def _by_how_much(one: Array, other: Array) -> str:
    if one.shape != other.shape:
        return f" in shape: {list(other.shape)} and not {list(one.shape)}"
    if one.dtype.kind == "b":
        return ""
    apart = numpy.abs(one.astype(numpy.float64) - other.astype(numpy.float64))
    return f" by up to {apart.max():g} in {float((one != other).mean()):.2%} of it"
