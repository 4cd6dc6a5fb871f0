"""QuantizeLinear and DequantizeLinear as TFLite's QUANTIZE and DEQUANTIZE: uint8 becomes int8, shifted by 128."""

from typing import Any

from msgspec.structs import replace

from mlia.graph.formats.onnx_codes import SHIFT
from mlia.graph.formats.onnx_flow import Flow, Value
from mlia.graph.formats.onnx_model import Node
from mlia.graph.formats.onnx_reference import Trace
from mlia.graph.graph import Quantization


def quantization_of(flow: Flow, node: Node, dtype: str) -> Quantization:
    """The scale and zero point of a computed tensor, as those of an int8 one."""
    scale, zero = (flow.settled(node, place, "scale") for place in (1, 2))
    if scale.size != 1 or (zero is not None and zero.size != 1):
        node.refuse("it has scales per channel for what is computed")
    if dtype not in ("uint8", "int8"):
        node.refuse(f"it quantizes to {dtype}; int8 and uint8 are read")
    value = float(scale.reshape(-1)[0])
    if not 0 < value < float("inf"):
        node.refuse(f"its scale is {value:g}")
    point = 0 if zero is None else int(zero.reshape(-1)[0])
    return Quantization((value,), (point - SHIFT if dtype == "uint8" else point,))


def are_codes(traced: Trace, name: str) -> bool:
    """Whether an input is in 8-bit integers, and read by nothing but DequantizeLinear."""
    readers = {node.kind for node in traced.nodes if name in node.inputs}
    return traced.dtypes[name] in ("int8", "uint8") and readers == {"DequantizeLinear"}


def quantize(flow: Flow, node: Node) -> Value:
    """QuantizeLinear."""
    value = flow.value(node.inputs[0])
    quantization = quantization_of(flow, node, flow.trace.dtypes[node.outputs[0]])
    y = flow.net.emit("QUANTIZE", [value.index], flow.net.shape(value.index), node.name, dtype="int8")
    flow.net.tensors[y] = replace(flow.net.tensors[y], quantization=quantization)
    return Value(y, value.order)


def dequantize(flow: Flow, node: Node) -> Value:
    """DequantizeLinear of what is computed."""
    value = flow.value(node.inputs[0])
    quantization = quantization_of(flow, node, flow.trace.dtypes[node.inputs[0]])
    stored = flow.net.tensors[value.index]
    if stored.quantization is None and value.index in flow.net.inputs:
        stored = flow.net.tensors[value.index] = replace(stored, quantization=quantization)
    if stored.quantization != quantization:
        node.refuse("its scale is another than that of what it reads")
    y = flow.net.emit("DEQUANTIZE", [value.index], flow.net.shape(value.index), node.name, dtype="float32")
    flow.net.tensors[y] = replace(flow.net.tensors[y], quantization=None)
    return Value(y, value.order)


QUANTIZED: dict[str, Any] = {"QuantizeLinear": quantize, "DequantizeLinear": dequantize}
