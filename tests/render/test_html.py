"""The page: whole in one file, the same twice, and safe whatever a model's names are."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLE
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sample import CPU_REPORT, LONG, SAMPLE_REPORT, SIDE_BY_SIDE
from sample_optimization import SAMPLE_OPTIMIZATION

import mlia
from mlia.graph.tflite_writer import write_tflite
from mlia.render.html import render_html
from mlia.render.web.drawing import draw
from mlia.render.web.layout import lay_out
from mlia.render.web.views import view_of
from mlia.testing import IntegerSketch

MOST_BYTES = 2 << 20


def chain(length: int, folder: Path) -> Path:
    net = IntegerSketch("chain")
    x = net.image("in", (1, 16, 16, 16))
    for number in range(length):
        x = net.filter("CONV_2D", x, filters=16, name=f"stage{number // 50}/conv{number}")
    path = folder / "chain.tflite"
    path.write_bytes(write_tflite(net.graph([x])))
    return path


@pytest.mark.parametrize("report", [SAMPLE_REPORT, SIDE_BY_SIDE, CPU_REPORT], ids=["one", "several", "cortex-m"])
def test_a_page_needs_nothing_else_and_is_the_same_twice(report: mlia.CheckReport) -> None:
    page = render_html(report)
    assert page == render_html(report)
    assert page.startswith("<!DOCTYPE html>")
    assert not re.search(r"(?:src|href)=\"(?!#)", page)
    assert not re.search(r"https?://|@import|url\(", page)


def test_what_the_report_says_is_on_the_page() -> None:
    page = render_html(SAMPLE_REPORT)
    for text in (
        "1 of 4 operators falls to the Cortex-M55.", "0.250 to 0.360 ms", "-10..+11 %; Vela alone 30,010", "CMP031",
        "explicit padding", "Stride 5x5 with SAME padding", "the baseline has no such target",
        "no data for", "the size of input image is dynamic", "Unsupported kernel stride: 5, 5", "better.tflite",
    ):  # fmt: skip
        assert text in page, text


@pytest.mark.parametrize("report", [SAMPLE_OPTIMIZATION, replace(SAMPLE_OPTIMIZATION, trials=(), suggestions=())])
def test_an_optimization_has_a_page_too(report: mlia.OptimizeReport) -> None:
    page = render_html(report)
    assert page == render_html(report)
    assert not re.search(r"(?:src|href)=\"(?!#)|https?://", page)
    for text in ("1.32 times as fast", "141,981", "107,573", "0.5200", "the time budget ended the search", "16 codes"):
        assert text in page, text
    assert page.count('class="trial') == len(report.trials) + len(report.suggestions)


def test_a_difference_has_a_page_too() -> None:
    found = mlia.compare(SAMPLE, ROOT / "examples/off_the_npu.tflite", ["ethos-u55-128", "cortex-m55"])
    page = render_html(found)
    assert page == render_html(found)
    assert not re.search(r"(?:src|href)=\"(?!#)|https?://", page)
    for text in ("Where the time went", "TRANSPOSE_CONV", "conv_1", "cortex-m55", "Removed", "% more time"):
        assert text in page, text


def test_every_operator_has_a_bar_and_a_box(tmp_path: Path) -> None:
    report = mlia.check(ROOT / "examples/off_the_npu.tflite", "ethos-u55-128", try_remedies=False)
    (view,) = [view_of(entry) for entry in report.targets]
    assert [each.unit for each in view.operators].count("cpu") == 2
    assert sum(each.time_ms for each in view.operators) == pytest.approx(
        report.targets[0].results[0].performance.latency_ms,
        rel=0.05,  # type: ignore[union-attr]
    )
    assert max(each.width_percent for each in view.operators) == 100
    drawing = draw(report.model)
    assert drawing is not None
    assert {each.key for each in drawing.nodes} == {each.key for each in view.operators}
    page = render_html(report)
    assert page.count("<td>CPU</td><td>CMP0") == 2
    assert page.count('role="option"') == page.count('class="node"') == 6


def test_the_peak_of_the_timeline_is_what_the_memory_needs() -> None:
    report = mlia.check(SAMPLE, "ethos-u55-256", try_remedies=False)
    performance = report.targets[0].results[0].performance
    (picture,) = view_of(report.targets[0]).timelines
    assert picture.peak.startswith(f"{performance.memory.planned_sram_bytes / 1024:.1f} KiB")  # type: ignore[union-attr]
    assert any(box.is_at_peak for box in picture.boxes)


def test_points_are_below_the_roofs() -> None:
    report = mlia.check(SAMPLE, "ethos-u85-256", try_remedies=False)
    roofline = view_of(report.targets[0]).roofline
    assert roofline is not None
    peak = next(line for line in roofline.roofs if line.kind == "peak")
    assert all(mark.y >= peak.y1 for mark in roofline.points)  # down is more in a picture
    assert len(roofline.points) == len({each.key for each in roofline.points}) == 10


@pytest.mark.long
def test_many_operators_stay_small(tmp_path: Path) -> None:
    report = mlia.check(chain(500, tmp_path), "ethos-u55-128", try_remedies=False)
    assert len(render_html(report).encode()) < MOST_BYTES


@given(name=st.text(max_size=40))
@settings(max_examples=40)
def test_no_name_breaks_the_page(name: str) -> None:
    hostile = f"{name}</script><script>alert(1)</script>"
    graph = tuple(replace(each, name=hostile) for each in SAMPLE_REPORT.model.graph)
    page = render_html(replace(SAMPLE_REPORT, model=replace(SAMPLE_REPORT.model, name=hostile, graph=graph)))
    assert page.count("<script>alert(1)") == 0
    assert page.count("</script>") == 2


@given(
    edges=st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=40).map(
        lambda pairs: [(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]]
    )
)
def test_boxes_never_overlap_and_lines_lead_down(edges: list[tuple[int, int]]) -> None:
    layout = lay_out(range(15), edges)
    places = list(layout.places.values())
    assert len({*places}) == len(places) == 15
    rows = sorted(places)
    for (row, column), (next_row, next_column) in pairwise(rows):
        assert row != next_row or next_column - column >= 2
    assert len(layout.lines) == len({*edges})
    for line in layout.lines:
        assert [row for row, _ in line] == list(range(line[0][0], line[-1][0] + 1))
    for start, end in edges:
        assert layout.places[start][0] < layout.places[end][0]
    assert all(0 <= row < layout.rows and 1 <= column <= layout.columns - 1 for row, column in places)


def test_a_long_name_is_shortened_in_its_box_only() -> None:
    drawing = draw(SAMPLE_REPORT.model)
    assert drawing is not None
    assert all(len(each.name) <= 20 for each in drawing.nodes)
    assert LONG.partition(";")[0].removeprefix("network/") in drawing.nodes[1].text
