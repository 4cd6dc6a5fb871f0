"""What the examples cannot say of the rules about memory: figures in the evidence, and what remedies bring."""

from mlia.rules.memory import PeakOfOneTensor, SramToSpare, TooMuchSram, WaitsForWeights, WeightsInSram
from mlia.rules.rule import Fix
from mlia.targets.target import Target
from mlia.testing import advise_one, case_of
from tests.rules.cases.memory import LIMITED, SRAM_ONLY, U55, U85, large_maps, many_weights, one_large_map


def retargeted(fix: Fix, target: Target) -> Target:
    assert fix.retarget is not None
    return fix.retarget(target)


def figures(content: bytes, target: Target | str) -> tuple[float, int]:
    case = case_of(content, target)
    assert case.latency_ms is not None
    assert case.performance.memory is not None
    return case.latency_ms, case.performance.memory.sram_bytes


def test_a_limit_saves_sram_and_no_time() -> None:
    content, case = large_maps(), case_of(large_maps(), U55)
    (finding,) = advise_one(SramToSpare, content, U55)
    assert [fix.what for fix in finding.fixes] == ["arena cache of 227 KiB", "arena cache of 113 KiB", "strategy Size"]
    time, sram = figures(content, U55)
    tried = [figures(content, retargeted(fix, case.target)) for fix in finding.fixes]
    assert tried[1][0] < 1.02 * time
    assert tried[1][1] < sram / 4
    assert tried[2][1] < tried[1][1]
    assert finding.only_if_gain


def test_the_strategy_is_not_tried_where_the_arena_is_in_dram() -> None:
    (finding,) = advise_one(SramToSpare, large_maps(), U85)
    assert all(fix.what.startswith("arena cache") for fix in finding.fixes)


def test_the_tensors_at_the_peak_are_named() -> None:
    (finding,) = advise_one(TooMuchSram, large_maps(), LIMITED)
    assert "where 65,536 are allowed" in finding.evidence
    assert finding.evidence.count("'") >= 4
    (finding,) = advise_one(PeakOfOneTensor, one_large_map(), U55)
    assert "'first' has 72 KiB of the" in finding.evidence
    assert [operator.index for operator in finding.operators] == [0]


def test_another_memory_mode_is_faster_or_smaller() -> None:
    (finding,) = advise_one(WaitsForWeights, many_weights(), U55)
    assert [fix.what for fix in finding.fixes] == ["memory mode Sram_Only"]
    target = case_of(many_weights(), U55).target
    faster = retargeted(finding.fixes[0], target)
    assert faster.name == "ethos-u55-256, Sram_Only"
    assert figures(many_weights(), faster)[0] < 0.5 * figures(many_weights(), U55)[0]
    (finding,) = advise_one(WeightsInSram, many_weights(), SRAM_ONLY)
    smaller = retargeted(finding.fixes[0], case_of(many_weights(), SRAM_ONLY).target)
    assert figures(many_weights(), smaller)[1] < 0.1 * figures(many_weights(), SRAM_ONLY)[1]


def test_a_memory_mode_that_does_not_fit_is_not_tried() -> None:
    assert advise_one(WaitsForWeights, many_weights(), LIMITED) == []
