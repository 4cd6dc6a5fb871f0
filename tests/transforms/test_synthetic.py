"""Synthetic samples are drawn when they are read, and are the same numbers as if all were drawn at once."""

import pickle
import tracemalloc

import numpy as np
import pytest
from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Quantization, Tensor
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import Sketch
from mlia.transforms import synthetic
from mlia.transforms.apply import measured
from mlia.transforms.calibration import synthetic_calibration
from mlia.transforms.synthetic import draw

INPUTS = [
    Tensor("float", (1, 7, 3), "float32"),
    Tensor("codes", (1, 5), "int8", Quantization((0.05,), (3,))),
    Tensor("indexes", (1, 3), "int32"),
    Tensor("truth", (3,), "bool"),
    Tensor("scalar", (), "int64"),
    Tensor("large", (1, 1100, 1000), "float16"),
]


def at_once(tensor: Tensor, random: np.random.Generator, samples: int) -> np.ndarray:
    shape = (samples, *tensor.shape)
    if tensor.quantization is not None:
        low, high = (-128 - 3) * 0.05, (127 - 3) * 0.05
        return np.clip(random.normal((low + high) / 2, (high - low) / 6, shape), low, high).astype(np.float32)
    if tensor.dtype.startswith("float"):
        return random.normal(0, 1, shape).astype(np.float32)
    return random.integers(0, 2 if tensor.dtype == "bool" else 8, shape).astype(tensor.dtype)


def test_drawn_one_by_one_they_are_what_they_are_at_once_also_in_a_child() -> None:
    random = np.random.default_rng(7)
    expected = [at_once(tensor, random, 5) for tensor in (*INPUTS, *INPUTS)]
    calibrating, held_out = pickle.loads(pickle.dumps(draw(INPUTS, 5, 7)))
    for stack, values in zip((*calibrating, *held_out), expected, strict=True):
        assert (stack.shape, len(stack)) == (values.shape, 5)
        assert stack[:].dtype == values.dtype
        assert (np.stack([*stack]) == values).all()
        for index in (slice(1), slice(None, None, 2), [3, 1, 3], 2, -1):
            assert (stack[index] == values[index]).all()
    assert len(pickle.dumps((calibrating, held_out))) < 20_000


def pooled(side: int) -> Graph:
    net = Sketch("pooled")
    return net.graph([net.average_pool(net.input("image", (1, side, side, 4)), kernel=(4, 4))])


def test_of_huge_inputs_there_are_fewer_and_the_report_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = pooled(1024)  # 16 MiB for a sample
    tracemalloc.start()
    found = synthetic_calibration(graph, 8)
    shapes = [sample.shape for sample in found.calibrating[0]]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert shapes == [(1, 1024, 1024, 4)] * 8
    assert peak < 80 << 20  # two samples, and pieces in float64
    monkeypatch.setattr(synthetic, "MOST_BYTES", 50 << 20)
    few = synthetic_calibration(graph)
    assert few.description == "synthetic (3 seeded samples, because one is 16 MiB)"
    assert len(few.held_out[0]) == 3
    monkeypatch.setattr(synthetic, "LARGEST_BYTES", 1 << 20)
    with pytest.raises(TransformError, match="take 16 MiB for one sample"):
        synthetic_calibration(graph)


def test_nothing_is_made_up_for_texts() -> None:
    graph = pooled(4)
    tensors = tuple(replace(tensor, dtype="string") for tensor in graph.main.tensors)
    with pytest.raises(TransformError, match="no samples can be made up for 'image', which is string"):
        synthetic_calibration(replace(graph, subgraphs=(replace(graph.main, tensors=tensors),)))


def test_outputs_that_are_kept_are_few_where_they_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlia.transforms.apply.MOST_OUTPUT_BYTES", 5 * 8 * 16)
    graph = read_tflite(write_tflite(pooled(8)))
    assert measured(graph, synthetic_calibration(graph)).expected[0].shape == (5, 1, 2, 2, 4)
