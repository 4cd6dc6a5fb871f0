"""The search for a recipe: the fastest model that keeps the limits, out of many that are made and measured.

1. Each transform alone, from careful to bold.
2. The ones that keep the limits and gain most, together.
3. By operator: the weights that most is waited for, and that matter least, are compressed more than the others.
4. The best so far, with one operator at a time compressed a step more, as long as the limits are kept.
"""

import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from mlia.errors import BackendError, TransformError
from mlia.interrupts import Stoppable
from mlia.pipeline.optimize.candidates import Candidate, Task, trial_of
from mlia.pipeline.optimize.search_limits import Limits, Verdicts, checked_limits
from mlia.pipeline.parallel import attempt_in_parallel
from mlia.recipe import MOST_CLUSTERS, Channels, Clustering, Layer, Pruning, Quantize, Recipe, Rewrite, brief
from mlia.report import Trial
from mlia.transforms.codes.aims import aims_of


class Step(NamedTuple):
    """A share of zeros and a number of codes."""

    pruning: float
    clustering: int


AS_FAST = 1.01  # of two about as fast, the smaller one is better
SMALLER = 0.98  # of compressed weights, where there is nothing to gain in time
STRONG = Layer("", pruning=0.6, clustering=16)
SHARES = (0.25, 0.5, 0.75, 0.9)  # of the operators that are compressed more than the others
OUT_OF_TIME = "the time budget ended the search; more may be found with a larger --time-budget"
# How an operator's weights are compressed, a step more each: shares of zeros and codes.
LADDER = (Step(0.0, 64), Step(0.0, 32), Step(0.0, 16), Step(0.0, 8), Step(0.5, 8), Step(0.7, 8))
STEPS_AT_ONCE = 4
MOST_OPERATORS = 24  # whose sensitivity is measured
CODES = (Clustering(64), Clustering(32), Clustering(16), Clustering(8))
PRUNED = tuple(Recipe(pruning=Pruning(share), clustering=Clustering(16)) for share in (0.4, 0.6, 0.75))
# What is tried without data: little is lost by these whatever the inputs are.
SAFE = (*(Recipe(clustering=codes) for codes in CODES[:2]), Recipe(rewrite=Rewrite()))
CAREFUL = (
    "without data only the most careful recipes are tried, and nobody can say how close their results are: give"
    " --calibration"
)
KEEPS: tuple[Channels, ...] = tuple(Channels(keep) for keep in ("dead", 0.875, 0.75, 0.5, 0.25))


class Found(Struct, frozen=True):
    """What a search found: the model before, the chosen one (which may be the same), and all that was tried.

    `missed_limit` is the limit of latency or flash that the chosen one misses; empty when it keeps all.
    """

    plain: Candidate
    chosen: Candidate
    trials: tuple[Trial, ...]
    missed_limit: str
    notes: tuple[str, ...]


def search(task: Task, limits: Limits) -> Found:
    """Try recipes in rounds, each built on what the ones before taught, until the time is up or none is left.

    Raises:
        TransformError: a limit is absurd, or the model cannot be optimized at all.
        BackendError: the compiler does not take the model.
    """
    return _Search(task, checked_limits(limits)).run()


class _Search:
    def __init__(self, task: Task, limits: Limits) -> None:
        self._task = task
        self._deadline = time.monotonic() + limits.time_budget_s
        self._tried: dict[Recipe, Candidate] = {}
        self._failed: dict[Recipe, str] = {}
        self._asked: list[Recipe] = []
        self._notes: list[str] = []
        self._ranking: list[str] = []
        self._plain = task.plain()
        self._verdicts = Verdicts(limits, self._plain, task.score)

    def run(self) -> Found:
        """Search, and choose."""
        try:
            with Stoppable():
                self._try_recipes()
        except KeyboardInterrupt:
            self._tried = dict(self._tried)  # threads may still add to the old one
            self._notes.append("interrupted: this is the best of what was tried until then")
        chosen = self._best_within(self._verdicts.objection) or self._nearest()
        if chosen is self._plain:
            self._notes.append(self._why_nothing())
        missed = self._verdicts.missed_budget(chosen) or ""
        self._notes += [f"could not try {brief(recipe)}: {reason}" for recipe, reason in self._failed.items()]
        trials = tuple(self._trial(each, each is chosen) for each in (self._plain, *self._tried.values()))
        return Found(self._plain, chosen, trials, missed, tuple(self._notes))

    def _try_recipes(self) -> None:
        if self._task.original.calibration.is_synthetic:
            self._notes.append(CAREFUL)
            self._try(SAFE)
        else:
            for recipes in (self._single_steps, self._combinations, self._by_operator, self._combinations):
                self._try(recipes())
            self._refine()

    def _single_steps(self) -> list[Recipe]:
        """Each transform alone."""
        singles = [Recipe(clustering=codes) for codes in CODES]
        singles += PRUNED
        singles += [Recipe(channels=channels) for channels in KEEPS]
        singles += [Recipe(rewrite=Rewrite()), Recipe(quantize=Quantize(per_tensor_fc=True))]
        if any(target.npu.family == "ethos-u85" for target in self._task.targets):
            singles.append(Recipe(pruning=Pruning(pattern="2:4")))
        return singles

    def _combinations(self) -> list[Recipe]:
        """What changes the graph, as far as it helps, with each way to compress that does."""
        allowed = [each for each in self._tried.values() if self._is_promising(each)]
        structures = self._front([each for each in allowed if _has_structure(each.recipe)])
        codes = self._front([each for each in allowed if not _has_structure(each.recipe)])
        pairs = [(left.recipe, right.recipe) for left in structures for right in codes]
        pairs += [(left.recipe, right.recipe) for left in structures for right in structures if left is not right]
        return [_joined(left, right) for left, right in pairs]

    def _by_operator(self) -> list[Recipe]:
        """Strong compression for the operators where it gains most for what it costs, gentle for the others."""
        ranked = self._ranked_operators()
        allowed = [each for each in self._tried.values() if self._is_promising(each) and _has_one_codebook(each.recipe)]
        gentle = self._best(allowed).recipe.clustering if allowed else None
        bolder = [codes for codes in CODES if gentle is None or codes.target < gentle.target]
        strongs = [Layer("", clustering=codes.target) for codes in bolder] + [STRONG]
        recipes = []
        for strong in strongs:
            for count in sorted({math.ceil(len(ranked) * share) for share in SHARES}):
                chosen = tuple(replace(strong, match=f"^{re.escape(name)}$") for name in ranked[:count])
                recipes += [Recipe(clustering=gentle, layers=chosen)] if chosen else []
        return recipes

    def _refine(self) -> None:
        """Steps from the best so far, one operator each, the most promising ones first."""
        exhausted: set[str] = set()
        best = self._best_so_far()
        while True:
            ahead = [name for name in self._ranking if name not in exhausted][:STEPS_AT_ONCE]
            steps = {name: recipe for name in ahead if (recipe := _one_step_more(best.recipe, name)) is not None}
            exhausted |= {name for name in ahead if name not in steps}
            self._try(steps.values())
            if not ahead or any(recipe not in self._asked for recipe in steps.values()) or self._is_late:
                return
            found = self._best_so_far()
            if found is best:
                exhausted |= {*steps}
            best = found

    @property
    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def _best_so_far(self) -> Candidate:
        """Where to go on from: close enough; latency and flash are limits of the result, not of the way there."""
        return self._best_within(self._verdicts.too_far) or self._plain

    def _best_within(self, objection: Callable[[Candidate], str | None]) -> Candidate | None:
        better = [each for each in self._tried.values() if objection(each) is None and self._gains(each)]
        return self._best(better) if better else None

    def _nearest(self) -> Candidate:
        """Of those that are close enough, the one that misses latency and flash by least."""
        promising = [each for each in self._tried.values() if self._is_promising(each)]
        return min([*promising, self._plain], key=lambda each: (self._verdicts.overshoot(each), self._cost(each)))

    def _ranked_operators(self) -> list[str]:
        """Names of operators, those first whose strong compression saves most for the error that it brings."""
        graph = self._plain.graph
        aims, _ = aims_of(graph, Recipe(clustering=Clustering(2)))
        waits = self._waits()
        largest = sorted(aims, key=lambda aim: -waits.get(aim.operator, 0))[:MOST_OPERATORS]
        names = [graph.main.operator_name(graph.operators[aim.operator]) for aim in largest]
        recipes = [Recipe(layers=(replace(STRONG, match=f"^{re.escape(name)}$"),)) for name in names]
        floor = self._plain.error
        worth = {}
        for name, aim, candidate in zip(names, largest, self._make(recipes, {}), strict=True):
            if isinstance(candidate, Candidate):
                added = max(candidate.error**2 - floor**2, 1e-9)
                worth[name] = (1 + waits.get(aim.operator, 0)) / added
        self._ranking = sorted(worth, key=lambda name: -worth[name])
        return self._ranking

    def _waits(self) -> dict[int, int]:
        """By operator: cycles in which the NPU waits on the first target, or bytes of weights where it never does."""
        operators = [each for each in self._plain.costs[0].performance.operators if each.subgraph == 0]
        waits = {each.index: (each.total_cycles or 0) - (each.npu_cycles or 0) for each in operators}
        if any(wait > 0 for wait in waits.values()):
            return waits
        return {each.index: each.compressed_weights_bytes or 0 for each in operators}

    def _try(self, recipes: Iterable[Recipe]) -> None:
        new = [recipe for recipe in dict.fromkeys(recipes) if recipe not in self._tried and recipe not in self._failed]
        made = self._make(new, self._tried)
        self._failed |= {
            recipe: str(each) for recipe, each in zip(new, made, strict=True) if isinstance(each, Exception)
        }
        # In the order in which they were asked for, not in which they were done.
        self._tried = {recipe: self._tried[recipe] for recipe in [*self._asked, *new] if recipe in self._tried}
        self._asked += new

    def _make(self, recipes: Sequence[Recipe], keep: dict[Recipe, Candidate]) -> list[Candidate | Exception | None]:
        """A candidate of each recipe, or why there is none; None where the time was up. `keep` has them at once."""

        def make(recipe: Recipe) -> Candidate | None:
            if self._is_late:
                return None
            left = max(self._deadline - time.monotonic(), 0)
            self._task.progress(f"{len(self._tried)} recipes tried, {left:.0f} s left: {brief(recipe)}")
            candidate = self._task.candidate(recipe)
            self._task.score(candidate.graph)
            keep[recipe] = candidate
            return candidate

        made = attempt_in_parallel(make, recipes, (TransformError, BackendError))
        if any(each is None for each in made) and OUT_OF_TIME not in self._notes:
            self._notes.append(OUT_OF_TIME)
        return made

    def _is_promising(self, candidate: Candidate) -> bool:
        """Close enough, nowhere slower than before, and faster or smaller."""
        return self._verdicts.too_far(candidate) is None and self._gains(candidate)

    def _gains(self, candidate: Candidate) -> bool:
        """Whether it is nowhere slower than before, and faster or smaller."""
        speeds = _times(self._plain, candidate)
        if any(speed > 1 for speed in speeds):
            return False
        return self._cost(candidate) < 1 / AS_FAST or self._weights(candidate) < SMALLER

    def _cost(self, candidate: Candidate) -> float:
        """Time after / before, as the geometric mean over targets."""
        return _mean(_times(self._plain, candidate))

    def _weights(self, candidate: Candidate) -> float:
        """Compressed weights after / before, as the geometric mean over targets."""
        return _mean([_ratio(old, new) for old, new in _compressed(self._plain, candidate)])

    def _best(self, candidates: Sequence[Candidate]) -> Candidate:
        """The fastest; of those about as fast the smallest; of those about as small the closest."""
        fastest = min(map(self._cost, candidates))
        fast = [each for each in candidates if self._cost(each) <= fastest * AS_FAST]
        smallest = min(map(self._weights, fast))
        small = [each for each in fast if self._weights(each) <= smallest * AS_FAST]
        return min(small, key=lambda each: each.error)

    def _front(self, candidates: Sequence[Candidate], most: int = 3) -> list[Candidate]:
        """The fastest few, none of which another beats in speed and size and closeness."""

        def figures(each: Candidate) -> tuple[float, ...]:
            return self._cost(each), self._weights(each), each.error

        def beaten(each: Candidate) -> bool:
            mine = figures(each)
            others = [figures(other) for other in candidates if other is not each]
            return any(all(a <= b for a, b in zip(other, mine, strict=True)) and other != mine for other in others)

        return sorted((each for each in candidates if not beaten(each)), key=self._cost)[:most]

    def _trial(self, candidate: Candidate, is_chosen: bool) -> Trial:
        return trial_of(
            candidate, self._task.score(candidate.graph), self._verdicts.objection(candidate) or "", is_chosen
        )

    def _why_nothing(self) -> str:
        objections = [self._verdicts.objection(each) for each in self._tried.values()]
        if not objections:
            return "nothing was tried in the time that there was: the model is returned as it was"
        kept = sum(objection is None for objection in objections)
        if not kept:
            nearest = min(self._tried.values(), key=lambda each: each.error)
            reason = self._verdicts.objection(nearest)
            return f"no recipe keeps the limits, the model is returned as it was; the closest: {reason}"
        return f"{kept} recipes keep the limits, and none is faster or smaller: the model is returned as it was"


def _has_structure(recipe: Recipe) -> bool:
    """Whether it changes more than codes."""
    return bool(recipe.channels or recipe.rewrite or recipe.quantize)


def _one_step_more(recipe: Recipe, name: str) -> Recipe | None:
    """The recipe with one operator compressed a step more; None where that is at its end."""
    match = f"^{re.escape(name)}$"
    now = recipe.layer(name)
    prune = now.pruning if now.pruning is not None else recipe.pruning.target if recipe.pruning else 0.0
    codes = now.clustering if now.clustering is not None else recipe.clustering.target if recipe.clustering else None
    level = sum(prune >= step.pruning and (codes or MOST_CLUSTERS) <= step.clustering for step in LADDER)
    if level == len(LADDER):
        return None
    share, clusters = LADDER[level].pruning, LADDER[level].clustering
    step = Layer(match, pruning=share or None, clustering=clusters, channels=now.channels)
    others = [layer for layer in recipe.layers if layer.match != match]
    # In an order of their own, so that two ways to the same settings are one recipe.
    return replace(recipe, layers=tuple(sorted((*others, step), key=lambda layer: layer.match)))


def _has_one_codebook(recipe: Recipe) -> bool:
    """Whether it clusters all operators alike, and does nothing else."""
    return recipe == Recipe(clustering=recipe.clustering)


def _joined(left: Recipe, right: Recipe) -> Recipe:
    """Both; where both say something about a step, the left."""
    return Recipe(
        quantize=left.quantize or right.quantize,
        rewrite=left.rewrite or right.rewrite,
        channels=left.channels or right.channels,
        pruning=left.pruning or right.pruning,
        clustering=left.clustering or right.clustering,
        layers=left.layers or right.layers,
    )


def _times(before: Candidate, after: Candidate) -> list[float]:
    """Time after / before on each target: NPU cycles, or that of the whole system where its host has a part."""
    ratios = []
    for old, new in zip(before.costs, after.costs, strict=True):
        before_ms, after_ms = old.performance.known_ms, new.performance.known_ms
        if (old.cpu_operators or new.cpu_operators) and before_ms and after_ms:
            ratios.append(after_ms / before_ms)
        else:
            ratios.append(_ratio(old.performance.total_cycles or 0, new.performance.total_cycles or 0))
    return ratios


def _compressed(before: Candidate, after: Candidate) -> list[tuple[int, int]]:
    memories = [
        (old.performance.memory, new.performance.memory) for old, new in zip(before.costs, after.costs, strict=True)
    ]
    return [(old.compressed_weights_bytes, new.compressed_weights_bytes) for old, new in memories if old and new]


def _ratio(before: int, after: int) -> float:
    return after / before if before else 1.0


def _mean(ratios: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios and min(ratios) > 0 else 1.0
