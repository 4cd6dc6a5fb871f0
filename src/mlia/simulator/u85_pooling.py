"""Pools of Ethos-U85: sums, averages, maxima and minima of windows, sums over channels, and the place of a maximum.

A "sum" of windows of one element is also how Vela copies, transposes, reverses and rescales.
"""

import numpy

from mlia.errors import SimulatorError
from mlia.simulator.arithmetic import Integers
from mlia.simulator.convolution import covered, windows
from mlia.simulator.feature_maps import padded
from mlia.simulator.operation import Compute, Rounding
from mlia.simulator.pooling import averaged, largest, summed, summed_over_channels

_INDEX_SHIFT = 16
_LEAST = numpy.iinfo(numpy.int64).min + 1


def pooled(operation: Compute, values: Integers) -> Integers:
    """The accumulators of a pool of an input (height, width, channels) without its zero point, not padded yet.

    Raises:
        SimulatorError: a mode that is not known, or one with a scale or a window that is not.
    """
    kernel, mode = operation.kernel, operation.mode
    size = covered(kernel, operation.ofm.height, operation.ofm.width)
    if mode in ("sum", "reduce_sum"):
        terms = summed_over_channels(values) if mode == "reduce_sum" else values
        return summed(padded(terms, operation.padding, size), kernel)
    if mode == "max":
        return largest(padded(values, operation.padding, size, _LEAST), kernel)
    if mode == "min":
        return -largest(padded(-values, operation.padding, size, _LEAST), kernel)
    if mode == "average":
        if operation.ofm_scale.multiplier != 1 << operation.ofm_scale.shift:
            # All streams have a scale of 1 here, so that the division must be the hardware's own.
            raise SimulatorError(f"an average pool with a scale, at {operation.offset:#x}, is not known")
        return averaged(summed(padded(values, operation.padding, size), kernel), kernel, operation.padding)
    if mode == "argmax_x":
        return _places(operation, padded(values, operation.padding, size))
    raise SimulatorError(f"pooling mode {mode} at {operation.offset:#x} is not known")


def _places(operation: Compute, values: Integers) -> Integers:
    """The column of the first maximum of each window, in bits 16 and up (INFERRED: Vela shifts right by 16).

    The low bits may hold the maximum itself; a scale that keeps any of them is not known.
    """
    scale, kernel = operation.ofm_scale, operation.kernel
    if (scale.multiplier, scale.shift, scale.rounding) != (1, _INDEX_SHIFT, Rounding.TO_LOWER):
        raise SimulatorError(f"an argmax pool with this scale, at {operation.offset:#x}, is not known")
    if kernel.size[0] != 1 or operation.padding.is_any:
        raise SimulatorError(f"an argmax pool of a window of {kernel.size}, or with padding, is not known")
    places: Integers = windows(values, kernel)[:, :, :, 0].argmax(axis=-1).astype(numpy.int64)
    return places << _INDEX_SHIFT
