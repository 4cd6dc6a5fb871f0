"""Sets of bytes as sorted intervals that do not touch: int64 arrays of (begin, end), end not included."""

from collections.abc import Callable

import numpy
from numpy.typing import NDArray

Intervals = NDArray[numpy.int64]

NOTHING: Intervals = numpy.zeros((0, 2), numpy.int64)


def interval(begin: int, end: int) -> Intervals:
    """The bytes from `begin` up to, not including, `end`."""
    return numpy.array([[begin, end]], numpy.int64) if end > begin else NOTHING


def runs(begins: Intervals, length: int) -> Intervals:
    """Runs of `length` bytes from each of `begins` (any shape and order), which may overlap."""
    if length <= 0 or not begins.size:
        return NOTHING
    ordered = numpy.unique(begins)
    breaks = numpy.flatnonzero(ordered[1:] - ordered[:-1] > length) + 1
    first = numpy.concatenate(([0], breaks))
    last = numpy.concatenate((breaks, [len(ordered)])) - 1
    return numpy.stack((ordered[first], ordered[last] + length), axis=1)


def strided(address: int, shape: tuple[int, ...], strides: tuple[int, ...], length: int) -> Intervals:
    """Runs of `length` bytes at `address` + every sum of index * stride; strides may be negative or zero."""
    if not all(shape):
        return NOTHING
    axes = sorted((abs(stride), size) for size, stride in zip(shape, strides, strict=True) if size > 1 and stride)
    # Axes that continue a run make it longer instead of one more.
    address += sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True) if stride < 0)
    begins = numpy.array([address], numpy.int64)
    for stride, size in axes:
        if stride <= length and begins.size == 1:
            length += stride * (size - 1)
        else:
            begins = (begins[:, None] + stride * numpy.arange(size, dtype=numpy.int64)).reshape(-1)
    return runs(begins, length)


def union(a: Intervals, b: Intervals) -> Intervals:
    """What is in `a`, `b` or both."""
    if contains(a, b):
        return a
    return b if contains(b, a) else _where(a, b, lambda in_a, in_b: in_a | in_b)


def minus(a: Intervals, b: Intervals) -> Intervals:
    """What is in `a`, but not in `b`."""
    if not overlap(a, b):
        return a
    return NOTHING if contains(b, a) else _where(a, b, lambda in_a, in_b: in_a & ~in_b)


def common(a: Intervals, b: Intervals) -> Intervals:
    """What is in both."""
    if contains(a, b):
        return b
    if contains(b, a):
        return a
    return _where(a, b, lambda in_a, in_b: in_a & in_b) if overlap(a, b) else NOTHING


def contains(a: Intervals, b: Intervals) -> bool:
    """Whether all of `b` is in `a`."""
    if not len(a) or not len(b):
        return not len(b)
    nearest = numpy.searchsorted(a[:, 0], b[:, 0], side="right") - 1
    return bool((nearest >= 0).all() and (a[nearest, 1] >= b[:, 1]).all())


def overlap(a: Intervals, b: Intervals) -> bool:
    """Whether anything is in both."""
    if not len(a) or not len(b) or a[0, 0] >= b[-1, 1] or b[0, 0] >= a[-1, 1]:
        return False
    if len(a) > len(b):
        a, b = b, a
    # Of b, the first interval that ends after each of a begins.
    nearest = numpy.searchsorted(b[:, 1], a[:, 0], side="right")
    found = nearest < len(b)
    return bool((b[nearest[found], 0] < a[found, 1]).any())


def size(a: Intervals) -> int:
    """How many bytes there are."""
    return int((a[:, 1] - a[:, 0]).sum())


def _where(
    a: Intervals,
    b: Intervals,
    keep: Callable[[NDArray[numpy.bool_], NDArray[numpy.bool_]], NDArray[numpy.bool_]],
) -> Intervals:
    """Between all begins and ends, keep the spans for which `keep` says so."""
    edges = numpy.unique(numpy.concatenate((a.reshape(-1), b.reshape(-1))))
    kept = keep(_covers(a, edges[:-1]), _covers(b, edges[:-1]))
    change = numpy.diff(kept.astype(numpy.int8), prepend=0, append=0)
    return numpy.stack((edges[change == 1], edges[change == -1]), axis=1)


def _covers(a: Intervals, points: Intervals) -> NDArray[numpy.bool_]:
    return numpy.searchsorted(a[:, 0], points, side="right") > numpy.searchsorted(a[:, 1], points, side="right")
