"""Folds what convolutions can take over: scales and terms behind them, activations, zeros around their input."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy
from msgspec.structs import replace

from mlia.graph.formats.keras_builder import LayerBuilder, windows
from mlia.graph.graph import Operator, OptionValue, Tensor

# Where weights and bias are among the inputs, and which axis of the weights is that of the output's channels.
_WEIGHTS = {
    "CONV_2D": (1, 2, 0), "FULLY_CONNECTED": (1, 2, 0), "TRANSPOSE_CONV": (1, 3, 0), "DEPTHWISE_CONV_2D": (1, 2, 3),
}  # fmt: skip
_FUSED = {"RELU": "RELU", "RELU6": "RELU6", "RELU_N1_TO_1": "RELU_N1_TO_1"}
_FUSING = (
    "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "SUB", "MUL", "DIV", "AVERAGE_POOL_2D", "MAX_POOL_2D",
)  # fmt: skip
_Options: TypeAlias = Mapping[str, OptionValue]


class Fused:
    """A builder's operators after folding. `operators`, `tensors` and `outputs` replace the builder's."""

    def __init__(self, net: LayerBuilder, outputs: Sequence[int]) -> None:
        self.tensors: list[Tensor] = list(net.tensors)
        self._net = net
        self._operators: list[Operator] = list(net.operators)
        self._outputs = list(outputs)
        self._instead: dict[int, int] = {}
        self._producer = {op.outputs[0]: index for index, op in enumerate(self._operators)}
        self._reads = [0] * len(self.tensors)
        for tensor in [*outputs, *(x for op in self._operators for x in op.inputs if x >= 0)]:
            self._reads[tensor] += 1
        for index in range(len(self._operators)):
            self._visit(index)

    @property
    def outputs(self) -> list[int]:
        return [self._now(x) for x in self._outputs]

    @property
    def operators(self) -> list[Operator]:
        """The operators that an output depends on."""
        needed, kept = set(self.outputs), []
        for op in reversed(self._operators):
            if op.outputs[0] in needed and op.outputs[0] not in self._instead:
                needed.update(op.inputs)
                kept.append(op)
        return kept[::-1]

    def _visit(self, index: int) -> None:
        op = self._operators[index]
        op = self._operators[index] = replace(op, inputs=tuple(self._now(x) if x >= 0 else x for x in op.inputs))
        if op.kind == "RESHAPE":
            self._join_reshapes(index, op)
        elif op.kind in ("CONV_2D", "DEPTHWISE_CONV_2D") and op.options["padding"] == "VALID":
            self._absorb_pad(index, op)
        elif op.kind in ("MUL", "ADD"):
            self._fold_constant(op)
        elif op.kind in _FUSED:
            self._fuse_activation(op)

    def _now(self, tensor: int) -> int:
        while tensor in self._instead:
            tensor = self._instead[tensor]
        return tensor

    def _made_by(self, tensor: int) -> int | None:
        return self._producer.get(tensor)

    def _join_reshapes(self, index: int, op: Operator) -> None:
        """Two RESHAPEs in a row, of which conversion added one, become one or none."""
        before = self._made_by(op.inputs[0])
        if before is None or self._operators[before].kind != "RESHAPE":
            return
        if not {op.outputs[0], op.inputs[0]} & self._net.extra:
            return
        source = self._operators[before].inputs[0]
        self._reads[op.inputs[0]] -= 1
        if self.tensors[source].shape == self.tensors[op.outputs[0]].shape:
            self._replace(op.outputs[0], source)
        else:
            self._reads[source] += 1
            self._operators[index] = replace(op, inputs=(source, *op.inputs[1:]))
        if not self._reads[self._operators[before].outputs[0]]:
            self._reads[source] -= 1

    def _absorb_pad(self, index: int, op: Operator) -> None:
        """PAD before a VALID convolution, where TFLite's SAME puts the same zeros in the same places."""
        before = self._made_by(op.inputs[0])
        if before is None or self._operators[before].kind != "PAD":
            return
        pad = self._operators[before]
        amounts = self._array(pad.inputs[1], numpy.int32)
        shape, kernel = self.tensors[pad.inputs[0]].shape, self.tensors[op.inputs[1]].shape
        if amounts[[0, 3]].any():
            return
        for axis, side in ((1, "h"), (2, "w")):
            stride, dilation = op.number(f"stride_{side}", 1), op.number(f"dilation_{side}_factor", 1)
            start, end = (int(amount) for amount in amounts[axis])
            same = windows(shape[axis], kernel[axis], stride, dilation, "SAME")
            total = max((same - 1) * stride + (kernel[axis] - 1) * dilation + 1 - shape[axis], 0)
            valid = windows(shape[axis] + start + end, kernel[axis], stride, dilation, "VALID")
            if start != total // 2 or valid != same:
                return
        self._reads[op.inputs[0]] -= 1
        self._reads[pad.inputs[0]] += 1
        options: _Options = {**op.options, "padding": "SAME"}
        self._operators[index] = replace(op, inputs=(pad.inputs[0], *op.inputs[1:]), options=options)

    def _fold_constant(self, op: Operator) -> None:
        """MUL or ADD by one figure per channel goes into weights and bias of what is before it."""
        x, constant = op.inputs if self.tensors[op.inputs[1]].is_constant else op.inputs[::-1]
        values, shape = self.tensors[constant], self.tensors[op.outputs[0]].shape
        if not values.is_constant or values.dtype != "float32" or self.tensors[x].shape != shape:
            return
        if values.elements not in (1, shape[-1]) or values.elements != (values.shape[-1] if values.shape else 1):
            return
        index = self._source(x)
        source = None if index is None else self._operators[index]
        if index is None or source is None or source.kind not in _WEIGHTS or not _is_plain(source):
            return
        figures = numpy.broadcast_to(self._array(constant).reshape(-1), shape[-1:])
        weights, bias, axis = _WEIGHTS[source.kind]
        inputs = list(source.inputs)
        offset = self._array(inputs[bias])
        if op.kind == "MUL":
            along = [-1 if each == axis else 1 for each in range(len(self.tensors[inputs[weights]].shape))]
            inputs[weights] = self._constant(inputs[weights], self._array(inputs[weights]) * figures.reshape(along))
            inputs[bias] = self._constant(inputs[bias], offset * figures)
        else:
            inputs[bias] = self._constant(inputs[bias], offset + figures)
        self._operators[index] = replace(source, inputs=tuple(inputs))
        self._reads[x] -= 1
        self._replace(op.outputs[0], x)

    def _fuse_activation(self, op: Operator) -> None:
        index = self._source(op.inputs[0])
        if index is None or self._operators[index].kind not in _FUSING or not _is_plain(self._operators[index]):
            return
        options: _Options = {**self._operators[index].options, "fused_activation_function": _FUSED[op.kind]}
        self._operators[index] = replace(self._operators[index], options=options)
        self._reads[op.inputs[0]] -= 1
        self._replace(op.outputs[0], op.inputs[0])

    def _source(self, tensor: int) -> int | None:
        """The operator that makes a tensor, behind added RESHAPEs; None where something else reads along the way."""
        while True:
            index = self._made_by(tensor)
            if index is None or self._reads[tensor] != 1:
                return None
            op = self._operators[index]
            if op.kind != "RESHAPE" or tensor not in self._net.extra:
                return index
            before = op.inputs[0]
            if self.tensors[before].shape[-1:] != self.tensors[tensor].shape[-1:]:
                return None
            tensor = before

    def _replace(self, old: int, new: int) -> None:
        """Whoever read `old` now reads `new`."""
        self._reads[new] += self._reads[old]
        self._instead[old] = new

    def _array(self, tensor: int, dtype: Any = numpy.float32) -> Any:
        content = self.tensors[tensor]
        return numpy.frombuffer(content.data, dtype).reshape(content.shape)

    def _constant(self, like: int, values: Any) -> int:
        array: Any = numpy.ascontiguousarray(values, numpy.float32)
        data = memoryview(array).cast("B")
        self.tensors.append(Tensor(self.tensors[like].name, array.shape, "float32", data=data))
        self._reads.append(1)
        return len(self.tensors) - 1


def _is_plain(op: Operator) -> bool:
    return op.options.get("fused_activation_function") == "NONE"
