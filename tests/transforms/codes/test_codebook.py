import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlia.transforms.calibration import Array
from mlia.transforms.codes import codebook


def problem(rows: int, columns: int, seed: int, own: bool = False) -> tuple[Array, Array]:
    """Weights in codes, and the covariance of correlated inputs."""
    random = np.random.default_rng(seed)
    weights = random.normal(0, 40, (rows, columns)).astype(np.float32)
    mixing = random.normal(0, 1, (rows if own else 1, columns, columns))
    samples = random.normal(0, 1, (rows if own else 1, 64, columns)) @ mixing
    hessian = np.swapaxes(samples, 1, 2) @ samples / 64
    return weights, codebook.damped(hessian if own else hessian[0], 0.01)


def error(codes: Array, weights: Array, hessian: Array) -> float:
    difference = (codes - weights).astype(np.float64)
    return float((difference * codebook.times(difference, hessian.astype(np.float64))).sum())


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 6), st.integers(1, 12), st.integers(0, 99), st.booleans(), st.integers(2, 20), st.floats(0, 0.999)
)
def test_codes_keep_their_promises(rows: int, columns: int, seed: int, own: bool, clusters: int, share: float) -> None:
    weights, hessian = problem(rows, columns, seed, own)
    kept = np.ones(weights.shape, bool)
    remaining = weights
    if share:
        importance = np.ones(rows)
        inverse = np.linalg.inv(hessian)
        remaining, kept = codebook.pruned(weights, hessian, inverse, importance, share, "unstructured", columns)
        assert (~kept).sum() == np.ceil(share * weights.size - 1e-6)
        assert not remaining[~kept].any()
    importance = np.ones(weights.shape)[kept]
    book = codebook.best_codebook(remaining[kept], importance, clusters, with_zero=not kept.all())
    codes = codebook.snapped(weights, hessian, kept, remaining, book)
    assert len(np.unique(codes)) <= clusters
    assert not codes[~kept].any()
    assert np.abs(codes).max() <= 127
    assert (codes == np.round(codes)).all()


@pytest.mark.parametrize("own", [False, True])
def test_descent_beats_the_nearest_code(own: bool) -> None:
    weights, hessian = problem(8, 24, 3, own)
    book = codebook.best_codebook(weights, np.ones(weights.shape), 8, with_zero=False)
    nearest = book[np.abs(weights[..., None] - book).argmin(-1)]
    everything = np.ones(weights.shape, bool)
    found = codebook.snapped(weights, hessian, everything, weights, book)
    assert error(found, weights, hessian) < 0.8 * error(nearest, weights, hessian)


def test_what_stays_makes_up_for_what_went() -> None:
    weights, hessian = problem(8, 24, 5)
    inverse = np.linalg.inv(hessian)
    remaining, kept = codebook.pruned(weights, hessian, inverse, np.ones(8), 0.5, "unstructured", 24)
    assert error(remaining, weights, hessian) < 0.5 * error(np.where(kept, weights, 0), weights, hessian)
    smallest = np.abs(weights) >= np.median(np.abs(weights))
    assert error(remaining, weights, hessian) < 0.5 * error(np.where(smallest, weights, 0), weights, hessian)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 13), st.integers(0, 99))
@settings(deadline=None)
def test_two_of_four_channels_stay_at_each_position(rows: int, positions: int, channels: int, seed: int) -> None:
    weights, hessian = problem(rows, positions * channels, seed)
    _, kept = codebook.pruned(weights, hessian, np.linalg.inv(hessian), np.ones(rows), 0.5, "2:4", channels)
    at_positions = kept.reshape(rows, positions, channels)
    for start in range(0, channels, 4):
        group = at_positions[:, :, start : start + 4]
        assert (group.sum(axis=2) == min(2, group.shape[2])).all()


@pytest.mark.long
@given(st.lists(st.integers(-20, 20), min_size=1, max_size=9), st.integers(2, 4), st.booleans())
@settings(deadline=None)
def test_the_codebook_is_the_best_there_is(values: list[int], clusters: int, with_zero: bool) -> None:
    weights = np.array(values, np.float32)

    def cost(book: tuple[int, ...]) -> float:
        return float((np.abs(weights[:, None] - np.array(book)).min(axis=1) ** 2).sum())

    found = codebook.best_codebook(weights, np.ones(len(values)), clusters, with_zero)
    candidates = range(min(values), max(values) + 1)
    books = itertools.combinations(candidates, min(clusters - with_zero, len(candidates)))
    best = min(cost((*book, 0) if with_zero else book) for book in books)
    assert len(found) <= clusters
    assert not with_zero or 0 in found
    assert cost(tuple(map(int, found))) <= best + 1e-6


def test_nothing_is_left_of_few_weights() -> None:
    weights, hessian = problem(2, 3, 0)
    inverse = np.linalg.inv(hessian)
    remaining, kept = codebook.pruned(weights, hessian, inverse, np.ones(2), 0.999, "unstructured", 3)
    assert not kept.any()
    book = codebook.best_codebook(remaining[kept], np.ones(0), 16, with_zero=True)
    assert book.tolist() == [0]
    assert not codebook.snapped(weights, hessian, kept, remaining, book).any()
