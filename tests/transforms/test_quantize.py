from pathlib import Path

import numpy as np
import pytest
from models import as_file, sandwich
from msgspec.structs import replace

import mlia
from mlia.errors import NotQuantizedError, TransformError
from mlia.graph.graph import Graph, Quantization, Tensor
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.results import Compatibility
from mlia.testing import Sketch
from mlia.transforms import child
from mlia.transforms.calibration import synthetic_calibration
from mlia.transforms.float_weights import with_float_weights
from mlia.transforms.interpreter import infer_shapes, outputs
from mlia.transforms.quantize import quantize
from mlia.transforms.shapes import with_input_shapes


def small(name: str = "small") -> Graph:
    net = Sketch(name)
    x = net.input("image", (1, 16, 16, 3))
    x = net.convolution(x, filters=8, kernel=(3, 3), stride=(2, 2), name="conv")
    x = net.depthwise(x, name="depthwise")
    x = net.average_pool(x, kernel=(8, 8), name="pool")
    x = net.reshape(x, (1, 8), name="flatten")
    x = net.fully_connected(x, units=4, name="dense")
    return read_tflite(write_tflite(net.graph([net.softmax(x, name="classes")])))


@pytest.mark.parametrize("activations", ["int8", "int16"])
def test_a_float_model_becomes_integer_throughout(activations: str) -> None:
    graph = small()
    assert graph.computes_in_float
    made = quantize(graph, synthetic_calibration(graph), activations=activations)
    assert not made.graph.computes_in_float
    tensors = made.graph.main.tensors
    assert [tensors[index].dtype for index in (*made.graph.main.inputs, *made.graph.main.outputs)] == [activations] * 2
    assert [operator.kind for operator in made.graph.operators] == [operator.kind for operator in graph.operators]
    names = [made.graph.main.operator_name(operator) for operator in made.graph.operators]
    assert names == ["conv", "depthwise", "pool", "flatten", "dense", "classes"]
    weights = tensors[made.graph.operators[0].inputs[1]]
    assert weights.dtype == "int8"
    assert weights.quantization is not None
    assert len(weights.quantization.scale) == 8
    assert made.fidelity.is_synthetic
    (output,) = made.fidelity.outputs
    assert 0 < output.relative_error < 0.1
    assert output.sqnr_db is not None
    assert output.sqnr_db > 20
    assert {tensor.name for tensor in made.fidelity.tensors} >= {"conv", "depthwise", "dense"}


def test_wider_activations_are_closer() -> None:
    graph = small()
    calibration = synthetic_calibration(graph)
    errors = [
        quantize(graph, calibration, activations=kind).fidelity.outputs[0].relative_error for kind in ("int8", "int16")
    ]
    assert errors[1] < errors[0]


def test_one_scale_for_fully_connected_weights() -> None:
    graph = small()
    scales = []
    for per_tensor_fc in (False, True):
        made = quantize(graph, synthetic_calibration(graph), per_tensor_fc=per_tensor_fc).graph
        dense = next(operator for operator in made.operators if operator.kind == "FULLY_CONNECTED")
        quantization = made.main.tensors[dense.inputs[1]].quantization
        assert quantization is not None
        scales.append(len(quantization.scale))
    assert scales == [4, 1]


def test_the_same_input_gives_the_same_bytes() -> None:
    graph = small()
    made = [quantize(graph, synthetic_calibration(graph)).graph.content for _ in range(2)]
    assert made[0] == made[1]


def dense(net: Sketch, x: int, weights: int) -> Graph:
    options = {"fused_activation_function": "NONE"}
    table = "FullyConnectedOptions"
    return net.graph(
        [net.operator("FULLY_CONNECTED", [x, weights, -1], (1, 4), "y", options_table=table, options=options)]
    )


def as_float16() -> Graph:
    """The weights as float16 behind DEQUANTIZE, as TensorFlow's converter stores them."""
    net = Sketch("half")
    x = net.input("x", (1, 8))
    weights = net.constant("w16", np.random.default_rng(0).normal(size=(4, 8)).astype(np.float16))
    wide = net.operator("DEQUANTIZE", [weights], (4, 8), "w32", dtype="float32", options_table="DequantizeOptions")
    return dense(net, x, wide)


def as_hybrid() -> Graph:
    """Float activations with int8 weights, as dynamic-range quantization leaves them."""
    net = Sketch("hybrid")
    x = net.input("x", (1, 8))
    codes = np.random.default_rng(0).integers(-127, 128, (4, 8)).astype(np.int8)
    return dense(net, x, net.constant("w8", codes, Quantization((0.01,), (0,))))


@pytest.mark.parametrize("graph", [as_float16(), as_hybrid()], ids=["float16", "hybrid"])
def test_narrow_weights_of_float_models_are_widened_first(graph: Graph) -> None:
    graph = read_tflite(write_tflite(graph))
    assert graph.computes_in_float
    wide, count = with_float_weights(graph)
    assert count == 1
    (operator,) = wide.operators
    assert operator.kind == "FULLY_CONNECTED"
    assert wide.main.tensors[operator.inputs[1]].dtype == "float32"
    made = quantize(graph, synthetic_calibration(graph))
    assert made.changes[0].startswith("1 narrow")
    assert made.fidelity.outputs[0].relative_error < 0.1


def test_widened_weights_are_scale_times_code() -> None:
    graph = read_tflite(write_tflite(as_hybrid()))
    before = graph.main.tensors[graph.operators[0].inputs[1]]
    wide, _ = with_float_weights(graph)
    after = wide.main.tensors[wide.operators[0].inputs[1]]
    codes = np.frombuffer(before.data, np.int8).astype(np.float32)
    assert np.allclose(np.frombuffer(after.data, np.float32), codes * 0.01)


def with_division() -> Graph:
    net = Sketch("division")
    x = net.convolution(net.input("x", (1, 8, 8, 3)), filters=4, name="conv")
    two = net.constant("two", np.full((1, 8, 8, 4), 2, np.float32))
    options = {"fused_activation_function": "NONE"}
    return read_tflite(
        write_tflite(
            net.graph([net.operator("DIV", [x, two], (1, 8, 8, 4), "div", options_table="DivOptions", options=options)])
        )
    )


def test_the_second_quantizer_knows_more_operators() -> None:
    pytest.importorskip("litert_quantizer")
    graph = with_division()
    made = quantize(graph, synthetic_calibration(graph))
    assert made.quantizer == "litert-quantizer"
    assert made.fidelity.outputs[0].relative_error < 0.05
    assert not made.graph.computes_in_float


def test_what_no_quantizer_takes_is_said() -> None:
    net = Sketch("odd")
    x = net.input("x", (1, 8))
    graph = read_tflite(write_tflite(net.graph([net.operator("CUSTOM", [x], (1, 8), "odd", custom_code="Mystery")])))
    with pytest.raises(TransformError, match=r"no quantizer takes the model.*--no-quantize") as told:
        quantize(graph, synthetic_calibration(graph))
    assert "(quantizers run the model, and LiteRT has no custom operator Mystery)" in str(told.value)


def test_operators_of_tensorflow_are_named_in_one_sentence() -> None:
    net = Sketch("flex")
    x = net.input("x", (1, 8))
    for code in ("FlexErf", "FlexAsin", "FlexErf"):
        x = net.operator("CUSTOM", [x], (1, 8), code.lower(), custom_code=code)
    graph = read_tflite(write_tflite(net.graph([x])))
    with pytest.raises(NotQuantizedError) as told:
        quantize(graph, synthetic_calibration(graph))
    assert told.value.reason == (
        "quantizers run the model, and LiteRT does not come with TensorFlow's own operators: FlexErf, FlexAsin"
    )


def test_a_quantizer_that_dies_is_the_one_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    child.abandon()
    monkeypatch.setattr(child.sys, "executable", "/bin/false")
    graph = small()
    with pytest.raises(NotQuantizedError) as told:
        quantize(graph, synthetic_calibration(graph))
    assert told.value.reason.startswith("the quantizer failed: ")


def test_a_child_that_dies_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    child.abandon()
    monkeypatch.setattr(child.sys, "executable", "/bin/false")
    with pytest.raises(TransformError, match="failed"):
        child.call(infer_shapes, as_file(sandwich("ABS")), [])


def test_unsigned_inputs_and_outputs_are_real_numbers_too() -> None:
    """Tools of the time before int8 leave uint8 at both ends, with a QUANTIZE behind and before it."""
    unsigned, signed = Quantization((0.02,), (100,)), Quantization((0.02,), (-28,))
    net = Sketch("unsigned")
    x = net.input("x", (1, 6), "uint8", unsigned)
    x = net.operator("QUANTIZE", [x], (1, 6), "in", dtype="int8", quantization=signed)
    x = net.operator("RELU", [x], (1, 6), "relu", quantization=signed)
    x = net.operator("QUANTIZE", [x], (1, 6), "out", dtype="uint8", quantization=unsigned)
    content = write_tflite(net.graph([x]))
    given = np.array([[[-2.0, -1.3, -0.02, 0.02, 1.3, 3.1]], [[9.0, -9.0, 0.0, 0.5, 1.0, 1.5]]], np.float32)
    (found,) = child.call(outputs, content, [given])
    assert np.allclose(found, np.clip(given, 0, 0.02 * 155), atol=1e-6)


def test_open_shapes_are_fixed() -> None:
    graph = small()
    image, *rest = graph.main.tensors
    opened = replace(image, shape_signature=(-1, 16, 16, 3))
    graph = read_tflite(write_tflite(replace(graph, subgraphs=(replace(graph.main, tensors=(opened, *rest)),))))
    fixed = with_input_shapes(graph, {"": (1, 16, 16, 3)})
    assert not fixed.main.tensors[0].is_dynamic
    with pytest.raises(TransformError, match=r"'image' is \?x16x16x3 and cannot be 1x8x8x3"):
        with_input_shapes(graph, {"image": (1, 8, 8, 3)})
    with pytest.raises(TransformError, match="no input 'picture'"):
        with_input_shapes(graph, {"picture": (1, 16, 16, 3)})
    with pytest.raises(TransformError, match="does not work with inputs of 3x16x16x3"):
        with_input_shapes(graph, {"image": (3, 16, 16, 3)})  # flattened to one row by a constant


def test_convert_from_python(tmp_path: Path) -> None:
    source, target = tmp_path / "float.tflite", tmp_path / "int8.tflite"
    source.write_bytes(write_tflite(small()))
    data = np.random.default_rng(0).normal(size=(20, 16, 16, 3))
    np.savez(tmp_path / "data.npz", x=data, labels=np.zeros(20))
    converted = mlia.convert(source, calibration=tmp_path / "data.npz")
    converted.save(target)
    conversion = converted.report.conversion
    assert conversion.calibration == "data.npz (16 samples, 4 more held out)"
    assert conversion.fidelity is not None
    assert not conversion.fidelity.is_synthetic
    assert conversion.fidelity.quantized_accuracy is not None
    assert not read_tflite(target.read_bytes()).computes_in_float
    assert mlia.convert(source, quantize=False).graph.computes_in_float
    with pytest.raises(TransformError, match="quantized already"):
        mlia.convert(target)


def test_probabilities_near_zero_are_no_other_model() -> None:
    net = Sketch("detector")
    x = net.input("image", (1, 8, 8, 3))
    scores = net.unary(
        "LOGISTIC", net.convolution(x, filters=2, kernel=(1, 1), activation="NONE", name="conv"), "scores"
    )
    graph = read_tflite(write_tflite(net.graph([scores])))
    bias = next(op for op in graph.operators if op.kind == "CONV_2D").inputs[2]
    tensors = list(graph.main.tensors)
    tensors[bias] = replace(tensors[bias], data=memoryview(np.full(2, -9, np.float32).tobytes()))
    graph = read_tflite(write_tflite(replace(graph, subgraphs=(replace(graph.main, tensors=tuple(tensors)),))))
    made = quantize(graph, synthetic_calibration(graph))
    assert made.fidelity.outputs[0].relative_error == pytest.approx(1, abs=0.2)  # which is told
    assert not made.graph.computes_in_float


def test_a_quantizer_that_fails_on_the_model_is_said() -> None:
    pytest.importorskip("litert_quantizer")
    net = Sketch("nameless")  # names are not required, but that quantizer takes them for granted
    x = net.input("x", (1, 8))
    graph = read_tflite(write_tflite(net.graph([net.operator("RELU_0_TO_1", [x], (1, 8), "")])))
    with pytest.raises(TransformError, match=r"no quantizer takes the model.*litert-quantizer: it fails on this model"):
        quantize(graph, synthetic_calibration(graph))


def test_check_quantizes_unless_told_not_to(tmp_path: Path) -> None:
    source = tmp_path / "float.tflite"
    source.write_bytes(write_tflite(small()))
    report = mlia.check(source, "ethos-u55-128")
    assert report.model.conversion is not None
    assert "synthetic" in report.model.conversion.calibration
    result = report.targets[0].results[0].compatibility
    assert isinstance(result, Compatibility)
    assert result.npu_percent == 100
    plain = mlia.check(source, "ethos-u55-128", quantize=False)
    assert plain.model.conversion is None
    result = plain.targets[0].results[0].compatibility
    assert isinstance(result, Compatibility)
    assert result.npu_percent == 0


def test_quantized_and_mixed_models_are_taken_as_they_are(sample: Path) -> None:
    assert not read_tflite(sample.read_bytes()).computes_in_float
    mixed = sandwich("ABS")
    tensors = (*mixed.main.tensors[:-1], Tensor("last", (1, 16, 16, 8), "float32"))
    assert not replace(mixed, subgraphs=(replace(mixed.main, tensors=tensors),)).computes_in_float
