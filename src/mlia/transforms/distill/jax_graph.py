"""A TFLite graph as a differentiable JAX function of its constants and inputs, in real numbers.

Written for one sample, in the shapes of the graph; jax.vmap makes batches of it. Only for modules that are
imported late: JAX takes a second to import.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from typing import TypeAlias

import jax
import numpy
from jax import lax
from jax import numpy as jnp

from mlia.errors import TransformError
from mlia.graph.graph import Operator, Subgraph
from mlia.transforms.calibration import Array
from mlia.transforms.constants import real, stored

_Inputs: TypeAlias = Sequence[Array]  # None for an optional input left out
_Implementation: TypeAlias = Callable[[Operator, _Inputs], Array]
_Pads: TypeAlias = list[tuple[int, int]]


def constants_of(subgraph: Subgraph) -> dict[int, Array]:
    """What the constants mean, by tensor index: float32 numbers, or integers (shapes, axes) as they are stored.

    Raises:
        TransformError: a constant is sparse.
    """
    found = {}
    for index, tensor in enumerate(subgraph.tensors):
        if tensor.is_sparse:
            raise TransformError(f"fine-tuning does not know sparse tensors ('{tensor.name}')")
        if tensor.is_constant:
            is_real = tensor.quantization is not None or tensor.dtype.startswith("float")
            found[index] = real(tensor) if is_real else stored(tensor)
    return found


def require_known(subgraph: Subgraph) -> None:
    """Refuse what compute() would not compute.

    Raises:
        TransformError: an operator, or one of its options, is not known.
    """
    for operator in subgraph.operators:
        name = subgraph.operator_name(operator)
        if operator.kind not in _IMPLEMENTATIONS:
            raise TransformError(f"fine-tuning does not know {operator.kind} ('{name}')")
        activation = operator.options.get("fused_activation_function", "NONE")
        if activation not in _ACTIVATIONS:
            raise TransformError(f"fine-tuning does not know {operator.kind} with {activation} ('{name}')")
        if operator.options.get("weights_format", "DEFAULT") != "DEFAULT":
            raise TransformError(f"fine-tuning does not know {operator.kind} with shuffled weights ('{name}')")


def compute(
    subgraph: Subgraph,
    constants: Mapping[int, Array],
    inputs: Sequence[Array],
    stored_as: Callable[[int, Array], Array] = lambda index, values: values,
) -> dict[int, Array]:
    """All tensors of a subgraph by index, for one sample.

    Args:
        subgraph: one that require_known() takes.
        constants: like constants_of(); those that are trained may be JAX's, shapes and axes must be numpy's.
        inputs: an array per input, in that input's shape, in real numbers.
        stored_as: what becomes of the real numbers in a computed tensor when they are stored, by its index:
            for an integer graph, rounding to its codes.
    """
    values = dict(constants)
    for index, array in zip(subgraph.inputs, inputs, strict=True):
        values[index] = stored_as(index, array)
    for operator in subgraph.operators:
        read = [values[index] if index >= 0 else None for index in operator.inputs]
        result = _IMPLEMENTATIONS[operator.kind](operator, read)
        activation = str(operator.options.get("fused_activation_function", "NONE"))
        output = operator.outputs[0]
        result = _ACTIVATIONS[activation](result).reshape(subgraph.tensors[output].shape)
        values[output] = stored_as(output, result)
    return values


def _convolution(operator: Operator, inputs: _Inputs) -> Array:
    """CONV_2D; weights (O, H, W, I), in groups when there are fewer input channels than in the images."""
    x, weights = inputs[:2]
    kernel, groups = weights.shape[1:3], x.shape[3] // weights.shape[3]
    strides, dilation = _pair(operator, "stride_{}"), _pair(operator, "dilation_{}_factor")
    if kernel == (1, 1) and groups == 1:
        # A product of matrices: a training step of DS-CNN takes 42 ms instead of 57 with it.
        return _biased(inputs, x[:, :: strides[0], :: strides[1]] @ weights[:, 0, 0].T)
    padding = _padding(operator, x.shape, kernel, strides, dilation)
    images = lax.conv_general_dilated(
        x,
        weights,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "OHWI", "NHWC"),
        feature_group_count=groups,
    )
    return _biased(inputs, images)


def _depthwise(operator: Operator, inputs: _Inputs) -> Array:
    """DEPTHWISE_CONV_2D; weights (1, H, W, C * multiplier), as a sum of shifted images.

    XLA's grouped convolutions are slow on CPUs.
    """
    x, weights = inputs[:2]
    dilation, kernel = _pair(operator, "dilation_{}_factor"), weights.shape[1:3]
    taps = _taps(operator, jnp.repeat(x, weights.shape[3] // x.shape[3], axis=3), kernel, dilation)
    kernels = weights.reshape(-1, weights.shape[3])
    return _biased(inputs, sum(tap * kernels[position] for position, tap in enumerate(taps)))


def _taps(
    operator: Operator, x: Array, kernel: Sequence[int], dilation: Sequence[int] = (1, 1), filled: float = 0.0
) -> Iterator[Array]:
    """For each position in the kernel, row by row, what all its windows see there: an array like the output."""
    strides = _pair(operator, "stride_{}")
    padding = _padding(operator, x.shape, kernel, strides, dilation)
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=filled)
    height, width = (
        (size - step * (taps - 1) - 1) // stride + 1
        for size, taps, stride, step in zip(x.shape[1:3], kernel, strides, dilation, strict=True)
    )
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            top, left = row * dilation[0], column * dilation[1]
            bottom, right = top + (height - 1) * strides[0] + 1, left + (width - 1) * strides[1] + 1
            yield lax.slice(x, (0, top, left, 0), (x.shape[0], bottom, right, x.shape[3]), (1, *strides, 1))


def _fully_connected(operator: Operator, inputs: _Inputs) -> Array:
    """FULLY_CONNECTED; weights (units, depth)."""
    x, weights = inputs[:2]
    return _biased(inputs, x.reshape(-1, weights.shape[1]) @ weights.T)


def _biased(inputs: _Inputs, result: Array) -> Array:
    return result if len(inputs) < 3 or inputs[2] is None else result + inputs[2]


def _average_pool(operator: Operator, inputs: _Inputs) -> Array:
    """AVERAGE_POOL_2D: the mean of what a window has of the image; padding does not count."""
    (x,) = inputs
    kernel = _pair(operator, "filter_{}", ("height", "width"))
    if (tiles := _tiles(operator, x, kernel)) is not None:
        return tiles.mean(axis=(2, 4))
    area = sum(_taps(operator, numpy.ones((1, *x.shape[1:3], 1), numpy.float32), kernel))
    return sum(_taps(operator, x, kernel)) / area


def _max_pool(operator: Operator, inputs: _Inputs) -> Array:
    (x,) = inputs
    kernel = _pair(operator, "filter_{}", ("height", "width"))
    if (tiles := _tiles(operator, x, kernel)) is not None:
        return tiles.max(axis=(2, 4))
    return reduce(jnp.maximum, _taps(operator, x, kernel, filled=-numpy.inf))


def _tiles(operator: Operator, x: Array, kernel: tuple[int, int]) -> Array | None:
    """Windows that do not overlap and need no padding, as (N, rows, height, columns, width, C); else None.

    Windows as large as the image would otherwise be a sum of as many shifted images as they have elements.
    """
    batch, height, width, channels = x.shape
    strides = _pair(operator, "stride_{}")
    padding = _padding(operator, x.shape, kernel, strides, (1, 1))
    rows, columns = (
        (size - taps) // stride + 1 for size, taps, stride in zip((height, width), kernel, strides, strict=True)
    )
    if padding != [(0, 0), (0, 0)] or (kernel != strides and (rows, columns) != (1, 1)):
        return None
    x = x[:, : rows * kernel[0], : columns * kernel[1]]
    return x.reshape(batch, rows, kernel[0], columns, kernel[1], channels)


def _mean(operator: Operator, inputs: _Inputs) -> Array:
    x, axes = inputs
    return x.mean(axis=tuple(int(axis) for axis in numpy.ravel(axes)))


def _softmax(operator: Operator, inputs: _Inputs) -> Array:
    return jax.nn.softmax(inputs[0] * softmax_beta(operator), axis=-1)


def softmax_beta(operator: Operator) -> float:
    """What a SOFTMAX multiplies its inputs by."""
    beta = operator.options.get("beta", 1.0)
    return float(beta) if isinstance(beta, int | float) else 1.0


def _leaky_relu(operator: Operator, inputs: _Inputs) -> Array:
    slope = operator.options.get("alpha", 0.0)
    return jnp.where(inputs[0] >= 0, inputs[0], inputs[0] * slope)


def _concatenation(operator: Operator, inputs: _Inputs) -> Array:
    return jnp.concatenate(inputs, axis=operator.number("axis"))


def _pair(operator: Operator, option: str, axes: tuple[str, str] = ("h", "w")) -> tuple[int, int]:
    """An option that comes once for rows and once for columns."""
    rows, columns = (operator.number(option.format(axis), 1) for axis in axes)
    return rows, columns


def _padding(
    operator: Operator, shape: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> _Pads:
    """Rows and columns added before and after. SAME: as many outputs as strides fit; the odd one goes after."""
    if operator.options.get("padding") != "SAME":
        return [(0, 0), (0, 0)]
    pads = []
    for size, taps, stride, step in zip(shape[1:3], kernel, strides, dilation, strict=True):
        missing = max((-(-size // stride) - 1) * stride + (taps - 1) * step + 1 - size, 0)
        pads.append((missing // 2, missing - missing // 2))
    return pads


def _elementwise(function: Callable[..., Array]) -> _Implementation:
    return lambda operator, inputs: function(*inputs)


def _relu_n1_to_1(x: Array) -> Array:
    return jnp.clip(x, -1.0, 1.0)


def _same(x: Array, *rest: Array) -> Array:
    return x


_ACTIVATIONS: dict[str | object, Callable[[Array], Array]] = {
    "NONE": _same, "RELU": jax.nn.relu, "RELU6": jax.nn.relu6, "RELU_N1_TO_1": _relu_n1_to_1, "TANH": jnp.tanh,
}  # fmt: skip
# compute() brings every result into its tensor's shape, so that reshaping is nothing at all.
_IMPLEMENTATIONS: dict[str, _Implementation] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "ADD": _elementwise(jnp.add),
    "SUB": _elementwise(jnp.subtract),
    "MUL": _elementwise(jnp.multiply),
    "AVERAGE_POOL_2D": _average_pool,
    "MAX_POOL_2D": _max_pool,
    "MEAN": _mean,
    "RESHAPE": _elementwise(_same),
    "SQUEEZE": _elementwise(_same),
    "EXPAND_DIMS": _elementwise(_same),
    "TRANSPOSE": lambda operator, inputs: jnp.transpose(inputs[0], [int(axis) for axis in inputs[1]]),
    "PAD": lambda operator, inputs: jnp.pad(inputs[0], [(int(before), int(after)) for before, after in inputs[1]]),
    "CONCATENATION": _concatenation,
    "SOFTMAX": _softmax,
    "RELU": _elementwise(jax.nn.relu),
    "RELU6": _elementwise(jax.nn.relu6),
    "RELU_N1_TO_1": _elementwise(_relu_n1_to_1),
    "LOGISTIC": _elementwise(jax.nn.sigmoid),
    "TANH": _elementwise(jnp.tanh),
    "HARD_SWISH": _elementwise(lambda x: x * jnp.clip(x + 3.0, 0.0, 6.0) / 6.0),
    "LEAKY_RELU": _leaky_relu,
    "QUANTIZE": _elementwise(_same),
    "DEQUANTIZE": _elementwise(_same),
}
