"""Each rewrite fires where it should and nowhere else, and what it leaves computes the same."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from models import Q
from msgspec.structs import replace

import mlia
from mlia.graph.graph import Graph, Operator, Quantization, Signature, Tensor
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.recipe import Rewrite
from mlia.results import Performance
from mlia.testing import Sketch, quantize_synthetically
from mlia.transforms import rewrite as driver
from mlia.transforms.interpreter import outputs
from mlia.transforms.rewrite import rewrite
from mlia.transforms.rewrite_network import Edit, Network
from mlia.transforms.transform import Transformed

NHWC, NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


class Drawing(Sketch):
    """A Sketch with the operators that converters leave."""

    def scalar(self, name: str, value: float, dtype: str) -> int:
        return self.tensor(Tensor(name, (), dtype, data=memoryview(np.array(value, dtype).tobytes())))

    def transpose(self, x: int, order: Sequence[int], name: str) -> int:
        sizes = self.constant(f"{name}/order", np.array(order, np.int32))
        shape = [self.shape(x)[axis] for axis in order]
        return self.operator("TRANSPOSE", [x, sizes], shape, name, options_table="TransposeOptions")

    def pad(self, x: int, amounts: Sequence[tuple[int, int]], name: str, fill: int | None = None) -> int:
        shape = [size + sum(amount) for size, amount in zip(self.shape(x), amounts, strict=True)]
        return self.operator("PAD", [x, self.constant(f"{name}/sizes", np.array(amounts, np.int32))], shape, name)

    def pad_with(self, x: int, amounts: Sequence[tuple[int, int]], value: float, name: str) -> int:
        shape = [size + sum(amount) for size, amount in zip(self.shape(x), amounts, strict=True)]
        sizes = self.constant(f"{name}/sizes", np.array(amounts, np.int32))
        fill = self.constant(f"{name}/fill", np.array([value], np.float32))
        return self.operator("PADV2", [x, sizes, fill], shape, name, options_table="PadV2Options")

    def valid(
        self, x: int, name: str, filters: int = 4, kernel: int = 3, stride: int = 1, kind: str = "CONV_2D"
    ) -> int:
        batch, height, width, channels = self.shape(x)
        if kind == "CONV_2D":
            weights = self._weights(f"{name}/w", (filters, kernel, kernel, channels), kernel * kernel * channels)
        else:
            filters = channels
            weights = self._weights(f"{name}/w", (1, kernel, kernel, channels), kernel * kernel)
        table = "Conv2DOptions" if kind == "CONV_2D" else "DepthwiseConv2DOptions"
        options = {
            "padding": "VALID", "stride_w": stride, "stride_h": stride, "fused_activation_function": "NONE",
            "dilation_w_factor": 1, "dilation_h_factor": 1,
        }  # fmt: skip
        if kind != "CONV_2D":
            options["depth_multiplier"] = 1
        sides = [(size - kernel) // stride + 1 for size in (height, width)]
        bias = self._bias(f"{name}/b", filters)
        inputs = [x, weights, bias]
        return self.operator(kind, inputs, (batch, *sides, filters), name, options_table=table, options=options)

    def binary(self, kind: str, x: int, y: int | np.ndarray, name: str, activation: str = "NONE") -> int:
        other = y if isinstance(y, int) else self.constant(f"{name}/constant", np.asarray(y, np.float32))
        shape = np.broadcast_shapes(self.shape(x), self.shape(other))
        table = f"{kind.capitalize()}Options" if kind in ("ADD", "SUB", "MUL", "DIV") else "MaximumMinimumOptions"
        options = {"fused_activation_function": activation} if kind in ("ADD", "SUB", "MUL", "DIV") else {}
        return self.operator(kind, [x, other], shape, name, options_table=table, options=options)

    def concatenation(self, parts: Sequence[int], axis: int, name: str) -> int:
        shape = list(self.shape(parts[0]))
        shape[axis] = sum(self.shape(part)[axis] for part in parts)
        options = {"axis": axis, "fused_activation_function": "NONE"}
        return self.operator("CONCATENATION", parts, shape, name, options_table="ConcatenationOptions", options=options)

    def mean(self, x: int, axes: Sequence[int], keep: bool, name: str) -> int:
        sizes = self.constant(f"{name}/axes", np.array(axes, np.int32))
        shape = [1 if axis in axes else size for axis, size in enumerate(self.shape(x)) if keep or axis not in axes]
        return self.operator(
            "MEAN", [x, sizes], shape, name, options_table="ReducerOptions", options={"keep_dims": keep}
        )

    def file(self, *results: int) -> Graph:
        return read_tflite(write_tflite(self.graph(results)))


def kinds(graph: Graph) -> list[str]:
    return [operator.kind for operator in graph.operators]


def as_int8(graph: Graph) -> Graph:
    return read_tflite(quantize_synthetically(bytes(graph.content)))


def samples_for(graph: Graph, scale: float = 1.0) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(1)
    shapes = [(4, *graph.main.tensors[index].shape) for index in graph.main.inputs]
    return tuple(random.normal(0, scale, shape).astype(np.float32) for shape in shapes)


def rewritten(graph: Graph, approximate: bool = False, scale: float = 1.0) -> Transformed:
    """The rewritten graph, after a look by other means: outputs, names, and the order of execution."""
    samples = samples_for(graph, scale)
    made = rewrite(graph, samples, Rewrite(approximate))
    after = made.graph.main
    for side in ("inputs", "outputs"):
        named = [
            [(main.tensors[index].name, main.tensors[index].shape) for index in getattr(main, side)]
            for main in (graph.main, after)
        ]
        assert named[0] == named[1]
    known = {*after.inputs, -1} | {index for index, tensor in enumerate(after.tensors) if tensor.is_constant}
    for operator in after.operators:
        assert known >= {*operator.inputs}
        known |= {*operator.outputs}
    if not approximate:
        pairs = zip(*(outputs(bytes(model.content), samples) for model in (graph, made.graph)), strict=True)
        told = [change.where for change in made.changes if "by one code" in change.what]
        for (before, now), index in zip(pairs, graph.main.outputs, strict=True):
            if graph.computes_in_float:
                assert np.allclose(before, now, rtol=1e-4, atol=1e-5)
            else:
                assert np.array_equal(before, now) == (graph.main.tensors[index].name not in told)
    return made


def both(graph: Graph) -> list[Graph]:
    return [graph, as_int8(graph)]


# --- TRANSPOSE and RESHAPE ---


def from_pytorch(residual: bool = True) -> Graph:
    """What a converter leaves of a network in NCHW: TRANSPOSEs around each convolution."""
    net = Drawing("nchw")
    x = net.input("image", (1, 3, 32, 32))

    def convolution(x: int, name: str, filters: int = 8) -> int:
        inside = net.transpose(x, NHWC, f"{name}/in")
        inside = net.pad(inside, ((0, 0), (1, 1), (1, 1), (0, 0)), f"{name}/pad")
        inside = net.valid(inside, name, filters)
        return net.transpose(inside, NCHW, f"{name}/out")

    first = net.unary("RELU", convolution(x, "one"), "relu")
    second = convolution(first, "two")
    scaled = net.binary("MUL", second, np.linspace(0.5, 1.5, 8).reshape(1, 8, 1, 1), "scale")
    joined = net.binary("ADD", scaled, first, "join") if residual else scaled
    both_halves = net.concatenation([joined, first], 1, "concat")
    third = net.unary("HARD_SWISH", convolution(both_halves, "three"), "swish")
    pooled = net.mean(third, (2, 3), False, "mean")
    return net.file(net.fully_connected(pooled, units=10, name="classes"))


def cycles(graph: Graph) -> int:
    result = mlia.check(graph, "ethos-u55-128", quantize=False).targets[0].results[0].performance
    assert isinstance(result, Performance)
    assert result.total_cycles is not None
    return result.total_cycles


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


# --- an open batch ---


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


# --- padding ---


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


# --- operators without effect ---


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


# --- arithmetic ---


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
    for order in (0, 1):
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


# --- approximations ---


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


# --- the proof ---


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
    assert made.skipped == ()
    assert len(made.graph.operators) <= len(graph.operators)


@settings(max_examples=20, deadline=None)
@given(chains())
def test_whatever_comes_in_integers_is_equal_bit_by_bit(graph: Graph) -> None:
    integer = as_int8(graph)
    assume("QUANTIZE" not in kinds(integer))  # LiteRT's rounds by position
    made = rewritten(integer)
    assert made.skipped == ()
