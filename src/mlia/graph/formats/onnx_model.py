"""An ONNX file as data: nodes, weights, inputs and outputs, read from its protocol buffers.

Format: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, whose field numbers are below.
"""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import numpy
from msgspec import Struct

from mlia.errors import ModelError
from mlia.graph.formats.protobuf import Message

Array: TypeAlias = Any  # numpy.ndarray
MOST_ELEMENTS = 1 << 28  # of one constant: far above any model for the edge
MOST_NESTED = 8  # graphs in graphs
_MODEL = {"graph": 7, "opset_import": 8}
_OPSET = {"domain": 1, "version": 2}
_GRAPH = {"node": 1, "initializer": 5, "input": 11, "output": 12, "sparse_initializer": 15}
_NODE = {"input": 1, "output": 2, "name": 3, "op_type": 4, "attribute": 5, "domain": 7}
_ATTRIBUTE = {
    "name": 1, "f": 2, "i": 3, "s": 4, "t": 5, "g": 6, "floats": 7, "ints": 8, "strings": 9, "type": 20,
}  # fmt: skip
_TENSOR = {
    "dims": 1, "data_type": 2, "float_data": 4, "int32_data": 5, "int64_data": 7, "name": 8, "raw_data": 9,
    "double_data": 10, "uint64_data": 11, "external_data": 13, "data_location": 14,
}  # fmt: skip
_VALUE = {"name": 1, "type": 2}
_TYPE = {"tensor_type": 1}
_TENSOR_TYPE = {"elem_type": 1, "shape": 2}
_SHAPE = {"dim": 1}
_DIMENSION = {"dim_value": 1}
_PAIR = {"key": 1, "value": 2}
_BFLOAT16 = 16
_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", _BFLOAT16: "bfloat16", 21: "uint4", 22: "int4",
}  # fmt: skip
_FLOATS = ("float16", "float64", "bfloat16")  # computed as float32


class Node(Struct, frozen=True):
    """One operator. An input of "" is an optional one left out; `opset` says which version of the operator it is."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = {}
    opset: int = 1
    domain: str = ""

    def refuse(self, why: str) -> NoReturn:
        """Raises ModelError: which operator cannot be read, where, and why."""
        raise ModelError(f"ONNX operator {self.kind} (node '{self.name}') is not supported: {why}")

    def integer(self, key: str, default: int) -> int:
        return int(self._of(key, int, default))

    def number(self, key: str, default: float) -> float:
        return float(self._of(key, float, default))

    def text(self, key: str, default: str) -> str:
        return str(self._of(key, str, default))

    def integers(self, key: str, default: Sequence[int] = ()) -> list[int]:
        return list(self._of(key, list, default))

    def _of(self, key: str, kind: type, default: Any) -> Any:
        value = self.attributes.get(key, default)
        if key in self.attributes and not isinstance(value, kind):
            raise ModelError(f"it is damaged: the attribute {key} of node '{self.name}' is no {kind.__name__}")
        return value


class End(Struct, frozen=True):
    """An input or output: -1 where a size is open, None where the file gives no shape at all."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None


class OnnxGraph(Struct, frozen=True):
    """Nodes in the order in which they run; `inputs` are those that are no weights."""

    nodes: tuple[Node, ...]
    weights: Mapping[str, Array]
    inputs: tuple[End, ...]
    outputs: tuple[End, ...]


def read_model(content: bytes | memoryview, folder: Path | None = None) -> OnnxGraph:
    """Read an ONNX model; weights in files beside it are looked for in `folder`.

    Floats of other sizes become float32.

    Raises:
        ModelError: damaged, or with weights that cannot be read.
    """
    model = Message(content, "the ONNX model", _MODEL)
    if not model.has("graph"):
        raise ModelError("it is damaged: an ONNX model without a graph")
    versions = {
        each.text("domain"): each.signed("version") for each in model.messages("opset_import", "an opset", _OPSET)
    }
    versions.setdefault("", versions.pop("ai.onnx", 1))
    return _Reader(folder, versions).graph(model.message("graph", "the graph", _GRAPH), 0)


class _Reader:
    def __init__(self, folder: Path | None, versions: Mapping[str, int]) -> None:
        self._folder, self._versions = folder, versions

    def graph(self, graph: Message, depth: int) -> OnnxGraph:
        if depth > MOST_NESTED:
            raise ModelError("its graphs are nested too deeply")
        if graph.has("sparse_initializer"):
            raise ModelError("its weights are stored as sparse tensors, which mlia does not read; store them dense")
        weights: dict[str, Array] = {}
        for tensor in graph.messages("initializer", "a weight", _TENSOR):
            weights[tensor.text("name")] = self._tensor(tensor)
        nodes = [self._node(node, index, depth) for index, node in enumerate(graph.messages("node", "a node", _NODE))]
        inputs = [self._end(each) for each in graph.messages("input", "an input", _VALUE)]
        outputs = [self._end(each) for each in graph.messages("output", "an output", _VALUE)]
        return OnnxGraph(tuple(nodes), weights, tuple(x for x in inputs if x.name not in weights), tuple(outputs))

    def _node(self, node: Message, index: int, depth: int) -> Node:
        kind, domain = node.text("op_type"), node.text("domain")
        domain = "" if domain == "ai.onnx" else domain
        attributes = {}
        name = node.text("name") or f"{kind}_{index}"
        for attribute in node.messages("attribute", "an attribute", _ATTRIBUTE):
            attributes[attribute.text("name")] = self._attribute(attribute, depth)
        inputs = tuple(_text(each) for each in node.contents("input"))
        outputs = tuple(_text(each) for each in node.contents("output"))
        return Node(kind, name, inputs, outputs, attributes, self._versions.get(domain, 1), domain)

    def _attribute(self, attribute: Message, depth: int) -> Any:
        """By its declared type; very old files have none, and then by what is there."""
        declared = attribute.number("type")
        if declared == 1 or (not declared and attribute.has("f")):
            return struct.unpack("<f", attribute.number("f").to_bytes(4, "little"))[0]
        if declared == 2 or (not declared and attribute.has("i")):
            return attribute.signed("i")
        if declared == 3 or (not declared and attribute.has("s")):
            return attribute.text("s")
        if declared == 4 or (not declared and attribute.has("t")):
            return self._tensor(attribute.message("t", "a tensor", _TENSOR))
        if declared == 5 or (not declared and attribute.has("g")):
            return self.graph(attribute.message("g", "a nested graph", _GRAPH), depth + 1)
        if declared == 6 or (not declared and attribute.has("floats")):
            return numpy.frombuffer(attribute.fixed("floats", 4), "<f4").tolist()
        if declared == 7 or (not declared and attribute.has("ints")):
            return attribute.numbers("ints")
        if declared == 8 or (not declared and attribute.has("strings")):
            return [_text(each) for each in attribute.contents("strings")]
        return None

    def _end(self, value: Message) -> End:
        name = value.text("name")
        tensor = value.message("type", "a type", _TYPE).message("tensor_type", "a tensor type", _TENSOR_TYPE)
        dtype = _TYPES.get(tensor.number("elem_type"), "unknown")
        shape = None
        if tensor.has("shape"):
            dimensions = tensor.message("shape", "a shape", _SHAPE).messages("dim", "a size", _DIMENSION)
            shape = tuple(each.signed("dim_value") if each.signed("dim_value") > 0 else -1 for each in dimensions)
        return End(name, "float32" if dtype in _FLOATS else dtype, shape)

    def _tensor(self, tensor: Message) -> Array:
        number, shape = tensor.number("data_type"), tensor.numbers("dims")
        name = tensor.text("name") or "a constant"
        dtype = _TYPES.get(number, f"of the unknown type {number}")
        elements = 1
        for size in shape:
            elements *= size
        if min(shape, default=1) < 0 or elements > MOST_ELEMENTS:
            raise ModelError(f"it is damaged: the weight '{name}' has the impossible shape {tuple(shape)}")
        if dtype not in _TYPES.values() or dtype in ("string", "uint4", "int4"):
            raise ModelError(f"the weight '{name}' is {dtype}, which mlia does not read")
        if tensor.number("data_location") == 1:
            raw: bytes | memoryview = self._external(tensor, name)
        else:
            raw = tensor.content("raw_data")
        stored = "uint16" if dtype == "bfloat16" else dtype
        if tensor.has("raw_data") or tensor.number("data_location") == 1:
            size = numpy.dtype(stored).itemsize
            if len(raw) != elements * size:
                raise ModelError(f"it is damaged: the weight '{name}' has {len(raw)} bytes for {tuple(shape)}")
            array = numpy.frombuffer(raw, numpy.dtype(stored).newbyteorder("<"))
        else:
            array = _listed(tensor, stored, dtype)
            if len(array) != elements:
                raise ModelError(f"it is damaged: the weight '{name}' has {len(array)} values for {tuple(shape)}")
        if dtype == "bfloat16":
            array = (array.astype(numpy.uint32) << 16).view(numpy.float32)
        elif dtype in _FLOATS:
            with numpy.errstate(over="ignore"):
                array = array.astype(numpy.float32)
        return array.astype(array.dtype.newbyteorder("="), copy=False).reshape(shape)

    def _external(self, tensor: Message, name: str) -> bytes:
        """Bytes of a file beside the model, and of no other place."""
        pairs = {p.text("key"): p.text("value") for p in tensor.messages("external_data", "a place", _PAIR)}
        location = pairs.get("location", "")
        if self._folder is None or not location:
            raise ModelError(f"the weight '{name}' is stored in another file, which is not known")
        folder = self._folder.resolve()
        path = (folder / location).resolve()
        if not path.is_relative_to(folder):
            raise ModelError(f"the weight '{name}' is stored outside of the model's folder ({location})")
        try:
            start, length = int(pairs.get("offset") or 0), int(pairs.get("length") or -1)
            if start < 0:
                raise ValueError(start)
            with path.open("rb") as file:
                file.seek(start)
                return file.read(length)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "its place is damaged"
            raise ModelError(f"the weight '{name}' cannot be read from {location}: {reason}") from None


def _listed(tensor: Message, stored: str, dtype: str) -> Array:
    """Values in one of the fields for numbers, which is shared by several types."""
    if dtype == "float32":
        return numpy.frombuffer(tensor.fixed("float_data", 4), "<f4")
    if dtype == "float64":
        return numpy.frombuffer(tensor.fixed("double_data", 8), "<f8")
    field = {"int64": "int64_data", "uint32": "uint64_data", "uint64": "uint64_data"}.get(dtype, "int32_data")
    bits = 64 if field != "int32_data" else 32
    values = numpy.array(tensor.numbers(field), numpy.int64)
    if bits == 32 and dtype in ("float16", "bfloat16"):
        return values.astype(numpy.uint16).view(numpy.float16 if dtype == "float16" else numpy.uint16)
    return values.astype(stored)


def _text(content: memoryview) -> str:
    try:
        return bytes(content).decode()
    except UnicodeDecodeError:
        raise ModelError("it is damaged: a name is not text") from None
