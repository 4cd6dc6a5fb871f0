"""Which kernel runs an operator; what is refused is checked against TFLite Micro itself where that is installed."""

import numpy as np
import pytest

from mlia.backends.cortex_m.costs import cycles_of
from mlia.backends.cortex_m.coverage import ACCELERATED, CUSTOM, SUPPORTED, WEIGHT_TYPES
from mlia.backends.cortex_m.kernels import Kernel, kernel_of
from mlia.errors import TargetError
from mlia.graph.builder import GraphBuilder
from mlia.graph.graph import Graph, Operator, OptionValue, Quantization, Tensor
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_schema import ENUMS
from mlia.graph.tflite_writer import write_tflite
from mlia.targets.cores import core_names, load_core
from mlia.testing import Sketch, quantize_synthetically

Q = Quantization((0.1,), (0,))
M4, M55, M0PLUS = load_core("cortex-m4"), load_core("cortex-m55"), load_core("cortex-m0plus")


def single(
    kind: str,
    dtype: str = "int8",
    shapes: tuple[tuple[int, ...], ...] = ((1, 4, 4, 8),),
    out: tuple[int, ...] = (1, 4, 4, 8),
    weights: tuple[tuple[int, ...], str] | None = None,
    custom_code: str = "",
    **options: OptionValue,
) -> Graph:
    net = GraphBuilder("single")
    quantization = Q if dtype in ("int8", "int16", "uint8") else None
    inputs = [net.input(f"x{i}", shape, dtype, quantization) for i, shape in enumerate(shapes)]
    if weights:
        inputs.append(net.tensor(Tensor("w", weights[0], weights[1], Q)))
    y = net.operator(kind, inputs, out, "y", options=options, custom_code=custom_code)
    return net.graph([y])


def kernel(graph: Graph, core: str = "cortex-m4") -> Kernel:
    return kernel_of(graph.operators[0], graph.main, load_core(core))


@pytest.mark.parametrize("code", CUSTOM)
def test_custom_operators_that_come_with_tflite_micro(code: str) -> None:
    """A model that uses them starts, and larger inputs never cost less."""
    small, large = (single("CUSTOM", "int16", ((1, size),), (size,), custom_code=code).main for size in (64, 512))
    assert kernel_of(small.operators[0], small, M55).is_supported
    costs = [cycles_of(each.operators[0], each, M55) for each in (small, large)]
    assert costs[0] is not None
    assert costs[1] is not None
    assert 0 < costs[0].cycles < costs[1].cycles


def test_an_unknown_core_is_an_error_that_lists_those_that_are_known() -> None:
    with pytest.raises(TargetError, match=r"'cortex-m3'; there are cortex-m0plus, .*cortex-m85"):
        load_core("cortex-m3")


@pytest.mark.parametrize("name", core_names())
def test_each_core_says_where_its_figures_are_from(name: str) -> None:
    core = load_core(name)
    assert core.name == name
    assert core.stack == "TFLM + CMSIS-NN"
    assert core.sources
    assert core.note
    assert core.prior_low < core.fitted_low < 1 < core.fitted_high < core.prior_high


@pytest.mark.parametrize(("core", "name"), [("cortex-m55", "MVE"), ("cortex-m33", "DSP"), ("cortex-m0plus", "plain C")])
def test_the_name_of_a_kernel_says_size_and_instructions(core: str, name: str) -> None:
    pointwise = kernel(single("CONV_2D", weights=((8, 1, 1, 8), "int8")), core)
    assert (pointwise.library, pointwise.name) == ("CMSIS-NN", f"convolution 1x1, {name}")
    square = kernel(single("CONV_2D", weights=((8, 3, 3, 8), "int8")), core)
    assert square.name == f"convolution 3x3, im2col, {name}"
    assert "columns" in square.reason


def test_a_line_of_pixels_needs_no_columns_on_mve() -> None:
    line = single("CONV_2D", shapes=((1, 1, 16, 8),), out=(1, 1, 16, 8), weights=((8, 1, 3, 8), "int8"))
    assert kernel(line, "cortex-m55").name == "convolution 1x3, MVE"
    assert kernel(line, "cortex-m4").name == "convolution 1x3, im2col, DSP"


def test_dilated_and_multiplied_depthwise_run_a_general_kernel() -> None:
    plain = single("DEPTHWISE_CONV_2D", weights=((1, 3, 3, 8), "int8"))
    dilated = single("DEPTHWISE_CONV_2D", weights=((1, 3, 3, 8), "int8"), dilation_w_factor=2)
    multiplied = single("DEPTHWISE_CONV_2D", out=(1, 4, 4, 16), weights=((1, 3, 3, 16), "int8"))
    assert kernel(plain).name == "depthwise 3x3, DSP"
    assert kernel(dilated).name == kernel(multiplied).name == "depthwise 3x3, general, DSP"


def test_int4_weights_and_int16_activations_are_told() -> None:
    assert kernel(single("CONV_2D", weights=((8, 1, 1, 8), "int4"))).name == "convolution 1x1, int4 weights, DSP"
    assert kernel(single("CONV_2D", "int16", weights=((8, 1, 1, 8), "int8"))).name == "convolution 1x1, DSP, int16"


def test_float_is_supported_but_slow() -> None:
    found = kernel(single("CONV_2D", "float32", weights=((8, 1, 1, 8), "float32")))
    assert found == Kernel(
        "TFLM reference",
        "convolution, float32",
        True,
        "TFLite Micro calls CMSIS-NN's convolution for int8 and int16, not for float32",
    )


def test_what_cmsis_nn_does_not_take_runs_the_reference_kernel() -> None:
    assert kernel(single("ADD", shapes=((1, 4, 4, 8), (1, 4, 4, 8)))).library == "CMSIS-NN"
    broadcast = kernel(single("ADD", shapes=((1, 4, 4, 8), (1, 1, 1, 8))))
    assert (broadcast.library, broadcast.is_supported) == ("TFLM reference", True)
    assert "one shape only" in broadcast.reason
    assert kernel(single("SUB", shapes=((1, 4, 4, 8), (1, 4, 4, 8)))).library == "TFLM reference"
    assert kernel(single("TRANSPOSE", shapes=((1, 1, 4, 4, 8),))).library == "TFLM reference"


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (single("GELU"), "TFLite Micro has no GELU"),
        (single("ELU", "int16"), "TFLite Micro has ELU for float32, int8, not for int16"),
        (
            single("FULLY_CONNECTED", "float32", shapes=((1, 8),), out=(1, 4), weights=((4, 8), "int8")),
            "TFLite Micro takes float32 weights with float32 inputs, not int8",
        ),
        (single("CUSTOM", custom_code="Mine"), "'Mine' does not come with TFLite Micro"),
        (single("CUSTOM", custom_code="ethos-u"), "it is for the Ethos-U, not for the CPU"),
        (single("CONV_2D", weights=((8, 3), "int8")), "TFLite Micro's convolution takes weights of 4 dimensions"),
        (single("CONV_2D"), "TFLite Micro's convolution takes weights of 4 dimensions"),
    ],
)
def test_what_tflite_micro_cannot_run_is_told_apart(graph: Graph, reason: str) -> None:
    found = kernel(graph)
    assert (found.is_supported, found.reason) == (False, reason)


def test_the_tables_name_operators_that_there_are() -> None:
    kinds = set(ENUMS["BuiltinOperator"].values())
    assert set(SUPPORTED) <= kinds
    for kind, types in ACCELERATED.items():
        assert set(types) <= set(SUPPORTED[kind])
    for kind, weights in WEIGHT_TYPES.items():
        assert set(weights) == set(SUPPORTED[kind])


def test_a_whole_network_is_supported_in_int8_and_in_float() -> None:
    net = Sketch("tiny")
    x = net.input("image", (1, 8, 8, 3))
    x = net.depthwise(net.convolution(x, filters=8, kernel=(3, 3), name="conv"), name="dw")
    x = net.softmax(net.fully_connected(net.reshape(net.average_pool(x, kernel=(8, 8)), (1, 8)), units=4))
    content = write_tflite(net.graph([x]))
    for graph, library in (
        (read_tflite(content), "TFLM reference"),
        (read_tflite(quantize_synthetically(content)), "CMSIS-NN"),
    ):
        found = {operator.kind: kernel_of(operator, graph.main, M55) for operator in graph.operators}
        assert all(each.is_supported for each in found.values())
        assert found["CONV_2D"].library == found["SOFTMAX"].library == library


UNARY = (
    "ABS NEG EXP LOG SIN COS SQRT RSQRT SQUARE CEIL FLOOR ROUND RELU RELU6 RELU_N1_TO_1 ELU LEAKY_RELU HARD_SWISH GELU"
)
BINARY = "SUB MAXIMUM MINIMUM SQUARED_DIFFERENCE FLOOR_MOD POW EQUAL GREATER LESS_EQUAL ADD_N"


@pytest.mark.parametrize("dtype", ["float32", "int8", "int16", "int32"])
@pytest.mark.parametrize("kind", [*UNARY.split(), *BINARY.split()])
def test_tflite_micro_agrees(kind: str, dtype: str) -> None:
    runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime")
    shape = (1, 2, 2, 4)
    net = GraphBuilder("one")
    quantization = Q if dtype in ("int8", "int16") else None
    x = net.input("x", shape, dtype, quantization)
    ones = np.ones(shape).astype(dtype)
    inputs = [x] if kind in UNARY.split() else [x, net.constant("ones", ones, quantization)]
    logical = kind in ("EQUAL", "GREATER", "LESS_EQUAL")
    y = net.tensor(Tensor("y", shape, "bool" if logical else dtype, None if logical else quantization))
    table = {"LEAKY_RELU": "LeakyReluOptions", "SUB": "SubOptions"}.get(kind, "")
    graph = net.graph([y])
    main = graph.subgraphs[0]
    operators = (Operator(0, kind, tuple(inputs), (y,), options_table=table),)
    graph = Graph((type(main)(0, "main", main.tensors, operators, main.inputs, main.outputs),))
    try:
        interpreter = runtime.Interpreter.from_bytes(bytes(write_tflite(graph)), arena_size=100_000)
        interpreter.set_input(ones, 0)
        interpreter.invoke()
        runs = True
    except RuntimeError:
        runs = False
    assert kernel(graph).is_supported is runs
