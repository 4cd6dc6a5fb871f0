"""Whether two TFLite models compute the same, bit by bit, found by running both.

prove() runs in our child process, because it runs LiteRT.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy

from mlia.errors import TransformError
from mlia.graph.graph import Tensor
from mlia.graph.tflite import read_tflite
from mlia.transforms.calibration import Array
from mlia.transforms.interpreter import ReferenceModel
from mlia.transforms.noise import Noise


def prove(before: bytes, after: bytes, seed: int = 0) -> str:
    """Why two models do not compute the same; empty when all bits of all outputs are equal.

    Both run by LiteRT's reference kernels, because optimized ones may round by position in memory. An
    input that is left open has the size 1 there.

    Raises:
        TransformError: LiteRT cannot run the model as it was.
    """
    samples = Noise(_inputs(before), seed)
    old = ReferenceModel(before)
    expected = _runs(old, samples)
    try:
        new = ReferenceModel(after)
        if objection := _other_ends(old, new):
            return objection
        found = _runs(new, samples)
    except TransformError as refusal:
        return str(refusal)
    for theirs, ours in zip(expected, found, strict=True):
        for detail, one, other in zip(old.outputs, theirs, ours, strict=True):
            if one.shape != other.shape or one.tobytes() != other.tobytes():
                return f"'{detail['name']}' differs{_by_how_much(one, other)}"
    return ""


def _inputs(content: bytes) -> list[Tensor]:
    main = read_tflite(content).main
    return [main.tensors[index] for index in main.inputs]


def _runs(model: ReferenceModel, samples: Iterable[Sequence[Array]]) -> list[list[Array]]:
    """The outputs for each sample, one after the other, so that what a model remembers is compared as well."""
    return [model.run(sample) for sample in samples]


def _other_ends(old: ReferenceModel, new: ReferenceModel) -> str:
    """Whether inputs or outputs are not what they were."""
    for what, before, after in (("inputs", old.inputs, new.inputs), ("outputs", old.outputs, new.outputs)):
        if [_end(detail) for detail in before] != [_end(detail) for detail in after]:
            return f"its {what} are not what they were"
    return ""


def _end(detail: dict[str, Any]) -> tuple[Any, ...]:
    scales, zero_points = (detail["quantization_parameters"][key].tolist() for key in ("scales", "zero_points"))
    return tuple(detail["shape"].tolist()), numpy.dtype(detail["dtype"]), scales, zero_points


def _by_how_much(one: Array, other: Array) -> str:
    if one.shape != other.shape:
        return f" in shape: {list(other.shape)} and not {list(one.shape)}"
    if one.dtype.kind == "b":
        return ""
    apart = numpy.abs(one.astype(numpy.float64) - other.astype(numpy.float64))
    return f" by up to {apart.max():g} in {float((one != other).mean()):.2%} of it"
