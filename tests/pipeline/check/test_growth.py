"""The work of a check grows with its model, not with the square of it. Calls are counted; clocks tell little."""

import sys
from pathlib import Path
from types import FrameType

import pytest

import mlia
from mlia.graph.graph import Graph
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.pipeline.check.check import check
from mlia.render.check.markdown import render_markdown
from mlia.render.check.terminal import TerminalStyle, render_terminal
from mlia.render.html import render_html
from mlia.render.json import render_json
from mlia.report import CheckReport
from mlia.testing import IntegerSketch

OURS = str(Path(mlia.__file__).parent)


def chain(operators: int) -> Graph:
    """Every other operator runs on the CPU, so that there are segments, refusals and findings of each."""
    net = IntegerSketch("chain")
    x = net.image("in", (1, 8, 8, 8))
    for number in range(operators // 2):
        x = net.filter("CONV_2D", x, filters=8, kernel=(1, 1), name=f"conv_{number}")
        x = net.operator("CUMSUM", [x], net.shape(x), f"sum_{number}", quantization=net.Q)
    return read_tflite(write_tflite(net.graph([x])))


def calls(operators: int, target: str) -> int:
    """How many calls there are of and in our functions; how often Python waits for the compiler is up to the clock."""
    graph, count = chain(operators), 0

    def note(frame: FrameType, event: str, value: object) -> None:
        nonlocal count
        count += event in ("call", "c_call") and frame.f_code.co_filename.startswith(OURS)

    sys.setprofile(note)
    try:
        rendered(check(graph, target, try_remedies=False))
    finally:
        sys.setprofile(None)
    return count


def rendered(report: CheckReport) -> None:
    render_terminal(report, TerminalStyle(width=80, color=False, all_operators=True, steps=True))
    render_json(report)
    render_markdown(report)
    render_html(report)


@pytest.mark.parametrize("target", ["ethos-u55-128", "cortex-m55"])
def test_twice_the_operators_are_twice_the_work(target: str) -> None:
    calls(20, target)  # what is imported and kept at first use
    small, middle, large = (calls(operators, target) for operators in (60, 120, 240))
    assert large - middle < 2.2 * (middle - small)  # 2 when it grows with the model, 4 with the square of it
