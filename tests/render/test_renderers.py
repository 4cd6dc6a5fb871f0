"""Golden files of the renderers. Rewrite them with `UPDATE_GOLDEN=1 pytest tests/render`, then read the diff."""

import json
import os
from pathlib import Path

import jsonschema
import pytest
from conftest import SAMPLE, wake_words
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sample import COMPILED_REPORT, CPU_REPORT, SAMPLE_REPORT, SIDE_BY_SIDE
from sample_optimization import SAMPLE_OPTIMIZATION

import mlia
from mlia.recipe import Recipe
from mlia.render.check.cpu import speedup_text
from mlia.render.check.terminal import TerminalStyle, render_terminal
from mlia.render.json import json_schema, render_json
from mlia.render.optimize import render_optimization
from mlia.render.text import Column, display_names, fraction, milliseconds, percent, render_table, shorten

GOLDEN = Path(__file__).parent / "golden"
UNSURE = "but the estimates are too wide to be sure"
INT8_OPTIMIZATION = replace(
    SAMPLE_OPTIMIZATION,
    float_bytes=None,
    fidelity_before=None,
    evaluation=None,
    trials=(),
    suggestions=(),
    missed_limit="",
    recipe=Recipe(),
    changes=(),
    skipped=(),
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("terminal_80.txt", render_terminal(SAMPLE_REPORT, TerminalStyle(80))),
        (
            "terminal_200.txt",
            render_terminal(SAMPLE_REPORT, TerminalStyle(200, all_operators=True, steps=True, all_advice=True)),
        ),
        ("terminal_color.txt", render_terminal(SAMPLE_REPORT, TerminalStyle(100, color=True))),
        ("side_by_side_80.txt", render_terminal(SIDE_BY_SIDE, TerminalStyle(80))),
        ("side_by_side_200.txt", render_terminal(SIDE_BY_SIDE, TerminalStyle(200))),
        ("cortex_m_80.txt", render_terminal(CPU_REPORT, TerminalStyle(80))),
        ("cortex_m_200.txt", render_terminal(CPU_REPORT, TerminalStyle(200))),
        ("compiled.txt", render_terminal(COMPILED_REPORT, TerminalStyle(80))),
        ("report.json", render_json(SAMPLE_REPORT)),
        ("optimization_80.txt", render_optimization(SAMPLE_OPTIMIZATION, "out.tflite", "out.recipe.toml", 80, False)),
        ("optimization_120.txt", render_optimization(SAMPLE_OPTIMIZATION, "out.tflite", "out.recipe.toml", 120, True)),
        (
            "optimization_of_int8.txt",
            render_optimization(INT8_OPTIMIZATION, "out.tflite", "out.recipe.toml", 80, False),
        ),
    ],
)
def test_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("report", [SAMPLE_OPTIMIZATION, INT8_OPTIMIZATION])
def test_json_of_an_optimization_follows_the_schema(report: mlia.OptimizeReport) -> None:
    jsonschema.validate(json.loads(render_json(report)), json_schema("optimize"))


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_line_of_an_optimization_is_wider(width: int) -> None:
    for line in render_optimization(SAMPLE_OPTIMIZATION, "out.tflite", "x.toml", width, True).splitlines():
        assert len(line) <= width


@pytest.mark.parametrize("report", [SAMPLE_REPORT, SIDE_BY_SIDE, COMPILED_REPORT, CPU_REPORT])
def test_json_follows_the_schema(report: mlia.CheckReport) -> None:
    jsonschema.validate(json.loads(render_json(report)), json_schema("check"))


@pytest.mark.parametrize("model", [SAMPLE, wake_words()[0]], ids=lambda path: path.stem)
def test_json_of_a_real_check_follows_the_schema_and_repeats(model: Path) -> None:
    texts = [render_json(mlia.check(model, ["ethos-u55-128", "ethos-u85-256"])) for _ in range(2)]
    assert texts[0] == texts[1]
    jsonschema.validate(json.loads(texts[0]), json_schema("check"))


@pytest.mark.parametrize("width", [80, 100, 132, 200])
@pytest.mark.parametrize("model", [SAMPLE, wake_words()[0]], ids=lambda path: path.stem)
def test_no_line_is_wider_than_the_terminal(model: Path, width: int) -> None:
    one = render_terminal(mlia.check(model, "ethos-u85-256"), TerminalStyle(width, all_operators=True, steps=True))
    several = render_terminal(mlia.check(model, ["ethos-u55-128", "ethos-u85-256"]), TerminalStyle(width))
    for line in (one + several).splitlines():
        assert len(line) <= width


def test_nothing_on_the_npu_is_not_zero_time(shared: Path) -> None:
    model = shared / "mlperf_tiny/kws_ref_model_float32.tflite"
    report = mlia.check(model, "ethos-u55-256", quantize=False)
    text = render_terminal(report, TerminalStyle(80))
    assert "Nothing runs on the NPU" in text
    assert "latency     not known: " in text  # its weights are int8 and its activations float
    assert "NPU busy" not in text
    assert "NPU 0" not in text
    several = mlia.check(model, ["ethos-u55-256", "ethos-u85-256"], quantize=False)
    row = next(line for line in render_terminal(several, TerminalStyle(200)).splitlines() if "ethos-u85-256 " in line)
    assert row.split()[4:7] == ["-", "-", "-"]


@given(st.text(max_size=60), st.integers(1, 40))
def test_shortened_text_fits_and_keeps_both_ends(text: str, width: int) -> None:
    short = shorten(text, width)
    assert len(short) <= width
    if len(text) > width >= 3:
        assert short[0] == text[0]
        assert short[-1] == text[-1]


@given(st.lists(st.lists(st.text(max_size=30), min_size=4, max_size=4), max_size=4), st.integers(60, 120))
def test_tables_fit_unless_what_must_stay_does_not(rows: list[list[str]], width: int) -> None:
    columns = [Column("a", flexible=True), Column("b", rank=1), Column("c", rank=2), Column("d", rank=2)]
    for line in render_table(columns, rows, width):
        assert len(line) <= width


def test_names_lose_what_most_share() -> None:
    names = ["net/a/conv;net/a/bn", "net/a/relu", "net/b/conv", "Identity"]
    assert display_names(names) == ["a/conv", "a/relu", "b/conv", "Identity"]
    assert display_names(["only/one"]) == ["only/one"]
    assert display_names([]) == []


@pytest.mark.parametrize(
    ("value", "text"), [(100.0, "100.0"), (99.99, ">99.9"), (0.01, "<0.1"), (0.0, "0.0"), (None, "-"), (12.34, "12.3")]
)
def test_percentages_never_round_to_all_or_nothing(value: float | None, text: str) -> None:
    assert percent(value) == text
    assert fraction(None if value is None else value / 100) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.1167, "0.117"), (0.00123, "0.00123"), (35.17, "35.170"), (1234.5, "1,234.5")]
)
def test_milliseconds(value: float, text: str) -> None:
    assert milliseconds(value) == text


@pytest.mark.parametrize(
    ("speedup", "low", "high", "told"),
    [
        (26.7, 20.1, 35.2, "the NPU makes it 26.7 times faster (20.1..35.2)"),
        (0.25, 0.2, 0.5, "the NPU makes it 4.0 times slower (2.0..5.0)"),
        (1.1, 0.7, 1.6, "the NPU makes it about as fast (0.7..1.6)"),
        (0.9, 0.5, 1.6, "the NPU makes it about as fast (0.6..2.0)"),
        (3.0, 0.8, 9.0, f"the NPU probably makes it 3.0 times faster, {UNSURE} (0.8..9.0)"),
        (0.5, 0.2, 1.1, f"the NPU probably makes it 2.0 times slower, {UNSURE} (0.9..5.0)"),
    ],
)
def test_what_the_npu_brings_is_said_as_surely_as_known(speedup: float, low: float, high: float, told: str) -> None:
    assert speedup_text(speedup, low, high) == told
