"""Tensors on their way from ONNX to TFLite, each with the order of its axes: the one place that knows of layouts.

ONNX counts channels second (N, C, H, W), TFLite last. A tensor is kept in whichever order it has, and turned only
where an operator needs another one. A Transpose of ONNX only gives the axes other names.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy
from msgspec import Struct

from mlia.errors import ModelError
from mlia.graph.formats.keras_builder import LayerBuilder
from mlia.graph.formats.onnx_codes import weights_channels
from mlia.graph.formats.onnx_model import Node
from mlia.graph.formats.onnx_reference import Trace
from mlia.graph.graph import Quantization

Array: TypeAlias = Any  # numpy.ndarray
Order: TypeAlias = tuple[int, ...]
_SPATIAL = (
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization",
    "InstanceNormalization", "GroupNormalization", "LRN", "DepthToSpace", "SpaceToDepth", "Resize", "Upsample",
)  # fmt: skip
# Where an input may come through on its way to a spatial operator, with its axes as they are.
_PASSING = (
    "Add", "Sub", "Mul", "Div", "Pow", "Identity", "Dropout", "Cast", "Concat", "Slice", "Split", "Pad", "Clip", "Relu",
    "LeakyRelu", "PRelu", "Sigmoid", "Tanh", "Neg", "Abs", "Sqrt", "Exp", "Log", "QuantizeLinear", "DequantizeLinear",
)  # fmt: skip


class Value(Struct, frozen=True):
    """A tensor of the builder; its axis i is the axis order[i] of ONNX's tensor."""

    index: int
    order: Order


def plain(rank: int) -> Order:
    """ONNX's own order."""
    return tuple(range(rank))


def channels_last(rank: int) -> Order:
    """(N, spatial axes, C)."""
    return (0, *range(2, rank), 1) if rank > 2 else plain(rank)


def without(order: Order, axes: Sequence[int]) -> Order:
    """The order of the axes that are left when some are gone."""
    left = [axis for axis in order if axis not in axes]
    return tuple(sorted(left).index(axis) for axis in left)


class Flow:
    """The state of a conversion: what ONNX's tensors have become so far."""

    def __init__(self, traced: Trace, net: LayerBuilder) -> None:
        self.trace, self.net = traced, net
        self.values: dict[str, Value] = {}
        self.codes: dict[int, Quantization] = {}  # scales of constants that the file stores in integers
        self._turned: dict[tuple[int, Order, Order], int] = {}
        self._constants: dict[tuple[str, Order], int] = {}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape in ONNX."""
        return self.trace.shapes[name]

    def constant(self, node: Node, position: int) -> Array:
        """A constant input; None where it is left out or computed."""
        if position >= len(node.inputs) or not node.inputs[position]:
            return None
        return self.trace.constants.get(node.inputs[position])

    def has(self, node: Node, position: int) -> bool:
        return position < len(node.inputs) and bool(node.inputs[position])

    def settled(self, node: Node, position: int, what: str) -> Array:
        """A constant input, or None where it is left out.

        Raises:
            ModelError: it is computed.
        """
        array = self.constant(node, position)
        if array is None and self.has(node, position):
            node.refuse(f"its {what} is only known when the model runs")
        return array

    def value(self, name: str) -> Value:
        """What an ONNX tensor has become; a constant is made on its first use."""
        if name not in self.values:
            array = self.trace.constants[name]
            self.values[name] = Value(self._constant(name, array), plain(array.ndim))
        return self.values[name]

    def _constant(self, name: str, array: Array) -> int:
        """A constant of the file in some order of axes, with its scale if it has one."""
        index = self.net.constant(name, storable(array))
        codes = self.trace.codes.get(name)
        if codes and (quantization := codes.quantization()):
            self.codes[index] = quantization
        return index

    def weighed(self, node: Node, weights: int) -> int:
        """A tensor of weights, with the scales that the file has for them."""
        codes = self.trace.codes.get(node.inputs[1])
        if codes and (quantization := codes.of_weights(weights_channels(node))):
            self.codes[weights] = quantization
        return weights

    def ordered(self, name: str, order: Order) -> int:
        """The tensor with its axes in that order."""
        array = self.trace.constants.get(name)
        if array is not None and name not in self.values:
            if (name, order) not in self._constants:
                self._constants[name, order] = self._constant(name, array.transpose(order))
            return self._constants[name, order]
        return self.turned(self.value(name), order)

    def plain(self, name: str) -> int:
        """The tensor in ONNX's own order."""
        return self.ordered(name, plain(len(self.shape(name))))

    def turned(self, value: Value, order: Order, name: str = "") -> int:
        """The tensor of a value in another order: a TRANSPOSE, or a RESHAPE where only axes of size 1 move."""
        if value.order == order:
            return value.index
        key = (value.index, value.order, order)
        if key not in self._turned:
            shape = self.net.shape(value.index)
            moves = [value.order.index(axis) for axis in order]
            name = name or f"{self.net.tensors[value.index].name}/turned"
            if is_free(moves, shape):
                self._turned[key] = self.net.reshape(value.index, [shape[axis] for axis in moves], name, extra=True)
            else:
                self._turned[key] = self.net.transpose(value.index, moves, name, extra=True)
        return self._turned[key]

    def operands(self, node: Node, names: Sequence[str]) -> tuple[list[int], Order]:
        """Tensors of one rank and order, for an operator that broadcasts; constants as small as they can be."""
        rank = max(len(self.shape(name)) for name in names)
        leader = max(
            (name for name in names if name not in self.trace.constants),
            key=lambda name: (len(self.shape(name)), int(numpy.prod(self.shape(name)))),
        )
        order = self.value(leader).order
        if len(order) < rank:
            order = plain(rank)
        return [self._spread(node, name, order) for name in names], order

    def _spread(self, node: Node, name: str, order: Order) -> int:
        """One operand, with axes of size 1 in front where it has fewer, as numpy broadcasts."""
        shape, rank = self.shape(name), len(order)
        wide = (*[1] * (rank - len(shape)), *shape)
        array = self.trace.constants.get(name)
        if array is not None:
            turned = array.reshape(wide).transpose(order)
            first = next((axis for axis, size in enumerate(turned.shape) if size != 1), len(turned.shape))
            return self._constant(name, turned.reshape(turned.shape[first:]))
        if len(shape) == rank:
            return self.turned(self.value(name), order)
        index = self.net.reshape(self.plain(name), wide, f"{node.name}/wide", extra=True)
        return self.turned(Value(index, plain(rank)), order)

    def reshaped(self, name: str, shape: Sequence[int], label: str) -> Value:
        """RESHAPE; the order of axes is kept where whole groups of them are joined or split.

        (N, H, W, C), which is ONNX's (N, C, H, W), becomes (N, H * W, C) for ONNX's (N, C, H * W) without any move.
        """
        value, before = self.value(name), self.shape(name)
        groups = grouped(before, shape)
        group_of = {axis: place for place, (axes, _) in enumerate(groups) for axis in axes}
        present = [axis for axis in value.order if before[axis] != 1 and axis in group_of]
        firsts = list(dict.fromkeys(group_of[axis] for axis in present))
        wanted = [axis for place in firsts for axis in groups[place][0] if before[axis] != 1]
        ones = [axis for axis in value.order if axis not in wanted]
        if present != wanted:
            value = Value(self.turned(value, (*ones, *wanted), f"{label}/turned"), (*ones, *wanted))
        made = [axis for place in firsts for axis in groups[place][1]]
        single = [axis for axis in range(len(shape)) if axis not in made]
        order = _with_ones(made, single, shape)
        return Value(self.net.reshape(value.index, [shape[axis] for axis in order], label), order)


def _with_ones(made: Sequence[int], single: Sequence[int], shape: Sequence[int]) -> Order:
    """The order of new axes; those of size 1 go where ONNX has them, or where channels-last has them."""
    rank = len(shape)
    for order in (plain(rank), channels_last(rank)):
        if [axis for axis in order if axis not in single] == list(made):
            return order
    return (*single, *made)


def is_free(moves: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether a permutation moves nothing in memory."""
    kept = [axis for axis in moves if shape[axis] != 1]
    return kept == sorted(kept)


def grouped(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Axes of one shape beside those of another with the same elements; axes of size 1 are in no group."""
    groups: list[tuple[list[int], list[int]]] = []
    old = [axis for axis, size in enumerate(before) if size != 1]
    new = [axis for axis, size in enumerate(after) if size != 1]
    while old and new:
        left, right = [old.pop(0)], [new.pop(0)]
        sizes = [before[left[0]], after[right[0]]]
        while sizes[0] != sizes[1]:
            side, waiting, shape, group = (0, old, before, left) if sizes[0] < sizes[1] else (1, new, after, right)
            if not waiting:
                raise ModelError(f"{tuple(before)} cannot become {tuple(after)}")
            group.append(waiting.pop(0))
            sizes[side] *= shape[group[-1]]
        groups.append((left, right))
    return groups


def storable(array: Array) -> Array:
    """A constant as TFLite's operators take it: 64-bit integers become 32-bit ones."""
    if array.dtype.name in ("int64", "uint64", "uint32"):
        return numpy.clip(array, -(2**31), 2**31 - 1).astype(numpy.int32)
    return array


def becomes_channels_last(traced: Trace, name: str) -> bool:
    """Whether an input is, or leads to, what a spatial operator takes."""
    seen, todo = {name}, [name]
    rank = len(traced.shapes[name])
    while todo:
        tensor = todo.pop()
        for node in traced.nodes:
            if tensor not in node.inputs or len(traced.shapes[tensor]) != rank:
                continue
            if node.kind in _SPATIAL and rank > 2 and node.inputs[0] == tensor:
                return True
            if node.kind in _PASSING:
                todo += [each for each in node.outputs if each not in seen]
                seen.update(node.outputs)
    return False
