from pathlib import Path

import numpy
import pytest
from msgspec.structs import replace

from mlia.errors import ModelError
from mlia.graph.formats.converter_child import first_line
from mlia.graph.formats.converter_proof import prove
from mlia.graph.graph import Graph, Signature
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import Sketch
from tests.graph.formats.onnx_models import run

N = 5


def a_convolution() -> Graph:
    """Channels last, of an image whose sizes are all the same."""
    net = Sketch("square")
    x = net.input("x", (1, N, N, N))
    return read_tflite(write_tflite(net.graph([net.convolution(x, filters=N, kernel=(3, 3), name="y")])))


def leave(folder: Path, graph: Graph, is_first: bool) -> None:
    """What a converter's script leaves; the source has its channels second if `is_first`."""
    samples, expected = {}, {}
    for seed in range(2):
        image = numpy.random.default_rng(seed).normal(0, 1, (1, N, N, N)).astype(numpy.float32)
        (y,) = run(bytes(graph.content), image)
        samples[f"{seed}:x"] = numpy.moveaxis(image, -1, 1) if is_first else image
        expected[f"{seed}:y"] = numpy.moveaxis(y, -1, 1) if is_first else y
    numpy.savez(folder / "samples.npz", **samples)
    numpy.savez(folder / "expected.npz", **expected)


@pytest.mark.parametrize("is_first", [True, False])
def test_the_layout_is_what_computes_the_same(tmp_path: Path, is_first: bool) -> None:
    graph = a_convolution()
    leave(tmp_path, graph, is_first)
    wanted = ("input x: NCHW -> NHWC", "output y: NCHW -> NHWC") if is_first else ()
    assert prove(graph, tmp_path, "the converter") == wanted


def test_the_names_are_those_of_a_signature_too(tmp_path: Path) -> None:
    graph = a_convolution()
    signature = Signature("serving_default", 0, {"image": graph.main.inputs[0]}, {"scores": graph.main.outputs[0]})
    leave(tmp_path, graph, False)
    for file, old, new in (("samples", "x", "image"), ("expected", "y", "scores")):
        with numpy.load(tmp_path / f"{file}.npz") as found:
            numpy.savez(tmp_path / f"{file}.npz", **{name.replace(old, new): found[name] for name in found.files})
    with pytest.raises(ModelError, match="changed the inputs or outputs"):
        prove(graph, tmp_path, "the converter")
    assert prove(replace(graph, signatures=(signature,)), tmp_path, "the converter") == ()


def test_a_source_with_channels_last_keeps_them(tmp_path: Path) -> None:
    graph = a_convolution()
    leave(tmp_path, graph, True)
    with pytest.raises(ModelError, match="output 'y' differs by"):
        prove(graph, tmp_path, "the converter", may_turn=False)
    leave(tmp_path, graph, False)
    assert prove(graph, tmp_path, "the converter", may_turn=False) == ()


def test_another_network_is_refused(tmp_path: Path) -> None:
    graph = a_convolution()
    leave(tmp_path, graph, True)
    with numpy.load(tmp_path / "expected.npz") as found:
        numpy.savez(tmp_path / "expected.npz", **{name: found[name].swapaxes(2, 3) for name in found.files})
    with pytest.raises(
        ModelError, match="what the converter made of it computes something else than the model: output 'y'"
    ):
        prove(graph, tmp_path, "the converter")


def test_what_a_library_says_to_its_programmers_is_not_passed_on() -> None:
    assert first_line(ValueError("the program has no inputs\nmore")) == "the program has no inputs"
    for error in (TypeError("__init__() missing 1 required positional argument"), KeyError("'x'"), AttributeError("a")):
        assert first_line(error) == "its own code fails on what the file says"
