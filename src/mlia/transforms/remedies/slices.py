"""STRIDED_SLICE and REVERSE_V2 of any axis and direction, in forms that an NPU takes."""

import math
from collections.abc import Collection

from mlia.errors import TransformError
from mlia.graph.graph import Graph
from mlia.transforms.remedies.pieces import Pieces, each
from mlia.transforms.remedies.places import Place


def forward_slices(graph: Graph, places: Collection[Place]) -> Graph:
    """STRIDED_SLICE as SLICE, and for each axis with a stride one over the width of a tensor of another shape.

    Raises:
        TransformError: no such operator, or begins, ends or strides that are not constant.
    """
    return each(graph, places, _forward_slice)


def _forward_slice(pieces: Pieces) -> int:
    operator = pieces.operator
    if operator.kind != "STRIDED_SLICE" or len(operator.inputs) < 4:
        raise TransformError(f"'{pieces.name}' is no STRIDED_SLICE")
    if operator.number("ellipsis_mask") or operator.number("new_axis_mask"):
        raise TransformError(f"'{pieces.name}' adds axes")
    x = operator.inputs[0]
    shape = pieces.shape(x)
    limits: list[list[int]] = []
    for index in operator.inputs[1:4]:
        values = pieces.network.constant(index)
        if values is None or values.size != len(shape):
            raise TransformError(f"begins, ends or strides of '{pieces.name}' are not constant")
        limits.append([int(value) for value in values.reshape(-1)])
    for axis, size in enumerate(shape):
        taken = _taken(size, [bounds[axis] for bounds in limits], axis, pieces)
        if not taken:
            raise TransformError(f"'{pieces.name}' takes nothing")
        low, high = min(taken[0], taken[-1]), max(taken[0], taken[-1])
        x = pieces.cut_axis(x, axis, low, high - low + 1)
        if taken[0] > taken[-1]:
            x = _reversed(pieces, x, axis)
        x = _every(pieces, x, axis, abs(taken.step))
    return x


def _taken(size: int, bounds: list[int], axis: int, pieces: Pieces) -> range:
    """The positions along one axis, as TFLite takes them."""
    begin, end, step = bounds
    operator = pieces.operator
    if step == 0:
        raise TransformError(f"'{pieces.name}' has a stride of 0")
    if operator.number("shrink_axis_mask") >> axis & 1:
        first = begin + size if begin < 0 else begin
        return range(first, first + 1)
    return range(size)[
        slice(
            None if operator.number("begin_mask") >> axis & 1 else begin,
            None if operator.number("end_mask") >> axis & 1 else end,
            step,
        )
    ]


def _every(pieces: Pieces, x: int, axis: int, step: int) -> int:
    """Each `step`-th element along an axis, which is the width meanwhile."""
    if step == 1:
        return x
    shape = pieces.shape(x)
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    x = pieces.every(pieces.reshape(x, (1, outer, shape[axis], inner)), 2, 0, step)
    return pieces.reshape(x, (*shape[:axis], pieces.shape(x)[2], *shape[axis + 1 :]))


def mirrored(graph: Graph, places: Collection[Place]) -> Graph:
    """REVERSE_V2 as MIRROR_PAD by the whole size, and SLICE of what that added.

    Raises:
        TransformError: no such operator, or axes that are not constant.
    """
    return each(graph, places, _mirrored)


def _mirrored(pieces: Pieces) -> int:
    operator = pieces.operator
    axes = pieces.network.constant(operator.inputs[1]) if operator.kind == "REVERSE_V2" else None
    if axes is None:
        raise TransformError(f"'{pieces.name}' is no REVERSE_V2 of constant axes")
    x = operator.inputs[0]
    rank = len(pieces.shape(x))
    for axis in axes.reshape(-1):
        x = _reversed(pieces, x, int(axis) % rank)
    return x


def _reversed(pieces: Pieces, x: int, axis: int) -> int:
    """The axis backwards."""
    shape = pieces.shape(x)
    if shape[axis] == 1:
        return x
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    flat = pieces.reshape(x, (1, outer, shape[axis], inner))
    both = pieces.mirror(flat, [(0, 0), (0, 0), (shape[axis], 0), (0, 0)])
    return pieces.reshape(pieces.cut_axis(both, 2, 0, shape[axis]), shape)
