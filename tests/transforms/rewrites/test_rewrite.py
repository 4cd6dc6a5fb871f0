"""Rewrites are proven: what does not compute the same is undone and told. Approximations tell their error."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import real_models
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from rewrite_models import NCHW, NHWC, Drawing, as_int8, both, cycles, from_pytorch, kinds, rewritten, samples_for

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Operator, Quantization, Signature
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.transforms.interpreter import outputs
from mlia.transforms.rewrites import rewrite as driver
from mlia.transforms.rewrites.network import Edit, Network


def with_open_batch() -> Graph:
    """A flatten whose target is computed from the batch, as TensorFlow's converter writes it."""
    net = Drawing("open")
    x = net.input("x", (1, 6, 6, 3))
    conv = net.convolution(x, filters=4, kernel=(3, 3), name="conv")
    options = {"out_type": "INT32"}
    shape = net.operator("SHAPE", [conv], (4,), "shape", dtype="int32", options_table="ShapeOptions", options=options)
    bounds = [net.constant(name, np.array([value], np.int32)) for name, value in (("b", 0), ("e", 1), ("s", 1))]
    options = {"shrink_axis_mask": 1}
    batch = net.operator(
        "STRIDED_SLICE", [shape, *bounds], (), "batch", dtype="int32", options_table="StridedSliceOptions",
        options=options,
    )  # fmt: skip
    rest = net.scalar("rest", 144, "int32")
    options = {"values_count": 2, "axis": 0}
    target = net.operator(
        "PACK", [batch, rest], (2,), "target", dtype="int32", options_table="PackOptions", options=options
    )
    flat = net.operator("RESHAPE", [conv, target], (1, 144), "flat", options_table="ReshapeOptions")
    graph = net.graph([net.fully_connected(flat, units=5, name="dense")])
    tensors = list(graph.main.tensors)
    for index in (x, conv, flat, graph.main.outputs[0]):
        tensors[index] = replace(tensors[index], shape_signature=(-1, *tensors[index].shape[1:]))
    main = replace(graph.main, tensors=tuple(tensors))
    signature = Signature("serving_default", 0, {"image": x}, {"scores": main.outputs[0]})
    return read_tflite(write_tflite(replace(graph, subgraphs=(main,), signatures=(signature,))))


def test_an_open_batch_is_fixed_and_sizes_computed_from_it_are_folded() -> None:
    graph = with_open_batch()
    for model in both(graph):
        assert {"SHAPE", "STRIDED_SLICE", "PACK"} <= {*kinds(model)}
        made = rewritten(model)
        assert kinds(made.graph) == ["CONV_2D", "RESHAPE", "FULLY_CONNECTED"]
        assert not any(tensor.is_dynamic for tensor in made.graph.main.tensors)
    made = rewritten(graph)
    (signature,) = made.graph.signatures
    names = [made.graph.main.tensors[index].name for index in (signature.inputs["image"], signature.outputs["scores"])]
    assert names == ["x", "dense"]
    assert made.changes[0].where == "x"


def test_sizes_open_beyond_the_batch_are_told_and_left() -> None:
    net = Drawing("open")
    x = net.unary("TANH", net.input("x", (1, 1, 6, 3)), "tanh")
    options = {"out_type": "INT32"}
    shape = net.operator("SHAPE", [x], (4,), "shape", dtype="int32", options_table="ShapeOptions", options=options)
    wide = net.operator("CAST", [shape], (4,), "wide", dtype="float32")
    graph = net.graph([x, wide])
    opened = [replace(tensor, shape_signature=(-1, -1, 6, 3)) for tensor in graph.main.tensors[:2]]
    main = replace(graph.main, tensors=(*opened, *graph.main.tensors[2:]))
    made = rewritten(read_tflite(write_tflite(replace(graph, subgraphs=(main,)))))
    assert kinds(made.graph) == ["TANH", "SHAPE", "CAST"]
    assert [entry.reason for entry in made.skipped] == ["more than the batch is open: --input-shape fixes them"]


def test_constants_that_grow_are_not_folded() -> None:
    net = Drawing("fill")
    sizes = net.constant("sizes", np.array([1, 64, 64], np.int32))
    value = net.scalar("value", 2, "float32")
    fill = net.operator("FILL", [sizes, value], (1, 64, 64), "fill", dtype="float32", options_table="FillOptions")
    graph = net.file(net.binary("MUL", net.input("x", (1, 64, 64)), fill, "y"))
    assert kinds(rewritten(graph).graph) == ["FILL", "MUL"]


def silu(gated: bool = True) -> Graph:
    net = Drawing("silu")
    x = net.convolution(net.input("x", (1, 8, 8, 3)), filters=8, kernel=(3, 3), activation="NONE", name="conv")
    y = net.binary("MUL", x, net.unary("LOGISTIC", x if gated else net.unary("TANH", x, "t"), "gate"), "silu")
    return net.file(net.convolution(y, filters=8, name="second"))


def test_approximations_are_made_on_request_and_tell_their_error() -> None:
    graph = silu()
    assert kinds(rewritten(graph).graph) == kinds(graph)
    integer = as_int8(graph)
    for model in (graph, integer):
        made = rewritten(model, approximate=True)
        assert kinds(made.graph) == ["CONV_2D", "HARD_SWISH", "CONV_2D"]
        (change,) = made.changes
        assert change.where == "silu"
        error = float(change.what.split("relative error of the outputs ")[1].rstrip(")"))
        before, after = (outputs(bytes(g.content), samples_for(model))[0] for g in (model, made.graph))
        assert error == pytest.approx(np.linalg.norm(after - before) / np.linalg.norm(before), rel=0.05)
        assert 0 < error < 0.3
    assert cycles(rewritten(integer, approximate=True).graph) < cycles(integer)


def test_only_silu_is_swapped() -> None:
    graph = silu(gated=False)
    assert kinds(rewritten(graph, approximate=True).graph) == kinds(graph)


def wrong(network: Network, operator: Operator) -> Edit | None:
    """A rewrite that takes TANH for nothing."""
    if operator.kind != "TANH":
        return None
    edit = Edit(network, operator, "TANH is gone")
    edit.pass_by(operator, operator.inputs[0])
    return edit


def breaking(network: Network, operator: Operator) -> Edit | None:
    """A rewrite whose result LiteRT cannot run."""
    if operator.kind != "TANH":
        return None
    edit = Edit(network, operator, "TANH is broken")
    edit.put(operator, replace(operator, kind="GATHER_ND"))
    return edit


@pytest.mark.parametrize(("defect", "reason"), [(wrong, "differs by|relative error"), (breaking, "LiteRT cannot run")])
@pytest.mark.parametrize("is_integer", [False, True])
def test_a_wrong_rewrite_is_undone_and_told(
    monkeypatch: pytest.MonkeyPatch, defect: object, reason: str, is_integer: bool
) -> None:
    monkeypatch.setattr(driver, "EQUIVALENT", (driver.local(defect), *driver.EQUIVALENT))  # type: ignore[arg-type]
    net = Drawing("proof")
    x = net.transpose(net.input("x", (1, 4, 5, 6)), NHWC, "there")
    x = net.unary("TANH", x, "tanh")
    graph = net.file(net.unary("LOGISTIC", net.transpose(x, NCHW, "back"), "end"))
    made = rewritten(as_int8(graph) if is_integer else graph)
    assert kinds(made.graph) == ["TANH", "LOGISTIC"]
    (entry,) = made.skipped
    assert entry.what.startswith("rewrite of 'tanh': TANH is")
    assert re.search(rf"^undone: .*({reason})", entry.reason)


@pytest.mark.parametrize("path", real_models(), ids=lambda path: path.name)
def test_real_models_compute_the_same(path: Path) -> None:
    graph = read_tflite(path.read_bytes())
    if any(operator.kind == "CUSTOM" for operator in graph.operators):
        with pytest.raises(TransformError, match="LiteRT cannot run"):
            rewritten(graph)
        return
    made = rewritten(graph)
    assert made.skipped == ()
    assert len(made.graph.operators) == len(graph.operators) - (3 if path.name == "okay_nabu.tflite" else 0)


@pytest.mark.parametrize(("scale", "limit"), [(0.2, 1), (0.1, 0)])
def test_rounding_by_position_is_told(scale: float, limit: int) -> None:
    """With twice the scale each odd code is a tie, which LiteRT's QUANTIZE rounds in two ways."""
    net = Drawing("ties")
    x = net.input("x", (1, 11, 11, 1), "int8", Quantization((0.1,), (0,)))
    x = net.transpose(x, (0, 2, 1, 3), "there")
    x = net.operator(
        "QUANTIZE",
        [x],
        (1, 11, 11, 1),
        "ties",
        quantization=Quantization((scale,), (3,)),
        options_table="QuantizeOptions",
    )
    graph = net.file(net.transpose(x, (0, 2, 1, 3), "back"))
    made = rewritten(graph, scale=4)
    assert kinds(made.graph) == ["QUANTIZE"]
    assert made.skipped == ()
    results = [outputs(bytes(model.content), samples_for(graph, 4))[0] / scale for model in (graph, made.graph)]
    assert np.abs(results[0] - results[1]).max().round() <= limit


def test_a_hopeless_approximation_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    def hopeless(network: Network, operator: Operator) -> Edit | None:
        edit = Edit(network, operator, "the result is negated")
        if operator.kind != "TANH":
            return None
        edit.put(operator, replace(operator, kind="NEG"))
        return edit

    monkeypatch.setattr(driver, "APPROXIMATE", (driver.local(hopeless),))
    net = Drawing("hopeless")
    graph = net.file(net.unary("TANH", net.input("x", (1, 4)), "tanh"))
    made = rewritten(graph, approximate=True)
    assert made.graph is graph
    assert made.skipped[0].reason.startswith("undone: relative error of the outputs 2")


def test_rewriting_again_changes_nothing() -> None:
    once = rewritten(from_pytorch()).graph
    again = rewritten(once)
    assert again.graph is once
    assert again.changes == ()


ORDERS = [NHWC, NCHW, (0, 2, 1, 3), (1, 0, 2, 3), (3, 0, 1, 2)]


def one_more(net: Drawing, draw: st.DrawFn, x: int, seen: list[int], name: str) -> int:
    """A random operator behind x."""
    shape = net.shape(x)
    alike = [other for other in seen if net.shape(other) == shape]
    constant = draw(st.sampled_from([(), (1,), (shape[3],), (shape[1], 1, 1), (1, shape[1], shape[2], 1)]))
    axis = draw(st.integers(0, 3))
    back = st.sampled_from(ORDERS)
    size = [max(1, size - draw(st.integers(0, 1))) for size in shape]
    choices = {
        "transpose": lambda: net.transpose(x, draw(back), name),
        "cancel": lambda: net.transpose(
            net.unary("TANH", net.transpose(x, NHWC, f"{name}/a"), f"{name}/b"), NCHW, name
        ),
        "reshape": lambda: net.reshape(x, draw(st.permutations(shape)), name),
        "pad": lambda: net.pad(x, [(0, draw(st.integers(0, 1))) for _ in shape], name),
        "conv": lambda: net.convolution(
            x, filters=4, kernel=(3, 3), activation=draw(st.sampled_from(["NONE", "RELU"])), name=name
        ),
        "padded": lambda: net.valid(net.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), f"{name}/pad"), name),
        "unary": lambda: net.unary(draw(st.sampled_from(["RELU", "TANH", "LOGISTIC"])), x, name),
        "constant": lambda: net.binary(
            draw(st.sampled_from(["ADD", "SUB", "MUL", "DIV"])),
            x,
            np.random.default_rng(0).uniform(0.5, 2, constant),
            name,
        ),
        "meet": lambda: net.binary("ADD", x, draw(st.sampled_from([x, *alike])), name),
        "join": lambda: net.concatenation([x, draw(st.sampled_from([x, *alike]))], axis, name),
        "mean": lambda: net.mean(x, (axis,), True, name),
        "slice": lambda: net.operator(
            "SLICE",
            [x, *(net.constant(f"{name}/{part}", np.array(v, np.int32)) for part, v in (("b", [0] * 4), ("s", size)))],
            size,
            name,
            options_table="SliceOptions",
        ),
    }
    weighted = [*choices, "transpose", "transpose", "cancel"]
    return choices[draw(st.sampled_from(weighted))]()


@st.composite
def chains(draw: st.DrawFn) -> Graph:
    """Random operators in a row, with branches that meet again."""
    net = Drawing("chain", seed=draw(st.integers(0, 99)))
    seen = [net.input("x", draw(st.permutations([1, 4, 5, 6])))]
    for step in range(draw(st.integers(1, 10))):
        if np.prod(net.shape(seen[-1])) < 5000:
            seen.append(one_more(net, draw, seen[-1], seen, f"step {step}"))
    more = draw(st.lists(st.sampled_from(seen[1:]), max_size=1))
    return net.file(net.unary("LOGISTIC", seen[-1], "end"), *more)


@settings(max_examples=60, deadline=None)
@given(chains())
def test_whatever_comes_computes_the_same(graph: Graph) -> None:
    made = rewritten(graph)
    # LiteRT's LOGISTIC in float is not the same to the last bit throughout a tensor; differences can magnify that.
    assert all(float(re.findall(r"is (\S+), above", entry.reason)[0]) < 1e-3 for entry in made.skipped)
    assert len(made.graph.operators) <= len(graph.operators)


@settings(max_examples=20, deadline=None)
@given(chains())
def test_whatever_comes_in_integers_is_equal_bit_by_bit(graph: Graph) -> None:
    integer = as_int8(graph)
    assume("QUANTIZE" not in kinds(integer))  # LiteRT's rounds by position
    made = rewritten(integer)
    assert made.skipped == ()
