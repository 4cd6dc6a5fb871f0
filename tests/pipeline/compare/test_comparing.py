"""compare(): real models on real compilers, and what must hold of any difference."""

from pathlib import Path

import pytest
from conftest import ROOT, SAMPLE
from msgspec.structs import replace

import mlia
from mlia.difference import CompareReport, Match, OperatorDifference, TargetDifference, Verdict
from mlia.graph.graph import Graph
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.report import CheckReport, TargetReport
from mlia.results import Performance, Skipped, Unit
from mlia.testing import IntegerSketch

U55 = "ethos-u55-128"
OFF_THE_NPU = ROOT / "examples/off_the_npu.tflite"


def network(
    *, middle: int = 16, has_extra: bool = False, on_cpu: bool = False, rename: str = "", seed: int = 0
) -> Graph:
    """A few convolutions: with other channels, one more, one that an Ethos-U55 refuses, or other names."""
    net = IntegerSketch("a network", seed=seed)
    x = net.image("image", (1, 32, 32, 8))
    x = net.filter("CONV_2D", x, filters=16, name=f"{rename}stem")
    if has_extra:
        x = net.filter("CONV_2D", x, filters=16, name=f"{rename}extra")
    x = net.filter("CONV_2D", x, filters=middle, name=f"{rename}middle")
    x = net.filter("CONV_2D", x, filters=16, stride=(2, 2), name=f"{rename}narrow")
    x = net.filter("CONV_2D", x, filters=8, name=f"{rename}last")
    size = 9 if on_cpu else 3  # with SAME padding up to 8
    options = {"padding": "SAME", "stride_w": 1, "stride_h": 1, "fused_activation_function": "NONE"}
    options |= {"filter_width": size, "filter_height": size}
    x = net.plain("AVERAGE_POOL_2D", x, name=f"{rename}pool", table="Pool2DOptions", **options)
    return read_tflite(write_tflite(net.graph([x])))


def only(found: CompareReport) -> TargetDifference:
    (entry,) = found.targets
    return entry


def matches(found: CompareReport) -> list[str]:
    return [
        f"{each.match} {(each.after or each.before).name}" for each in only(found).operators if each.match != "same"
    ]


def value(entry: TargetDifference, figure: str) -> float | None:
    return next(total.difference for total in entry.totals if total.figure == figure)


def performance(report: CheckReport) -> Performance:
    found = report.targets[0].results[0].performance
    assert isinstance(found, Performance)
    return found


@pytest.fixture(scope="module")
def reports() -> tuple[CheckReport, CheckReport]:
    return mlia.check(network(), U55, try_remedies=False), mlia.check(network(middle=48), U55, try_remedies=False)


def test_a_report_is_like_itself(reports: tuple[CheckReport, CheckReport]) -> None:
    entry = only(mlia.compare(reports[0], reports[0], max_regression_percent=0))
    assert entry.verdict == Verdict.EQUAL
    assert {each.match for each in entry.operators} == {Match.SAME}
    assert all(each.difference_ms == 0 and not each.is_moved for each in entry.operators)
    assert all(total.difference == 0 or total.before.value is None for total in entry.totals)
    assert entry.common_percent == pytest.approx(100)
    assert entry.explanation == ""


def test_changing_the_sides_changes_the_sign(reports: tuple[CheckReport, CheckReport]) -> None:
    there, back = (only(mlia.compare(*pair)) for pair in (reports, reports[::-1]))
    assert (there.verdict, back.verdict) == (Verdict.SLOWER, Verdict.FASTER)
    for one, other in zip(there.totals, back.totals, strict=True):
        assert (one.figure, one.before, one.after) == (other.figure, other.after, other.before)
        assert one.difference == (None if other.difference is None else -other.difference)

    def turned(each: OperatorDifference) -> tuple[object, object, float]:
        assert each.difference_ms is not None
        return each.after, each.before, -each.difference_ms

    assert set(map(turned, there.operators)) == {(e.before, e.after, e.difference_ms) for e in back.operators}
    assert there.common_percent == back.common_percent


def test_totals_are_those_of_the_check(reports: tuple[CheckReport, CheckReport]) -> None:
    entry = only(mlia.compare(*reports))
    totals = {total.figure: total for total in entry.totals}
    for report, side in zip(reports, ("before", "after"), strict=True):
        cost = performance(report)
        cycles = getattr(totals["total_cycles"], side)
        assert cycles.value == cost.total_cycles
        assert cost.calibration is not None
        assert cost.total_cycles is not None
        assert cycles.low == round(cost.total_cycles * cost.calibration.band_low)
        assert getattr(totals["latency_ms"], side).value == cost.latency_ms
        assert cost.memory is not None
        for figure in ("sram_bytes", "flash_bytes", "arena_bytes", "macs"):
            assert getattr(totals[figure], side).value == getattr(cost, figure)
    assert sum(each.after.total_cycles for each in entry.operators) == performance(reports[1]).total_cycles


def test_an_operator_that_is_inserted_is_all_that_differs() -> None:
    found = mlia.compare(network(), network(has_extra=True), U55)
    assert matches(found) == ["added extra"]
    assert only(found).verdict == Verdict.SLOWER
    renamed = mlia.compare(network(), network(has_extra=True, rename="new/"), U55)
    assert [text.split()[0] for text in matches(renamed)].count("renamed") == 5
    assert [text.split()[0] for text in matches(renamed)].count("added") == 1


def test_what_keeps_its_name_only_is_changed() -> None:
    found = mlia.compare(network(), network(middle=48), U55)
    assert matches(found) == ["changed middle"]
    entry = only(found)
    grown = {each.after.name: each.difference_ms for each in entry.operators if each.after and each.difference_ms}
    assert {"middle", "narrow"} <= grown.keys()


def test_what_falls_off_the_npu_has_moved_and_is_to_blame() -> None:
    on_npu, off_npu = network(), network(on_cpu=True)
    found = mlia.compare(on_npu, off_npu, U55, max_regression_percent=5)
    entry = only(found)
    (moved,) = [each for each in entry.operators if each.is_moved]
    assert (moved.before.processor, moved.after.processor) == (Unit.NPU, Unit.CPU)
    assert moved.after.reasons
    assert "CMSIS-NN" in moved.after.kernel
    assert value(entry, "cpu_operators") == 1
    assert value(entry, "total_cycles") < 0 < value(entry, "latency_ms")
    (budget,) = found.budgets
    assert found.is_over_budget
    assert (budget.figure, budget.is_kept, budget.value) == ("regression_percent", False, entry.percent)
    assert budget.blamed[0].name == "pool"
    assert not mlia.compare(off_npu, on_npu, U55, max_regression_percent=0).is_over_budget


def test_only_what_one_side_has_is_told_and_missed(reports: tuple[CheckReport, CheckReport]) -> None:
    more = mlia.check(network(middle=48), [U55, "cortex-m4"])
    found = mlia.compare(reports[0], more, max_regression_percent=1000)
    assert [entry.target.name for entry in found.targets] == [U55]
    assert [missing.what for missing in found.missing_targets] == ["cortex-m4"]
    assert [budget.is_kept for budget in found.budgets] == [True, False]
    assert found.budgets[1].value is None
    assert "says nothing of it" in found.budgets[1].reason
    assert not mlia.compare(reports[0], more, U55, max_regression_percent=1000).is_over_budget


def test_a_cortex_m_alone_is_compared() -> None:
    entry = only(mlia.compare(network(), network(has_extra=True), "cortex-m55"))
    assert entry.verdict == Verdict.SLOWER
    assert value(entry, "total_cycles") > 0
    assert value(entry, "arena_bytes") >= 0
    assert not any(each.is_moved for each in entry.operators)


def with_performance(report: CheckReport, performance: object, **target: object) -> CheckReport:
    (entry,) = report.targets
    result = replace(entry.results[0], performance=performance)
    return replace(report, targets=(TargetReport(replace(entry.target, **target), (result,), entry.advised),))


def without_system(report: CheckReport) -> CheckReport:
    return with_performance(report, replace(performance(report), system=Skipped("system", "no kernel")))


def test_cycles_count_where_no_latency_is_known(reports: tuple[CheckReport, CheckReport]) -> None:
    both = mlia.compare(*map(without_system, reports), max_regression_percent=5)
    assert only(both).figure == "inference_cycles"
    assert both.budgets[0].value == pytest.approx(only(both).percent)
    assert "of inference_cycles" in both.budgets[0].reason
    assert {"middle", "narrow"} <= {each.name for each in both.budgets[0].blamed}
    for pair in ((reports[0], without_system(reports[1])), (without_system(reports[0]), reports[1])):
        one = mlia.compare(*pair, max_regression_percent=1e6)
        assert only(one).verdict == Verdict.UNKNOWN
        assert (one.budgets[0].value, one.budgets[0].is_kept) == (None, False)
        assert "no kernel" in one.budgets[0].reason


def test_cycles_do_not_hide_what_fell_off_the_npu() -> None:
    sides = [without_system(mlia.check(network(on_cpu=on_cpu), U55, try_remedies=False)) for on_cpu in (False, True)]
    (budget,) = mlia.compare(*sides, max_regression_percent=5).budgets
    assert (budget.value, budget.is_kept) == (None, False)
    assert "1 more of the operators are on the CPU" in budget.reason


def test_a_report_without_times_is_compared_as_far_as_it_goes(reports: tuple[CheckReport, CheckReport]) -> None:
    placed = with_performance(reports[1], Skipped("performance", "not asked for"))
    entry = only(mlia.compare(reports[0], placed))
    assert entry.verdict == Verdict.UNKNOWN
    assert entry.explanation == "the time after is not known: the performance was not asked for"
    assert value(entry, "npu_percent") == 0
    assert {each.after.processor for each in entry.operators} == {Unit.NPU}


def test_what_is_not_estimated_alike_is_said(reports: tuple[CheckReport, CheckReport]) -> None:
    vela = mlia.check(network(), U55, try_remedies=False, options=mlia.Options(estimator="vela"))
    entry = only(mlia.compare(reports[0], vela))
    assert "not estimated alike" in entry.explanation
    assert entry.is_within_bands is None
    other = with_performance(reports[1], performance(reports[1]), clock_mhz=400.0)
    changed = only(mlia.compare(reports[0], other))
    assert changed.target_changes == ("clock_mhz 500.0 -> 400.0",)
    assert "the target is not the same" in changed.explanation
    # A model beside a report is estimated as the report was.
    assert only(mlia.compare(vela, network(), U55)).verdict == Verdict.EQUAL


def test_bands_that_overlap_and_errors_that_cancel(reports: tuple[CheckReport, CheckReport]) -> None:
    entry = only(mlia.compare(network(), network(seed=1), U55))
    assert {each.match for each in entry.operators} == {Match.SAME}
    assert entry.is_within_bands
    if entry.verdict != Verdict.EQUAL:
        assert "the same error is on both sides" in entry.explanation
    assert "bands do not touch" in only(mlia.compare(network(), network(middle=128), U55)).explanation


def test_what_cannot_be_compared(reports: tuple[CheckReport, CheckReport], tmp_path: Path) -> None:
    with pytest.raises(mlia.TargetError, match="name one with -t"):
        mlia.compare(SAMPLE, reports[0])
    with pytest.raises(mlia.TargetError, match="no report is about ethos-u85-256"):
        mlia.compare(*reports, "ethos-u85-256")
    with pytest.raises(mlia.TargetError, match="two targets are called"):
        mlia.compare(SAMPLE, OFF_THE_NPU, [U55, U55])
    with pytest.raises(mlia.TargetError, match="nothing to compare"):
        mlia.compare(reports[0], mlia.check(network(), "cortex-m4"))
    with pytest.raises(mlia.ModelError, match="the same file"):
        mlia.compare(SAMPLE, str(SAMPLE), U55)
    with pytest.raises(mlia.ModelError, match="options of quantizing"):
        mlia.compare(*reports, options=mlia.Options(estimator="vela"))
    with pytest.raises(mlia.MliaError, match="0 % or more"):
        mlia.compare(*reports, max_regression_percent=float("nan"))
