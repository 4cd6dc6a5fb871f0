"""TFLite file -> Graph. Weights stay views of the file; every index is checked before it is used."""

from struct import pack_into
from typing import Any

from msgspec.structs import replace

from mlia.errors import ModelError
from mlia.graph.flatbuffer import Table, read_root
from mlia.graph.graph import Graph, Operator, Quantization, Signature, Subgraph, Tensor
from mlia.graph.sparse import dense_bytes
from mlia.graph.tflite_schema import ENUMS

IDENTIFIER = b"TFL3"
MAXIMUM_RANK = 32  # far above what any kernel takes: a larger rank is damage, not a model
MOST_SPARSE_ELEMENTS = 1 << 23  # of one tensor; a file of a few bytes may say any size
# Bits of one element, where it is not a whole number of bytes or has none at all.
ODD_BITS = {"int4": 4, "int2": 2, "uint4": 4, "string": 0, "resource": 0, "variant": 0}
WHOLE_BITS = {
    "float64": 64, "int64": 64, "uint64": 64, "complex64": 64, "complex128": 128, "float32": 32, "int32": 32,
    "uint32": 32, "float16": 16, "bfloat16": 16, "int16": 16, "uint16": 16, "int8": 8, "uint8": 8, "bool": 8,
}  # fmt: skip
ELEMENT_BITS = WHOLE_BITS | ODD_BITS
# What works on one input element by element: its output has that input's shape, whatever the file says or leaves out.
_BY_ELEMENT = frozenset({
    "ABS", "CAST", "CEIL", "COS", "DEQUANTIZE", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG",
    "LOGICAL_NOT", "LOGISTIC", "NEG", "QUANTIZE", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "ROUND", "RSQRT",
    "SIGN", "SIN", "SQRT", "SQUARE", "TANH",
})  # fmt: skip


def read_tflite(content: bytes) -> Graph:
    """Read a TFLite file.

    Raises:
        ModelError: the file is damaged, or contradicts itself, or has no operators.
    """
    model = read_root("Model", content)
    buffers = [_buffer_data(buffer, content) for buffer in model["buffers"]]
    codes = [_operator_code(code) for code in model["operator_codes"]]
    subgraphs = tuple(_subgraph(index, subgraph, buffers, codes) for index, subgraph in enumerate(model["subgraphs"]))
    if not subgraphs:
        raise ModelError("the model has no graph")
    if not subgraphs[0].operators:
        raise ModelError("the model has no operators: there is nothing to analyze")
    metadata = {entry["name"]: _at(buffers, entry["buffer"], "Metadata.buffer") for entry in model["metadata"]}
    signatures = tuple(_signature(entry) for entry in model["signature_defs"])
    return Graph(subgraphs, model["description"], metadata, signatures, memoryview(content))


def single_subgraph(content: memoryview, index: int) -> bytes:
    """A copy of the file that has only one of its subgraphs, with its operators as they are.

    The list of subgraphs is shortened in place; nothing else moves, so all that the subgraph refers to stays.
    """
    at, targets = read_root("Model", content).vector_of_tables("subgraphs")
    edited = bytearray(content)
    pack_into("<II", edited, at, 1, targets[index] - (at + 4))
    return bytes(edited)


def _at(items: Any, index: int, field: str) -> Any:
    if not 0 <= index < len(items):
        raise ModelError(f"the file is damaged: {field} is {index}, but there are {len(items)}")
    return items[index]


def _buffer_data(buffer: Table, content: bytes) -> memoryview:
    """A constant's bytes: inside the table, or behind it in files that grew past 2 GiB."""
    offset, size = buffer["offset"], buffer["size"]
    if offset <= 1:
        data: memoryview = buffer["data"]
        return data
    if not size:
        raise ModelError("the file is damaged: Buffer.offset says where data is, and Buffer.size that there is none")
    if offset + size > len(content):
        raise ModelError("the file is damaged: Buffer.offset lies outside of it")
    return memoryview(content)[offset : offset + size]


def _operator_code(code: Table) -> tuple[str, str, int]:
    """Kind, custom code and version. Old files store the kind in a field of one byte only."""
    kind = code["builtin_code"]
    if kind == ENUMS["BuiltinOperator"][0]:
        number = code["deprecated_builtin_code"]
        kind = ENUMS["BuiltinOperator"].get(number, f"UNKNOWN_{number}")
    return kind, code["custom_code"], code["version"]


def _subgraph(index: int, table: Table, buffers: list[memoryview], codes: list[tuple[str, str, int]]) -> Subgraph:
    tensors = tuple(_tensor(tensor, buffers) for tensor in table["tensors"])
    operators = tuple(_operator(i, operator, codes) for i, operator in enumerate(table["operators"]))
    for operator in operators:
        _check_indexes(operator.inputs, len(tensors), f"{operator.kind}#{operator.index}.inputs", optional=True)
        _check_indexes(operator.outputs, len(tensors), f"{operator.kind}#{operator.index}.outputs")
        _check_indexes(operator.intermediates, len(tensors), "Operator.intermediates", optional=True)
    inputs, outputs = table["inputs"], table["outputs"]
    _check_indexes(inputs, len(tensors), "SubGraph.inputs")
    _check_indexes(outputs, len(tensors), "SubGraph.outputs")
    return Subgraph(index, table["name"], _with_left_out(tensors, operators), operators, inputs, outputs)


def _with_left_out(tensors: tuple[Tensor, ...], operators: tuple[Operator, ...]) -> tuple[Tensor, ...]:
    """The tensors, with the shapes that the file leaves out: converters write none for weights that are computed."""
    found: dict[int, Tensor] = {}
    for operator in operators:
        if operator.kind not in _BY_ELEMENT or len(operator.inputs) != 1 or len(operator.outputs) != 1:
            continue
        source, made = operator.inputs[0], operator.outputs[0]
        if source < 0 or tensors[made].shape or tensors[made].has_rank or tensors[made].is_constant:
            continue
        given = found.get(source, tensors[source])
        if given.shape:
            found[made] = replace(tensors[made], shape=given.shape, shape_signature=given.shape_signature)
    return tuple(found.get(index, tensor) for index, tensor in enumerate(tensors)) if found else tensors


def _check_indexes(indexes: tuple[int, ...], count: int, field: str, optional: bool = False) -> None:
    lowest = -1 if optional else 0
    for index in indexes:
        if not lowest <= index < count:
            raise ModelError(f"the file is damaged: {field} names tensor {index} of {count}")


def _tensor(table: Table, buffers: list[memoryview]) -> Tensor:
    shape, signature = table["shape"], table["shape_signature"]
    if len(signature) == len(shape):  # what is open is analyzed as 1, as Vela does
        shape = tuple(1 if open_size == -1 else size for size, open_size in zip(shape, signature, strict=True))
    dtype = table["type"].lower()
    tensor = Tensor(
        name=table["name"],
        shape=shape,
        dtype=dtype,
        quantization=_quantization(table["quantization"]),
        data=_at(buffers, table["buffer"], "Tensor.buffer"),
        shape_signature=signature if -1 in signature else (),
        is_variable=table["is_variable"],
        is_sparse=table["sparsity"] is not None,
        has_rank=table["has_rank"],
    )
    if len(shape) > MAXIMUM_RANK or any(size < 0 for size in shape):
        raise ModelError(f"the file is damaged: tensor '{tensor.name}' has shape {list(shape)[:MAXIMUM_RANK]}")
    stored_bytes = (tensor.elements * ELEMENT_BITS.get(dtype, 0) + 7) // 8
    if tensor.is_constant and tensor.is_sparse:
        tensor = replace(tensor, data=_dense(table["sparsity"], tensor))
    if tensor.is_constant and len(tensor.data) < stored_bytes:
        raise ModelError(
            f"the file is damaged: tensor '{tensor.name}' needs {stored_bytes} bytes of data and has {len(tensor.data)}"
        )
    return tensor


def _dense(sparsity: Table, tensor: Tensor) -> memoryview:
    element_bytes = WHOLE_BITS.get(tensor.dtype, 0) // 8
    if not element_bytes:
        raise ModelError(f"tensor '{tensor.name}' of {tensor.dtype} is sparse, and only whole bytes are read so")
    if tensor.elements > MOST_SPARSE_ELEMENTS:
        raise ModelError(f"tensor '{tensor.name}' is sparse, and has more than {MOST_SPARSE_ELEMENTS:,} elements")
    return memoryview(dense_bytes(sparsity, tensor.data, tensor.shape, element_bytes))


def _quantization(table: Table | None) -> Quantization | None:
    if table is None or not table["scale"]:
        return None
    return Quantization(table["scale"], table["zero_point"], table["quantized_dimension"])


def _operator(index: int, table: Table, codes: list[tuple[str, str, int]]) -> Operator:
    kind, custom_code, version = _at(codes, table["opcode_index"], "Operator.opcode_index")
    found = table["builtin_options"] or table["builtin_options2"]
    options_table, options = (found[0], found[1].values()) if found else ("", {})
    return Operator(
        index=index,
        kind=kind,
        inputs=table["inputs"],
        outputs=table["outputs"],
        options=options,
        options_table=options_table,
        version=version,
        custom_code=custom_code,
        custom_options=table["custom_options"],
        intermediates=table["intermediates"],
    )


def _signature(table: Table) -> Signature:
    inputs, outputs = (
        {entry["name"]: entry["tensor_index"] for entry in table[side]} for side in ("inputs", "outputs")
    )
    return Signature(table["signature_key"], table["subgraph_index"], inputs, outputs)
