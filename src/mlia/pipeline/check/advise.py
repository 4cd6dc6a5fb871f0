"""Rules run on a result, and their remedies tried on copies: advice with proof."""

import math
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from mlia.advice import Advice, Advised, Attempt, Safety
from mlia.cpu_results import CpuCompatibility, CpuPerformance
from mlia.errors import BackendError, BackendTimeout, ModelError, TargetError, TransformError
from mlia.figures import Figures
from mlia.graph.graph import Graph
from mlia.pipeline.figures import figures_of
from mlia.pipeline.options import DEFAULT_BUDGET_S
from mlia.pipeline.parallel import map_in_parallel
from mlia.results import NOT_ASKED, Compatibility, Performance, Result, Skipped
from mlia.rules.catalog import ABOUT, About, chosen, load_rule
from mlia.rules.rule import Aim, Case, CompiledRule, CpuCase, CpuRule, Finding, Fix, NpuRule, Rule
from mlia.targets.target import AnyTarget, CpuTarget, Target

NOT_WORTH = 0.01  # of the time: a remedy that saves less brings nothing
LITTLE_MEMORY = 0.05  # of a memory: the same
SLOWER = 1.02  # how much slower a remedy for memory may be without being second choice
TOO_SLOW = 1.25  # and where it is none any more
AS_FAST = 1.05  # how much slower a smaller NPU may be to be as good
NOT_TRIED = "--no-try"
TOSA = "rules are about TFLite's operators, and the model is TOSA"
ONE_AT_A_TIME = "remedies are tried for one target at a time"
Run: TypeAlias = Callable[[Graph, Target], Result]
# Writes down what a remedy of that code made, another model, another target, or both, and says where.
Keep: TypeAlias = Callable[[str, Graph | None, Target | None], str]


class Advising(Struct, frozen=True):
    """Which rules to ask, and whether their remedies are tried.

    `select` and `ignore` are beginnings of codes; `why_not` is why nothing is tried, and empty when it is; no remedy is
    begun after `budget_s` seconds.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    why_not: str = ""
    budget_s: float = DEFAULT_BUDGET_S


class RuleFinding(Struct, frozen=True):
    """One rule and what it found."""

    rule: Rule
    finding: Finding


class RuleOutcomes(Struct, frozen=True):
    """What the rules said before anything is tried."""

    found: tuple[RuleFinding, ...]
    passed: tuple[str, ...]
    skipped: tuple[Skipped, ...]


def ask_rules(
    graph: Graph, target: AnyTarget, result: Result, codes: Sequence[str], wants: tuple[bool, bool]
) -> RuleOutcomes:
    """What each rule says of a result. `wants` says whether compatibility, and performance, were asked for."""
    found: list[RuleFinding] = []
    passed: list[str] = []
    skipped: list[Skipped] = []
    case = _case(graph, target, result)
    for code in codes:
        said = _why_not_applicable(code, graph, target, result) or _ask(code, case, target, result, wants)
        if isinstance(said, str):
            skipped.append(Skipped(code, said))
        elif said:
            found += said
        else:
            passed.append(code)
    return RuleOutcomes(tuple(found), tuple(passed), tuple(skipped))


def import_rules(options: Advising) -> None:
    """Import the rules that are asked of every model, so that asking them does not wait for that.

    Raises:
        RuleError: a beginning in `options` that no code has.
    """
    for code in chosen(options.select, options.ignore):
        if ABOUT[code] == About.NPU:
            load_rule(code)


def _case(graph: Graph, target: AnyTarget, result: Result) -> Case | CpuCase | None:
    placed, cost = result.compatibility, result.performance
    if isinstance(target, CpuTarget):
        if isinstance(placed, CpuCompatibility) and isinstance(cost, CpuPerformance):
            return CpuCase(graph, target, placed, cost)
    elif isinstance(placed, Compatibility) and isinstance(cost, Performance):
        return Case(graph, target, placed, cost)
    return None


def _why_not_applicable(code: str, graph: Graph, target: AnyTarget, result: Result) -> str:
    """Why a rule is not about this target or model at all; empty when it may be."""
    if graph.is_tosa:
        return TOSA
    if isinstance(result.compatibility, Skipped):
        return "" if ABOUT[code] == About.COMPILED else result.compatibility.reason
    if ABOUT[code] == About.CPU:
        return "" if isinstance(target, CpuTarget) else "for a Cortex-M alone"
    return "for an Ethos-U" if isinstance(target, CpuTarget) else ""


def _ask(
    code: str, case: Case | CpuCase | None, target: AnyTarget, result: Result, wants: tuple[bool, bool]
) -> list[RuleFinding] | str:
    """What a rule finds, or why it was not asked."""
    if _has_nothing_to_check(code, case):
        return []
    rule = load_rule(code)()
    if isinstance(rule, NpuRule) and isinstance(case, Case):
        is_placement = rule.reads is Compatibility
        if not wants[0 if is_placement else 1]:
            return f"{'compatibility' if is_placement else 'performance'} was {NOT_ASKED}"
        said = rule.skip(case) or rule.check(case)
    elif isinstance(rule, CpuRule) and isinstance(case, CpuCase):
        said = rule.skip(case) or rule.check(case)
    elif isinstance(rule, CompiledRule):
        said = rule.check(result.compiled, target)
    else:
        raise TypeError(f"{rule.code} cannot be asked about {target.name}")
    return said if isinstance(said, str) else [RuleFinding(rule, finding) for finding in said]


def _has_nothing_to_check(code: str, case: Case | CpuCase | None) -> bool:
    """Whether what the rule is about is not there: then it passes, and need not be imported."""
    if not isinstance(case, Case):
        return False
    is_refused = ABOUT[code] == About.REFUSED
    return ABOUT[code] == About.COMPILED or (is_refused and not case.compatibility.cpu_operators)


class TriedModel(Struct, frozen=True):
    """What a remedy made, and what the check says of it."""

    graph: Graph
    target: Target
    result: Result


class RemedyRunner:
    """Makes and checks remedies, as long as there is time."""

    def __init__(self, run: Run, options: Advising) -> None:
        self._run = run
        self._options = options
        self._deadline = monotonic() + options.budget_s

    def make(self, fix: Fix, graph: Graph, target: Target) -> TriedModel | str:
        """What a remedy makes of a model and a target, or why that is not known."""
        budget = f"{self._options.budget_s:g} s for trying"
        if monotonic() > self._deadline:
            return f"the {budget} were spent (--try-budget)"
        try:
            graph = changed(fix, graph)
            target = fix.retarget(target) if fix.retarget else target
            return TriedModel(graph, target, self._run(graph, target))
        except BackendTimeout:
            return f"to compile it takes longer than the {budget} (--try-budget)"
        except (TransformError, BackendError, TargetError) as error:
            return str(error)


def changed(fix: Fix, graph: Graph) -> Graph:
    """The graph that a remedy makes, as it is read from its file.

    Raises:
        TransformError: it cannot be made.
    """
    if fix.change is None:
        return graph
    from mlia.graph.tflite import read_tflite
    from mlia.graph.tflite_writer import write_tflite
    from mlia.transforms.rewrites.network import without_unused_tensors

    try:
        content = write_tflite(without_unused_tensors(fix.change(graph)))
        return replace(read_tflite(content), provenance=graph.provenance)
    except ModelError as error:
        raise TransformError(f"what it makes cannot be written: {error}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # A damaged model that the compiler takes all the same: ranks, sizes and types need not be what they should.
        raise TransformError(f"the model's parameters are not what they should be ({error})") from None


def figures(result: Result, graph: Graph) -> Figures | None:
    """The figures that remedies are compared by; None where nothing was estimated."""
    if not isinstance(result.performance, Performance) or not isinstance(result.compatibility, Compatibility):
        return None
    found = figures_of(result.performance, result.compatibility.cpu_operators, len(graph.content))
    return replace(found, lost_outputs=len(result.compatibility.lost_outputs))


def advise(
    graph: Graph,
    target: AnyTarget,
    result: Result,
    wants: tuple[bool, bool],
    options: Advising,
    run: Run,
    keep: Keep | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Advised:
    """Ask the rules, try their remedies on copies, and rank what is left.

    Args:
        graph: the model, as it was checked.
        target: where it was checked.
        result: what the check said.
        wants: whether compatibility, and performance, were asked for.
        options: which rules, and whether and how long to try.
        run: the same check, for copies.
        keep: writes down what a remedy made, and says where; None to keep nothing.
        progress: is told what is being done.

    Raises:
        RuleError: a beginning in `options` that no code has.
    """
    asked = ask_rules(graph, target, result, chosen(options.select, options.ignore), wants)
    tries = [(number, fix) for number, each in enumerate(asked.found) for fix in each.finding.fixes]
    outcomes: dict[int, list[Attempt | Skipped]] = {}
    if tries and isinstance(target, Target):
        if not options.why_not:
            progress(f"trying {len(tries)} remedies")
        before, trying = figures(result, graph), RemedyRunner(run, options)

        def attempt(item: tuple[int, Fix]) -> tuple[Attempt | Skipped, TriedModel | None]:
            number, fix = item
            if options.why_not or before is None:
                return Skipped(fix.what, options.why_not or "nothing is known of the model as it is"), None
            made = trying.make(fix, graph, target)
            if isinstance(made, str):
                return Skipped(fix.what, made), None
            return _attempt(asked.found[number].finding.aim, fix, before, made), made

        # Threads take a while to import, and what is not tried needs none.
        tried = tuple(map(attempt, tries)) if options.why_not else map_in_parallel(attempt, tries)
        for (number, fix), (outcome, made) in zip(tries, tried, strict=True):
            if keep is not None and made is not None and isinstance(outcome, Attempt):
                model, place = made.graph if fix.change else None, made.target if fix.retarget else None
                outcome = replace(outcome, kept_as=keep(asked.found[number].rule.code, model, place))
            outcomes.setdefault(number, []).append(outcome)
    advice, rejected = [], []
    for number, each in enumerate(asked.found):
        said = _advice(each, outcomes.get(number, []))
        if isinstance(said, Skipped):
            rejected.append(said)
        else:
            advice.append(said)
    return Advised(tuple(sorted(advice, key=_rank)), asked.passed, asked.skipped, tuple(rejected))


def _attempt(aim: Aim, fix: Fix, before: Figures, made: TriedModel) -> Attempt | Skipped:
    """What a remedy brought."""
    after = figures(made.result, made.graph)
    if after is None:
        return Skipped(fix.what, "what it makes cannot be checked")
    gain = is_worth_having(aim, before, after, made.target.memory_mode.cache_limit_bytes)
    return Attempt(fix.what, fix.safety, before, after, gain, made.target.name if fix.retarget else "")


def _advice(asked: RuleFinding, outcomes: list[Attempt | Skipped]) -> Advice | Skipped:
    rule, finding = asked.rule, asked.finding
    attempts = sorted(
        (each for each in outcomes if isinstance(each, Attempt)),
        key=lambda each: rank_key(finding.aim, each.before, each.after),
    )
    untried = tuple(each for each in outcomes if isinstance(each, Skipped))
    best = attempts[0] if attempts else None
    if finding.only_if_gain and best is not None and not best.is_gain:
        return Skipped(rule.code, f"{finding.evidence}; {best.what} was tried and brings nothing")
    if not outcomes:
        untried = (Skipped("a remedy", finding.why_not_tried),)
    safety = best.safety if best else finding.fixes[0].safety if finding.fixes else Safety.MANUAL
    return Advice(
        code=rule.code,
        name=rule.name,
        severity=rule.severity,
        operators=finding.operators,
        evidence=finding.evidence,
        remedy=finding.remedy,
        safety=safety,
        attempts=(*attempts, *untried),
        saved_ms=_less(best.before.known_ms, best.after.known_ms) if best else None,
        saved_sram_bytes=_less_bytes(best) if best else None,
        at_stake_ms=finding.at_stake_ms,
    )


def rank_key(aim: Aim, before: Figures, after: Figures) -> tuple[float, ...]:
    """What the attempts for a finding are ranked by, the smallest first."""
    time, size = math.inf if after.known_ms is None else after.known_ms, after.sram_bytes
    if aim == Aim.OUTPUTS:
        return after.lost_outputs, time
    if aim == Aim.PLACEMENT:
        return after.cpu_operators, time
    if aim == Aim.FIT:
        return size, time
    if aim == Aim.MEMORY:
        is_slow = before.known_ms is not None and time > SLOWER * before.known_ms
        return (True, time, size) if is_slow else (False, size, time)
    return (time, math.inf if after.total_cycles is None else after.total_cycles)


def is_worth_having(aim: Aim, before: Figures, after: Figures, limit_bytes: int | None = None) -> bool:
    """Whether a remedy is worth having: operators on the NPU, time, or memory, by what it was for.

    Nothing is when it takes more SRAM than before, and more than the target allows (`limit_bytes`).
    """
    old, new = before.known_ms, after.known_ms
    used, needed = before.sram_bytes, after.sram_bytes
    if aim in (Aim.FIT, Aim.MEMORY):  # limits that a remedy sets are to be kept
        used = 0
    if limit_bytes is not None and needed > max(used, limit_bytes):
        return False
    if aim == Aim.FIT:
        return limit_bytes is not None
    if aim == Aim.OUTPUTS:  # at any price: without it the model is another
        return after.lost_outputs < before.lost_outputs
    if aim == Aim.PLACEMENT:
        is_slower = old is not None and new is not None and new > old
        return after.cpu_operators < before.cpu_operators and not is_slower
    if aim == Aim.TIME:
        return old is not None and new is not None and new <= (1 - NOT_WORTH) * old
    if aim == Aim.HARDWARE:
        return old is not None and new is not None and new <= AS_FAST * old
    is_too_slow = old is not None and new is not None and new > TOO_SLOW * old
    pairs = ((before.sram_bytes, after.sram_bytes), (before.planned_dram_bytes, after.planned_dram_bytes))
    return not is_too_slow and any(old and new is not None and new <= (1 - LITTLE_MEMORY) * old for old, new in pairs)


def _less(before: float | None, after: float | None) -> float | None:
    return before - after if before is not None and after is not None else None


def _less_bytes(attempt: Attempt) -> int | None:
    before, after = attempt.before.sram_bytes, attempt.after.sram_bytes
    return before - after if before is not None and after is not None else None


def _rank(advice: Advice) -> tuple[float, float, str]:
    """The most time first: saved by what was tried, or at stake where nothing was; then the most memory."""
    time = advice.saved_ms if advice.saved_ms is not None else advice.at_stake_ms
    return -max(time or 0.0, 0.0), -(advice.saved_sram_bytes or 0), advice.code
