"""Columns folded into channels: the same bits, whatever the shape, and refusals."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mlia.errors import TransformError
from mlia.graph.graph import Operator
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import IntegerSketch, fixed
from mlia.transforms.proof import prove
from mlia.transforms.remedies.folding import Folding, folded_columns, foldings
from mlia.transforms.remedies.places import Place
from mlia.transforms.rewrites.network import Network


def one(
    shape: tuple[int, ...],
    kernel: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    padding: str = "SAME",
    kind: str = "CONV_2D",
    dtype: str = "int8",
) -> bytes:
    net = IntegerSketch("one")
    x = net.image("x", shape, dtype)
    filters = 4
    return write_tflite(
        net.graph(
            [
                net.filter(
                    kind, x, filters=filters, kernel=kernel, stride=stride, dilation=dilation, padding=padding, name="y"
                )
            ]
        )
    )


def ways(content: bytes) -> list[Folding]:
    graph = read_tflite(content)
    return list(foldings(Network(graph.main), graph.operators[0]))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(
    st.integers(1, 24),
    st.integers(1, 4),
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(1, 2),
    st.sampled_from(["SAME", "VALID"]),
    st.sampled_from(["CONV_2D", "DEPTHWISE_CONV_2D"]),
)
def test_all_ways_compute_the_same(
    width: int, channels: int, taps: int, stride: int, dilation: int, padding: str, kind: str
) -> None:
    assume(padding == "SAME" or (taps - 1) * dilation < width)
    assume(stride == 1 or dilation == 1)
    assume(kind == "CONV_2D" or channels == 1)
    content = one((1, 5, width, channels), (2, taps), (stride, stride), (1, dilation), padding, kind)
    for way in ways(content):
        assert (
            prove(content, fixed(lambda graph, way=way: folded_columns(graph, Place("y"), way.outputs), content)) == ""
        )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (one((1, 8, 40, 1), (8, 8), (2, 2)), [1, 2, 4, 5, 10, 20]),
        (one((1, 8, 12, 3)), [2, 3, 4, 6, 12]),
        (one((1, 8, 7, 3)), [7]),
        (one((1, 8, 12, 5)), []),  # enough channels
        (one((1, 8, 12, 2), kind="DEPTHWISE_CONV_2D"), []),
    ],
)
def test_ways_are_the_divisors_of_the_width(content: bytes, expected: list[int]) -> None:
    assert [way.outputs for way in ways(content)] == expected


def test_wide_activations_are_folded_too() -> None:
    content = one((1, 8, 12, 1), dtype="int16")
    graph = read_tflite(fixed(lambda graph: folded_columns(graph, Place("y"), 4), content))
    assert [operator.kind for operator in graph.operators] == ["RESHAPE", "CONV_2D", "RESHAPE"]
    assert graph.main.tensors[graph.operators[1].inputs[1]].shape == (16, 3, 3, 4)


def test_the_old_weights_are_gone() -> None:
    content = one((1, 8, 12, 1))
    graph = read_tflite(fixed(lambda graph: folded_columns(graph, Place("y"), 4), content))
    shapes = [tensor.shape for tensor in graph.main.tensors if tensor.name == "y/weights"]
    assert shapes == [(16, 3, 3, 4)]


def test_what_cannot_be_folded_is_refused() -> None:
    content = one((1, 8, 12, 1))
    with pytest.raises(TransformError, match="cannot write 5 columns"):
        fixed(lambda graph: folded_columns(graph, Place("y"), 5), content)
    with pytest.raises(TransformError, match="'nobody' cannot"):
        fixed(lambda graph: folded_columns(graph, Place("nobody"), 2), content)


def test_real_models_compute_the_same(shared: Path) -> None:
    for path in ("mlperf_tiny/kws_ref_model.tflite", "tflite_micro/micro_speech_quantized.tflite"):
        content = (shared / path).read_bytes()
        graph = read_tflite(content)
        network = Network(graph.main)
        found: Operator = next(each for each in graph.operators if list(foldings(network, each)))
        name = network.tensor(found.outputs[0]).name
        way = next(iter(foldings(network, found)))
        assert (
            prove(
                content,
                fixed(lambda graph, name=name, way=way: folded_columns(graph, Place(name), way.outputs), content),
            )
            == ""
        )
