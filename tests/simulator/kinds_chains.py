"""A few operators one after the other, for what single ones do not show: fusing, tables, cascades, several readers."""

import numpy as np

from mlia.graph.graph import Quantization
from tests.simulator.sketch import OperatorSketch

_GATES = 4


def convolved(
    net: OperatorSketch, x: int, filters: int, kernel: int = 3, stride: int = 1, depthwise: bool = False
) -> int:
    """A SAME convolution of any tensor."""
    _, height, width, channels = net.shape(x)
    shape = (1, kernel, kernel, channels) if depthwise else (filters, kernel, kernel, channels)
    fan_in = kernel * kernel * (1 if depthwise else channels)
    w, b, out = net.weights_and_bias(x, shape, 3 if depthwise else 0, fan_in)
    options = {
        "padding": "SAME", "stride_h": stride, "stride_w": stride, "dilation_h_factor": 1, "dilation_w_factor": 1,
        "fused_activation_function": "RELU" if net.chance() else "NONE",
    }  # fmt: skip
    kind, table = ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions") if depthwise else ("CONV_2D", "Conv2DOptions")
    if depthwise:
        options["depth_multiplier"] = 1
    size = (1, -(-height // stride), -(-width // stride), channels if depthwise else filters)
    return net.one(kind, [x, w, b], size, out, table, **options)


def cascade(net: OperatorSketch) -> list[int]:
    """Convolutions on images so large that a compiler goes through them in stripes."""
    x = net.x((1, net.size(24, 48), net.size(24, 48), net.size(3, 16)))
    x = convolved(net, x, net.size(8, 32))
    x = convolved(net, x, 0, depthwise=True, stride=net.size(1, 2))
    return [convolved(net, x, net.size(8, 24), kernel=net.choose(1, 3))]


def residual(net: OperatorSketch) -> list[int]:
    """A block whose input is added to its output."""
    x = net.x((1, net.size(4, 16), net.size(4, 16), net.choose(8, 16, 24)))
    y = convolved(net, convolved(net, x, net.depth()), net.shape(x)[3], kernel=1)
    out = net.quantization(around=max(net.quantization_of(i).scale[0] for i in (x, y)))
    options = {"fused_activation_function": net.choose("NONE", "RELU"), "pot_scale_int16": False}
    return [net.one("ADD", [x, y], net.shape(x), out, "AddOptions", **options)]


def with_table(net: OperatorSketch) -> list[int]:
    """A convolution and a function that becomes a table in its activation."""
    x = net.x((1, net.size(3, 12), net.size(3, 12), net.depth()))
    y = convolved(net, x, net.depth())
    wide = net.dtype == "int16"
    kind = net.choose("TANH", "LOGISTIC")
    out = {
        ("TANH", False): (1 / 128, 0), ("LOGISTIC", False): (1 / 256, -128),
        ("TANH", True): (1 / 32768, 0), ("LOGISTIC", True): (1 / 32768, 0),
    }[kind, wide]  # fmt: skip
    return [net.one(kind, [y], net.shape(y), Quantization((out[0],), (out[1],)))]


def tables(net: OperatorSketch) -> list[int]:
    """Functions one behind the other, which have tables of several sizes in the look-up memory at the same time."""
    x = net.x((1, net.size(2, 9), net.depth()))
    scales = {
        ("TANH", "int8"): (1 / 128, 0), ("LOGISTIC", "int8"): (1 / 256, -128), ("SOFTMAX", "int8"): (1 / 256, -128),
        ("TANH", "int16"): (1 / 32768, 0), ("LOGISTIC", "int16"): (1 / 32768, 0), ("SOFTMAX", "int16"): (1 / 32768, 0),
    }  # fmt: skip
    for _ in range(net.size(2, 5)):
        kind = net.choose("TANH", "LOGISTIC", "SOFTMAX", "SOFTMAX")
        scale, zero_point = scales[kind, net.dtype]
        options = {"beta": 1.0} if kind == "SOFTMAX" else {}
        table = "SoftmaxOptions" if options else ""
        x = net.one(kind, [x], net.shape(x), Quantization((scale,), (zero_point,)), table, **options)
    return [x]


def two_readers(net: OperatorSketch) -> list[int]:
    """A tensor that two operators read, joined again."""
    x = net.x((1, net.size(3, 10), net.size(3, 10), net.depth()))
    y = convolved(net, x, net.depth())
    same = net.quantization_of(y)
    pooling = {
        "padding": "SAME", "stride_h": 1, "stride_w": 1, "filter_height": 3, "filter_width": 3,
        "fused_activation_function": "NONE",
    }  # fmt: skip
    a = net.one("MAX_POOL_2D", [y], net.shape(y), same, "Pool2DOptions", **pooling)
    b = net.one("AVERAGE_POOL_2D", [y], net.shape(y), same, "Pool2DOptions", **pooling)
    shape = (*net.shape(y)[:3], 2 * net.shape(y)[3])
    options = {"axis": 3, "fused_activation_function": "NONE"}
    return [net.one("CONCATENATION", [a, b], shape, same, "ConcatenationOptions", **options)]


def recurrent(net: OperatorSketch) -> list[int]:
    """UNIDIRECTIONAL_SEQUENCE_LSTM, int8 with an int16 cell."""
    steps, inner, units = net.size(2, 6), net.size(4, 20), net.size(4, 20)
    time_major = net.chance()
    x = net.x((steps, 1, inner) if time_major else (1, steps, inner), net.quantization(around=1 / 64))
    hidden = Quantization((1 / 128,), (0,))
    x_scale = net.quantization_of(x).scale[0]
    inputs: list[int] = [x]
    scales = [float(np.float32(2.0 ** net.random.uniform(-8, -6))) for _ in range(2 * _GATES)]
    for number, scale in enumerate(scales):
        values = net.random.integers(-127, 128, (units, inner if number < _GATES else units)).astype(np.int8)
        inputs.append(net.constant(f"w{number}", values, Quantization((scale,), (0,))))
    inputs += [-1, -1, -1]
    for number in range(_GATES):
        bias = net.random.integers(-3000, 3000, units).astype(np.int32)
        scale = float(np.float32(x_scale) * np.float32(scales[number]))
        inputs.append(net.constant(f"bias{number}", bias, Quantization((scale,), (0,))))
    inputs += [-1, -1]
    inputs.append(net.variable("hidden", (1, units), net.dtype, hidden))
    inputs.append(net.variable("cell", (1, units), "int16", Quantization((1 / 2048,), (0,))))
    inputs += [-1, -1, -1, -1]
    options = {
        "fused_activation_function": "TANH", "cell_clip": 0.0, "proj_clip": 0.0, "time_major": time_major,
        "asymmetric_quantize_inputs": False, "diagonal_recurrent_tensors": False,
    }  # fmt: skip
    shape = (steps, 1, units) if time_major else (1, steps, units)
    return [net.lstm(inputs, shape, hidden, options)]
