"""The TFLite operators that Keras layers are made of, each as one call that knows shapes and options."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy
from msgspec.structs import replace

from mlia.errors import ModelError
from mlia.graph.builder import GraphBuilder
from mlia.graph.graph import Operator, OptionValue, Tensor

MOST_ELEMENTS = 2**31 - 1  # what 32-bit sizes of TFLite can count
MOST_OPERATORS = 100_000  # far above any model for the edge; a damaged number of steps must not fill the memory
Pairs = Sequence[tuple[int, int]]

_TABLES = {
    "ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions", "POW": "PowOptions",
    "MAXIMUM": "MaximumMinimumOptions", "MINIMUM": "MaximumMinimumOptions", "EXP": "ExpOptions", "NEG": "NegOptions",
    "ABS": "AbsOptions", "HARD_SWISH": "HardSwishOptions", "SQUARE": "SquareOptions",
    "LOG_SOFTMAX": "LogSoftmaxOptions",
}  # fmt: skip
_FUSES = ("ADD", "SUB", "MUL", "DIV")


def windows(size: int, kernel: int, stride: int, dilation: int, padding: str) -> int:
    """How many windows of a kernel fit along an axis; padding is SAME or VALID."""
    if padding == "SAME":
        return -(-size // stride)
    return (size - (kernel - 1) * dilation - 1) // stride + 1


class LayerBuilder(GraphBuilder):
    """A model under construction, with the operators that layers need. Tensors are float32 unless said."""

    def __init__(self, description: str) -> None:
        super().__init__(description)
        self.extra: set[int] = set()  # outputs of operators that no layer asked for
        self.states: list[tuple[int, int]] = []  # what layers keep: an input of the model, and the next as its output
        self.calls: list[str] = []  # the name of the layer of each call
        self.call_of: dict[int, int] = {}  # which call an operator's output belongs to
        self._call = -1
        self._known: dict[tuple[str, int], int] = {}
        self._alive: list[Any] = []

    @contextmanager
    def call(self, name: str) -> Iterator[None]:
        """What is added inside belongs to one call of the layer of this name."""
        outer, self._call = self._call, len(self.calls)
        self.calls.append(name)
        yield
        self._call = outer

    @property
    def tensors(self) -> list[Tensor]:
        return self._tensors

    @property
    def operators(self) -> list[Operator]:
        return self._operators

    @property
    def inputs(self) -> list[int]:
        return self._inputs

    def dtype(self, index: int) -> str:
        return self._tensors[index].dtype

    def weight(self, name: str, source: Any, values: Any | None = None) -> int:
        """A constant made from a layer's array `source`; made once for all calls of the layer."""
        key = (name, id(source))
        if key not in self._known:
            self._alive.append(source)  # so that the id stays its own
            self._known[key] = self.constant(name, numpy.asarray(source if values is None else values, numpy.float32))
        return self._known[key]

    def number(self, name: str, value: float | Sequence[float]) -> int:
        """A float32 constant."""
        return self.constant(name, numpy.asarray(value, numpy.float32))

    def sizes(self, name: str, values: Any) -> int:
        """An int32 constant."""
        return self.constant(name, numpy.asarray(values, numpy.int32))

    def emit(
        self, kind: str, inputs: Sequence[int], shape: Sequence[int], name: str,
        table: str = "", options: dict[str, OptionValue] | None = None, version: int = 1, dtype: str | None = None,
    ) -> int:  # fmt: skip
        """Any operator with one output, of which the shape is checked.

        Raises:
            ModelError: the output would be empty or too large.
        """
        elements = 1
        for size in shape:
            elements *= size
        if min(shape, default=1) < 1 or elements > MOST_ELEMENTS:
            raise ModelError(f"its output would have the shape {tuple(shape)}; check the sizes of the model's inputs")
        if any(isinstance(each, int | float) and abs(each) > MOST_ELEMENTS for each in (options or {}).values()):
            raise ModelError(f"one of its options is out of all bounds: {options}")
        if len(self._operators) >= MOST_OPERATORS:
            raise ModelError(f"the model has more than {MOST_OPERATORS} operators; shorten what is unrolled")
        output = self.operator(kind, inputs, shape, name, dtype=dtype, options_table=table, options=options)
        self.call_of[output] = self._call
        if version != 1:
            self._operators[-1] = replace(self._operators[-1], version=version)
        return output

    def unary(self, kind: str, x: int, name: str) -> int:
        """An operator without options whose output is like its input."""
        return self.emit(kind, [x], self.shape(x), name, _TABLES.get(kind, ""))

    def binary(self, kind: str, x: int, y: int, name: str) -> int:
        """An arithmetic operator with numpy's broadcasting."""
        try:
            shape = numpy.broadcast_shapes(self.shape(x), self.shape(y))
        except ValueError:
            raise ModelError(f"it combines the shapes {self.shape(x)} and {self.shape(y)}, which do not fit") from None
        options: dict[str, OptionValue] = {"fused_activation_function": "NONE"} if kind in _FUSES else {}
        return self.emit(kind, [x, y], shape, name, _TABLES.get(kind, ""), options)

    def scaled(self, x: int, factor: float, name: str) -> int:
        """The tensor times a number."""
        return self.binary("MUL", x, self.number(f"{name}/factor", factor), name)

    def shifted(self, x: int, term: float, name: str) -> int:
        """The tensor plus a number."""
        return self.binary("ADD", x, self.number(f"{name}/term", term), name)

    def reshape(self, x: int, shape: Sequence[int], name: str, *, extra: bool = False) -> int:
        """RESHAPE to a constant shape."""
        target = tuple(int(size) for size in shape)
        if int(numpy.prod(target, dtype=object)) != int(numpy.prod(self.shape(x), dtype=object)):
            raise ModelError(f"it reshapes {self.shape(x)} to {target}, which has another number of elements")
        sizes = self.sizes(f"{name}/shape", target)
        output = self.emit("RESHAPE", [x, sizes], target, name, "ReshapeOptions", {"new_shape": target})
        return self._marked(output, extra)

    def transpose(self, x: int, order: Sequence[int], name: str, *, extra: bool = False) -> int:
        """TRANSPOSE: axis i of the output is axis order[i] of the input."""
        shape = self.shape(x)
        if sorted(order) != list(range(len(shape))):
            raise ModelError(f"it permutes the axes {tuple(order)} of a tensor of rank {len(shape)}")
        sizes = self.sizes(f"{name}/order", order)
        output = self.emit("TRANSPOSE", [x, sizes], [shape[axis] for axis in order], name, "TransposeOptions")
        return self._marked(output, extra)

    def pad(self, x: int, amounts: Pairs, name: str, *, extra: bool = False) -> int:
        """PAD with zeros, (before, after) for each axis."""
        if min(min(pair) for pair in amounts) < 0:
            raise ModelError("it pads by a negative amount")
        shape = [size + before + after for size, (before, after) in zip(self.shape(x), amounts, strict=True)]
        output = self.emit("PAD", [x, self.sizes(f"{name}/amounts", amounts)], shape, name, "PadOptions")
        return self._marked(output, extra)

    def crop(self, x: int, amounts: Pairs, name: str) -> int:
        """Cut (before, after) from each axis."""
        shape = self.shape(x)
        ends = [size - after for size, (_, after) in zip(shape, amounts, strict=True)]
        return self.sliced(x, [before for before, _ in amounts], ends, name)

    def sliced(
        self, x: int, begin: Sequence[int], end: Sequence[int], name: str, *,
        steps: Sequence[int] = (), drop: Sequence[int] = (),
    ) -> int:  # fmt: skip
        """STRIDED_SLICE from `begin` to before `end`, both counted from the start; the axes `drop` leave."""
        steps = steps or [1] * len(begin)
        axes = [len(range(*triple)) for triple in zip(begin, end, steps, strict=True)]
        shape = [size for axis, size in enumerate(axes) if axis not in drop]
        if min(axes) < 1:
            raise ModelError(f"it cuts everything from the shape {self.shape(x)}")
        parts = zip(("begin", "end", "steps"), (begin, end, steps), strict=True)
        inputs = [x, *(self.sizes(f"{name}/{part}", values) for part, values in parts)]
        options: dict[str, OptionValue] = {"shrink_axis_mask": sum(1 << axis for axis in drop)}
        return self.emit("STRIDED_SLICE", inputs, shape, name, "StridedSliceOptions", options)

    def reduce(self, kind: str, x: int, axes: Sequence[int], name: str, *, keep: bool) -> int:
        """MEAN, SUM or REDUCE_MAX along axes."""
        shape = self.shape(x)
        axes = sorted(axis % len(shape) for axis in axes)
        kept = [1 if axis in axes else size for axis, size in enumerate(shape) if keep or axis not in axes]
        inputs = [x, self.sizes(f"{name}/axes", axes)]
        return self.emit(kind, inputs, kept, name, "ReducerOptions", {"keep_dims": keep})

    def concatenation(self, tensors: Sequence[int], axis: int, name: str) -> int:
        """CONCATENATION along one axis of tensors that agree in all others."""
        shapes = [self.shape(x) for x in tensors]
        axis %= len(shapes[0])
        if len({shape[:axis] + shape[axis + 1 :] for shape in shapes}) != 1 or len({len(s) for s in shapes}) != 1:
            raise ModelError(f"it concatenates the shapes {shapes} along axis {axis}, which do not fit")
        shape = list(shapes[0])
        shape[axis] = sum(each[axis] for each in shapes)
        options: dict[str, OptionValue] = {"axis": axis, "fused_activation_function": "NONE"}
        return self.emit("CONCATENATION", tensors, shape, name, "ConcatenationOptions", options)

    def dense(self, x: int, weights: int, bias: int | None, name: str) -> int:
        """FULLY_CONNECTED over the last axis; weights (units, depth)."""
        *outer, depth = self.shape(x)
        units, fan_in = self.shape(weights)
        if fan_in != depth:
            raise ModelError(f"its weights are for {fan_in} values and its input has {depth}")
        bias = self.number(f"{name}/bias", [0.0] * units) if bias is None else bias
        keep = len(outer) > 1
        options: dict[str, OptionValue] = {"fused_activation_function": "NONE", "keep_num_dims": keep}
        return self.emit(
            "FULLY_CONNECTED", [x, weights, bias], (*outer, units), name, "FullyConnectedOptions", options,
            version=5 if keep else 1,
        )  # fmt: skip

    def pool(self, kind: str, x: int, window: tuple[int, int], stride: tuple[int, int], padding: str, name: str) -> int:
        """MAX_POOL_2D or AVERAGE_POOL_2D of (B, H, W, C)."""
        batch, height, width, channels = self.shape(x)
        options: dict[str, OptionValue] = {
            "padding": padding, "stride_w": stride[1], "stride_h": stride[0],
            "filter_width": window[1], "filter_height": window[0], "fused_activation_function": "NONE",
        }  # fmt: skip
        rows = windows(height, window[0], stride[0], 1, padding)
        columns = windows(width, window[1], stride[1], 1, padding)
        return self.emit(kind, [x], (batch, rows, columns, channels), name, "Pool2DOptions", options)

    def _marked(self, output: int, extra: bool) -> int:
        if extra:
            self.extra.add(output)
        return output
