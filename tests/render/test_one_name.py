"""A figure has one name, and one value, in every form: JSON, CSV, comparisons, limits, Python."""

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import SAMPLE

import mlia
from mlia.cpu_results import CpuCost, CpuPerformance
from mlia.figures import Figures
from mlia.pipeline.budgets import Allowed, BudgetFile, with_budgets
from mlia.pipeline.compare.totals import FIGURES as COMPARED
from mlia.render.check.csv import COLUMNS, MEMORIES
from mlia.render.json import json_schema
from mlia.results import Compatibility, MemoryPlan, OperatorCost, Performance, Placement, Traffic

CORE = ("latency_ms", "low_ms", "high_ms", "total_cycles", "sram_bytes", "flash_bytes", "arena_bytes", "macs")
TARGETS = ("ethos-u55-256", "ethos-u85-256", "cortex-m4")
# Of a file that is not compiled, or of all reads together: no field of a performance has them.
OF_FILES = {"file_bytes", "off_chip_read_bytes", "lost_outputs"}


def names(*kinds: Any) -> set[str]:
    return {name for kind in kinds for name in kind.__struct_fields__}


@pytest.fixture(scope="module")
def report() -> mlia.CheckReport:
    model = SAMPLE.with_name("off_the_npu.tflite")
    return mlia.check(model, list(TARGETS), try_remedies=False)


def values(tree: Any, name: str) -> Iterator[Any]:
    """Every value of that name in a JSON tree, the outermost first."""
    if isinstance(tree, dict):
        if name in tree:
            yield tree[name]
        for part in tree.values():
            yield from values(part, name)


def test_the_same_snippet_works_on_every_target(report: mlia.CheckReport) -> None:
    for entry in report.targets:
        performance = entry.results[0].performance
        found = [getattr(performance, name) for name in CORE]
        assert all(value > 0 for value in found)
        assert performance.low_ms <= performance.latency_ms <= performance.high_ms  # type: ignore[union-attr]
        operators = [each.latency_ms for each in performance.operators]  # type: ignore[union-attr]
        assert any(operators)
    assert set(CORE) <= names(Performance) & names(CpuPerformance)


def test_what_is_compared_has_the_name_and_the_value_of_the_json(report: mlia.CheckReport) -> None:
    compared = mlia.compare(report, report)
    for entry, target in zip(report.to_dict()["targets"], compared.targets, strict=True):
        for total in target.totals:
            if total.figure == "file_bytes":
                assert total.after.value == report.model.size_bytes
                continue
            found = [*values(entry["results"][0]["performance"], total.figure)]
            found += values(entry["results"][0]["compatibility"], total.figure)
            assert found, total.figure
            assert found[0] == total.after.value, total.figure
            bands = {"latency_ms": "ms"} | ({"total_cycles": "cycles"} if "cortex" in target.target.name else {})
            if total.figure in bands:
                performance = entry["results"][0]["performance"]
                low, high = (performance[f"{end}_{bands[total.figure]}"] for end in ("low", "high"))
                assert (total.after.low, total.after.high) == (low, high)
    known = names(Performance, CpuPerformance, Compatibility, MemoryPlan)
    assert {*COMPARED} - {"unsupported_operators"} - OF_FILES <= known


def test_columns_of_csv_have_the_names_and_values_of_the_json(report: mlia.CheckReport) -> None:
    moved = {f"{memory}_{name}" for memory in MEMORIES for name in names(Traffic) - {"memory"}}
    said = {"target", "runs_on", "why", "cpu_library", "cpu_kernel"}  # places and words, not figures
    assert {*COLUMNS} - moved - said <= names(OperatorCost, CpuCost, Placement)
    rows = list(csv.DictReader(io.StringIO(mlia_csv(report))))
    for entry in report.targets:
        performance = entry.results[0].performance
        costs = {(each.subgraph, each.index): each for each in getattr(performance, "cpu_costs", ())}
        costs |= {(each.subgraph, each.index): each for each in performance.operators}  # type: ignore[union-attr]
        for row in (row for row in rows if row["target"] == entry.target.name):
            cost = costs[int(row["subgraph"]), int(row["index"])]
            for name in ("total_cycles", "latency_ms", "macs", "weights_bytes"):
                value = getattr(cost, name)
                if value is not None:
                    assert float(row[name]) == pytest.approx(value), name


def mlia_csv(report: mlia.CheckReport) -> str:
    from mlia.render.forms import in_form

    return in_form(report, "csv")


def test_what_advice_compares_has_the_names_of_the_json() -> None:
    assert names(Figures) - OF_FILES <= names(Performance, MemoryPlan, Compatibility)


def test_limits_are_of_figures_of_the_json() -> None:
    limited = {name.partition("_")[2] for name in names(Allowed)}
    known = names(Performance, CpuPerformance, Compatibility)
    assert {figure.replace("_kib", "_bytes") for figure in limited} <= known


def test_limits_judge_the_values_of_the_json(report: mlia.CheckReport) -> None:
    judged = with_budgets(report, BudgetFile(max_latency_ms=1, max_sram_kib=1, max_flash_kib=1))
    assert len(judged.budgets) == 3 * len(TARGETS)
    for budget in judged.budgets:
        (performance,) = (
            entry.results[0].performance for entry in report.targets if entry.target.name == budget.target
        )
        scale = 1024 if budget.figure.endswith("_kib") else 1
        assert budget.value is not None
        assert budget.value * scale == getattr(performance, budget.figure.replace("_kib", "_bytes"))


def test_a_name_has_one_unit_in_all_schemas() -> None:
    """The text of a field that ends in a unit says nothing of another unit."""
    for verb in ("check", "compare", "optimize", "verify", "calibrate", "convert", "accuracy"):
        for kind, part in json_schema(verb)["$defs"].items():
            for name, field in part.get("properties", {}).items():
                if name.endswith("_ms"):
                    assert " ms" in field["description"], f"{kind}.{name}"
                if name.endswith("_mhz"):
                    assert "MHz" in field["description"], f"{kind}.{name}"
                if name.endswith("_percent"):
                    assert "percent" in field["description"], f"{kind}.{name}"
