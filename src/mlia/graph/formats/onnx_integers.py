"""Operators between DEQUANTIZE and QUANTIZE, as ONNX's quantizers write them, in integers as TFLite has them.

What stands between takes codes in and gives codes out, with the scales and zero points of the file. An operator that
TFLite does not compute in integers stays in float between the two.
Source of what scales an operator needs: https://ai.google.dev/edge/litert/models/quantization_spec
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
from msgspec.structs import replace

from mlia.graph.graph import Operator, Quantization, Tensor

# Operators whose result has the scale of their first input: moves, choices, averages.
_KEEPING = (
    "RESHAPE", "TRANSPOSE", "STRIDED_SLICE", "SLICE", "PAD", "PADV2", "MIRROR_PAD", "TILE", "GATHER", "SPACE_TO_DEPTH",
    "DEPTH_TO_SPACE", "MAX_POOL_2D", "AVERAGE_POOL_2D", "RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR", "REDUCE_MAX",
    "RELU", "RELU6", "RELU_N1_TO_1", "MAXIMUM", "MINIMUM", "CONCATENATION",
)  # fmt: skip
_MOVING = ("RESHAPE", "TRANSPOSE", "STRIDED_SLICE", "PAD", "CONCATENATION", "GATHER", "TILE")
_AVERAGING = ("AVERAGE_POOL_2D", "RESIZE_BILINEAR")  # of which a finer scale of the result would get nothing
_TAKING_ALL = ("CONCATENATION", "MAXIMUM", "MINIMUM", "PADV2")  # whose inputs all have that scale
_FIXED = {
    "SOFTMAX": Quantization((1 / 256,), (-128,)), "LOGISTIC": Quantization((1 / 256,), (-128,)),
    "TANH": Quantization((1 / 128,), (0,)),
}  # fmt: skip
_FREE = ("ADD", "SUB", "MUL", "MEAN", "SUM", "LEAKY_RELU", "PRELU", "HARD_SWISH", "ELU", "GELU", "ABS", "BATCH_MATMUL")
_WEIGHTED = {
    "CONV_2D": (0, 1, 2, 0), "FULLY_CONNECTED": (0, 1, 2, 0), "TRANSPOSE_CONV": (2, 1, 3, 0),
    "DEPTHWISE_CONV_2D": (0, 1, 2, 3),
}  # fmt: skip # where input, weights and bias are, and which axis of the weights is that of the output's channels
_COARSER = 2.0  # how much finer the scale behind an average may be than before it: each step is one code more


class Integers:
    """A converted graph in integers: `operators`, `tensors`, `inputs` and `outputs` replace those that it is given.

    `codes` are scales and zero points of constants, `instead` is which tensor now has the codes of one that is gone,
    and `in_float` are the operators that still compute in float.
    """

    def __init__(
        self, operators: Sequence[Operator], tensors: Sequence[Tensor], ends: tuple[Sequence[int], Sequence[int]],
        codes: Mapping[int, Quantization],
    ) -> None:  # fmt: skip
        self.tensors: list[Tensor] = list(tensors)
        self.operators: list[Operator] = []
        self.in_float: list[Operator] = []
        self.inputs, outputs = list(ends[0]), list(ends[1])
        self._codes = dict(codes)
        self._integer: dict[int, int] = {}  # a float tensor -> the tensor of its codes
        self._float: dict[int, int] = {}  # codes -> the float tensor that is read where floats are needed
        self.instead: dict[int, int] = {}
        self._wanted = self._wishes(operators, outputs)
        for place, index in enumerate(self.inputs):
            if index in self._wanted:
                self.inputs[place] = self._integer[index] = self._coded(index, self._wanted[index])
        for op in operators:
            self._visit(op)
        self.outputs = [self._end(index) for index in outputs]
        self._drop_unread()

    def _wishes(self, operators: Sequence[Operator], outputs: Sequence[int]) -> dict[int, Quantization]:
        """What each float tensor is quantized to, if that is the only thing that is done with it."""
        readers: dict[int, list[Operator]] = {}
        for op in operators:
            for tensor in op.inputs:
                readers.setdefault(tensor, []).append(op)
        wanted: dict[int, Quantization] = {}
        for op in reversed(operators):
            for tensor in op.inputs:
                if tensor < 0 or tensor in outputs or self.tensors[tensor].dtype != "float32":
                    continue
                found = {self._asked(reader, tensor, wanted) for reader in readers[tensor]}
                only = found.pop()
                if not found and only is not None:
                    wanted[tensor] = only
        return wanted

    def _asked(self, op: Operator, tensor: int, wanted: Mapping[int, Quantization]) -> Quantization | None:
        if op.kind == "QUANTIZE":
            return self.tensors[op.outputs[0]].quantization
        first = op.inputs[0] == tensor or op.kind == "CONCATENATION"
        if op.kind in _KEEPING and op.kind not in _AVERAGING and first:
            return wanted.get(op.outputs[0])
        return None

    def _visit(self, op: Operator) -> None:
        op = replace(op, inputs=tuple(self._now(index) for index in op.inputs))
        x = op.inputs[0] if op.inputs else -1
        if op.kind == "DEQUANTIZE":
            self._integer[op.outputs[0]] = x
            self._float.setdefault(x, -1)
        elif op.kind == "QUANTIZE" and x in self._integer:
            self.instead[op.outputs[0]] = self._scaled(self._integer[x], _known(self.tensors[op.outputs[0]]))
        elif self.tensors[op.outputs[0]].dtype == "float32" and self._taken(op):
            return
        elif self.tensors[op.outputs[0]].dtype == "int8" and op.kind != "QUANTIZE":
            self.operators.append(op)  # which reads codes in the file, too
        else:
            self._stay(op)

    def _taken(self, op: Operator) -> bool:
        """Add the operator in integers, if it can be."""
        x, y = op.inputs[0], op.outputs[0]
        wanted = self._wanted.get(y)
        if op.kind in _KEEPING:
            return self._keep(op, wanted)
        if op.kind in _WEIGHTED:
            return wanted is not None and self._weighted(op, wanted)
        if op.kind in _FIXED:
            if x not in self._integer or wanted is None:
                return False
            codes = self._coded(y, _FIXED[op.kind])
            self._add(op, [self._integer[x]], codes)
            self._integer[y] = codes
            return True
        if op.kind not in _FREE or wanted is None:
            return False
        inputs = [self._codes_of(index) for index in op.inputs]
        if any(index is None for index in inputs):
            return False
        self._integer[y] = self._coded(y, wanted)
        self._add(op, [index for index in inputs if index is not None], self._integer[y])
        return True

    def _keep(self, op: Operator, wanted: Quantization | None) -> bool:
        x, y = op.inputs[0], op.outputs[0]
        several = list(op.inputs) if op.kind == "CONCATENATION" else [x]
        if any(index not in self._integer for index in several):
            return False
        scales = [_known(self.tensors[self._integer[index]]) for index in several]
        own = wanted if len(set(scales)) > 1 else scales[0]
        if own is None or (op.kind in _AVERAGING and wanted and own.scale[0] > _COARSER * wanted.scale[0]):
            return False
        inputs = [self._scaled(self._integer[index], own) for index in several]
        for index in op.inputs[len(several) :]:
            tensor = self.tensors[index]
            if tensor.dtype != "float32":
                inputs.append(index)
            elif op.kind in _TAKING_ALL and tensor.is_constant:
                inputs.append(self._constant(index, own))
            elif op.kind in _TAKING_ALL and index in self._integer:
                inputs.append(self._scaled(self._integer[index], own))
            else:
                return False
        self._integer[y] = self._coded(y, own)
        self._add(op, inputs, self._integer[y])
        return True

    def _weighted(self, op: Operator, wanted: Quantization) -> bool:
        place, weights, bias, axis = _WEIGHTED[op.kind]
        x, kernel = op.inputs[place], self._codes.get(op.inputs[weights])
        if x not in self._integer or kernel is None or not self.tensors[op.inputs[bias]].is_constant:
            return False
        scales = kernel.scale if len(kernel.scale) > 1 else kernel.scale * self.tensors[op.inputs[bias]].elements
        units = numpy.array(scales) * _known(self.tensors[self._integer[x]]).scale[0]
        terms = numpy.round(self._array(op.inputs[bias]).astype(numpy.float64).reshape(-1) / units)
        if not numpy.isfinite(terms).all() or abs(terms).max(initial=0) >= 1 << 31:
            return False
        inputs = list(op.inputs)
        inputs[place] = self._integer[x]
        inputs[weights] = self._constant(op.inputs[weights], replace(kernel, axis=axis))
        per_tensor = len(kernel.scale) == 1
        unit = Quantization(tuple(units[:1] if per_tensor else units), (0,) * (1 if per_tensor else len(units)))
        inputs[bias] = self._made(self.tensors[op.inputs[bias]].name, terms.astype(numpy.int32), unit)
        self._integer[op.outputs[0]] = self._coded(op.outputs[0], wanted)
        self._add(op, inputs, self._integer[op.outputs[0]])
        return True

    def _stay(self, op: Operator) -> None:
        inputs = [self._as_float(index) for index in op.inputs]
        self.operators.append(replace(op, inputs=tuple(inputs)))
        if op.kind not in _MOVING and self.tensors[op.outputs[0]].dtype == "float32":
            self.in_float.append(op)

    def _as_float(self, index: int) -> int:
        """A tensor for an operator that computes in float: a DEQUANTIZE is added on its first use."""
        if index not in self._integer:
            return index
        codes = self._integer[index]
        if self._float.get(codes, -1) < 0:
            tensor = self.tensors[index]
            self._float[codes] = self._new(Tensor(f"{tensor.name}/real", tensor.shape, "float32"))
            self.operators.append(Operator(0, "DEQUANTIZE", (codes,), (self._float[codes],)))
        return self._float[codes]

    def _end(self, index: int) -> int:
        """An output: its codes, unless those are an input, or asked for twice."""
        index = self._now(index)
        codes = self._integer.get(index)
        if codes is None:
            return index
        if codes in self.inputs:
            return self._as_float(index)
        return codes

    def _scaled(self, codes: int, wanted: Quantization) -> int:
        """The codes in another scale: a QUANTIZE, where it is another."""
        if _known(self.tensors[codes]) == wanted:
            return codes
        tensor = self.tensors[codes]
        other = self._new(replace(tensor, name=f"{tensor.name}/scaled", quantization=wanted))
        self.operators.append(Operator(0, "QUANTIZE", (codes,), (other,)))
        return other

    def _codes_of(self, index: int) -> int | None:
        if index in self._integer or index < 0:
            return self._integer.get(index, index)
        tensor = self.tensors[index]
        if not tensor.is_constant or tensor.dtype != "float32":
            return index if tensor.is_constant else None
        return self._constant(index, self._codes[index]) if index in self._codes else None

    def _constant(self, index: int, quantization: Quantization) -> int:
        """A constant as codes of that scale; of several, one for each place along the axis."""
        values = self._array(index)
        along = [-1 if place == quantization.axis else 1 for place in range(values.ndim)]
        scale, zero = (
            numpy.array(each, numpy.float64).reshape(along if len(each) > 1 else ())
            for each in (quantization.scale, quantization.zero_point)
        )
        codes = numpy.clip(numpy.round(values / scale) + zero, -128, 127).astype(numpy.int8)
        return self._made(self.tensors[index].name, codes, quantization)

    def _made(self, name: str, values: Any, quantization: Quantization) -> int:
        data = memoryview(values.tobytes())
        return self._new(Tensor(name, values.shape, values.dtype.name, quantization, data))

    def _coded(self, index: int, quantization: Quantization) -> int:
        """A new tensor for the codes of a float one."""
        return self._new(replace(self.tensors[index], dtype="int8", quantization=quantization))

    def _new(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def _add(self, op: Operator, inputs: Sequence[int], output: int) -> None:
        self.operators.append(replace(op, inputs=tuple(inputs), outputs=(output,)))

    def _now(self, index: int) -> int:
        return self.instead.get(index, index)

    def _array(self, index: int) -> Any:
        tensor = self.tensors[index]
        return numpy.frombuffer(tensor.data, tensor.dtype).reshape(tensor.shape)

    def _drop_unread(self) -> None:
        needed, kept = set(self.outputs), []
        for op in reversed(self.operators):
            if needed & {*op.outputs}:
                needed.update(op.inputs)
                kept.append(op)
        self.operators = kept[::-1]


def _known(tensor: Tensor) -> Quantization:
    assert tensor.quantization is not None  # what is in codes has a scale
    return tensor.quantization
