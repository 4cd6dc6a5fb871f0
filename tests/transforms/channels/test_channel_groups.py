"""Lanes, found and cut: the model without some equals the model in which nothing reads them."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from networks_of_channels import CONVOLUTION, concatenate, constant_with, deep, network

from mlia.graph.graph import Graph
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import Sketch
from mlia.transforms.channels.cut import Draft, without_lanes
from mlia.transforms.channels.groups import Group, channel_structure
from mlia.transforms.interpreter import outputs


def groups(graph: Graph) -> dict[str, Group]:
    main = graph.main
    return {
        ", ".join(main.operator_name(main.operators[index]) for index in group.producers): group
        for group in channel_structure(main).groups
    }


def unread(graph: Graph, removed: set[int]) -> Graph:
    """The model with weights of zero wherever something reads these lanes."""
    draft = Draft(graph.main)
    for operator, lanes in channel_structure(graph.main).readers.items():
        weights = draft.constant(operator, 1).copy()
        weights[..., np.isin(lanes, list(removed))] = 0
        draft.place(operator, 1, weights)
    return replace(graph, subgraphs=(draft.subgraph(),))


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_cutting_equals_not_reading(data: st.DataObject) -> None:
    graph = data.draw(network())
    structure = channel_structure(graph.main)
    removed: set[int] = set()
    for group in structure.groups:
        if not group.pinned:
            removed |= data.draw(st.sets(st.sampled_from(group.lanes), max_size=len(group.lanes) - 1))
    draft, losing = without_lanes(graph, structure, removed)
    cut = replace(graph, subgraphs=(draft.subgraph(),))
    random = np.random.default_rng(0)
    shape = graph.main.tensors[graph.main.inputs[0]].shape
    samples = (random.normal(0, 1, (3, *shape)).astype(np.float32),)
    (expected,) = outputs(write_tflite(unread(graph, removed)), samples)
    (found,) = outputs(write_tflite(cut), samples)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * max(1, abs(expected).max()))
    assert bool(losing) == any(np.isin(lanes, list(removed)).any() for lanes in structure.readers.values())
    assert all(
        tensor.elements < before.elements
        for tensor, before in zip(cut.main.tensors, graph.main.tensors, strict=False)
        if tensor.shape != before.shape
    )


def test_a_residual_trunk_is_one_group() -> None:
    net = Sketch("trunk")
    x = net.convolution(net.input("in", (1, 8, 8, 3)), filters=16, name="stem")
    for number in range(2):
        y = net.convolution(x, filters=16, kernel=(3, 3), name=f"inner{number}")
        y = net.convolution(y, filters=16, kernel=(3, 3), activation="NONE", name=f"outer{number}")
        x = net.operator("ADD", [x, y], net.shape(x), f"add{number}", options_table="AddOptions")
    found = groups(net.graph([net.convolution(x, filters=4, name="last")]))
    assert {name: bool(group.pinned) for name, group in found.items()} == {
        "stem, outer0, outer1": False,
        "inner0": False,
        "inner1": False,
        "last": True,
    }
    assert len(found["stem, outer0, outer1"].readers) == 3


def test_halves_of_a_concatenation_are_groups_of_their_own() -> None:
    net = Sketch("halves")
    x = net.input("in", (1, 8, 8, 3))
    sides = [net.convolution(x, filters=8, name="left"), net.convolution(x, filters=16, name="right")]
    x = concatenate(net, sides, "both")
    y = net.convolution(x, filters=24, name="whole")
    x = net.operator("ADD", [x, y], net.shape(x), "add", options_table="AddOptions")
    found = groups(net.graph([net.convolution(x, filters=4, name="last")]))
    assert {name: len(group.lanes) for name, group in found.items() if not group.pinned} == {
        "left, whole": 8,
        "right, whole": 16,
    }


PINNED: dict[str, tuple[Callable[[Sketch, int], int], str]] = {
    "output": (lambda net, x: x, "is an output of the model"),
    "softmax": (lambda net, x: net.softmax(x, "classes"), "feeds SOFTMAX 'classes'"),
    "mean over channels": (
        lambda net, x: net.operator(
            "MEAN",
            [x, net.constant("axes", np.array([3], np.int32))],
            (1, 8, 8),
            "mean",
            options_table="ReducerOptions",
        ),
        "feeds MEAN 'mean'",
    ),
    "padded channels": (
        lambda net, x: net.operator(
            "PAD", [x, net.constant("sizes", np.array([[0, 0]] * 3 + [[0, 8]], np.int32))], (1, 8, 8, 24), "pad"
        ),
        "feeds PAD 'pad'",
    ),
    "split channels": (lambda net, x: net.reshape(x, (1, 8, 8, 2, 8), "split"), "feeds RESHAPE 'split'"),
    "transposed": (
        lambda net, x: net.operator(
            "TRANSPOSE", [x, net.constant("order", np.array([0, 3, 1, 2], np.int32))], (1, 16, 8, 8), "turned"
        ),
        "feeds TRANSPOSE 'turned'",
    ),
}


@pytest.mark.parametrize(("behind", "reason"), PINNED.values(), ids=PINNED.keys())
def test_what_needs_all_channels_pins_them(behind: Callable[[Sketch, int], int], reason: str) -> None:
    net = Sketch("pinned")
    x = net.convolution(net.input("in", (1, 8, 8, 3)), filters=16, name="conv")
    found = groups(net.graph([behind(net, x)]))
    assert reason in found["conv"].pinned


def test_what_is_joined_with_an_input_is_pinned() -> None:
    net = Sketch("joined")
    x = net.input("in", (1, 8, 8, 16))
    y = net.convolution(x, filters=16, name="conv")
    x = net.operator("ADD", [x, y], net.shape(x), "add", options_table="AddOptions")
    found = groups(net.graph([net.convolution(x, filters=4, name="last")]))
    assert "fixed" in found["conv"].pinned


def test_what_is_joined_with_pinned_channels_is_pinned() -> None:
    net = Sketch("joined")
    x = net.input("in", (1, 8, 8, 3))
    free, pinned = (net.convolution(x, filters=16, name=name) for name in ("free", "pinned"))
    y = net.softmax(pinned, "probabilities")
    x = net.operator("ADD", [free, pinned], net.shape(free), "add", options_table="AddOptions")
    found = groups(net.graph([net.convolution(x, filters=4, name="last"), y]))
    assert "feeds SOFTMAX" in found["free, pinned"].pinned


def test_convolutions_in_groups_pin_what_they_read() -> None:
    net = Sketch("grouped")
    x = net.convolution(net.input("in", (1, 8, 8, 3)), filters=16, name="conv")
    weights = constant_with(net, (8, 1, 1, 4))
    x = net.operator("CONV_2D", [x, weights, constant_with(net, (8,))], (1, 8, 8, 8), "grouped", options=CONVOLUTION)
    found = groups(net.graph([net.convolution(x, filters=4, name="last")]))
    assert "feeds CONV_2D 'grouped'" in found["conv"].pinned
    assert "grouped" not in found


def test_a_depthwise_multiplier_multiplies_what_a_lane_has() -> None:
    net = deep(multiplier=2)
    found = groups(net)
    structure = channel_structure(net.main)
    lane = found["first"].lanes[3]
    draft, _ = without_lanes(net, structure, [lane])
    names: Sequence[str] = [tensor.name for tensor in draft.tensors]
    assert draft.tensors[names.index("first")].shape[-1] == 15
    assert draft.tensors[names.index("deep")].shape[-1] == 30
