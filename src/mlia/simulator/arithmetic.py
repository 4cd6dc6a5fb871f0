"""Integer arithmetic of the output unit: the product of a value and a scale, rounded in one of several ways.

Everything is exact for values up to 2**47 and multipliers below 2**31: a product that does not fit 64 bits is kept as
two numbers. Rounding follows gemmlowp's fixed-point functions, which LiteRT's reference kernels use, and TensorFlow
Lite's for int16 (agrees with LiteRT's reference in a fuzz).
"""

from typing import Any

import numpy
from numpy.typing import NDArray

from mlia.errors import SimulatorError
from mlia.simulator.operation import Rounding, Scale

Integers = NDArray[numpy.int64]
Factor = int | Integers  # one for all channels, or one each

_SPLIT = 16  # low bits of a wide value that are multiplied apart


def scaled(values: Integers, scale: Scale) -> Integers:
    """`values` times a scale that is the same everywhere.

    Raises:
        SimulatorError: a rounding that is not known.
    """
    return scaled_by(values, scale.multiplier, scale.shift, scale.rounding)


def scaled_by(values: Integers, multiplier: Factor, shift: Factor, rounding: Rounding) -> Integers:
    """`values` * multiplier / 2 ** shift, rounded; multiplier and shift broadcast along the channels.

    Raises:
        SimulatorError: a rounding that is not known.
    """
    if isinstance(multiplier, int) and isinstance(shift, int) and (multiplier, shift) == (1, 0):
        return values
    if rounding == Rounding.DOUBLE:
        return double_rounded(values, multiplier, shift)
    if rounding == Rounding.NATURAL:
        return natural(values, multiplier, shift)
    if rounding == Rounding.TRUNCATE:
        return truncated(values, multiplier, shift)
    if rounding == Rounding.SYMMETRIC:
        return symmetric(values, multiplier, shift)
    if rounding == Rounding.TO_LOWER:
        return floored(values, multiplier, shift)
    raise SimulatorError(f"the rounding {rounding} is not known")


def double_rounded(values: Integers, multiplier: Factor, shift: Factor) -> Integers:
    """gemmlowp's doubling high multiply of `values` << (31 - shift), then its rounding shift by shift - 31.

    The high half is rounded half up (gemmlowp nudges a negative product by 1 - 2**30 and divides towards zero, which
    is the same); the shift afterwards rounds ties away from zero.
    """
    first = numpy.minimum(shift, 31)
    return shifted_symmetric(natural(values, multiplier, first), numpy.asarray(shift) - first)


def natural(values: Integers, multiplier: Factor, shift: Factor) -> Integers:
    """The product, rounded once; ties towards plus infinity."""
    # Half of the last place is a multiple of what a wide product drops, so the dropped bits never carry.
    high, dropped = _product(values, multiplier, shift)
    return shifted_natural(high, numpy.asarray(shift) - dropped)


def floored(values: Integers, multiplier: Factor, shift: Factor) -> Integers:
    """The product, rounded once towards minus infinity."""
    high, dropped = _product(values, multiplier, shift)
    lower: Integers = high >> (numpy.asarray(shift) - dropped)
    return lower


def truncated(values: Integers, multiplier: Factor, shift: Factor) -> Integers:
    """The product, rounded once towards zero."""
    sizes = floored(numpy.abs(values), multiplier, shift)
    return numpy.where(values < 0, -sizes, sizes)


def symmetric(values: Integers, multiplier: Factor, shift: Factor) -> Integers:
    """The product, rounded once; ties away from zero."""
    sizes = natural(numpy.abs(values), multiplier, shift)
    return numpy.where(values < 0, -sizes, sizes)


def shifted_natural(values: Integers, shift: Any) -> Integers:
    """`values` / 2 ** shift, ties towards plus infinity. A shift of 0 changes nothing."""
    rounded: Integers = (values + _half(shift)) >> shift
    return rounded


def shifted_symmetric(values: Integers, shift: Any) -> Integers:
    """`values` / 2 ** shift, ties away from zero (gemmlowp's RoundingDivideByPOT)."""
    half = _half(shift)
    if not half.any():
        return values
    rounded: Integers = (values + half - ((values < 0) & (half > 0))) >> shift
    return rounded


def wrapped_to_32_bits(values: Integers) -> Integers:
    """What is left of `values` in a signed 32-bit register."""
    return values.astype(numpy.int32).astype(numpy.int64)


def _half(shift: Any) -> Integers:
    """Half of 2 ** shift; 0 for a shift of 0."""
    steps = numpy.asarray(shift, numpy.int64)
    half: Integers = numpy.where(steps > 0, numpy.int64(1) << numpy.maximum(steps - 1, 0), numpy.int64(0))
    return half


def _product(values: Integers, multiplier: Factor, shift: Factor) -> tuple[Integers, int]:
    """`values` * multiplier / 2 ** dropped, rounded down, and `dropped`: 0 where 64 bits hold all of it.

    Raises:
        SimulatorError: the product is too wide even so.
    """
    factor = numpy.asarray(multiplier, numpy.int64)
    largest, steepest = _largest(values), _largest(factor)
    if largest * steepest < 1 << 61:
        return values * factor, 0
    if largest * steepest >= 1 << (62 + _SPLIT) or int(numpy.min(shift)) <= _SPLIT:
        raise SimulatorError(f"a product of {largest} and {steepest} is too wide for the output unit")
    low = (values & ((1 << _SPLIT) - 1)) * factor
    return (values >> _SPLIT) * factor + (low >> _SPLIT), _SPLIT


def _largest(values: Integers) -> int:
    """The largest magnitude."""
    return max(int(values.max()), -int(values.min())) if values.size else 0
