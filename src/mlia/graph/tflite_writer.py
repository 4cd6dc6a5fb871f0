"""Graph -> TFLite file, from the same description of the schema that the reader uses.

Needs the `flatbuffers` package, which comes with Vela.
"""

from collections.abc import Sequence
from struct import calcsize, pack
from typing import Any

from msgspec.structs import replace

from mlia.errors import ModelError
from mlia.graph.flatbuffer import ENUMS, SCALAR_FORMATS, Field, fields
from mlia.graph.graph import Graph, Operator, Signature, Subgraph, Tensor
from mlia.graph.tflite import IDENTIFIER, read_tflite

SCHEMA_VERSION = 3
BUFFER_ALIGNMENT = 16  # what TFLite kernels expect of constants
_ONE_BYTE_CODES = 127  # kinds below it are also written where old readers look for them
_PREPEND = {
    "bool": "Bool", "i8": "Int8", "u8": "Uint8", "i16": "Int16", "u16": "Uint16", "i32": "Int32",
    "u32": "Uint32", "i64": "Int64", "u64": "Uint64", "f32": "Float32", "f64": "Float64",
}  # fmt: skip
_Values = dict[str, Any]


def write_tflite(graph: Graph) -> bytes:
    """The graph as a TFLite file. Reading it gives the same graph; what was stored sparse is dense."""
    import flatbuffers

    builder = flatbuffers.Builder(4096)
    buffers = _Buffers()
    codes: dict[tuple[str, str, int], int] = {}
    subgraphs = [_subgraph(subgraph, buffers, codes) for subgraph in graph.subgraphs]
    metadata = [{"name": name, "buffer": buffers.index(data)} for name, data in graph.metadata.items()]
    model = {
        "version": SCHEMA_VERSION,
        "operator_codes": [_operator_code(*code) for code in codes],
        "subgraphs": subgraphs,
        "description": graph.description,
        "buffers": [{"data": data} for data in buffers.contents],
        "metadata": metadata,
        "signature_defs": [_signature(signature) for signature in graph.signatures],
    }
    builder.Finish(_write_table(builder, "Model", model), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def with_plain_names(graph: Graph) -> Graph:
    """The same graph, with every tensor named by its subgraph and index."""

    def rename(subgraph: Subgraph) -> Subgraph:
        tensors = enumerate(subgraph.tensors)
        return replace(
            subgraph,
            tensors=tuple(replace(tensor, name=f"tensor {subgraph.index}:{index}") for index, tensor in tensors),
        )

    renamed = replace(graph, subgraphs=tuple(rename(subgraph) for subgraph in graph.subgraphs))
    return replace(read_tflite(write_tflite(renamed)), provenance=graph.provenance)


class _Buffers:
    """Constants by index; number 0 is the empty one. Tensors that share a view share its buffer."""

    def __init__(self) -> None:
        self.contents: list[memoryview] = [memoryview(b"")]
        self._known: dict[int, int] = {}

    def index(self, data: memoryview) -> int:
        if not len(data):
            return 0
        if id(data) not in self._known:
            self._known[id(data)] = len(self.contents)
            self.contents.append(data)
        return self._known[id(data)]


def _subgraph(subgraph: Subgraph, buffers: _Buffers, codes: dict[tuple[str, str, int], int]) -> _Values:
    return {
        "tensors": [_tensor(tensor, buffers) for tensor in subgraph.tensors],
        "inputs": subgraph.inputs,
        "outputs": subgraph.outputs,
        "operators": [_operator(operator, codes) for operator in subgraph.operators],
        "name": subgraph.name,
    }


def _tensor(tensor: Tensor, buffers: _Buffers) -> _Values:
    quantization = tensor.quantization
    return {
        "shape": tensor.shape,
        "type": tensor.dtype.upper(),
        "buffer": buffers.index(tensor.data),
        "name": tensor.name,
        "quantization": None
        if quantization is None
        else {
            "scale": quantization.scale,
            "zero_point": quantization.zero_point,
            "quantized_dimension": quantization.axis,
        },
        "is_variable": tensor.is_variable,
        "shape_signature": tensor.shape_signature,
        "has_rank": tensor.has_rank,
    }


def _operator(operator: Operator, codes: dict[tuple[str, str, int], int]) -> _Values:
    code = (operator.kind, operator.custom_code, operator.version)
    values: _Values = {
        "opcode_index": codes.setdefault(code, len(codes)),
        "inputs": operator.inputs,
        "outputs": operator.outputs,
        "custom_options": operator.custom_options,
        "intermediates": operator.intermediates,
    }
    for union, field in (("BuiltinOptions", "builtin_options"), ("BuiltinOptions2", "builtin_options2")):
        number = _number_of(union).get(operator.options_table)
        if number:
            values |= {f"{field}_type": number, field: (operator.options_table, operator.options)}
    return values


def _operator_code(kind: str, custom_code: str, version: int) -> _Values:
    number = _number_of("BuiltinOperator").get(kind)
    if number is None:
        raise ModelError(f"the operator {kind} is not in the schema and cannot be written")
    old = min(number, _ONE_BYTE_CODES)
    return {"deprecated_builtin_code": old, "custom_code": custom_code, "version": version, "builtin_code": kind}


def _signature(signature: Signature) -> _Values:
    def tensors(names: Any) -> list[_Values]:
        return [{"name": name, "tensor_index": index} for name, index in names.items()]

    return {
        "inputs": tensors(signature.inputs),
        "outputs": tensors(signature.outputs),
        "signature_key": signature.key,
        "subgraph_index": signature.subgraph,
    }


def _enumerator(enum: str, name: str) -> int:
    """The number of an enumerator; the reader calls those that it does not know UNKNOWN_<number>."""
    return _number_of(enum)[name] if not name.startswith("UNKNOWN_") else int(name.removeprefix("UNKNOWN_"))


def _number_of(enum: str) -> dict[str, int]:
    return {name: number for number, name in ENUMS[enum].items()}


def _write_table(builder: Any, kind: str, values: _Values) -> int:
    """Write a table, its parts first, and return where it is. Absent, empty and default fields take no space.

    The shape of a scalar is empty, and written all the same: Vela 5.2 takes a tensor without one for an open one.
    """
    described = fields(kind)
    offsets: dict[str, int] = {}
    for name, value in values.items():
        field = described[name]
        if not field.is_vector and field.type in _PREPEND:
            continue
        if value is not None and value != "" and (len(value) > 0 or name == "shape"):
            offsets[name] = _write_part(builder, field, value)
    builder.StartObject(1 + max((field.slot for field in described.values()), default=-1))
    for name, value in values.items():
        field = described[name]
        if name in offsets:
            builder.PrependUOffsetTRelativeSlot(field.slot, offsets[name], 0)
        elif field.type in _PREPEND and not field.is_vector:
            number = _enumerator(field.enum, value) if field.enum else value
            getattr(builder, f"Prepend{_PREPEND[field.type]}Slot")(field.slot, number, field.default)
    return int(builder.EndObject())


def _write_part(builder: Any, field: Field, value: Any) -> int:
    if field.is_vector:
        return _write_vector(builder, field, value)
    if field.type == "string":
        return int(builder.CreateString(value))
    if field.type == "union":
        return _write_table(builder, *value)
    return _write_table(builder, field.type, value)


def _write_vector(builder: Any, field: Field, value: Any) -> int:
    if field.type == "u8":
        return _write_bytes(builder, value)
    if field.type in _PREPEND:
        form = SCALAR_FORMATS[field.type]
        size = calcsize(f"<{form}")
        numbers = value if field.type.startswith("f") else list(map(int, value))
        return _write_whole(builder, pack(f"<{len(value)}{form}", *numbers), len(value), size)
    offsets: Sequence[int] = [
        builder.CreateString(item) if field.type == "string" else _write_table(builder, field.type, item)
        for item in value
    ]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _write_bytes(builder: Any, data: memoryview) -> int:
    return _write_whole(builder, data, len(data), BUFFER_ALIGNMENT)


def _write_whole(builder: Any, data: bytes | memoryview, count: int, alignment: int) -> int:
    """A vector whose bytes are there already; one by one would take hundreds of times as long."""
    builder.StartVector(len(data) // count if count else 1, count, alignment)
    builder.head -= len(data)
    builder.Bytes[builder.head : builder.head + len(data)] = data
    return int(builder.EndVector())
