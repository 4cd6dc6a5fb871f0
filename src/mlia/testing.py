"""Small models, built operator by operator: for tests, examples and benchmarks.

    net = Sketch("tiny")
    x = net.input("image", (1, 8, 8, 3))
    x = net.convolution(x, filters=4, kernel=(3, 3), name="conv")
    content = write_tflite(net.graph([x]))

Weights are drawn from a seeded generator, so that the same calls give the same bytes. Needs numpy.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mlia.graph.builder import GraphBuilder
from mlia.graph.graph import Graph, OptionValue, Quantization

if TYPE_CHECKING:
    from mlia.results import Result
    from mlia.rules.rule import Case, Finding, NpuRule
    from mlia.targets.target import Target


class Sketch(GraphBuilder):
    """A model of float32 NHWC layers with seeded weights."""

    def __init__(self, name: str, seed: int = 0) -> None:
        super().__init__(name)
        self._random = self._numpy.random.default_rng(seed)

    def convolution(
        self,
        x: int,
        *,
        filters: int,
        kernel: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        activation: str = "RELU",
        name: str = "conv",
    ) -> int:
        """CONV_2D with SAME padding, He-initialized weights and a small bias."""
        channels = self.shape(x)[-1]
        weights = self._weights(f"{name}/weights", (filters, *kernel, channels), kernel[0] * kernel[1] * channels)
        bias = self._bias(f"{name}/bias", filters)
        options = _convolution_options(stride, activation)
        shape = self._pooled(x, stride, filters)
        return self.operator("CONV_2D", [x, weights, bias], shape, name, options_table="Conv2DOptions", options=options)

    def depthwise(
        self,
        x: int,
        *,
        kernel: tuple[int, int] = (3, 3),
        stride: tuple[int, int] = (1, 1),
        activation: str = "RELU",
        name: str = "depthwise",
    ) -> int:
        """DEPTHWISE_CONV_2D with SAME padding and multiplier 1."""
        channels = self.shape(x)[-1]
        weights = self._weights(f"{name}/weights", (1, *kernel, channels), kernel[0] * kernel[1])
        bias = self._bias(f"{name}/bias", channels)
        options = _convolution_options(stride, activation) | {"depth_multiplier": 1}
        shape = self._pooled(x, stride, channels)
        table = "DepthwiseConv2DOptions"
        return self.operator("DEPTHWISE_CONV_2D", [x, weights, bias], shape, name, options_table=table, options=options)

    def average_pool(self, x: int, *, kernel: tuple[int, int], name: str = "pool") -> int:
        """AVERAGE_POOL_2D, VALID, with the stride of its kernel."""
        batch, height, width, channels = self.shape(x)
        options: dict[str, OptionValue] = {
            "padding": "VALID", "stride_w": kernel[1], "stride_h": kernel[0],
            "filter_width": kernel[1], "filter_height": kernel[0], "fused_activation_function": "NONE",
        }  # fmt: skip
        shape = (batch, height // kernel[0], width // kernel[1], channels)
        return self.operator("AVERAGE_POOL_2D", [x], shape, name, options_table="Pool2DOptions", options=options)

    def reshape(self, x: int, shape: Sequence[int], name: str = "reshape") -> int:
        """RESHAPE to a constant shape."""
        sizes = self.constant(f"{name}/shape", self._numpy.array(shape, self._numpy.int32))
        options: dict[str, OptionValue] = {"new_shape": tuple(shape)}
        return self.operator("RESHAPE", [x, sizes], shape, name, options_table="ReshapeOptions", options=options)

    def fully_connected(self, x: int, *, units: int, activation: str = "NONE", name: str = "dense") -> int:
        """FULLY_CONNECTED over the last axis."""
        *outer, depth = self.shape(x)
        weights = self._weights(f"{name}/weights", (units, depth), depth)
        bias = self._bias(f"{name}/bias", units)
        options: dict[str, OptionValue] = {"fused_activation_function": activation}
        table = "FullyConnectedOptions"
        return self.operator(
            "FULLY_CONNECTED", [x, weights, bias], (*outer, units), name, options_table=table, options=options
        )

    def softmax(self, x: int, name: str = "softmax") -> int:
        """SOFTMAX over the last axis."""
        shape = self.shape(x)
        return self.operator("SOFTMAX", [x], shape, name, options_table="SoftmaxOptions", options={"beta": 1.0})

    def unary(self, kind: str, x: int, name: str) -> int:
        """An operator without options whose output is like its input (ELU, LOGISTIC, TANH, …)."""
        return self.operator(kind, [x], self.shape(x), name)

    def _weights(self, name: str, shape: tuple[int, ...], fan_in: int) -> int:
        values = self._random.normal(0, math.sqrt(2 / fan_in), shape)
        return self.constant(name, values.astype(self._numpy.float32))

    def _bias(self, name: str, size: int) -> int:
        return self.constant(name, self._random.normal(0, 0.1, size).astype(self._numpy.float32))

    def _pooled(self, x: int, stride: tuple[int, int], channels: int) -> tuple[int, ...]:
        batch, height, width, _ = self.shape(x)
        return batch, -(-height // stride[0]), -(-width // stride[1]), channels


class IntegerSketch(GraphBuilder):
    """A model of int8 (or int16) NHWC operators: every activation has `Q` unless it is given another quantization."""

    Q = Quantization((0.05,), (0,))

    def __init__(self, name: str, seed: int = 0) -> None:
        super().__init__(name)
        self._random = self._numpy.random.default_rng(seed)

    def image(self, name: str, shape: Sequence[int], dtype: str = "int8") -> int:
        """An input with the usual quantization."""
        return self.input(name, shape, dtype, self.Q)

    def integers(self, name: str, *values: int) -> int:
        """A constant vector of int32: axes, sizes, begins."""
        return self.constant(name, self._numpy.array(values, self._numpy.int32))

    def filter(
        self,
        kind: str,
        x: int,
        *,
        filters: int,
        kernel: tuple[int, int] = (3, 3),
        stride: tuple[int, int] = (1, 1),
        dilation: tuple[int, int] = (1, 1),
        padding: str = "SAME",
        activation: str = "NONE",
        name: str = "conv",
    ) -> int:
        """CONV_2D or DEPTHWISE_CONV_2D (then `filters` is a multiple of the input's channels), weights per channel."""
        batch, height, width, channels = self.shape(x)
        is_depthwise = kind == "DEPTHWISE_CONV_2D"
        shape = (1, *kernel, filters) if is_depthwise else (filters, *kernel, channels)
        options: dict[str, OptionValue] = {
            "padding": padding, "stride_w": stride[1], "stride_h": stride[0], "fused_activation_function": activation,
            "dilation_w_factor": dilation[1], "dilation_h_factor": dilation[0],
        }  # fmt: skip
        if is_depthwise:
            options["depth_multiplier"] = filters // channels
        size = [
            -(-extent // step) if padding == "SAME" else -(-(extent - (taps - 1) * spread) // step)
            for extent, step, taps, spread in zip((height, width), stride, kernel, dilation, strict=True)
        ]
        inputs = [x, *self.weights(shape, filters, 3 if is_depthwise else 0, name)]
        table = "DepthwiseConv2DOptions" if is_depthwise else "Conv2DOptions"
        output = (batch, *size, filters)
        return self.operator(kind, inputs, output, name, quantization=self.Q, options_table=table, options=options)

    def dense(self, x: int, units: int, name: str = "dense") -> int:
        """FULLY_CONNECTED over the last axis, weights per tensor."""
        *outer, depth = self.shape(x)
        weights = self._random.integers(-127, 128, (units, depth)).astype(self._numpy.int8)
        w = self.constant(f"{name}/weights", weights, Quantization((0.01,), (0,)))
        zeros = self._numpy.zeros(units, self._numpy.int32)
        b = self.constant(f"{name}/bias", zeros, Quantization((0.01 * self.Q.scale[0],), (0,)))
        options: dict[str, OptionValue] = {"fused_activation_function": "NONE"}
        table = "FullyConnectedOptions"
        return self.operator("FULLY_CONNECTED", [x, w, b], (*outer, units), name, options_table=table, options=options)

    def plain(
        self,
        kind: str,
        x: int,
        *constants: int,
        shape: Sequence[int] | None = None,
        dtype: str | None = None,
        name: str = "middle",
        table: str = "",
        **options: OptionValue,
    ) -> int:
        """Any operator on one tensor and constants; its output is like its input unless said otherwise."""
        size = self.shape(x) if shape is None else shape
        inputs = [x, *constants]
        return self.operator(kind, inputs, size, name, dtype=dtype, options_table=table, options=options)

    def weights(self, shape: Sequence[int], filters: int, axis: int, name: str) -> tuple[int, int]:
        """Random int8 weights per channel along `axis`, and an int32 bias of zeros."""
        per_channel = Quantization((0.01,) * filters, (0,) * filters, axis)
        values: Any = self._random.integers(-127, 128, tuple(shape)).astype(self._numpy.int8)
        bias = Quantization((0.01 * self.Q.scale[0],) * filters, (0,) * filters)
        zeros = self._numpy.zeros(filters, self._numpy.int32)
        return self.constant(f"{name}/weights", values, per_channel), self.constant(f"{name}/bias", zeros, bias)


def checked_result(content: bytes, target: "Target") -> "Result":
    """What the check of a TFLite file says on a target, the host's part included."""
    from mlia.graph.tflite import read_tflite
    from mlia.pipeline.check.check import checked

    return checked(read_tflite(content), target)


def case_of(content: bytes, target: "str | Target") -> "Case":
    """What rules look at, for a TFLite file on an Ethos-U."""
    from mlia.graph.tflite import read_tflite
    from mlia.results import Compatibility, Performance
    from mlia.rules.rule import Case
    from mlia.targets.profiles import load_target
    from mlia.targets.target import Target

    place = load_target(target) if isinstance(target, str) else target
    assert isinstance(place, Target), "rules that look at a Case are for an Ethos-U"
    result = checked_result(content, place)
    assert isinstance(result.compatibility, Compatibility)
    assert isinstance(result.performance, Performance)
    return Case(read_tflite(content), place, result.compatibility, result.performance)


def advise_one(rule: "type[NpuRule]", content: bytes, target: "str | Target") -> "list[Finding]":
    """What one rule finds in a TFLite file on a target; nothing where it does not apply."""
    case, ready = case_of(content, target), rule()
    return [] if ready.skip(case) else list(ready.check(case))


def fixed(fix: "Callable[[Graph], Graph]", content: bytes) -> bytes:
    """A TFLite file with a remedy applied."""
    from mlia.graph.tflite import read_tflite
    from mlia.graph.tflite_writer import write_tflite

    return write_tflite(fix(read_tflite(content)))


def _convolution_options(stride: tuple[int, int], activation: str) -> dict[str, OptionValue]:
    return {
        "padding": "SAME", "stride_w": stride[1], "stride_h": stride[0], "fused_activation_function": activation,
        "dilation_w_factor": 1, "dilation_h_factor": 1,
    }  # fmt: skip


def quantize_synthetically(content: bytes, samples: int = 16, seed: int = 0) -> bytes:
    """A float TFLite model as int8, calibrated on seeded noise. For models whose weights are noise too."""
    from mlia.graph.tflite import read_tflite
    from mlia.transforms.calibration import synthetic_calibration
    from mlia.transforms.quantize import quantize

    graph = read_tflite(content)
    return quantize(graph, synthetic_calibration(graph, samples, seed)).graph.file
