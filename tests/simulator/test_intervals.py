"""Intervals beside Python's sets."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlia.simulator.intervals import NOTHING, common, contains, interval, minus, overlap, runs, size, strided, union

sets = st.frozensets(st.integers(0, 60))


def as_intervals(numbers: frozenset[int]) -> np.ndarray:
    return runs(np.array(sorted(numbers), np.int64), 1)


def as_set(found: np.ndarray) -> set[int]:
    assert (found[:, 0] < found[:, 1]).all()
    assert (found[1:, 0] > found[:-1, 1]).all()
    return {byte for begin, end in found.tolist() for byte in range(begin, end)}


@given(sets, sets)
def test_operations_are_those_of_sets(a: frozenset[int], b: frozenset[int]) -> None:
    x, y = as_intervals(a), as_intervals(b)
    assert as_set(x) == a
    assert as_set(union(x, y)) == a | b
    assert as_set(minus(x, y)) == a - b
    assert as_set(common(x, y)) == a & b
    assert overlap(x, y) == bool(a & b)
    assert contains(x, y) == (b <= a)
    assert size(x) == len(a)


@given(
    st.integers(0, 1000),
    st.lists(st.tuples(st.integers(0, 5), st.integers(-40, 40)), max_size=4),
    st.integers(1, 20),
)
def test_strided_bytes_are_all_sums(address: int, axes: list[tuple[int, int]], length: int) -> None:
    shape, strides = tuple(axis[0] for axis in axes), tuple(axis[1] for axis in axes)
    expected = {
        address + sum(i * stride for i, stride in zip(index, strides, strict=True)) + byte
        for index in np.ndindex(*shape)
        for byte in range(length)
    }
    assert as_set(strided(address, shape, strides, length)) == expected


def test_an_interval_of_nothing_is_nothing() -> None:
    assert len(interval(5, 5)) == len(NOTHING) == 0
    assert as_set(interval(3, 6)) == {3, 4, 5}
