"""The inputs of weighted operators as rows of a matrix, so that every one of them is y = W x + b."""

import numpy

from mlia.graph.graph import Operator, Subgraph
from mlia.transforms.calibration import Array

DEPTHWISE = "DEPTHWISE_CONV_2D"


def is_depthwise(operator: Operator) -> bool:
    """Whether each output channel has one input channel, and so inputs of its own."""
    return operator.kind == DEPTHWISE


def weights_matrix(operator: Operator, weights: Array) -> Array:
    """Weights as (outputs, what each reads): TFLite's (O, H, W, I), (O, I), or (1, H, W, O) when depthwise."""
    if is_depthwise(operator):
        return weights.reshape(-1, weights.shape[-1]).T
    return weights.reshape(len(weights), -1)


def weights_tensor(operator: Operator, matrix: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of weights_matrix."""
    return (matrix.T if is_depthwise(operator) else matrix).reshape(shape)


def rows_of(
    subgraph: Subgraph, operator: Operator, values: Array, most: int, random: numpy.random.Generator
) -> Array | None:
    """What the weights are multiplied with, at up to `most` positions drawn at random.

    Args:
        subgraph: where the operator is.
        operator: CONV_2D, DEPTHWISE_CONV_2D or FULLY_CONNECTED.
        values: its first input in real numbers, (samples, *shape).
        most: how many rows at most.
        random: draws the positions; the same seed gives the same ones.

    Returns:
        (rows, columns), or (outputs, rows, columns) when depthwise; None for geometries that are not known.
    """
    weights = subgraph.tensors[operator.inputs[1]].shape
    if operator.kind == "FULLY_CONNECTED":
        rows = values.reshape(-1, weights[-1])
        return rows[_drawn(len(rows), most, random)]
    if operator.kind not in ("CONV_2D", DEPTHWISE):
        return None
    windows = _windows(subgraph, operator, values.reshape(-1, *values.shape[-3:]), weights[1:3])
    samples, height, width, channels = windows.shape[:4]
    if operator.kind == "CONV_2D" and channels != weights[3]:
        return None  # grouped
    drawn = numpy.unravel_index(_drawn(samples * height * width, most, random), (samples, height, width))
    patches = windows[drawn]  # (rows, channels, kernel height, kernel width)
    if is_depthwise(operator):
        rows = patches.reshape(*patches.shape[:2], -1).transpose(1, 0, 2)
        return numpy.repeat(rows, weights[3] // channels, axis=0)
    return patches.transpose(0, 2, 3, 1).reshape(len(patches), -1)


def _drawn(count: int, most: int, random: numpy.random.Generator) -> Array:
    return numpy.sort(random.permutation(count)[:most])


def _windows(subgraph: Subgraph, operator: Operator, values: Array, kernel: tuple[int, ...]) -> Array:
    """A view of every window that the kernel sees: (samples, out height, out width, channels, *kernel)."""
    out = subgraph.tensors[operator.outputs[0]].shape[1:3]
    strides = operator.number("stride_h", 1), operator.number("stride_w", 1)
    dilations = operator.number("dilation_h_factor", 1), operator.number("dilation_w_factor", 1)
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    if operator.options.get("padding") == "SAME":
        totals = [
            max((size - 1) * stride + span - length, 0)
            for size, stride, span, length in zip(out, strides, spans, values.shape[1:3], strict=True)
        ]
        sides = [(total // 2, total - total // 2) for total in totals]
        values = numpy.pad(values, ((0, 0), *sides, (0, 0)))
    windows = numpy.lib.stride_tricks.sliding_window_view(values, tuple(spans), axis=(1, 2))
    windows = windows[:, :: strides[0], :: strides[1], :, :: dilations[0], :: dilations[1]]
    return windows[:, : out[0], : out[1]]
