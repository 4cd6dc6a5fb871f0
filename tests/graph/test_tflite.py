from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from conftest import SAMPLE, real_models
from hypothesis import given, settings
from hypothesis import strategies as st
from models import as_file, loop, sandwich
from msgspec.structs import replace

import mlia
from mlia.backends.vela.process import compile_model
from mlia.errors import ModelError
from mlia.graph.graph import Graph, Quantization, Tensor
from mlia.graph.tflite import _buffer_data, read_tflite, single_subgraph
from mlia.graph.tflite_writer import write_tflite
from mlia.targets.profiles import load_target
from mlia.testing import IntegerSketch
from mlia.transforms.proof import prove


def without_file(graph: Graph) -> Graph:
    return replace(graph, content=memoryview(b""))


@pytest.mark.parametrize("path", real_models(), ids=lambda path: path.stem)
def test_what_is_written_reads_the_same(path: Path) -> None:
    graph = read_tflite(path.read_bytes())
    assert without_file(read_tflite(write_tflite(graph))) == without_file(graph)


@pytest.mark.parametrize("path", [p for p in real_models() if "vela" not in p.stem], ids=lambda path: path.stem)
def test_reader_agrees_with_litert(path: Path) -> None:
    graph = read_tflite(path.read_bytes())
    details = Interpreter(model_path=str(path)).get_tensor_details()
    ours = dict(enumerate(graph.main.tensors))
    for theirs in details:
        tensor = ours[theirs["index"]]
        assert tensor.name == theirs["name"]
        assert tensor.shape == tuple(theirs["shape"])
        if tensor.quantization:
            scales = theirs["quantization_parameters"]["scales"]
            assert np.allclose(tensor.quantization.scale, scales, rtol=1e-6)


@pytest.mark.parametrize("path", [p for p in real_models() if "vela" not in p.stem], ids=lambda path: path.stem)
def test_litert_computes_the_same_from_a_rewritten_file(path: Path) -> None:
    original = path.read_bytes()
    assert prove(original, write_tflite(read_tflite(original))) == ""


def test_weights_are_views_of_the_file(sample: Path) -> None:
    content = sample.read_bytes()
    graph = read_tflite(content)
    weights = next(tensor for tensor in graph.main.tensors if tensor.is_constant)
    assert weights.data.obj is content


def test_one_subgraph_of_several() -> None:
    content = as_file(loop())
    assert len(read_tflite(content).subgraphs) == 3
    body = read_tflite(single_subgraph(memoryview(content), 2))
    assert [operator.kind for operator in body.operators] == ["CONV_2D"]
    assert body.main.name == "body"


def test_a_model_without_operators_is_refused() -> None:
    graph = sandwich("ABS")
    with pytest.raises(ModelError, match="no operators"):
        read_tflite(as_file(replace(graph, subgraphs=(replace(graph.main, operators=()),))))


SMALL = as_file(sandwich("ABS"))


@given(st.binary(max_size=400))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(ModelError):
        read_tflite(noise[:4] + b"TFL3" + noise[4:])


@settings(max_examples=500)
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 4), st.integers(0, 2**32 - 1)), min_size=1, max_size=4))
def test_words_overwritten_anywhere_give_a_graph_or_a_model_error(changes: list[tuple[int, int]]) -> None:
    content = bytearray(SMALL)
    for position, word in changes:
        content[position : position + 4] = word.to_bytes(4, "little")
    with suppress(ModelError):
        graph = read_tflite(bytes(content))
        for operator in graph.operators:
            graph.main.operator_name(operator)


def test_every_cut_of_the_sample_is_noticed_or_harmless() -> None:
    content = SAMPLE.read_bytes()
    for size in range(0, len(content) - 16, 997):
        with pytest.raises(ModelError):
            read_tflite(content[:size])


@pytest.mark.parametrize("target", ["ethos-u85-256", "cortex-m55"])
def test_the_shape_that_is_left_out_of_computed_weights_is_known(target: str) -> None:
    """Converters write none for weights that are quantized at run time, and LiteRT finds it when it starts."""
    net = IntegerSketch("left out")
    x = net.image("in", (1, 16))
    stored = net.constant("w", np.ones((4, 16), np.int8), Quantization((0.01,), (0,)))
    weights = net.operator("QUANTIZE", [stored], (), "requantized", quantization=Quantization((0.02,), (0,)))
    table, options = "FullyConnectedOptions", {"fused_activation_function": "NONE"}
    made = net.operator("FULLY_CONNECTED", [x, weights], (1, 4), "out", options_table=table, options=options)
    graph = read_tflite(write_tflite(net.graph([made])))
    assert graph.main.tensors[weights].shape == (4, 16)
    assert Interpreter(model_content=bytes(graph.content)).get_output_details()[0]["shape"].tolist() == [1, 4]
    (report,) = mlia.check(graph, target).targets
    assert not report.refusal


@pytest.mark.parametrize("has_rank", [True, False])
def test_a_scalar_is_written_as_one(has_rank: bool) -> None:
    net = IntegerSketch("scalar")
    x = net.tensor(Tensor("x", (), "int8", net.Q, has_rank=has_rank))
    row = net.plain("RESHAPE", x, net.integers("to", 1), shape=(1,), name="row", table="ReshapeOptions")
    graph = replace(net.graph([row]), subgraphs=(replace(net.graph([row]).main, inputs=(x,)),))
    written = write_tflite(graph)
    assert read_tflite(written).main.tensors[x].has_rank == has_rank
    compile_model(written, load_target("ethos-u55-128"), 120)  # Vela refuses what has no elements


def test_data_behind_the_tables_has_a_size() -> None:
    """The compiler takes the offset alone, and reads from there whatever the shape asks for."""
    with pytest.raises(ModelError, match=r"Buffer\.offset says where data is, and Buffer\.size that there is none"):
        _buffer_data({"offset": 8, "size": 0}, bytes(64))  # type: ignore[arg-type]
