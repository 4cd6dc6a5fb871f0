"""A model with every lossless remedy that brings something, each proven bit by bit."""

from collections.abc import Callable

from msgspec import Struct

from mlia.advice import Safety, Severity
from mlia.errors import TransformError
from mlia.figures import Figures
from mlia.graph.graph import Graph
from mlia.pipeline.check.advise import (
    Advising,
    RemedyRunner,
    RuleFinding,
    Run,
    ask_rules,
    figures,
    is_worth_having,
    rank_key,
)
from mlia.results import Change, Result, Skipped
from mlia.rules.catalog import chosen
from mlia.rules.rule import Fix
from mlia.targets.target import Target
from mlia.transforms.child import call
from mlia.transforms.noise import describe
from mlia.transforms.proof import prove

MOST_ROUNDS = 100  # each applies one remedy; a model that needs more is left as it is then
BOTH = (True, True)
MEMORY_PER_TIME_GAIN = (
    2  # how much more of a memory a remedy may take, as a multiple of the part of the time that it saves
)
SMALL_BYTES = 1024  # what it may take in any case
IDLE = "it was tried and brings nothing"


class FixedModel(Struct, frozen=True):
    """The model that came out, what was applied, what was not and why, and the figures of both ends."""

    graph: Graph
    applied: tuple[Change, ...]
    left: tuple[Skipped, ...]
    before: Figures
    after: Figures
    proof: str


def apply_fixes(
    graph: Graph,
    target: Target,
    result: Result,
    options: Advising,
    run: Run,
    progress: Callable[[str], None] = lambda text: None,
) -> FixedModel:
    """Apply lossless remedies one by one, asking the rules anew after each, until none is left.

    Args:
        graph: the model, as it was checked.
        target: where it was checked.
        result: what the check said.
        options: which rules to ask.
        run: the same check, for copies.
        progress: is told what is being done.

    Raises:
        TransformError: nothing was estimated, or LiteRT cannot run the model, so that nothing can be proven.
        BackendError: the compiler refused the model, crashed, or took too long.
    """
    before = figures(result, graph)
    if before is None:
        raise TransformError("nothing is known of the model as it is, so that no remedy can be judged")
    codes = chosen(options.select, options.ignore)
    bench = _LosslessFixer(graph, target, options, run, progress)
    current, now, applied = graph, result, list[Change]()
    for _ in range(MOST_ROUNDS):
        asked = ask_rules(current, target, now, codes, BOTH).found
        step = next(filter(None, (bench.step(current, now, each) for each in asked)), None)
        if step is None:
            break
        current, now = step.graph, step.result
        applied.append(step.change)
        bench.try_again()
    after = figures(now, current)
    assert after is not None, "a model whose figures are known stays one"
    done = {change.transform for change in applied}
    refused = [skipped for key, skipped in bench.refused.items() if key[0] not in done or skipped.reason != IDLE]
    left = dict.fromkeys((*refused, *_others(asked)))
    return FixedModel(current, tuple(applied), tuple(left), before, after, f"outputs identical on {describe()}")


class _Step(Struct, frozen=True):
    """A model with one more remedy, and what the check says of it."""

    graph: Graph
    result: Result
    change: Change


class _LosslessFixer:
    """Where remedies are made, checked and proven; `refused` are those that failed, which are not made again."""

    def __init__(
        self, original: Graph, target: Target, options: Advising, run: Run, progress: Callable[[str], None]
    ) -> None:
        self._original = original.file
        self._target = target
        self._trying = RemedyRunner(run, options)
        self._progress = progress
        self.refused: dict[tuple[str, ...], Skipped] = {}

    def try_again(self) -> None:
        """What brought nothing may bring something in a model that has changed."""
        self.refused = {key: skipped for key, skipped in self.refused.items() if skipped.reason != IDLE}

    def step(self, graph: Graph, result: Result, asked: RuleFinding) -> _Step | None:
        """The model with the best lossless remedy for a finding; None where all fail or bring nothing.

        Those that fail are among the refused then.
        """
        before = figures(result, graph)
        assert before is not None, "a model whose figures are known stays one"
        made: list[tuple[tuple[float, ...], Fix, _Step]] = []
        for fix in _lossless(asked):
            key = _key(graph, asked, fix)
            if key in self.refused:
                continue
            self._progress(f"trying {fix.what}")
            copy = self._trying.make(fix, graph, self._target)
            if isinstance(copy, str):
                self._refuse(key, copy)
                continue
            after = figures(copy.result, copy.graph)
            limit = self._target.memory_mode.cache_limit_bytes
            if after is None or not is_worth_having(asked.finding.aim, before, after, limit):
                self._refuse(key, IDLE)
                continue
            if greed := _memory_objection(before, after):
                self._refuse(key, greed)
                continue
            change = Change(asked.rule.code, asked.rule.name, fix.what)
            made.append((rank_key(asked.finding.aim, before, after), fix, _Step(copy.graph, copy.result, change)))
        for _, fix, step in sorted(made, key=lambda item: item[0]):
            different = call(prove, self._original, step.graph.file)
            if not different:
                return step
            self._refuse(_key(graph, asked, fix), f"not lossless: {different}")
        return None

    def _refuse(self, key: tuple[str, ...], reason: str) -> None:
        self.refused[key] = Skipped(f"{key[0]} {key[1]}", reason)


def _key(graph: Graph, asked: RuleFinding, fix: Fix) -> tuple[str, ...]:
    """A remedy by rule, words and the operators that it is for, whose numbers change from step to step."""
    subgraphs = {subgraph.index: subgraph for subgraph in graph.subgraphs}
    names = [
        subgraphs[each.subgraph].operator_name(subgraphs[each.subgraph].operators[each.index])
        for each in asked.finding.operators
    ]
    return asked.rule.code, fix.what, *names


def _memory_objection(before: Figures, after: Figures) -> str:
    """Whether a remedy takes more memory than its time is worth, in words; empty when not."""
    if after.lost_outputs < before.lost_outputs:
        return ""
    old, new = before.known_ms, after.known_ms
    gain = 1 - new / old if old and new is not None else 0.0
    for name, used, needed in (
        ("SRAM", before.sram_bytes, after.sram_bytes),
        ("DRAM", before.planned_dram_bytes, after.planned_dram_bytes),
        ("flash", before.flash_bytes, after.flash_bytes),
    ):
        more = (needed or 0) - (used or 0)
        if more > SMALL_BYTES and more > MEMORY_PER_TIME_GAIN * gain * (used or 0):
            return f"{100 * gain:.0f} % of the time for {more:,} more bytes of {name} is too little"
    return ""


def _lossless(asked: RuleFinding) -> list[Fix]:
    return [fix for fix in asked.finding.fixes if fix.safety == Safety.LOSSLESS and fix.change is not None]


def _others(asked: tuple[RuleFinding, ...]) -> list[Skipped]:
    """What is wrong with the model that no lossless remedy mends."""
    left = []
    for each in asked:
        label = f"{each.rule.code} {each.rule.name}"
        if not each.finding.fixes and each.rule.severity == Severity.WARNING:
            left.append(Skipped(label, each.finding.why_not_tried))
        changing = [fix for fix in each.finding.fixes if fix.change is not None and fix.safety != Safety.LOSSLESS]
        left += [Skipped(label, f"{fix.what}: {fix.safety}") for fix in changing]
    return left
