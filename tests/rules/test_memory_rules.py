"""What the examples cannot say of the rules about memory: figures in the evidence, and what remedies bring."""

from pathlib import Path

from mlia.rules.memory import PeakOfOneTensor, SramToSpare, TooMuchSram, WaitsForWeights, WeightsInSram
from mlia.rules.rule import Aim, Fix
from mlia.targets.target import Target
from mlia.targets.variants import with_cache_limit
from mlia.testing import advise_one, case_of
from tests.rules.cases.memory import (
    LIMITED,
    SRAM_ONLY,
    U55,
    U85,
    kept_outputs,
    large_maps,
    many_weights,
    one_large_map,
)


def retargeted(fix: Fix, target: Target) -> Target:
    assert fix.retarget is not None
    return fix.retarget(target)


def figures(content: bytes, target: Target | str) -> tuple[float, int]:
    case = case_of(content, target)
    assert case.performance.known_ms is not None
    assert case.performance.memory is not None
    return case.performance.known_ms, case.performance.memory.planned_sram_bytes


def test_a_limit_saves_sram_and_no_time() -> None:
    content, case = large_maps(), case_of(large_maps(), U55)
    (finding,) = advise_one(SramToSpare, content, U55)
    assert [fix.what for fix in finding.fixes] == ["arena cache of 220 KiB", "arena cache of 110 KiB", "strategy Size"]
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


def keyword_spotting(shared: Path) -> bytes:
    return (shared / "calibration/kws_micronet_m.tflite").read_bytes()


def test_an_advised_limit_is_kept(shared: Path) -> None:
    content = keyword_spotting(shared)
    (finding,) = advise_one(SramToSpare, content, "ethos-u55-128")
    half = retargeted(finding.fixes[0], case_of(content, "ethos-u55-128").target)
    assert half.memory_mode.cache_limit_bytes == 50 * 1024
    assert advise_one(TooMuchSram, content, half) == []


def test_gaps_between_tensors_are_told_and_a_lower_limit_closes_them(shared: Path) -> None:
    content, limit = keyword_spotting(shared), 53248
    tight = with_cache_limit(case_of(content, "ethos-u55-128").target, limit)
    (finding,) = advise_one(TooMuchSram, content, tight)
    assert finding.evidence.startswith("53,392 bytes of SRAM where 53,248 are allowed, 416 of them in gaps")
    assert "WB_" not in finding.evidence
    assert "a buffer for weights 6.3 KiB" in finding.evidence
    lower, size = (figures(content, retargeted(fix, tight)) for fix in finding.fixes)
    assert lower[1] <= limit
    assert size[1] <= limit
    assert lower[0] < size[0]
    assert finding.aim == Aim.FIT


def test_no_limit_is_tried_that_the_outputs_alone_exceed() -> None:
    (finding,) = advise_one(SramToSpare, kept_outputs(), U55)
    assert [fix.what for fix in finding.fixes] == ["strategy Size"]


def test_whether_there_is_a_limit_is_said() -> None:
    (finding,) = advise_one(SramToSpare, large_maps(), U85)
    assert finding.evidence.endswith(", of 384 KiB that it may use")
    (finding,) = advise_one(SramToSpare, large_maps(), U55)
    assert finding.evidence.endswith(", and was not asked to save any")
    case = case_of(large_maps(), LIMITED)
    assert SramToSpare().skip(case) == "the model needs more SRAM than allowed"
