"""Limits: what is kept, what is missed, and who is to blame."""

from pathlib import Path

import pytest
from conftest import ROOT, SAMPLE

import mlia
from mlia.cpu_results import CpuPerformance
from mlia.errors import TargetError
from mlia.liveness import is_live, peak_time, used_bytes
from mlia.pipeline.budgets import Allowed, BudgetFile, load_budget, unasked, with_budgets
from mlia.report import Budget, CheckReport
from mlia.results import Performance

OFF_THE_NPU = ROOT / "examples/off_the_npu.tflite"


@pytest.fixture(scope="module")
def whole() -> CheckReport:
    return mlia.check(SAMPLE, "ethos-u55-256", try_remedies=False)


@pytest.fixture(scope="module")
def split() -> CheckReport:
    return mlia.check(OFF_THE_NPU, ["ethos-u55-128", "cortex-m55"], try_remedies=False)


def only(report: CheckReport, **allowed: float) -> Budget:
    (budget,) = with_budgets(report, BudgetFile(**allowed)).budgets
    return budget


def test_a_limit_is_kept_to_the_very_figure(whole: CheckReport) -> None:
    performance = whole.targets[0].results[0].performance
    assert isinstance(performance, Performance)
    assert performance.memory is not None
    size = performance.sram_bytes / 1024
    assert only(whole, max_sram_kib=size) == Budget("ethos-u55-256", "sram_kib", size, size, True, "", ())
    assert not only(whole, max_sram_kib=size - 0.001).is_kept
    assert only(whole, min_npu_percent=100).is_kept


def test_the_slowest_are_blamed_for_time(whole: CheckReport, split: CheckReport) -> None:
    budget = only(whole, max_latency_ms=0.01)
    assert budget.blamed[0].name == "conv_1"
    assert [each.value for each in budget.blamed] == sorted((each.value for each in budget.blamed), reverse=True)
    npu, _ = with_budgets(split, BudgetFile(max_latency_ms=0.01)).budgets
    assert npu.blamed[0].kind == "TRANSPOSE_CONV"  # on the CPU


def test_what_is_off_the_npu_is_blamed_for_its_share(split: CheckReport) -> None:
    npu, cpu = with_budgets(split, BudgetFile(min_npu_percent=90)).budgets
    assert {each.kind for each in npu.blamed} == {"TRANSPOSE_CONV", "MEAN"}
    assert npu.value == pytest.approx(100 - sum(each.value for each in npu.blamed))
    assert (cpu.is_kept, cpu.value, cpu.reason) == (False, 0.0, "the target has no NPU")
    (_, none) = with_budgets(split, BudgetFile(min_npu_percent=0)).budgets
    assert none.is_kept


def test_tensors_at_the_peak_are_blamed_for_memory(whole: CheckReport) -> None:
    budget = only(whole, max_sram_kib=1)
    performance = whole.targets[0].results[0].performance
    assert isinstance(performance, Performance)
    assert performance.memory is not None
    lives = [each for each in performance.memory.tensors if each.memory == "sram"]
    peak = peak_time(lives)
    assert used_bytes(lives, peak) == performance.memory.planned_sram_bytes
    sizes = {each.name: each.size_bytes / 1024 for each in lives if is_live(each, peak)}
    assert budget.blamed
    assert all(sizes.get(each.name) == each.value for each in budget.blamed)


def test_weights_are_blamed_for_flash(whole: CheckReport, split: CheckReport) -> None:
    assert only(whole, max_flash_kib=1).blamed[0].kind == "CONV_2D"
    _, cpu = with_budgets(split, BudgetFile(max_flash_kib=1)).budgets
    performance = split.targets[1].results[0].performance
    assert isinstance(performance, CpuPerformance)
    assert cpu.value == performance.flash_bytes / 1024


def test_what_is_not_known_is_a_miss() -> None:
    report = mlia.check(SAMPLE, "ethos-u55-256", try_remedies=False, scope=mlia.Scope(performance=False))
    budget = only(report, max_latency_ms=5)
    assert (budget.is_kept, budget.value, budget.reason) == (False, None, "not asked for")


def test_a_file_has_limits_for_all_and_for_one(split: CheckReport, tmp_path: Path) -> None:
    file = tmp_path / "budget.toml"
    file.write_text("max_latency_ms = 5\n[targets.cortex-m55]\nmax_latency_ms = 9\nmax_sram_kib = 50\n")
    npu, slow, arena = with_budgets(split, load_budget(str(file))).budgets
    assert [(each.target, each.figure, each.limit) for each in (npu, slow, arena)] == [
        ("ethos-u55-128", "latency_ms", 5),
        ("cortex-m55", "latency_ms", 9),
        ("cortex-m55", "sram_kib", 50),
    ]


def test_limits_of_a_target_that_is_not_asked_for_judge_nothing(split: CheckReport) -> None:
    file = BudgetFile(targets={"cortex-m7": Allowed(max_sram_kib=1)})
    assert with_budgets(split, file).budgets == ()
    assert unasked(split, file) == ["cortex-m7"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_latency = 5", "unknown field"),
        ("max_latency_ms = -1", "give a number from 0 up"),
        ("max_latency_ms = nan", "give a number from 0 up"),
        ("min_npu_percent = 101", "there are 100 percent"),
        ("max_latency_ms = 'fast'", "Expected"),
        ("[targets.a]\nmax_sram_kib = inf", "give a number from 0 up"),
        ("a = " + "[" * 3000, "is not one"),
        ("", "sets no limit"),
    ],
)
def test_what_is_no_budget_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "budget.toml").write_text(text)
    with pytest.raises(TargetError, match=message):
        load_budget(str(tmp_path / "budget.toml"))


def test_a_regression_is_against_a_baseline(whole: CheckReport, split: CheckReport) -> None:
    (same,) = with_budgets(whole, BudgetFile(max_regression_percent=0), whole).budgets
    assert (same.figure, same.value, same.is_kept) == ("regression_percent", 0, True)
    own = mlia.check(SAMPLE, "ethos-u55-256", try_remedies=False, options=mlia.Options(estimator="vela"))
    (unlike,) = with_budgets(own, BudgetFile(max_regression_percent=50), whole).budgets
    assert (unlike.value, unlike.reason) == (None, "the times are not estimated alike")
    more = mlia.check(SAMPLE, ["ethos-u55-256", "ethos-u85-256"], try_remedies=False)
    (kept,) = with_budgets(whole, BudgetFile(max_regression_percent=0), more).budgets
    assert kept.is_kept
    known, unknown = with_budgets(more, BudgetFile(max_regression_percent=0), whole).budgets
    assert (known.is_kept, unknown.is_kept, unknown.value) == (True, False, None)
    narrow = mlia.check(OFF_THE_NPU, "ethos-u55-256", try_remedies=False)
    (slower,) = with_budgets(narrow, BudgetFile(max_regression_percent=10), whole).budgets
    assert not slower.is_kept
    assert slower.blamed[0].kind == "TRANSPOSE_CONV"
    with pytest.raises(TargetError, match="needs a baseline"):
        with_budgets(whole, BudgetFile(max_regression_percent=10))
