"""RESIZE of Ethos-U85: every output element is made of its neighbors in the input, at a position counted in fractions.

The position of output row i is (i * step + offset) / scale input rows, with step = whole * scale + rest; columns alike.
Results are multiplied by 2 ** 16, and the OFM's scale divides (agrees with LiteRT's RESIZE_BILINEAR and
RESIZE_NEAREST_NEIGHBOR, with aligned corners, half-pixel centers and neither).
"""

import numpy
from msgspec.structs import replace

from mlia.errors import SimulatorError
from mlia.simulator.arithmetic import Integers
from mlia.simulator.operation import Compute, FeatureMap, Resize

_FRACTION_BITS = 16


def resize_input(feature_map: FeatureMap) -> FeatureMap:
    """The input of a RESIZE: no register has its size, but its tiles are exactly as large (INFERRED)."""
    return replace(feature_map, height=feature_map.tiles.height0, width=feature_map.tiles.width0)


def resized(operation: Compute, values: Integers) -> Integers:
    """The accumulators of a RESIZE: (height, width, channels) of the output.

    Raises:
        SimulatorError: a mode that is not known.
    """
    if operation.resize is None:
        raise SimulatorError(f"the RESIZE at {operation.offset:#x} has no steps")
    resize, ofm = operation.resize, operation.ofm
    rows = _positions(ofm.height, resize.height_scale, resize.height_step, resize.height_offset)
    columns = _positions(ofm.width, resize.width_scale, resize.width_step, resize.width_offset)
    if resize.mode == "bilinear":
        return _bilinear(resize, values, rows, columns) << _FRACTION_BITS
    if resize.mode != "nearest":
        raise SimulatorError(f"RESIZE mode {resize.mode} at {operation.offset:#x} is not known")
    y = _nearest(rows, resize.height_scale, values.shape[0])
    x = _nearest(columns, resize.width_scale, values.shape[1])
    return values[y[:, None], x[None, :]] << _FRACTION_BITS


def resized_from(
    resize: Resize, feature_map: FeatureMap, rows: tuple[int, int], columns: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The rows and columns of an input, (begin, end) each, that some of an output are made of."""
    steps = (
        (rows, resize.height_scale, resize.height_step, resize.height_offset, feature_map.height),
        (columns, resize.width_scale, resize.width_step, resize.width_offset, feature_map.width),
    )
    down, across = (
        _span(resize, _positions(end, scale, step, offset)[begin:], scale, size)
        for (begin, end), scale, step, offset, size in steps
    )
    return down, across


def _span(resize: Resize, positions: Integers, scale: int, size: int) -> tuple[int, int]:
    """From the first to the last of an axis that some positions are made of."""
    if resize.mode == "nearest":
        nearest = _nearest(positions, scale, size)
        return int(nearest.min()), int(nearest.max()) + 1
    before, after, _ = _neighbors(positions, scale, size)
    return int(before.min()), int(after.max()) + 1


def _positions(count: int, scale: int, step: tuple[int, int], offset: int) -> Integers:
    """Positions in the input, times `scale`."""
    return numpy.arange(count, dtype=numpy.int64) * (step[0] * scale + step[1]) + offset


def _nearest(positions: Integers, scale: int, size: int) -> Integers:
    """The nearest element; the later one at half the way."""
    nearest: Integers = numpy.floor_divide(2 * positions + scale, 2 * scale)
    return numpy.clip(nearest, 0, size - 1)


def _bilinear(resize: Resize, values: Integers, rows: Integers, columns: Integers) -> Integers:
    """Sums of four neighbors, times the product of both scales."""
    upper, lower, down = _neighbors(rows, resize.height_scale, values.shape[0])
    left, right, across = _neighbors(columns, resize.width_scale, values.shape[1])
    weight = down[:, None, None]
    mixed: Integers = values[upper] * (resize.height_scale - weight) + values[lower] * weight
    weight = across[None, :, None]
    sums: Integers = mixed[:, left] * (resize.width_scale - weight) + mixed[:, right] * weight
    return sums


def _neighbors(positions: Integers, scale: int, size: int) -> tuple[Integers, Integers, Integers]:
    """The elements before and after each position, and how far it is from the former, times `scale`."""
    before: Integers = numpy.floor_divide(positions, scale)
    return numpy.clip(before, 0, size - 1), numpy.clip(before + 1, 0, size - 1), positions - before * scale
