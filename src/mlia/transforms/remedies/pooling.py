"""Pooling whose padding, kernel or stride an NPU does not take, as pooling that it does."""

import math
from collections.abc import Collection

import numpy

from mlia.errors import TransformError
from mlia.graph.graph import Graph, OptionValue, Quantization
from mlia.transforms.remedies.pieces import SAME, VALID, Pieces, each, same_padding
from mlia.transforms.remedies.places import Place

_TALLEST, _LARGEST = 256, 256 * 256  # of a kernel: its height and its area
_MOST_PARTS = 16
_POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")


def pools_in_parts(graph: Graph, places: Collection[Place]) -> Graph:
    """A pool with SAME padding as VALID pools of the inner part and of each edge, joined: the same numbers.

    Raises:
        TransformError: no such pool, or one with too many different windows at its edges.
    """
    return each(graph, places, _pool_in_parts)


def _pool_in_parts(pieces: Pieces) -> int:
    _check(pieces, *_POOLS)
    x = pieces.operator.inputs[0]
    if pieces.operator.options.get("padding") != SAME:
        raise TransformError(f"'{pieces.name}' has no padding")
    rows, columns = (_groups(pieces, axis) for axis in (1, 2))
    if len(rows) * len(columns) > _MOST_PARTS:
        raise TransformError(f"'{pieces.name}' has {len(rows) * len(columns)} different windows")
    lines = []
    for top, tall, count, height in rows:
        line = []
        for left, wide, many, width in columns:
            batch, _, _, channels = pieces.shape(x)
            part = pieces.cut(x, (0, top, left, 0), (batch, tall, wide, channels))
            options: dict[str, OptionValue] = {"padding": VALID, "filter_height": height, "filter_width": width}
            if count == 1:
                options["stride_h"] = 1
            if many == 1:
                options["stride_w"] = 1
            line.append(pieces.again(pieces.operator, [part], (batch, count, many, channels), **options))
        lines.append(pieces.join(line, 2))
    return pieces.join(lines, 1)


def _groups(pieces: Pieces, axis: int) -> list[tuple[int, int, int, int]]:
    """Where windows of equal size begin, over how much they reach, how many they are, and their size."""
    letter, side = ("h", "height") if axis == 1 else ("w", "width")
    operator = pieces.operator
    size, made = pieces.shape(operator.inputs[0])[axis], pieces.shape(operator.outputs[0])[axis]
    kernel, stride = operator.number(f"filter_{side}", 1), operator.number(f"stride_{letter}", 1)
    front = same_padding(size, kernel, stride)[0] if operator.options.get("padding") == SAME else 0
    windows = [(max(place * stride - front, 0), min(place * stride - front + kernel, size)) for place in range(made)]
    groups: list[list[tuple[int, int]]] = []
    for window in windows:
        if groups and groups[-1][-1][1] - groups[-1][-1][0] == window[1] - window[0] == kernel:
            groups[-1].append(window)
        else:
            groups.append([window])
    return [(group[0][0], group[-1][1] - group[0][0], len(group), group[0][1] - group[0][0]) for group in groups]


def padded_max_pools(graph: Graph, places: Collection[Place]) -> Graph:
    """MAX_POOL_2D with PADV2 of the lowest value in front, and VALID: the same numbers.

    Raises:
        TransformError: no such pool.
    """
    return each(graph, places, _padded_max_pool)


def _padded_max_pool(pieces: Pieces) -> int:
    operator = pieces.operator
    _check(pieces, "MAX_POOL_2D")
    around = _around(pieces)
    x = pieces.pad(operator.inputs[0], [(0, 0), *around, (0, 0)], lowest=True)
    return pieces.again(operator, [x], pieces.shape(operator.outputs[0]), padding=VALID)


def _around(pieces: Pieces) -> list[tuple[int, int]]:
    operator = pieces.operator
    if operator.options.get("padding") != SAME:
        return [(0, 0), (0, 0)]
    height, width = pieces.shape(operator.inputs[0])[1:3]
    return [
        same_padding(height, operator.number("filter_height", 1), operator.number("stride_h", 1)),
        same_padding(width, operator.number("filter_width", 1), operator.number("stride_w", 1)),
    ]


def pools_of_another_shape(graph: Graph, places: Collection[Place]) -> Graph:
    """A pool over all rows or columns, on a tensor of another shape in which its kernel is not as tall.

    The average and the maximum of all do not depend on where they are: the same numbers.

    Raises:
        TransformError: no such pool, or no such shape.
    """
    return each(graph, places, _pool_of_another_shape)


def _pool_of_another_shape(pieces: Pieces) -> int:
    operator = pieces.operator
    _check(pieces, *_POOLS)
    x = operator.inputs[0]
    batch, height, width, channels = pieces.shape(x)
    tall, wide = operator.number("filter_height", 1), operator.number("filter_width", 1)
    made = pieces.shape(operator.outputs[0])
    all_of_it = height * width if made[1:3] == (1, 1) and (tall, wide) == (height, width) else 0
    depth = channels
    if (
        not all_of_it
        and tall == height
        and wide == 1
        and made[1:3] == (1, width)
        and operator.number("stride_w", 1) == 1
    ):
        all_of_it, depth = height, width * channels
    whole = _near_square(all_of_it)
    if not whole or all_of_it > _LARGEST:
        raise TransformError(f"'{pieces.name}' has no shape in which its kernel is not too tall")
    x = pieces.reshape(x, (batch, *whole, depth))
    options: dict[str, OptionValue] = {
        "filter_height": whole[0], "filter_width": whole[1], "stride_h": 1, "stride_w": 1, "padding": VALID,
    }  # fmt: skip
    return pieces.again(operator, [x], (batch, 1, 1, depth), **options)


def _near_square(count: int) -> tuple[int, int] | None:
    found = [tall for tall in range(2, min(math.isqrt(count), _TALLEST) + 1) if count % tall == 0]
    return (found[-1], count // found[-1]) if found else None


def max_pools_in_steps(graph: Graph, places: Collection[Place]) -> Graph:
    """MAX_POOL_2D over rows and over columns, in several steps where that is too much for one: the same numbers.

    The maximum over k1 places of maxima over k2 is the maximum over k1 + k2 - 1.

    Raises:
        TransformError: no such pool, or one with SAME padding and a stride.
    """
    return each(graph, places, _max_pool_in_steps)


def _max_pool_in_steps(pieces: Pieces) -> int:
    operator = pieces.operator
    _check(pieces, "MAX_POOL_2D")
    x = pieces.pad(operator.inputs[0], [(0, 0), *_around(pieces), (0, 0)], lowest=True)
    steps = []
    for axis, letter, side in ((1, "h", "height"), (2, "w", "width")):
        rest, stride = operator.number(f"filter_{side}", 1), operator.number(f"stride_{letter}", 1)
        while rest > _TALLEST:
            steps.append((axis, _TALLEST, 1))
            rest -= _TALLEST - 1
        steps.append((axis, rest, stride))
    for axis, kernel, stride in steps:
        if (kernel, stride) == (1, 1):
            continue
        shape = [*pieces.shape(x)]
        shape[axis] = (shape[axis] - kernel) // stride + 1
        sizes = {1: (kernel, 1, stride, 1), 2: (1, kernel, 1, stride)}[axis]
        names = ("filter_height", "filter_width", "stride_h", "stride_w")
        options: dict[str, OptionValue] = dict(zip(names, sizes, strict=True)) | {"padding": VALID}
        x = pieces.again(operator, [x], shape, **options)
    return x


def averages_by_convolution(graph: Graph, places: Collection[Place]) -> Graph:
    """AVERAGE_POOL_2D as DEPTHWISE_CONV_2D of ones, and MUL by how much of each window is inside. Rounds twice.

    Raises:
        TransformError: no such pool.
    """
    return each(graph, places, _average_by_convolution)


def _average_by_convolution(pieces: Pieces) -> int:
    operator = pieces.operator
    _check(pieces, "AVERAGE_POOL_2D")
    x, output = operator.inputs[0], pieces.tensor(operator.outputs[0])
    quantization, channels = pieces.tensor(x).quantization, pieces.shape(x)[3]
    tall, wide = operator.number("filter_height", 1), operator.number("filter_width", 1)
    if quantization is None or output.dtype not in ("int8", "int16"):
        raise TransformError(f"'{pieces.name}' is not of int8 or int16")
    ones = numpy.ones((1, tall, wide, channels), numpy.int8)
    scale = 1 / (tall * wide)
    weights = pieces.constant("weights", ones, Quantization((scale,), (0,)))
    wide_type = numpy.int64 if output.dtype == "int16" else numpy.int32
    zeros = numpy.zeros(channels, wide_type)
    bias = pieces.constant("bias", zeros, Quantization((scale * quantization.scale[0],), (0,)))
    inside = numpy.ones(output.shape[1:3])
    for axis, kernel in ((1, tall), (2, wide)):
        sizes = [size for *_, count, size in _groups(pieces, axis) for _ in range(count)]
        inside = inside * numpy.expand_dims(numpy.array(sizes) / kernel, 2 - axis)
    is_inside = bool((inside == 1).all())
    activation = operator.options.get("fused_activation_function", "NONE")
    options: dict[str, OptionValue] = {
        "padding": operator.options.get("padding"), "stride_h": operator.number("stride_h", 1),
        "stride_w": operator.number("stride_w", 1), "depth_multiplier": 1, "dilation_h_factor": 1,
        "dilation_w_factor": 1, "fused_activation_function": activation if is_inside else "NONE",
    }  # fmt: skip
    kind, table = "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions"
    sums = pieces.piece(kind, [x, weights, bias], output.shape, table, options, output)
    if is_inside:
        return sums
    factors = 1 / inside
    step = float(factors.max()) / 127
    codes = numpy.rint(factors / step).astype(numpy.int8 if output.dtype == "int8" else numpy.int16)
    factor = pieces.constant("factor", codes.reshape(1, *codes.shape, 1), Quantization((step,), (0,)))
    return pieces.piece(
        "MUL", [sums, factor], output.shape, "MulOptions", {"fused_activation_function": "NONE"}, output
    )


def _check(pieces: Pieces, *kinds: str) -> None:
    operator = pieces.operator
    if operator.kind not in kinds or len(pieces.shape(operator.inputs[0])) != 4:
        raise TransformError(f"'{pieces.name}' is no {' or '.join(kinds)}")
    if operator.kind == "MAX_POOL_2D" and not pieces.tensor(operator.inputs[0]).dtype.startswith(("int", "uint")):
        raise TransformError(f"'{pieces.name}' is not of integers")
