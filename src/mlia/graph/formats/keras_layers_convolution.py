"""Convolutions and dense layers of Keras: their kernels in TFLite's order, one axis as two with a height of 1."""

from typing import Any

import numpy

from mlia.graph.formats.keras_activations import activation, has_activation
from mlia.graph.formats.keras_builder import LayerBuilder, windows
from mlia.graph.formats.keras_layer import Layer
from mlia.graph.graph import OptionValue

Size = tuple[int, int]


def dense(net: LayerBuilder, layer: Layer, x: int) -> int:
    """Dense over the last axis of any rank."""
    if layer.config.get("quantization_config") or layer.config.get("lora_rank"):
        layer.refuse("it is quantized or has LoRA weights")
    units = int(layer.config["units"])
    kernel, *bias = layer.arrays((None, units), *_bias_shape(layer, units))
    weights = net.weight(f"{layer.name}/weights", layer.weights[0], kernel.T)
    offset = net.weight(f"{layer.name}/bias", layer.weights[1], bias[0]) if bias else None
    return _finish(net, layer, lambda name: net.dense(x, weights, offset, name))


def convolution(rank: int) -> Any:
    """Conv1D and Conv2D, also grouped, dilated and causal. Keras: (…, inputs / groups, filters)."""

    def build(net: LayerBuilder, layer: Layer, x: int) -> int:
        filters = int(layer.config["filters"])
        channels, groups = net.shape(x)[-1], int(layer.config.get("groups", 1))
        if groups < 1 or channels % groups or filters % groups:
            layer.refuse(f"it has {groups} groups for {channels} channels and {filters} filters")
        shape = (*_kernel(layer, rank), channels // groups, filters)
        kernel, *bias = layer.arrays(shape[2 - rank :], *_bias_shape(layer, filters))
        values = kernel.reshape(shape).transpose(3, 0, 1, 2)
        weights = net.weight(f"{layer.name}/weights", layer.weights[0], values)
        offset = _bias(net, layer, bias, filters)
        return _finish_planar(
            net, layer, x, rank, lambda y, name: _convolve(net, layer, y, rank, weights, offset, name)
        )

    return build


def depthwise(rank: int) -> Any:
    """DepthwiseConv1D and 2D. Keras: (…, inputs, multiplier)."""

    def build(net: LayerBuilder, layer: Layer, x: int) -> int:
        multiplier = int(layer.config.get("depth_multiplier", 1))
        channels = net.shape(x)[-1]
        # Keras 2 writes what it inherits from Conv and does not use: groups of 1.
        layer.demand("groups", 1, None, channels)
        shape = (*_kernel(layer, rank), channels, multiplier)
        kernel, *bias = layer.arrays(shape[2 - rank :], *_bias_shape(layer, channels * multiplier))
        weights = _depthwise_weights(net, layer, shape, kernel)
        offset = _bias(net, layer, bias, channels * multiplier)
        return _finish_planar(
            net, layer, x, rank, lambda y, name: _convolve(net, layer, y, rank, weights, offset, name, multiplier)
        )

    return build


def separable(rank: int) -> Any:
    """SeparableConv1D and 2D: a depthwise convolution without bias, then one of a single point."""

    def build(net: LayerBuilder, layer: Layer, x: int) -> int:
        multiplier, filters = int(layer.config.get("depth_multiplier", 1)), int(layer.config["filters"])
        channels = net.shape(x)[-1]
        shape = (*_kernel(layer, rank), channels, multiplier)
        point = (1, 1, channels * multiplier, filters)
        wanted = (shape[2 - rank :], point[2 - rank :])
        kernel, pointwise, *bias = layer.arrays(*wanted, *_bias_shape(layer, filters))
        weights = _depthwise_weights(net, layer, shape, kernel)
        mixing = net.weight(
            f"{layer.name}/pointwise/weights", layer.weights[1], pointwise.reshape(point).transpose(3, 0, 1, 2)
        )
        nothing = net.number(f"{layer.name}/depthwise/bias", [0.0] * (channels * multiplier))
        offset = _bias(net, layer, bias, filters)

        def apply(y: int, name: str) -> int:
            middle = _convolve(net, layer, y, rank, weights, nothing, f"{layer.name}/depthwise", multiplier)
            return _emit(net, middle, mixing, offset, "VALID", (1, 1), (1, 1), name)

        return _finish_planar(net, layer, x, rank, apply)

    return build


def transposed(rank: int) -> Any:
    """Conv1DTranspose and Conv2DTranspose. Keras: (…, filters, inputs)."""

    def build(net: LayerBuilder, layer: Layer, x: int) -> int:
        if layer.config.get("output_padding") is not None or layer.pair("dilation_rate", 1, rank) != (1, 1):
            layer.refuse("it has an output_padding or a dilation, which TFLite's TRANSPOSE_CONV has not")
        filters, channels = int(layer.config["filters"]), net.shape(x)[-1]
        size, stride = _kernel(layer, rank), layer.pair("strides", 1, rank)
        shape = (*size, filters, channels)
        kernel, *bias = layer.arrays(shape[2 - rank :], *_bias_shape(layer, filters))
        values = kernel.reshape(shape).transpose(2, 0, 1, 3)
        weights = net.weight(f"{layer.name}/weights", layer.weights[0], values)
        offset = _bias(net, layer, bias, filters)
        padding = _padding(layer)

        def apply(y: int, name: str) -> int:
            batch, *plane, _ = net.shape(y)
            rest = [0, 0] if padding == "SAME" else [max(k - s, 0) for k, s in zip(size, stride, strict=True)]
            if rank == 1:
                rest[0] = 0
            rows, columns = (n * s + more for n, s, more in zip(plane, stride, rest, strict=True))
            target = net.sizes(f"{layer.name}/shape", (batch, rows, columns, filters))
            options: dict[str, OptionValue] = {
                "padding": padding, "stride_w": stride[1], "stride_h": stride[0], "fused_activation_function": "NONE",
            }  # fmt: skip
            return net.emit(
                "TRANSPOSE_CONV", [target, weights, y, offset], (batch, rows, columns, filters), name,
                "TransposeConvOptions", options, version=3, dtype="float32",
            )  # fmt: skip

        return _finish_planar(net, layer, x, rank, apply)

    return build


def planar(net: LayerBuilder, layer: Layer, x: int, rank: int) -> int:
    """(B, H, W, C) from the input of a layer of that rank; channels must come last."""
    layer.demand("data_format", "channels_last", None)
    layer.expect(net.shape(x), rank + 2)
    if rank == 2:
        return x
    batch, length, channels = net.shape(x)
    return net.reshape(x, (batch, 1, length, channels), f"{layer.name}/expand", extra=True)


def linear(net: LayerBuilder, x: int, rank: int, name: str) -> int:
    """Undo `planar`."""
    if rank == 2:
        return x
    batch, _, length, channels = net.shape(x)
    return net.reshape(x, (batch, length, channels), name, extra=True)


def _finish(net: LayerBuilder, layer: Layer, apply: Any) -> int:
    """The layer's operator and its activation, of which the last has the layer's name."""
    if not has_activation(layer):
        return int(apply(layer.name))
    return activation(net, layer, apply(f"{layer.name}/linear"), layer.config["activation"], layer.name)


def _finish_planar(net: LayerBuilder, layer: Layer, x: int, rank: int, apply: Any) -> int:
    """The same for an operator of (B, H, W, C)."""
    y = planar(net, layer, x, rank)
    if rank == 2:
        return _finish(net, layer, lambda name: apply(y, name))
    return _finish(net, layer, lambda name: linear(net, apply(y, f"{layer.name}/planar"), rank, name))


def _convolve(
    net: LayerBuilder, layer: Layer, x: int, rank: int, weights: int, bias: int, name: str, multiplier: int = 0
) -> int:
    stride, dilation = layer.pair("strides", 1, rank), layer.pair("dilation_rate", 1, rank)
    padding = _padding(layer)
    if layer.config.get("padding") == "causal":
        reach = (_kernel(layer, rank)[1] - 1) * dilation[1]
        if reach:
            x = net.pad(x, [(0, 0), (0, 0), (reach, 0), (0, 0)], f"{layer.name}/pad", extra=True)
    return _emit(net, x, weights, bias, padding, stride, dilation, name, multiplier)


def _emit(
    net: LayerBuilder, x: int, weights: int, bias: int, padding: str, stride: Size, dilation: Size, name: str,
    multiplier: int = 0,
) -> int:  # fmt: skip
    """CONV_2D, or DEPTHWISE_CONV_2D where there is a multiplier."""
    batch, height, width, _ = net.shape(x)
    _, rows, columns, _ = net.shape(weights)
    shape = (
        batch,
        windows(height, rows, stride[0], dilation[0], padding),
        windows(width, columns, stride[1], dilation[1], padding),
        net.shape(bias)[0],
    )
    options: dict[str, OptionValue] = {
        "padding": padding, "stride_w": stride[1], "stride_h": stride[0], "fused_activation_function": "NONE",
        "dilation_w_factor": dilation[1], "dilation_h_factor": dilation[0],
    }  # fmt: skip
    if not multiplier:
        return net.emit("CONV_2D", [x, weights, bias], shape, name, "Conv2DOptions", options)
    options["depth_multiplier"] = multiplier
    return net.emit(
        "DEPTHWISE_CONV_2D", [x, weights, bias], shape, name, "DepthwiseConv2DOptions", options,
        version=1 if dilation == (1, 1) else 2,
    )  # fmt: skip


def _depthwise_weights(net: LayerBuilder, layer: Layer, shape: tuple[int, ...], kernel: Any) -> int:
    values = kernel.reshape(1, *shape[:2], shape[2] * shape[3])
    return net.weight(f"{layer.name}/depthwise/weights", layer.weights[0], values)


def _padding(layer: Layer) -> str:
    padding = str(layer.config.get("padding", "valid")).upper()
    if padding == "CAUSAL":
        return "VALID"  # after a PAD
    if padding not in ("SAME", "VALID"):
        layer.refuse(f"its padding is {padding.lower()!r}")
    return padding


def _kernel(layer: Layer, rank: int) -> Size:
    return layer.pair("kernel_size", 1, rank)


def _bias_shape(layer: Layer, size: int) -> list[tuple[int]]:
    return [(size,)] if layer.flag("use_bias", True) else []


def _bias(net: LayerBuilder, layer: Layer, bias: list[Any], size: int) -> int:
    """The bias; TFLite's converters write zeros where there is none, and so do we."""
    if bias:
        return net.weight(f"{layer.name}/bias", layer.weights[-1], bias[0])
    return net.weight(f"{layer.name}/bias", layer.weights[0], numpy.zeros(size, numpy.float32))
