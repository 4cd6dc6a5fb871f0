"""How findings become advice: what is tried, what that is worth, and in which order it is told."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

import mlia
from mlia.advice import Advised, Attempt, Safety, Severity
from mlia.backends.vela.backend import Vela
from mlia.errors import TargetError, TransformError
from mlia.graph.graph import Graph
from mlia.graph.tflite import read_tflite
from mlia.pipeline.check import advise as advising
from mlia.pipeline.check import check as checking
from mlia.pipeline.check import fix as fixing
from mlia.pipeline.check.advise import Advising, advise
from mlia.pipeline.check.check import checked
from mlia.results import Performance, Result, Skipped
from mlia.rules.catalog import ABOUT, About
from mlia.rules.rule import Aim, Case, Finding, Fix, NpuRule, Rule
from mlia.targets.profiles import load_target
from mlia.targets.target import Target
from mlia.testing import IntegerSketch, fixed

PLACE = load_target("ethos-u55-128")
assert isinstance(PLACE, Target)
HERE: Target = PLACE


def two_convolutions(filters: int = 17) -> bytes:
    net = IntegerSketch("two")
    x = net.image("in", (1, 32, 32, 8))
    x = net.filter("CONV_2D", x, filters=filters, name="first")
    return fixed(lambda graph: graph, _written(net.graph([net.filter("CONV_2D", x, filters=16, name="second")])))


def _written(graph: Graph) -> bytes:
    from mlia.graph.tflite_writer import write_tflite

    return write_tflite(graph)


def narrower(graph: Graph) -> Graph:
    return read_tflite(two_convolutions(16))


def refusing(graph: Graph) -> Graph:
    raise TransformError("it has a knot")


def impossible(target: Target) -> Target:
    raise TargetError("no such thing")


def wider(target: Target) -> Target:
    return replace(target, name="wider", npu=replace(target.npu, macs_per_cycle=256))


def same(graph: Graph) -> Graph:
    return graph


def rule_with(code: str, *findings: Finding, reason: str = "") -> type[Rule]:
    class Invented(NpuRule):
        """Something is invented."""

        severity = Severity.NOTE

        def skip(self, case: Case) -> str:
            return reason

        def check(self, case: Case) -> Iterator[Finding]:
            yield from findings

    Invented.code, Invented.name = code, f"invented-{code.lower()}"
    return Invented


def finding(*fixes: Fix, **more: object) -> Finding:
    return Finding((), "evidence", "Do it.", fixes, **more)  # type: ignore[arg-type]


def use(monkeypatch: pytest.MonkeyPatch, *rules: type[Rule]) -> None:
    known = {rule.code: rule for rule in rules}
    monkeypatch.setattr(advising, "chosen", lambda select, ignore: tuple(known))
    monkeypatch.setattr(advising, "load_rule", known.__getitem__)
    for code in known:
        monkeypatch.setitem(ABOUT, code, About.NPU)


def advised(monkeypatch: pytest.MonkeyPatch, *rules: type[Rule], **options: object) -> Advised:
    use(monkeypatch, *rules)
    graph = read_tflite(two_convolutions())
    keep = options.pop("keep", None)
    run = checked
    result = run(graph, HERE)
    return advise(graph, HERE, result, (True, True), Advising(**options), run, keep)  # type: ignore[arg-type]


NARROW = Fix("16 channels", Safety.VALIDATE, narrower)
WIDE = Fix("256 MACs", Safety.LOSSLESS, retarget=wider)


def test_what_a_remedy_brought_is_what_a_check_says(monkeypatch: pytest.MonkeyPatch) -> None:
    (advice,) = advised(monkeypatch, rule_with("PER901", finding(NARROW, WIDE))).advice
    attempts = {each.what: each for each in advice.attempts if isinstance(each, Attempt)}
    assert set(attempts) == {"16 channels", "256 MACs"}
    for what, content, target in (
        ("16 channels", two_convolutions(16), HERE),
        ("256 MACs", two_convolutions(), wider(HERE)),
    ):
        (result,) = mlia.check(read_tflite(content), target, try_remedies=False).targets[0].results
        assert isinstance(result.performance, Performance)
        assert attempts[what].after.total_cycles == result.performance.total_cycles
    best = advice.attempts[0]
    assert isinstance(best, Attempt)
    assert best.after.latency_ms == min(each.after.latency_ms or 9 for each in attempts.values())
    assert advice.saved_ms == pytest.approx((best.before.latency_ms or 0) - (best.after.latency_ms or 0))
    assert attempts["256 MACs"].target == "wider"


def test_refusals_are_told_with_their_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    fixes = (Fix("a", Safety.LOSSLESS, refusing), Fix("b", Safety.LOSSLESS, retarget=impossible))
    (advice,) = advised(monkeypatch, rule_with("PER901", finding(*fixes))).advice
    assert advice.attempts == (Skipped("a", "it has a knot"), Skipped("b", "no such thing"))
    assert advice.saved_ms is None


def test_nothing_is_tried_when_that_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(graph: Graph) -> Graph:
        raise AssertionError("it was tried")

    rule = rule_with("PER901", finding(Fix("a", Safety.LOSSLESS, never)))
    (advice,) = advised(monkeypatch, rule, why_not="--no-try").advice
    assert advice.attempts == (Skipped("a", "--no-try"),)
    (advice,) = advised(monkeypatch, rule, budget_s=-1.0).advice
    (skipped,) = advice.attempts
    assert isinstance(skipped, Skipped)
    assert "were spent" in skipped.reason


def test_what_brings_nothing_is_no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    idle = finding(Fix("nothing", Safety.LOSSLESS, same), only_if_gain=True)
    said = advised(monkeypatch, rule_with("PER901", idle), rule_with("PER902", replace(idle, only_if_gain=False)))
    assert [skipped.what for skipped in said.rejected] == ["PER901"]
    assert [advice.code for advice in said.advice] == ["PER902"]


def test_the_most_time_comes_first_then_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    little = finding(why_not_tried="by hand", at_stake_ms=1e-6)
    much = finding(why_not_tried="by hand", at_stake_ms=1e6)
    memory = finding(Fix("half the arena", Safety.LOSSLESS, retarget=lambda target: target), aim=Aim.MEMORY)
    said = advised(
        monkeypatch,
        rule_with("PER901", little),
        rule_with("PER902", much),
        rule_with("PER903", finding(NARROW)),
        rule_with("MEM904", memory),
    )
    assert [advice.code for advice in said.advice] == ["PER902", "PER903", "PER901", "MEM904"]


def test_rules_that_do_not_apply_and_rules_that_pass_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    said = advised(monkeypatch, rule_with("PER901", finding(NARROW), reason="not here"), rule_with("PER902"))
    assert said == Advised((), ("PER902",), (Skipped("PER901", "not here"),), ())


def test_copies_are_kept_and_give_the_same_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, rule_with("PER901", finding(NARROW, WIDE)))
    model = tmp_path / "model.tflite"
    model.write_bytes(two_convolutions())
    report = mlia.check(model, HERE, scope=mlia.Scope(keep_tried=tmp_path / "kept"))
    for attempt in report.targets[0].advised.advice[0].attempts:
        assert isinstance(attempt, Attempt)
        kept = Path(attempt.kept_as)
        again = mlia.check(kept, HERE) if kept.suffix == ".tflite" else mlia.check(model, str(kept))
        performance = again.targets[0].results[0].performance
        assert isinstance(performance, Performance)
        assert performance.total_cycles == attempt.after.total_cycles
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["PER901-1.tflite", "PER901-2.toml"]


def test_the_same_copy_is_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []

    def counted(graph: Graph, target: Target, backend: Vela) -> Result:
        runs.append(target.name)
        return checked(graph, target, backend)

    use(monkeypatch, rule_with("PER901", finding(NARROW)), rule_with("PER902", finding(NARROW)))
    monkeypatch.setattr(fixing, "chosen", lambda select, ignore: ("PER901",))
    monkeypatch.setattr(checking, "checked", counted)
    mlia.check(read_tflite(two_convolutions()), HERE, scope=mlia.Scope(fix=tmp_path / "out.tflite"))
    assert runs == [HERE.name] * 2
