"""What single-operator models are drawn with: seeded shapes, quantizations, constants and operators."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlia.graph.graph import Operator, OptionValue, Quantization, Tensor
from mlia.testing import IntegerSketch

# Sizes of feature maps at and around what the NPU computes at a time.
DEPTHS = (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 64, 65)
ACTIVATIONS = ("NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1")
_SPREAD = {"int8": 74.0, "int16": 18900.0, "uint8": 74.0}  # the standard deviation of all numbers of a type
_BIAS = {"int8": np.int32, "int16": np.int64, "uint8": np.int32}


class OperatorSketch(IntegerSketch):
    """A model of one operator (and what it needs), drawn with a seed. `dtype` is that of its feature maps."""

    def __init__(self, name: str, dtype: str, seed: int) -> None:
        super().__init__(name, seed)
        self.dtype = dtype
        self.random: np.random.Generator = self._random
        self.limits: dict[int, tuple[int, int]] = {}  # of inputs that do not take every number of their type

    def chance(self, probability: float = 0.5) -> bool:
        return bool(self.random.random() < probability)

    def choose(self, *values: Any) -> Any:
        return values[int(self.random.integers(len(values)))]

    def size(self, low: int = 1, high: int = 12) -> int:
        return int(self.random.integers(low, high + 1))

    def depth(self) -> int:
        return int(self.choose(*DEPTHS))

    def image_shape(self, low: int = 1, high: int = 12) -> tuple[int, int, int, int]:
        """NHWC of batch 1."""
        return 1, self.size(low, high), self.size(low, high), self.depth()

    def any_shape(self) -> tuple[int, ...]:
        """One to four dimensions."""
        return (1, *(self.size() for _ in range(int(self.choose(0, 1, 2, 2)))), self.depth())

    def quantization(self, dtype: str = "", around: float = 0.0) -> Quantization:
        """Drawn for a type: the scale near `around` if it is given; the zero point is 0 for 16 bits and more."""
        size = around or 2.0 ** self.random.uniform(-7, -3) * (1 / 256 if (dtype or self.dtype) == "int16" else 1)
        scale = float(np.float32(size * 2.0 ** self.random.uniform(-0.7, 0.7)))
        low, high = {"int8": (-128, 128), "uint8": (0, 256)}.get(dtype or self.dtype, (0, 1))
        return Quantization((scale,), (int(self.random.integers(low, high)),))

    def x(self, shape: Sequence[int], quantization: Quantization | None = None, dtype: str = "", name: str = "") -> int:
        """An input of the model."""
        given = quantization or self.quantization(dtype)
        return self.input(name or f"x{len(self._inputs)}", shape, dtype or self.dtype, given)

    def quantization_of(self, index: int) -> Quantization:
        found = self._tensors[index].quantization
        assert found is not None
        return found

    def numbers(self, shape: Sequence[int], quantization: Quantization, dtype: str = "", name: str = "constant") -> int:
        """A constant of any numbers."""
        kind = np.iinfo(dtype or self.dtype)
        values = self.random.integers(kind.min, kind.max + 1, tuple(shape)).astype(dtype or self.dtype)
        return self.constant(name, values, quantization)

    def one(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        quantization: Quantization | None = None,
        table: str = "",
        dtype: str = "",
        **options: OptionValue,
    ) -> int:
        """An operator; its output is like its first input unless said otherwise."""
        name = f"{kind.lower()}{len(self._operators)}"
        return self.operator(
            kind, inputs, shape, name, dtype=dtype, quantization=quantization, options_table=table, options=options
        )

    def several(
        self, kind: str, inputs: Sequence[int], shapes: Sequence[Sequence[int]], table: str, **options: OptionValue
    ) -> list[int]:
        """An operator with several outputs, all quantized like its first input that is no constant."""
        like = next(self._tensors[index] for index in inputs if not self._tensors[index].is_constant)
        made = []
        for shape in shapes:
            made.append(self.input(f"{kind.lower()}{len(self._tensors)}", shape, like.dtype, like.quantization))
            self._inputs.pop()
        self._operators.append(Operator(len(self._operators), kind, tuple(inputs), tuple(made), options, table))
        return made

    def weights_and_bias(
        self, x: int, shape: Sequence[int], axis: int, fan_in: int, per_channel: bool = True
    ) -> tuple[int, int, Quantization]:
        """int8 weights, per channel along `axis` or per tensor, a bias, and a quantization for the output."""
        filters = shape[axis]
        spread = 73.0 * _SPREAD[self.dtype] * math.sqrt(fan_in)
        x_scale = self.quantization_of(x).scale[0]
        top = 2.0 ** self.random.uniform(-9, -5)
        count = filters if per_channel else 1
        scales = tuple(float(np.float32(top * 2.0 ** self.random.uniform(-2, 0))) for _ in range(count))
        values = self.random.integers(-127, 128, tuple(shape)).astype(np.int8)
        if self.chance(0.3):  # many zeros, which the compression of weights treats apart
            values[self.random.random(values.shape) < 0.7] = 0
        name = f"w{len(self._tensors)}"
        w = self.constant(name, values, Quantization(scales, (0,) * count, axis if per_channel else 0))
        bias = np.round(self.random.normal(0, spread / 2, filters)).astype(_BIAS[self.dtype])
        products = tuple(float(np.float32(x_scale) * np.float32(scale)) for scale in scales)
        b = self.constant(f"{name}/bias", bias, Quantization(products, (0,) * count))
        typical = top * x_scale * spread / _SPREAD[self.dtype]
        return w, b, self.quantization(around=typical)

    def variable(self, name: str, shape: Sequence[int], dtype: str, quantization: Quantization) -> int:
        """A state that an operator keeps."""
        return self.tensor(Tensor(name, tuple(shape), dtype, quantization, is_variable=True))

    def lstm(
        self, inputs: Sequence[int], shape: Sequence[int], quantization: Quantization, options: dict[str, OptionValue]
    ) -> int:
        """UNIDIRECTIONAL_SEQUENCE_LSTM with the quantization of its hidden state, a tensor of its own."""
        gates = [self.tensor(Tensor(f"gate{i}", (0,), "float32")) for i in range(4)]
        gates.append(self.tensor(Tensor("hidden scale", (0,), self.dtype, quantization)))
        made = self.tensor(Tensor("lstm", tuple(shape), self.dtype, quantization))
        self._operators.append(
            Operator(
                len(self._operators), "UNIDIRECTIONAL_SEQUENCE_LSTM", tuple(inputs), (made,), options,
                "UnidirectionalSequenceLSTMOptions", intermediates=tuple(gates),
            )
        )  # fmt: skip
        return made
