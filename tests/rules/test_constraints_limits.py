"""The installed compiler's published sentences about limits of single operators, against the rules about them."""

import pytest
from ethosu import regor

from mlia.graph.tflite_writer import write_tflite
from mlia.results import Constraint
from mlia.rules.compatibility import cuts, limits, limits_layout, limits_reductions
from mlia.rules.rule import ConstraintRule
from mlia.testing import Sketch, advise_one, case_of
from tests.rules.cases import limits_axes, limits_kernels

RULES = [rule for family in (limits, limits_reductions, limits_layout) for rule in family.RULES]
CONSTRAINT_RULES = [rule for rule in RULES if issubclass(rule, ConstraintRule)]
# How the sentences begin that are about one operator's axes, sizes, strides or factors.
BEGINNINGS = (
    "Kernel", "kernel product", "Stride", "Shape constraints", "IF not (", "IF NOT (", "align_corners", "Scale-factor",
    "The product of", "Reduc", "Amount of", "IFM depth", "Operation must", "Slice must", "Tensor dim", "IF IFM",
    "Axis attr", "IF Matmul",
)  # fmt: skip


def published() -> set[str]:
    npus = ("EthosU55", "EthosU65", "EthosU85")
    return {
        sentence
        for npu in npus
        for sentences in regor.tflite_operator_constraints(npu).values()
        for sentence in sentences
    }


def test_each_sentence_about_a_limit_has_exactly_one_rule():
    found = [sentence for sentence in published() if sentence.startswith(BEGINNINGS)]
    assert len(found) == 25
    for sentence in found:
        about = [rule.code for rule in CONSTRAINT_RULES if rule.is_about(Constraint("", sentence))]
        assert len(about) == 1, (sentence, about)


def test_each_beginning_is_of_a_published_sentence():
    sentences = published()
    for rule in CONSTRAINT_RULES:
        for beginning in rule.sentences:
            assert any(sentence.startswith(beginning) for sentence in sentences), (rule.code, beginning)


def test_no_rule_is_about_what_is_no_limit():
    others = [sentence for sentence in published() if not sentence.startswith(BEGINNINGS)]
    for sentence in others:
        assert not [rule.code for rule in CONSTRAINT_RULES if rule.is_about(Constraint("", sentence))], sentence


@pytest.mark.long
def test_each_sentence_of_a_rule_is_met_by_an_example():
    """All limits can be reached; the sentence of FULLY_CONNECTED, SUM and others about strides only by depthwise."""
    met: dict[str, set[str]] = {}
    for example in (*limits_kernels.EXAMPLES, *limits_axes.EXAMPLES):
        if example.fires:
            met.setdefault(example.code, set()).update(
                refused.constraint.rule for refused in case_of(example.build(), example.target).refused
            )
    for rule in CONSTRAINT_RULES:
        for beginning in rule.sentences:
            assert any(sentence.startswith(beginning) for sentence in met[rule.code]), (rule.code, beginning)


def test_the_cut_that_costs_most_is_named():
    (finding,) = advise_one(cuts.Cuts, limits_axes.cut(3), "ethos-u55-128")
    assert len(finding.operators) == 3
    assert "into 4 segments" in finding.evidence
    assert finding.remedy.startswith("Begin with 'turn_")


@pytest.mark.parametrize("rule", CONSTRAINT_RULES)
def test_a_model_of_floats_is_left_to_the_rule_about_floats(rule: type[ConstraintRule]):
    net = Sketch("floats")
    content = write_tflite(net.graph([net.convolution(net.input("image", (1, 8, 8, 3)), filters=4)]))
    assert "float" in rule().skip(case_of(content, "ethos-u55-128"))
