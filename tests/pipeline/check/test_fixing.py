"""A model with lossless remedies: the best of each finding, proven, not greedy, and within the target's limits."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import SAMPLE
from msgspec.structs import replace

import mlia
from mlia.advice import Safety
from mlia.backends.vela.backend import Vela
from mlia.errors import BackendError, TransformError
from mlia.figures import Figures
from mlia.graph.graph import Graph
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.pipeline.check import advise as advising
from mlia.pipeline.check import fix as fixing
from mlia.pipeline.check.advise import Advising
from mlia.pipeline.check.check import checked
from mlia.pipeline.check.fix import FixedModel, apply_fixes
from mlia.results import OperatorId, Result, Skipped
from mlia.rules.catalog import ABOUT, About
from mlia.rules.rule import Case, Finding, Fix, NpuRule
from mlia.targets.profiles import load_target
from mlia.targets.target import Target
from mlia.testing import IntegerSketch
from mlia.transforms.proof import prove

PLACE = load_target("ethos-u55-128")
assert isinstance(PLACE, Target)
HERE: Target = PLACE


def strided(names: tuple[str, ...] = ("first", "second")) -> Graph:
    """Two branches, each with a TRANSPOSE_CONV-free operator that is off the NPU: MEAN over depth."""
    net = IntegerSketch("means")
    x = net.image("in", (1, 24, 24, 8))
    outputs = []
    for name in names:
        y = net.filter("CONV_2D", x, filters=8, name=f"{name}/conv")
        outputs.append(
            net.plain("MEAN", y, net.integers(f"{name}/axes", 3), shape=(1, 24, 24), name=name, table="ReducerOptions")
        )
    return read_tflite(write_tflite(net.graph(outputs)))


def run(graph: Graph, target: Target) -> Result:
    return checked(graph, target, Vela(60))


def mended(graph: Graph, target: Target = HERE, **options: object) -> FixedModel:
    return apply_fixes(graph, target, run(graph, target), Advising(**options), run)  # type: ignore[arg-type]


def test_every_operator_that_can_be_mended_is() -> None:
    graph = strided()
    made = mended(graph, select=("CMP037",))
    assert made.before.cpu_operators == 2
    assert made.after.cpu_operators == 0
    assert {change.transform for change in made.applied} == {"CMP037"}
    assert prove(bytes(graph.content), bytes(made.graph.content)) == ""


def use(monkeypatch: pytest.MonkeyPatch, *fixes: Fix, operators: tuple[OperatorId, ...] = ()) -> None:
    class Invented(NpuRule):
        """Something is invented."""

        code = "PER901"
        name = "invented"

        def check(self, case: Case) -> Iterator[Finding]:
            yield Finding(operators, "evidence", "Do it.", fixes)

    monkeypatch.setattr(fixing, "chosen", lambda select, ignore: ("PER901",))
    monkeypatch.setitem(ABOUT, "PER901", About.NPU)
    monkeypatch.setattr(advising, "load_rule", lambda code: Invented)


def figures_in_turn(monkeypatch: pytest.MonkeyPatch, *found: Figures) -> None:
    """Figures by what the description of the graph says: its position among these."""
    monkeypatch.setattr(fixing, "figures", lambda result, graph: found[int(graph.description or 0)])


def described(number: int) -> Callable[[Graph], Graph]:
    return lambda graph: replace(graph, description=str(number))


def figures(latency_ms: float, sram_bytes: int = 1000, flash_bytes: int = 1000) -> Figures:
    return Figures(latency_ms, latency_ms, 1000, 1000, 1000, 1, 1, sram_bytes, 0, flash_bytes, sram_bytes, 0, 1, 0)


def lossless(number: int) -> Fix:
    return Fix(str(number), Safety.LOSSLESS, described(number))


def labelled() -> Graph:
    net = IntegerSketch("0")
    return read_tflite(write_tflite(net.graph([net.filter("CONV_2D", net.image("in", (1, 8, 8, 8)), filters=8)])))


def test_the_best_of_several_is_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, lossless(1), lossless(2), lossless(3))
    figures_in_turn(monkeypatch, figures(1.0), figures(0.9), figures(0.5), figures(0.7))
    assert [change.what for change in mended(labelled()).applied] == ["2"]


def test_a_little_time_for_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, lossless(1))
    figures_in_turn(monkeypatch, figures(1.0, flash_bytes=10_000), figures(0.9, flash_bytes=20_000))
    made = mended(labelled())
    assert not made.applied
    assert "10 % of the time for 10,000 more bytes of flash" in made.left[0].reason
    figures_in_turn(monkeypatch, figures(1.0, flash_bytes=10_000), figures(0.4, flash_bytes=20_000))
    assert mended(labelled()).applied


def test_the_limit_of_the_target_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, lossless(1))
    figures_in_turn(monkeypatch, figures(1.0, sram_bytes=49_000), figures(0.5, sram_bytes=51_000))
    limited = replace(HERE, memory_mode=replace(HERE.memory_mode, cache_limit_bytes=50_000))
    assert not mended(labelled(), limited).applied
    assert mended(labelled()).applied


def test_what_is_not_lossless_is_refused_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: Graph) -> Graph:
        main = graph.main
        bias = main.operators[0].inputs[2]
        other = replace(main.tensors[bias], data=memoryview(b"\x01\x02\x00\x00" * 8))
        tensors = (*main.tensors[:bias], other, *main.tensors[bias + 1 :])
        return replace(described(1)(graph), subgraphs=(replace(main, tensors=tensors),))

    use(monkeypatch, Fix("another bias", Safety.LOSSLESS, broken))
    figures_in_turn(monkeypatch, figures(1.0), figures(0.5))
    made = mended(labelled())
    assert not made.applied
    assert "not lossless: 'conv' differs" in made.left[0].reason


def test_a_refusal_for_one_operator_is_none_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    class Twice(NpuRule):
        """Something is found twice."""

        code = "PER901"
        name = "twice"

        def check(self, case: Case) -> Iterator[Finding]:
            for index in (0, 1):

                def change(graph: Graph, index: int = index) -> Graph:
                    tried.append(graph.main.operator_name(graph.operators[index]))
                    raise TransformError("no")

                yield Finding((OperatorId(0, index),), "e", "Do it.", (Fix("it", Safety.LOSSLESS, change),))

    monkeypatch.setattr(fixing, "chosen", lambda select, ignore: ("PER901",))
    monkeypatch.setitem(ABOUT, "PER901", About.NPU)
    monkeypatch.setattr(advising, "load_rule", lambda code: Twice)
    assert not mended(strided()).applied
    assert len(tried) == 2


def test_no_time_is_no_trial() -> None:
    made = mended(strided(), budget_s=-1.0, select=("CMP037",))
    assert not made.applied
    assert "were spent (--try-budget)" in made.left[0].reason


def test_a_model_that_cannot_be_proven_is_reported_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*arguments: object) -> str:
        raise TransformError("LiteRT crashed (SIGABRT) on this model")

    monkeypatch.setattr(fixing, "call", crash)
    report = mlia.check(strided(), HERE, scope=mlia.Scope(fix=tmp_path / "out.tflite"))
    assert report.targets[0].advised.advice
    assert report.fixed == Skipped("fix", "LiteRT crashed (SIGABRT) on this model")
    assert not (tmp_path / "out.tflite").exists()


def test_a_compiler_that_dies_of_a_copy_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = labelled()
    use(monkeypatch, lossless(1))

    def dying(copy: Graph, target: Target) -> Result:
        raise BackendError("Vela crashed (SIGSEGV)")

    made = apply_fixes(graph, HERE, run(graph, HERE), Advising(), dying)
    assert made.left == (Skipped("PER901 1", "Vela crashed (SIGSEGV)"),)


def test_nothing_to_mend_gives_the_model_back() -> None:
    graph = read_tflite(SAMPLE.read_bytes())
    made = mended(graph, select=("CMP",))
    assert made.graph is graph
    assert made.before == made.after
