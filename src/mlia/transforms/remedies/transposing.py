"""TRANSPOSE and BATCH_MATMUL that are too large for an NPU, in parts."""

import math
from collections.abc import Collection, Sequence

from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Quantization
from mlia.transforms.remedies.pieces import Pieces, each
from mlia.transforms.remedies.places import Place

_LARGEST = 1 << 16
_HIGHEST_RANK = 8


def merged_transposes_in_parts(graph: Graph, places: Collection[Place]) -> Graph:
    """TRANSPOSE of fewer axes, because axes that stay together are one, and in parts where it is still too large.

    Raises:
        TransformError: no such operator, or one that needs too many parts.
    """
    return each(graph, places, _transposed)


def _transposed(pieces: Pieces) -> int:
    operator = pieces.operator
    order = pieces.network.constant(operator.inputs[1]) if operator.kind == "TRANSPOSE" else None
    if order is None:
        raise TransformError(f"'{pieces.name}' is no TRANSPOSE by a constant permutation")
    shape = pieces.shape(operator.inputs[0])
    axes = [int(axis) % max(len(shape), 1) for axis in order.reshape(-1)]
    if sorted(axes) != list(range(len(shape))):
        raise TransformError(f"'{pieces.name}' has no permutation of its axes")
    sizes, merged = _merged(shape, axes)
    x = pieces.reshape(operator.inputs[0], sizes)
    if len(sizes) > _HIGHEST_RANK:
        raise TransformError(f"'{pieces.name}' moves {len(sizes)} axes by themselves")
    if pieces.tensor(x).dtype == "int32":
        return _by_swaps(pieces, x, merged)
    return _in_parts(pieces, x, merged)


def _merged(shape: Sequence[int], order: Sequence[int]) -> tuple[list[int], list[int]]:
    """Sizes and permutation without axes of size 1, and with those joined that stay next to each other."""
    moving = [axis for axis in order if shape[axis] != 1]
    runs: list[list[int]] = []
    before = sorted(moving)
    for axis in moving:
        if runs and before.index(axis) == before.index(runs[-1][-1]) + 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    ranked = sorted(runs)
    sizes = [math.prod(shape[axis] for axis in run) for run in ranked]
    return sizes or [1], [ranked.index(run) for run in runs] or [0]


def _in_parts(pieces: Pieces, x: int, order: Sequence[int]) -> int:
    """Transposed as a whole, or cut along the axis that needs the fewest parts."""
    sizes = pieces.shape(x)
    if _fits(sizes, order):
        return pieces.transpose(x, order)
    options = []
    for axis, size in enumerate(sizes):
        for parts in range(2, 33):
            largest = -(-size // parts)
            if _fits([largest if position == axis else n for position, n in enumerate(sizes)], order):
                options.append((parts, axis, largest))
                break
    if not options:
        raise TransformError(f"'{pieces.name}' is too large to be transposed in parts")
    _, axis, largest = min(options)
    made = []
    for begin in range(0, sizes[axis], largest):
        part = pieces.cut_axis(x, axis, begin, min(largest, sizes[axis] - begin))
        made.append(pieces.transpose(part, order))
    return pieces.join(made, list(order).index(axis))


def _fits(sizes: Sequence[int], order: Sequence[int]) -> bool:
    if list(order) == sorted(order):
        return True
    if len(sizes) <= 3:
        return max(sizes) <= _LARGEST
    return math.prod(sorted(sizes)[2:]) <= _LARGEST


def _by_swaps(pieces: Pieces, x: int, order: Sequence[int]) -> int:
    """32-bit numbers: the axes from some place on are rotated, as width and depth, until all are in order."""
    current = list(range(len(order)))
    for place, wanted in enumerate(order):
        at = current.index(wanted)
        if at == place:
            continue
        sizes = [*pieces.shape(x)]
        front, block, rest = (math.prod(part) for part in (sizes[:place], sizes[place:at], sizes[at:]))
        if max(front, block, rest) > _LARGEST:
            raise TransformError(f"'{pieces.name}' is too large for 32-bit numbers")
        x = pieces.transpose(pieces.reshape(x, (1, front, block, rest)), (0, 1, 3, 2))
        current = [*current[:place], *current[at:], *current[place:at]]
        x = pieces.reshape(x, [*sizes[:place], *sizes[at:], *sizes[place:at]])
    return x


def matmul_in_columns(graph: Graph, places: Collection[Place]) -> Graph:
    """BATCH_MATMUL whose output is too deep, for some columns at a time: the same numbers.

    Raises:
        TransformError: no such operator.
    """
    return each(graph, places, _matmul_in_columns)


def _matmul_in_columns(pieces: Pieces) -> int:
    operator = pieces.operator
    if operator.kind not in ("BATCH_MATMUL", "FULLY_CONNECTED"):
        raise TransformError(f"'{pieces.name}' is no BATCH_MATMUL")
    left, right = operator.inputs[:2]
    if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
        raise TransformError(f"'{pieces.name}' has a bias")
    shape = pieces.shape(right)
    is_row = operator.kind == "FULLY_CONNECTED" or bool(operator.options.get("adj_y"))
    axis = len(shape) - (2 if is_row else 1)
    parts = []
    for begin in range(0, shape[axis], _LARGEST):
        count = min(_LARGEST, shape[axis] - begin)
        part = pieces.cut_axis(right, axis, begin, count)
        made = (*pieces.shape(operator.outputs[0])[:-1], count)
        parts.append(pieces.again(operator, [left, part], made))
    return pieces.join(parts, len(pieces.shape(parts[0])) - 1)


def matmul_of_int8(graph: Graph, places: Collection[Place]) -> Graph:
    """BATCH_MATMUL of int16 with QUANTIZE to int8 in front and back to int16 behind: 8 bits of precision less.

    Raises:
        TransformError: no such operator.
    """
    return each(graph, places, _matmul_of_int8)


def _matmul_of_int8(pieces: Pieces) -> int:
    operator = pieces.operator
    output = pieces.tensor(operator.outputs[0])
    if operator.kind not in ("BATCH_MATMUL", "FULLY_CONNECTED") or output.dtype != "int16":
        raise TransformError(f"'{pieces.name}' is no BATCH_MATMUL of int16")
    inputs = []
    for index in operator.inputs[:2]:
        tensor = pieces.tensor(index)
        if tensor.dtype != "int16":
            inputs.append(index)
            continue
        inputs.append(_quantized(pieces, index, tensor.quantization))
    if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
        raise TransformError(f"'{pieces.name}' has a bias")
    narrow = replace(output, dtype="int8", quantization=_coarser(pieces, output.quantization))
    options = {**operator.options}
    made = pieces.piece(operator.kind, inputs, output.shape, operator.options_table, options, narrow)
    return pieces.piece("QUANTIZE", [made], output.shape, "QuantizeOptions", None, output)


def _quantized(pieces: Pieces, index: int, quantization: Quantization | None) -> int:
    tensor = pieces.tensor(index)
    narrow = replace(tensor, dtype="int8", quantization=_coarser(pieces, quantization), data=memoryview(b""))
    return pieces.piece("QUANTIZE", [index], tensor.shape, "QuantizeOptions", None, narrow)


def _coarser(pieces: Pieces, quantization: Quantization | None) -> Quantization:
    if quantization is None or len(quantization.scale) != 1:
        raise TransformError(f"'{pieces.name}' is not quantized")
    return Quantization((quantization.scale[0] * 256,), (0,))
