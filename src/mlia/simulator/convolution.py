"""Sums of products: convolutions and depthwise convolutions, exact in integers.

A convolution is a matrix product of all windows of its input with its weights. Where the largest possible sum has
fewer bits than the mantissa of float64 (or float32), BLAS computes it exactly and fast.
"""

from typing import Any

import numpy
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from mlia.errors import SimulatorError
from mlia.simulator.operation import Kernel

Integers = NDArray[numpy.int64]

_WINDOWS_BYTES = 1 << 25  # of windows gathered at a time


def extent(kernel: Kernel) -> tuple[int, int]:
    """Height and width of what one output element sees, dilation included."""
    (height, width), (down, across) = kernel.size, kernel.dilation
    return (height - 1) * down + 1, (width - 1) * across + 1


def covered(kernel: Kernel, height: int, width: int) -> tuple[int, int]:
    """Height and width of the padded input that an output of `height` x `width` sees."""
    window = extent(kernel)
    return (height - 1) * kernel.stride[0] + window[0], (width - 1) * kernel.stride[1] + window[1]


def windows(inputs: NDArray[Any], kernel: Kernel) -> NDArray[Any]:
    """All windows of a padded input (h, w, c): a view of (output h, output w, c, kernel h, kernel w)."""
    view = sliding_window_view(inputs, extent(kernel), axis=(0, 1))
    (down, across), (deep, wide) = kernel.stride, kernel.dilation
    return view[::down, ::across, :, ::deep, ::wide]


def convolution(inputs: NDArray[Any], weights: NDArray[Any], kernel: Kernel) -> Integers:
    """Sums (output h, output w, filters).

    `inputs` is (h, w, c), padded, zero point removed; `weights` is (filters, kernel h, kernel w, c).
    """
    filters, height, width, depth = weights.shape
    if (height, width) != kernel.size or depth != inputs.shape[2]:
        raise SimulatorError(
            f"weights of {weights.shape} for a kernel of {kernel.size} over {inputs.shape[2]} channels"
        )
    dtype = _exact_type(inputs, weights, height * width * depth)
    matrix = weights.reshape(filters, -1).T.astype(dtype)
    view = windows(inputs.astype(dtype), kernel).transpose(0, 1, 3, 4, 2)
    rows, columns = view.shape[:2]
    sums = numpy.empty((rows, columns, filters), numpy.int64)
    step = max(1, _WINDOWS_BYTES // (columns * matrix.shape[0] * matrix.itemsize))
    for row in range(0, rows, step):
        part = view[row : row + step]
        sums[row : row + step] = (part.reshape(-1, matrix.shape[0]) @ matrix).reshape(-1, columns, filters)
    return sums


def depthwise(inputs: NDArray[Any], weights: NDArray[Any], kernel: Kernel) -> Integers:
    """Sums (output h, output w, c); `weights` is (1, kernel h, kernel w, c)."""
    if weights.shape != (1, *kernel.size, inputs.shape[2]):
        raise SimulatorError(f"weights of {weights.shape} for a kernel of {kernel.size} of {inputs.shape[2]} channels")
    bound = _bound(inputs, weights, kernel.size[0] * kernel.size[1])
    dtype = numpy.dtype(numpy.int32 if bound < 1 << 31 else numpy.int64)
    values, factors = inputs.astype(dtype), weights[0].astype(dtype)
    height, width = (numpy.array(inputs.shape[:2]) - extent(kernel)) // kernel.stride + 1
    sums = numpy.zeros((height, width, inputs.shape[2]), dtype)
    for y, x in numpy.ndindex(*kernel.size):
        sums += _seen_by_tap(values, kernel, (y, x), (height, width)) * factors[y, x]
    return sums.astype(numpy.int64)


def _seen_by_tap(inputs: NDArray[Any], kernel: Kernel, tap: tuple[int, ...], size: tuple[int, int]) -> NDArray[Any]:
    """The inputs that one tap of a kernel is multiplied with, one for each output."""
    rows, columns = (
        slice(at * spread, at * spread + (count - 1) * step + 1, step)
        for at, spread, step, count in zip(tap, kernel.dilation, kernel.stride, size, strict=True)
    )
    return inputs[rows, columns]


def _exact_type(inputs: NDArray[Any], weights: NDArray[Any], terms: int) -> numpy.dtype[Any]:
    """The fastest type in which no sum of so many products is rounded."""
    bound = _bound(inputs, weights, terms)
    if bound <= 1 << 24:
        return numpy.dtype(numpy.float32)
    return numpy.dtype(numpy.float64 if bound <= 1 << 53 else numpy.int64)


def _bound(inputs: NDArray[Any], weights: NDArray[Any], terms: int) -> int:
    return terms * _largest(inputs) * _largest(weights)


def _largest(values: NDArray[Any]) -> int:
    return max(int(values.max()), -int(values.min())) if values.size else 0
