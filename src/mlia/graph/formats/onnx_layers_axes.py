"""ONNX's operators on whole axes, such as sums, normalizations and softmax, as TFLite's, in any order of axes."""

from typing import Any

import numpy

from mlia.graph.formats.onnx_flow import Array, Flow, Value, channels_last, without
from mlia.graph.formats.onnx_model import Node
from mlia.graph.formats.onnx_reference_arithmetic import normalization, reduced_axes, softmax_axes
from mlia.graph.graph import OptionValue


def softmax(flow: Flow, node: Node) -> Value:
    """Softmax and LogSoftmax, which TFLite has along the last axis."""
    name = node.inputs[0]
    shape = flow.shape(name)
    axes = softmax_axes(node, len(shape))
    value = flow.value(name)
    along = [axis for axis in axes if shape[axis] != 1] or [axes[-1]]
    if list(value.order[-len(along) :]) != along:
        order = (*(axis for axis in value.order if axis not in along), *along)
        value = Value(flow.turned(value, order), order)
    x, own = value.index, flow.net.shape(value.index)
    if len(along) > 1:
        x = flow.net.reshape(
            x, (*own[: -len(along)], int(numpy.prod(own[-len(along) :]))), f"{node.name}/flat", extra=True
        )
    if node.kind == "LogSoftmax":
        y = flow.net.unary("LOG_SOFTMAX", x, node.name)
    else:
        y = flow.net.emit("SOFTMAX", [x], flow.net.shape(x), node.name, "SoftmaxOptions", {"beta": 1.0})
    if len(along) > 1:
        y = flow.net.reshape(y, own, node.name, extra=True)
    return Value(y, value.order)


def reduction(kind: str) -> Any:
    """A reduction along axes, of any order."""

    def build(flow: Flow, node: Node) -> Value:
        name = node.inputs[0]
        rank = len(flow.shape(name))
        axes = reduced_axes(node, rank, flow.settled(node, 1, "axis"))
        value = flow.value(name)
        if not axes and node.integer("noop_with_empty_axes", 0):
            return value
        axes = axes or list(range(rank))
        x, net = value.index, flow.net
        if kind in ("SQUARES", "LENGTH"):
            x = net.binary("MUL", x, x, f"{node.name}/squares")
        elif kind == "ABSOLUTE":
            x = net.unary("ABS", x, f"{node.name}/absolute")
        elif kind == "LOG_SUM_EXP":
            x = net.unary("EXP", x, f"{node.name}/exponentials")
        keep = bool(node.integer("keepdims", 1))
        real = kind if kind in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD") else "SUM"
        y = net.reduce(real, x, [value.order.index(axis) for axis in axes], node.name, keep=keep)
        if kind == "LENGTH":
            y = net.unary("SQRT", y, node.name)
        elif kind in ("LOG_SUM_EXP", "LOG_SUM"):
            y = net.unary("LOG", y, node.name)
        return Value(y, value.order if keep else without(value.order, axes))

    return build


def arg(kind: str) -> Any:
    """ArgMax and ArgMin."""

    def build(flow: Flow, node: Node) -> Value:
        value, rank = flow.value(node.inputs[0]), len(flow.shape(node.inputs[0]))
        axis = node.integer("axis", 0) % rank
        place, own = value.order.index(axis), flow.net.shape(value.index)
        shape = [size for i, size in enumerate(own) if i != place]
        inputs = [value.index, flow.net.sizes(f"{node.name}/axis", place)]
        options: dict[str, OptionValue] = {"output_type": "INT32"}
        table = "ArgMaxOptions" if kind == "ARG_MAX" else "ArgMinOptions"
        y = flow.net.emit(kind, inputs, shape, node.name, table, options, dtype="int32")
        if not node.integer("keepdims", 1):
            return Value(y, without(value.order, [axis]))
        kept = [1 if i == place else size for i, size in enumerate(own)]
        return Value(flow.net.reshape(y, kept, node.name, extra=True), value.order)

    return build


def batch_normalization(flow: Flow, node: Node) -> Value:
    """BatchNormalization as a product and a sum per channel, which a convolution before it takes over."""
    figures = [flow.settled(node, place, "figures") for place in range(1, 5)]
    factor, term = normalization(node, *figures)
    rank = len(flow.shape(node.inputs[0]))
    value = flow.value(node.inputs[0])
    return Value(_per_channel(flow, node, value, rank, factor, term), value.order)


def _per_channel(flow: Flow, node: Node, value: Value, rank: int, factor: Array, term: Array) -> int:
    """The tensor times a factor plus a term for each channel."""
    x = value.index
    for kind, figures in (("MUL", factor), ("ADD", term)):
        if figures is not None:
            shape = [-1 if axis == min(1, rank - 1) else 1 for axis in value.order]
            constant = figures.astype(numpy.float32).reshape(shape)
            while constant.ndim > 1 and constant.shape[0] == 1:
                constant = constant[0]
            x = flow.net.binary(kind, x, flow.net.constant(f"{node.name}/{kind.lower()}", constant), node.name)
    return x


def standardized(flow: Flow, node: Node, x: int, axes: Any) -> int:
    """(x - mean) / deviation along axes of the tensor."""
    net, name = flow.net, node.name
    mean = net.reduce("MEAN", x, axes, f"{name}/mean", keep=True)
    centered = net.binary("SUB", x, mean, f"{name}/centered")
    squares = net.binary("MUL", centered, centered, f"{name}/squares")
    variance = net.reduce("MEAN", squares, axes, f"{name}/variance", keep=True)
    steady = net.shifted(variance, node.number("epsilon", 1e-5), f"{name}/steady")
    return net.binary("MUL", centered, net.unary("RSQRT", steady, f"{name}/deviation"), name)


def instance_normalization(flow: Flow, node: Node) -> Value:
    """InstanceNormalization: over the spatial axes."""
    rank = len(flow.shape(node.inputs[0]))
    value = flow.value(node.inputs[0])
    y = standardized(flow, node, value.index, [value.order.index(axis) for axis in range(2, rank)])
    scale, bias = (flow.settled(node, place, "figures") for place in (1, 2))
    return Value(_per_channel(flow, node, Value(y, value.order), rank, scale, bias), value.order)


def group_normalization(flow: Flow, node: Node) -> Value:
    """GroupNormalization: over the spatial axes and the channels of a group."""
    shape, groups = flow.shape(node.inputs[0]), node.integer("num_groups", 1)
    rank, channels = len(shape), shape[1]
    x = flow.ordered(node.inputs[0], channels_last(rank))
    own = flow.net.shape(x)
    places = int(numpy.prod(own[1:-1]))
    parts = flow.net.reshape(x, (own[0], places, groups, channels // groups), f"{node.name}/groups", extra=True)
    y = flow.net.reshape(standardized(flow, node, parts, [1, 3]), own, node.name, extra=True)
    scale, bias = (flow.settled(node, place, "figures") for place in (1, 2))
    if len(scale) != channels:
        scale, bias = (numpy.repeat(each, channels // groups) for each in (scale, bias))
    return Value(_per_channel(flow, node, Value(y, channels_last(rank)), rank, scale, bias), channels_last(rank))


def layer_normalization(flow: Flow, node: Node) -> Value:
    """LayerNormalization: over the last axes."""
    value, rank = flow.value(node.inputs[0]), len(flow.shape(node.inputs[0]))
    axis = node.integer("axis", -1) % rank
    y = standardized(flow, node, value.index, [value.order.index(each) for each in range(axis, rank)])
    for kind, place in (("MUL", 1), ("ADD", 2)):
        figures = flow.settled(node, place, "figures")
        if figures is not None:
            wide = figures.reshape(*[1] * (rank - figures.ndim), *figures.shape).transpose(value.order)
            while wide.ndim > 1 and wide.shape[0] == 1:
                wide = wide[0]
            y = flow.net.binary(kind, y, flow.net.constant(f"{node.name}/{kind.lower()}", wide), node.name)
    return Value(y, value.order)


def lp_normalization(flow: Flow, node: Node) -> Value:
    """LpNormalization along one axis."""
    value, rank = flow.value(node.inputs[0]), len(flow.shape(node.inputs[0]))
    place, net = [value.order.index(node.integer("axis", -1) % rank)], flow.net
    if node.integer("p", 2) == 1:
        length = net.reduce(
            "SUM", net.unary("ABS", value.index, f"{node.name}/absolute"), place, f"{node.name}/sum", keep=True
        )
    else:
        squares = net.binary("MUL", value.index, value.index, f"{node.name}/squares")
        length = net.unary(
            "SQRT", net.reduce("SUM", squares, place, f"{node.name}/sum", keep=True), f"{node.name}/length"
        )
    return Value(net.binary("DIV", value.index, length, node.name), value.order)


AXES: dict[str, Any] = {
    "Softmax": softmax, "LogSoftmax": softmax, "ReduceMean": reduction("MEAN"),
    "ReduceSum": reduction("SUM"), "ReduceMax": reduction("REDUCE_MAX"), "ReduceMin": reduction("REDUCE_MIN"),
    "ReduceProd": reduction("REDUCE_PROD"), "ReduceL1": reduction("ABSOLUTE"), "ReduceL2": reduction("LENGTH"),
    "ReduceSumSquare": reduction("SQUARES"), "ReduceLogSum": reduction("LOG_SUM"),
    "ReduceLogSumExp": reduction("LOG_SUM_EXP"), "ArgMax": arg("ARG_MAX"), "ArgMin": arg("ARG_MIN"),
    "BatchNormalization": batch_normalization, "InstanceNormalization": instance_normalization,
    "GroupNormalization": group_normalization, "LayerNormalization": layer_normalization,
    "LpNormalization": lp_normalization,
}  # fmt: skip
