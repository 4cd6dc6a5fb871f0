"""Pools: the largest of each window, its average, or the sum over the channels.

An average is a sum times the reciprocal that OFM_SCALE gives. INFERRED: with padding, the sum is divided by the number
of elements that are not padding instead, ties away from zero, whatever OFM_SCALE says (makes all streams agree with
LiteRT's reference).
"""

from typing import Any

import numpy
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from mlia.simulator.convolution import extent, windows
from mlia.simulator.operation import Kernel, Padding

Integers = NDArray[numpy.int64]


def largest(inputs: NDArray[Any], kernel: Kernel) -> Integers:
    """The maximum of each window (output h, output w, c); `inputs` is padded with what never wins."""
    return _along_both_axes(inputs, kernel, numpy.maximum).astype(numpy.int64)


def summed(inputs: NDArray[Any], kernel: Kernel) -> Integers:
    """The sum of each window (output h, output w, c); `inputs` is padded with zeros, zero point removed."""
    return _along_both_axes(inputs.astype(numpy.int64), kernel, numpy.add)


def averaged(sums: Integers, kernel: Kernel, padding: Padding) -> Integers:
    """Sums of windows over padded inputs, divided by how many elements of each were no padding."""
    counts = valid_counts(sums.shape[:2], kernel, padding)[..., None]
    sizes = (2 * numpy.abs(sums) + counts) // (2 * counts)
    signed: Integers = numpy.where(sums < 0, -sizes, sizes)
    return signed


def valid_counts(size: tuple[int, ...], kernel: Kernel, padding: Padding) -> Integers:
    """For each output, how many elements of its window are not padding, at least 1."""
    (height, width), (rows, columns) = size, extent(kernel)
    down = _valid(height, rows, kernel.stride[0], padding.top, padding.bottom)
    across = _valid(width, columns, kernel.stride[1], padding.left, padding.right)
    counts: Integers = numpy.maximum(down[:, None] * across[None, :], 1)
    return counts


def summed_over_channels(inputs: NDArray[Any]) -> Integers:
    """The sum over the channels (h, w, 1)."""
    sums: Integers = inputs.sum(axis=2, dtype=numpy.int64, keepdims=True)
    return sums


def _valid(outputs: int, window: int, stride: int, before: int, after: int) -> Integers:
    starts = numpy.arange(outputs) * stride
    end = (outputs - 1) * stride + window - after
    return numpy.minimum(starts + window, end) - numpy.maximum(starts, before)


def _along_both_axes(inputs: NDArray[Any], kernel: Kernel, combine: numpy.ufunc) -> NDArray[Any]:
    """A ufunc over each window: first down, then across, which combines fewer elements than at once."""
    if kernel.dilation != (1, 1):
        reduced: NDArray[Any] = combine.reduce(windows(inputs, kernel), axis=(3, 4))
        return reduced
    for axis in (0, 1):
        taps, stride = kernel.size[axis], kernel.stride[axis]
        count = (inputs.shape[axis] - taps) // stride + 1
        if taps == 1 or count == 1:
            inputs = _strided(inputs, axis, taps, stride, combine)
            continue
        view = sliding_window_view(inputs, taps, axis=axis)
        view = view[::stride] if axis == 0 else view[:, ::stride]
        inputs = combine.reduce(view, axis=-1)
    return inputs


def _strided(inputs: NDArray[Any], axis: int, taps: int, stride: int, combine: numpy.ufunc) -> NDArray[Any]:
    """One window along an axis, or windows of one element."""
    if taps == 1:
        return inputs[::stride] if axis == 0 else inputs[:, ::stride]
    reduced: NDArray[Any] = combine.reduce(inputs[:taps] if axis == 0 else inputs[:, :taps], axis=axis, keepdims=True)
    return reduced
