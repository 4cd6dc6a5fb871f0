"""Every rule on small models: where it must speak, where it must be silent, and what its remedies bring."""

from collections import defaultdict

import pytest

from mlia.advice import Safety
from mlia.errors import TransformError
from mlia.graph.tflite import read_tflite
from mlia.pipeline.advising import changed
from mlia.results import Compatibility
from mlia.rules.catalog import all_rules, find_rule
from mlia.rules.rule import CompiledRule, CpuRule, Finding, NpuRule
from mlia.testing import advise_one, case_of, checked_result
from mlia.transforms.proof import prove
from tests.rules.cases import EXAMPLES
from tests.rules.example import Example

# One model is made with a newer compiler in mind, and one is about a Cortex-M alone: they have tests of their own.
ELSEWHERE = (CompiledRule, CpuRule)


def found(example: Example) -> tuple[bytes, list[Finding]]:
    content, rule = example.build(), find_rule(example.code)
    assert issubclass(rule, NpuRule)
    return content, advise_one(rule, content, example.target)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.code} {example.name}")
def test_rules_speak_and_are_silent(example: Example) -> None:
    content, findings = found(example)
    assert bool(findings) == example.fires
    for finding in findings:
        assert finding.fixes or finding.why_not_tried
        assert finding.evidence
        assert len(finding.evidence) + len(finding.remedy) < 400
    if example.gets_onto_npu is not None:
        assert any(gets_onto_npu(content, finding, example.target) for finding in findings) == example.gets_onto_npu
    for finding in findings:
        for fix in finding.fixes:
            if fix.safety == Safety.LOSSLESS and fix.change is not None:
                assert prove(content, bytes(changed(fix, read_tflite(content)).content)) == ""


def gets_onto_npu(content: bytes, finding: Finding, target: str) -> bool:
    """Whether a remedy leaves fewer operators on the CPU, and none of the named ones' kinds."""
    before = case_of(content, target)
    names = {before.placements[operator].name for operator in finding.operators}
    for fix in finding.fixes:
        if fix.change is None:
            continue
        try:
            graph = changed(fix, read_tflite(content))
        except TransformError:
            continue
        after = checked_result(bytes(graph.content), before.target).compatibility
        assert isinstance(after, Compatibility)
        left = {placement.name for placement in after.operators if placement.processor == "CPU"}
        if not names & left and after.cpu_operators < before.compatibility.cpu_operators:
            return True
    return False


def test_every_rule_has_a_model_for_which_it_speaks_and_one_for_which_it_does_not() -> None:
    said = defaultdict(set)
    for example in EXAMPLES:
        said[example.code].add(example.fires)
    missing = [
        rule.code for rule in all_rules() if not issubclass(rule, ELSEWHERE) and said[rule.code] != {True, False}
    ]
    assert missing == []


def test_the_root_cause_is_right_and_most_models_can_be_mended() -> None:
    """The corpus of broken models: one operator off the NPU each."""
    broken = [example for example in EXAMPLES if example.fires and example.code.startswith("CMP")]
    assert len(broken) >= 60
    mended = [example for example in broken if example.gets_onto_npu]
    assert len(mended) >= 0.6 * len(broken)
