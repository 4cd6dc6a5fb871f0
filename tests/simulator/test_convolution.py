"""Sums of products and pools against loops."""

from collections.abc import Callable

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlia.errors import SimulatorError
from mlia.simulator import convolution, pooling
from mlia.simulator.operation import Kernel, Padding

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
kernels = st.builds(Kernel, size=pairs, stride=pairs, dilation=pairs, is_part_kernel_first=st.just(False))


def _inputs(kernel: Kernel, size: tuple[int, int], depth: int, bits: int) -> numpy.ndarray:
    shape = (*convolution.covered(kernel, *size), depth)
    return numpy.random.default_rng(0).integers(-(2**bits), 2**bits, shape)


def _loop(x: numpy.ndarray, kernel: Kernel, size: tuple[int, int], combine: Callable[..., object]) -> list[object]:
    found = []
    for y, z in numpy.ndindex(*size):
        top, left = y * kernel.stride[0], z * kernel.stride[1]
        rows = [top + tap * kernel.dilation[0] for tap in range(kernel.size[0])]
        columns = [left + tap * kernel.dilation[1] for tap in range(kernel.size[1])]
        found.append(combine(x[numpy.ix_(rows, columns)]))
    return found


@given(kernels, pairs, st.integers(1, 5), st.integers(1, 5), st.sampled_from([8, 15, 30]))
def test_convolution(kernel: Kernel, size: tuple[int, int], depth: int, filters: int, bits: int) -> None:
    x = _inputs(kernel, size, depth, bits)
    weights = numpy.random.default_rng(1).integers(
        -(2 ** min(bits, 15)), 2 ** min(bits, 15), (filters, *kernel.size, depth)
    )
    expected = _loop(x, kernel, size, lambda seen: [int((seen * one).sum()) for one in weights])
    assert convolution.convolution(x, weights, kernel).reshape(-1, filters).tolist() == expected


@given(kernels, pairs, st.integers(1, 5), st.sampled_from([8, 30]))
def test_depthwise(kernel: Kernel, size: tuple[int, int], depth: int, bits: int) -> None:
    x = _inputs(kernel, size, depth, bits)
    weights = numpy.random.default_rng(1).integers(-128, 128, (1, *kernel.size, depth))
    expected = _loop(x, kernel, size, lambda seen: (seen * weights[0]).sum(axis=(0, 1)).tolist())
    assert convolution.depthwise(x, weights, kernel).reshape(-1, depth).tolist() == expected


def test_convolution_in_parts() -> None:
    kernel = Kernel((3, 3), (1, 1), (1, 1), False)
    x = _inputs(kernel, (300, 200), 40, 7)
    weights = numpy.random.default_rng(1).integers(-128, 128, (2, 3, 3, 40))
    found = convolution.convolution(x, weights, kernel)
    for y, z in ((0, 0), (150, 100), (299, 199)):
        assert found[y, z].tolist() == [(x[y : y + 3, z : z + 3] * one).sum() for one in weights]


def test_weights_of_another_shape_are_an_error() -> None:
    kernel, x = Kernel((2, 2), (1, 1), (1, 1), False), numpy.zeros((4, 4, 3), numpy.int32)
    with pytest.raises(SimulatorError, match="weights of"):
        convolution.convolution(x, numpy.zeros((5, 2, 3, 3)), kernel)
    with pytest.raises(SimulatorError, match="weights of"):
        convolution.depthwise(x, numpy.zeros((1, 2, 2, 4)), kernel)


@given(kernels, pairs, st.integers(1, 5))
def test_pools(kernel: Kernel, size: tuple[int, int], depth: int) -> None:
    x = _inputs(kernel, size, depth, 15).astype(numpy.int32)
    expected = _loop(x, kernel, size, lambda seen: seen.max(axis=(0, 1)).tolist())
    assert pooling.largest(x, kernel).reshape(-1, depth).tolist() == expected
    expected = _loop(x, kernel, size, lambda seen: seen.sum(axis=(0, 1)).tolist())
    assert pooling.summed(x, kernel).reshape(-1, depth).tolist() == expected


def test_averages_count_what_is_not_padding() -> None:
    kernel, padding = Kernel((3, 2), (2, 1), (1, 1), False), Padding(1, 1, 1, 0)
    assert pooling.valid_counts((2, 3), kernel, padding).tolist() == [[2, 4, 4], [2, 4, 4]]
    sums = numpy.array([[[3], [6], [-6]], [[-3], [7], [-5]]])
    assert pooling.averaged(sums, kernel, padding)[..., 0].tolist() == [[2, 2, -2], [-2, 2, -1]]


def test_sums_over_channels() -> None:
    assert pooling.summed_over_channels(numpy.array([[[1, 2, 3], [-4, 5, 6]]])).tolist() == [[[6], [7]]]
