"""What an operator that mixes channels loses with some of them, and how the others make up for it: least squares.

A CONV_2D or FULLY_CONNECTED is a matrix product: rows of inputs (one per sample and output position; *features* are
the elements of a patch) times weights. Both functions here work on a seeded selection of rows.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy
from msgspec import Struct

from mlia.graph.graph import Operator, Subgraph
from mlia.transforms.calibration import Array

ROWS_PER_FEATURE, FEWEST_ROWS, MOST_ROWS = 4, 1024, 4096
MOST_FEATURES = 1536  # more would take seconds: elimination is cubic in them
STEPS = 64  # of an elimination: with more lanes to remove, several at each
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # relative to the variance of each feature
ELIMINATION_RIDGE = 1e-2  # of four models, closest at it or near it
DEAD_RIDGE = 1e-8  # among channels that never change, which are alike or different, and not a matter of samples
CHOSEN_RIDGE = 1e-2  # where there are too few samples to choose one
HELD_OUT = 5  # every fifth sample judges the ridge
NEGLIGIBLE = 1e-9  # of the variance of an output: float32 rounding


class Reader:
    """The rows that a CONV_2D or FULLY_CONNECTED reads, and which features each of its lanes is."""

    def __init__(self, subgraph: Subgraph, operator: Operator) -> None:
        self._operator = operator
        self._sizes = subgraph.tensors[operator.inputs[1]].shape
        self._output = subgraph.tensors[operator.outputs[0]].shape
        self.features = int(numpy.prod(self._sizes[1:]))
        self._positions: list[Array] = []
        self._random = numpy.random.default_rng(operator.index)

    def pick(self, samples: int) -> None:
        """Choose positions of the output, anew for each sample."""
        count = int(numpy.prod(self._output[:-1]))
        rows = min(max(ROWS_PER_FEATURE * self.features, FEWEST_ROWS), MOST_ROWS)
        few = min(count, ceil(rows / samples))
        self._positions = [numpy.sort(self._random.choice(count, few, replace=False)) for _ in range(samples)]

    def lanes(self, lanes: Array) -> Array:
        """The lane of each feature, given those of the weights' input axis."""
        return numpy.tile(lanes, self.features // len(lanes))

    def rows(self, sample: int, values: Array) -> Array:
        """The chosen rows of one sample, (positions, features), of what the operator's input holds."""
        positions: Array = self._positions[sample]
        if self._operator.kind == "FULLY_CONNECTED":
            return values.reshape(int(numpy.prod(self._output[:-1])), -1)[positions]
        _, height, width, _ = self._sizes
        batch, top, left = (numpy.asarray(part) for part in numpy.unravel_index(positions, self._output[:3]))
        rows, columns = self._along("h", height, values.shape[1]), self._along("w", width, values.shape[2])
        padded = numpy.pad(values, ((0, 0), rows.padding, columns.padding, (0, 0)))
        y = top[:, None] * rows.stride + numpy.arange(height) * rows.dilation
        x = left[:, None] * columns.stride + numpy.arange(width) * columns.dilation
        return padded[batch[:, None, None], y[:, :, None], x[:, None, :]].reshape(len(positions), -1)

    def _along(self, axis: str, kernel: int, size: int) -> "_Axis":
        stride, dilation = (
            self._operator.number(f"stride_{axis}", 1),
            self._operator.number(f"dilation_{axis}_factor", 1),
        )
        if self._operator.options.get("padding") != "SAME":
            return _Axis(stride, dilation, (0, 0))
        missing = max(0, (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)
        return _Axis(stride, dilation, (missing // 2, missing - missing // 2))


class _Axis(Struct, frozen=True):
    stride: int
    dilation: int
    padding: tuple[int, int]


def as_matrix(weights: Array) -> Array:
    """Weights (outputs, ..., inputs) as (features, outputs), in float64."""
    return weights.reshape(len(weights), -1).T.astype(numpy.float64)


class Elimination:
    """Removal of lanes of one operator, one after the other, from the one that the output misses least.

    What a lane costs is the growth of the squared error of the output, relative to its variance, when the weights
    of all other features are free to make up for it: tr(W' [H^-1]^-1 W) over the features of the lane, H being their
    covariance (Hassibi and Stork 1993, "Second order derivatives for network pruning: Optimal Brain Surgeon", for
    several weights at once). Without a ridge, or for very many features, nothing makes up for it: the cost is the
    variance of what the lane adds, tr(W' H W).
    """

    def __init__(
        self,
        rows: Array,
        matrix: Array,
        blocks: Sequence[Array],
        *,
        variance: float,
        ridge: float | None = ELIMINATION_RIDGE,
    ) -> None:
        """`blocks` are the features of each lane; `variance` is that of the whole output, summed over channels."""
        self.lanes = len(blocks)
        self._variance = variance
        self._blocks: Any = None
        if ridge is not None and len({len(block) for block in blocks}) == 1 and len(matrix) <= MOST_FEATURES:
            self._blocks = numpy.stack(blocks)
            self._inverse = numpy.linalg.inv(_ridged_covariance(rows, ridge))
            self._matrix = matrix.copy()
        else:
            self._own = numpy.array([(rows[:, block] @ matrix[block]).var(0).sum() for block in blocks])

    def costs(self, left: Array) -> Array:
        """What each of these lanes (numbers of blocks) would cost now."""
        if self._variance <= 0:
            return numpy.zeros(len(left))
        if self._blocks is None:
            return numpy.asarray(self._own[left] / self._variance)
        blocks = self._blocks[left]
        weights = self._matrix[blocks]
        inverses = self._inverse[blocks[:, :, None], blocks[:, None, :]]
        restored = numpy.linalg.solve(inverses, weights) if blocks.shape[1] > 1 else weights / inverses
        return numpy.asarray((weights * restored).sum((1, 2)) / self._variance)

    def remove(self, lanes: Sequence[int]) -> None:
        """Take lanes out and let the others make up for them."""
        if self._blocks is None:
            return
        block = self._blocks[lanes].reshape(-1)
        columns = self._inverse[:, block]
        share = columns @ numpy.linalg.inv(self._inverse[numpy.ix_(block, block)])
        self._matrix -= share @ self._matrix[block]
        self._inverse -= share @ columns.T


def order_of_removal(eliminations: Sequence[Elimination], count: int, most: float = numpy.inf) -> list[int]:
    """Which lanes to remove, cheapest first: at most `count`, while what they cost together stays below `most`."""
    left = numpy.arange(eliminations[0].lanes)
    removed: list[int] = []
    spent = 0.0
    at_once = max(1, count // STEPS)
    while len(left) and len(removed) < count:
        costs = numpy.sum([elimination.costs(left) for elimination in eliminations], axis=0)
        cheapest = numpy.argsort(costs, kind="stable")[: min(at_once, count - len(removed))]
        totals = spent + numpy.cumsum(costs[cheapest])
        chosen = left[cheapest[totals <= most]].tolist()
        removed += chosen
        if len(chosen) < len(cheapest):
            break
        spent = float(totals[-1])
        for elimination in eliminations:
            elimination.remove(chosen)
        left = numpy.delete(left, cheapest)
    return removed


class Fit(Struct, frozen=True):
    """New weights (features, outputs), what to add to the bias, and the output's relative error without and with."""

    matrix: Array
    bias: Array
    before: float
    after: float


def fit(rows: Sequence[Array], target: Sequence[Array], matrix: Array) -> Fit:
    """Weights close to `matrix` with which rows @ weights + bias is as close as possible to the target.

    Ridge regression (Hoerl and Kennard 1970) around the given weights: the penalty is on what changes, so that
    samples which say nothing leave the weights as they are. How strong it is, and whether the weights change at all,
    is decided on every fifth sample, which is left out until then. `rows` and `target` have one array per sample.
    """
    everything, wanted = numpy.concatenate(rows).astype(numpy.float64), numpy.concatenate(target)
    error = wanted - everything @ matrix
    judging = numpy.concatenate([numpy.full(len(part), number % HELD_OUT == 0) for number, part in enumerate(rows)])
    total = float(((wanted - wanted.mean(0)) ** 2).mean())
    before = _root(float((error**2).mean()), total)
    ridge: float | None = CHOSEN_RIDGE
    if len(rows) >= HELD_OUT:
        known, kept = _Regression(everything[~judging], error[~judging]), (everything[judging], error[judging])
        tried = {strength: known.error_on(*kept, strength) for strength in (*RIDGES, None)}
        ridge = min(tried, key=lambda strength: tried[strength])
    change, bias = _Regression(everything, error).solve(ridge)
    after = _root(float(((error - everything @ change - bias) ** 2).mean()), total)
    return Fit(matrix + change, bias, before, after)


class _Regression:
    def __init__(self, rows: Array, target: Array) -> None:
        self._mean, self._target_mean = rows.mean(0), target.mean(0)
        self._rows, self._target = rows - self._mean, target - self._target_mean
        self._penalties = {ridge: _penalty(rows, self._rows, ridge) for ridge in RIDGES}
        # Of the two ways to write the solution, the one with the smaller system.
        self._is_wide = rows.shape[1] > len(rows)
        self._product = self._rows.T @ self._target / len(rows)
        self._covariance = None if self._is_wide else self._rows.T @ self._rows / len(rows)

    def solve(self, ridge: float | None) -> tuple[Array, Array]:
        """Weights and bias; without a ridge, the bias alone."""
        if ridge is None:
            return numpy.zeros_like(self._product), self._target_mean
        penalty = self._penalties[ridge]
        if self._is_wide:
            scaled = self._rows / penalty
            system = self._rows @ scaled.T / len(scaled) + numpy.eye(len(scaled))
            weights = scaled.T @ numpy.linalg.solve(system, self._target) / len(scaled)
        else:
            weights = numpy.linalg.solve(self._covariance + numpy.diag(penalty), self._product)
        return weights, self._target_mean - self._mean @ weights

    def error_on(self, rows: Array, target: Array, ridge: float | None) -> float:
        weights, bias = self.solve(ridge)
        return float(((target - rows @ weights - bias) ** 2).mean())


def _ridged_covariance(rows: Array, ridge: float) -> Array:
    centered = rows - rows.mean(0, dtype=numpy.float64)
    return centered.T @ centered / len(rows) + numpy.diag(_penalty(rows, centered, ridge))


def _penalty(rows: Array, centered: Array, ridge: float) -> Array:
    """A part of each feature's own variance, and above what rounding makes of those that have none."""
    variance = (centered**2).mean(0)
    return ridge * variance + 1e-8 * variance.mean() + 1e-10 * float((rows**2).mean(dtype=numpy.float64)) + 1e-30


def _root(error: float, total: float) -> float:
    return (error / total) ** 0.5 if total > 0 else 0.0
