"""Quantized ONNX, as onnxruntime's quantizer writes it: QuantizeLinear and DequantizeLinear, or QLinear operators."""

from pathlib import Path
from typing import Any

import numpy
import pytest

from mlia.errors import ModelError
from mlia.graph.formats import onnx_network
from mlia.graph.formats.onnx_model import read_model
from mlia.graph.formats.onnx_qlinear import without_qlinear
from mlia.graph.formats.onnx_reference import compute, trace
from mlia.graph.graph import Graph, Quantization
from mlia.graph.load import load_model
from tests.graph.formats.onnx_models import field, model, node, run, value, write

RANDOM = numpy.random.default_rng(0)
CODES = {"uint8": numpy.uint8, "int8": numpy.int8}


class Net:
    """A quantized network under construction; every tensor has the scale and zero point that it is given."""

    def __init__(self, stored: str) -> None:
        self.stored = CODES[stored]
        self.shift = 128 if stored == "uint8" else 0
        self.nodes: list[bytes] = []
        self.constants: dict[str, numpy.ndarray] = {}

    def scales(self, name: str, scale: Any, zero: int, dtype: Any = None) -> list[str]:
        """The names of scale and zero point; the zero point is that of int8."""
        self.constants[f"{name}_scale"] = numpy.array(scale, numpy.float32)
        kind = dtype or self.stored
        shift = self.shift if kind is self.stored else 0
        self.constants[f"{name}_zero"] = numpy.full(numpy.shape(scale), zero + shift, kind)
        return [f"{name}_scale", f"{name}_zero"]

    def coded(self, name: str, scale: float, zero: int) -> str:
        """A tensor quantized and taken back."""
        ends = self.scales(name, scale, zero)
        self.nodes.append(node("QuantizeLinear", f"{name}/q", [name, *ends], f"{name}_codes"))
        self.nodes.append(node("DequantizeLinear", f"{name}/d", [f"{name}_codes", *ends], f"{name}_real"))
        return f"{name}_real"

    def weights(self, name: str, shape: tuple[int, ...], scale: Any, axis: int = 0) -> str:
        self.constants[name] = RANDOM.integers(-127, 128, shape).astype(numpy.int8)
        ends = self.scales(name, scale, 0, numpy.int8)
        self.nodes.append(node("DequantizeLinear", f"{name}/d", [name, *ends], f"{name}_real", axis=axis))
        return f"{name}_real"

    def bias(self, name: str, count: int, scale: Any) -> str:
        self.constants[name] = RANDOM.integers(-2000, 2000, count).astype(numpy.int32)
        self.constants[f"{name}_scale"] = numpy.array(scale, numpy.float32)
        ends = [name, f"{name}_scale"]
        self.nodes.append(node("DequantizeLinear", f"{name}/d", ends, f"{name}_real", axis=0))
        return f"{name}_real"

    def add(self, kind: str, name: str, inputs: list[str], **attributes: Any) -> str:
        self.nodes.append(node(kind, name, inputs, name, **attributes))
        return name


def a_network(stored: str, per_channel: bool) -> bytes:
    """Convolutions, a sum, pools, a matrix and a softmax; no two axes of the same size."""
    net = Net(stored)
    scale = numpy.linspace(0.002, 0.004, 6).astype(numpy.float32) if per_channel else numpy.float32(0.003)
    x = net.coded("x", 0.02, -3)
    w, b = net.weights("w", (6, 3, 3, 3), scale), net.bias("b", 6, scale * numpy.float32(0.02))
    a = net.coded(net.add("Conv", "stem", [x, w, b], pads=[1, 1, 1, 1], strides=[2, 2]), 0.03, -128)
    w = net.weights("v", (6, 1, 3, 3), scale)
    c = net.coded(net.add("Conv", "depthwise", [a, w], pads=[1, 1, 1, 1], group=6), 0.04, 5)
    d = net.coded(net.add("Add", "sum", [a, c]), 0.05, 10)
    d = net.coded(net.add("MaxPool", "highest", [d], kernel_shape=[2, 2], strides=[2, 2]), 0.05, 10)
    e = net.coded(net.add("Sigmoid", "gate", [d]), 0.004, -128)
    f = net.coded(net.add("Mul", "gated", [d, e]), 0.05, -30)
    g = net.coded(net.add("Concat", "both", [d, f], axis=1), 0.05, 0)
    h = net.coded(net.add("GlobalAveragePool", "mean", [g]), 0.02, 3)
    i = net.coded(net.add("Flatten", "flat", [h]), 0.02, 3)
    matrix = numpy.full(5, 0.01, numpy.float32) if per_channel else numpy.float32(0.01)
    j = net.coded(net.add("MatMul", "dense", [i, net.weights("m", (12, 5), matrix, axis=1)]), 0.1, 0)
    net.coded(net.add("Softmax", "y", [j], axis=1), 1 / 256, -128)
    return model(net.nodes, [value("x", (1, 3, 12, 16))], [value("y_real", (1, 5))], net.constants)


def theirs(content: bytes, sample: numpy.ndarray) -> numpy.ndarray:
    """What the file computes, in numpy."""
    traced = trace(without_qlinear(read_model(content)), {"x": sample})
    (name,) = traced.outputs
    return compute(traced, {"x": sample}, [name])[name]


def ours(graph: Graph, sample: numpy.ndarray) -> numpy.ndarray:
    """What the integer model computes, in real numbers."""
    start, end = (graph.main.tensors[ends[0]].quantization for ends in (graph.main.inputs, graph.main.outputs))
    assert start is not None
    assert end is not None
    image = numpy.moveaxis(sample, 1, -1) if sample.ndim == 4 else sample
    codes = numpy.clip(numpy.round(image / numpy.float32(start.scale[0])) + start.zero_point[0], -128, 127)
    (found,) = run(bytes(graph.content), codes.astype(numpy.int8))
    return (found.astype(numpy.float32) - end.zero_point[0]) * end.scale[0]


@pytest.mark.parametrize("stored", ["uint8", "int8"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_operators_between_scales_become_integers_with_those_scales(
    tmp_path: Path, stored: str, per_channel: bool
) -> None:
    content = a_network(stored, per_channel)
    graph = load_model(write(tmp_path, content))
    assert not graph.computes_in_float
    assert {tensor.dtype for tensor in graph.main.tensors} == {"int8", "int32"}
    assert "input x: float32 -> int8" in graph.provenance.added
    by_kind = {op.kind: op for op in graph.operators}
    first = graph.main.tensors[by_kind["CONV_2D"].outputs[0]].quantization
    assert first == Quantization((numpy.float32(0.03),), (-128,))
    weights = graph.main.tensors[by_kind["DEPTHWISE_CONV_2D"].inputs[1]].quantization
    assert weights is not None
    assert len(weights.scale) == (6 if per_channel else 1)
    for seed in range(3):
        sample = numpy.random.default_rng(seed).normal(0, 1, (1, 3, 12, 16)).astype(numpy.float32)
        assert abs(ours(graph, sample) - theirs(content, sample)).max() <= 3 / 256


def test_another_operator_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLIA_HOME", str(tmp_path))
    monkeypatch.setitem(onnx_network._LAYERS, "Sigmoid", onnx_network._LAYERS["Tanh"])
    with pytest.raises(ModelError, match=r"first operator that differs is Sigmoid \(node 'gate'\), by \d+ codes"):
        load_model(write(tmp_path, a_network("int8", False)))


def test_what_tflite_does_not_compute_in_integers_stays_in_float_and_is_told(tmp_path: Path) -> None:
    net = Net("uint8")
    y = net.coded(net.add("Sin", "wave", [net.coded("x", 0.02, 0)]), 0.01, 0)
    net.coded(net.add("Relu", "end", [y]), 0.01, 0)
    content = model(net.nodes, [value("x", (1, 8))], [value("end_real", (1, 8))], net.constants)
    graph = load_model(write(tmp_path, content))
    assert [op.kind for op in graph.operators] == ["DEQUANTIZE", "SIN", "QUANTIZE", "RELU"]
    assert "wave (SIN) stays in float" in graph.provenance.added


def test_weights_around_another_number_are_rounded_anew_and_told(tmp_path: Path) -> None:
    net = Net("uint8")
    x = net.coded("x", 0.02, 0)
    net.constants["w"] = RANDOM.integers(0, 256, (12, 5)).astype(numpy.uint8)
    ends = net.scales("w", 0.01, -100)
    net.nodes.append(node("DequantizeLinear", "w/d", ["w", *ends], "w_real"))
    net.coded(net.add("MatMul", "dense", [x, "w_real"]), 0.1, 0)
    content = model(net.nodes, [value("x", (1, 12))], [value("dense_real", (1, 5))], net.constants)
    graph = load_model(write(tmp_path, content))
    assert "weights of dense: rounded anew, around 0" in graph.provenance.added
    weights = graph.main.tensors[graph.operators[0].inputs[1]]
    assert weights.quantization is not None
    assert weights.quantization.zero_point == (0,)
    sample = numpy.random.default_rng(1).normal(0, 1, (1, 12)).astype(numpy.float32)
    assert abs(ours(graph, sample) - theirs(content, sample)).max() <= 0.1


def microsoft(content: bytes) -> bytes:
    """An operator of com.microsoft instead of ONNX's own."""
    return content + field(7, "com.microsoft")


@pytest.mark.parametrize("stored", ["uint8", "int8"])
def test_quantized_operators_become_integers(tmp_path: Path, stored: str) -> None:
    net = Net(stored)
    x, a, s, p, c, y = (
        net.scales(name, scale, zero)
        for name, scale, zero in (
            ("x", 0.02, 0), ("a", 0.03, -20), ("s", 0.05, 3), ("p", 0.05, 3), ("c", 0.05, 0), ("y", 0.1, 0),
        )
    )  # fmt: skip
    scale = numpy.linspace(0.002, 0.004, 6).astype(numpy.float32)
    kernel, matrix = net.scales("w", scale, 0, numpy.int8), net.scales("m", numpy.float32(0.01), 0, numpy.int8)
    net.constants["w"] = RANDOM.integers(-127, 128, (6, 3, 3, 3)).astype(numpy.int8)
    net.constants["b"] = RANDOM.integers(-2000, 2000, 6).astype(numpy.int32)
    net.constants["m"] = RANDOM.integers(-127, 128, (5, 12)).astype(numpy.int8)
    net.constants["n"] = RANDOM.integers(-2000, 2000, 5).astype(numpy.int32)
    nodes = [
        node("QuantizeLinear", "start", ["x", *x], "x_codes"),
        node("QLinearConv", "conv", ["x_codes", *x, "w", *kernel, *a, "b"], "a_codes", pads=[1, 1, 1, 1]),
        microsoft(node("QLinearAdd", "sum", ["a_codes", *a, "a_codes", *a, *s], "s_codes")),
        node("MaxPool", "highest", ["s_codes"], "h_codes", kernel_shape=[2, 2], strides=[2, 2]),
        microsoft(node("QLinearGlobalAveragePool", "mean", ["h_codes", *s, *p], "p_codes")),
        microsoft(node("QLinearConcat", "both", [*c, "p_codes", *p, "p_codes", *p], "c_codes", axis=1)),
        node("Flatten", "flat", ["c_codes"], "f_codes"),
        microsoft(node("QGemm", "dense", ["f_codes", *c, "m", *matrix, "n", *y], "y_codes", transB=1)),
        node("DequantizeLinear", "end", ["y_codes", *y], "y"),
    ]
    content = model(nodes, [value("x", (1, 3, 8, 10))], [value("y", (1, 5))], net.constants)
    graph = load_model(write(tmp_path, content))
    assert [op.kind for op in graph.operators if op.kind != "QUANTIZE"] == [
        "CONV_2D", "ADD", "MAX_POOL_2D", "MEAN", "CONCATENATION", "RESHAPE", "FULLY_CONNECTED",
    ]  # fmt: skip
    sample = numpy.random.default_rng(1).normal(0, 1, (1, 3, 8, 10)).astype(numpy.float32)
    assert abs(ours(graph, sample) - theirs(content, sample)).max() <= 0.1 + 1e-6


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        ([node("DynamicQuantizeLinear", "q", ["x"], ["y", "s", "z"])], "its scales are only known when the model runs"),
        ([node("QLinearConv", "q", ["x", "x"], "y")], r"QLinearConv \(node 'q'\) .* it lacks scales and zero points"),
        ([node("QuantizeLinear", "q", ["x", "many", "points"], "y")], "it has scales per channel for what is computed"),
    ],
)
def test_what_is_not_taken_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodes: list[bytes], told: str
) -> None:
    monkeypatch.setenv("MLIA_HOME", str(tmp_path))
    constants = {"many": numpy.full(8, 0.1, numpy.float32), "points": numpy.zeros(8, numpy.uint8)}
    with pytest.raises(ModelError, match=told):
        load_model(write(tmp_path, model(nodes, [value("x", (1, 8))], [value("y", (1, 8))], constants)))
