import re
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlia.errors import BackendUnavailable, ModelError
from mlia.graph.formats import onnx_network
from mlia.graph.formats.environments import locate
from mlia.graph.formats.onnx import read_onnx
from mlia.graph.formats.onnx_model import Node, read_model
from mlia.graph.formats.onnx_network import converted
from mlia.graph.formats.onnx_proof import difference, sample_of
from mlia.graph.formats.onnx_reference import FUNCTIONS, evaluate, trace
from mlia.graph.load import load_model
from tests.e2e.judging import JARGON
from tests.graph.formats.onnx_models import field, graph, model, node, run, value, write

try:
    locate("onnx")
    MISSING = ""
except BackendUnavailable as error:
    MISSING = str(error)

needs_converter = pytest.mark.skipif(bool(MISSING), reason=MISSING)
RANDOM = numpy.random.default_rng(0)
KERNEL = RANDOM.normal(0, 0.3, (4, 3, 3, 3)).astype(numpy.float32)


def network(batch: int | str = 1, size: int | str = 8, kind: str = "Relu") -> bytes:
    """Conv -> Relu, 3x8x8 to 4x8x8, global pooling, with 1 pixel of padding."""
    nodes = [
        node("Conv", "stem/conv", ["image", "kernel"], "a", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        node(kind, "stem/relu", ["a"], "b"),
        node("GlobalAveragePool", "pool", ["b"], "scores"),
    ]
    ends = [value("image", (batch, 3, size, size))], [value("scores", (batch, 4, 1, 1))]
    return model(nodes, *ends, {"kernel": KERNEL})


def single(kind: str, shape: tuple[int, ...], constants: list[Any], **attributes: Any) -> bytes:
    named = {f"c{place}": array for place, array in enumerate(constants)}
    return model([node(kind, "middle", ["x", *named], "y", **attributes)], [value("x", shape)], [value("y", ())], named)


def kinds_of(path: Path) -> list[str]:
    return [operator.kind for operator in load_model(path).operators]


def expected(image: numpy.ndarray) -> numpy.ndarray:
    padded = numpy.pad(image, ((1, 1), (1, 1), (0, 0)))
    out = numpy.zeros((4, 4, 4))
    for y in range(4):
        for x in range(4):
            patch = padded[2 * y : 2 * y + 3, 2 * x : 2 * x + 3]
            out[y, x] = numpy.einsum("hwc,ochw->o", patch, KERNEL)
    return numpy.maximum(out, 0).mean((0, 1))


@pytest.mark.parametrize("batch", [1, "N"])
def test_outputs_names_and_what_was_added(tmp_path: Path, batch: int | str) -> None:
    graph = load_model(write(tmp_path, network(batch)))
    assert (graph.provenance.format, graph.provenance.route) == ("ONNX", "read by mlia")
    opened = ("input image: ?x3x8x8 -> 1x3x8x8",) if batch == "N" else ()
    layouts = ("input image: NCHW -> NHWC", "output scores: NCHW -> NHWC")
    assert graph.provenance.added == ("1 PAD", *opened, *layouts)
    assert [tensor.shape for tensor in map(graph.main.tensor, graph.main.inputs) if tensor] == [(1, 8, 8, 3)]
    names = {each.kind: graph.main.operator_name(each) for each in graph.operators}
    assert names["CONV_2D"] == "stem/conv"
    assert names["MEAN"] == "scores"  # what leaves the model keeps its name
    assert dict(graph.signatures[0].inputs) == {"image": graph.main.inputs[0]}
    image = RANDOM.normal(0, 1, (8, 8, 3)).astype(numpy.float32)
    (found,) = run(bytes(graph.content), image[None])
    assert numpy.abs(found.reshape(4) - expected(image)).max() < 1e-5


def test_open_sizes_must_be_given(tmp_path: Path) -> None:
    path = write(tmp_path, network("N", "S"))
    with pytest.raises(ModelError, match=r"input 'image' leaves sizes open \(\?x3x\?x\?\): give them with --input"):
        read_onnx(path)
    assert "input image: NCHW -> NHWC" in read_onnx(path, {"image": (1, 3, 8, 8)}).provenance.added
    assert read_onnx(path, {"": (1, 3, 8, 8)}).operators
    with pytest.raises(ModelError, match=r"input 'image' is .* and cannot be 1x4x8x8"):
        read_onnx(path, {"image": (1, 4, 8, 8)})
    with pytest.raises(ModelError, match="it has no input 'x'; its inputs are image"):
        read_onnx(path, {"x": (1, 3, 8, 8)})


def test_an_unknown_operator_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLIA_HOME", str(tmp_path))
    wanted = r"ONNX operator NoSuch \(node 'stem/relu'\) is not supported; .*`mlia backend install onnx`"
    with pytest.raises(ModelError, match=wanted):
        load_model(write(tmp_path, network(kind="NoSuch")))


@needs_converter
def test_the_converter_is_asked_for_what_our_reader_does_not_know(tmp_path: Path) -> None:
    content = single("Erf", (1, 8), [])
    assert load_model(write(tmp_path, content)).provenance.route.startswith("onnx2tf 2.")


@pytest.mark.parametrize(
    "content",
    [network()[:100], network()[:-5], b"\x08" + bytes(range(100)), network().replace(b"kernel", b"kornel", 1)],
)
def test_damaged(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(write(tmp_path, content))
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="it cannot be read"):
        read_onnx(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    ("kind", "inputs", "told"),
    [
        ("Sub", ["x"], "Sub needs 2 inputs and has 1"),
        ("Relu", ["x", "x"], "Relu needs 1 input and has 2"),
        ("Slice", ["", "c"], "its input 1 of 2 is left out, and is no optional one"),
        ("Concat", ["x", "", "x"], "its input 2 of 3 is left out"),
        ("Concat", [], "Concat needs at least 1 input and has 0"),
        ("Clip", ["x", "", "", "x"], "Clip needs at most 3 inputs and has 4"),
        ("BatchNormalization", ["x", "c"], "BatchNormalization needs 5 inputs and has 2"),
        ("Add", ["x", "c"], "its attributes do not fit inputs of the sizes 1x5 and 3"),
    ],
)
def test_inputs_that_do_not_make_an_operator(tmp_path: Path, kind: str, inputs: list[str], told: str) -> None:
    content = model(
        [node(kind, "middle", inputs, "y")], [value("x", (1, 5))], [value("y", (1, 5))], {"c": numpy.ones(3)}
    )
    with pytest.raises(ModelError) as caught:
        trace(read_model(content), {"x": numpy.ones((1, 5), numpy.float32)})
    assert str(caught.value).startswith(f"ONNX operator {kind} (node 'middle') contradicts itself: {told}")


def test_every_operator_says_in_words_what_it_lacks() -> None:
    for kind in FUNCTIONS:
        for arrays in ([], [None], [numpy.zeros(0)], [numpy.zeros((2, 3))] * 2, [None] * 9):
            assert not JARGON.search(refusal_of(Node(kind, "middle", ("x",), ("y",)), arrays))


def refusal_of(node: Node, arrays: list[Any]) -> str:
    try:
        evaluate(node, arrays)
    except ModelError as error:
        return re.sub(r"'[^']*'", "", str(error))
    return ""


def converts(content: bytes) -> bool:
    """Whether a file is read; anything but a ModelError is a defect. LiteRT is left out, for speed."""
    try:
        source = read_model(content)
        shapes = {end.name: tuple(max(size, 1) for size in end.shape or ()) for end in source.inputs}
        if any(numpy.prod(shape, dtype=object) > 1e6 for shape in shapes.values()):
            return False
        if any(end.dtype in ("unknown", "string") for end in source.inputs):
            return False
        traced = trace(source, sample_of(source.inputs, shapes, 0))
        converted(traced, list(shapes), [end.name for end in source.outputs])
    except ModelError as error:
        refusal = str(error)
    else:
        return True
    assert "\n" not in refusal
    return False


SEEDS = [
    network(),
    single("LSTM", (3, 1, 2), [RANDOM.normal(0, 1, shape).astype(numpy.float32) for shape in ((1, 12, 2), (1, 12, 3))]),
    single("Slice", (2, 3, 4), [numpy.array(each, numpy.int64) for each in ([1], [3], [1], [1])]),
    single("Resize", (1, 2, 3, 3), [numpy.ones(4, numpy.float32), numpy.array([1, 1, 2, 2], numpy.float32)]),
]


@given(st.sampled_from(SEEDS), st.data())
def test_any_damage_costs_one_line(content: bytes, data: st.DataObject) -> None:
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    converts(bytes(damaged[: data.draw(st.integers(1, len(damaged)))]))
    converts(bytes(damaged))


def test_the_seeds_of_damage_are_whole() -> None:
    assert all(converts(content) for content in SEEDS[:3])


def test_what_computes_something_else_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLIA_HOME", str(tmp_path))
    monkeypatch.setitem(onnx_network._LAYERS, "Relu", onnx_network._LAYERS["Tanh"])
    wanted = r"computes something else: the first operator that differs is Relu \(node 'stem/relu'\)"
    with pytest.raises(ModelError, match=wanted):
        load_model(write(tmp_path, network()))


def test_a_difference_that_saturation_hides_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLIA_HOME", str(tmp_path))
    huge = numpy.array([1e4, 0, 0], numpy.float32)
    nodes = [
        node("Relu", "hidden", ["x"], "a"),
        node("Add", "sum", ["a", "c"], "b"),
        node("Softmax", "end", ["b"], "y"),
    ]
    content = model(nodes, [value("x", (1, 3))], [value("y", (1, 3))], {"c": huge})
    assert load_model(write(tmp_path, content)).operators
    monkeypatch.setitem(onnx_network._LAYERS, "Relu", onnx_network._LAYERS["Tanh"])
    with pytest.raises(ModelError, match="differs is Relu"):
        load_model(write(tmp_path, content))


def test_differences_beyond_rounding() -> None:
    x = numpy.array([1.0, 100.0], numpy.float32)
    assert difference(x, x + 0.001) == 0
    assert difference(x, x + 1) > 0
    assert difference(x, x[:1]) == 1
    assert difference(x, numpy.array([1, numpy.nan])) == 1
    many = numpy.arange(10_000)
    assert difference(many, numpy.where(many < 5, 7, many)) == 0  # ties that rounding decides
    assert difference(many, numpy.where(many < 50, 7, many)) > 0


def test_a_branch_that_a_constant_decides_is_taken(tmp_path: Path) -> None:
    branches = {
        f"{name}_branch": graph([node(kind, name, ["x"], f"{name}_y")], [], [value(f"{name}_y", (1, 4))])
        for name, kind in (("then", "Relu"), ("else", "Tanh"))
    }
    nodes = [
        node("Shape", "shape", ["x"], "s"),
        node("Equal", "same", ["s", "wanted"], "flags"),
        node("ReduceMin", "all", ["flags_as_numbers"], "flag", keepdims=0),
        node("If", "choice", ["flag_as_bool"], "y", **branches),
    ]
    nodes.insert(2, node("Cast", "numbers", ["flags"], "flags_as_numbers", to=6))
    nodes.insert(4, node("Cast", "bool", ["flag"], "flag_as_bool", to=9))
    content = model(nodes, [value("x", (1, 4))], [value("y", (1, 4))], {"wanted": numpy.array([1, 5], numpy.int64)})
    assert kinds_of(write(tmp_path, content)) == ["TANH"]


def test_operators_that_exporters_take_apart_are_put_together(tmp_path: Path) -> None:
    figures = {name: numpy.array(figure, numpy.float32) for name, figure in (("r", 2**0.5), ("o", 1), ("h", 0.5))}
    nodes = [
        node("Div", "scale", ["x", "r"], "a"), node("Erf", "erf", ["a"], "b"), node("Add", "plus", ["b", "o"], "c"),
        node("Mul", "times", ["x", "c"], "d"), node("Mul", "half", ["d", "h"], "y"),
    ]  # fmt: skip
    assert kinds_of(write(tmp_path, model(nodes, [value("x", (1, 8))], [value("y", (1, 8))], figures))) == ["GELU"]
    nodes = [
        node("HardSigmoid", "gate", ["x"], "a", alpha=1 / 6, beta=0.5),
        node("Mul", "swish", ["x", "a"], "y"),
    ]
    assert kinds_of(write(tmp_path, model(nodes, [value("x", (1, 8))], [value("y", (1, 8))]))) == ["HARD_SWISH"]


@pytest.mark.parametrize(
    ("kind", "gates", "further"), [("LSTM", 4, {}), ("GRU", 3, {"linear_before_reset": 1}), ("RNN", 1, {})]
)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_recurrent_operators_are_unrolled(
    tmp_path: Path, kind: str, gates: int, further: dict[str, int], direction: str
) -> None:
    ways = 2 if direction == "bidirectional" else 1
    shapes = [(ways, gates * 3, 5), (ways, gates * 3, 3), (ways, 2 * gates * 3)]
    constants = [RANDOM.normal(0, 0.5, shape).astype(numpy.float32) for shape in shapes]
    content = single(kind, (4, 1, 5), constants, direction=direction, hidden_size=3, **further)
    graph = load_model(write(tmp_path, content))
    assert graph.main.tensors[graph.main.outputs[0]].shape == (4, ways, 1, 3)


def test_weights_of_a_linear_layer_are_turned_instead_of_an_image(tmp_path: Path) -> None:
    matrix = RANDOM.normal(0, 1, (4 * 8 * 8, 5)).astype(numpy.float32)
    nodes = [
        node("Conv", "conv", ["x", "k"], "a", pads=[1, 1, 1, 1]), node("Flatten", "flat", ["a"], "b"),
        node("Gemm", "dense", ["b", "m"], "y"),
    ]  # fmt: skip
    content = model(nodes, [value("x", (1, 3, 8, 8))], [value("y", (1, 5))], {"k": KERNEL, "m": matrix})
    assert kinds_of(write(tmp_path, content)) == ["CONV_2D", "RESHAPE", "FULLY_CONNECTED"]


def test_shuffled_channels_take_one_transpose(tmp_path: Path) -> None:
    shapes = {"apart": numpy.array([1, 2, 3, 6, 6]), "together": numpy.array([1, 6, 6, 6])}
    nodes = [
        node("Conv", "conv", ["x", "k"], "a"), node("Reshape", "split", ["a", "apart"], "b"),
        node("Transpose", "swap", ["b"], "c", perm=[0, 2, 1, 3, 4]), node("Reshape", "join", ["c", "together"], "d"),
        node("Conv", "last", ["d", "k"], "y"),
    ]  # fmt: skip
    kernel = RANDOM.normal(0, 1, (6, 6, 1, 1)).astype(numpy.float32)
    content = model(nodes, [value("x", (1, 6, 6, 6))], [value("y", (1, 6, 6, 6))], {"k": kernel, **shapes})
    assert kinds_of(write(tmp_path, content)).count("TRANSPOSE") == 1


def test_weights_in_a_file_beside(tmp_path: Path) -> None:
    def stored_in(location: str) -> bytes:
        sizes = b"".join(field(1, size) for size in KERNEL.shape) + field(2, 1) + field(8, "kernel")
        place = field(13, field(1, "location") + field(2, location)) + field(14, 1)
        inner = graph(
            [node("Conv", "conv", ["x", "kernel"], "y")], [value("x", (1, 3, 8, 8))], [value("y", (1, 4, 6, 6))]
        )
        return field(1, 8) + field(7, inner + field(5, sizes + place)) + field(8, field(1, "") + field(2, 17))

    (tmp_path / "weights.bin").write_bytes(KERNEL.tobytes())
    assert kinds_of(write(tmp_path, stored_in("weights.bin"))) == ["CONV_2D"]
    with pytest.raises(ModelError, match="stored outside of the model's folder"):
        load_model(write(tmp_path, stored_in("../weights.bin")))
    with pytest.raises(ModelError, match=r"cannot be read from none\.bin"):
        load_model(write(tmp_path, stored_in("none.bin")))


@pytest.mark.parametrize(
    ("kind", "shape", "constants", "attributes"),
    [
        ("Conv", (1, 4, 9), [RANDOM.normal(0, 1, (6, 4, 3)).astype(numpy.float32)], {"pads": [2, 1], "strides": [2]}),
        ("ConvTranspose", (1, 4, 5, 7), [RANDOM.normal(0, 1, (4, 3, 3, 3)).astype(numpy.float32)], {"strides": [2, 2]}),
        ("AveragePool", (1, 3, 9, 8), [], {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1}),
        ("DepthToSpace", (1, 8, 3, 2), [], {"blocksize": 2, "mode": "CRD"}),
        ("SpaceToDepth", (1, 2, 4, 6), [], {"blocksize": 2}),
        ("Gemm", (3, 4), [numpy.ones((5, 4), numpy.float32), KERNEL[0, 0, 0, :1]], {"transB": 1, "alpha": 2.0}),
        ("LogSoftmax", (2, 3, 4), [], {"axis": 1}),
        ("Mish", (2, 3), [], {}),
    ],
)  # fmt: skip
def test_onnx_itself_says_the_same(
    tmp_path: Path, kind: str, shape: tuple[int, ...], constants: list[Any], attributes: dict[str, Any]
) -> None:
    reference = pytest.importorskip("onnx.reference")
    onnx = pytest.importorskip("onnx")
    content = single(kind, shape, constants, **attributes).replace(field(2, 17), field(2, 18))
    x = RANDOM.normal(0, 1, shape).astype(numpy.float32)
    (wanted,) = reference.ReferenceEvaluator(onnx.load_from_string(content)).run(None, {"x": x})
    graph = load_model(write(tmp_path, content))
    notes = " ".join(graph.provenance.added)
    (found,) = run(bytes(graph.content), numpy.moveaxis(x, 1, -1) if "input x: NC" in notes else x)
    found = numpy.moveaxis(found, -1, 1) if "output y: NC" in notes else found
    assert numpy.abs(found - wanted).max() < 1e-4 * max(1, numpy.abs(wanted).max())


def test_neighboring_channels_are_those_on_both_sides(tmp_path: Path) -> None:
    """Written out, because the evaluator of onnx leaves out the last neighbor (seen with 1.23.2)."""
    graph = load_model(write(tmp_path, single("LRN", (1, 7, 3, 3), [], size=3, alpha=1.0)))
    x = RANDOM.normal(0, 1, (1, 7, 3, 3)).astype(numpy.float32)
    near = [(x[:, max(i - 1, 0) : i + 2] ** 2).sum(1) for i in range(7)]
    wanted = x / (1 + 1 / 3 * numpy.stack(near, 1)) ** 0.75
    (found,) = run(bytes(graph.content), numpy.moveaxis(x, 1, -1))
    assert numpy.abs(numpy.moveaxis(found, -1, 1) - wanted).max() < 1e-5
