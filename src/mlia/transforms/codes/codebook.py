"""Least-squares arithmetic of compression: which codes an operator's weights get so that its output changes least.

For outputs y = W x, the expected squared error of codes Q is the sum over rows of (Q - W) H (Q - W)^T with
H = E[x x^T]: the layer-wise objective of optimal brain surgeon (Hassibi and Stork, 1992) and of what followed it. It
is lowered one column after the other with all others fixed (coordinate descent), which respects masks and codebooks
and never raises it. Weights are in units of codes, (rows, columns); a depthwise operator has an H of its own for
each row, (rows, columns, columns).
"""

import math
from typing import Literal, TypeAlias

import numpy

from mlia.transforms.calibration import Array

LARGEST_CODE = 127
GROUP, KEPT_OF_GROUP = 4, 2  # of the pattern 2:4
Pattern: TypeAlias = Literal["unstructured", "2:4"]
# Removing in steps, with a refit after each, finds better masks than all at once.
STAGES = 3
REFIT_SWEEPS = 3
ROUNDING = 1e-6  # 0.6 of ten is six, not seven
SNAP_SWEEPS = 3


def damped(hessian: Array, damping: float) -> Array:
    """H with a multiple of the identity added, in units of its mean diagonal: what samples never use stays."""
    columns = hessian.shape[-1]
    mean = numpy.trace(hessian, axis1=-2, axis2=-1) / columns
    mean = numpy.where(mean > 0, mean, 1.0)
    return (hessian + damping * mean[..., None, None] * numpy.eye(columns)).astype(numpy.float32)


def pruned(
    weights: Array,
    hessian: Array,
    inverse: Array,
    row_importance: Array,
    share: float,
    pattern: Pattern,
    channels: int,
) -> tuple[Array, Array]:
    """Weights with a share of them zero, the rest making up for it, and the mask of those that stay.

    What is removed is chosen by w^2 / [H^-1]_kk times the row's importance, in stages. With pattern "2:4" two of
    every four input channels go, whatever their importance elsewhere. A row has `channels` columns for each position
    of the kernel, and groups begin anew at each position.
    """
    kept = numpy.ones(weights.shape, bool)
    remaining = weights
    costs = numpy.diagonal(inverse, axis1=-2, axis2=-1)
    for stage in range(1, STAGES + 1):
        saliency = numpy.where(kept, remaining, 0).astype(numpy.float64) ** 2 / costs * row_importance[:, None]
        if pattern == "2:4":
            if stage > GROUP - KEPT_OF_GROUP:
                break
            kept = _best_of_groups(saliency, GROUP - stage, channels)
        else:
            # Fewer in each further stage (as in gradual pruning: Zhu and Gupta, 2017).
            removed = share * (1 - (1 - stage / STAGES) ** 3)
            kept = _best(saliency, math.ceil(removed * weights.size - ROUNDING))
        remaining = _descend(weights, hessian, kept, remaining, None, REFIT_SWEEPS)
    return remaining, kept


def _best(saliency: Array, removed: int) -> Array:
    """False for the `removed` smallest; of equals the first."""
    order = numpy.argsort(saliency, axis=None, kind="stable")
    kept = numpy.ones(saliency.size, bool)
    kept[order[:removed]] = False
    return kept.reshape(saliency.shape)


def _best_of_groups(saliency: Array, stay: int, channels: int) -> Array:
    """True for the `stay` largest of each four channels at one position of the kernel, as Ethos-U85 groups them.

    Channels that the last group lacks count as zeros there (Vela's cycles say so: of a last group of three, one has
    to go; of two or one, none), so it keeps as many as the others.
    """
    missing = -channels % GROUP
    positions = saliency.reshape(-1, channels)
    padded = numpy.pad(positions, ((0, 0), (0, missing)), constant_values=-1.0).reshape(len(positions), -1, GROUP)
    rank = numpy.argsort(numpy.argsort(-padded, axis=2, kind="stable"), axis=2, kind="stable")
    kept: Array = (rank < stay).reshape(len(positions), -1)[:, :channels]
    return kept.reshape(saliency.shape)


def snapped(weights: Array, hessian: Array, kept: Array, start: Array, book: Array) -> Array:
    """Codes from a sorted codebook, zero where not kept, as close to the weights as coordinate descent gets."""
    nearest = book[numpy.searchsorted((book[1:] + book[:-1]) / 2, start)]
    return _descend(weights, hessian, kept, nearest, book, SNAP_SWEEPS)


def _descend(weights: Array, hessian: Array, kept: Array, start: Array, book: Array | None, sweeps: int) -> Array:
    codes = numpy.where(kept, start, 0).astype(numpy.float32)
    slope = times(codes - weights, hessian)
    diagonal = numpy.diagonal(hessian, axis1=-2, axis2=-1)
    middles = (book[1:] + book[:-1]) / 2 if book is not None else None
    for _ in range(sweeps):
        for column in range(weights.shape[1]):
            best = codes[:, column] - slope[:, column] / diagonal[..., column]
            if book is not None and middles is not None:
                best = book[numpy.searchsorted(middles, best)]
            best = numpy.where(kept[:, column], best, 0).astype(numpy.float32)
            step = best - codes[:, column]
            codes[:, column] = best
            slope += step[:, None] * hessian[..., column, :]
    return codes


def times(rows: Array, hessian: Array) -> Array:
    """Each row times the matrix, or times its own."""
    return rows @ hessian if hessian.ndim == 2 else numpy.einsum("rk,rkl->rl", rows, hessian)


def all_codes() -> Array:
    """Every code that a weight may have; -128 is none (TFLite's quantization specification)."""
    return numpy.arange(-LARGEST_CODE, LARGEST_CODE + 1).astype(numpy.float32)


def best_codebook(weights: Array, importance: Array, clusters: int, with_zero: bool) -> Array:
    """At most `clusters` codes for which the weighted squared error of weights rounded to them is least.

    One-dimensional k-means over the histogram of whole codes, exact by dynamic programming (Bellman, 1973). With
    zero, one of the codes is 0; of no weights at all, 0 is the only one.
    """
    whole = numpy.clip(numpy.round(weights), -LARGEST_CODE, LARGEST_CODE).astype(int).reshape(-1) + LARGEST_CODE
    codes = all_codes().astype(numpy.float64)
    mass = numpy.bincount(whole, importance.reshape(-1), len(codes))
    if with_zero:
        mass[LARGEST_CODE] = max(mass[LARGEST_CODE], mass.sum() * 1e-12 + 1e-30)
    used = numpy.flatnonzero(mass)
    if not len(used):
        return numpy.zeros(1, numpy.float32)
    if len(used) <= clusters:
        return codes[used].astype(numpy.float32)
    mass, codes = mass[used], codes[used]
    centers, errors = _segments(mass, codes, with_zero)
    count = len(codes)
    best = errors[0].copy()  # of the first j + 1 codes in one cluster
    first = numpy.zeros((clusters, count), int)  # where the last cluster begins
    for cluster in range(1, clusters):
        # A last cluster that begins at i, behind the best clusters of all before it.
        totals = numpy.full((count, count), numpy.inf)
        totals[1:] = best[:-1, None] + errors[1:]
        first[cluster] = totals.argmin(axis=0)
        best = totals.min(axis=0)
    book = []
    end = count - 1
    for cluster in range(clusters - 1, -1, -1):
        begin = first[cluster, end] if cluster else 0
        book.append(centers[begin, end])
        end = begin - 1
    return numpy.unique(book).astype(numpy.float32)


def _segments(mass: Array, codes: Array, with_zero: bool) -> tuple[Array, Array]:
    """Of every run of codes from i to j: the one code that stands for it best, and the error of that."""
    sums = [numpy.concatenate([[0.0], numpy.cumsum(mass * codes**power)]) for power in range(3)]
    weight, first, second = (each[None, 1:] - each[:-1, None] for each in sums)
    possible = numpy.triu(numpy.ones(weight.shape, bool))
    centers = numpy.round(numpy.where(possible, first / numpy.where(weight > 0, weight, 1), 0))
    if with_zero:
        holds_zero = (codes[:, None] <= 0) & (codes[None, :] >= 0)
        centers = numpy.where(holds_zero, 0, centers)
    errors = numpy.where(possible, second - 2 * centers * first + centers**2 * weight, numpy.inf)
    return centers, errors
