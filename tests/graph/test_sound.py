"""What contradicts itself is refused with the operator and the value; what is only unusual is not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import real_models
from msgspec.structs import replace

import mlia
from mlia.errors import ModelError
from mlia.graph.graph import Graph, Operator, Provenance, Quantization
from mlia.graph.load import load_model
from mlia.graph.sound import check_sound
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import IntegerSketch

CONVOLUTION, DEPTHWISE = "CONV_2D", "DEPTHWISE_CONV_2D"
POOL = {"padding": "VALID", "stride_w": 2, "stride_h": 2, "filter_width": 2, "filter_height": 2}


def filtered(kind: str = CONVOLUTION, size: tuple[int, ...] = (1, 8, 8, 4), **given: Any) -> Graph:
    net = IntegerSketch("filtered")
    return net.graph([net.filter(kind, net.image("in", size), **{"filters": 8, **given})])


def plain(kind: str, shape: tuple[int, ...], made: tuple[int, ...], *constants: Any, **options: Any) -> Graph:
    net = IntegerSketch("plain")
    x = net.image("in", shape)
    inputs = [net.constant(f"c{place}", np.array(values)) for place, values in enumerate(constants)]
    return net.graph([net.plain(kind, x, *inputs, shape=made, name="middle", **options)])


def two(kind: str, left: tuple[int, ...], right: tuple[int, ...], made: tuple[int, ...], **options: Any) -> Graph:
    net = IntegerSketch("two")
    a, b = net.image("a", left), net.image("b", right)
    return net.graph([net.plain(kind, a, b, shape=made, name="middle", **options)])


def dense(shape: tuple[int, ...] = (1, 16), units: int = 4) -> Graph:
    net = IntegerSketch("dense")
    return net.graph([net.dense(net.image("in", shape), units)])


def upsampled(weights: tuple[int, ...] = (8, 2, 2, 4), stride: int = 2, made: tuple[int, ...] = (1, 8, 8, 8)) -> Graph:
    net = IntegerSketch("up")
    size, x = net.integers("size", *made), net.image("in", (1, 4, 4, 4))
    w = net.constant("w", np.ones(weights, np.int8), Quantization((0.1,), (0,)))
    options = {"padding": "SAME", "stride_w": stride, "stride_h": stride}
    return net.graph([net.operator("TRANSPOSE_CONV", [size, w, x], made, "up", quantization=net.Q, options=options)])


def set_option(graph: Graph, **options: Any) -> Graph:
    (operator,) = graph.operators
    return with_operator(graph, replace(operator, options={**operator.options, **options}))


def with_operator(graph: Graph, operator: Operator) -> Graph:
    return replace(graph, subgraphs=(replace(graph.main, operators=(operator,)),))


def with_tensor(graph: Graph, position: int, **changes: Any) -> Graph:
    """An input of the only operator changed, or its output at -1."""
    (operator,) = graph.operators
    index = operator.outputs[0] if position < 0 else operator.inputs[position]
    tensors = [*graph.main.tensors]
    tensors[index] = replace(tensors[index], **changes)
    return replace(graph, subgraphs=(replace(graph.main, tensors=tuple(tensors)),))


DAMAGED = {
    "stride_w -3": set_option(filtered(DEPTHWISE), stride_w=-3),
    "stride_h 0": set_option(filtered(), stride_h=0),
    "dilation_w_factor -1": set_option(filtered(), dilation_w_factor=-1),
    "a dilation of 1048576": set_option(filtered(), dilation_h_factor=1 << 20),
    "filter_height 0": set_option(plain("MAX_POOL_2D", (1, 8, 8, 4), (1, 4, 4, 4), **POOL), filter_height=0),
    "stride_w -2": set_option(upsampled(), stride_w=-2),
    "padding UNKNOWN_7": set_option(filtered(), padding="UNKNOWN_7"),
    r"weights of shape \[1\]; it must have 4": with_tensor(filtered(DEPTHWISE), 1, shape=(1,)),
    r"weights of shape \[8, 3, 0, 4\]": with_tensor(filtered(), 1, shape=(8, 3, 0, 4)),
    r"an output of shape \[\]; it must have 4": with_tensor(filtered(DEPTHWISE), -1, shape=()),
    r"an input of shape \[8, 4\]": with_tensor(filtered(), 0, shape=(8, 4)),
    "weights for 3 input channels, but its input has 4": with_tensor(filtered(), 1, shape=(8, 3, 3, 3)),
    "6 output channels, which 4 groups": with_tensor(filtered(), 1, shape=(6, 3, 3, 1)),
    "whose channels are 8, but its filters are 7": with_tensor(filtered(), 1, shape=(7, 3, 3, 4)),
    "biases whose number is 5": with_tensor(filtered(), 2, shape=(5,)),
    "weights for 6 channels, no multiple": with_tensor(filtered(DEPTHWISE), 1, shape=(1, 3, 3, 6)),
    "depth_multiplier 3 make 12": set_option(filtered(DEPTHWISE), depth_multiplier=3),
    "depth_multiplier -1": set_option(filtered(DEPTHWISE), depth_multiplier=-1),
    "first size is 2": with_tensor(filtered(DEPTHWISE), 1, shape=(2, 3, 3, 8)),
    "whose height is 8, but SAME padding, stride 255 and an input of 8 make 1": set_option(filtered(), stride_h=255),
    "whose height is 8, but VALID padding.* a window of 3 .* make 6": set_option(filtered(), padding="VALID"),
    "whose batch is 65536": with_tensor(filtered(), -1, shape=(65536, 8, 8, 8)),
    "whose width is 3": with_tensor(plain("MAX_POOL_2D", (1, 8, 8, 4), (1, 4, 4, 4), **POOL), -1, shape=(1, 4, 3, 4)),
    "weights whose input channels are 5": upsampled((8, 2, 2, 5)),
    "weights for 15 inputs, and an input of 16": with_tensor(dense(), 1, shape=(4, 15)),
    "whose elements are 8": with_tensor(dense(), -1, shape=(2, 4)),
    r"weights of shape \[64\]": with_tensor(dense(), 1, shape=(64,)),
    "whose depth is 5, but the first has 4": two("BATCH_MATMUL", (1, 3, 4), (1, 5, 2), (1, 3, 2)),
    "do not go together": two("ADD", (1, 4, 4, 3), (1, 4, 4, 2), (1, 4, 4, 3)),
    "whose elements are 16, but its inputs make 64": two("MUL", (1, 8, 8), (1, 1, 8), (1, 2, 8)),
    "whose elements are 60, but its inputs have 64": plain("RESHAPE", (1, 64), (1, 60)),
    "axis 4 of an input": two("CONCATENATION", (1, 2), (1, 2), (1, 4), axis=4),
    "size along axis 0 is 2": two("CONCATENATION", (1, 2), (2, 1), (2, 2), axis=1),
    r"order of axes \[0, 0\]": plain("TRANSPOSE", (4, 4), (4, 4), np.array([0, 0], np.int32)),
    "padding -1": plain("PAD", (4, 4), (4, 4), np.array([[-1, 0], [0, 0]], np.int32)),
    r"padding of shape \[1, 2\]": plain("PAD", (4, 4), (4, 4), np.zeros((1, 2), np.int32)),
    "axis 1 is 9, but its input and padding make 5": plain("PAD", (4, 4), (4, 9), np.array([[0, 0], [1, 0]], np.int32)),
    "axis -3 of an input": plain("MEAN", (4, 4), (4,), np.array([-3], np.int32)),
    "has no weights": with_operator(filtered(), replace(filtered().operators[0], inputs=(0,))),
    "has no output": with_operator(filtered(), replace(filtered().operators[0], outputs=())),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_contradictions_are_refused(what: str) -> None:
    with pytest.raises(ModelError, match=f"it contradicts itself: operator 0, [A-Z_0-9]+ '.*', .*{what}"):
        check_sound(DAMAGED[what])


@pytest.mark.parametrize(
    "graph",
    [
        filtered(stride=(255, 255)),
        filtered(dilation=(2, 3), padding="VALID"),
        filtered(DEPTHWISE, filters=12),
        set_option(filtered(DEPTHWISE), depth_multiplier=0),  # as in files that do not write it
        with_tensor(filtered(), 1, shape=(8, 3, 3, 2)),  # two groups
        with_tensor(filtered(), 0, shape=(1, 1, 8, 4), shape_signature=(1, -1, 8, 4)),
        with_tensor(filtered(), -1, shape=(1, 0, 0, 8)),
        with_operator(filtered(), replace(filtered().operators[0], inputs=(*filtered().operators[0].inputs[:2], -1))),
        upsampled(),
        upsampled(made=(1, 7, 7, 8)),
        dense((2, 2, 8), 3),
        two("ADD", (1, 4, 4, 3), (3,), (1, 4, 4, 3)),
        two("MAXIMUM", (4, 1), (1, 5), (4, 5)),
        two("BATCH_MATMUL", (2, 3, 4), (2, 5, 4), (2, 3, 5), adj_y=True),
        two("CONCATENATION", (1, 2), (1, 3), (1, 5), axis=-1),
        plain("RESHAPE", (1, 64), ()),  # of no rank before the run
        plain("PAD", (4, 4), (5, 4), np.array([[0, 1], [0, 0]], np.int64)),
        plain("NOBODY_KNOWS", (4, 4), (1, 2, 3)),
    ],
    ids=lambda graph: graph.operators[0].kind,
)
def test_the_unusual_is_not_refused(graph: Graph) -> None:
    check_sound(graph)


@pytest.mark.parametrize("path", real_models(), ids=lambda path: path.stem)
def test_real_models_are_sound(path: Path) -> None:
    load_model(path)


def test_a_file_is_refused_with_the_operator_and_the_value(tmp_path: Path) -> None:
    file = tmp_path / "damaged.tflite"
    file.write_bytes(write_tflite(set_option(filtered(DEPTHWISE, name="deep"), stride_w=-3)))
    with pytest.raises(ModelError) as caught:
        load_model(file)
    said = "operator 0, DEPTHWISE_CONV_2D 'deep', has stride_w -3; it must be 1 or more"
    assert str(caught.value) == f"cannot read the model {file}: it contradicts itself: {said}"


def test_a_graph_of_the_user_is_looked_at_as_well() -> None:
    with pytest.raises(ModelError, match="stride_w -3"):
        mlia.check(set_option(filtered(), stride_w=-3), "cortex-m55")


def test_a_variable_is_not_constant() -> None:
    with pytest.raises(ModelError, match=r"it contradicts itself: tensor 1, 'conv/weights', is a variable, and"):
        check_sound(with_tensor(filtered(), 1, is_variable=True))


def test_operators_of_tosa_are_others() -> None:
    graph = with_operator(two("ADD", (1, 4), (1, 4), (1, 4)), Operator(0, "ADD", (), (2,)))
    with pytest.raises(ModelError, match="has no input"):
        check_sound(graph)
    check_sound(replace(graph, provenance=Provenance("TOSA 1.0")))


def test_long_names_do_not_hide_the_value() -> None:
    with pytest.raises(ModelError, match=r"CONV_2D 'x{60}…', has stride_w 0"):
        check_sound(set_option(filtered(name="x" * 500), stride_w=0))


def test_a_tensor_of_no_rank_is_no_scalar() -> None:
    check_sound(with_tensor(plain("RELU", (1, 4), (1, 4)), 0, shape=()))


@pytest.mark.parametrize(("data_type", "zero_point"), [("int8", 128), ("uint8", -1), ("int16", 1 << 32)])
def test_a_zero_point_is_one_of_the_codes(data_type: str, zero_point: int) -> None:
    net = IntegerSketch("wild")
    graph = net.graph([net.image("x", (1, 4, 4, 1))])
    wild = replace(graph.main.tensors[0], dtype=data_type, quantization=Quantization((0.5,), (zero_point,)))
    with pytest.raises(ModelError, match=f"tensor 0, 'x', is {data_type} and has the zero point {zero_point}"):
        check_sound(replace(graph, subgraphs=(replace(graph.main, tensors=(wild, *graph.main.tensors[1:])),)))
