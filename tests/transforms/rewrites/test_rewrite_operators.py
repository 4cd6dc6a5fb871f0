"""Rewrites of arithmetic fire where they should and nowhere else, and compute the same."""

import numpy as np
import pytest
from models import Q
from msgspec.structs import replace
from rewrite_models import NCHW, Drawing, as_int8, both, cycles, kinds, rewritten

from mlia.graph.graph import Graph, Operator, Quantization, Signature, Tensor
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite


def test_neutral_arithmetic_is_removed() -> None:
    net = Drawing("neutral")
    x = net.unary("TANH", net.input("x", (1, 4, 4, 3)), "first")
    x = net.binary("MUL", x, np.ones((1, 1, 1, 3)), "by one")
    x = net.binary("ADD", x, np.zeros(1), "plus nothing")
    x = net.binary("SUB", x, np.zeros((4, 4, 3)), "minus nothing")
    x = net.binary("DIV", x, np.ones(3), "through one")
    x = net.reshape(x, (1, 4, 4, 3), "same shape")
    x = net.transpose(x, (0, 1, 2, 3), "same order")
    x = net.concatenation([x], 3, "alone")
    x = net.pad(x, ((0, 0),) * 4, "no pad")
    graph = net.file(net.unary("HARD_SWISH", x, "last"))
    made = rewritten(graph)
    assert kinds(made.graph) == ["TANH", "HARD_SWISH"]
    assert {change.where for change in made.changes} >= {"by one", "plus nothing", "same shape", "no pad"}


@pytest.mark.parametrize("constant", [np.full(3, 1.001), np.array([1, 1, 0.5])])
def test_a_factor_that_is_not_one_stays(constant: np.ndarray) -> None:
    net = Drawing("almost")
    x = net.unary("TANH", net.input("x", (1, 4, 4, 3)), "first")
    graph = net.file(net.unary("HARD_SWISH", net.binary("MUL", x, constant, "factor"), "last"))
    assert kinds(rewritten(graph).graph) == kinds(graph)


def test_a_neutral_operator_that_broadcasts_stays() -> None:
    net = Drawing("broadcast")
    x = net.unary("TANH", net.input("x", (1, 1, 1, 3)), "first")
    graph = net.file(net.unary("HARD_SWISH", net.binary("MUL", x, np.ones((1, 4, 4, 3)), "wide"), "last"))
    assert kinds(rewritten(graph).graph) == kinds(graph)


def test_the_activation_of_a_neutral_operator_stays() -> None:
    net = Drawing("active")
    x = net.binary("MUL", net.input("x", (1, 4, 4, 3)), np.ones(1), "by one", activation="RELU")
    graph = net.file(net.unary("HARD_SWISH", x, "last"))
    made = rewritten(graph)
    assert kinds(made.graph) == ["RELU", "HARD_SWISH"]
    net = Drawing("fused")
    x = net.convolution(net.input("x", (1, 4, 4, 3)), filters=2, activation="NONE", name="conv")
    graph = net.file(net.binary("MUL", x, np.ones(1), "by one", activation="RELU"))
    (convolution,) = rewritten(graph).graph.operators
    assert convolution.options["fused_activation_function"] == "RELU"


def test_relu_goes_only_where_nothing_is_negative() -> None:
    net = Drawing("relus")
    x = net.convolution(net.input("x", (1, 4, 4, 3)), filters=4, name="conv")
    x = net.unary("RELU", net.average_pool(x, kernel=(2, 2), name="pool"), "again")
    x = net.unary("RELU6", net.unary("LOGISTIC", x, "gate"), "six")
    assert kinds(rewritten(net.file(x)).graph) == ["CONV_2D", "AVERAGE_POOL_2D", "LOGISTIC"]
    net = Drawing("needed")
    x = net.transpose(net.input("x", (1, 4, 4, 3)), NCHW, "turned")
    graph = net.file(net.unary("RELU6", net.unary("RELU", net.unary("TANH", x, "tanh"), "relu"), "six"))
    assert kinds(rewritten(graph).graph) == ["TRANSPOSE", "TANH", "RELU"]


@pytest.mark.parametrize(("zero_point", "expected"), [(-128, ["NEG", "TANH"]), (0, ["NEG", "RELU", "TANH"])])
def test_codes_that_start_at_zero_are_never_negative(zero_point: int, expected: list[str]) -> None:
    net = Drawing("codes")
    scale = Quantization((0.01,), (zero_point,))
    x = net.input("x", (1, 4, 4, 3), "int8", scale)
    x = net.operator("RELU", [net.operator("NEG", [x], (1, 4, 4, 3), "neg")], (1, 4, 4, 3), "relu")
    unit = Quantization((1 / 128,), (0,))
    graph = net.file(net.operator("TANH", [x], (1, 4, 4, 3), "end", quantization=unit))
    assert kinds(rewritten(graph).graph) == expected


def quantize_twice(scales: tuple[float, float]) -> Graph:
    net = Drawing("twice")
    x = net.input("x", (1, 4, 4, 3), "int8", Q)
    options = {"fused_activation_function": "NONE"}
    x = net.operator("ADD", [x, x], (1, 4, 4, 3), "sum", options_table="AddOptions", options=options)
    real = net.tensor(Tensor("real", (1, 4, 4, 3), "float32"))
    net._operators.append(Operator(1, "DEQUANTIZE", (x,), (real,)))
    back = net.operator(
        "QUANTIZE", [real], (1, 4, 4, 3), "back", dtype="int8", quantization=Quantization(scales[:1], (0,))
    )
    last = net.operator("QUANTIZE", [back], (1, 4, 4, 3), "last", quantization=Quantization(scales[1:], (0,)))
    return net.file(net.operator("ABS", [last], (1, 4, 4, 3), "end"))


def test_quantize_goes_only_where_the_scale_stays() -> None:
    assert kinds(rewritten(quantize_twice((0.05, 0.05))).graph) == ["ADD", "ABS"]
    assert kinds(rewritten(quantize_twice((0.05, 0.06))).graph) == ["ADD", "QUANTIZE", "ABS"]
    graph = quantize_twice((0.06, 0.05))
    assert kinds(rewritten(graph).graph) == kinds(graph)


def test_what_nothing_needs_is_removed() -> None:
    net = Drawing("idle")
    x = net.input("x", (1, 4, 4, 3))
    net.unary("TANH", net.unary("ABS", x, "idle"), "idle too")
    for model in both(net.file(net.unary("LOGISTIC", x, "end"))):
        assert kinds(rewritten(model).graph) == ["LOGISTIC"]


def test_what_a_signature_names_is_needed() -> None:
    net = Drawing("named")
    x = net.input("x", (1, 4, 4, 3))
    net.unary("TANH", x, "inside")
    graph = net.graph([net.unary("LOGISTIC", x, "end")])
    signature = Signature("other", 0, {"x": 0}, {"inside": 1})
    graph = read_tflite(write_tflite(replace(graph, signatures=(signature,))))
    assert kinds(rewritten(graph).graph) == ["TANH", "LOGISTIC"]


@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
def test_batch_normalization_goes_into_the_weights(kind: str) -> None:
    def build(activation: str = "NONE", read_twice: bool = False) -> Graph:
        net = Drawing("norm")
        x = net.input("x", (1, 6, 6, 4) if kind != "FULLY_CONNECTED" else (1, 4))
        make = {"CONV_2D": net.convolution, "DEPTHWISE_CONV_2D": net.depthwise, "FULLY_CONNECTED": net.fully_connected}
        size = {"CONV_2D": {"filters": 4}, "DEPTHWISE_CONV_2D": {}, "FULLY_CONNECTED": {"units": 4}}[kind]
        linear = make[kind](x, **size, activation=activation, name="linear")
        y = net.binary("MUL", linear, np.array([0.5, -1, 2, 3]), "scale")
        y = net.binary("SUB", y, np.array([[0.1, 0.2, 0.3, 0.4]]), "minus")
        y = net.binary("DIV", y, np.array([2.0]), "over")
        y = net.binary("ADD", y, np.array([0.5]), "plus", activation="RELU6")
        return net.file(y, *([net.unary("TANH", linear, "tanh")] if read_twice else []))

    (operator,) = rewritten(build()).graph.operators
    assert operator.kind == kind
    assert operator.options["fused_activation_function"] == "RELU6"
    assert kinds(rewritten(build("RELU")).graph) == [kind, "MUL", "SUB", "MUL", "ADD"]
    assert len(rewritten(build(read_twice=True)).graph.operators) == 6


def test_integer_weights_are_not_multiplied() -> None:
    net = Drawing("norm")
    x = net.convolution(net.input("x", (1, 6, 6, 4)), filters=4, activation="NONE", name="linear")
    graph = as_int8(net.file(net.binary("MUL", x, np.array([0.5, 1, 2, 3]), "scale")))
    assert kinds(rewritten(graph).graph) == ["CONV_2D", "MUL"]


def test_constants_that_differ_in_space_stay() -> None:
    net = Drawing("space")
    x = net.convolution(net.input("x", (1, 4, 4, 4)), filters=4, activation="NONE", name="linear")
    constant = np.arange(1, 5).reshape(1, 4, 1, 1)
    assert kinds(rewritten(net.file(net.binary("MUL", x, constant, "scale"))).graph) == ["CONV_2D", "MUL"]


@pytest.mark.parametrize(
    ("kind", "fires"), [("CONV_2D", True), ("DEPTHWISE_CONV_2D", True), ("SAME", False), ("FULLY_CONNECTED", True)]
)
def test_scaling_of_inputs_goes_into_the_first_weights(kind: str, fires: bool) -> None:
    net = Drawing("inputs")
    x = net.binary("SUB", net.input("x", (1, 6, 6, 3)), np.array([0.1, 0.2, 0.3]), "mean")
    x = net.binary("MUL", x, np.array([1.0, 2.0, 3.0]), "deviation")
    if kind == "SAME":
        y = net.convolution(x, filters=4, kernel=(3, 3), name="linear")
    elif kind == "FULLY_CONNECTED":
        y = net.fully_connected(x, units=5, name="linear")
    else:
        y = net.valid(x, "linear", kind=kind)
    made = rewritten(net.file(y))
    assert kinds(made.graph) == ([kind] if fires else ["SUB", "CONV_2D"])


def test_division_by_a_constant_is_multiplication() -> None:
    net = Drawing("division")
    x = net.unary("TANH", net.input("x", (1, 4, 4, 3)), "first")
    made = rewritten(net.file(net.binary("DIV", x, np.array([3.0, 4.0, 5.0]), "over", activation="RELU")))
    assert kinds(made.graph) == ["TANH", "MUL"]
    assert made.graph.operators[1].options["fused_activation_function"] == "RELU"
    net = Drawing("by nothing")
    x = net.binary("DIV", net.input("x", (1, 4)), np.array([3.0, 0.0, 5.0, 1.0]), "over")
    graph = net.file(net.unary("TANH", x, "end"))
    assert kinds(rewritten(graph).graph) == ["DIV", "TANH"]


def decomposed_swish(offset: float = 3.0, divisor: float = 6.0, order: int = 0) -> Graph:
    net = Drawing("swish")
    x = net.unary("TANH", net.input("x", (1, 4, 4, 3)), "first")
    gate = net.unary("RELU6", net.binary("ADD", x, np.array([offset]), "plus"), "relu6")
    if order == 0:
        y = net.binary("DIV", net.binary("MUL", x, gate, "product"), np.array(divisor).reshape(1), "swish")
    elif order == 1:
        y = net.binary("MUL", net.binary("MUL", gate, np.array([1 / divisor]), "sixth"), x, "swish")
    else:
        y = net.binary("MUL", x, net.binary("MUL", gate, np.full(3, 1 / divisor), "sixth"), "swish")
    return net.file(y)


def test_hard_swish_is_found() -> None:
    for order in (0, 1, 2):
        made = rewritten(decomposed_swish(order=order), scale=5)
        assert kinds(made.graph) == ["TANH", "HARD_SWISH"]
        assert made.graph.main.operator_name(made.graph.operators[1]) == "swish"
    for other in (decomposed_swish(offset=2.0), decomposed_swish(divisor=5.0)):
        assert "HARD_SWISH" not in kinds(rewritten(other).graph)


def test_leaky_relu_is_found() -> None:
    for alpha, expected in ((0.1, ["TANH", "LEAKY_RELU"]), (1.5, ["TANH", "MUL", "MAXIMUM"])):
        net = Drawing("leaky")
        x = net.unary("TANH", net.input("x", (1, 4, 4, 3)), "first")
        y = net.binary("MAXIMUM", x, net.binary("MUL", x, np.array([alpha]), "scaled"), "leaky")
        assert kinds(rewritten(net.file(y)).graph) == expected


def test_clipping_is_an_activation() -> None:
    for limit, expected, activation in ((6.0, ["CONV_2D"], "RELU6"), (5.0, ["CONV_2D", "MINIMUM"], "RELU")):
        net = Drawing("clip")
        x = net.convolution(net.input("x", (1, 4, 4, 3)), filters=4, activation="NONE", name="conv")
        x = net.binary("MAXIMUM", x, np.array([0.0]), "lower")
        made = rewritten(net.file(net.binary("MINIMUM", x, np.array([limit]), "upper")), scale=5)
        assert kinds(made.graph) == expected
        assert made.graph.operators[0].options["fused_activation_function"] == activation


@pytest.mark.parametrize("kind", ["SQUARE", "POW"])
def test_squares_are_products(kind: str) -> None:
    for exponent in (2.0, 3.0):
        net = Drawing("square")
        x = net.unary("TANH", net.input("x", (1, 4, 4, 3)), "first")
        operands = [x] if kind == "SQUARE" else [x, net.constant("exponent", np.array([exponent], np.float32))]
        y = net.operator(kind, operands, net.shape(x), "square", options_table=f"{kind.capitalize()}Options")
        fires = exponent == 2 or kind == "SQUARE"
        assert kinds(rewritten(net.file(y)).graph) == ["TANH", "MUL" if fires else "POW"]


def test_squared_differences_are_products_where_the_model_is_in_float() -> None:
    net = Drawing("variance")
    x = net.convolution(net.input("x", (1, 4, 4, 3)), filters=4, name="conv")
    centered = net.operator("SQUARED_DIFFERENCE", [x, net.mean(x, (3,), True, "mean")], (1, 4, 4, 4), "difference")
    graph = net.file(centered)
    made = rewritten(graph)
    assert kinds(made.graph) == ["CONV_2D", "MEAN", "SUB", "MUL"]
    integer = as_int8(graph)
    assert kinds(rewritten(integer).graph) == kinds(integer)
    assert cycles(as_int8(made.graph)) < cycles(integer)


@pytest.mark.parametrize("adjoint", [False, True])
def test_a_product_with_a_constant_matrix_is_fully_connected(adjoint: bool) -> None:
    net = Drawing("matrix")
    x = net.unary("TANH", net.input("x", (1, 16, 8)), "first")
    values = np.random.default_rng(0).normal(size=(5, 8) if adjoint else (8, 5)).astype(np.float32)
    options = {"adj_y": adjoint}
    inputs = [x, net.constant("matrix", values)]
    y = net.operator("BATCH_MATMUL", inputs, (1, 16, 5), "y", options_table="BatchMatMulOptions", options=options)
    graph = net.file(y)
    made = rewritten(graph)
    assert kinds(made.graph) == ["TANH", "FULLY_CONNECTED"]
    assert cycles(as_int8(made.graph)) < cycles(as_int8(graph))


def test_a_product_of_two_computed_matrices_stays() -> None:
    net = Drawing("attention")
    x = net.unary("TANH", net.input("x", (1, 8, 8)), "first")
    y = net.operator("BATCH_MATMUL", [x, x], (1, 8, 8), "y", options_table="BatchMatMulOptions")
    assert kinds(rewritten(net.file(y)).graph) == ["TANH", "BATCH_MATMUL"]


def test_gelu_is_found() -> None:
    for cubic, fires in ((0.044715, True), (0.05, False)):
        net = Drawing("gelu")
        x = net.unary("ABS", net.input("x", (1, 4, 4, 3)), "first")
        power = net.binary("MUL", net.binary("MUL", x, x, "square"), x, "cube")
        inner = net.binary("ADD", x, net.binary("MUL", power, np.array([cubic]), "scaled"), "sum")
        tanh = net.unary("TANH", net.binary("MUL", inner, np.array([np.sqrt(2 / np.pi)]), "inner"), "tanh")
        half = net.binary("MUL", x, np.array([0.5]), "half")
        y = net.binary("MUL", half, net.binary("ADD", tanh, np.array([1.0]), "gate"), "gelu")
        made = rewritten(net.file(y), scale=2)
        assert (kinds(made.graph) == ["ABS", "GELU"]) == fires
        assert ("GELU" in kinds(made.graph)) == fires
