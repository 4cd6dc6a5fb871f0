"""Small models, built operator by operator: for tests, examples and benchmarks.

    net = Sketch("tiny")
    x = net.input("image", (1, 8, 8, 3))
    x = net.convolution(x, filters=4, kernel=(3, 3), name="conv")
    content = write_tflite(net.graph([x]))

Weights are drawn from a seeded generator, so that the same calls give the same bytes. Needs numpy.
"""

import math
from collections.abc import Sequence

from mlia.graph.builder import GraphBuilder
from mlia.graph.graph import OptionValue


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
    return bytes(quantize(graph, synthetic_calibration(graph, samples, seed)).graph.content)
