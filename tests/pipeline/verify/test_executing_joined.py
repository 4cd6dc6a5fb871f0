"""What the compiler joins, loses or rounds otherwise: nobody is accused of it, and an output that is lost is missed."""

import numpy as np
import pytest
from msgspec.structs import replace

import mlia
from mlia.graph.graph import Quantization
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.pipeline.verify.explain import LOST
from mlia.testing import IntegerSketch
from mlia.transforms.remedies.outputs import computed_twice
from mlia.verification import Outcome


def test_an_output_that_the_compiler_lost_is_different() -> None:
    net = IntegerSketch("lost")
    v = net.plain(
        "TRANSPOSE", net.image("x", (1, 8, 4, 8)), net.integers("p", 0, 2, 1, 3), shape=(1, 4, 8, 8), name="v"
    )
    options = {"adj_x": False, "adj_y": False, "asymmetric_quantize_inputs": False}
    y = net.operator(
        "BATCH_MATMUL", [net.image("a", (1, 4, 8, 8)), v], (1, 4, 8, 8), "y", options_table="BatchMatMulOptions",
        options=options,
    )  # fmt: skip
    graph = read_tflite(write_tflite(net.graph([y, v])))
    found = mlia.verify(graph, "ethos-u55-128", samples=1)
    assert [check.outcome for check in found.outputs] == [Outcome.EXACT, Outcome.DIFFERENT]
    assert found.outputs[1].reason == LOST
    mended = read_tflite(write_tflite(computed_twice(graph, (1,))))
    again = mlia.verify(mended, "ethos-u55-128", samples=1)
    assert [check.outcome for check in again.outputs] == [Outcome.EXACT] * 2


def test_a_fused_tanh_is_told_as_the_defect_that_it_is() -> None:
    net = IntegerSketch("activated")
    x = net.image("x", (1, 6, 8, 8))
    tanh = read_tflite(write_tflite(net.graph([net.filter("CONV_2D", x, filters=8, activation="TANH", name="o")])))
    (check,) = mlia.verify(tanh, "ethos-u85-256", samples=1).outputs
    assert check.outcome == Outcome.DIFFERENT
    assert "a known defect: Vela 5.2 makes the table of a fused TANH" in check.reason


@pytest.mark.parametrize("target", ["ethos-u55-128", "ethos-u65-256", "ethos-u85-256"])
def test_what_is_joined_is_compared_with_what_it_became_or_not_at_all(target: str) -> None:
    """A root of a mean, which Ethos-U85 writes as a table of the sum, and transpositions one behind the other."""
    net = IntegerSketch("joined")
    options = {"fused_activation_function": "NONE", "pot_scale_int16": False}
    x = net.image("x", (1, 12, 6, 16))
    square = net.operator(
        "MUL", [x, x], net.shape(x), "square", quantization=Quantization((0.16,), (-128,)), options_table="MulOptions",
        options={"fused_activation_function": "NONE"},
    )  # fmt: skip
    mean = net.plain(
        "MEAN",
        square,
        net.integers("axes", 3),
        shape=(1, 12, 6, 1),
        name="mean",
        table="ReducerOptions",
        keep_dims=True,
    )
    more = net.constant("more", np.array([[[[3]]]], np.int8), Quantization((0.01,), (0,)))
    added = net.operator("ADD", [mean, more], (1, 12, 6, 1), "added", options_table="AddOptions", options=options)
    root = net.operator("RSQRT", [added], (1, 12, 6, 1), "root", quantization=Quantization((0.01,), (-128,)))
    product = net.operator(
        "MUL", [x, root], net.shape(x), "product", options_table="MulOptions",
        options={"fused_activation_function": "NONE"},
    )  # fmt: skip
    turned = net.plain("TRANSPOSE", product, net.integers("p", 0, 2, 1, 3), shape=(1, 6, 12, 16), name="turned")
    again = net.plain("TRANSPOSE", turned, net.integers("q", 0, 1, 3, 2), shape=(1, 6, 16, 12), name="again")
    found = mlia.verify(read_tflite(write_tflite(net.graph([again]))), target)
    assert not found.is_unexplained


@pytest.mark.parametrize("target", ["ethos-u55-128", "ethos-u85-256"])
def test_differences_that_add_up_from_layer_to_layer_are_known(target: str) -> None:
    net = IntegerSketch("autoencoder")
    x = net.image("in", (1, 128))
    for number in range(10):
        x = net.dense(x, 8 if number == 5 else 128, name=f"dense_{number}")
    found = mlia.verify(read_tflite(write_tflite(net.graph([x]))), target, samples=8)
    assert {check.outcome for check in (*found.outputs, *found.operators)} <= {Outcome.EXACT, Outcome.DOCUMENTED}


def test_an_old_memory_plan_is_told_as_what_it_is() -> None:
    """Vela keeps the plan that a file brings along, and writes none of its own."""
    net = IntegerSketch("planned")
    graph = net.graph([net.filter("CONV_2D", net.image("x", (1, 4, 4, 8)), filters=8, name="conv")])
    plan = memoryview(np.array([1, 0, 2, 16, 32], np.int32).tobytes())
    planned = read_tflite(write_tflite(replace(graph, metadata={"OfflineMemoryAllocation": plan})))
    found = mlia.verify(planned, "ethos-u55-128", samples=1)
    assert [danger.kind for danger in found.dangers] == ["old memory plan"]
    assert found.outputs[0].outcome == Outcome.EXACT


def test_outputs_that_the_compiled_model_does_not_have_are_lost() -> None:
    """Vela 5.2 leaves out an output that is marked as a variable; the others are known by their names."""
    net = IntegerSketch("left out")
    x = net.image("x", (1, 4, 5, 1))
    options = {"fused_activation_function": "NONE", "pot_scale_int16": False}
    kept = net.operator("ADD", [x, x], (1, 4, 5, 1), "kept", options_table="AddOptions", options=options)
    left = net.operator(
        "MUL", [x, x], (1, 4, 5, 1), "left", options_table="MulOptions", options={"fused_activation_function": "NONE"}
    )
    graph = net.graph([left, kept])
    tensors = tuple(replace(each, is_variable=each.name == "left") for each in graph.main.tensors)
    graph = read_tflite(write_tflite(replace(graph, subgraphs=(replace(graph.main, tensors=tensors),))))
    found = mlia.verify(graph, "ethos-u55-128", samples=1)
    assert [check.outcome for check in found.outputs] == [Outcome.DIFFERENT, Outcome.EXACT]
    assert found.outputs[0].reason == LOST
    (entry,) = mlia.check(graph, "ethos-u55-128", try_remedies=False).targets
    assert "VER002" in [each.code for each in entry.advised.advice]
