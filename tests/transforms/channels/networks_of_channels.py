"""Small float networks of all that channels can flow through, drawn at random."""

import numpy as np
from hypothesis import strategies as st

from mlia.graph.graph import Graph, OptionValue
from mlia.testing import Sketch

SIDE = 6


CONVOLUTION: dict[str, OptionValue] = {
    "padding": "SAME", "stride_w": 1, "stride_h": 1, "fused_activation_function": "NONE",
    "dilation_w_factor": 1, "dilation_h_factor": 1,
}  # fmt: skip
POOL: dict[str, OptionValue] = {
    "padding": "SAME", "stride_w": 1, "stride_h": 1, "fused_activation_function": "NONE",
    "filter_width": 3, "filter_height": 3,
}  # fmt: skip


def constant_with(net: Sketch, shape: tuple[int, ...]) -> int:
    random = np.random.default_rng(sum(shape))
    return net.constant(f"constant {shape}", random.normal(0, 1, shape).astype(np.float32))


def concatenate(net: Sketch, parts: list[int], name: str) -> int:
    shape = (*net.shape(parts[0])[:-1], sum(net.shape(part)[-1] for part in parts))
    return net.operator("CONCATENATION", parts, shape, name, options_table="ConcatenationOptions", options={"axis": 3})


def add(net: Sketch, x: int, y: int, name: str) -> int:
    options: dict[str, OptionValue] = {"fused_activation_function": "RELU"}
    return net.operator("ADD", [x, y], net.shape(x), name, options_table="AddOptions", options=options)


def depthwise(net: Sketch, x: int, multiplier: int, name: str) -> int:
    batch, height, width, channels = net.shape(x)
    channels *= multiplier
    inputs = [x, constant_with(net, (1, 3, 3, channels)), constant_with(net, (channels,))]
    options = CONVOLUTION | {"depth_multiplier": multiplier, "padding": "VALID"}
    table = "DepthwiseConv2DOptions"
    return net.operator(
        "DEPTHWISE_CONV_2D",
        inputs,
        (batch, height - 2, width - 2, channels),
        name,
        options_table=table,
        options=options,
    )


def deep(multiplier: int) -> Graph:
    net = Sketch("deep")
    x = net.convolution(net.input("in", (1, SIDE, SIDE, 3)), filters=16, name="first")
    x = depthwise(net, x, multiplier, "deep")
    return net.graph([net.convolution(x, filters=4, name="last")])


def mean(net: Sketch, x: int, name: str, keep: bool = False) -> int:
    axes = net.constant(f"{name}/axes", np.array([1, 2], np.int32))
    channels = net.shape(x)[-1]
    shape = (1, 1, 1, channels) if keep else (1, channels)
    return net.operator("MEAN", [x, axes], shape, name, options_table="ReducerOptions", options={"keep_dims": keep})


def gate(net: Sketch, x: int, name: str) -> int:
    """Squeeze and excite."""
    channels = net.shape(x)[-1]
    y = mean(net, x, f"{name}/mean", keep=True)
    y = net.convolution(y, filters=8, name=f"{name}/squeeze")
    y = net.convolution(y, filters=channels, activation="NONE", name=f"{name}/excite")
    y = net.unary("LOGISTIC", y, f"{name}/gate")
    return net.operator("MUL", [x, y], net.shape(x), name, options_table="MulOptions")


def flattening(net: Sketch, x: int, name: str) -> int:
    """FULLY_CONNECTED straight on an image."""
    inputs = [x, constant_with(net, (24, int(np.prod(net.shape(x))))), constant_with(net, (24,))]
    return net.operator("FULLY_CONNECTED", inputs, (1, 24), name, options_table="FullyConnectedOptions")


def padded(net: Sketch, x: int, name: str) -> int:
    sizes = net.constant(f"{name}/sizes", np.array([[0, 0], [1, 0], [0, 1], [0, 0]], np.int32))
    batch, height, width, channels = net.shape(x)
    return net.operator("PAD", [x, sizes], (batch, height + 1, width + 1, channels), name, options_table="PadOptions")


def block(net: Sketch, x: int, kind: str, name: str) -> int:
    """One more part of a network, on what x holds."""
    channels = net.shape(x)[-1]
    if kind == "convolution":
        return net.convolution(x, filters=20, kernel=(3, 3), name=name)
    if kind == "pointwise":
        return net.convolution(x, filters=12, activation="RELU6", name=name)
    if kind == "residual":
        y = net.convolution(x, filters=channels, kernel=(3, 3), activation="NONE", name=name)
        return add(net, y, x, f"{name}/add")
    if kind == "concatenation":
        return concatenate(net, [x, net.convolution(x, filters=8, name=name)], f"{name}/both")
    if kind == "multiplied":
        return depthwise(net, x, 2, name) if net.shape(x)[1] > 3 else x
    if kind == "scaled":
        x = net.operator("MUL", [x, constant_with(net, (channels,))], net.shape(x), f"{name}/mul")
        return net.operator("SUB", [constant_with(net, (1, 1, 1, channels)), x], net.shape(x), name)
    if kind == "alpha":
        return net.operator("PRELU", [x, constant_with(net, (1, 1, channels))], net.shape(x), name)
    if kind == "pool":
        return net.operator("MAX_POOL_2D", [x], net.shape(x), name, options_table="Pool2DOptions", options=POOL)
    makers = {"depthwise": net.depthwise, "gate": lambda x, name: gate(net, x, name)}
    if kind == "pad":
        return padded(net, x, name)
    return makers[kind](x, name=name) if kind in makers else net.unary(kind, x, name)


KINDS = (
    "convolution", "pointwise", "residual", "concatenation", "multiplied", "scaled", "alpha", "pool", "depthwise",
    "gate", "pad", "TANH", "HARD_SWISH",
)  # fmt: skip


@st.composite
def network(draw: st.DrawFn) -> Graph:
    """A network with one input, (1, 6, 6, 3), and one output, (1, 5)."""
    net = Sketch("drawn", seed=draw(st.integers(0, 9)))
    x = net.convolution(net.input("in", (1, SIDE, SIDE, 3)), filters=16, kernel=(3, 3), name="stem")
    for number, kind in enumerate(draw(st.lists(st.sampled_from(KINDS), max_size=4))):
        x = block(net, x, kind, f"{number} {kind}")
    end = draw(st.sampled_from(["mean", "reshape", "flatten"]))
    if end == "mean":
        x = net.fully_connected(mean(net, x, "mean"), units=24, activation="RELU", name="hidden")
    elif end == "reshape":
        x = net.reshape(x, (1, int(np.prod(net.shape(x)))), "flat")
    else:
        x = flattening(net, x, "hidden")
    return net.graph([net.fully_connected(x, units=5, name="last")])
