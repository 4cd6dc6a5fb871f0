from pathlib import Path

import numpy as np
import pytest
from conftest import real_models

from mlia.errors import TransformError
from mlia.graph.graph import Graph
from mlia.graph.tflite import read_tflite
from mlia.transforms.calibration import synthetic_calibration
from mlia.transforms.child import call
from mlia.transforms.dequantize import can_be_requantized, dequantized, requantized
from mlia.transforms.interpreter import outputs

INTEGER = [path for path in real_models() if "float" not in path.name and "person_detect" not in path.name]


@pytest.mark.parametrize("path", INTEGER, ids=lambda path: path.stem)
def test_to_float_and_back_gives_the_same_codes(path: Path) -> None:
    graph = read_tflite(path.read_bytes())
    if graph.computes_in_float:
        pytest.skip("a float model")
    if "lstm" in path.stem or len(graph.subgraphs) > 1:
        with pytest.raises(TransformError, match=r"with .* cannot be taken back to float"):
            dequantized(graph)
        return
    floating = dequantized(graph)
    assert floating.computes_in_float
    assert all(tensor.dtype != "int8" for tensor in floating.main.tensors)
    if not can_be_requantized(graph):
        return
    again = requantized(floating, graph)
    for before, after in zip(graph.main.tensors, again.main.tensors, strict=True):
        assert (before.name, before.dtype, before.shape) == (after.name, after.dtype, after.shape)
        assert before.data == after.data


def test_the_float_model_computes_what_the_integer_one_does(sample: Path) -> None:
    graph = read_tflite(sample.read_bytes())
    floating = dequantized(graph)
    samples = synthetic_calibration(floating, 16).held_out
    expected, found = (call(outputs, bytes(each.content), samples)[0] for each in (graph, floating))
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)


def test_a_range_that_is_not_known_is_refused(sample: Path) -> None:
    graph = read_tflite(sample.read_bytes())
    floating = dequantized(graph)
    with pytest.raises(TransformError, match="has no range for"):
        requantized(floating, _renamed(graph))


def _renamed(graph: Graph) -> Graph:
    from mlia.graph.tflite_writer import with_plain_names

    return with_plain_names(graph)
