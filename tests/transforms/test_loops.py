"""Loops of recurrent layers, unrolled so that they can be quantized."""

import numpy as np
import pytest
from msgspec.structs import replace

import mlia
from mlia.cpu_results import CpuPerformance, SystemTime
from mlia.graph.builder import GraphBuilder
from mlia.graph.graph import Graph, Operator, Subgraph, Tensor
from mlia.graph.loops import subgraph_runs, trip_count
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.report import Conversion
from mlia.results import Performance, Skipped
from mlia.transforms.calibration import synthetic_calibration
from mlia.transforms.interpreter import outputs
from mlia.transforms.loops import ready_to_quantize
from mlia.transforms.quantize import quantize

STEPS, UNITS = 5, 8


def number(builder: GraphBuilder, name: str, value: int) -> int:
    """A scalar constant, of which a builder would make a vector."""
    return builder.tensor(Tensor(name, (), "int32", data=memoryview(np.int32(value).tobytes())))


def recurrent_loop(*, is_limit_known: bool = True) -> Graph:
    """state = tanh(weights * (x[step] + state)), as Keras's converter writes it: WHILE with a counter."""
    main, condition, body = (GraphBuilder(name) for name in ("main", "condition", "body"))
    x = main.input("x", (STEPS, 1, UNITS))
    limit = main.input("limit", (), "int32") if not is_limit_known else number(main, "limit", STEPS)
    starts = [number(main, "first", 0), main.constant("state", np.zeros((1, UNITS), np.float32)), x, limit]
    shapes = [((), "int32"), ((1, UNITS), "float32"), ((STEPS, 1, UNITS), "float32"), ((), "int32")]
    made = [main.tensor(Tensor(f"after_{number}", *each)) for number, each in enumerate(shapes)]
    options = {"cond_subgraph_index": 1, "body_subgraph_index": 2}
    loop = Operator(0, "WHILE", tuple(starts), tuple(made), options, "WhileOptions")
    count, _, _, last = (condition.input(f"c{number}", *each) for number, each in enumerate(shapes))
    less = condition.operator("LESS", [count, last], (), "less", dtype="bool")
    step, state, whole, end = (body.input(f"b{number}", *each) for number, each in enumerate(shapes))
    following = body.operator("ADD", [step, number(body, "one", 1)], (), "next", options_table="AddOptions")
    part = body.operator("GATHER", [whole, step], (1, UNITS), "part", options_table="GatherOptions")
    total = body.operator("ADD", [part, state], (1, UNITS), "sum", options_table="AddOptions")
    weights = body.constant("weights", np.random.default_rng(0).normal(0, 0.5, (UNITS, UNITS)).astype(np.float32))
    dense = body.operator(
        "FULLY_CONNECTED", [total, weights, -1], (1, UNITS), "dense", options_table="FullyConnectedOptions"
    )
    after = body.operator("TANH", [dense], (1, UNITS), "tanh")
    inner = (condition.graph([less]).main, body.graph([following, after, whole, end]).main)
    whole_main = replace(main.graph([made[1]]).main, operators=(loop,))
    parts: list[Subgraph] = [
        whole_main,
        *(replace(each, index=n, name=("condition", "body")[n - 1]) for n, each in enumerate(inner, 1)),
    ]
    return read_tflite(write_tflite(Graph(tuple(parts))))


def test_a_loop_with_constants_is_unrolled_into_the_same_model() -> None:
    graph = recurrent_loop()
    assert trip_count(graph, graph.main, graph.operators[0]) == STEPS
    made, changes = ready_to_quantize(graph)
    assert changes == (f"a WHILE unrolled into {STEPS} steps",)
    assert len(made.subgraphs) == 1
    assert {operator.kind for operator in made.operators} == {"STRIDED_SLICE", "ADD", "FULLY_CONNECTED", "TANH"}
    x = np.random.default_rng(1).normal(size=(3, STEPS, 1, UNITS)).astype(np.float32)
    (expected,), (found,) = (outputs(each.file, [x]) for each in (graph, made))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_loop_is_quantized() -> None:
    graph = recurrent_loop()
    made = quantize(graph, synthetic_calibration(graph))
    assert made.kept_in_float == ""
    assert made.fidelity.outputs[0].relative_error < 0.1


def test_a_loop_of_unknown_length_stays_and_is_told() -> None:
    graph = recurrent_loop(is_limit_known=False)
    assert trip_count(graph, graph.main, graph.operators[0]) is None
    assert ready_to_quantize(graph) == (graph, ())
    report = mlia.check(graph, "ethos-u55-128", try_remedies=False)
    conversion = report.model.conversion
    assert isinstance(conversion, Conversion)
    assert conversion.kept_in_float.startswith("kept in float: ")
    assert conversion.quantized == ""
    assert report.model.sha256 == mlia.check(graph, "cortex-m55", quantize=False).model.sha256


def test_a_fused_lstm_without_ranges_becomes_integer() -> None:
    from mlia.graph.formats.keras import build_graph
    from mlia.graph.formats.keras_model import KerasModel

    random = np.random.default_rng(0)
    shapes = ((4, 4 * UNITS), (UNITS, 4 * UNITS), (4 * UNITS,))
    weights = tuple(random.normal(0, 0.5, shape).astype(np.float32) for shape in shapes)
    layer = {"class_name": "LSTM", "config": {"name": "lstm", "units": UNITS, "batch_input_shape": [1, 6, 4]}}
    config = {"class_name": "Sequential", "config": {"name": "net", "layers": [layer]}}
    graph = build_graph(KerasModel(config, {"lstm": weights}, "Keras"))
    bare = tuple(replace(operator, intermediates=()) for operator in graph.operators)
    graph = read_tflite(write_tflite(replace(graph, subgraphs=(replace(graph.main, operators=bare),))))
    made = quantize(graph, synthetic_calibration(graph))
    lstm = made.graph.operators[0]
    assert made.graph.main.tensors[lstm.outputs[0]].dtype == "int8"
    assert made.kept_in_float == ""


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_a_cell_in_an_rnn_layer_is_the_layer_of_its_kind(kind: str) -> None:
    from mlia.graph.formats.keras import build_graph
    from mlia.graph.formats.keras_model import KerasModel

    gates = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}[kind]
    random = np.random.default_rng(0)
    bias = (2, gates * UNITS) if kind == "GRU" else (gates * UNITS,)
    shapes = ((4, gates * UNITS), (UNITS, gates * UNITS), bias)
    weights = tuple(random.normal(0, 0.5, shape).astype(np.float32) for shape in shapes)
    cell = {"name": "cell", "units": UNITS, "reset_after": True}
    shape = {"name": "layer", "batch_input_shape": [1, 6, 4], "return_sequences": True}
    wrapped = {"class_name": "RNN", "config": {**shape, "cell": {"class_name": f"{kind}Cell", "config": cell}}}
    plain = {"class_name": kind, "config": {**cell, **shape}}
    written = []
    for layer in (wrapped, plain):
        config = {"class_name": "Sequential", "config": {"name": "net", "layers": [layer]}}
        written.append(write_tflite(build_graph(KerasModel(config, {"layer": weights}, "Keras"))))
    assert written[0] == written[1]


def gated_loop() -> Graph:
    """The loop, with a gate that multiplies the state before it is added, as a GRU's does."""
    graph = recurrent_loop()
    body = graph.subgraphs[2]
    total = next(found for found in body.operators if body.operator_name(found) == "sum")
    part, state = total.inputs
    tensors = (
        *body.tensors, replace(body.tensors[part], name="gate"), replace(body.tensors[part], name="past"),
    )  # fmt: skip
    gate, past = len(tensors) - 2, len(tensors) - 1
    further = (
        Operator(0, "LOGISTIC", (part,), (gate,)),
        Operator(0, "MUL", (gate, state), (past,), {"fused_activation_function": "NONE"}, "MulOptions"),
        replace(total, inputs=(part, past)),
    )
    operators = [each for found in body.operators for each in (further if found is total else (found,))]
    operators = [replace(found, index=number) for number, found in enumerate(operators)]
    body = replace(body, tensors=tensors, operators=tuple(operators))
    return read_tflite(write_tflite(replace(graph, subgraphs=(*graph.subgraphs[:2], body))))


def test_products_with_a_state_of_zeros_are_left_out() -> None:
    """They would be tensors of zeros, whose scale says nothing, and advice would be about what is not the user's."""
    graph = gated_loop()
    unrolled, _ = ready_to_quantize(graph)
    counts = [sum(found.kind == kind for found in unrolled.operators) for kind in ("LOGISTIC", "MUL", "ADD")]
    assert counts == [STEPS - 1] * 3
    samples = [np.random.default_rng(1).normal(0, 1, (8, STEPS, 1, UNITS)).astype(np.float32)]
    for theirs, ours in zip(*(outputs(bytes(each.content), samples) for each in (graph, unrolled)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    made = quantize(graph, synthetic_calibration(graph)).graph
    assert min(each.quantization.scale[0] for each in made.main.tensors if each.quantization) > 1e-9


@pytest.mark.parametrize("target", ["cortex-m55", "ethos-u55-128"])
def test_a_loop_costs_as_often_as_it_runs(target: str) -> None:
    """What stands in the body is paid for in each of its runs, the condition once more; per run where it is listed."""
    graph = recurrent_loop()
    assert subgraph_runs(graph) == {0: 1, 1: STEPS + 1, 2: STEPS}
    (entry,) = mlia.check(graph, target, quantize=False, try_remedies=False).targets
    found = entry.results[0].performance
    if isinstance(found, CpuPerformance):
        operators, cycles, note = found.operators, found.total_cycles, found.note
        assert found.macs == STEPS * UNITS * UNITS
    else:
        assert isinstance(found, Performance)
        assert isinstance(found.system, SystemTime)
        operators, cycles, note = found.cpu_costs, found.system.cpu.cycles, found.system.note
        assert found.latency_ms == found.system.cpu.latency_ms
    times = (1, STEPS + 1, STEPS)
    assert cycles == sum((each.total_cycles or 0) * times[each.subgraph] for each in operators)
    assert f"'body' {STEPS} times" in note


def test_a_loop_of_unknown_length_has_no_time() -> None:
    graph = recurrent_loop(is_limit_known=False)
    assert subgraph_runs(graph) == {0: 1, 1: None, 2: None}
    found = mlia.check(graph, "ethos-u55-128", quantize=False, try_remedies=False).targets[0].results[0].performance
    assert isinstance(found, Performance)
    assert isinstance(found.system, Skipped)
    assert "how often 'condition' and the like are called is not known" in found.system.reason
    alone = mlia.check(graph, "cortex-m55", quantize=False).targets[0].results[0].performance
    assert isinstance(alone, CpuPerformance)
    assert "Not in the total are the subgraphs 'condition', 'body': how often" in alone.note
