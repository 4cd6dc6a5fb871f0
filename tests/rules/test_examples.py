"""Every rule on small models: where it must speak, where it must be silent, and what its remedies bring."""

from collections import defaultdict
from functools import cache

import pytest

from mlia.advice import Safety
from mlia.errors import TransformError
from mlia.graph.tflite import read_tflite
from mlia.pipeline.check.advise import ask_rules, changed
from mlia.results import Compatibility, Result
from mlia.rules.catalog import all_rules, chosen, find_rule
from mlia.rules.compatibility.other import OtherConstraint
from mlia.rules.rule import Case, CompiledRule, CpuRule, Finding, NpuRule
from mlia.testing import case_of, checked_result
from mlia.transforms.proof import prove
from tests.rules.cases import EXAMPLES
from tests.rules.example import Example

# They look at something else than a Case, or at what no compiler says today, and have tests of their own.
ELSEWHERE = (CompiledRule, CpuRule, OtherConstraint)
BROKEN = [example for example in EXAMPLES if example.fires and example.code.startswith("CMP")]
# It speaks of operators that another rule is about, and says what they do to those around them.
BESIDE = "CMP050"


@cache
def looked_at(example: Example) -> tuple[bytes, Case]:
    content = example.build()
    return content, case_of(content, example.target)


def found(example: Example) -> tuple[bytes, list[Finding]]:
    content, case = looked_at(example)
    kind = find_rule(example.code)
    assert issubclass(kind, NpuRule)
    rule = kind()
    return content, [] if rule.skip(case) else list(rule.check(case))


SLOW = {("CMP036", "two images")}  # 132,000 rows take LiteRT and Vela as long as a hundred other examples


@pytest.mark.parametrize(
    "example",
    [pytest.param(each, marks=pytest.mark.long) if (each.code, each.name) in SLOW else each for each in EXAMPLES],
    ids=lambda example: f"{example.code} {example.name}",
)
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
        applied, refusals = 0, []
        for fix in finding.fixes:
            try:
                copy = changed(fix, read_tflite(content))
            except TransformError as error:
                refusals.append(str(error))
                continue
            applied += 1
            if fix.safety == Safety.LOSSLESS and fix.change is not None:
                assert prove(content, bytes(copy.content)) == ""
        assert applied or not refusals or example.is_beyond_remedy, refusals


def gets_onto_npu(content: bytes, finding: Finding, target: str) -> bool:
    """Whether a remedy leaves fewer operators on the CPU, and none of the named ones."""
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
    rules = [rule for rule in all_rules() if not issubclass(rule, ELSEWHERE)]
    assert [rule.code for rule in rules if said[rule.code] != {True, False}] == []


def test_what_a_rule_finds_is_found_by_who_asks_it() -> None:
    """A check asks rules by what is known of their codes, before they are imported."""
    unasked = []
    for example in EXAMPLES:
        if example.fires and (example.code, example.name) not in SLOW:
            _, case = looked_at(example)
            result = Result("vela", case.compatibility, case.performance)
            asked = ask_rules(case.graph, case.target, result, (example.code,), (True, True)).found
            unasked += [] if asked else [(example.code, example.name)]
    assert unasked == []


def test_the_root_cause_is_found() -> None:
    """Of the operators that a broken model is broken by, the right rule speaks and no other."""
    assert len(BROKEN) >= 60
    wrong = []
    for example in BROKEN:
        _, case = looked_at(example)
        result = Result("vela", case.compatibility, case.performance)
        asked = ask_rules(case.graph, case.target, result, chosen(["CMP"], [BESIDE]), (True, True)).found
        wanted = {operator for each in asked if each.rule.code == example.code for operator in each.finding.operators}
        codes = {each.rule.code for each in asked if not wanted or wanted & {*each.finding.operators}}
        if codes != {example.code} and example.code != BESIDE:
            wrong.append((example.code, example.name, codes))
    assert len(wrong) <= 0.05 * len(BROKEN), wrong


def test_most_broken_models_can_be_mended() -> None:
    assert sum(bool(example.gets_onto_npu) for example in BROKEN) >= 0.6 * len(BROKEN)
