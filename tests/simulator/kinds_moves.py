"""Single operators that move numbers: cut, join, pad, turn, resize."""

import numpy as np

from mlia.graph.graph import Quantization
from tests.simulator.sketch import OperatorSketch


def _pairs(net: OperatorSketch, name: str, pairs: list[tuple[int, int]]) -> int:
    return net.constant(name, np.array(pairs, np.int32))


def joined(net: OperatorSketch, axis: int) -> list[int]:
    """CONCATENATION."""
    shape = list(net.image_shape(1, 8))
    same = net.quantization()
    parts = []
    for _ in range(net.size(2, 4)):
        shape[axis] = net.choose(1, 3, 8, 16, 20) if axis == 3 else net.size(1, 5)
        parts.append(net.x(shape, same))
    shape[axis] = sum(net.shape(part)[axis] for part in parts)
    options = {"axis": axis if net.chance() else axis - 4, "fused_activation_function": "NONE"}
    return [net.one("CONCATENATION", parts, shape, same, "ConcatenationOptions", **options)]


def split(net: OperatorSketch) -> list[int]:
    axis, count = net.size(1, 3), net.size(2, 4)
    shape = list(net.image_shape(1, 6))
    part = list(shape)
    shape[axis] *= count
    inputs = [net.integers("axis", axis), net.x(shape)]
    return net.several("SPLIT", inputs, [part] * count, "SplitOptions", num_splits=count)


def split_unevenly(net: OperatorSketch) -> list[int]:
    axis = net.size(1, 3)
    shape = list(net.image_shape(1, 6))
    sizes = [net.size(1, 9) for _ in range(net.size(2, 4))]
    shape[axis] = sum(sizes)
    shapes = [[size if i == axis else whole for i, whole in enumerate(shape)] for size in sizes]
    inputs = [net.x(shape), net.integers("sizes", *sizes), net.integers("axis", axis)]
    return net.several("SPLIT_V", inputs, shapes, "SplitVOptions", num_splits=len(sizes))


def packed(net: OperatorSketch) -> list[int]:
    shape, count = net.any_shape(), net.size(2, 4)
    axis = net.size(0, len(shape))
    same = net.quantization()
    parts = [net.x(shape, same) for _ in range(count)]
    whole = (*shape[:axis], count, *shape[axis:])
    return [net.one("PACK", parts, whole, same, "PackOptions", values_count=count, axis=axis)]


def unpacked(net: OperatorSketch) -> list[int]:
    shape, count = net.any_shape(), net.size(2, 4)
    axis = net.size(0, len(shape))
    x = net.x((*shape[:axis], count, *shape[axis:]))
    return net.several("UNPACK", [x], [shape] * count, "UnpackOptions", num=count, axis=axis)


def sliced(net: OperatorSketch) -> list[int]:
    shape = net.image_shape(2, 12)
    begin = [0, *(net.size(0, size - 1) for size in shape[1:])]
    size = [1, *(net.size(1, whole - first) for whole, first in zip(shape[1:], begin[1:], strict=True))]
    inputs = [net.x(shape), net.integers("begin", *begin), net.integers("size", *size)]
    return [net.one("SLICE", inputs, size, None, "SliceOptions")]


def sliced_by_steps(net: OperatorSketch) -> list[int]:
    """STRIDED_SLICE: steps over height and width."""
    shape = net.image_shape(3, 12)
    step = [1, net.size(1, 3), net.size(1, 3), 1]
    begin = [0, *(net.size(0, size // 2) for size in shape[1:3]), net.size(0, shape[3] - 1)]
    end = [1, *(net.size(first + 1, size) for size, first in zip(shape[1:], begin[1:], strict=True))]
    size = [-(-(last - first) // by) for first, last, by in zip(begin, end, step, strict=True)]
    inputs = [net.x(shape)]
    inputs += [net.integers(name, *values) for name, values in (("begin", begin), ("end", end), ("step", step))]
    masks = dict.fromkeys(("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"), 0)
    return [net.one("STRIDED_SLICE", inputs, size, None, "StridedSliceOptions", **masks)]


def padded(net: OperatorSketch, kind: str) -> list[int]:
    """PAD, PADV2 or MIRROR_PAD."""
    shape = net.image_shape(3, 10)
    # Vela 5.2 does not mirror channels as LiteRT does (mlia.simulator.differences).
    channels = net.choose((0, 0), (0, 0), (1, 2)) if kind != "MIRROR_PAD" else (0, 0)
    pads = [(0, 0), (net.size(0, 2), net.size(0, 2)), (net.size(0, 2), net.size(0, 2)), channels]
    size = [whole + sum(pad) for whole, pad in zip(shape, pads, strict=True)]
    x = net.x(shape)
    inputs = [x, _pairs(net, "pads", pads)]
    if kind == "PADV2":
        inputs.append(net.numbers((), net.quantization_of(x), name="value"))
    table = {"PAD": "PadOptions", "PADV2": "PadV2Options", "MIRROR_PAD": "MirrorPadOptions"}[kind]
    options = {"mode": net.choose("REFLECT", "SYMMETRIC")} if kind == "MIRROR_PAD" else {}
    return [net.one(kind, inputs, size, None, table, **options)]


def padded_for_filter(net: OperatorSketch) -> list[int]:
    """PAD before a convolution, which the compiler takes together."""
    _, height, width, channels = net.image_shape(3, 10)
    x = net.x((1, height, width, channels))
    padded = net.one(
        "PAD",
        [x, _pairs(net, "pads", [(0, 0), (1, 1), (1, 1), (0, 0)])],
        (1, height + 2, width + 2, channels),
        None,
        "PadOptions",
    )
    w, b, out = net.weights_and_bias(x, (8, 3, 3, channels), 0, 9 * channels)
    options = {
        "padding": "VALID", "stride_h": 1, "stride_w": 1, "dilation_h_factor": 1, "dilation_w_factor": 1,
        "fused_activation_function": "NONE",
    }  # fmt: skip
    return [net.one("CONV_2D", [padded, w, b], (1, height, width, 8), out, "Conv2DOptions", **options)]


def reshaped(net: OperatorSketch, kind: str) -> list[int]:
    """RESHAPE, SQUEEZE or EXPAND_DIMS, between operators that compute (alone it is a copy)."""
    _, height, width, channels = net.image_shape()
    wide = (1, height, 1, width * channels) if kind == "SQUEEZE" else (1, height, width * channels)
    x = net.x(wide)
    if kind == "RESHAPE":
        size: tuple[int, ...] = (1, height, width, channels)
        made = net.one(kind, [x, net.integers("shape", *size)], size, None, "ReshapeOptions", new_shape=size)
    elif kind == "SQUEEZE":
        size = (1, height, width * channels)
        made = net.one(kind, [x], size, None, "SqueezeOptions", squeeze_dims=(2,))
    else:
        size = (1, height, 1, width * channels)
        made = net.one(kind, [x, net.integers("axis", 2)], size, None, "ExpandDimsOptions")
    return [made]


def turned(net: OperatorSketch) -> list[int]:
    """TRANSPOSE of three or four dimensions."""
    shape: tuple[int, ...] = net.image_shape()
    order = [0, *(1 + int(i) for i in net.random.permutation(3))]
    if net.chance(0.2):
        shape, order = shape[1:], [i - 1 for i in order[1:]]
    inputs = [net.x(shape), net.integers("order", *order)]
    return [net.one("TRANSPOSE", inputs, [shape[i] for i in order], None, "TransposeOptions")]


def tiled(net: OperatorSketch) -> list[int]:
    shape = net.image_shape(1, 6)
    times = [1, net.size(1, 3), net.size(1, 3), net.size(1, 2)]
    size = [whole * by for whole, by in zip(shape, times, strict=True)]
    return [net.one("TILE", [net.x(shape), net.integers("times", *times)], size, None, "TileOptions")]


def reversed_along(net: OperatorSketch) -> list[int]:
    shape = net.image_shape()
    return [
        net.one("REVERSE_V2", [net.x(shape), net.integers("axis", net.size(1, 3))], shape, None, "ReverseV2Options")
    ]


def resized(net: OperatorSketch, kind: str) -> list[int]:
    """RESIZE_BILINEAR or RESIZE_NEAREST_NEIGHBOR to two, four or eight times the size."""
    _, height, width, channels = net.image_shape(1, 6)
    factor, mode = net.choose(2, 2, 4, 8), net.choose("", "", "half", "align")
    factor = 2 if mode == "half" and kind == "RESIZE_BILINEAR" else factor
    size = (height * factor, width * factor)
    if mode == "align":
        size = ((height - 1) * factor + 1, (width - 1) * factor + 1)
    inputs = [net.x((1, height, width, channels)), net.integers("size", *size)]
    table = "ResizeBilinearOptions" if kind == "RESIZE_BILINEAR" else "ResizeNearestNeighborOptions"
    options = {"align_corners": mode == "align", "half_pixel_centers": mode == "half"}
    return [net.one(kind, inputs, (1, *size, channels), None, table, **options)]


def gathered(net: OperatorSketch) -> list[int]:
    rows, columns, count = net.size(2, 12), net.depth(), net.size(1, 9)
    x = net.x((rows, columns))
    indexes = net.constant("indexes", net.random.integers(0, rows, count).astype(np.int32))
    return [net.one("GATHER", [x, indexes], (count, columns), None, "GatherOptions", axis=0, batch_dims=0)]


def scattered(net: OperatorSketch) -> list[int]:
    rows, columns = net.size(3, 12), net.depth()
    count = net.size(1, rows)
    where = net.random.permutation(rows)[:count].reshape(count, 1).astype(np.int32)
    x = net.x((count, columns), Quantization((1.0,), (0,)))
    inputs = [net.constant("where", where), x, net.integers("shape", rows, columns)]
    like = net.quantization_of(x)
    return [net.one("SCATTER_ND", inputs, (rows, columns), like, "ScatterNdOptions", net.dtype)]
