"""Ethos-U85 beside LiteRT's reference kernels: modes that only it has, as Vela uses them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from mlia.backends.simulator.session import Session
from mlia.backends.vela.process import compile_model
from mlia.graph.graph import Operator, Quantization, Tensor
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.simulator.decode import operations
from mlia.simulator.operation import Compute, Rounding, Transfer
from mlia.targets.profiles import load_target
from mlia.testing import IntegerSketch
from mlia.transforms.interpreter import ReferenceModel
from tests.simulator.disassembly import disassemble

SHAPE = (1, 5, 6, 17)
OTHER = Quantization((0.031,), (-7,))
OUT = Quantization((0.077,), (11,))
_PROBABILITY = Quantization((1 / 256,), (-128,))
OUT_16 = Quantization((0.08,), (0,))


class Sketch(IntegerSketch):
    """Models of operators with more than one input, or an output of another type."""

    def other(self, name: str, shape: Sequence[int], dtype: str = "int8") -> int:
        return self.input(name, shape, dtype, OTHER if dtype == "int8" else OUT_16)

    def of(
        self, kind: str, inputs: Sequence[int], shape: Sequence[int], dtype: str, table: str = "", **options: Any
    ) -> int:
        quantization = {"int8": OUT, "int16": OUT_16}.get(dtype)
        output = self.tensor(Tensor(kind.lower(), tuple(shape), dtype, quantization))
        self._operators.append(Operator(len(self._operators), kind, tuple(inputs), (output,), options, table))
        return output


def _sum(net: Sketch, dtype: str) -> int:
    x, y = net.image("x", (1, 5, 1, 17), dtype), net.other("y", (1, 1, 6, 1), dtype)
    options = {"fused_activation_function": "NONE", "pot_scale_int16": False}
    return net.of("ADD", [x, y], SHAPE, dtype, "AddOptions", **options)


def _chain(net: Sketch, dtype: str) -> int:
    """Products and maxima that stay in chaining buffers."""
    x, y = net.image("x", SHAPE, dtype), net.other("y", SHAPE, dtype)
    product = net.of("MUL", [x, y], SHAPE, dtype, "MulOptions", fused_activation_function="RELU")
    z = net.input("z", SHAPE, dtype, OUT if dtype == "int8" else OUT_16)
    return net.of("MAXIMUM", [product, z], SHAPE, dtype)


def _matrices(net: Sketch, dtype: str) -> int:
    x, y = net.image("x", (1, 4, 12, 5), dtype), net.other("y", (1, 4, 9, 12), dtype)
    options = {"adj_x": True, "adj_y": True, "asymmetric_quantize_inputs": False}
    return net.of("BATCH_MATMUL", [x, y], (1, 4, 5, 9), dtype, "BatchMatMulOptions", **options)


def _leaky(net: Sketch, dtype: str) -> int:
    return net.of("LEAKY_RELU", [net.image("x", SHAPE, dtype)], SHAPE, dtype, "LeakyReluOptions", alpha=0.13)


def _softmax(net: Sketch, dtype: str) -> int:
    x = net.image("x", SHAPE, dtype)
    scale, zero = (1 / 256, -128) if dtype == "int8" else (1 / 32768, 0)
    return net.operator(
        "SOFTMAX", [x], SHAPE, "softmax", quantization=Quantization((scale,), (zero,)),
        options_table="SoftmaxOptions", options={"beta": 1.0},
    )  # fmt: skip


def _two_tables(net: Sketch, dtype: str) -> int:
    """A table of 256 bytes and one of 1024, which lies behind it in the look-up memory."""
    x = net.operator("LOGISTIC", [net.image("x", SHAPE, dtype)], SHAPE, "logistic", quantization=_PROBABILITY)
    return net.operator(
        "SOFTMAX", [x], SHAPE, "softmax", quantization=_PROBABILITY, options_table="SoftmaxOptions",
        options={"beta": 1.0},
    )  # fmt: skip


def _filtered_transposed(net: Sketch, dtype: str) -> int:
    """A convolution whose output is written in another order."""
    x = net.image("x", (1, 8, 7, 5))
    filtered = net.filter("CONV_2D", x, filters=12)
    return net.plain(
        "TRANSPOSE", filtered, net.integers("p", 0, 3, 1, 2), shape=(1, 12, 8, 7), table="TransposeOptions"
    )


def _transposed_words(net: Sketch, dtype: str) -> int:
    """32 bits are copied as accumulators that begin with the second operand."""
    x = net.input("x", (5, 6, 7), "int32")
    return net.plain("TRANSPOSE", x, net.integers("p", 2, 0, 1), shape=(7, 5, 6), table="TransposeOptions")


def _resized(net: Sketch, dtype: str, *, kind: str, size: tuple[int, int], **options: bool) -> int:
    x = net.image("x", (1, 5, 6, 8), dtype)
    table = "ResizeBilinearOptions" if kind == "RESIZE_BILINEAR" else "ResizeNearestNeighborOptions"
    options = {"align_corners": False, "half_pixel_centers": False} | options
    return net.plain(kind, x, net.integers("size", *size), shape=(1, *size, 8), table=table, **options)


def _reversed(net: Sketch, dtype: str) -> int:
    return net.plain("REVERSE_V2", net.image("x", SHAPE, dtype), net.integers("axis", 1, 2), table="ReverseV2Options")


def _largest(net: Sketch, dtype: str) -> int:
    axis = net.constant("axis", np.array(3, np.int32))
    options = {"output_type": "INT64"}
    return net.of("ARG_MAX", [net.image("x", SHAPE), axis], SHAPE[:3], "int64", "ArgMaxOptions", **options)


def _quotient(net: Sketch, dtype: str) -> int:
    x, y = net.input("x", SHAPE, "int32"), net.input("divisor", SHAPE, "int32")
    return net.of("DIV", [x, y], SHAPE, "int32", "DivOptions", fused_activation_function="NONE")


def _selected(net: Sketch, dtype: str) -> int:
    """A comparison of the NPU selects."""
    x, y = net.image("x", SHAPE, dtype), net.image("y", SHAPE, dtype)
    mask = net.input("mask", (1, 1, 6, 1), "bool")
    output = net.tensor(Tensor("selected", SHAPE, dtype, IntegerSketch.Q))
    net._operators.append(Operator(len(net._operators), "SELECT_V2", (mask, x, y), (output,)))
    return output


def _any(net: Sketch, dtype: str) -> int:
    x, axis = net.input("x", SHAPE, "bool"), net.integers("axis", 3)
    return net.of("REDUCE_ANY", [x, axis], (1, 5, 6, 1), "bool", "ReducerOptions", keep_dims=True)


def _gathered(net: Sketch, dtype: str) -> int:
    x, rows = net.image("x", (20, 16), dtype), net.input("row", (7,), "int32")
    return net.plain("GATHER", x, rows, shape=(7, 16), table="GatherOptions", axis=0, batch_dims=0)


def _tanh(net: Sketch, dtype: str) -> int:
    x = net.input("x", SHAPE, "int16", Quantization((1 / 4096,), (0,)))
    return net.operator("TANH", [x], SHAPE, "tanh", quantization=Quantization((1 / 32768,), (0,)))


Draw = Callable[[Sketch, str], int]
BOTH: dict[str, Draw] = {
    "sum": _sum,
    "chain": _chain,
    "matrices": _matrices,
    "softmax": _softmax,
    "reversed": _reversed,
    "selected": _selected,
    "gathered": _gathered,
    "bilinear": partial(_resized, kind="RESIZE_BILINEAR", size=(10, 12), half_pixel_centers=True),
    "bilinear_corners": partial(_resized, kind="RESIZE_BILINEAR", size=(9, 11), align_corners=True),
    "nearest": partial(_resized, kind="RESIZE_NEAREST_NEIGHBOR", size=(7, 11), half_pixel_centers=True),
    "nearest_corners": partial(_resized, kind="RESIZE_NEAREST_NEIGHBOR", size=(15, 18), align_corners=True),
}
CASES: dict[str, tuple[Draw, str]] = {
    **{f"{name}_{dtype}": (draw, dtype) for dtype in ("int8", "int16") for name, draw in BOTH.items()},
    "leaky_int16": (_leaky, "int16"),
    "tanh_int16": (_tanh, "int16"),
    "two_tables": (_two_tables, "int8"),
    "filtered_transposed": (_filtered_transposed, "int8"),
    "transposed_int32": (_transposed_words, "int32"),
    "largest": (_largest, "int8"),
    "quotient": (_quotient, "int32"),
    "any": (_any, "bool"),
}


def _content(name: str) -> bytes:
    draw, dtype = CASES[name]
    net = Sketch(name)
    return write_tflite(net.graph([draw(net, dtype)]))


def _sample(tensor: Tensor, random: np.random.Generator) -> Any:
    if tensor.dtype == "bool":
        return random.integers(0, 2, tensor.shape).astype(bool)
    if tensor.name == "row":
        return random.integers(0, 20, tensor.shape).astype(np.int32)
    limits = np.iinfo(tensor.dtype)
    values = random.integers(limits.min, limits.max, tensor.shape, endpoint=True).astype(tensor.dtype)
    return np.where(values == 0, 1, values).astype(tensor.dtype) if tensor.name == "divisor" else values


@pytest.mark.parametrize("macs", [256, 2048])
@pytest.mark.parametrize("name", CASES)
def test_a_model_computes_what_the_reference_does(name: str, macs: int) -> None:
    content = _content(name)
    compiled = compile_model(content, load_target(f"ethos-u85-{macs}"), 120).model
    assert [each.custom_code for each in read_tflite(compiled).main.operators] == ["ethos-u"]
    session, reference = Session(compiled), ReferenceModel(content)
    main, random = read_tflite(content).main, np.random.default_rng(0)
    for _ in range(3):
        sample = [_sample(main.tensors[index], random) for index in main.inputs]
        for ours, theirs in zip(session.run(sample), reference.run(sample), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def _executed(name: str) -> list[Compute | Transfer]:
    programs = disassemble(_content(name), "ethos-u85-256").programs
    found = [operation for program in programs for operation in operations(program)]
    return [operation for operation in found if isinstance(operation, Compute | Transfer)]


def _computes(name: str) -> list[Compute]:
    return [operation for operation in _executed(name) if isinstance(operation, Compute)]


def test_those_models_use_what_only_ethos_u85_has() -> None:
    """Vela maps them to what is tested here, so that the comparison above is one of those modes."""
    chained = _computes("chain_int8")
    assert any(operation.ofm.storage == "chained" for operation in chained)
    assert any(operation.ifm.storage == "chained" for operation in chained)
    assert all(operation.is_matmul for operation in _computes("matrices_int8") if operation.kind == "conv")
    assert any(operation.ofm_transpose == "hcw" for operation in _computes("matrices_int8"))
    assert {operation.ofm_reverse for operation in _computes("reversed_int8")} == {"h", "w"}
    assert _computes("transposed_int32")[0].accumulator_source == "ifm2"
    assert {operation.mode for operation in _computes("largest")} == {"argmax_x"}
    assert {1024} <= {each.activation.table_at for each in _computes("two_tables") if each.activation.table == 1}
    assert _computes("leaky_int16")[0].ifm2_scale != _computes("leaky_int16")[0].ifm_scale
    assert {"cmp_ne", "and", "and_not", "or"} <= {operation.mode for operation in _computes("selected_int8")}
    assert _computes("bilinear_int8")[0].ofm_scale.rounding == Rounding.SYMMETRIC
    (transfer,) = (each for each in _executed("gathered_int8") if isinstance(each, Transfer))
    assert transfer.indexed == "source"
