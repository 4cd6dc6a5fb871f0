"""The arithmetic under the removal of channels, against LiteRT and against least squares done directly."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlia.graph.graph import OptionValue
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import Sketch
from mlia.transforms.calibration import Array
from mlia.transforms.channels.fit import CHOSEN_RIDGE, Elimination, Reader, as_matrix, fit, order_of_removal
from mlia.transforms.constants import stored
from mlia.transforms.interpreter import outputs


@given(
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(*[st.sampled_from([1, 2, 3, 255])] * 2),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    is_same=st.booleans(),
    batch=st.integers(1, 2),
)
@settings(max_examples=60, deadline=None)
def test_rows_times_weights_is_the_convolution(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    is_same: bool,
    batch: int,
) -> None:
    reach = [(length - 1) * apart + 1 for length, apart in zip(kernel, dilation, strict=True)]
    room = size if is_same else [length - far + 1 for length, far in zip(size, reach, strict=True)]
    height, width = (-(-length // step) for length, step in zip(room, stride, strict=True))
    options: dict[str, OptionValue] = {
        "padding": "SAME" if is_same else "VALID", "stride_h": stride[0], "stride_w": stride[1],
        "dilation_h_factor": dilation[0], "dilation_w_factor": dilation[1], "fused_activation_function": "NONE",
    }  # fmt: skip
    random = np.random.default_rng(0)
    net = Sketch("convolution")
    x = net.input("in", (batch, *size, 3))
    inputs = [x] + [
        net.constant("w", random.normal(0, 1, shape).astype(np.float32)) for shape in ((4, *kernel, 3), (4,))
    ]
    shape = (batch, height, width, 4)
    y = net.operator("CONV_2D", inputs, shape, "out", options_table="Conv2DOptions", options=options)
    graph = net.graph([y])
    values = random.normal(0, 1, (1, batch, *size, 3)).astype(np.float32)
    (expected,) = outputs(write_tflite(graph), (values,))
    reader = Reader(graph.main, graph.operators[0])
    reader.pick(1)
    weights, bias = (stored(graph.main.tensors[index]) for index in inputs[1:])
    found = reader.rows(0, values[0]) @ as_matrix(weights) + bias
    np.testing.assert_allclose(found, expected.reshape(-1, 4), atol=1e-4)


def correlated(rows: int, features: int) -> Array:
    random = np.random.default_rng(1)
    return random.normal(0, 1, (rows, features)) @ random.normal(0, 1, (features, features)) + 1


def smallest_error(rows: Array, kept: list[int], target: Array) -> float:
    """Of all linear functions of some features."""
    columns = np.hstack([rows[:, kept], np.ones((len(rows), 1))])
    found, *_ = np.linalg.lstsq(columns, target, rcond=None)
    return float(((target - columns @ found) ** 2).mean(0).sum())


@pytest.mark.parametrize("width", [1, 2])
def test_costs_are_what_least_squares_loses(width: int) -> None:
    rows, matrix = correlated(400, 12), np.random.default_rng(2).normal(0, 1, (12, 5))
    target = rows @ matrix
    blocks = [np.arange(start, 12, 12 // width) for start in range(12 // width)]
    variance = float(target.var(0).sum())
    elimination = Elimination(rows, matrix, blocks, variance=variance, ridge=1e-12)
    left, before = list(range(len(blocks))), 0.0
    while len(left) > 1:
        costs = elimination.costs(np.array(left))
        errors = [
            smallest_error(rows, [feature for other in left if other != lane for feature in blocks[other]], target)
            for lane in left
        ]
        np.testing.assert_allclose(costs, (np.array(errors) - before) / variance, rtol=1e-3, atol=1e-5)
        before = min(errors)
        elimination.remove([left.pop(int(np.argmin(costs)))])


def test_a_pair_that_is_alike_loses_one_first() -> None:
    rows, matrix = correlated(400, 6), np.random.default_rng(3).normal(0, 1, (6, 4))
    rows[:, 4] = 2 * rows[:, 1]
    blocks = [np.array([feature]) for feature in range(6)]
    variance = float((rows @ matrix).var(0).sum())
    made = Elimination(rows, matrix, blocks, variance=variance)
    (first,) = order_of_removal([made], 1)
    assert first in (1, 4)
    alone = Elimination(rows, matrix, blocks, variance=variance, ridge=None)
    own = [(np.outer(rows[:, feature], matrix[feature])).var(0).sum() / variance for feature in range(6)]
    np.testing.assert_allclose(alone.costs(np.arange(6)), own)
    assert order_of_removal([alone], 6) == list(np.argsort(own))
    assert order_of_removal([alone], 6, most=min(own) * 1.01) == [int(np.argmin(own))]
    assert all(made.costs(np.array(pair)).min() >= -1e-9 for pair in combinations({0, 1, 2, 3, 4, 5} - {first}, 2))


@pytest.mark.parametrize("count", [30, 3])
def test_fitting_is_ridge_regression_around_the_weights(count: int) -> None:
    """Also with fewer rows than features: samples of four rows, 12 features."""
    rows, matrix = correlated(count, 12), np.random.default_rng(4).normal(0, 1, (12, 5))
    target = rows @ np.random.default_rng(5).normal(0, 1, (12, 5)) + 3
    parts = [[part] for part in (rows, target)]  # one sample: nothing to choose the ridge by
    found = fit(*parts, matrix)
    centered, error = rows - rows.mean(0), target - rows @ matrix
    penalty = np.sqrt(CHOSEN_RIDGE * count) * np.diag(centered.std(0))
    stacked = np.vstack([centered, penalty]), np.vstack([error - error.mean(0), np.zeros((12, 5))])
    expected, *_ = np.linalg.lstsq(*stacked, rcond=None)
    np.testing.assert_allclose(found.matrix, matrix + expected, atol=1e-4)
    np.testing.assert_allclose((rows @ found.matrix + found.bias).mean(0), target.mean(0), atol=1e-9)
    assert found.after < found.before


def test_fitting_what_is_right_already_changes_nothing() -> None:
    rows, matrix = correlated(50, 12), np.random.default_rng(4).normal(0, 1, (12, 5))
    found = fit(np.split(rows, 10), np.split(rows @ matrix, 10), matrix)
    np.testing.assert_allclose(found.matrix, matrix, atol=1e-9)
    np.testing.assert_allclose(found.bias, 0, atol=1e-9)


def test_fitting_to_noise_keeps_the_weights() -> None:
    random = np.random.default_rng(6)
    rows, matrix = random.normal(0, 1, (200, 100)), random.normal(0, 1, (100, 5))
    target = rows @ matrix + random.normal(0, 100, (200, 5))
    found = fit(np.split(rows, 50), np.split(target, 50), matrix)
    np.testing.assert_array_equal(found.matrix, matrix)
    np.testing.assert_allclose(found.bias, (target - rows @ matrix).mean(0))
