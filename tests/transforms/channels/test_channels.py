from math import ceil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from networks_of_channels import add, concatenate, mean, network

import mlia
from mlia.errors import TransformError
from mlia.graph.graph import Graph
from mlia.graph.load import load_model
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.recipe import Channels, Layer, Recipe
from mlia.results import Compatibility, Performance
from mlia.testing import Sketch
from mlia.transforms.calibration import Array, Calibration, synthetic_calibration
from mlia.transforms.channels import remove
from mlia.transforms.channels.cut import Draft
from mlia.transforms.channels.remove import remove_channels
from mlia.transforms.interpreter import outputs
from mlia.transforms.quantize import quantize


def half(**others: object) -> Recipe:
    return Recipe(channels=Channels(0.5), **others)  # type: ignore[arg-type]


DEAD = Recipe(channels=Channels("dead"))


def finished(net: Sketch, x: int) -> Graph:
    return read_tflite(write_tflite(net.graph([x])))


def chain(filters: int = 32) -> Graph:
    """Three convolutions with something to lose."""
    net = Sketch("chain")
    x = net.convolution(net.input("image", (1, 8, 8, 3)), filters=filters, kernel=(3, 3), name="first")
    x = net.depthwise(x, name="depthwise")
    x = net.convolution(x, filters=filters, name="second")
    x = net.convolution(x, filters=filters, kernel=(3, 3), stride=(2, 2), name="third")
    return finished(net, net.fully_connected(mean(net, x, "mean"), units=4, name="last"))


def images(graph: Graph, samples: int = 64, seed: int = 0) -> tuple[Array, ...]:
    """Smooth noise: neighboring pixels are alike, as in what cameras see."""
    shape = graph.main.tensors[graph.main.inputs[0]].shape
    noise = np.random.default_rng(seed).normal(0, 1, (samples, *shape))
    for axis in (2, 3):
        noise = noise + np.roll(noise, 1, axis) + np.roll(noise, 2, axis)
    return (noise.astype(np.float32),)


def distance(graph: Graph, changed: Graph, samples: tuple[Array, ...]) -> float:
    (expected,), (found,) = (outputs(bytes(one.content), samples) for one in (graph, changed))
    assert found.shape == expected.shape
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def widths(graph: Graph) -> dict[str, int]:
    """How many outputs each operator with dense weights has."""
    return {
        graph.main.operator_name(operator): graph.main.tensors[operator.outputs[0]].shape[-1]
        for operator in graph.operators
        if operator.kind in ("CONV_2D", "FULLY_CONNECTED")
    }


def with_dead(graph: Graph, name: str, dead: int, bias: float) -> Graph:
    """The graph with weights of zero and this bias in the first channels of one operator."""
    draft = Draft(graph.main)
    index = next(operator.index for operator in graph.operators if graph.main.operator_name(operator) == name)
    weights, biases = draft.constant(index, 1).copy(), draft.constant(index, 2).copy()
    weights[:dead], biases[:dead] = 0, bias
    draft.place(index, 1, weights)
    draft.place(index, 2, biases)
    return read_tflite(write_tflite(replace(graph, subgraphs=(draft.subgraph(),))))


def test_keeping_all_changes_nothing() -> None:
    graph = chain()
    for recipe in (Recipe(channels=Channels(1.0)), Recipe(), DEAD):
        made = remove_channels(graph, images(graph), recipe)
        assert made.graph is graph
        assert made.changes == ()
    reasons = {skipped.what: skipped.reason for skipped in made.skipped}
    assert reasons["first"] == "0 of 32 channels never change, and a multiple of 8 is kept"
    assert reasons["last"] == "is an output of the model"


@pytest.mark.parametrize("compensate", [False, True])
@pytest.mark.parametrize("bias", [-1.0, 0.0])
def test_channels_of_zeros_are_removed_without_a_trace(compensate: bool, bias: float) -> None:
    graph = with_dead(chain(), "second", 17, bias)
    made = remove_channels(graph, images(graph), replace(DEAD, compensate=compensate))
    assert widths(made.graph) == {**widths(graph), "second": 16}
    assert [(change.where, change.what) for change in made.changes] == [
        ("second", "16 of 32 channels removed, 16 of them never change")
    ]
    assert distance(graph, made.graph, images(graph, seed=1)) < 1e-5
    assert len(made.graph.content) < len(graph.content) - 16 * 9 * 32 * 4


def test_constants_go_into_the_bias_where_nothing_is_padded() -> None:
    graph = with_dead(chain(), "third", 20, 3.0)  # its mean is read by a fully connected operator
    made = remove_channels(graph, images(graph), DEAD)
    assert widths(made.graph)["third"] == 16
    assert distance(graph, made.graph, images(graph, seed=1)) < 1e-5


def test_constants_go_only_into_the_biases_that_are_left() -> None:
    net = Sketch("pointwise")
    x = net.convolution(net.input("image", (1, 8, 8, 3)), filters=32, name="first")
    x = net.convolution(x, filters=32, name="second")
    graph = finished(net, net.fully_connected(mean(net, x, "mean"), units=4, name="last"))
    graph = with_dead(with_dead(graph, "first", 16, 3.0), "second", 16, 2.0)
    made = remove_channels(graph, images(graph), DEAD)
    assert widths(made.graph) == {"first": 16, "second": 16, "last": 4}
    assert distance(graph, made.graph, images(graph)) < 1e-5  # one more never changes in these, but does in others


def test_what_is_exact_in_one_place_is_fitted_in_another() -> None:
    graph = with_dead(chain(), "third", 20, 3.0)
    layers = (Layer("first", channels=0.5), Layer("second", channels=False))
    made = remove_channels(graph, images(graph), replace(DEAD, layers=layers))
    assert [change.where for change in made.changes] == ["first", "third", "second", "last"]


def test_a_missing_bias_is_added() -> None:
    graph = with_dead(chain(), "third", 20, 3.0)
    *before, last = graph.operators
    operators = (*before, replace(last, inputs=last.inputs[:2]))
    graph = read_tflite(write_tflite(replace(graph, subgraphs=(replace(graph.main, operators=operators),))))
    made = remove_channels(graph, images(graph), DEAD)
    assert distance(graph, made.graph, images(graph, seed=1)) < 1e-5


def test_constants_beside_padding_go_only_as_far_as_others_carry_them() -> None:
    """Zeros around a constant are an edge: one channel of such constants has to stay, and can stand for all."""
    graph = with_dead(chain(), "second", 17, 3.0)
    made = remove_channels(graph, images(graph), DEAD)
    assert widths(made.graph)["second"] == 16
    assert distance(graph, made.graph, images(graph, seed=1)) < 1e-3
    alone = with_dead(chain(), "second", 8, 3.0)
    made = remove_channels(alone, images(alone), DEAD)
    assert made.graph is alone
    assert "borders" in {skipped.what: skipped.reason for skipped in made.skipped}["second"]


def test_dead_channels_go_first() -> None:
    graph = with_dead(chain(), "second", 8, -1.0)
    made = remove_channels(graph, images(graph), Recipe(layers=(Layer("second", channels=0.75),)))
    assert [change.what for change in made.changes] == ["8 of 32 channels removed, 8 of them never change"]
    assert distance(graph, made.graph, images(graph, seed=1)) < 1e-5


def test_what_remains_makes_up_for_what_is_removed() -> None:
    graph = chain()
    samples, others = images(graph), images(graph, seed=1)
    made, bare = (remove_channels(graph, samples, half(compensate=compensate)) for compensate in (True, False))
    assert widths(made.graph) == widths(bare.graph) == {"first": 16, "second": 16, "third": 16, "last": 4}
    assert distance(graph, made.graph, others) < 0.9 * distance(graph, bare.graph, others)
    assert [change.where for change in made.changes] == ["first", "second", "third", "second", "third", "last"]
    assert "relative error" in made.changes[-1].what


def test_the_choice_beats_the_first_half() -> None:
    """What is chosen is missed less than the same number of other channels."""
    graph = chain()
    recipe = Recipe(layers=(Layer("third", channels=0.5),), compensate=False)
    made = remove_channels(graph, images(graph), recipe)
    assert widths(made.graph)["third"] == 16
    last = graph.operators[-1].index
    others = images(graph, seed=1)
    (expected,) = outputs(bytes(graph.content), others)
    distances = []
    for start in (0, 16):
        draft = Draft(graph.main)
        weights = draft.constant(last, 1).copy()
        weights[:, start : start + 16] = 0
        draft.place(last, 1, weights)
        (found,) = outputs(write_tflite(replace(graph, subgraphs=(draft.subgraph(),))), others)
        distances.append(np.linalg.norm((found - expected) - (found - expected).mean(0)))
    (found,) = outputs(bytes(made.graph.content), others)
    assert np.linalg.norm(found - expected) < min(distances)


@pytest.mark.parametrize(
    ("filters", "keep", "multiple", "stay"),
    [(30, 0.5, 8, 16), (30, 0.3, 8, 16), (30, 0.01, 8, 8), (30, 0.7, 1, 21), (30, 0.7, 4, 24), (25, 0.28, 1, 7)],
)
def test_shares_are_rounded_up_to_multiples(filters: int, keep: float, multiple: int, stay: int) -> None:
    graph = chain(filters)
    made = remove_channels(graph, images(graph, 16), Recipe(channels=Channels(keep, multiple)))
    assert set(widths(made.graph).values()) == {stay, 4}


@given(graph=network(), keep=st.sampled_from([0.3, 0.5, 0.8]), multiple=st.sampled_from([1, 3, 4]), fits=st.booleans())
@settings(max_examples=25, deadline=None)
def test_any_network_runs_with_fewer_channels(graph: Graph, keep: float, multiple: int, fits: bool) -> None:
    graph = read_tflite(write_tflite(graph))
    made = remove_channels(graph, images(graph, 8), Recipe(channels=Channels(keep, multiple), compensate=fits))
    assert np.isfinite(distance(graph, made.graph, images(graph, 4, seed=1)))
    before, after = widths(graph), widths(made.graph)
    halves = {name for skipped in made.skipped for name in skipped.what.split(", ")}
    assert bool(made.changes) == (made.graph is not graph)
    for name, width in before.items():
        told = [change.what for change in made.changes if name in change.where.split(", ") and "removed" in change.what]
        if name in halves or len(told) != 1:
            assert after[name] <= width  # part of it is joined with other channels than the rest
            continue
        removed, lanes = (int(word) for word in told[0].split()[:3:2])
        assert lanes - removed == max(1, ceil(keep * lanes / multiple - 1e-9)) * multiple
        assert after[name] * lanes == width * (lanes - removed)  # behind a depthwise multiplier, a lane has several


def test_overrides_say_what_is_done_to_each() -> None:
    graph = chain()
    layers = (Layer("first", channels=False), Layer("^second$", channels=0.25), Layer("third", channels="dead"))
    made = remove_channels(graph, images(graph), half(layers=layers))
    assert widths(made.graph) == {"first": 32, "second": 8, "third": 32, "last": 4}
    reasons = {skipped.what: skipped.reason for skipped in made.skipped}
    assert reasons["first"] == "the recipe leaves it alone"
    made = remove_channels(graph, images(graph), Recipe(layers=layers[1:]))
    assert widths(made.graph) == {"first": 32, "second": 8, "third": 32, "last": 4}


def trunk() -> Graph:
    net = Sketch("trunk")
    x = net.convolution(net.input("in", (1, 8, 8, 3)), filters=32, name="stem")
    for number in range(2):
        y = net.convolution(x, filters=16, kernel=(3, 3), name=f"inner{number}")
        y = net.convolution(y, filters=32, activation="NONE", name=f"outer{number}")
        x = add(net, x, y, f"add{number}")
    x = concatenate(net, [x, net.convolution(x, filters=16, name="side")], "both")
    x = net.reshape(x, (1, 8 * 8 * 48), "flat")
    return finished(net, net.fully_connected(x, units=6, name="last"))


def test_a_trunk_loses_the_same_channels_everywhere() -> None:
    graph = trunk()
    made = remove_channels(graph, images(graph), half())
    narrow = {"stem": 16, "outer0": 16, "outer1": 16, "inner0": 8, "inner1": 8, "side": 8, "last": 6}
    assert widths(made.graph) == narrow
    assert made.graph.main.tensors[made.graph.operators[-1].inputs[1]].shape == (6, 8 * 8 * 24)
    assert distance(graph, made.graph, images(graph, seed=1)) < 0.5
    gentle = remove_channels(graph, images(graph), half(layers=(Layer("outer1", channels=0.75),)))
    assert widths(gentle.graph) == {**narrow, "stem": 24, "outer0": 24, "outer1": 24}
    layers = (Layer("outer", channels=0.5), Layer("outer1", channels=0.75))
    assert widths(remove_channels(graph, images(graph), half(layers=layers)).graph) == widths(gentle.graph)
    layers = (Layer("outer", channels=0.5), Layer("outer1", channels=False))
    alone = remove_channels(graph, images(graph), half(layers=layers))
    assert widths(alone.graph) == {**narrow, "stem": 32, "outer0": 32, "outer1": 32}


def test_constants_that_operators_share_are_copied() -> None:
    net = Sketch("shared")
    x = net.input("in", (1, 8, 8, 16))
    x = net.convolution(x, filters=16, name="one")
    x = net.convolution(x, filters=16, name="two")
    graph = net.graph([net.convolution(x, filters=16, name="three")])
    first, *rest = graph.operators
    operators = (first, *(replace(operator, inputs=(operator.inputs[0], *first.inputs[1:])) for operator in rest))
    graph = read_tflite(write_tflite(replace(graph, subgraphs=(replace(graph.main, operators=operators),))))
    made = remove_channels(graph, images(graph), half(compensate=False))
    assert widths(made.graph) == {"one": 8, "two": 8, "three": 16}
    copied = [change.where for change in made.changes if "copied" in change.what]
    assert copied == ["one/bias", "one/weights"]
    assert distance(graph, made.graph, images(graph)) < 1


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("recipe", [DEAD, half()])
def test_samples_that_say_nothing_leave_all_as_it_is(value: float, recipe: Recipe) -> None:
    graph = chain()
    samples = (np.full((4, 1, 8, 8, 3), value, np.float32),)
    made = remove_channels(graph, samples, recipe)
    assert made.graph is graph
    assert {skipped.reason for skipped in made.skipped} == {
        "none of its channels changes over the samples, so they say nothing about it",
        "is an output of the model",
    }


def test_models_may_have_several_inputs() -> None:
    net = Sketch("two")
    sides = [net.convolution(net.input(name, (1, 6, 6, 3)), filters=16, name=f"of {name}") for name in ("a", "b")]
    x = net.convolution(add(net, *sides, "sum"), filters=32, kernel=(3, 3), name="joined")
    table = "ConcatenationOptions"
    x = net.operator("CONCATENATION", [x, sides[1]], (1, 6, 6, 48), "both", options={"axis": -1}, options_table=table)
    graph = finished(net, net.convolution(x, filters=4, name="last"))
    random = np.random.default_rng(0)
    samples = tuple(random.normal(0, scale, (16, 1, 6, 6, 3)).astype(np.float32) for scale in (1, 5))
    made = remove_channels(graph, samples, half())
    assert widths(made.graph) == {"of a": 8, "of b": 8, "joined": 16, "last": 4}
    bare = remove_channels(graph, samples, half(compensate=False))
    assert distance(graph, made.graph, samples) < distance(graph, bare.graph, samples)


def test_samples_that_do_not_fit_in_memory_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = trunk()
    largest = max(tensor.elements for tensor in graph.main.tensors)
    monkeypatch.setattr(remove, "MEMORY_BYTES", 16 * largest * 10)
    made = remove_channels(graph, images(graph, 64), half())
    assert "54 of 64 samples" in {skipped.what for skipped in made.skipped}
    few = tuple(stack[:10] for stack in images(graph, 64))
    assert made.graph.content == remove_channels(graph, few, half()).graph.content


def test_one_sample_is_enough_to_run() -> None:
    graph = trunk()
    made = remove_channels(graph, images(graph, 1), half())
    assert np.isfinite(distance(graph, made.graph, images(graph, 4)))


def test_wild_samples_are_refused() -> None:
    net = Sketch("wild")
    x = net.convolution(net.input("in", (1, 8, 8, 3)), filters=16, activation="NONE", name="first")
    x = net.unary("EXP", x, "exp")
    graph = finished(net, net.convolution(x, filters=4, name="last"))
    samples = (np.full((2, 1, 8, 8, 3), 1e4, np.float32),)
    with pytest.raises(TransformError, match="'last' is not finite"):
        remove_channels(graph, samples, half())


def test_the_same_samples_give_the_same_bytes() -> None:
    graph = chain()
    made = [remove_channels(graph, images(graph), half()).graph.content for _ in range(2)]
    assert made[0] == made[1]


def test_the_smaller_model_is_faster_once_quantized() -> None:
    graph = chain()
    made = remove_channels(graph, images(graph), half()).graph
    small = quantize(made, synthetic_calibration(made)).graph
    large = quantize(graph, synthetic_calibration(graph)).graph
    cycles = []
    for one in (small, large):
        report = mlia.check(one, "ethos-u55-128")
        (result,) = report.targets[0].results
        assert isinstance(result.compatibility, Compatibility)
        assert result.compatibility.npu_percent == 100
        performance = result.performance
        assert isinstance(performance, Performance)
        assert performance.total_cycles is not None
        cycles.append(performance.total_cycles)
    assert cycles[0] < 0.8 * cycles[1]


@pytest.mark.parametrize("name", ["pretrainedResnet.h5", "kws_ref_model"])
def test_models_of_mlperf_tiny_lose_a_quarter(shared: Path, name: str) -> None:
    graph = load_model(shared / "mlperf_tiny" / name)
    made = remove_channels(graph, images(graph), Recipe(channels=Channels(0.75)))
    before, after = widths(graph), widths(made.graph)
    assert {after[name] / before[name] for name in after if before[name] > 16} == {0.75}
    bare = remove_channels(graph, images(graph), Recipe(channels=Channels(0.75), compensate=False))
    others = images(graph, seed=1)
    assert distance(graph, made.graph, others) < distance(graph, bare.graph, others)
    calibration = Calibration("smooth noise", False, images(graph), others)
    assert quantize(made.graph, calibration).fidelity.outputs[0].relative_error < 0.2
