"""LSTMs whose cells grow beyond what LiteRT's tanh knows."""

import numpy as np
import pytest
from msgspec.structs import replace

import mlia
from mlia.graph.formats.keras import build_graph
from mlia.graph.formats.keras_model import KerasModel
from mlia.graph.graph import Graph, Tensor
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.simulator.differences import WIDEST_CELL
from mlia.transforms.calibration import synthetic_calibration
from mlia.transforms.cells import with_narrow_cells
from mlia.transforms.quantize import quantize
from mlia.verification import Outcome

UNITS, STEPS = 4, 100


def lstm(growth: float) -> Graph:
    """A cell that keeps what it has, and adds up to 1 times `growth` in each of 100 steps."""
    random = np.random.default_rng(0)
    kernel = random.normal(0, 0.1, (2, 4 * UNITS)).astype(np.float32)
    state = random.normal(0, 0.1, (UNITS, 4 * UNITS)).astype(np.float32)
    bias = np.repeat(np.array([growth, 9, 2, 0.5], np.float32), UNITS)  # input, forget, cell, output
    config = {"name": "lstm", "units": UNITS, "batch_input_shape": [1, STEPS, 2], "return_sequences": True}
    layers = {
        "class_name": "Sequential",
        "config": {"name": "net", "layers": [{"class_name": "LSTM", "config": config}]},
    }
    return read_tflite(write_tflite(build_graph(KerasModel(layers, {"lstm": (kernel, state, bias)}, "Keras"))))


def cell_of(graph: Graph) -> tuple[int, Tensor]:
    (found,) = [each for each in graph.operators if each.kind == "UNIDIRECTIONAL_SEQUENCE_LSTM"]
    return found.inputs[19], graph.main.tensors[found.inputs[19]]


def with_cell(graph: Graph, scale: float) -> Graph:
    index, cell = cell_of(graph)
    assert cell.quantization is not None
    tensors = list(graph.main.tensors)
    tensors[index] = replace(cell, quantization=replace(cell.quantization, scale=(scale,)))
    return read_tflite(write_tflite(replace(graph, subgraphs=(replace(graph.main, tensors=tuple(tensors)),))))


def test_a_cell_that_grows_is_quantized_as_kernels_can_compute_it() -> None:
    graph = lstm(5)
    made = quantize(graph, synthetic_calibration(graph))
    _, cell = cell_of(made.graph)
    assert cell.quantization is not None
    assert cell.quantization.scale == (WIDEST_CELL,)
    assert made.fidelity.outputs[0].relative_error < 0.05
    report = mlia.verify(made.graph, "ethos-u55-128", samples=1)
    assert report.outputs[0].outcome in (Outcome.EXACT, Outcome.DOCUMENTED)


def test_a_wider_cell_is_a_difference_that_is_known() -> None:
    """The quantizer's own choice for this cell: LiteRT is far off, and the NPU is not."""
    graph = lstm(5)
    wide = with_cell(quantize(graph, synthetic_calibration(graph)).graph, 2**-8)
    (check,) = mlia.verify(wide, "ethos-u55-128", samples=1).outputs
    assert check.largest_codes > 16
    assert check.outcome == Outcome.DOCUMENTED
    assert "wrong for a cell beyond 64" in check.reason


@pytest.mark.parametrize("scale", [WIDEST_CELL, 2**-11])
def test_cells_that_kernels_can_compute_stay(scale: float) -> None:
    graph = lstm(5)
    content = with_cell(quantize(graph, synthetic_calibration(graph)).graph, scale).file
    assert with_narrow_cells(content) == content
