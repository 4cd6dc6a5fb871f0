"""What a report says of the user's own file, where the rest of it is about a quantized copy."""

from pathlib import Path

import msgspec
import numpy
import pytest

from mlia.graph.graph import Graph, Quantization
from mlia.graph.tflite_writer import write_tflite
from mlia.pipeline.check.check import check
from mlia.pipeline.check.untouched import as_it_is
from mlia.render.check.markdown import render_markdown
from mlia.render.check.terminal import TerminalStyle, render_terminal
from mlia.render.html import render_html
from mlia.render.json import render_json
from mlia.targets.profiles import load_target
from mlia.testing import IntegerSketch, Sketch

COPY = "What follows is about a copy quantized to int8."


def floating() -> Graph:
    net = Sketch("float")
    return net.graph([net.fully_connected(net.input("x", (1, 16)), units=4)])


def hybrid() -> Graph:
    """Weights in int8, all else in float, as the converter's dynamic range quantization leaves it."""
    net = Sketch("hybrid")
    x = net.input("x", (1, 16))
    weights = numpy.arange(-32, 32, dtype=numpy.int8).reshape(4, 16)
    codes = net.constant("weights", weights, Quantization((0.01,), (0,)))
    options = {"fused_activation_function": "NONE"}
    kind, table = "FULLY_CONNECTED", "FullyConnectedOptions"
    return net.graph([net.operator(kind, [x, codes, -1], (1, 4), "y", options_table=table, options=options)])


def test_a_float_file_starts_on_a_cortex_m_and_says_so() -> None:
    assert as_it_is(floating(), load_target("cortex-m4")) == (
        "As it is, this file starts on cortex-m4 and computes in float."
    )


def test_hybrid_weights_do_not_start_on_a_cortex_m() -> None:
    sentence = as_it_is(hybrid(), load_target("cortex-m4"))
    assert sentence.startswith("As it is, this file does not start on cortex-m4: TFLite Micro takes ")
    assert "not int8" in sentence
    assert "FULLY_CONNECTED" in sentence


def test_nothing_of_a_float_file_is_on_an_npu_and_its_host_may_not_start_it_either() -> None:
    target = load_target("ethos-u55-128")
    nothing = "As it is, nothing of this file runs on the NPU of ethos-u55-128: it computes in float. The Cortex-M55"
    assert as_it_is(floating(), target) == f"{nothing} beside it does that."
    assert as_it_is(hybrid(), target).startswith(f"{nothing} beside it cannot start it: TFLite Micro takes ")


def test_the_sentence_is_the_first_after_the_model_in_every_format(tmp_path: Path) -> None:
    path = tmp_path / "hybrid.tflite"
    path.write_bytes(write_tflite(hybrid()))
    report = check(path, ["cortex-m4", "ethos-u55-128"], try_remedies=False)
    sentences = [entry.as_it_is for entry in report.targets]
    assert all(sentences)
    lines = " ".join(render_terminal(report, TerminalStyle(width=400)).split("\n"))
    assert lines.index(COPY) < lines.index("quantized   ")
    markdown = render_markdown(report)
    assert markdown.index(COPY) < markdown.index("| target |")
    html = render_html(report)
    assert html.index(COPY) < html.index("Targets side by side")
    for sentence in sentences:
        assert sentence in lines
        assert sentence in markdown.replace("&#95;", "_")
        assert sentence in html
    targets = msgspec.json.decode(render_json(report))["targets"]
    assert [entry["as_it_is"] for entry in targets] == sentences


@pytest.mark.parametrize("quantize", [True, False])
def test_nothing_is_said_where_the_report_is_about_the_file_itself(tmp_path: Path, quantize: bool) -> None:
    net = IntegerSketch("int8")
    graph = net.graph([net.dense(net.image("x", (1, 16)), 4)]) if quantize else floating()
    path = tmp_path / "model.tflite"
    path.write_bytes(write_tflite(graph))
    report = check(path, "cortex-m4", quantize=quantize, try_remedies=False)
    assert report.targets[0].as_it_is == ""
    assert COPY not in render_terminal(report, TerminalStyle())
