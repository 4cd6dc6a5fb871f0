"""RESIZE_NEAREST_NEIGHBOR of any size by copies, and RESIZE_BILINEAR by convolutions of a few weights."""

import math
from collections.abc import Collection, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy

from mlia.errors import TransformError
from mlia.graph.graph import Graph, OptionValue, Quantization
from mlia.transforms.calibration import Array
from mlia.transforms.remedies.pieces import VALID, Pieces, each
from mlia.transforms.remedies.places import Place

_LARGEST_STRIDE = 3
_MOST_PHASES = 16  # of both axes together: beyond that one axis after the other


def copies(graph: Graph, places: Collection[Place]) -> Graph:
    """RESIZE_NEAREST_NEIGHBOR as RESHAPE, CONCATENATION of what is repeated, and RESHAPE: the same numbers.

    Raises:
        TransformError: no such operator, or one that needs too many copies.
    """
    return each(graph, places, _copies)


def _copies(pieces: Pieces) -> int:
    _of_kind(pieces, "RESIZE_NEAREST_NEIGHBOR")
    x = pieces.operator.inputs[0]
    made = pieces.shape(pieces.operator.outputs[0])
    order = sorted((1, 2), key=lambda axis: made[axis] / pieces.shape(x)[axis])  # what shrinks first
    for axis in order:
        x = _picked(pieces, x, axis, _nearest(pieces, pieces.shape(x)[axis], made[axis]))
    return x


def _nearest(pieces: Pieces, size: int, made: int) -> list[int]:
    """Which position each new one is a copy of, as TFLite computes it, in float32."""
    aligned, centered = _flags(pieces)
    f = numpy.float32
    scale = f(size - 1) / f(made - 1) if aligned and made > 1 else f(size) / f(made)
    places = (numpy.arange(made).astype(f) + f(0.5 if centered else 0)) * scale
    found = numpy.floor(places + f(0.5)) if aligned else numpy.floor(places)
    return [int(place) for place in numpy.clip(found, 0, size - 1)]


def _picked(pieces: Pieces, x: int, axis: int, places: Sequence[int]) -> int:
    """Positions along an axis, in rising order and perhaps repeated."""
    shape = pieces.shape(x)
    size = shape[axis]
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    done = (*shape[:axis], len(places), *shape[axis + 1 :])
    if list(places) == list(range(size)):
        return x
    steps = {after - before for before, after in pairwise(places)}
    if len(steps) == 1 and min(steps) > 0:
        flat = pieces.reshape(x, (1, outer, size, inner))
        taken = pieces.cut_axis(flat, 2, places[0], places[-1] - places[0] + 1)
        return pieces.reshape(pieces.every(taken, 2, 0, steps.pop()), done)
    times = [places.count(place) for place in range(size)]
    if len(set(times)) == 1:
        flat = pieces.reshape(x, (outer * size, 1, inner))
        return pieces.reshape(pieces.join([flat] * times[0], 1), done)
    flat = pieces.reshape(x, (1, outer, size, inner))
    parts: list[int] = []
    for place in range(size):
        part = pieces.cut_axis(flat, 2, place, 1) if times[place] else -1
        parts += [part] * times[place]
    return pieces.reshape(pieces.join(parts, 2), done)


def interpolating_convolutions(graph: Graph, places: Collection[Place]) -> Graph:
    """RESIZE_BILINEAR as one DEPTHWISE_CONV_2D for each position within the period of the factor, and copies.

    For output/input = a/b, output position q * a + p has the same two weights for all q, and reads b * q + a fixed
    place: a convolution of stride b for each p < a. Rounds once; TFLite computes weights in 10 bits.

    Raises:
        TransformError: no such operator, or a factor with too long a period.
    """
    return each(graph, places, _interpolated)


def _interpolated(pieces: Pieces) -> int:
    _of_kind(pieces, "RESIZE_BILINEAR")
    x, output = pieces.operator.inputs[0], pieces.operator.outputs[0]
    plans = [
        _Axis(pieces, size, made) for size, made in zip(pieces.shape(x)[1:3], pieces.shape(output)[1:3], strict=True)
    ]
    one = _Axis(pieces, 1, 1)
    if plans[0].phases * plans[1].phases <= _MOST_PHASES:
        return _convolved(pieces, x, plans[0], plans[1])
    return _convolved(pieces, _convolved(pieces, x, one, plans[1]), plans[0], one)


class _Axis:
    """How one axis is interpolated: `phases` positions a period, whose input positions move by `stride`."""

    def __init__(self, pieces: Pieces, size: int, made: int) -> None:
        aligned, centered = _flags(pieces)
        is_aligned = aligned and made > 1 and size > 1
        factor = Fraction(made - 1, size - 1) if is_aligned else Fraction(made, size)
        self.made, self.phases, self.stride = made, factor.numerator, factor.denominator
        if size == 1:
            self.phases = self.stride = 1
            self.made = 1 if made == 1 else made
        if self.stride > _LARGEST_STRIDE or self.phases > _MOST_PHASES:
            raise TransformError(f"'{pieces.name}' has a factor of {float(factor):.3g}, whose period is too long")
        offset = Fraction(1, 2) if centered else Fraction(0)
        places = [(position + offset) / factor - offset for position in range(self.phases)]
        self.first = math.floor(min(places))
        self.taps = math.floor(max(places)) + 2 - self.first
        self.weights = [[Fraction(0)] * self.taps for _ in places]
        for row, place in zip(self.weights, places, strict=True):
            whole = math.floor(place)
            row[whole - self.first] += 1 - (place - whole)
            row[whole - self.first + 1] += place - whole
        while self.taps > 1 and not any(row[-1] for row in self.weights):
            self.taps -= 1
            self.weights = [row[:-1] for row in self.weights]
        self.periods = -(-self.made // self.phases)
        reach = (self.periods - 1) * self.stride + self.taps
        self.around = (max(-self.first, 0), max(reach + self.first - size, 0))
        if max(self.around) > size:
            raise TransformError(f"'{pieces.name}' is too small to be interpolated by convolutions")


def _convolved(pieces: Pieces, x: int, rows: _Axis, columns: _Axis) -> int:
    batch, height, width, channels = pieces.shape(x)
    rows_made = height if rows.made == 1 and height > 1 else rows.made
    x = pieces.mirror(x, [(0, 0), rows.around if rows_made == rows.made else (0, 0), columns.around, (0, 0)])
    periods = [rows.periods if rows_made == rows.made else height, columns.periods if columns.made > 1 else width]
    lines = []
    for row in rows.weights:
        phases = [_phase(pieces, x, row, column, rows, columns, periods) for column in columns.weights]
        line = pieces.join(phases, 3)  # the columns' phases as channels
        lines.append(pieces.reshape(line, (batch * periods[0], 1, periods[1] * columns.phases * channels)))
    whole = pieces.reshape(
        pieces.join(lines, 1), (batch, periods[0] * rows.phases, periods[1] * columns.phases, channels)
    )
    size = (batch, rows_made, columns.made if columns.made > 1 else width, channels)
    return pieces.cut(whole, (0, 0, 0, 0), size)


def _phase(
    pieces: Pieces, x: int, row: list[Fraction], column: list[Fraction], rows: _Axis, columns: _Axis, size: list[int]
) -> int:
    """The convolution of one phase of both axes."""
    channels = pieces.shape(x)[3]
    weights = [[a * b for b in column] for a in row]
    codes, scale = _codes(weights)
    quantization = pieces.tensor(x).quantization
    if quantization is None or len(quantization.scale) != 1 or pieces.tensor(x).dtype not in ("int8", "int16"):
        raise TransformError(f"'{pieces.name}' is not quantized to int8 or int16")
    values = numpy.repeat(codes[None, :, :, None], channels, axis=3)
    index = pieces.constant("weights", values, Quantization((scale,), (0,)))
    wide = numpy.int64 if pieces.tensor(x).dtype == "int16" else numpy.int32
    bias_scale = Quantization((scale * quantization.scale[0],), (0,))
    bias = pieces.constant("bias", numpy.zeros(channels, wide), bias_scale)
    options: dict[str, OptionValue] = {
        "padding": VALID, "stride_h": rows.stride, "stride_w": columns.stride, "depth_multiplier": 1,
        "dilation_h_factor": 1, "dilation_w_factor": 1, "fused_activation_function": "NONE",
    }  # fmt: skip
    batch, height, width, _ = pieces.shape(x)
    places = [(height - len(row)) // rows.stride + 1, (width - len(column)) // columns.stride + 1]
    output = pieces.tensor(pieces.operator.outputs[0])
    kind, table = "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions"
    made = pieces.piece(kind, [x, index, bias], (batch, *places, channels), table, options, output)
    return pieces.cut(made, (0, 0, 0, 0), (batch, *size, channels))


def _codes(weights: list[list[Fraction]]) -> tuple[Array, float]:
    """Weights as int8: exact where their common denominator allows it."""
    whole = math.lcm(*(value.denominator for row in weights for value in row))
    exact = [[int(value * whole) for value in row] for row in weights]
    largest = max(max(row) for row in exact)
    if largest <= 127:
        return numpy.array(exact, numpy.int8), 1 / whole
    top = float(max(max(row) for row in weights))
    codes = numpy.rint(numpy.array([[float(value) for value in row] for row in weights]) * (127 / top))
    return codes.astype(numpy.int8), 1 / float(codes.sum())  # the weights sum up to 1


def half_pixel_centers_only(graph: Graph, places: Collection[Place]) -> Graph:
    """RESIZE_BILINEAR or RESIZE_NEAREST_NEIGHBOR without align_corners where both flags are set.

    Raises:
        TransformError: no such operator.
    """
    return each(graph, places, _half_pixel_centers_only)


def _half_pixel_centers_only(pieces: Pieces) -> int:
    operator = pieces.operator
    if not operator.kind.startswith("RESIZE_") or _flags(pieces) != (True, True):
        raise TransformError(f"'{pieces.name}' does not contradict itself")
    return pieces.again(operator, operator.inputs, pieces.shape(operator.outputs[0]), align_corners=False)


def _of_kind(pieces: Pieces, kind: str) -> None:
    operator = pieces.operator
    if operator.kind != kind or len(pieces.shape(operator.inputs[0])) != 4:
        raise TransformError(f"'{pieces.name}' is no {kind}")


def _flags(pieces: Pieces) -> tuple[bool, bool]:
    options = pieces.operator.options
    return bool(options.get("align_corners")), bool(options.get("half_pixel_centers"))
