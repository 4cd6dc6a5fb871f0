"""Networks that were never trained: what fades to nothing gets nominal ranges, for looking at and for nothing else."""

from pathlib import Path

import numpy
import pytest
from msgspec.structs import replace

import mlia
from mlia.errors import TransformError
from mlia.graph.graph import Graph
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.render.check.terminal import TerminalStyle, render_terminal
from mlia.results import Compatibility, Performance
from mlia.testing import Sketch
from mlia.transforms.calibration import synthetic_calibration
from mlia.transforms.constants import as_data, real, stored, with_constants
from mlia.transforms.nominal import NOMINAL_STEP, with_nominal_ranges
from mlia.transforms.quantize import quantize


def network(fading: float, activation: str = "RELU6") -> Graph:
    """Convolutions whose weights are `fading` times what keeps the size of activations; no biases, as at first."""
    net = Sketch("deep")
    x = net.input("image", (1, 8, 8, 4))
    for number in range(4):
        x = net.convolution(x, filters=8, kernel=(3, 3), activation=activation, name=f"conv_{number}")
        x = net.depthwise(x, activation=activation, name=f"depthwise_{number}")
    x = net.reshape(net.average_pool(x, kernel=(8, 8)), (1, 8))
    graph = read_tflite(write_tflite(net.graph([net.softmax(net.fully_connected(x, units=4, name="dense"))])))
    contents = {}
    for operator in graph.operators:
        if operator.kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            _, weights, bias = operator.inputs
            contents[weights] = stored(graph.main.tensors[weights]) * fading
            contents[bias] = numpy.zeros(graph.main.tensors[bias].shape, numpy.float32)
    return with_constants(graph, contents)


@pytest.mark.parametrize("activation", ["RELU6", "RELU"])
def test_a_network_that_fades_is_checked_as_if_it_did_not(tmp_path: Path, activation: str) -> None:
    reports = []
    for fading in (1.0, 1e-2):
        path = tmp_path / f"{fading}.tflite"
        path.write_bytes(write_tflite(network(fading, activation)))
        reports.append(mlia.check(path, "ethos-u55-128", try_remedies=False))
    sound, faint = reports
    results = [report.targets[0].results[0] for report in reports]
    places = [result.compatibility for result in results]
    assert all(isinstance(each, Compatibility) and each.npu_percent == 100 for each in places)
    times = [result.performance for result in results]
    assert isinstance(times[0], Performance)
    assert isinstance(times[1], Performance)
    # Scales are no part of the work; how weights of other rounding compress is.
    assert times[1].npu_cycles == times[0].npu_cycles
    assert times[1].arena_bytes == times[0].arena_bytes
    if activation == "RELU6":  # its limit of 6 has no code of 32 bits; a RELU has no limit, and its network runs
        text = " ".join(render_terminal(faint, TerminalStyle(width=400)).split())
        assert "are all but zero, as in a network that was never trained, and have nominal ranges" in text
        assert faint.model.conversion is not None
        assert faint.model.conversion.fidelity is None
    assert "nominal" not in render_terminal(sound, TerminalStyle(width=400))


def test_what_is_deployed_gets_no_nominal_ranges(tmp_path: Path) -> None:
    path = tmp_path / "faint.tflite"
    path.write_bytes(write_tflite(network(1e-2)))
    with pytest.raises(TransformError, match="activations are all but zero, as in a network that was never trained"):
        mlia.convert(path)
    report = mlia.check(path, "ethos-u55-128", scope=mlia.Scope(fix=tmp_path / "fixed.tflite"))
    assert report.model.conversion is not None
    assert report.model.conversion.kept_in_float.startswith("kept in float: ")
    assert "never trained" in report.model.conversion.kept_in_float


def test_biases_mean_the_same_and_scales_that_were_equal_stay_equal() -> None:
    graph = network(1e-2)
    made = quantize(graph, synthetic_calibration(graph), is_nominal_enough=True)
    assert made.nominal
    activations = [each for each in made.graph.main.tensors if not each.is_constant and each.quantization]
    assert min(each.quantization.scale[0] for each in activations if each.quantization) >= NOMINAL_STEP
    for operator in made.graph.operators:
        if operator.kind == "RESHAPE":
            source, output = (made.graph.main.tensors[index] for index in (operator.inputs[0], operator.outputs[0]))
            assert source.quantization == output.quantization
        if operator.kind == "CONV_2D":
            source, weights, bias = (made.graph.main.tensors[index] for index in operator.inputs)
            assert source.quantization
            assert weights.quantization
            assert bias.quantization
            expected = numpy.array(weights.quantization.scale) * source.quantization.scale[0]
            assert bias.quantization.scale == pytest.approx(expected.tolist(), rel=1e-6)


def test_a_bias_keeps_its_meaning() -> None:
    graph = network(1e-2)
    made = quantize(graph, synthetic_calibration(graph), is_nominal_enough=True).graph
    first = next(each for each in made.operators if each.kind == "CONV_2D")
    source, index = first.inputs[0], first.inputs[2]
    tensors = list(made.main.tensors)
    was, output = (tensors[each].quantization for each in (source, first.outputs[0]))
    assert was
    assert output
    tensors[index] = replace(tensors[index], data=as_data(numpy.full(tensors[index].shape, 1000, numpy.int32)))
    tensors[first.outputs[0]] = replace(tensors[first.outputs[0]], quantization=replace(output, scale=(1e-12,)))
    content = write_tflite(replace(made, subgraphs=(replace(made.main, tensors=tuple(tensors)),)))
    again, count = with_nominal_ranges(content)
    assert count == 1
    found = read_tflite(again)
    convolution = found.operators[first.index]
    assert found.main.tensors[convolution.inputs[0]].quantization == was
    assert numpy.allclose(real(found.main.tensors[convolution.inputs[2]]), real(tensors[index]), rtol=1e-3)


def test_a_trained_network_is_left_alone() -> None:
    graph = network(1.0)
    content = quantize(graph, synthetic_calibration(graph)).graph.file
    assert with_nominal_ranges(content) == (content, 0)
