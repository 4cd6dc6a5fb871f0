import numpy as np
import pytest

from mlia.errors import TransformError
from mlia.transforms.calibration import Array, Calibration
from mlia.transforms.fidelity import Difference, fidelity


def one_hot(places: list[int] | list[list[int]], classes: int = 5) -> Array:
    return np.eye(classes, dtype=np.float32)[np.array(places)]


def agreement(expected: Array, found: Array) -> float | None:
    difference = Difference()
    for pair in zip(expected, found, strict=True):
        difference.add(*pair)
    return difference.figures("output").top1_agreement


def labelled(labels: list[int]) -> Calibration:
    samples = (np.zeros((len(labels), 1, 3), np.float32),)
    return Calibration("data.npz", False, samples, samples, np.array(labels))


def test_top_1_counts_positions() -> None:
    pixels, others = [[0, 1, 2], [3, 4, 0]], [[0, 1, 3], [3, 4, 0]]
    assert agreement(one_hot(pixels)[:, None], one_hot(others)[:, None]) == pytest.approx(5 / 6)
    assert agreement(one_hot([0, 1, 2, 3])[:, None], one_hot([0, 1, 2, 4])[:, None]) == 0.75


def test_a_batch_is_several_positions() -> None:
    """The largest number of all is where the first row has it, whatever becomes of the second."""
    expected = np.array([[[9.0, 0.0], [0.0, 1.0]]])
    found = np.array([[[9.0, 0.0], [1.0, 0.0]]])
    assert agreement(expected, found) == 0.5


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 1, 6, 1), (4, 0)])
def test_single_values_have_no_largest_one(shape: tuple[int, ...]) -> None:
    assert agreement(np.ones(shape), np.ones(shape)) is None


def test_other_figures() -> None:
    difference = Difference()
    difference.add(np.array([3.0, 4.0]), np.array([3.0, 3.5]))
    figures = difference.figures("x")
    assert figures.relative_error == pytest.approx(0.1)
    assert figures.sqnr_db == pytest.approx(20)
    with pytest.raises(ValueError, match=r"\[2\] has become \[3\]"):
        difference.add(np.zeros(2), np.zeros(3))


@pytest.mark.parametrize("shape", [(4, 5), (4, 1, 5), (4, 1, 1, 1, 5)])
def test_accuracy_of_one_answer_per_sample(shape: tuple[int, ...]) -> None:
    expected, found = (one_hot(places).reshape(shape) for places in ([0, 1, 2, 3], [0, 1, 4, 4]))
    made = fidelity(["scores"], [expected], [found], labelled([0, 1, 2, 4]))
    assert (made.float_accuracy, made.quantized_accuracy) == (0.75, 0.75)
    assert made.outputs[0].top1_agreement == 0.5


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 1, 3, 5)])
def test_no_accuracy_without_one_answer_per_sample(shape: tuple[int, ...]) -> None:
    made = fidelity(["map"], [np.ones(shape)], [np.ones(shape)], labelled([0, 1, 2, 4]))
    assert (made.float_accuracy, made.quantized_accuracy) == (None, None)


def test_labels_beyond_the_output() -> None:
    with pytest.raises(TransformError, match="the labels go up to 5, but the first output has 5 classes"):
        fidelity(["scores"], [np.ones((2, 1, 5))], [np.ones((2, 1, 5))], labelled([0, 5]))
