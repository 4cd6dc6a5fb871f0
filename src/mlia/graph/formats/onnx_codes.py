"""The scales of constants that an ONNX file stores as codes: what a DequantizeLinear of a constant says of its result.

TFLite's weights have a zero point of 0. Codes with another one that do not fit are rounded anew, and told.
"""

from collections.abc import Mapping
from typing import Any

import numpy
from msgspec import Struct
from msgspec.structs import replace

from mlia.graph.formats.onnx_model import Node
from mlia.graph.graph import Quantization

Array = Any
SHIFT = 128  # from uint8 to int8
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class Codes(Struct, frozen=True):
    """Scales and zero points of an int8 constant: one, or one for each place along `axis`."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int

    def quantization(self) -> Quantization | None:
        """As an operand; None where the scales are per channel."""
        return Quantization(self.scale, self.zero_point) if len(self.scale) == 1 else None

    def of_weights(self, channels: int) -> Quantization | None:
        """As weights whose output's channels are along that axis; None where the scales are along another."""
        if len(self.scale) > 1 and self.axis != channels:
            return None
        return Quantization(self.scale, (0,) * len(self.scale))


def codes_of(node: Node, arrays: list[Array], known: Mapping[str, Codes]) -> Codes | None:
    """The codes of what a node makes of constants."""
    if node.kind == "DequantizeLinear":
        stored, scale = arrays[0], arrays[1].reshape(-1)
        zero = arrays[2].reshape(-1) if len(arrays) > 2 and arrays[2] is not None else numpy.zeros(1, stored.dtype)
        if stored.dtype.name not in ("int8", "uint8") or not (scale > 0).all() or not numpy.isfinite(scale).all():
            return None
        shift = SHIFT if stored.dtype.name == "uint8" else 0
        points = numpy.broadcast_to(zero.astype(numpy.int64) - shift, scale.shape)
        axis = node.integer("axis", 1) % max(stored.ndim, 1)
        return Codes(tuple(map(float, scale)), tuple(map(int, points)), axis)
    before = known.get(node.inputs[0]) if node.inputs else None
    if before is None:
        return None
    if node.kind == "Transpose":
        order = node.integers("perm") or list(range(arrays[0].ndim))[::-1]
        return replace(before, axis=order.index(before.axis) if order else 0)
    is_same = node.kind == "Identity" or (
        node.kind in ("Reshape", "Squeeze", "Unsqueeze", "Flatten") and len(before.scale) == 1
    )
    return before if is_same else None


def weights_channels(node: Node) -> int:
    """Along which axis of an operator's weights the output's channels are."""
    if node.kind == "Gemm":
        return 0 if node.integer("transB", 0) else 1
    return 0 if node.kind == "Conv" else 1


def with_fitting_weights(
    nodes: tuple[Node, ...], constants: Mapping[str, Array], codes: Mapping[str, Codes]
) -> tuple[dict[str, Array], dict[str, Codes], list[str]]:
    """Constants and codes with all weights in int8 around 0, and which were rounded anew for that."""
    constants, codes, told = dict(constants), dict(codes), []
    for node in nodes:
        name = node.inputs[1] if len(node.inputs) > 1 else ""
        if node.kind not in _WEIGHTED or name not in codes or name not in constants:
            continue
        values, own = constants[name], codes[name]
        along = [-1 if axis == own.axis and len(own.scale) > 1 else 1 for axis in range(values.ndim)]
        steps = numpy.round(values / numpy.array(own.scale).reshape(along))
        if steps.size and steps.min() >= -128 and steps.max() <= 127:
            continue
        others = tuple(axis for axis in range(values.ndim) if along[axis] == 1)
        scale = numpy.maximum(abs(values).max(axis=others, keepdims=True).astype(numpy.float64) / 127, 1e-30)
        constants[name] = (numpy.round(values / scale) * scale).astype(numpy.float32)
        codes[name] = Codes(tuple(map(float, scale.reshape(-1))), (0,) * scale.size, own.axis)
        told.append(node.name)
    return constants, codes, told
