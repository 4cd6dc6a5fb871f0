from pathlib import Path

import numpy
import pytest

from mlia.errors import BackendUnavailable, ModelError
from mlia.graph.formats.environments import locate
from mlia.graph.formats.onnx import read_onnx
from mlia.graph.load import load_model

try:
    locate("onnx")
    MISSING = ""
except BackendUnavailable as error:
    MISSING = str(error)

needs_converter = pytest.mark.skipif(bool(MISSING), reason=MISSING)


# ONNX is a protocol buffer; this writes the few fields that a small model needs.
def field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    content = b""
    while value > 127:
        content += bytes([value & 127 | 128])
        value >>= 7
    return content + bytes([value])


def value(name: str, shape: tuple[int | str, ...]) -> bytes:
    sizes = b"".join(field(1, field(1 if isinstance(size, int) else 2, size)) for size in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, sizes)))


def weights(name: str, array: numpy.ndarray) -> bytes:
    sizes = b"".join(field(1, size) for size in array.shape)
    return sizes + field(2, 1) + field(8, name) + field(9, array.astype(numpy.float32).tobytes())


def node(kind: str, name: str, inputs: list[str], output: str, **attributes: list[int]) -> bytes:
    content = b"".join(field(1, each) for each in inputs) + field(2, output) + field(3, name) + field(4, kind)
    for key, numbers in attributes.items():
        content += field(5, field(1, key) + b"".join(field(8, each) for each in numbers) + field(20, 7))
    return content


KERNEL = numpy.random.default_rng(0).normal(0, 0.3, (4, 3, 3, 3)).astype(numpy.float32)


def model(batch: int | str = 1, size: int | str = 8, kind: str = "Relu") -> bytes:
    """Conv -> Relu, 3x8x8 to 4x8x8, global pooling, with 1 pixel of padding."""
    nodes = [
        node("Conv", "stem/conv", ["image", "kernel"], "a", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        node(kind, "stem/relu", ["a"], "b"),
        node("GlobalAveragePool", "pool", ["b"], "scores"),
    ]
    graph = b"".join(field(1, each) for each in nodes) + field(2, "net") + field(5, weights("kernel", KERNEL))
    graph += field(11, value("image", (batch, 3, size, size))) + field(12, value("scores", (batch, 4, 1, 1)))
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 17))


def write(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    return path


def expected(image: numpy.ndarray) -> numpy.ndarray:
    padded = numpy.pad(image, ((1, 1), (1, 1), (0, 0)))
    out = numpy.zeros((4, 4, 4))
    for y in range(4):
        for x in range(4):
            patch = padded[2 * y : 2 * y + 3, 2 * x : 2 * x + 3]
            out[y, x] = numpy.einsum("hwc,ochw->o", patch, KERNEL)
    return numpy.maximum(out, 0).mean((0, 1))


def test_without_the_converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLIA_HOME", str(tmp_path))
    with pytest.raises(BackendUnavailable, match="run `mlia backend install onnx`"):
        load_model(write(tmp_path, model()))


@needs_converter
@pytest.mark.parametrize("batch", [1, "N"])
def test_outputs_names_and_what_was_added(tmp_path: Path, batch: int | str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    graph = load_model(write(tmp_path, model(batch)))
    assert graph.provenance.format == "ONNX"
    assert graph.provenance.route.startswith("onnx2tf 2.")
    opened = ("input image: ?x3x8x8 -> 1x3x8x8",) if batch == "N" else ()
    assert graph.provenance.added[-1 - len(opened) :] == (*opened, "input image: NCHW -> NHWC")
    assert [tensor.shape for tensor in map(graph.main.tensor, graph.main.inputs) if tensor] == [(1, 8, 8, 3)]
    names = {each.kind: graph.main.operator_name(each) for each in graph.operators}
    assert names["CONV_2D"] == "stem/conv"
    image = numpy.random.default_rng(1).normal(0, 1, (8, 8, 3)).astype(numpy.float32)
    interpreter = Interpreter(model_content=bytes(graph.content))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    interpreter.invoke()
    output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert numpy.abs(output.reshape(4) - expected(image)).max() < 1e-5


@needs_converter
def test_open_sizes_must_be_given(tmp_path: Path) -> None:
    path = write(tmp_path, model("N", "S"))
    with pytest.raises(ModelError, match=r"input 'image' leaves sizes open \(\?x3x\?x\?\): give them with --input"):
        read_onnx(path)
    assert read_onnx(path, {"image": (1, 3, 8, 8)}).provenance.added[-1] == "input image: NCHW -> NHWC"
    assert read_onnx(path, {"": (1, 3, 8, 8)}).operators
    with pytest.raises(ModelError, match=r"input 'image' is .* and cannot be 1x4x8x8"):
        read_onnx(path, {"image": (1, 4, 8, 8)})
    with pytest.raises(ModelError, match="it has no input 'x'; its inputs are image"):
        read_onnx(path, {"x": (1, 3, 8, 8)})


@needs_converter
@pytest.mark.parametrize(
    "content",
    [
        model()[:100], model()[:-5], b"\x08" + bytes(range(100)), model(kind="NoSuchOperator"),
        model().replace(b"kernel", b"kornel", 1), model(-1 & (1 << 62)),
    ],
)  # fmt: skip
def test_damaged(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(write(tmp_path, content))
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


@needs_converter
def test_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="it is no valid ONNX model"):
        read_onnx(tmp_path / "none.onnx")
