"""Rounding against exact fractions, and against what gemmlowp's functions are defined to be."""

from fractions import Fraction
from math import floor

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlia.errors import SimulatorError
from mlia.simulator import arithmetic
from mlia.simulator.operation import Rounding, Scale

values = st.lists(st.integers(-(2**47), 2**47), min_size=1, max_size=8)
multipliers = st.integers(0, 2**31 - 1)
shifts = st.integers(17, 62)


def _away(x: Fraction) -> int:
    return floor(x + Fraction(1, 2)) if x >= 0 else -floor(-x + Fraction(1, 2))


EXACT = {
    Rounding.NATURAL: lambda x: floor(x + Fraction(1, 2)),
    Rounding.TRUNCATE: int,
    Rounding.SYMMETRIC: _away,
    Rounding.TO_LOWER: floor,
}


@pytest.mark.parametrize("rounding", EXACT)
@given(values, multipliers, shifts)
def test_one_rounding_is_exact(rounding: Rounding, x: list[int], multiplier: int, shift: int) -> None:
    result = arithmetic.scaled(numpy.array(x), Scale(multiplier, shift, rounding))
    assert result.tolist() == [EXACT[rounding](Fraction(one * multiplier, 2**shift)) for one in x]


def _gemmlowp(x: int, multiplier: int, shift: int) -> int:
    product = (x << max(31 - shift, 0)) * multiplier
    nudged = product + (2**30 if product >= 0 else 1 - 2**30)
    high = abs(nudged) // 2**31 * (1 if nudged >= 0 else -1)
    right = max(shift - 31, 0)
    rest, threshold = high & (2**right - 1), (2**right - 1 >> 1) + (high < 0)
    return (high >> right) + (rest > threshold)


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1), multipliers | st.just(2**30), st.integers(20, 60))
def test_double_rounding_is_gemmlowp(x: list[int], multiplier: int, shift: int) -> None:
    result = arithmetic.double_rounded(numpy.array(x), multiplier, shift)
    assert result.tolist() == [_gemmlowp(one, multiplier, shift) for one in x]


def test_ties_of_a_power_of_two_scale() -> None:
    x = numpy.array([-3, -2, -1, 0, 1, 2, 3])
    assert arithmetic.double_rounded(x, 1 << 30, 31).tolist() == [-1, -1, 0, 0, 1, 1, 2]
    assert arithmetic.double_rounded(x, 1 << 30, 32).tolist() == [-1, -1, 0, 0, 1, 1, 1]
    assert arithmetic.symmetric(x, 1 << 30, 31).tolist() == [-2, -1, -1, 0, 1, 1, 2]


def test_scales_per_channel() -> None:
    x = numpy.full((2, 2, 3), 1000)
    result = arithmetic.scaled_by(x, numpy.array([1, 2, 3]), numpy.array([0, 1, 4]), Rounding.NATURAL)
    assert result[1, 1].tolist() == [1000, 1000, 188]


def test_a_shift_of_nothing_changes_nothing() -> None:
    x = numpy.array([-5, 0, 7])
    assert arithmetic.shifted_natural(x, 0).tolist() == x.tolist()
    assert arithmetic.shifted_symmetric(x, 0).tolist() == x.tolist()
    assert arithmetic.shifted_symmetric(numpy.array([-3, -2, 2, 3]), numpy.array([1, 1, 1, 0])).tolist() == [
        -2,
        -1,
        1,
        3,
    ]


def test_what_is_too_wide_is_an_error() -> None:
    with pytest.raises(SimulatorError, match="too wide"):
        arithmetic.natural(numpy.array([2**48]), 2**31, 40)
    with pytest.raises(SimulatorError, match="too wide"):
        arithmetic.natural(numpy.array([2**40]), 2**31 - 1, 8)


def test_unknown_rounding_is_an_error() -> None:
    with pytest.raises(SimulatorError, match="double asymmetric"):
        arithmetic.scaled(numpy.array([1]), Scale(3, 0, Rounding.DOUBLE_ASYMMETRIC))
