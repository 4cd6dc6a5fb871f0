"""ONNX's operators that move elements, make constants, or quantize, in numpy.

Source: https://onnx.ai/onnx/operators/
"""

from typing import Any

import numpy

from mlia.graph.formats.onnx_model import _TYPES, MOST_ELEMENTS, Node
from mlia.graph.formats.onnx_reference_arithmetic import elements, numbers

Array = Any


def bounded(node: Node, shape: Any) -> tuple[int, ...]:
    """The shape, if a constant may have it."""
    sizes = tuple(int(size) for size in shape)
    if min(sizes, default=1) < 0 or elements(sizes) > MOST_ELEMENTS:
        node.refuse(f"its output would have the shape {sizes}")
    return sizes


def constant(node: Node) -> Array:
    """Constant."""
    for key, dtype in (
        ("value", None),
        ("value_float", "f4"),
        ("value_floats", "f4"),
        ("value_int", "i8"),
        ("value_ints", "i8"),
    ):
        if key in node.attributes:
            value = node.attributes[key]
            return value if dtype is None and isinstance(value, numpy.ndarray) else numpy.array(value, dtype)
    return node.refuse("it is no tensor of numbers")


def constant_of_shape(node: Node, shape: Array) -> Array:
    """ConstantOfShape."""
    value = node.attributes.get("value", numpy.zeros(1, numpy.float32))
    return numpy.full(bounded(node, shape.tolist()), value.reshape(-1)[0], value.dtype)


def reshaped(node: Node, x: Array, shape: Array = None) -> Array:
    """Reshape."""
    target = numbers(node, "shape", shape) or []
    if not node.integer("allowzero", 0):
        target = [size if size else x.shape[axis] for axis, size in enumerate(target)]
    return x.reshape(target)


def flatten(node: Node, x: Array) -> Array:
    """Flatten."""
    axis = node.integer("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(elements(x.shape[:axis]), -1) if x.size else x


def squeeze(node: Node, x: Array, axes: Array = None) -> Array:
    """Squeeze."""
    along = numbers(node, "axes", axes)
    return numpy.squeeze(x, tuple(along) if along is not None else None)


def unsqueeze(node: Node, x: Array, axes: Array = None) -> Array:
    """Unsqueeze."""
    return numpy.expand_dims(x, tuple(numbers(node, "axes", axes) or []))


def transpose(node: Node, x: Array) -> Array:
    """Transpose."""
    return x.transpose(node.integers("perm") or range(x.ndim)[::-1])


def slices(node: Node, shape: tuple[int, ...], *given: Array) -> list[tuple[int, int, int]]:
    """Begin, end and step for each axis; the end of a slice that runs backwards to the first place is -1."""
    starts, ends, axes, steps = (
        numbers(node, key, given[place] if len(given) > place else None)
        for place, key in enumerate(("starts", "ends", "axes", "steps"))
    )
    if starts is None or ends is None:
        node.refuse("it does not say where it begins and ends")
    axes = axes if axes is not None else list(range(len(starts)))
    found = [(0, size, 1) for size in shape]
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(starts), strict=True):
        found[axis] = slice(start, end if step > 0 or end >= -shape[axis] else None, step).indices(shape[axis])
    return found


def sliced(node: Node, x: Array, *given: Array) -> Array:
    """Slice."""
    parts = slices(node, x.shape, *given)
    return x[tuple(slice(b, e if e >= 0 else None, s) for b, e, s in parts)]


def split_sizes(node: Node, size: int, given: Array = None) -> list[int]:
    """How an axis is split; without sizes into as many parts as there are outputs, of which the last may be smaller."""
    sizes = numbers(node, "split", given)
    if sizes is None:
        part = -(-size // len(node.outputs))
        sizes = [min(part, size - i * part) for i in range(len(node.outputs))]
    if sum(sizes) != size or len(sizes) != len(node.outputs) or min(sizes) < 0:
        node.refuse(f"it splits {size} into {sizes}")
    return sizes


def split(node: Node, x: Array, given: Array = None) -> Any:
    """Split."""
    axis = node.integer("axis", 0)
    return numpy.split(x, numpy.cumsum(split_sizes(node, x.shape[axis], given))[:-1], axis)


def padding(
    node: Node, rank: int, pads: Array = None, value: Array = None, axes: Array = None
) -> tuple[list[tuple[int, int]], float]:
    """(before, behind) for each axis, and what with."""
    amounts = numbers(node, "pads" if "pads" in node.attributes else "paddings", pads)
    along = [axis % rank for axis in numbers(node, "axes", axes) or range(rank)]
    if amounts is None or len(amounts) != 2 * len(along):
        node.refuse(f"its pads are {amounts}")
    pairs = [(0, 0)] * rank
    for place, axis in enumerate(along):
        pairs[axis] = (amounts[place], amounts[place + len(along)])
    with_value = node.number("value", 0.0) if value is None or not value.size else value.reshape(-1)[0]
    return pairs, float(with_value)


def pad(node: Node, x: Array, *given: Array) -> Array:
    """Pad."""
    pairs, value = padding(node, x.ndim, *given)
    grown = [(max(a, 0), max(b, 0)) for a, b in pairs]
    bounded(node, [size + a + b for size, (a, b) in zip(x.shape, grown, strict=True)])
    mode = node.text("mode", "constant")
    options = {"constant_values": value} if mode == "constant" else {}
    if mode not in ("constant", "reflect", "edge", "wrap"):
        node.refuse(f"its mode is {mode}")
    y = numpy.pad(x, grown, mode, **options)  # type: ignore[call-overload]
    return y[tuple(slice(max(-a, 0), size - max(-b, 0)) for size, (a, b) in zip(y.shape, pairs, strict=True))]


def expand(node: Node, x: Array, shape: Array) -> Array:
    """Expand."""
    target = bounded(node, numpy.broadcast_shapes(x.shape, tuple(shape.tolist())))
    return numpy.ascontiguousarray(numpy.broadcast_to(x, target))


def tile(node: Node, x: Array, repeats: Array) -> Array:
    """Tile."""
    bounded(node, [size * times for size, times in zip(x.shape, repeats.tolist(), strict=True)])
    return numpy.tile(x, repeats.tolist())


def gather(node: Node, x: Array, places: Array) -> Array:
    """Gather."""
    return numpy.take(x, places, node.integer("axis", 0))


def gather_elements(node: Node, x: Array, places: Array) -> Array:
    """GatherElements."""
    return numpy.take_along_axis(x, places, node.integer("axis", 0))


def gather_nd(node: Node, x: Array, places: Array) -> Array:
    """GatherND."""
    if node.integer("batch_dims", 0):
        node.refuse("it gathers per batch")
    return x[tuple(numpy.moveaxis(places, -1, 0))]


def scatter_nd(node: Node, x: Array, places: Array, updates: Array) -> Array:
    """ScatterND."""
    if node.text("reduction", "none") != "none":
        node.refuse(f"its reduction is {node.text('reduction', '')}")
    y = x.copy()
    y[tuple(numpy.moveaxis(places, -1, 0))] = updates
    return y


def cast(node: Node, x: Array, like: Array = None) -> Array:
    """Cast and CastLike."""
    dtype = cast_type(node) if like is None else like.dtype.name
    with numpy.errstate(invalid="ignore"):
        return x.astype(dtype)


def cast_type(node: Node) -> str:
    """What a Cast makes; floats of all sizes are float32 here."""
    name = _TYPES.get(node.integer("to", 0), "unknown")
    if name in ("string", "unknown", "uint4", "int4"):
        node.refuse(f"it casts to {name}")
    return "float32" if name in ("float16", "float64", "bfloat16") else name


def shape_of(node: Node, x: Array) -> Array:
    """Shape."""
    sizes = x.shape[slice(node.integer("start", 0), node.integer("end", x.ndim) if "end" in node.attributes else None)]
    return numpy.array(sizes, numpy.int64)


def count_up(node: Node, start: Array, limit: Array, step: Array) -> Array:
    """Range."""
    length = int(numpy.ceil((limit.reshape(-1)[0] - start.reshape(-1)[0]) / step.reshape(-1)[0]))
    bounded(node, [max(length, 0)])
    return (start + numpy.arange(max(length, 0)) * step).astype(start.dtype).reshape(-1)


def one_hot(node: Node, places: Array, depth: Array, values: Array) -> Array:
    """OneHot."""
    count = int(depth.reshape(-1)[0])
    bounded(node, [*places.shape, count])
    inside = (places >= -count) & (places < count)
    hot = ((places[..., None] % count) == numpy.arange(count)) & inside[..., None]
    return numpy.moveaxis(numpy.where(hot, values[1], values[0]), -1, node.integer("axis", -1))


def dropout(node: Node, x: Array, ratio: Array = None, training: Array = None) -> Any:
    """Dropout, which does nothing outside of training."""
    if training is not None and training.any():
        node.refuse("it drops values as in training")
    return (x, numpy.ones(x.shape, bool)) if len(node.outputs) > 1 else x


def trilu(node: Node, x: Array, k: Array = None) -> Array:
    """Trilu."""
    diagonal = int(k.reshape(-1)[0]) if k is not None else 0
    return numpy.triu(x, diagonal) if node.integer("upper", 1) else numpy.tril(x, diagonal)


def _along(node: Node, figures: Array, x: Array) -> Array:
    if figures.size == 1:
        return figures.reshape(())
    axis = node.integer("axis", 1) % x.ndim
    if figures.ndim != 1 or len(figures) != x.shape[axis]:
        node.refuse("it quantizes in blocks")
    return figures.reshape([-1 if i == axis else 1 for i in range(x.ndim)])


def quantize(node: Node, x: Array, scale: Array, zero: Array = None) -> Array:
    """QuantizeLinear."""
    zero = numpy.zeros(1, numpy.uint8) if zero is None else zero
    limits = numpy.iinfo(zero.dtype)
    codes = numpy.round(x / _along(node, scale, x)) + _along(node, zero, x).astype(numpy.int64)
    return numpy.clip(codes, limits.min, limits.max).astype(zero.dtype)


def dequantize(node: Node, x: Array, scale: Array, zero: Array = None) -> Array:
    """DequantizeLinear."""
    shift = 0 if zero is None else _along(node, zero, x).astype(numpy.int64)
    return ((x.astype(numpy.int64) - shift) * _along(node, scale, x)).astype(numpy.float32)


SHAPES: dict[str, Any] = {
    "Constant": constant, "ConstantOfShape": constant_of_shape, "Reshape": reshaped, "Flatten": flatten,
    "Squeeze": squeeze, "Unsqueeze": unsqueeze, "Transpose": transpose, "Slice": sliced, "Split": split, "Pad": pad,
    "Expand": expand, "Tile": tile, "Gather": gather, "GatherElements": gather_elements, "GatherND": gather_nd,
    "ScatterND": scatter_nd, "Cast": cast, "CastLike": cast, "Shape": shape_of,
    "Size": lambda node, x: numpy.array(x.size, numpy.int64), "Range": count_up, "OneHot": one_hot,
    "Concat": lambda node, *arrays: numpy.concatenate(arrays, node.integer("axis", 1)),
    "Where": lambda node, c, x, y: numpy.where(c, x, y), "Identity": lambda node, x: x, "Dropout": dropout,
    "Trilu": trilu, "QuantizeLinear": quantize, "DequantizeLinear": dequantize,
}  # fmt: skip
