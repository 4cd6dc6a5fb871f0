"""ONNX's quantized operators (QLinearConv, QGemm, …) as what they stand for: dequantize, compute, quantize.

Source: https://onnx.ai/onnx/operators/ and ContribOperators.md of onnxruntime for those of com.microsoft.
"""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from mlia.graph.formats.onnx_model import Node, OnnxGraph

_MICROSOFT = "com.microsoft"
# What each computes. Inputs come as tensor, scale, zero point, for one or two operands; then scale and zero point of
# the result; QLinearConv and QGemm have a bias besides.
_UNARY = {
    "QLinearSigmoid": "Sigmoid", "QLinearLeakyRelu": "LeakyRelu", "QLinearSoftmax": "Softmax",
    "QLinearAveragePool": "AveragePool", "QLinearGlobalAveragePool": "GlobalAveragePool",
}  # fmt: skip
_BINARY = {"QLinearMatMul": "MatMul", "QLinearAdd": "Add", "QLinearMul": "Mul"}
_BIASED = {"QLinearConv": ("Conv", 8, 6), "QGemm": ("Gemm", 6, 7)}  # and where bias and result's scale are
_STANDARD = ("QLinearConv", "QLinearMatMul")


def without_qlinear(graph: OnnxGraph) -> OnnxGraph:
    """The graph with each quantized operator written as DequantizeLinear, the operator, QuantizeLinear."""
    weights = dict(graph.weights)
    opset = next((node.opset for node in graph.nodes if not node.domain), 17)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.kind in ("QuantizeLinear", "DequantizeLinear") and node.domain == _MICROSOFT:
            nodes.append(replace(node, domain="", opset=opset))
        elif _is_known(node):
            nodes += _Expansion(node, weights, opset).nodes
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes), weights=weights)


def _is_known(node: Node) -> bool:
    if node.kind in _STANDARD:
        return not node.domain
    return node.domain == _MICROSOFT and node.kind in (*_UNARY, *_BINARY, *_BIASED, "QLinearConcat")


class _Expansion:
    def __init__(self, node: Node, weights: dict[str, Any], opset: int) -> None:
        self._node, self._weights, self._opset = node, weights, opset
        self.nodes: list[Node] = []
        if len(node.inputs) < 5 or not node.outputs:
            node.refuse("it lacks scales and zero points")
        if node.kind == "QLinearConcat":
            if len(node.inputs) % 3 != 2:
                node.refuse("it lacks scales and zero points")
            tensors = [self._real(place, 1) for place in range(2, len(node.inputs), 3)]
            self._compute("Concat", tensors, node.inputs[:2])
        elif node.kind in _UNARY:
            if node.integer("channels_last", 0):
                node.refuse("its channels are last")
            self._compute(_UNARY[node.kind], [self._real(0, 1)], node.inputs[3:5])
        else:
            kind, bias, result = _BIASED.get(node.kind, (_BINARY.get(node.kind, ""), -1, 6))
            if len(node.inputs) < result + 2:
                node.refuse("it gives what is not quantized")
            tensors = [self._real(0, 1), self._real(3, 0 if kind == "Conv" else 1)]
            if 0 <= bias < len(node.inputs) and node.inputs[bias]:
                tensors.append(self._bias(node.inputs[bias]))
            self._compute(kind, tensors, node.inputs[result : result + 2])

    def _real(self, place: int, axis: int) -> str:
        """An operand in real numbers; `axis` is that of scales per channel."""
        node = self._node
        if node.kind == "QGemm" and node.integer("transB", 0):
            axis = 0
        real = f"{node.name}/real_{place}"
        self._add("DequantizeLinear", node.inputs[place : place + 3], real, axis=axis)
        return real

    def _bias(self, name: str) -> str:
        """The bias, which is in units of the scales of both operands."""
        scales = [self._weights.get(self._node.inputs[place]) for place in (1, 4)]
        if scales[0] is None or scales[1] is None:
            self._node.refuse("its scales are only known when the model runs")
        unit = f"{self._node.name}/bias_scale"
        self._weights[unit] = (scales[0].reshape(-1) * scales[1]).reshape(scales[1].shape)
        self._add("DequantizeLinear", (name, unit), f"{self._node.name}/bias", axis=0)
        return f"{self._node.name}/bias"

    def _compute(self, kind: str, tensors: Sequence[str], result: Sequence[str]) -> None:
        node = self._node
        opset = node.integer("opset", self._opset) if node.kind == "QLinearSoftmax" else self._opset
        real = f"{node.outputs[0]}/real"
        self.nodes.append(Node(kind, node.name, tuple(tensors), (real,), node.attributes, opset))
        self._add("QuantizeLinear", (real, *result), node.outputs[0])

    def _add(self, kind: str, inputs: Sequence[str], output: str, **attributes: int) -> None:
        self.nodes.append(Node(kind, output, tuple(inputs), (output,), attributes, self._opset))
