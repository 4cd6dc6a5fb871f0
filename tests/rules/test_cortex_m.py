"""The rules about a Cortex-M alone, on models of one or two operators."""

import pytest

from mlia.backends.cortex_m.backend import CortexM
from mlia.cpu_results import CpuCompatibility, CpuPerformance
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.rules.cortex_m import RULES, FloatModel, NoKernel, ReferenceKernel
from mlia.rules.rule import CpuCase, CpuRule, Finding
from mlia.targets.profiles import load_target
from mlia.targets.target import CpuTarget
from mlia.testing import IntegerSketch, Sketch


def case(content: bytes, core: str = "cortex-m55") -> CpuCase:
    graph, target = read_tflite(content), load_target(core)
    assert isinstance(target, CpuTarget)
    result = CortexM().run(graph, target)
    assert isinstance(result.compatibility, CpuCompatibility)
    assert isinstance(result.performance, CpuPerformance)
    return CpuCase(graph, target, result.compatibility, result.performance)


def said(rule: type[CpuRule], content: bytes, core: str = "cortex-m55") -> list[Finding]:
    ready, what = rule(), case(content, core)
    return [] if ready.skip(what) else list(ready.check(what))


def integer(kind: str = "") -> bytes:
    net = IntegerSketch("integer")
    x = net.filter("CONV_2D", net.image("x", (1, 16, 16, 8)), filters=8)
    return write_tflite(net.graph([net.plain(kind, x, name="last") if kind else x]))


def floating() -> bytes:
    net = Sketch("float")
    return write_tflite(net.graph([net.convolution(net.input("x", (1, 16, 16, 8)), filters=8)]))


def test_a_sound_model_is_left_alone() -> None:
    for rule in RULES:
        assert issubclass(rule, CpuRule)
        assert said(rule, integer()) == []


def test_operators_without_a_kernel_stop_the_model() -> None:
    (finding,) = said(NoKernel, integer("GELU"))
    assert "'last'" in finding.evidence
    assert "GELU" in finding.evidence
    assert len(finding.operators) == 1


def test_much_time_in_a_reference_kernel_is_told() -> None:
    (finding,) = said(ReferenceKernel, integer("LOGISTIC"))
    assert "LOGISTIC" in finding.evidence
    assert finding.at_stake_ms
    assert said(ReferenceKernel, integer("SOFTMAX")) == []
    assert said(ReferenceKernel, integer("LOGISTIC"), "cortex-m0plus") == []


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m55"])
def test_float_is_told_once(core: str) -> None:
    (finding,) = said(FloatModel, floating(), core)
    assert "100 %" in finding.evidence
    assert said(ReferenceKernel, floating(), core) == []
    assert said(NoKernel, floating(), core) == []
