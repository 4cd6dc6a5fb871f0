"""TRANSPOSE_CONV of any stride and size as convolutions whose outputs are interleaved."""

from collections.abc import Collection, Sequence

import numpy
from msgspec import Struct
from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, OptionValue, Quantization
from mlia.transforms.calibration import Array
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


class _Plan(Struct, frozen=True):
    """Along height and width: strides, taps of each convolution, what is cut in front, and padding of the input."""

    strides: tuple[int, int]
    taps: tuple[int, int]
    fronts: tuple[int, int]
    around: tuple[tuple[int, int], tuple[int, int]]


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
    plan = _plan(pieces, weights.shape)
    phases = _phases(weights, plan, (*old.zero_point, 0)[0])
    biases = [] if wide_bias is None else [_repeated_bias(pieces, bias, wide_bias, plan.strides[1])]
    return _joined(pieces, plan, phases, _repeated(old, plan.strides[1]), biases)


def _plan(pieces: Pieces, kernel: tuple[int, ...]) -> _Plan:
    operator = pieces.operator
    strides = operator.number("stride_h", 1), operator.number("stride_w", 1)
    before, after = pieces.shape(operator.inputs[2]), pieces.shape(operator.outputs[0])
    is_same = operator.options.get("padding") == SAME
    taps, fronts, around = [], [], []
    for axis, stride in zip((1, 2), strides, strict=True):
        taps.append(-(-kernel[axis] // stride))
        fronts.append(same_padding(after[axis], kernel[axis], stride)[0] if is_same else 0)
        needed = -(-(fronts[-1] + after[axis]) // stride)
        if needed < before[axis] and fronts[-1] + after[axis] <= (needed - 1) * stride:
            raise TransformError(f"'{pieces.name}' has sizes that do not fit")
        around.append((taps[-1] - 1, max(needed - before[axis], 0)))
    return _Plan(strides, (taps[0], taps[1]), (fronts[0], fronts[1]), (around[0], around[1]))


def _phases(weights: Array, plan: _Plan, zero: int) -> list[Array]:
    """The weights of each row of a stride: (columns * filters, taps, taps, depth), with zeros up to whole strides."""
    filters, depth = weights.shape[0], weights.shape[3]
    (rows, columns), taps = plan.strides, plan.taps
    whole = numpy.full((filters, taps[0] * rows, taps[1] * columns, depth), zero, weights.dtype)
    whole[:, : weights.shape[1], : weights.shape[2]] = weights
    whole = whole.reshape(filters, taps[0], rows, taps[1], columns, depth)[:, ::-1, :, ::-1]
    phases = (whole[:, :, row].transpose(3, 0, 1, 2, 4) for row in range(rows))
    return [numpy.ascontiguousarray(phase).reshape(columns * filters, *taps, depth) for phase in phases]


def _joined(
    pieces: Pieces, plan: _Plan, phases: Sequence[Array], quantization: Quantization, biases: Sequence[int]
) -> int:
    """A convolution for each phase, and what they write laid together."""
    operator = pieces.operator
    x = pieces.pad(operator.inputs[2], [(0, 0), *plan.around, (0, 0)])
    like = pieces.tensor(operator.outputs[0])
    batch, height, width, filters = like.shape
    strides, channels = plan.strides, phases[0].shape[0]
    used = [pieces.shape(x)[1] - plan.taps[0] + 1, pieces.shape(x)[2] - plan.taps[1] + 1]
    options: dict[str, OptionValue] = {
        "padding": VALID, "stride_h": 1, "stride_w": 1, "dilation_h_factor": 1, "dilation_w_factor": 1,
        "fused_activation_function": operator.options.get("fused_activation_function", "NONE"),
    }  # fmt: skip
    rows = []
    for phase in phases:
        inputs = [x, pieces.constant("weights", phase, quantization), *biases]
        made = pieces.piece("CONV_2D", inputs, (batch, *used, channels), "Conv2DOptions", options, like)
        rows.append(pieces.reshape(made, (batch * used[0], 1, used[1] * channels)))
    x = pieces.reshape(pieces.join(rows, 1), (batch, used[0] * strides[0], used[1] * strides[1], filters))
    return pieces.cut(x, (0, *plan.fronts, 0), (batch, height, width, filters))


def _repeated_bias(pieces: Pieces, index: int, values: Array, times: int) -> int:
    quantization = pieces.tensor(index).quantization
    repeated = _repeated(quantization, times) if quantization else None
    return pieces.constant("bias", numpy.tile(values.reshape(-1), times), repeated)


def _repeated(quantization: Quantization, times: int) -> Quantization:
    """The scales of channels that are there several times."""
    if len(quantization.scale) == 1:
        return quantization
    return replace(quantization, scale=quantization.scale * times, zero_point=quantization.zero_point * times)
