from pathlib import Path

import jax
import numpy as np
import pytest
from models import as_file, sandwich
from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, OptionValue
from mlia.graph.load import load_model
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import Sketch
from mlia.transforms.child import call
from mlia.transforms.distill.jax_graph import compute, constants_of, require_known
from mlia.transforms.interpreter import outputs

Options = dict[str, OptionValue]
CLOSE = 1e-4


def computed(graph: Graph, samples: np.ndarray) -> tuple[np.ndarray, ...]:
    """What the first output is, by LiteRT and by us."""
    require_known(graph.main)
    constants = constants_of(graph.main)
    batch = jax.vmap(lambda sample: compute(graph.main, constants, [sample])[graph.main.outputs[0]])
    return call(outputs, as_file(graph), [samples])[0], np.asarray(batch(samples))


def assert_equal(graph: Graph, scale: float = 1.0, samples: int = 3) -> None:
    shape = graph.main.tensors[graph.main.inputs[0]].shape
    values = np.random.default_rng(1).normal(0, scale, (samples, *shape)).astype(np.float32)
    expected, found = computed(graph, values)
    assert expected.shape == found.shape
    assert np.abs(expected).max() > 0
    assert np.abs(found - expected).max() <= CLOSE * np.abs(expected).max()


def convolution(
    kind: str = "CONV_2D",
    weights: tuple[int, ...] = (6, 3, 3, 4),
    output: tuple[int, ...] = (1, 9, 7, 6),
    padding: str = "SAME",
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    activation: str = "NONE",
) -> Graph:
    net = Sketch("convolution")
    x = net.input("x", (1, 9, 7, 4))
    random = np.random.default_rng(0)
    w = net.constant("w", random.normal(0, 1, weights).astype(np.float32))
    b = net.constant("b", random.normal(0, 1, output[-1]).astype(np.float32))
    options: Options = {
        "padding": padding, "stride_h": stride[0], "stride_w": stride[1], "dilation_h_factor": dilation[0],
        "dilation_w_factor": dilation[1], "fused_activation_function": activation,
    }  # fmt: skip
    if kind == "DEPTHWISE_CONV_2D":
        options["depth_multiplier"] = weights[-1] // 4
    table = {"CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions"}[kind]
    return net.graph([net.operator(kind, [x, w, b], output, "y", options_table=table, options=options)])


CONVOLUTIONS = {
    "same": convolution(),
    "valid": convolution(padding="VALID", output=(1, 7, 5, 6)),
    "even kernel": convolution(weights=(6, 2, 4, 4)),
    "strides": convolution(stride=(2, 3), output=(1, 5, 3, 6)),
    "dilated": convolution(dilation=(2, 3)),
    "dilated valid": convolution(dilation=(2, 2), padding="VALID", output=(1, 5, 3, 6)),
    "1x1": convolution(weights=(6, 1, 1, 4), activation="RELU6"),
    "1x1 with strides": convolution(weights=(6, 1, 1, 4), stride=(2, 2), output=(1, 5, 4, 6), padding="VALID"),
    "groups": convolution(weights=(6, 3, 3, 2), activation="RELU"),
    "1x1 in groups": convolution(weights=(6, 1, 1, 2), activation="RELU_N1_TO_1"),
    "depthwise": convolution("DEPTHWISE_CONV_2D", (1, 3, 3, 4), (1, 9, 7, 4), activation="RELU"),
    "depthwise with strides": convolution("DEPTHWISE_CONV_2D", (1, 3, 2, 4), (1, 5, 4, 4), stride=(2, 2)),
    "depthwise valid": convolution("DEPTHWISE_CONV_2D", (1, 3, 3, 4), (1, 7, 5, 4), "VALID"),
    "depthwise dilated": convolution("DEPTHWISE_CONV_2D", (1, 3, 3, 4), (1, 9, 7, 4), dilation=(2, 2)),
    "depthwise times 3": convolution("DEPTHWISE_CONV_2D", (1, 3, 3, 12), (1, 9, 7, 12)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str) -> None:
    assert_equal(CONVOLUTIONS[name])


@pytest.mark.parametrize("kind", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize(
    ("padding", "kernel", "stride", "output"),
    [
        ("SAME", (3, 3), (1, 1), (9, 7)),
        ("SAME", (2, 3), (2, 2), (5, 4)),
        ("VALID", (3, 2), (2, 1), (4, 6)),
        ("VALID", (2, 2), (2, 2), (4, 3)),  # leaves a row and a column over
        ("SAME", (3, 7), (3, 7), (3, 1)),
        ("VALID", (9, 7), (1, 1), (1, 1)),
        ("VALID", (8, 6), (3, 3), (1, 1)),
    ],
)
def test_pools(
    kind: str, padding: str, kernel: tuple[int, int], stride: tuple[int, int], output: tuple[int, int]
) -> None:
    net = Sketch("pool")
    x = net.input("x", (1, 9, 7, 4))
    options: Options = {
        "padding": padding, "stride_h": stride[0], "stride_w": stride[1], "filter_height": kernel[0],
        "filter_width": kernel[1], "fused_activation_function": "NONE",
    }  # fmt: skip
    y = net.operator(kind, [x], (1, *output, 4), "y", options_table="Pool2DOptions", options=options)
    assert_equal(net.graph([y]))


@pytest.mark.parametrize(
    ("kind", "options_table", "options", "constants", "output"),
    [
        ("ADD", "AddOptions", {"fused_activation_function": "RELU"}, [(1, 9, 7, 4)], (1, 9, 7, 4)),
        ("SUB", "SubOptions", {"fused_activation_function": "NONE"}, [(4,)], (1, 9, 7, 4)),
        ("MUL", "MulOptions", {"fused_activation_function": "RELU6"}, [(1, 1, 1, 4)], (1, 9, 7, 4)),
        ("MEAN", "ReducerOptions", {"keep_dims": False}, [[1, 2]], (1, 4)),
        ("MEAN", "ReducerOptions", {"keep_dims": True}, [[-1]], (1, 9, 7, 1)),
        ("RESHAPE", "ReshapeOptions", {"new_shape": (7, 36)}, [[7, 36]], (7, 36)),
        ("SQUEEZE", "SqueezeOptions", {"squeeze_dims": (0,)}, [], (9, 7, 4)),
        ("EXPAND_DIMS", "ExpandDimsOptions", {}, [[2]], (1, 9, 1, 7, 4)),
        ("TRANSPOSE", "TransposeOptions", {}, [[0, 3, 1, 2]], (1, 4, 9, 7)),
        ("PAD", "PadOptions", {}, [[[0, 0], [1, 2], [0, 3], [1, 0]]], (1, 12, 10, 5)),
        ("SOFTMAX", "SoftmaxOptions", {"beta": 0.5}, [], (1, 9, 7, 4)),
        ("LEAKY_RELU", "LeakyReluOptions", {"alpha": 0.3}, [], (1, 9, 7, 4)),
        *((kind, "", {}, [], (1, 9, 7, 4)) for kind in ("RELU", "RELU6", "LOGISTIC", "TANH", "HARD_SWISH")),
    ],
)
def test_other_operators(
    kind: str, options_table: str, options: Options, constants: list[object], output: tuple[int, ...]
) -> None:
    net = Sketch("one")
    inputs = [net.input("x", (1, 9, 7, 4))]
    for position, given in enumerate(constants):
        values = np.array(given, np.int32)
        if isinstance(given, tuple):
            values = np.random.default_rng(0).normal(0, 1, given).astype(np.float32)
        inputs.append(net.constant(f"constant {position}", values))
    y = net.operator(kind, inputs, output, "y", options_table=options_table, options=options)
    assert_equal(net.graph([y]), scale=3.0)


def test_concatenation_and_fully_connected() -> None:
    net = Sketch("two")
    x = net.input("x", (3, 4))
    y = net.fully_connected(x, units=5, activation="RELU", name="dense")
    options: Options = {"axis": -1, "fused_activation_function": "NONE"}
    table = "ConcatenationOptions"
    assert_equal(net.graph([net.operator("CONCATENATION", [x, y], (3, 9), "z", options_table=table, options=options)]))


@pytest.mark.long
@pytest.mark.parametrize(("path", "scale"), [("pretrainedResnet.h5", 100.0), ("kws_ref_model", 30.0)])
def test_real_models(shared: Path, path: str, scale: float) -> None:
    assert_equal(load_model(shared / "mlperf_tiny" / path), scale, samples=8)


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(TransformError, match=r"fine-tuning does not know NEG \('middle'\)"):
        require_known(sandwich("NEG").main)
    odd = convolution(activation="SIGN_BIT")
    with pytest.raises(TransformError, match=r"does not know CONV_2D with SIGN_BIT \('y'\)"):
        require_known(odd.main)
    net = Sketch("shuffled")
    y = net.fully_connected(net.input("x", (1, 4)), units=4)
    main = net.graph([y]).main
    shuffled = replace(main.operators[0], options={"weights_format": "SHUFFLED4x16INT8"})
    with pytest.raises(TransformError, match="does not know FULLY_CONNECTED with shuffled weights"):
        require_known(replace(main, operators=(shuffled,)))


def test_constants_mean_real_numbers_and_shapes_stay_integers(sample: Path) -> None:
    graph = read_tflite(write_tflite(read_tflite(sample.read_bytes())))
    constants = constants_of(graph.main)
    weights, shape = (
        next(operator for operator in graph.operators if operator.kind == kind).inputs[1]
        for kind in ("CONV_2D", "RESHAPE")
    )
    assert constants[weights].dtype == np.float32
    assert constants[shape].dtype == np.int32
