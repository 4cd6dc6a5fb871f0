"""MEAN, SOFTMAX and ARG_MAX over axes and sizes that an NPU does not take, on tensors of another shape."""

import math
from collections.abc import Collection

import numpy

from mlia.errors import TransformError
from mlia.graph.graph import Graph
from mlia.transforms.remedies.pieces import Pieces, each
from mlia.transforms.remedies.places import Place

_WIDEST = 4096  # of an axis that MEAN reduces
_ROWS = 65535  # of a SOFTMAX: width times height


def means_of_another_shape(graph: Graph, places: Collection[Place]) -> Graph:
    """MEAN with what it reduces as height and width, by RESHAPE, and TRANSPOSE where axes between them stay.

    Raises:
        TransformError: no such operator, or sizes that do not go.
    """
    return each(graph, places, _mean_of_another_shape)


def _mean_of_another_shape(pieces: Pieces) -> int:
    x, outer, count, inner = _gathered(pieces)
    sizes = _factors(count, outer)
    if sizes is None:
        raise TransformError(f"'{pieces.name}' reduces {count} elements, which go into no two axes of {_WIDEST}")
    if len(sizes) == 1 or sizes[0] == 1:
        x = pieces.reshape(x, (1, outer, count, inner))
        return _mean(pieces, x, (2,))
    if outer == 1:
        return _mean(pieces, pieces.reshape(x, (1, *sizes, inner)), (1, 2))
    if inner == 1 and outer <= 1 << 16 and count <= 1 << 16:
        x = pieces.transpose(pieces.reshape(x, (outer, count)), (1, 0))
        return _mean(pieces, pieces.reshape(x, (1, *sizes, outer)), (1, 2))
    raise TransformError(f"'{pieces.name}' reduces too long an axis between others")


def means_in_two_steps(graph: Graph, places: Collection[Place]) -> Graph:
    """MEAN over one part of what it reduces, and over the rest of that: rounds twice.

    Raises:
        TransformError: no such operator, or sizes that do not go.
    """
    return each(graph, places, _mean_in_two_steps)


def _mean_in_two_steps(pieces: Pieces) -> int:
    x, outer, count, inner = _gathered(pieces)
    sizes = _factors(count, outer)
    if sizes is None or len(sizes) == 1:
        raise TransformError(f"'{pieces.name}' reduces {count} elements, which go into no two axes of {_WIDEST}")
    x = pieces.reshape(x, (1, outer * sizes[0], sizes[1], inner))
    x = pieces.reshape(_mean(pieces, x, (2,)), (1, outer, sizes[0], inner))
    return _mean(pieces, x, (2,))


def _gathered(pieces: Pieces) -> tuple[int, int, int, int]:
    """The input with all axes that are reduced next to each other: sizes in front of them, of them, and behind."""
    operator = pieces.operator
    axes = pieces.network.constant(operator.inputs[1]) if operator.kind == "MEAN" else None
    if axes is None:
        raise TransformError(f"'{pieces.name}' is no MEAN over constant axes")
    x = operator.inputs[0]
    shape = pieces.shape(x)
    reduced = sorted({int(axis) % len(shape) for axis in axes.reshape(-1)})
    kept = [axis for axis in range(len(shape)) if axis not in reduced]
    front = [axis for axis in kept if axis < reduced[0]]
    order = [*front, *reduced, *(axis for axis in kept if axis > reduced[0])]
    moving = [axis for axis in order if shape[axis] != 1]
    if moving != sorted(moving):
        x = pieces.transpose(x, order)
    count = math.prod(shape[axis] for axis in reduced)
    outer = math.prod(shape[axis] for axis in front)
    return x, outer, count, math.prod(shape) // (count * outer)


def _factors(count: int, outer: int) -> tuple[int, ...] | None:
    """One or two factors of at most 4096 each, the second the largest there is."""
    if count <= _WIDEST and outer <= 1 << 16:
        return (count,)
    found = [wide for wide in range(2, _WIDEST + 1) if count % wide == 0 and count // wide <= _WIDEST]
    return (count // found[-1], found[-1]) if found else None


def _mean(pieces: Pieces, x: int, axes: tuple[int, ...]) -> int:
    shape = [1 if axis in axes else size for axis, size in enumerate(pieces.shape(x))]
    return pieces.again(pieces.operator, [x, pieces.integers("axes", axes)], shape, keep_dims=True)


def softmax_in_batches(graph: Graph, places: Collection[Place]) -> Graph:
    """SOFTMAX with its rows as several batches of fewer rows each: the same numbers.

    Raises:
        TransformError: no such operator.
    """
    return each(graph, places, _softmax_in_batches)


def _softmax_in_batches(pieces: Pieces) -> int:
    operator = pieces.operator
    if operator.kind != "SOFTMAX":
        raise TransformError(f"'{pieces.name}' is no SOFTMAX")
    *outer, depth = pieces.shape(operator.inputs[0])
    rows = math.prod(outer)
    fitting = [size for size in range(1, min(rows, _ROWS) + 1) if rows % size == 0]
    if fitting[-1] * 64 >= rows:
        shape = (rows // fitting[-1], 1, fitting[-1], depth)
        return pieces.again(operator, [pieces.reshape(operator.inputs[0], shape)], shape)
    flat = pieces.reshape(operator.inputs[0], (1, 1, rows, depth))
    parts = []
    for begin in range(0, rows, _ROWS):
        part = pieces.cut_axis(flat, 2, begin, min(_ROWS, rows - begin))
        parts.append(pieces.again(operator, [part], pieces.shape(part)))
    return pieces.join(parts, 2)


def argmax_over_depth(graph: Graph, places: Collection[Place]) -> Graph:
    """ARG_MAX over the last axis, with a TRANSPOSE in front that moves its axis there: the same numbers.

    Raises:
        TransformError: no such operator.
    """
    return each(graph, places, _argmax_over_depth)


def _argmax_over_depth(pieces: Pieces) -> int:
    operator = pieces.operator
    axis = pieces.network.constant(operator.inputs[1]) if operator.kind == "ARG_MAX" else None
    if axis is None or axis.size != 1:
        raise TransformError(f"'{pieces.name}' is no ARG_MAX over a constant axis")
    x = operator.inputs[0]
    rank = len(pieces.shape(x))
    over = int(axis.reshape(-1)[0]) % rank
    order = [*(position for position in range(rank) if position != over), over]
    x = pieces.transpose(x, order)
    last = pieces.constant("axis", numpy.array(rank - 1, numpy.int32))
    return pieces.again(operator, [x, last], pieces.shape(operator.outputs[0]))
