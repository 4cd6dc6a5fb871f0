"""Single operators with weights or windows: convolutions, dense layers, pools and reductions."""

from collections.abc import Callable

import numpy as np

from mlia.graph.graph import Quantization
from tests.simulator.sketch import ACTIVATIONS, OperatorSketch

Draw = Callable[[OperatorSketch], list[int]]


def reach(size: int, kernel: int, stride: int, dilation: int, padding: str) -> int:
    """The length of a filter's output."""
    taps = (kernel - 1) * dilation + 1
    return -(-size // stride) if padding == "SAME" else (size - taps) // stride + 1


def filtered(
    net: OperatorSketch,
    *,
    kernel: tuple[int, int] | None = None,
    stride: tuple[int, int] | None = None,
    dilation: tuple[int, int] = (1, 1),
    filters: int = 0,
    groups: int = 1,
    per_channel: bool = True,
    shape: tuple[int, ...] = (),
    depthwise: int = 0,
    padding: str = "",
) -> list[int]:
    """CONV_2D, or with a multiplier `depthwise` DEPTHWISE_CONV_2D."""
    kernel = kernel or (net.size(1, 5), net.size(1, 5))
    stride = stride or net.choose((1, 1), (1, 1), (2, 2), (2, 1), (1, 2), (3, 3), (3, 1))
    padding = padding or net.choose("SAME", "VALID")
    taps = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    _, height, width, channels = shape or (1, net.size(taps[0], 14), net.size(taps[1], 14), net.depth())
    channels = groups * net.choose(1, 4, 8, 12) if groups > 1 else channels
    count = channels * depthwise or filters or groups * net.choose(1, 3, 8) * (groups > 1) or net.depth()
    x = net.x((1, height, width, channels))
    size = (1, *kernel, count) if depthwise else (count, *kernel, channels // groups)
    fan_in = kernel[0] * kernel[1] * (1 if depthwise else channels // groups)
    w, b, out = net.weights_and_bias(x, size, 3 if depthwise else 0, fan_in, per_channel)
    sides = (
        reach(height, kernel[0], stride[0], dilation[0], padding),
        reach(width, kernel[1], stride[1], dilation[1], padding),
    )
    options = {
        "padding": padding, "stride_h": stride[0], "stride_w": stride[1], "dilation_h_factor": dilation[0],
        "dilation_w_factor": dilation[1], "fused_activation_function": net.choose(*ACTIVATIONS),
    }  # fmt: skip
    if depthwise:
        options["depth_multiplier"] = depthwise
    kind, table = ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions") if depthwise else ("CONV_2D", "Conv2DOptions")
    return [net.one(kind, [x, w, b], (1, *sides, count), out, table, **options)]


def dilated(net: OperatorSketch) -> list[int]:
    return filtered(net, stride=(1, 1), dilation=(net.size(1, 4), net.size(2, 4)), kernel=(net.size(1, 3), 3))


def depthwise_dilated(net: OperatorSketch) -> list[int]:
    return filtered(net, stride=(1, 1), dilation=(net.size(2, 3), net.size(1, 3)), kernel=(3, 3), depthwise=1)


def many_weights(net: OperatorSketch) -> list[int]:
    """So many weights that they come to the NPU in parts."""
    shape = (1, net.size(3, 8), net.size(3, 8), net.choose(128, 160))
    return filtered(net, kernel=(3, 3), stride=(1, 1), filters=net.choose(96, 128, 200), shape=shape)


def large_kernel(net: OperatorSketch) -> list[int]:
    return filtered(net, kernel=(net.size(6, 11), net.size(6, 11)), shape=(1, 14, 14, net.size(1, 20)))


def long_stride(net: OperatorSketch) -> list[int]:
    stride = (net.size(4, 6), net.size(4, 6))
    return filtered(net, kernel=stride, stride=stride, shape=(1, 18, 18, net.size(1, 16)), padding="VALID")


def dense(net: OperatorSketch, per_channel: bool = False, moving: bool = False) -> list[int]:
    """FULLY_CONNECTED; with `moving` its weights are an input of the model."""
    outer = net.choose((1,), (1,), (net.size(2, 9),), (1, net.size(2, 6)))
    depth, units = net.depth() + net.size(0, 100), net.depth()
    x = net.x((*outer, depth))
    w, b, out = net.weights_and_bias(x, (units, depth), 0, depth, per_channel)
    inputs = [x, w, b]
    if moving:
        inputs = [x, net.x((units, depth), Quantization(net.quantization_of(w).scale, (0,)), "int8", "weights"), -1]
    options = {"fused_activation_function": net.choose(*ACTIVATIONS), "keep_num_dims": len(outer) > 1}
    return [net.one("FULLY_CONNECTED", inputs, (*outer, units), out, "FullyConnectedOptions", **options)]


def transposed(net: OperatorSketch) -> list[int]:
    """TRANSPOSE_CONV."""
    stride, padding = net.choose(1, 2, 2), net.choose("SAME", "VALID")
    kernel = (net.size(stride, 5), net.size(stride, 5))
    shape, filters = net.image_shape(2, 8), net.depth()
    x = net.x(shape)
    w, b, out = net.weights_and_bias(
        x, (filters, *kernel, shape[3]), 0, kernel[0] * kernel[1] * shape[3] // stride**2 + 1
    )
    sides = [
        size * stride + (0 if padding == "SAME" else taps - stride)
        for size, taps in zip(shape[1:3], kernel, strict=True)
    ]
    result = (1, *sides, filters)
    inputs = [net.integers("shape", *result), w, x, b]
    table, activation = "TransposeConvOptions", net.choose("NONE", "RELU")
    return [
        net.one(
            "TRANSPOSE_CONV", inputs, result, out, table, net.dtype, padding=padding, stride_w=stride, stride_h=stride,
            fused_activation_function=activation,
        )
    ]  # fmt: skip


def pooled(net: OperatorSketch, kind: str, largest: int = 6) -> list[int]:
    """AVERAGE_POOL_2D or MAX_POOL_2D."""
    kernel, padding = (net.size(1, largest), net.size(1, largest)), net.choose("SAME", "VALID")
    stride = (net.size(1, 3), net.size(1, 3))
    _, height, width, channels = net.image_shape(largest, 14)
    x = net.x((1, height, width, channels))
    sides = [reach(size, k, s, 1, padding) for size, k, s in zip((height, width), kernel, stride, strict=True)]
    options = {
        "padding": padding, "stride_h": stride[0], "stride_w": stride[1], "filter_height": kernel[0],
        "filter_width": kernel[1], "fused_activation_function": net.choose(*ACTIVATIONS),
    }  # fmt: skip
    return [net.one(kind, [x], (1, *sides, channels), None, "Pool2DOptions", **options)]


def global_pool(net: OperatorSketch) -> list[int]:
    """AVERAGE_POOL_2D over everything."""
    _, height, width, channels = net.image_shape(3, 20)
    x = net.x((1, height, width, channels))
    options = {
        "padding": "VALID", "stride_h": 1, "stride_w": 1, "filter_height": height, "filter_width": width,
        "fused_activation_function": "NONE",
    }  # fmt: skip
    return [net.one("AVERAGE_POOL_2D", [x], (1, 1, 1, channels), None, "Pool2DOptions", **options)]


def reduced(net: OperatorSketch, kind: str, axes: tuple[int, ...], same: bool = False) -> list[int]:
    """MEAN, SUM, REDUCE_MAX, REDUCE_MIN, …; `same` keeps the input's quantization."""
    shape = net.image_shape()
    if kind == "MEAN" and 3 in axes:
        shape = (1, 1, shape[2], shape[3]) if net.chance() else (1, shape[1], 1, shape[3])
    # Vela 5.2 drops the height where the reduced width or depth is not kept (mlia.simulator.differences).
    x, keeps = net.x(shape), net.chance() or (same and axes[0] > 1)
    kept = [1 if i in axes else size for i, size in enumerate(shape) if keeps or i not in axes]
    factor = np.sqrt(np.prod([shape[i] for i in axes])) ** (1 if kind == "SUM" else -1)
    out = None if same else net.quantization(around=net.quantization_of(x).scale[0] * factor)
    return [net.one(kind, [x, net.integers("axes", *axes)], kept, out, "ReducerOptions", keep_dims=keeps)]


def largest_of(net: OperatorSketch) -> list[int]:
    """ARG_MAX over channels."""
    _, height, width, channels = net.image_shape()
    x = net.x((1, height, width, min(channels + 1, 127)))
    dtype = net.choose("int32", "int64")
    axis = net.integers("axis", 3)
    plain, table = Quantization((1.0,), (0,)), "ArgMaxOptions"
    return [net.one("ARG_MAX", [x, axis], (1, height, width), plain, table, dtype, output_type=dtype.upper())]


def multiplied(net: OperatorSketch) -> list[int]:
    """BATCH_MATMUL of two inputs."""
    batch, rows, inner, columns = net.size(1, 3), net.size(1, 10), net.size(2, 40), net.size(1, 20)
    turns = net.chance()
    a = net.x((batch, rows, inner))
    b = net.x((batch, columns, inner) if turns else (batch, inner, columns))
    spread = (74.0 if net.dtype == "int8" else 18900.0) * np.sqrt(inner)
    out = net.quantization(around=net.quantization_of(a).scale[0] * net.quantization_of(b).scale[0] * spread)
    options = {"adj_x": False, "adj_y": turns, "asymmetric_quantize_inputs": False}
    return [net.one("BATCH_MATMUL", [a, b], (batch, rows, columns), out, "BatchMatMulOptions", **options)]
