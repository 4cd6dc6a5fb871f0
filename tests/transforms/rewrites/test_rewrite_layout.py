"""Rewrites of TRANSPOSE, RESHAPE and PAD fire where they should and nowhere else, and compute the same."""

import numpy as np
import pytest
from msgspec.structs import replace
from rewrite_models import NCHW, NHWC, Drawing, as_int8, both, cycles, from_pytorch, kinds, rewritten

from mlia.graph.graph import Tensor


def test_a_network_in_nchw_loses_its_transposes() -> None:
    graph = from_pytorch()
    made = rewritten(graph)
    assert kinds(graph).count("TRANSPOSE") == 6
    assert kinds(made.graph).count("TRANSPOSE") == 1  # of the input, whose shape stays
    assert "PAD" not in kinds(made.graph)
    assert not made.skipped
    integer = as_int8(graph)
    made_integer = rewritten(integer)
    assert kinds(made_integer.graph).count("TRANSPOSE") == 1
    assert cycles(made_integer.graph) < 0.8 * cycles(integer)
    assert cycles(as_int8(made.graph)) < 0.8 * cycles(integer)


@pytest.mark.parametrize("kind", ["RELU", "TANH", "HARD_SWISH"])
def test_transposes_cancel_across_elements(kind: str) -> None:
    net = Drawing("pair")
    x = net.transpose(net.input("x", (1, 4, 5, 6)), NHWC, "there")
    graph = net.file(net.transpose(net.unary(kind, x, "middle"), NCHW, "back"))
    for model in both(graph):
        made = rewritten(model)
        assert kinds(made.graph) == [kind]
        assert made.changes[0].transform == "rewrite"
        assert made.changes[0].where == "there"


def test_transposes_stay_when_their_results_are_read_elsewhere() -> None:
    net = Drawing("shared")
    x = net.input("x", (1, 4, 5, 6))
    there = net.transpose(x, NHWC, "there")
    middle = net.unary("TANH", there, "middle")
    back = net.transpose(middle, NCHW, "back")
    for model in both(net.file(back, net.softmax(there, "a"), net.softmax(middle, "b"))):
        made = rewritten(model)
        assert kinds(made.graph) == kinds(model)
        assert made.graph is model
        assert made.changes == ()


def test_one_transpose_remains_where_one_is_needed() -> None:
    net = Drawing("half")
    there = net.transpose(net.input("x", (1, 4, 5, 6)), NHWC, "there")
    middle = net.unary("TANH", there, "middle")
    graph = net.file(net.transpose(middle, NCHW, "back"), net.softmax(middle, "b"))
    for model in both(graph):
        made = rewritten(model)
        assert sorted(kinds(made.graph)) == ["SOFTMAX", "TANH", "TRANSPOSE"]
        assert "middle" in [made.graph.main.operator_name(operator) for operator in made.graph.operators]


def test_transposes_that_do_not_cancel_are_one() -> None:
    net = Drawing("two")
    x = net.transpose(net.input("x", (1, 4, 5, 6)), (0, 2, 3, 1), "first")
    graph = net.file(net.unary("TANH", net.transpose(x, (0, 2, 1, 3), "second"), "end"))
    for model in both(graph):
        made = rewritten(model)
        assert kinds(made.graph) == ["TRANSPOSE", "TANH"]
        assert [change.what for change in made.changes] == ["joined with the TRANSPOSE 'first' in front of it"]


def test_the_model_input_is_not_wired_to_its_output() -> None:
    net = Drawing("wire")
    x = net.input("x", (1, 4, 5, 6))
    x = net.transpose(net.transpose(x, NHWC, "there"), NCHW, "back")
    assert len(rewritten(net.file(x)).graph.operators) == 1


@pytest.mark.parametrize("both_outputs", [False, True])
def test_slices_splits_and_pads_are_turned(both_outputs: bool) -> None:
    net = Drawing("slices")
    x = net.transpose(net.input("x", (1, 4, 6, 8)), NHWC, "there")  # 1 6 8 4
    x = net.pad(x, ((0, 0), (1, 2), (0, 3), (0, 0)), "pad")  # 1 9 11 4
    x = net.pad_with(x, ((0, 0), (0, 0), (1, 0), (2, 0)), 2.5, "padv2")  # 1 9 12 6
    begin, size = (net.constant(n, np.array(v, np.int32)) for n, v in (("b", (0, 1, 2, 0)), ("s", (1, 8, -1, 6))))
    x = net.operator("SLICE", [x, begin, size], (1, 8, 10, 6), "slice", options_table="SliceOptions")
    parts = [net.constant(n, np.array(v, np.int32)) for n, v in (("b2", (0, 0, 0, 1)), ("e2", (1, 6, 0, 4)))]
    steps = net.constant("st", np.array((1, 2, 1, 1), np.int32))
    options = {"begin_mask": 2, "end_mask": 4}
    x = net.operator(
        "STRIDED_SLICE", [x, *parts, steps], (1, 3, 10, 3), "strided", options_table="StridedSliceOptions",
        options=options,
    )  # fmt: skip
    mean = net.mean(x, (1,), True, "mean")
    slope = net.constant("slope", np.array([0.1, 0.2, 0.3], np.float32))
    x = net.binary("SUB", x, mean, "centered")
    x = net.operator("PRELU", [x, slope], net.shape(x), "prelu")
    graph = net.file(net.transpose(x, NCHW, "back"), *([net.transpose(mean, NCHW, "means")] if both_outputs else []))
    made = rewritten(graph)
    assert "TRANSPOSE" not in kinds(made.graph)
    assert made.skipped == ()


def test_splits_are_turned() -> None:
    net = Drawing("split")
    x = net.transpose(net.input("x", (1, 4, 6, 8)), NHWC, "there")
    axis = net.scalar("axis", -1, "int32")
    first = net.operator("SPLIT", [axis, x], (1, 6, 8, 2), "first", dtype="float32", options={"num_splits": 2},
                         options_table="SplitOptions")  # fmt: skip
    second = net.tensor(Tensor("second", (1, 6, 8, 2), "float32"))
    net._operators[-1] = replace(net._operators[-1], outputs=(first, second))
    joined = net.binary("SUB", first, second, "joined")
    made = rewritten(net.file(net.transpose(joined, NCHW, "back")))
    assert kinds(made.graph) == ["SPLIT", "SUB"]


def test_flattening_in_nchw_sorts_the_weights_instead() -> None:
    net = Drawing("flat")
    x = net.convolution(net.input("x", (1, 6, 6, 3)), filters=4, kernel=(3, 3), name="conv")
    x = net.unary("TANH", net.transpose(x, NCHW, "to_nchw"), "tanh")
    graph = net.file(net.fully_connected(net.reshape(x, (1, 144), "flatten"), units=5, name="dense"))
    for model in both(graph):
        made = rewritten(model)
        assert kinds(made.graph) == ["CONV_2D", "TANH", "RESHAPE", "FULLY_CONNECTED"]


def test_weights_are_not_sorted_when_the_rows_are_read_elsewhere() -> None:
    net = Drawing("flat")
    x = net.transpose(net.input("x", (1, 6, 6, 3)), NCHW, "to_nchw")
    flat = net.reshape(x, (1, 108), "flatten")
    graph = net.file(net.fully_connected(flat, units=5, name="dense"), net.unary("TANH", flat, "tanh"))
    assert kinds(rewritten(graph).graph) == kinds(graph)


def test_moving_sizes_of_one_is_a_reshape_and_reshapes_merge() -> None:
    net = Drawing("ones")
    x = net.transpose(net.input("x", (1, 1, 8, 6)), (0, 2, 3, 1), "moved")
    x = net.reshape(net.reshape(x, (1, 48), "flat"), (1, 4, 12), "again")
    graph = net.file(net.unary("TANH", x, "end"))
    for model in both(graph):
        made = rewritten(model)
        assert kinds(made.graph) == ["RESHAPE", "TANH"]


def test_a_transpose_of_real_sizes_is_no_reshape() -> None:
    net = Drawing("real")
    x = net.transpose(net.input("x", (1, 2, 8, 6)), (0, 2, 3, 1), "moved")
    graph = net.file(net.unary("TANH", x, "end"))
    assert kinds(rewritten(graph).graph) == ["TRANSPOSE", "TANH"]


def test_a_reshape_that_is_read_elsewhere_stays() -> None:
    net = Drawing("twice")
    flat = net.reshape(net.input("x", (1, 4, 6)), (1, 24), "flat")
    graph = net.file(net.unary("TANH", flat, "one"), net.unary("RELU", net.reshape(flat, (1, 6, 4), "again"), "two"))
    assert kinds(rewritten(graph).graph) == kinds(graph)


@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D"])
@pytest.mark.parametrize(
    ("size", "stride", "amounts", "fires"),
    [
        (8, 1, (1, 1), True),
        (9, 2, (1, 1), True),
        (8, 2, (0, 1), True),
        (8, 2, (1, 1), False),  # PyTorch's: TFLite's SAME puts the odd column behind
        (8, 1, (2, 0), False),
        (8, 1, (1, 2), False),
    ],
)
def test_padding_becomes_same(kind: str, size: int, stride: int, amounts: tuple[int, int], fires: bool) -> None:
    net = Drawing("padded")
    x = net.unary("TANH", net.input("x", (1, size, size, 3)), "first")
    x = net.pad(x, ((0, 0), amounts, amounts, (0, 0)), "pad")
    for model in both(net.file(net.valid(x, "conv", stride=stride, kind=kind))):
        made = rewritten(model)
        assert ("PAD" not in kinds(made.graph)) == fires
        assert (made.graph.operators[-1].options["padding"] == "SAME") == fires


def test_padding_that_is_not_zero_or_not_in_space_stays() -> None:
    for amounts, value, expected in (
        (((0, 0), (1, 1), (1, 1), (0, 0)), 1.0, ["PADV2", "CONV_2D"]),
        (((0, 0), (1, 1), (1, 1), (0, 1)), 0.0, ["PADV2", "CONV_2D"]),
        (((0, 0), (1, 1), (1, 1), (0, 0)), 0.0, ["CONV_2D"]),
    ):
        net = Drawing("filled")
        x = net.pad_with(net.input("x", (1, 8, 8, 3)), amounts, value, "pad")
        assert kinds(rewritten(net.file(net.valid(x, "conv"))).graph) == expected


def test_padding_read_elsewhere_or_pooled_stays() -> None:
    net = Drawing("elsewhere")
    x = net.pad(net.input("x", (1, 8, 8, 3)), ((0, 0), (1, 1), (1, 1), (0, 0)), "pad")
    graph = net.file(net.valid(x, "conv"), net.unary("TANH", x, "tanh"))
    assert kinds(rewritten(graph).graph) == kinds(graph)
    net = Drawing("pooled")
    x = net.pad(net.input("x", (1, 8, 8, 3)), ((0, 0), (1, 1), (1, 1), (0, 0)), "pad")
    options = {
        "padding": "VALID", "stride_w": 1, "stride_h": 1, "filter_width": 3, "filter_height": 3,
        "fused_activation_function": "NONE",
    }  # fmt: skip
    pool = net.operator("MAX_POOL_2D", [x], (1, 8, 8, 3), "pool", options_table="Pool2DOptions", options=options)
    graph = net.file(pool)
    assert kinds(rewritten(graph).graph) == ["PAD", "MAX_POOL_2D"]
