"""TRANSPOSE_CONV of any stride and size as convolutions whose outputs are interleaved."""

from collections.abc import Collection

import numpy
from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, OptionValue, Quantization
from mlia.transforms.remedies.pieces import SAME, VALID, Pieces, each, same_padding
from mlia.transforms.remedies.places import Place


def convolutions_interleaved(graph: Graph, places: Collection[Place]) -> Graph:
    """TRANSPOSE_CONV as one CONV_2D for each row of a stride, each with the stride's columns as channels.

    With y[q * stride + p] = sum over t of x[q - t] * w[t * stride + p], each p is a convolution of stride 1. Columns
    are interleaved by RESHAPE and rows by CONCATENATION: the same sums as before.

    Raises:
        TransformError: no such operator, or one without constant weights.
    """
    return each(graph, places, _interleaved)


def _interleaved(pieces: Pieces) -> int:
    operator = pieces.operator
    if operator.kind != "TRANSPOSE_CONV" or len(operator.inputs) < 3:
        raise TransformError(f"'{pieces.name}' is no TRANSPOSE_CONV")
    weights = pieces.network.constant(operator.inputs[1])
    old = pieces.tensor(operator.inputs[1]).quantization
    bias = operator.inputs[3] if len(operator.inputs) > 3 else -1
    wide_bias = pieces.network.constant(bias)
    if weights is None or weights.ndim != 4 or old is None or old.axis != 0 or (bias >= 0 and wide_bias is None):
        raise TransformError(f"weights or bias of '{pieces.name}' are no constants per output channel")
    x, output = operator.inputs[2], operator.outputs[0]
    strides = [operator.number("stride_h", 1), operator.number("stride_w", 1)]
    taps = [-(-kernel // stride) for kernel, stride in zip(weights.shape[1:3], strides, strict=True)]
    sizes, fronts, around = [], [], []
    for size, made, kernel, stride, reach in zip(
        pieces.shape(x)[1:3], pieces.shape(output)[1:3], weights.shape[1:3], strides, taps, strict=True
    ):
        is_same = operator.options.get("padding") == SAME
        fronts.append(same_padding(made, kernel, stride)[0] if is_same else 0)
        sizes.append(-(-(fronts[-1] + made) // stride))
        if sizes[-1] < size and fronts[-1] + made <= (sizes[-1] - 1) * stride:
            raise TransformError(f"'{pieces.name}' has sizes that do not fit")
        around.append((reach - 1, max(sizes[-1] - size, 0)))
    x = pieces.pad(x, [(0, 0), *around, (0, 0)])
    filters, depth = weights.shape[0], weights.shape[3]
    # Weights by [o, t, row, s, column, c], with zeros up to whole strides.
    extent = (filters, taps[0] * strides[0], taps[1] * strides[1], depth)
    whole = numpy.full(extent, (*old.zero_point, 0)[0], weights.dtype)
    whole[:, : weights.shape[1], : weights.shape[2]] = weights
    whole = whole.reshape(filters, taps[0], strides[0], taps[1], strides[1], depth)[:, ::-1, :, ::-1]
    columns = strides[1]
    repeated = _repeated(old, columns)
    biases = bias
    if wide_bias is not None:
        quantization = pieces.tensor(bias).quantization
        biases = pieces.constant(
            "bias",
            numpy.tile(wide_bias.reshape(-1), columns),
            _repeated(quantization, columns) if quantization else None,
        )
    batch = pieces.shape(x)[0]
    rows = []
    used = [pieces.shape(x)[1] - taps[0] + 1, pieces.shape(x)[2] - taps[1] + 1]
    for row in range(strides[0]):
        phase = whole[:, :, row].transpose(3, 0, 1, 2, 4).reshape(columns * filters, taps[0], taps[1], depth)
        index = pieces.constant("weights", numpy.ascontiguousarray(phase), repeated)
        options: dict[str, OptionValue] = {
            "padding": VALID, "stride_h": 1, "stride_w": 1, "dilation_h_factor": 1, "dilation_w_factor": 1,
            "fused_activation_function": operator.options.get("fused_activation_function", "NONE"),
        }  # fmt: skip
        shape = (batch, *used, columns * filters)
        inputs = [x, index] if biases < 0 else [x, index, biases]
        made_row = pieces.piece("CONV_2D", inputs, shape, "Conv2DOptions", options, pieces.tensor(output))
        rows.append(pieces.reshape(made_row, (batch * used[0], 1, used[1] * columns * filters)))
    x = pieces.join(rows, 1)
    x = pieces.reshape(x, (batch, used[0] * strides[0], used[1] * strides[1], filters))
    height, width = pieces.shape(output)[1:3]
    return pieces.cut(x, (0, *fronts, 0), (batch, height, width, filters))


def _repeated(quantization: Quantization, times: int) -> Quantization:
    """The scales of channels that are there several times."""
    if len(quantization.scale) == 1:
        return quantization
    return replace(quantization, scale=quantization.scale * times, zero_point=quantization.zero_point * times)
