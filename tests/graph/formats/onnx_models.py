"""ONNX files for tests, written field by field: a protocol buffer needs no library."""

import struct
from pathlib import Path
from typing import Any

import numpy

FLOAT, INT64 = 1, 7
_TYPES = {"float32": 1, "float64": 11, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10}


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    content = b""
    while value > 127:
        content += bytes([value & 127 | 128])
        value >>= 7
    return content + bytes([value])


def field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def value(name: str, shape: tuple[int | str, ...], dtype: int = FLOAT) -> bytes:
    sizes = b"".join(field(1, field(1 if isinstance(size, int) else 2, size)) for size in shape)
    return field(1, name) + field(2, field(1, field(1, dtype) + field(2, sizes)))


def weights(name: str, array: numpy.ndarray) -> bytes:
    sizes = b"".join(field(1, size) for size in array.shape)
    return sizes + field(2, _TYPES[array.dtype.name]) + field(8, name) + field(9, array.tobytes())


def attribute(key: str, given: Any) -> bytes:
    content = field(1, key)
    if isinstance(given, bytes):  # a graph
        return content + field(6, given) + field(20, 5)
    if isinstance(given, str):
        return content + field(4, given) + field(20, 3)
    if isinstance(given, float):
        return content + varint(2 << 3 | 5) + struct.pack("<f", given) + field(20, 1)
    if isinstance(given, int):
        return content + field(3, given) + field(20, 2)
    if isinstance(given, numpy.ndarray):
        return content + field(5, weights("", given)) + field(20, 4)
    return content + b"".join(field(8, each) for each in given) + field(20, 7)


def node(kind: str, name: str, inputs: list[str], outputs: str | list[str], **attributes: Any) -> bytes:
    made = [outputs] if isinstance(outputs, str) else outputs
    content = b"".join(field(1, each) for each in inputs) + b"".join(field(2, each) for each in made)
    content += field(3, name) + field(4, kind)
    return content + b"".join(field(5, attribute(key, given)) for key, given in attributes.items())


def graph(
    nodes: list[bytes],
    inputs: list[bytes],
    outputs: list[bytes],
    constants: dict[str, numpy.ndarray] | None = None,
) -> bytes:
    content = b"".join(field(1, each) for each in nodes) + field(2, "net")
    content += b"".join(field(5, weights(name, array)) for name, array in (constants or {}).items())
    return content + b"".join(field(11, each) for each in inputs) + b"".join(field(12, each) for each in outputs)


def model(
    nodes: list[bytes],
    inputs: list[bytes],
    outputs: list[bytes],
    constants: dict[str, numpy.ndarray] | None = None,
    opset: int = 17,
) -> bytes:
    content = graph(nodes, inputs, outputs, constants)
    return field(1, 8) + field(7, content) + field(8, field(1, "") + field(2, opset))


def write(folder: Path, content: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(content)
    return path


def run(content: bytes, *inputs: numpy.ndarray) -> list[numpy.ndarray]:
    """The outputs of a TFLite file in LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], array.astype(detail["dtype"]))
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
