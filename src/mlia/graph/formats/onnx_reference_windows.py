"""ONNX's convolutions, pools and resizes in numpy, in the file's own layout (N, C, spatial axes).

Source: https://onnx.ai/onnx/operators/
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy

from mlia.graph.formats.onnx_model import Node
from mlia.graph.formats.onnx_windows import Windows, resizings_of, transposed_windows_of, windows_of

Array = Any


def conv(node: Node, x: Array, w: Array, bias: Array = None) -> Array:
    """Conv."""
    places = windows_of(node, x.shape[2:], w.shape[2:])
    groups = node.integer("group", 1)
    filters, depth = w.shape[:2]
    if groups < 1 or filters % groups or x.shape[1] != depth * groups:
        node.refuse(f"its weights {w.shape} do not fit {x.shape[1]} channels in {groups} groups")
    padded = _padded(x, places, 0)
    y = numpy.zeros((x.shape[0], groups, filters // groups, int(numpy.prod(places.output))), numpy.float32)
    weights = w.reshape(groups, filters // groups, depth, *w.shape[2:])
    for offset, taken in _taps(padded, places):
        part = taken.reshape(x.shape[0], groups, depth, -1)
        y += numpy.matmul(weights[(..., *offset)], part)
    y = y.reshape(x.shape[0], filters, *places.output)
    return y if bias is None else y + bias.reshape(-1, *[1] * (x.ndim - 2))


def conv_transpose(node: Node, x: Array, w: Array, bias: Array = None) -> Array:
    """ConvTranspose. Weights: (C, filters / groups, …)."""
    places = transposed_windows_of(node, x.shape[2:], w.shape[2:])
    groups = node.integer("group", 1)
    batch, channels, *sizes = x.shape
    filters = w.shape[1] * groups
    if groups < 1 or channels % groups or w.shape[0] != channels:
        node.refuse(f"its weights {w.shape} do not fit {channels} channels in {groups} groups")
    full = [
        (n - 1) * s + (k - 1) * d + 1
        for n, s, k, d in zip(sizes, places.stride, places.kernel, places.dilation, strict=True)
    ]
    room = [max(f, o + b) for f, o, b in zip(full, places.output, places.before, strict=True)]
    y = numpy.zeros((batch, filters, *room), numpy.float32)
    weights = w.reshape(groups, channels // groups, w.shape[1], *w.shape[2:])
    grouped = x.reshape(batch, groups, channels // groups, -1)
    for offset in product(*map(range, places.kernel)):
        part = numpy.matmul(numpy.swapaxes(weights[(..., *offset)], 1, 2), grouped)
        where = tuple(
            slice(o * d, o * d + (n - 1) * s + 1, s)
            for o, d, n, s in zip(offset, places.dilation, sizes, places.stride, strict=True)
        )
        y[(slice(None), slice(None), *where)] += part.reshape(batch, filters, *sizes)
    if min(places.before) < 0:
        node.refuse("it pads its output in front")
    cut = tuple(slice(b, b + o) for b, o in zip(places.before, places.output, strict=True))
    y = y[(slice(None), slice(None), *cut)]
    return y if bias is None else y + bias.reshape(-1, *[1] * (x.ndim - 2))


def max_pool(node: Node, x: Array) -> Array:
    """MaxPool."""
    if node.integer("storage_order", 0) or len(node.outputs) > 1:
        node.refuse("it also gives the places of the maxima")
    places = windows_of(node, x.shape[2:], ())
    lowest = -numpy.inf if x.dtype.kind == "f" else numpy.iinfo(x.dtype).min
    y = numpy.full((*x.shape[:2], *places.output), lowest, x.dtype)
    for _, taken in _taps(_padded(x, places, lowest), places):
        numpy.maximum(y, taken, out=y)
    return y


def average_pool(node: Node, x: Array) -> Array:
    """AveragePool."""
    places = windows_of(node, x.shape[2:], ())
    y = numpy.zeros((*x.shape[:2], *places.output), numpy.float32)
    for _, taken in _taps(_padded(x, places, 0), places):
        y += taken
    return (y / counts(node, places, x.shape[2:])).astype(numpy.float32)


def counts(node: Node, places: Windows, sizes: Sequence[int]) -> Array:
    """Of how many values each average of an AveragePool is, as (spatial axes)."""
    counted = numpy.ones(sizes)
    if node.integer("count_include_pad", 0):
        counted = numpy.pad(counted, list(zip(places.before, places.behind, strict=True)), constant_values=1)
        places = Windows(
            places.kernel, places.stride, places.dilation, (0,) * len(sizes), (0,) * len(sizes), places.output
        )
    total = numpy.zeros(places.output)
    for _, taken in _taps(_padded(counted[None, None], places, 0), places):
        total += taken[0, 0]
    return numpy.maximum(total, 1)


def global_pool(kind: str) -> Any:
    """GlobalAveragePool and GlobalMaxPool."""

    def pool(node: Node, x: Array) -> Array:
        axes = tuple(range(2, x.ndim))
        return x.mean(axes, keepdims=True) if kind == "mean" else x.max(axes, keepdims=True)

    return pool


def resize(node: Node, x: Array, *further: Array) -> Array:
    """Resize and Upsample."""
    y = x
    for axis, each in enumerate(resizings(node, x.shape, further)):
        if not each.is_identity:
            y = numpy.moveaxis(numpy.tensordot(y, each.weights, (axis, 1)), -1, axis)
    return y.astype(x.dtype)


def resizings(node: Node, shape: Sequence[int], further: Sequence[Array]) -> Any:
    """What a Resize does, from its inputs: scales (until version 10), or roi, scales, sizes."""
    if node.kind == "Upsample" and not further:
        return resizings_of(node, shape, node._of("scales", list, ()), ())
    if len(further) == 1:
        return resizings_of(node, shape, further[0].tolist(), ())
    scales = further[1] if further[1] is not None else numpy.zeros(0)
    sizes = further[2].tolist() if len(further) > 2 and further[2] is not None else []
    return resizings_of(node, shape, () if sizes else scales.tolist(), sizes)


def lrn(node: Node, x: Array) -> Array:
    """LRN: over neighboring channels."""
    size = node.integer("size", 1)
    padded = numpy.pad(x * x, [(0, 0), ((size - 1) // 2, size // 2)] + [(0, 0)] * (x.ndim - 2))
    total = sum(padded[:, i : i + x.shape[1]] for i in range(size))
    scale = node.number("bias", 1.0) + node.number("alpha", 1e-4) / size * total
    return x / scale ** numpy.float32(node.number("beta", 0.75))


def depth_to_space(node: Node, x: Array) -> Array:
    """DepthToSpace."""
    batch, channels, height, width = x.shape
    block = node.integer("blocksize", 1)
    depth = channels // block**2
    if node.text("mode", "DCR") == "DCR":
        y = x.reshape(batch, block, block, depth, height, width).transpose(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(batch, depth, block, block, height, width).transpose(0, 1, 4, 2, 5, 3)
    return y.reshape(batch, depth, height * block, width * block)


def space_to_depth(node: Node, x: Array) -> Array:
    """SpaceToDepth."""
    if node.text("mode", "DCR") != "DCR":
        node.refuse(f"its mode is {node.text('mode', '')}")
    batch, channels, height, width = x.shape
    block = node.integer("blocksize", 1)
    y = x.reshape(batch, channels, height // block, block, width // block, block).transpose(0, 3, 5, 1, 2, 4)
    return y.reshape(batch, channels * block**2, height // block, width // block)


def _padded(x: Array, places: Windows, value: float) -> Array:
    sizes = x.shape[2:]
    amounts = [(b, max(places.reach(axis, sizes[axis]), 0)) for axis, b in enumerate(places.before)]
    return numpy.pad(x, [(0, 0), (0, 0), *amounts], constant_values=value)


def _taps(padded: Array, places: Windows) -> Iterator[tuple[tuple[int, ...], Array]]:
    """For each place in the kernel, what all windows see there."""
    for offset in product(*map(range, places.kernel)):
        where = tuple(
            slice(o * d, o * d + (n - 1) * s + 1, s)
            for o, d, n, s in zip(offset, places.dilation, places.output, places.stride, strict=True)
        )
        yield offset, padded[(slice(None), slice(None), *where)]


WINDOWS = {
    "Conv": conv, "ConvTranspose": conv_transpose, "MaxPool": max_pool, "AveragePool": average_pool,
    "GlobalAveragePool": global_pool("mean"), "GlobalMaxPool": global_pool("max"), "Resize": resize,
    "Upsample": resize, "LRN": lrn, "DepthToSpace": depth_to_space, "SpaceToDepth": space_to_depth,
}  # fmt: skip
