"""The parameters of the timing model that explain measurements best."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from scipy.optimize import least_squares

from mlia.backends.ethos_u.features import StepFeatures
from mlia.backends.ethos_u.timing import estimate_with
from mlia.targets.coefficients import Physics
from mlia.targets.target import Target

ROBUST = 0.05  # errors beyond this count less than by their square
STEP = 1e-4  # of a logarithm, to differentiate with
ENOUGH = 8  # networks, for their deviation to say something of others
LEAST, LEAST_OF_FEW, LEAST_OF_ONE = 0.05, 0.15, 0.25  # logarithms: how narrow a band can be
WITHIN = 1e-3  # a start lies this far inside of its bounds


class Run(Struct, frozen=True):
    """A measurement: the program, where it ran, and NPU cycles.

    `steps` of the program by their places, or all; `slack` is how far the logarithm of the estimate may be off for
    nothing, because cycles were read coarsely. `group` is what is left out together in cross-validation.
    """

    target: Target
    features: tuple[StepFeatures, ...]
    cycles: float
    group: str
    weight: float = 1.0
    slack: float = 0.0
    steps: frozenset[int] | None = None


def estimates(runs: Sequence[Run], physics: Physics) -> list[float]:
    """NPU cycles of each run."""
    known: dict[tuple[int, int], list[float]] = {}
    results = []
    for run in runs:
        key = id(run.features), id(run.target)
        if key not in known:
            known[key] = [each.cycles for each in estimate_with(run.features, run.target, physics)]
        results.append(sum(value for step, value in enumerate(known[key]) if run.steps is None or step in run.steps))
    return results


def fit(
    runs: Sequence[Run],
    start: Physics,
    free: Mapping[str, tuple[float, float]],
    doubt: float | None = None,
    valleys: Mapping[str, Sequence[float]] | None = None,
) -> Physics:
    """The parameters in `free`, each within its bounds, that fit the runs best; three digits.

    The loss is the logarithm of estimate to measurement, robust against outliers. With `doubt`, to change a parameter
    e-fold costs as much as an error of so much (0.1 is about 10 %) in one run: few measurements then change little.
    `valleys` are shares of a parameter to start from, because a small step from where it is may change nothing.
    """
    origin = np.log([getattr(start, name) for name in free])

    def physics(point: Sequence[float]) -> Physics:
        return replace(start, **{name: math.exp(value) for name, value in zip(free, point, strict=True)})

    def residuals(point: Sequence[float]) -> list[float]:
        errors = [
            run.weight * _error(run, found) for run, found in zip(runs, estimates(runs, physics(point)), strict=True)
        ]
        prior = [] if doubt is None else [doubt * float(value) for value in np.asarray(point) - origin]
        return [*errors, *prior]

    low, high = (np.log([bounds[end] for bounds in free.values()]) for end in (0, 1))
    starts = product(*((valleys or {}).get(name, (1.0,)) for name in free))
    ends = []
    for shares in starts:
        first = np.clip(origin + np.log(shares), low + WITHIN, high - WITHIN)
        ends.append(least_squares(residuals, first, bounds=(low, high), loss="soft_l1", f_scale=ROBUST, diff_step=STEP))
    best = min(ends, key=lambda each: each.cost)
    found = {name: float(f"{math.exp(value):.3g}") for name, value in zip(free, best.x, strict=True)}
    return replace(start, **{name: min(max(value, free[name][0]), free[name][1]) for name, value in found.items()})


def unseen(runs: Sequence[Run], fit_to: Callable[[Sequence[Run]], Physics]) -> list[float]:
    """NPU cycles of each run, by a fit to the runs of all other groups."""
    results = [0.0] * len(runs)
    for group in sorted({run.group for run in runs}):
        physics = fit_to([run for run in runs if run.group != group])
        inside = [number for number, run in enumerate(runs) if run.group == group]
        for number, cycles in zip(inside, estimates([runs[n] for n in inside], physics), strict=True):
            results[number] = cycles
    return results


def mean_error_percent(cycles: Sequence[float], runs: Sequence[Run]) -> float:
    """The mean size of the errors, in percent of what was measured."""
    return 100 * sum(abs(value / run.cycles - 1) for value, run in zip(cycles, runs, strict=True)) / len(runs)


def band(cycles: Sequence[float], runs: Sequence[Run]) -> tuple[float, float]:
    """Between which multiples of an estimate a measurement should be: about nineteen of twenty networks.

    That is twice the deviation of the estimates, which had not seen what they estimate. Few networks tell little of
    others: of n networks the band is wider by 1 / n, and 15 % wide at least with fewer than eight of them, 25 % with
    one.
    """
    logs = [math.log(run.cycles / value) for value, run in zip(cycles, runs, strict=True)]
    networks = len({run.group for run in runs})
    least = LEAST if networks >= ENOUGH else LEAST_OF_FEW if networks > 1 else LEAST_OF_ONE
    width = max(least, (1 + 1 / networks) * 2 * math.sqrt(sum(value**2 for value in logs) / len(logs)))
    return float(f"{math.exp(-width):.2g}"), float(f"{math.exp(width):.3g}")


def _error(run: Run, cycles: float) -> float:
    """The logarithm of estimate to measurement, less its slack."""
    error = math.log(max(cycles, 1) / run.cycles)
    return math.copysign(max(0.0, abs(error) - run.slack), error)
