"""Models that LiteRT's kernels refuse or die of: what can be compared is compared, and the rest is named."""

import numpy as np
import pytest

import mlia
from mlia.backends.simulator.kernels import Choice, Level, surviving
from mlia.errors import CrashError
from mlia.graph.graph import Graph, Operator, Quantization
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.render.verify.terminal import render_verification
from mlia.testing import IntegerSketch
from mlia.transforms.forms import in_plain_form
from mlia.transforms.noise import Noise, index_sizes
from mlia.verification import Outcome, VerifyReport

TARGET = "ethos-u55-128"


def read(net: IntegerSketch, *outputs: int) -> Graph:
    return read_tflite(write_tflite(net.graph(list(outputs))))


def outcomes(found: VerifyReport) -> list[Outcome]:
    return [check.outcome for check in found.operators]


def test_a_reference_kernel_that_aborts_is_replaced_by_an_optimized_one() -> None:
    """LiteRT's reference SOFTMAX ends the process at such a scale of its input."""
    net = IntegerSketch("softmax")
    x = net.input("in", (1, 3), "int8", Quantization((7.8e-9,), (0,)))
    made = net.operator(
        "SOFTMAX", [x], (1, 3), "softmax", quantization=Quantization((1 / 256,), (-128,)),
        options_table="SoftmaxOptions", options={"beta": 1.0},
    )  # fmt: skip
    found = mlia.verify(read(net, made), TARGET, samples=1)
    assert "LiteRT's reference kernels cannot compute SOFTMAX here; its optimized ones did" in found.notes
    assert found.outputs[0].outcome == Outcome.EXACT
    assert Outcome.NOT_COMPUTED not in outcomes(found)


def around(net: IntegerSketch, kind: str, scale: float) -> Graph:
    """An operator of the host, or one that nothing computes, between two convolutions."""
    x = net.filter("CONV_2D", net.image("in", (1, 4, 4, 8)), filters=8, name="first")
    if kind == "CUSTOM":
        y = net.operator("RELU", [x], net.shape(x), "mystery")
        relu = net._operators[-1]
        net._operators[-1] = Operator(relu.index, "CUSTOM", relu.inputs, relu.outputs, custom_code="Mystery")
    else:
        options = {"fused_activation_function": "NONE", "pot_scale_int16": False}
        other = net.constant("other", np.ones((1, 1, 1, 8), np.int8), Quantization((scale,), (0,)))
        y = net.operator(kind, [x, other], net.shape(x), "sum", options_table="AddOptions", options=options)
    return read(net, net.filter("CONV_2D", y, filters=4, name="last"))


@pytest.mark.parametrize(
    ("kind", "scale", "name"),
    [("CUSTOM", 0.05, "Mystery"), ("ADD", 0.0, "ADD")],
)
def test_what_nothing_computes_costs_one_operator(kind: str, scale: float, name: str) -> None:
    """Of the host or, with a scale of 0, of the NPU."""
    found = mlia.verify(around(IntegerSketch("around"), kind, scale), TARGET, samples=1)
    assert outcomes(found) == [Outcome.EXACT, Outcome.NOT_COMPUTED, Outcome.EXACT]
    assert found.outputs[0].outcome == Outcome.EXACT
    assert any(f"LiteRT cannot compute {name} here" in note for note in found.notes)
    assert not found.is_unexplained
    title = " ".join(render_verification(found, 100, False, False).split("\n  target")[0].split())
    assert title.endswith("the same as far as LiteRT can compute it; it cannot 1 operator")


def test_an_output_that_nothing_computes_is_not_called_exact() -> None:
    net = IntegerSketch("last")
    x = net.filter("CONV_2D", net.image("in", (1, 4, 4, 8)), filters=8, name="first")
    y = net.operator("RELU", [x], net.shape(x), "mystery")
    relu = net._operators[-1]
    net._operators[-1] = Operator(relu.index, "CUSTOM", relu.inputs, relu.outputs, custom_code="Mystery")
    found = mlia.verify(read(net, y), TARGET, samples=1)
    assert [check.outcome for check in found.outputs] == [Outcome.NOT_COMPUTED]
    assert outcomes(found) == [Outcome.EXACT, Outcome.NOT_COMPUTED]


def test_what_ends_a_child_is_left_out_the_next_time() -> None:
    seen: list[Choice] = []

    def call(choice: Choice, told: object) -> str:
        seen.append(choice)
        if not choice.is_stepwise:
            raise CrashError("LiteRT crashed")
        if choice.levels.get("SVDF", Level.REFERENCE) != Level.NONE:
            assert callable(told)
            told("SVDF")
            raise CrashError("LiteRT crashed")
        return "done"

    assert surviving(call) == "done"
    assert [choice.levels.get("SVDF", Level.REFERENCE) for choice in seen] == [0, 0, 1, 2]

    def dies(choice: Choice, told: object) -> str:
        raise CrashError("LiteRT crashed (SIGKILL) on this model")

    with pytest.raises(CrashError, match="SIGKILL"):
        surviving(dies)


def with_bias(dtype: str, bias: str, axis: int = 0) -> Graph:
    net = IntegerSketch("bias")
    random = np.random.default_rng(0)
    x = net.image("x", (1, 6, 6, 8), dtype)
    weights = random.integers(-127, 128, (8, 3, 3, 8)).astype(np.int8)
    w = net.constant("w", weights, Quantization((0.01,) * 8, (0,) * 8, 0))
    values = random.integers(-3000, 3000, 8).astype(bias)
    b = net.constant("b", values, Quantization((0.0005,) * 8, (0,) * 8, axis))
    options = {
        "padding": "SAME", "stride_w": 1, "stride_h": 1, "fused_activation_function": "NONE",
        "dilation_w_factor": 1, "dilation_h_factor": 1,
    }  # fmt: skip
    made = net.operator(
        "CONV_2D", [x, w, b], (1, 6, 6, 8), "y", dtype=dtype, quantization=Quantization((0.05,), (0,)),
        options_table="Conv2DOptions", options=options,
    )  # fmt: skip
    return read(net, made)


def test_forms_that_litert_does_not_take_are_read_as_they_are_meant() -> None:
    found = mlia.verify(with_bias("int8", "int32", axis=3), TARGET, samples=1)
    assert (found.outputs[0].outcome, found.notes) == (Outcome.EXACT, ())
    plain = with_bias("int16", "int64")
    assert in_plain_form(plain) is plain
    short = in_plain_form(with_bias("int16", "int32")).main.tensors
    assert [bytes(tensor.data) for tensor in short] == [bytes(tensor.data) for tensor in plain.main.tensors]


@pytest.mark.parametrize(
    ("target", "outcome", "reason"),
    [("ethos-u55-128", Outcome.DOCUMENTED, "two roundings"), ("ethos-u85-256", Outcome.DIFFERENT, "a known defect")],
)
def test_a_short_bias_beside_int16_is_told_as_what_it_is(target: str, outcome: Outcome, reason: str) -> None:
    (check,) = mlia.verify(with_bias("int16", "int32"), target).outputs
    assert check.outcome == outcome
    assert reason in check.reason


@pytest.mark.parametrize("target", ["ethos-u55-128", "ethos-u85-256"])
def test_a_scale_that_is_nothing_is_told_as_what_it_is(target: str) -> None:
    net = IntegerSketch("tiny")
    x, y = (net.image(name, (1, 4, 4, 8)) for name in "xy")
    options = {"fused_activation_function": "NONE"}
    made = net.operator(
        "MUL", [x, y], (1, 4, 4, 8), "product", quantization=Quantization((2.97e-35,), (0,)),
        options_table="MulOptions", options=options,
    )  # fmt: skip
    found = mlia.verify(read(net, made), target)
    assert not found.is_unexplained


def test_indexes_are_drawn_from_what_there_is() -> None:
    net = IntegerSketch("rows")
    table = net.constant("table", np.arange(24, dtype=np.int8).reshape(6, 4), IntegerSketch.Q)
    index = net.input("index", (1, 5), "int32", None)
    flat = net.operator("RESHAPE", [index, net.integers("shape", 5)], (5,), "flat", dtype="int32")
    made = net.operator(
        "GATHER", [table, flat], (5, 4), "rows", dtype="int8", options_table="GatherOptions",
        options={"axis": 0, "batch_dims": 0}, quantization=IntegerSketch.Q,
    )  # fmt: skip
    graph = net.graph([made])
    assert index_sizes(graph) == [6]
    tensors = [graph.main.tensors[each] for each in graph.main.inputs]
    drawn = [sample[0] for sample in Noise(tensors, 0, 20, index_sizes(graph))]
    assert {int(number) for array in drawn for number in array.ravel()} == {*range(6)}
