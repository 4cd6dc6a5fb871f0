"""Strides above 3: what SAME padding, dilation and depthwise kernels leave in the way of them, made explicit."""

from collections.abc import Collection

import numpy
from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Operator, OptionValue
from mlia.transforms.calibration import Array
from mlia.transforms.remedies.pieces import SAME, VALID, Pieces, each, same_padding
from mlia.transforms.remedies.places import Place

_AXES = ((1, "h"), (2, "w"))
_LARGEST = 3  # the largest stride of the hardware's kernels


def plain_convolutions(graph: Graph, places: Collection[Place]) -> Graph:
    """CONV_2D with PAD in front instead of SAME padding, and zeros in the weights instead of dilation: the same sums.

    Raises:
        TransformError: no such convolution.
    """
    return each(graph, places, _plain_convolution)


def _plain_convolution(pieces: Pieces) -> int:
    operator = _of_kind(pieces, "CONV_2D")
    weights = _weights(pieces, operator)
    spread = _spread(pieces, operator, weights)
    x = _padded(pieces, operator, spread.shape)
    index = pieces.constant("weights", spread, pieces.tensor(operator.inputs[1]).quantization)
    shape = pieces.shape(operator.outputs[0])
    options: dict[str, OptionValue] = {"padding": VALID, "dilation_h_factor": 1, "dilation_w_factor": 1}
    return pieces.again(operator, [x, index, *operator.inputs[2:]], shape, **options)


def subsampled_depthwise(graph: Graph, places: Collection[Place]) -> Graph:
    """DEPTHWISE_CONV_2D with a stride that divides its own, and STRIDED_SLICE behind that drops the rest.

    Raises:
        TransformError: no such convolution.
    """
    return each(graph, places, _subsampled_depthwise)


def _subsampled_depthwise(pieces: Pieces) -> int:
    operator = _of_kind(pieces, "DEPTHWISE_CONV_2D")
    weights = _weights(pieces, operator)
    x = _padded(pieces, operator, _reach(operator, weights.shape))
    options: dict[str, OptionValue] = {"padding": VALID}
    size = [*pieces.shape(operator.outputs[0])]
    dropped = []
    if weights.shape[1:3] == (1, 1):
        for axis, letter in _AXES:
            x = pieces.every(x, axis, 0, operator.number(f"stride_{letter}", 1))
            options[f"stride_{letter}"] = 1
        return pieces.again(operator, [x, *operator.inputs[1:]], size, **options)
    for axis, letter in _AXES:
        stride = operator.number(f"stride_{letter}", 1)
        smaller = max(step for step in range(1, _LARGEST + 1) if stride % step == 0)
        reach = _reach(operator, weights.shape)[axis]
        options[f"stride_{letter}"] = smaller
        size[axis] = (pieces.shape(x)[axis] - reach) // smaller + 1
        dropped.append((axis, stride // smaller))
    x = pieces.again(operator, [x, *operator.inputs[1:]], size, **options)
    for axis, step in dropped:
        x = pieces.every(x, axis, 0, step)
    return x


def depthwise_as_convolution(graph: Graph, places: Collection[Place]) -> Graph:
    """DEPTHWISE_CONV_2D as CONV_2D whose weights are zero but for the own channel: the same sums, many more zeros.

    Raises:
        TransformError: no such convolution.
    """
    return each(graph, places, _depthwise_as_convolution)


def _depthwise_as_convolution(pieces: Pieces) -> int:
    operator = _of_kind(pieces, "DEPTHWISE_CONV_2D")
    weights = _spread(pieces, operator, _weights(pieces, operator))
    x = _padded(pieces, operator, weights.shape)
    channels, filters = pieces.shape(x)[3], weights.shape[3]
    quantization = pieces.tensor(operator.inputs[1]).quantization
    if filters % channels or filters * channels * weights.shape[1] * weights.shape[2] > 1 << 22:
        raise TransformError(f"the weights of '{pieces.name}' would be too large as CONV_2D")
    dense = numpy.full((filters, *weights.shape[1:3], channels), _zero(pieces, operator), weights.dtype)
    own = numpy.arange(filters)
    dense[own, :, :, own // (filters // channels)] = weights[0].transpose(2, 0, 1)
    if quantization is not None:
        quantization = replace(quantization, axis=0)
    index = pieces.constant("weights", dense, quantization)
    options: dict[str, OptionValue] = {
        "padding": VALID, "stride_h": operator.number("stride_h", 1), "stride_w": operator.number("stride_w", 1),
        "dilation_h_factor": 1, "dilation_w_factor": 1,
        "fused_activation_function": operator.options.get("fused_activation_function", "NONE"),
    }  # fmt: skip
    like = pieces.tensor(operator.outputs[0])
    return pieces.piece("CONV_2D", [x, index, *operator.inputs[2:]], like.shape, "Conv2DOptions", options, like)


def _of_kind(pieces: Pieces, kind: str) -> Operator:
    operator = pieces.operator
    if operator.kind != kind or len(pieces.shape(operator.inputs[0])) != 4:
        raise TransformError(f"'{pieces.name}' is no {kind}")
    return operator


def _weights(pieces: Pieces, operator: Operator) -> Array:
    weights = pieces.network.constant(operator.inputs[1])
    if weights is None or weights.ndim != 4:
        raise TransformError(f"the weights of '{pieces.name}' are no constants of 8 bits or more")
    return weights


def _zero(pieces: Pieces, operator: Operator) -> int:
    quantization = pieces.tensor(operator.inputs[1]).quantization
    return quantization.zero_point[0] if quantization and quantization.zero_point else 0


def _reach(operator: Operator, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the weights with their dilation."""
    dilated = {axis: (shape[axis] - 1) * operator.number(f"dilation_{letter}_factor", 1) + 1 for axis, letter in _AXES}
    return tuple(dilated.get(axis, size) for axis, size in enumerate(shape))


def _spread(pieces: Pieces, operator: Operator, weights: Array) -> Array:
    """The weights with the zeros that dilation means."""
    spread = numpy.full(_reach(operator, weights.shape), _zero(pieces, operator), weights.dtype)
    steps = [operator.number(f"dilation_{letter}_factor", 1) for _, letter in _AXES]
    spread[:, :: steps[0], :: steps[1]] = weights
    return spread


def _padded(pieces: Pieces, operator: Operator, reach: tuple[int, ...]) -> int:
    """The input with the padding that SAME means for kernels of `reach`."""
    x = operator.inputs[0]
    if operator.options.get("padding") != SAME:
        return x
    around = [
        same_padding(pieces.shape(x)[axis], reach[axis], operator.number(f"stride_{letter}", 1))
        for axis, letter in _AXES
    ]
    if not any(map(any, around)):
        return x
    # Vela 5.2 joins a PAD to the convolution behind it and then refuses the stride (with the whole model), but not
    # when its shape is another.
    batch, height, width, channels = pieces.shape(x)
    flat = pieces.pad(
        pieces.reshape(x, (batch, height, width * channels)), [(0, 0), around[0], _times(around[1], channels)]
    )
    return pieces.reshape(flat, (batch, height + sum(around[0]), width + sum(around[1]), channels))


def _times(around: tuple[int, int], channels: int) -> tuple[int, int]:
    return around[0] * channels, around[1] * channels
