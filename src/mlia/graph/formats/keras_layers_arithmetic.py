"""Layers of Keras that compute element by element: normalizations, merges and activations with parameters."""

from collections.abc import Sequence
from typing import Any

import numpy

from mlia.graph.formats.keras_activations import activation, clipped, elu, leaky_relu, softmax
from mlia.graph.formats.keras_builder import LayerBuilder
from mlia.graph.formats.keras_layer import Layer


def batch_normalization(net: LayerBuilder, layer: Layer, x: int) -> int:
    """MUL and ADD along one axis, which are folded into the convolution before them later, where there is one."""
    shape = net.shape(x)
    axis = layer.axis(-1, len(shape))
    channels = shape[axis]
    scaled, centered = layer.flag("scale", True), layer.flag("center", True)
    *affine, mean, variance = layer.arrays(*[(channels,)] * (2 + scaled + centered))
    factor = 1 / numpy.sqrt(variance.astype(numpy.float64) + layer.number("epsilon", 1e-3))
    if scaled:
        factor = factor * affine[0]
    term = -mean * factor + (affine[-1] if centered else 0)
    aligned = (channels,) if axis == len(shape) - 1 else [size if i == axis else 1 for i, size in enumerate(shape)]
    return _affine(net, layer, x, factor.reshape(aligned), term.reshape(aligned), layer.weights[-1])


def layer_normalization(net: LayerBuilder, layer: Layer, x: int) -> int:
    """LayerNormalization along the last axis, from mean and variance."""
    shape, name = net.shape(x), layer.name
    if layer.axis(-1, len(shape)) != len(shape) - 1 or layer.flag("rms_scaling"):
        layer.refuse("it normalizes along another axis than the last, or by the root of the mean square")
    scaled, centered = layer.flag("scale", True), layer.flag("center", True)
    affine = layer.arrays(*[(shape[-1],)] * (scaled + centered))
    centre = net.binary("SUB", x, net.reduce("MEAN", x, [-1], f"{name}/mean", keep=True), f"{name}/centered")
    square = net.binary("MUL", centre, centre, f"{name}/square")
    variance = net.reduce("MEAN", square, [-1], f"{name}/variance", keep=True)
    factor = net.unary("RSQRT", net.shifted(variance, layer.number("epsilon", 1e-3), f"{name}/epsilon"), f"{name}/root")
    y = net.binary("MUL", centre, factor, f"{name}/normalized" if affine else name)
    if scaled:
        gamma = net.weight(f"{name}/gamma", layer.weights[0], affine[0])
        y = net.binary("MUL", y, gamma, f"{name}/scaled" if centered else name)
    if centered:
        y = net.binary("ADD", y, net.weight(f"{name}/beta", layer.weights[-1], affine[-1]), name)
    return y


def rescaling(net: LayerBuilder, layer: Layer, x: int) -> int:
    """Rescaling: scale * x + offset."""
    factor = numpy.asarray(layer.config.get("scale", 1.0), numpy.float64)
    term = numpy.asarray(layer.config.get("offset", 0.0), numpy.float64)
    return _affine(net, layer, x, factor, term, layer.config)


def normalization(net: LayerBuilder, layer: Layer, x: int) -> int:
    """Normalization: (x - mean) / sqrt(variance), by stored or given figures along the last axis or one for all."""
    rank = len(net.shape(x))
    axes = layer.config.get("axis", -1)
    if axes not in (None, [], ()):
        layer.axis(-1, rank)
        if layer.axis(-1, rank) != rank - 1:
            layer.refuse(f"it works along axis {axes} and not the last")
    if layer.config.get("mean") is not None:
        mean, variance = (numpy.asarray(layer.config[key], numpy.float64) for key in ("mean", "variance"))
    else:
        if len(layer.weights) < 2:
            layer.refuse("it has neither weights nor figures in its configuration")
        mean, variance = (numpy.asarray(weight, numpy.float64) for weight in layer.weights[:2])
    mean, variance = mean.reshape(-1), variance.reshape(-1)
    if {mean.size, variance.size} - {1, net.shape(x)[-1]}:
        layer.refuse(f"it has {mean.size} means for {net.shape(x)[-1]} channels")
    deviation = numpy.maximum(numpy.sqrt(variance), 1e-7)  # what Keras uses against a variance of zero
    if layer.flag("invert"):
        return _affine(net, layer, x, deviation, mean, layer.config)
    return _affine(net, layer, x, 1 / deviation, -mean / deviation, layer.config)


def merging(kind: str) -> Any:
    """Add, Subtract, Multiply, Maximum and Minimum of two and more tensors, in a chain."""

    def build(net: LayerBuilder, layer: Layer, inputs: Sequence[int]) -> int:
        return _chain(net, layer, kind, inputs, layer.name)

    return build


def average(net: LayerBuilder, layer: Layer, inputs: Sequence[int]) -> int:
    """Average of tensors."""
    return net.scaled(_chain(net, layer, "ADD", inputs, f"{layer.name}/sum"), 1 / len(inputs), layer.name)


def concatenate(net: LayerBuilder, layer: Layer, inputs: Sequence[int]) -> int:
    """Concatenate along one axis."""
    if len(inputs) == 1:
        return inputs[0]
    return net.concatenation(inputs, layer.axis(-1, len(net.shape(inputs[0]))), layer.name)


def dot(net: LayerBuilder, layer: Layer, inputs: Sequence[int]) -> int:
    """Dot of two tensors of rank 2, or of rank 3 along one axis of each."""
    first, second = inputs
    shapes = net.shape(first), net.shape(second)
    if layer.flag("normalize") or len(shapes[0]) != len(shapes[1]) or len(shapes[0]) not in (2, 3):
        layer.refuse(f"it multiplies the shapes {shapes[0]} and {shapes[1]}, or normalizes them")
    axes = layer.config["axes"]
    left, right = (axes, axes) if isinstance(axes, int) else axes
    left, right = left % len(shapes[0]), right % len(shapes[1])
    if 0 in (left, right) or shapes[0][left] != shapes[1][right]:
        layer.refuse(f"its axes are {axes}")
    if len(shapes[0]) == 2:
        return net.reduce("SUM", net.binary("MUL", first, second, f"{layer.name}/product"), [1], layer.name, keep=True)
    shape = (shapes[0][0], shapes[0][3 - left], shapes[1][3 - right])
    options = {"adj_x": left == 1, "adj_y": right == 2}
    return net.emit("BATCH_MATMUL", [first, second], shape, layer.name, "BatchMatMulOptions", dict(options))


def relu(net: LayerBuilder, layer: Layer, x: int) -> int:
    """ReLU with an upper bound, a slope below and a threshold."""
    high = None if layer.config.get("max_value") is None else layer.number("max_value", 6)
    slope, threshold = layer.number("negative_slope", 0), layer.number("threshold", 0)
    name = layer.name
    if not slope and not threshold:
        return clipped(net, x, 0, high, name)
    last = name if high is None else f"{name}/leaky"
    if not threshold:
        y = leaky_relu(net, x, slope, last)
    else:
        above = net.emit(
            "GREATER_EQUAL", [x, net.number(f"{name}/threshold", threshold)], net.shape(x), f"{name}/above",
            "GreaterEqualOptions", dtype="bool",
        )  # fmt: skip
        below = net.scaled(net.shifted(x, -threshold, f"{name}/shift"), slope, f"{name}/below")
        y = net.emit("SELECT_V2", [above, x, below], net.shape(x), last, "SelectV2Options", dtype="float32")
    return y if high is None else clipped(net, y, None, high, name)


def leaky(net: LayerBuilder, layer: Layer, x: int) -> int:
    """LeakyReLU; Keras 2 calls the slope alpha."""
    key = "alpha" if "alpha" in layer.config else "negative_slope"
    return leaky_relu(net, x, layer.number(key, 0.3), layer.name)


def prelu(net: LayerBuilder, layer: Layer, x: int) -> int:
    """PReLU with one slope per element, or shared along axes."""
    shape = net.shape(x)[1:]
    shared = [axis - 1 for axis in layer.config.get("shared_axes") or []]
    (alpha,) = layer.arrays(tuple(1 if axis in shared else size for axis, size in enumerate(shape)))
    return net.emit("PRELU", [x, net.weight(f"{layer.name}/alpha", layer.weights[0], alpha)], net.shape(x), layer.name)


def elu_layer(net: LayerBuilder, layer: Layer, x: int) -> int:
    """ELU with an alpha."""
    return elu(net, x, layer.number("alpha", 1.0), layer.name)


def softmax_layer(net: LayerBuilder, layer: Layer, x: int) -> int:
    """Softmax along one axis."""
    return softmax(net, x, layer.axis(-1, len(net.shape(x))), layer.name)


def activation_layer(net: LayerBuilder, layer: Layer, x: int) -> int:
    """Activation by name."""
    return activation(net, layer, x, layer.config["activation"], layer.name)


def _chain(net: LayerBuilder, layer: Layer, kind: str, inputs: Sequence[int], name: str) -> int:
    if len({len(net.shape(x)) for x in inputs}) != 1:
        layer.refuse(f"it merges tensors of different ranks: {[net.shape(x) for x in inputs]}")
    result = inputs[0]
    for number, x in enumerate(inputs[1:], start=1):
        result = net.binary(kind, result, x, name if number == len(inputs) - 1 else f"{name}/{number}")
    return result


def _affine(net: LayerBuilder, layer: Layer, x: int, factor: Any, term: Any, source: Any) -> int:
    """x * factor + term, without what changes nothing."""
    plain = not numpy.any(term)
    if not plain or not numpy.all(factor == 1):
        x = net.binary(
            "MUL", x, net.weight(f"{layer.name}/factor", source, factor), layer.name + "/scale" * (not plain)
        )
    return x if plain else net.binary("ADD", x, net.weight(f"{layer.name}/term", source, term), layer.name)
