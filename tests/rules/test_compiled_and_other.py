"""Rules whose models no compiler of today makes: compiled ones, and constraints that nobody knows."""

from msgspec.structs import replace

from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.pipeline.check.advise import ask_rules
from mlia.results import Compiled, Constraint, Result, Skipped
from mlia.rules.catalog import CODES
from mlia.rules.compatibility.compiled import AlreadyCompiled
from mlia.rules.compatibility.other import OtherConstraint
from mlia.rules.rule import Case
from mlia.targets.profiles import load_target
from mlia.targets.target import Target
from mlia.testing import IntegerSketch, case_of

COMPILED = Compiled("ethos-u55", 256, 48, "1.0.6", "COP1", "Vela 3.11.0")


def strided_case(constraint: Constraint | None = None) -> Case:
    net = IntegerSketch("strided")
    content = write_tflite(
        net.graph([net.filter("CONV_2D", net.image("in", (1, 16, 16, 8)), filters=8, stride=(5, 5))])
    )
    case = case_of(content, "ethos-u55-128")
    if constraint is None:
        return case
    operators = tuple(replace(each, constraints=(constraint,)) for each in case.compatibility.operators)
    return Case(case.graph, case.target, replace(case.compatibility, operators=operators), case.performance)


def test_a_constraint_that_no_rule_knows_is_told_in_the_words_of_the_compiler() -> None:
    (finding,) = OtherConstraint().check(strided_case(Constraint("Too blue: 7", "Blue must be at most 5.")))
    assert finding.evidence == "Too blue: 7"
    assert finding.remedy == "Keep to: Blue must be at most 5."
    assert len(finding.operators) == 1


def test_a_constraint_that_a_rule_knows_is_left_to_it() -> None:
    assert not list(OtherConstraint().check(strided_case()))


def test_a_compiled_model_is_told_what_it_was_compiled_for() -> None:
    target = load_target("ethos-u55-128")
    assert isinstance(target, Target)
    (finding,) = AlreadyCompiled().check([COMPILED], target)
    assert "compiled for ethos-u55-256" in finding.evidence
    assert "an ethos-u55-128" in finding.evidence
    (finding,) = AlreadyCompiled().check([COMPILED], replace(target, npu=replace(target.npu, macs_per_cycle=256)))
    assert "refuses" not in finding.evidence


def test_of_a_compiled_model_no_other_rule_is_asked() -> None:
    case = strided_case()
    result = Result("vela", Skipped("compatibility", "x"), Skipped("performance", "x"), (COMPILED,))
    asked = ask_rules(read_tflite(bytes(case.graph.content)), case.target, result, CODES, (True, True))
    assert [each.rule.code for each in asked.found] == ["CMP060"]
    assert len(asked.skipped) == len(CODES) - 1
