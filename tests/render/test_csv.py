"""CSV: one row per target and operator, whatever their names."""

import csv
import io

import pytest
from conftest import ROOT, SAMPLE
from hypothesis import given, settings
from reports import CPU_REPORT, REPORTS, SEVERAL, check_golden, names, skipped, with_name
from sample import SAMPLE_REPORT

import mlia
from mlia.cpu_results import CpuPerformance
from mlia.render.check.csv import COLUMNS, render_csv
from mlia.results import Performance


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_golden() -> None:
    check_golden("report.csv", render_csv(SEVERAL))


@pytest.mark.parametrize("report", REPORTS)
def test_every_line_has_every_column_and_ends_as_the_rfc_says(report: mlia.CheckReport) -> None:
    text = render_csv(report)
    assert text == render_csv(report)
    assert text.endswith("\r\n")
    for row in csv.reader(io.StringIO(text, newline=""), strict=True):
        assert len(row) == len(COLUMNS)


def test_figures_of_a_real_check_are_the_report_s() -> None:
    report = mlia.check(ROOT / "examples/off_the_npu.tflite", ["ethos-u55-128", "cortex-m4"])
    found = rows(render_csv(report))
    npu, cpu = (entry.results[0].performance for entry in report.targets)
    assert isinstance(npu, Performance)
    assert isinstance(cpu, CpuPerformance)
    first, second = found[: len(npu.operators)], found[len(npu.operators) :]
    assert sum(int(row["total_cycles"] or 0) for row in first if row["runs_on"] == "NPU") == npu.total_cycles
    assert sum(int(row["vela_total_cycles"] or 0) for row in first) == npu.vela_total_cycles
    assert sum(int(row["total_cycles"] or 0) for row in first if row["runs_on"] == "CPU") == sum(
        each.total_cycles or 0 for each in npu.cpu_costs
    )
    assert {row["index"]: row["why"] for row in first if row["why"]} == {"3": "CMP032", "5": "CMP037"}
    assert [row["runs_on"] for row in first] == ["NPU", "NPU", "NPU", "CPU", "NPU", "CPU"]
    assert sum(int(row["total_cycles"]) for row in second) == cpu.total_cycles
    assert sum(float(row["latency_ms"]) for row in second) == pytest.approx(cpu.latency_ms)
    assert {row["npu_cycles"] for row in second} == {""}


def test_what_is_folded_costs_nothing_and_says_so() -> None:
    row = next(row for row in rows(render_csv(mlia.check(SAMPLE, "ethos-u55-128"))) if row["kind"] == "RESHAPE")
    assert (row["why"], row["total_cycles"], row["segment"], row["bound_by"]) == ("folded", "0", "", "")


def test_what_cannot_run_has_no_time() -> None:
    row = rows(render_csv(CPU_REPORT))[-1]
    assert (row["runs_on"], row["total_cycles"], row["latency_ms"]) == ("none", "", "")
    assert row["note"] == "TFLite Micro has no kernel for it"


def test_what_was_skipped_says_why() -> None:
    found = rows(render_csv(skipped("compiled already")))
    assert [row["index"] for row in found] == ["0", "1", "2", "3"]
    assert {row["note"] for row in found} == {"skipped: compiled already"}


@given(names)
@settings(deadline=None, max_examples=60)
def test_no_name_breaks_a_row_or_is_a_formula(name: str) -> None:
    text = render_csv(with_name(SEVERAL, name))
    text.encode()
    assert text.count("\n") == text.count("\r") == len(rows(render_csv(SEVERAL))) + 1
    for row in rows(text):
        assert None not in row
        assert None not in row.values()
        assert not row["name"].startswith(("=", "+", "-", "@"))
    assert [row["index"] for row in rows(text)] == [row["index"] for row in rows(render_csv(SEVERAL))]


def test_text_of_a_name_is_kept() -> None:
    assert {row["name"] for row in rows(render_csv(with_name(SAMPLE_REPORT, 'a, "b"|ü')))} == {'a, "b"|ü'}
