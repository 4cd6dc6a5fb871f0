"""Golden files of a CompareReport. Rewrite them with `UPDATE_GOLDEN=1 pytest tests/render`, then read the diff."""

import json
import os
from pathlib import Path

import jsonschema
import pytest
from conftest import ROOT, SAMPLE
from msgspec.structs import replace
from sample import CPU_RESULT, LONG, NOTHING_ADVISED, SAMPLE_REPORT, TARGET, cost, operator, placement

import mlia
from mlia.cpu_results import SystemTime
from mlia.render.compare.markdown import code, render_markdown, words
from mlia.render.compare.parts import change_text, percent_text, verdict_text
from mlia.render.compare.terminal import render_difference
from mlia.render.json import json_schema, render_json, render_schema
from mlia.report import CheckReport, TargetReport
from mlia.results import Compatibility, Performance

GOLDEN = Path(__file__).parent / "golden"
ALONE = TargetReport(replace(TARGET, name="cortex-m55", npu=None, macs_per_cycle=None), (CPU_RESULT,), NOTHING_ADVISED)


def _after() -> CheckReport:
    """The sample with one operator on the NPU now, one with another kind, one gone and one new."""
    (entry,) = SAMPLE_REPORT.targets
    (result,) = entry.results
    placed, cost_before = result.compatibility, result.performance
    assert isinstance(placed, Compatibility)
    assert isinstance(cost_before, Performance)
    assert isinstance(cost_before.system, SystemTime)
    operators = (
        operator(0, "CONV_2D", "network/stem/conv", (), (1, 48, 48, 16)),
        operator(1, "CONV_2D", LONG, (0,), (1, 12, 12, 8)),
        operator(2, "AVERAGE_POOL_2D", "network/flatten", (1,), (1, 1, 1, 8)),
        operator(3, "SOFT|MAX", "<b>`@team`", (2,), (1, 2)),
    )
    costs = (
        cost(0, "CONV_2D", "network/stem/conv", 31_000, 800_000),
        cost(1, "CONV_2D", LONG, 9_000, 200_000),
        cost(2, "AVERAGE_POOL_2D", "network/flatten", 700),
        cost(3, "SOFT|MAX", "<b>`@team`", 300),
    )
    segments = tuple(placement(each.index, each.kind, each.name, 1, each.macs) for each in costs)
    system = replace(cost_before.system, segments=1)
    performance = replace(
        cost_before, operators=costs, total_cycles=41_000, inference_cycles=40_900, cpu_costs=(), latency_ms=0.1,
        low_ms=0.09, high_ms=0.28, npu_latency_ms=0.0818,
    )  # fmt: skip
    placed = replace(placed, operators=segments, npu_operators=4, cpu_operators=0, npu_percent=100.0, npu_segments=1)
    made = replace(result, compatibility=placed, performance=replace(performance, system=system))
    model = replace(SAMPLE_REPORT.model, name="other.tflite", sha256="22" * 32, size_bytes=44_000, graph=operators)
    return replace(SAMPLE_REPORT, model=model, targets=(replace(entry, results=(made,)), ALONE), notes=())


FOUND = mlia.compare(SAMPLE_REPORT, _after(), max_regression_percent=2)
BACK = mlia.compare(_after(), replace(SAMPLE_REPORT, targets=(*SAMPLE_REPORT.targets, ALONE)), max_regression_percent=2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("difference_80.txt", render_difference(FOUND, 80, False, False)),
        ("difference_200.txt", render_difference(FOUND, 200, True, True)),
        ("difference_back_80.txt", render_difference(BACK, 80, False, False)),
        ("difference.md", render_markdown(FOUND)),
        ("difference_back.md", render_markdown(BACK)),
        ("difference.json", render_json(FOUND)),
    ],
)
def test_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_the_published_schema_is_current_and_followed() -> None:
    assert (ROOT / "docs/compare.schema.json").read_text() == render_schema("compare")
    for found in (FOUND, BACK):
        jsonschema.validate(json.loads(render_json(found)), json_schema("compare"))


@pytest.mark.parametrize("width", [80, 100, 132, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    real = mlia.compare(SAMPLE, ROOT / "examples/off_the_npu.tflite", ["ethos-u55-128", "cortex-m4"])
    for found in (FOUND, BACK, real):
        for line in render_difference(found, width, False, True).splitlines():
            assert len(line) <= width


def test_markdown_takes_names_as_they_are() -> None:
    assert code("a|b`c\n") == "`a\\|b'c?`"
    assert code(" ") == "(unnamed)"
    assert words("<img> *x* @team") == "\\<img> \\*x\\* @\N{ZERO WIDTH SPACE}team"
    for line in render_markdown(FOUND).splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") in (6, 12)
    assert "<b>" not in render_markdown(FOUND).replace("`<b>'@team'`", "")


@pytest.mark.parametrize(
    ("figure", "value", "text"),
    [
        ("latency_ms", -0.0101, "-0.0101"),
        ("sram_bytes", 16, "+<0.1"),
        ("sram_bytes", -2048, "-2.0"),
        ("total_cycles", 1234, "+1,234"),
        ("macs", 0, "0"),
        ("macs", None, "-"),
    ],
)
def test_a_change_has_its_sign(figure: str, value: float | None, text: str) -> None:
    assert change_text(figure, value) == text


def test_percent() -> None:
    assert [percent_text(each) for each in (None, 0, 0.01, -12.34, 12345.6)] == ["-", "0", "+<0.1", "-12.3", "+12,346"]
    assert verdict_text(FOUND.targets[0]) == "66.7 % less time, the bands overlap"
