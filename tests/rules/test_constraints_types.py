"""Every sentence that the installed compiler publishes about types, shapes and variants has one rule."""

from collections.abc import Iterator

import pytest
from ethosu import regor

from mlia.rules.compatibility import kinds, quantization, shapes, special, types, weights
from mlia.rules.rule import ConstraintRule

MODULES = (types, quantization, weights, shapes, kinds, special)
RULES = [rule for module in MODULES for rule in module.RULES if issubclass(rule, ConstraintRule)]
# How the sentences begin that are about sizes and strides, which other rules are about.
OF_LIMITS = (
    "Kernel stride must be", "Stride>3", "Kernel constraints:", "kernel product must", "Shape constraints:",
    "Stride values WxH", "IF not (IFM H", "IF NOT (IFM H", "align_corners and half", "Scale-factor", "The product of",
    "Reduction over depth", "Reduced axis", "Amount of reduced", "IFM depth must be", "Operation must be performed",
    "Slice must represent", "Tensor dimension must", "IF IFM is Int32", "IF IFM is Int8", "Axis attribute", "IF Matmul",
)  # fmt: skip


def sentences() -> Iterator[str]:
    found = {
        sentence.strip()
        for npu in ("EthosU55", "EthosU65", "EthosU85")
        for published in regor.tflite_operator_constraints(npu).values()
        for sentence in published
    }
    return (sentence for sentence in sorted(found) if not sentence.startswith(OF_LIMITS))


@pytest.mark.parametrize("sentence", list(sentences()))
def test_each_sentence_has_one_rule(sentence: str) -> None:
    assert len([rule.code for rule in RULES if sentence.startswith(rule.sentences)]) == 1


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_rules_quote_sentences_that_are_published(rule: type[ConstraintRule]) -> None:
    spelled_right = "Weight sum constraints"  # for the day on which the compiler spells it so
    published = list(sentences())
    for beginning in {*rule.sentences} - {spelled_right}:
        assert any(sentence.startswith(beginning) for sentence in published)
