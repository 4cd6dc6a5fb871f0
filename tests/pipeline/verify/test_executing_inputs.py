"""What is given to a model that is executed: codes, real numbers, names and shapes."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SAMPLE
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import mlia
from mlia.graph.graph import Graph, Quantization
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.pipeline.verify.verify import _samples
from mlia.testing import IntegerSketch, Sketch
from mlia.transforms.calibration import INTEGERS, fit_samples
from mlia.transforms.interpreter import ReferenceModel
from mlia.verification import Outcome

HERE = Path("in.npz")


def model(dtype: str, has_scale: bool = True) -> Graph:
    net = IntegerSketch("one")
    x = net.image("image", (1, 2), dtype) if has_scale else net.input("image", (1, 2), dtype)
    return net.graph([net.plain("RESHAPE", x, net.integers("to", 2), shape=(2,), name="out")])


def stored(graph: Graph, values: Any) -> np.ndarray:
    return np.stack([each[0] for each in fit_samples({"image": values}, graph, HERE)])


@given(st.sampled_from(INTEGERS), st.sampled_from(INTEGERS), st.booleans(), st.data())
def test_codes_stay_or_are_refused(dtype: str, given_dtype: str, has_scale: bool, data: st.DataObject) -> None:
    limits, given_limits = np.iinfo(dtype), np.iinfo(given_dtype)
    codes = data.draw(st.lists(st.integers(given_limits.min, given_limits.max), min_size=2, max_size=2))
    values = np.array([codes], given_dtype)
    if all(limits.min <= code <= limits.max for code in codes):
        found = stored(model(dtype, has_scale), values)
        assert found.dtype == dtype
        assert found.reshape(-1).tolist() == codes
    else:
        with pytest.raises(mlia.TransformError, match=f"codes from {min(codes)} to {max(codes)} for 'image'"):
            stored(model(dtype, has_scale), values)


@pytest.mark.parametrize(
    ("dtype", "has_scale", "values", "message"),
    [
        ("int8", True, np.array([[0, 255]], np.uint8), r"which is int8: give codes from -128 to 127, or real numbers"),
        ("int8", False, np.array([[0.5, 1.0]]), r"real numbers for 'image', which is int8 without a scale: give codes"),
        ("int8", True, np.array([[True, False]]), r"truth values for 'image', which is int8: give codes"),
        ("bool", False, np.array([[2, 0]]), r"codes from 0 to 2 for 'image', which is bool: give codes from 0 to 1"),
        ("string", False, np.array([[1, 0]]), r"which is string, and only numbers"),
    ],
)
def test_what_a_type_does_not_hold(dtype: str, has_scale: bool, values: np.ndarray, message: str) -> None:
    with pytest.raises(mlia.TransformError, match=message):
        stored(model(dtype, has_scale), values)


def test_real_numbers_stop_at_the_ends_of_the_range() -> None:
    assert stored(model("int8"), np.array([[-1e300, 1e308]])).reshape(-1).tolist() == [-128, 127]


def test_real_numbers_and_integers_for_real_inputs() -> None:
    net = Sketch("float")
    graph = net.graph([net.unary("RELU", net.input("image", (1, 2)), "out")])
    assert stored(graph, np.array([[300, -1]])).reshape(-1).tolist() == [300.0, -1.0]
    with pytest.raises(mlia.TransformError, match="numbers for 'image', which is float32, too large"):
        stored(graph, np.array([[1e300, 0.0]]))


def two_inputs(name: str) -> bytes:
    net = IntegerSketch("two")
    outputs = [net.filter("CONV_2D", net.image("in", (1, 4, 4, 8)), filters=8, name=name) for _ in range(2)]
    return write_tflite(net.graph([*outputs, net.plain("RELU", outputs[1], name="file")]))


def test_inputs_of_equal_names_take_an_array_each() -> None:
    graph = read_tflite(two_inputs("out"))
    first, second = np.random.default_rng(0).integers(-128, 128, (2, 1, 1, 4, 4, 8)).astype(np.int8)
    found = mlia.run(graph, "ethos-u55-128", {"in": first, "in_1": second})
    assert list(found) == ["out", "out_1", "file"]
    turned = mlia.run(graph, "ethos-u55-128", {"in": second, "in_1": first})
    assert not (found["out"] == turned["out"]).all()
    with pytest.raises(mlia.TransformError, match="no array for the input 'in_1'"):
        mlia.run(graph, "ethos-u55-128", {"in": first, "other": second})


def open_model(shape: tuple[int, ...], signature: tuple[int, ...]) -> bytes:
    """A convolution whose input and output have open sizes, and others stored."""
    net = IntegerSketch("open")
    outputs = [net.filter("CONV_2D", net.image("in", shape), filters=4, name="out")]
    graph = net.graph(outputs)
    main = graph.main
    tensors = tuple(
        replace(tensor, shape_signature=signature) if tensor.name in ("in", "out") else tensor
        for tensor in main.tensors
    )
    return write_tflite(replace(graph, subgraphs=(replace(main, tensors=tensors),)))


@pytest.mark.parametrize(
    ("shape", "signature", "given_shape"),
    [
        ((1, 8, 8, 4), (-1, -1, -1, 4), (1, 1, 1, 4)),
        ((2, 8, 8, 4), (-1, 8, 8, 4), (1, 8, 8, 4)),
        ((1, 8, 8, 4), (1, -1, 8, 4), (1, 1, 8, 4)),
    ],
)
def test_open_sizes_that_are_stored_otherwise(
    shape: tuple[int, ...], signature: tuple[int, ...], given_shape: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / "open.tflite"
    path.write_bytes(open_model(shape, signature))
    found = mlia.verify(path, "ethos-u55-128", samples=1)
    assert [(each.outcome, each.elements) for each in found.outputs] == [(Outcome.EXACT, 5 * math.prod(given_shape))]
    assert any("is dynamic" in note for note in found.notes)
    samples = np.zeros((2, *given_shape), np.int8)
    assert mlia.run(path, "ethos-u55-128", {"in": samples})["out"].shape == (2, *given_shape)
    wider = mlia.verify(path, "ethos-u55-128", samples=1, options=mlia.Options(input_shapes={"in": shape}))
    assert wider.outputs[0].elements == 5 * math.prod(shape)


def test_open_sizes_that_cannot_be_one() -> None:
    net = IntegerSketch("open")
    x = net.image("in", (1, 8, 8, 4))
    out = net.plain("RESHAPE", x, net.integers("to", 1, 256), shape=(1, 256), name="out")
    graph = net.graph([out])
    tensors = tuple(
        replace(tensor, shape_signature=(1, -1, 8, 4)) if tensor.name == "in" else tensor
        for tensor in graph.main.tensors
    )
    content = write_tflite(replace(graph, subgraphs=(replace(graph.main, tensors=tensors),)))
    with pytest.raises(mlia.TransformError, match=r"inputs of 1x1x8x4 .--input-shape sets those that it leaves open"):
        mlia.verify(read_tflite(content), "ethos-u55-128")


def test_open_sizes_beside_an_operator_that_litert_does_not_have() -> None:
    net = IntegerSketch("open")
    x = net.filter("CONV_2D", net.image("in", (1, 8, 8, 4)), filters=4, name="conv")
    graph = net.graph([x, net.operator("CUSTOM", [x], (1, 8, 8, 4), "tan", custom_code="FlexTan")])
    tensors = tuple(
        replace(tensor, shape_signature=(-1, 8, 8, 4)) if tensor.name == "in" else tensor
        for tensor in graph.main.tensors
    )
    content = write_tflite(replace(graph, subgraphs=(replace(graph.main, tensors=tensors),)))
    found = mlia.verify(read_tflite(content), "ethos-u55-128", samples=1)
    assert [check.outcome for check in found.outputs] == [Outcome.EXACT, Outcome.NOT_COMPUTED]


def test_inputs_too_large_to_make_up() -> None:
    net = IntegerSketch("large")
    graph = net.graph([net.plain("RELU", net.image("in", (1 << 15, 1 << 15)), name="out")])
    with pytest.raises(mlia.TransformError, match="the input 'in' has 1,073,741,824 elements, too many to execute"):
        _samples(graph, None, 1, 0)


def test_codes_out_of_range_are_refused_before_they_are_executed() -> None:
    with pytest.raises(mlia.TransformError, match="codes from 200 to 200 for 'mfcc', which is int8"):
        mlia.run(SAMPLE, "ethos-u55-128", {"mfcc": np.full((1, 1, 49, 10, 1), 200)})


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_the_reference_of_a_sum_is_the_sum(dtype: str, scale: float) -> None:
    net = IntegerSketch("sum")
    x = net.input("in", (1, 4, 4, 4), dtype, Quantization((0.5,), (0,)))
    total = net.operator(
        "SUM", [x, net.integers("axes", 3)], (1, 4, 4, 1), "sum", quantization=Quantization((scale,), (0,)),
        options_table="ReducerOptions", options={"keep_dims": True},
    )  # fmt: skip
    codes = np.random.default_rng(0).integers(-30, 30, (1, 4, 4, 4)).astype(dtype)
    (found,) = ReferenceModel(write_tflite(net.graph([total]))).run([codes])
    wanted = codes.astype(np.float64).sum(3, keepdims=True) * 0.5 / scale
    assert np.abs(found - wanted).max() <= 0.6
