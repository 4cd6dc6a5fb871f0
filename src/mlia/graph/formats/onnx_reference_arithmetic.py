"""ONNX's arithmetic on elements, matrices and whole axes, in numpy.

Source: https://onnx.ai/onnx/operators/
"""

from math import erf, prod
from typing import Any

import numpy

from mlia.graph.formats.onnx_model import Node

Array = Any


def numbers(node: Node, key: str, given: Array = None) -> list[int] | None:
    """Integers that are an attribute in old versions of an operator, and an input in new ones."""
    if given is not None:
        return [int(each) for each in numpy.atleast_1d(given).tolist()]
    return node.integers(key) if key in node.attributes else None


def aligned(node: Node, x: Array, y: Array) -> Array:
    """The second operand; before version 7 it was broadcast from `axis` on."""
    if node.opset < 7 and node.integer("broadcast", 0) and y.ndim:
        axis = node.integer("axis", x.ndim - y.ndim) % max(x.ndim, 1)
        return y.reshape(*y.shape, *[1] * (x.ndim - axis - y.ndim))
    return y


def binary(function: Any) -> Any:
    """An operator on two arrays that broadcasts."""

    def compute(node: Node, x: Array, y: Array) -> Array:
        return function(x, aligned(node, x, y))

    return compute


def variadic(function: Any) -> Any:
    """An operator on any number of arrays."""

    def compute(node: Node, *arrays: Array) -> Array:
        result = arrays[0]
        for each in arrays[1:]:
            result = function(result, each)
        return result

    return compute


def unary(function: Any) -> Any:
    """An operator on each element."""
    return lambda node, x: function(x)


def divide(x: Array, y: Array) -> Array:
    """Integers are rounded towards zero."""
    if x.dtype.kind in "iu":
        return (numpy.sign(x) * numpy.sign(y) * (abs(x) // abs(y))).astype(x.dtype)
    return x / y


def power(node: Node, x: Array, y: Array) -> Array:
    """Pow."""
    return numpy.power(x, aligned(node, x, y).astype(x.dtype) if x.dtype.kind == "f" else y).astype(x.dtype)


def modulo(node: Node, x: Array, y: Array) -> Array:
    """Mod."""
    return numpy.fmod(x, y) if node.integer("fmod", 0) else numpy.mod(x, y)


def clip(node: Node, x: Array, low: Array = None, high: Array = None) -> Array:
    """Clip."""
    low, high = clip_limits(node, low, high)
    return numpy.clip(
        x, x.dtype.type(low) if low is not None else None, x.dtype.type(high) if high is not None else None
    )


def clip_limits(node: Node, low: Array = None, high: Array = None) -> tuple[float | None, float | None]:
    """The limits of a Clip, None where there is none; attributes before version 11, inputs since."""
    ends = []
    for given, key in ((low, "min"), (high, "max")):
        value = float(given.reshape(-1)[0]) if given is not None else None
        if value is None and key in node.attributes:
            value = node.number(key, 0.0)
        ends.append(value if value is not None and abs(value) < 3e38 else None)
    return ends[0], ends[1]


def softmax(node: Node, x: Array) -> Array:
    """Softmax."""
    y = _shifted(node, x)
    return (numpy.exp(y) / _summed(node, numpy.exp(y))).astype(numpy.float32)


def log_softmax(node: Node, x: Array) -> Array:
    """LogSoftmax."""
    y = _shifted(node, x)
    return (y - numpy.log(_summed(node, numpy.exp(y)))).astype(numpy.float32)


def softmax_axes(node: Node, rank: int) -> tuple[int, ...]:
    """Along one axis; before version 13 along that axis and all behind it."""
    if node.opset < 13:
        return tuple(range(node.integer("axis", 1) % max(rank, 1), rank))
    return (node.integer("axis", -1) % rank,)


def _shifted(node: Node, x: Array) -> Array:
    return x - x.max(softmax_axes(node, x.ndim), keepdims=True)


def _summed(node: Node, x: Array) -> Array:
    return x.sum(softmax_axes(node, x.ndim), keepdims=True)


def gelu(node: Node, x: Array) -> Array:
    """Gelu."""
    if node.text("approximate", "none") == "tanh":
        return (0.5 * x * (1 + numpy.tanh(numpy.sqrt(2 / numpy.pi) * (x + 0.044715 * x**3)))).astype(numpy.float32)
    return (0.5 * x * (1 + _erf(x / numpy.sqrt(2)))).astype(numpy.float32)


def _erf(x: Array) -> Array:
    flat = [erf(float(each)) for each in x.reshape(-1)]
    return numpy.array(flat, numpy.float32).reshape(x.shape)


def gemm(node: Node, a: Array, b: Array, c: Array = None) -> Array:
    """Gemm."""
    a = a.T if node.integer("transA", 0) else a
    b = b.T if node.integer("transB", 0) else b
    y = node.number("alpha", 1.0) * (a @ b)
    return (y if c is None else y + node.number("beta", 1.0) * c).astype(a.dtype)


def batch_normalization(node: Node, x: Array, scale: Array, bias: Array, mean: Array, variance: Array) -> Array:
    """BatchNormalization."""
    factor, term = normalization(node, scale, bias, mean, variance)
    shape = [-1, *[1] * (x.ndim - 2)] if x.ndim > 1 else [-1]
    return (x * factor.reshape(shape) + term.reshape(shape)).astype(numpy.float32)


def normalization(node: Node, scale: Array, bias: Array, mean: Array, variance: Array) -> tuple[Array, Array]:
    """What a BatchNormalization multiplies by and adds, per channel."""
    if node.integer("training_mode", 0) or not node.integer("spatial", 1):
        node.refuse("it normalizes as in training")
    factor = scale.astype(numpy.float64) / numpy.sqrt(variance.astype(numpy.float64) + node.number("epsilon", 1e-5))
    return factor, bias - mean * factor


def _standardized(node: Node, x: Array, axes: tuple[int, ...]) -> Array:
    wide = x.astype(numpy.float64)
    centered = wide - wide.mean(axes, keepdims=True)
    return centered / numpy.sqrt((centered**2).mean(axes, keepdims=True) + node.number("epsilon", 1e-5))


def instance_normalization(node: Node, x: Array, scale: Array, bias: Array) -> Array:
    """InstanceNormalization."""
    shape = [-1, *[1] * (x.ndim - 2)]
    y = _standardized(node, x, tuple(range(2, x.ndim)))
    return (y * scale.reshape(shape) + bias.reshape(shape)).astype(numpy.float32)


def group_normalization(node: Node, x: Array, scale: Array, bias: Array) -> Array:
    """GroupNormalization."""
    groups = node.integer("num_groups", 1)
    y = _standardized(node, x.reshape(x.shape[0], groups, -1), (2,)).reshape(x.shape)
    shape = [-1, *[1] * (x.ndim - 2)]
    if len(scale) != x.shape[1]:  # version 18 has one figure for each group
        scale, bias = (numpy.repeat(each, x.shape[1] // groups) for each in (scale, bias))
    return (y * scale.reshape(shape) + bias.reshape(shape)).astype(numpy.float32)


def layer_normalization(node: Node, x: Array, scale: Array, bias: Array = None) -> Array:
    """LayerNormalization."""
    if len([name for name in node.outputs if name]) > 1:
        node.refuse("it also gives mean and deviation")
    y = _standardized(node, x, tuple(range(node.integer("axis", -1) % x.ndim, x.ndim))) * scale
    return (y if bias is None else y + bias).astype(numpy.float32)


def reduction(function: Any) -> Any:
    """A reduction: `function(x, axes, keep)`."""

    def compute(node: Node, x: Array, axes: Array = None) -> Array:
        along = reduced_axes(node, x.ndim, axes)
        if not along and "noop_with_empty_axes" in node.attributes and node.integer("noop_with_empty_axes", 0):
            return x
        result = function(x, tuple(along) or tuple(range(x.ndim)), bool(node.integer("keepdims", 1)))
        return numpy.asarray(result).astype(x.dtype)

    return compute


def reduced_axes(node: Node, rank: int, axes: Array = None) -> list[int]:
    """The axes of a reduction, counted from 0; empty for all."""
    return sorted({axis % max(rank, 1) for axis in numbers(node, "axes", axes) or []})


def arg(function: Any) -> Any:
    """ArgMax and ArgMin."""

    def compute(node: Node, x: Array) -> Array:
        if node.integer("select_last_index", 0):
            node.refuse("it selects the last of equal values")
        axis = node.integer("axis", 0)
        y = function(x, axis=axis)
        return numpy.expand_dims(y, axis) if node.integer("keepdims", 1) else numpy.asarray(y)

    return compute


def lp_normalization(node: Node, x: Array) -> Array:
    """LpNormalization; a vector of zeros stays one."""
    axis = node.integer("axis", -1)
    if node.integer("p", 2) == 1:
        length = abs(x).sum(axis, keepdims=True)
    else:
        length = numpy.sqrt((x * x).sum(axis, keepdims=True))
    return x / numpy.where(length == 0, 1, length)


def cumulative_sum(node: Node, x: Array, axis: Array) -> Array:
    """CumSum."""
    place = int(axis.reshape(-1)[0])
    y = numpy.flip(x, place) if node.integer("reverse", 0) else x
    total = numpy.cumsum(y, place, dtype=x.dtype)
    total = total - y if node.integer("exclusive", 0) else total
    return numpy.flip(total, place) if node.integer("reverse", 0) else total


def _sigmoid(x: Array) -> Array:
    with numpy.errstate(over="ignore"):
        return 1 / (1 + numpy.exp(-x))


def _softplus(x: Array) -> Array:
    return numpy.maximum(x, 0) + numpy.log1p(numpy.exp(-abs(x)))


def _elu(x: Array, alpha: float) -> Array:
    return numpy.where(x > 0, x, alpha * (numpy.exp(numpy.minimum(x, 0)) - 1)).astype(numpy.float32)


def _selu(node: Node, x: Array) -> Array:
    alpha, gamma = node.number("alpha", 1.67326319217681884765625), node.number("gamma", 1.05070102214813232421875)
    return (gamma * _elu(x, alpha)).astype(numpy.float32)


def _celu(node: Node, x: Array) -> Array:
    alpha = node.number("alpha", 1.0)
    return (numpy.maximum(x, 0) + numpy.minimum(0, alpha * (numpy.exp(numpy.minimum(x, 0) / alpha) - 1))).astype(
        numpy.float32
    )


def _hard_sigmoid(x: Array, alpha: float, beta: float) -> Array:
    return numpy.clip(x * alpha + beta, 0, 1).astype(numpy.float32)


def _leaky(node: Node, x: Array) -> Array:
    return numpy.where(x < 0, x * numpy.float32(node.number("alpha", 0.01)), x).astype(numpy.float32)


def _prelu(node: Node, x: Array, slope: Array) -> Array:
    if node.opset < 7 and slope.ndim == 1 and slope.size > 1:
        slope = slope.reshape(-1, *[1] * (x.ndim - 2))
    return numpy.where(x < 0, x * slope, x).astype(numpy.float32)


def _einsum(node: Node, *arrays: Array) -> Array:
    return numpy.einsum(node.text("equation", ""), *arrays).astype(arrays[0].dtype)


def _mean(node: Node, *arrays: Array) -> Array:
    return sum(arrays[1:], arrays[0]) / numpy.float32(len(arrays))


def _log_sum_exp(x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    return numpy.log(numpy.exp(x).sum(axes, keepdims=keep))


def _reduced(name: str) -> Any:
    return reduction(lambda x, axes, keep: getattr(numpy, name)(x, axis=axes, keepdims=keep))


_HARD_SWISH = (1 / 6, 0.5)
ARITHMETIC: dict[str, Any] = {
    "Add": binary(numpy.add), "Sub": binary(numpy.subtract), "Mul": binary(numpy.multiply), "Div": binary(divide),
    "Pow": power, "Mod": modulo, "Max": variadic(numpy.maximum), "Min": variadic(numpy.minimum),
    "Sum": variadic(numpy.add), "Mean": _mean, "Equal": binary(numpy.equal), "Less": binary(numpy.less),
    "Greater": binary(numpy.greater), "LessOrEqual": binary(numpy.less_equal),
    "GreaterOrEqual": binary(numpy.greater_equal), "And": binary(numpy.logical_and), "Or": binary(numpy.logical_or),
    "Xor": binary(numpy.logical_xor), "Not": unary(numpy.logical_not), "Neg": unary(numpy.negative),
    "Abs": unary(numpy.abs), "Exp": unary(numpy.exp), "Log": unary(numpy.log), "Sqrt": unary(numpy.sqrt),
    "Floor": unary(numpy.floor),
    "Ceil": unary(numpy.ceil), "Round": unary(numpy.round), "Sign": unary(numpy.sign), "Sin": unary(numpy.sin),
    "Cos": unary(numpy.cos), "Reciprocal": unary(lambda x: 1 / x), "Erf": unary(_erf), "Tanh": unary(numpy.tanh),
    "Relu": unary(lambda x: numpy.maximum(x, 0)), "Sigmoid": unary(_sigmoid), "Softplus": unary(_softplus),
    "Softsign": unary(lambda x: x / (1 + abs(x))), "Mish": unary(lambda x: x * numpy.tanh(_softplus(x))),
    "HardSwish": unary(lambda x: x * _hard_sigmoid(x, *_HARD_SWISH)),
    "HardSigmoid": lambda node, x: _hard_sigmoid(x, node.number("alpha", 0.2), node.number("beta", 0.5)),
    "LeakyRelu": _leaky, "PRelu": _prelu, "Elu": lambda node, x: _elu(x, node.number("alpha", 1.0)), "Selu": _selu,
    "Celu": _celu,
    "ThresholdedRelu": lambda node, x: numpy.where(x > node.number("alpha", 1.0), x, 0).astype(numpy.float32),
    "Swish": lambda node, x: x * _sigmoid(numpy.float32(node.number("alpha", 1.0)) * x),
    "Clip": clip, "Softmax": softmax, "LogSoftmax": log_softmax, "Gelu": gelu, "MatMul": lambda node, a, b: a @ b,
    "Gemm": gemm, "Einsum": _einsum, "BatchNormalization": batch_normalization,
    "InstanceNormalization": instance_normalization, "GroupNormalization": group_normalization,
    "LayerNormalization": layer_normalization, "LpNormalization": lp_normalization, "CumSum": cumulative_sum,
    "ArgMax": arg(numpy.argmax), "ArgMin": arg(numpy.argmin), "ReduceMean": _reduced("mean"),
    "ReduceSum": _reduced("sum"), "ReduceMax": _reduced("max"), "ReduceMin": _reduced("min"),
    "ReduceProd": _reduced("prod"),
    "ReduceL1": reduction(lambda x, axes, keep: abs(x).sum(axes, keepdims=keep)),
    "ReduceL2": reduction(lambda x, axes, keep: numpy.sqrt((x * x).sum(axes, keepdims=keep))),
    "ReduceSumSquare": reduction(lambda x, axes, keep: (x * x).sum(axes, keepdims=keep)),
    "ReduceLogSum": reduction(lambda x, axes, keep: numpy.log(x.sum(axes, keepdims=keep))),
    "ReduceLogSumExp": reduction(_log_sum_exp),
}  # fmt: skip


def elements(shape: Any) -> int:
    """How many elements a shape has."""
    return prod(int(size) for size in shape)
