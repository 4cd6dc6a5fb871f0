"""Operators that Vela 5.2 compiles to something else."""

from functools import partial

from mlia.graph.tflite_writer import write_tflite
from mlia.testing import IntegerSketch
from tests.rules.example import Example


def reduced(kind: str, axes: tuple[int, ...], keep: bool) -> bytes:
    """One reduction of 1x6x7x8."""
    net = IntegerSketch("reduced")
    shape = (1, 6, 7, 8)
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape) if keep or axis not in axes)
    x = net.filter("CONV_2D", net.image("in", shape), filters=8, name="conv")
    x = net.plain(kind, x, net.integers("axes", *axes), shape=kept, name="out", table="ReducerOptions", keep_dims=keep)
    return write_tflite(net.graph([x]))


def activated(activation: str) -> bytes:
    """One convolution with a fused activation."""
    net = IntegerSketch("activated")
    x = net.image("in", (1, 6, 7, 8))
    return write_tflite(net.graph([net.filter("CONV_2D", x, filters=8, activation=activation, name="out")]))


def turned(is_read: bool) -> bytes:
    """A transposition that is an output, and that a matrix product may read too."""
    net = IntegerSketch("turned")
    x, a = net.image("x", (1, 8, 4, 8)), net.image("a", (1, 4, 8, 8))
    v = net.plain("TRANSPOSE", x, net.integers("p", 0, 2, 1, 3), shape=(1, 4, 8, 8), name="v", table="TransposeOptions")
    options = {"adj_x": False, "adj_y": False, "asymmetric_quantize_inputs": False}
    y = net.operator(
        "BATCH_MATMUL", [a, v if is_read else a], (1, 4, 8, 8), "y", options_table="BatchMatMulOptions", options=options
    )
    return write_tflite(net.graph([y, v]))


EXAMPLES = (
    Example("VER001", "largest along the width", "ethos-u85-256", partial(reduced, "REDUCE_MAX", (2,), False), True),
    Example("VER001", "largest, width kept", "ethos-u85-256", partial(reduced, "REDUCE_MAX", (2,), True), False),
    Example("VER001", "sum over two axes", "ethos-u85-256", partial(reduced, "SUM", (1, 2), True), True),
    Example("VER001", "sum over one axis", "ethos-u85-256", partial(reduced, "SUM", (2,), True), False),
    Example("VER001", "fused TANH", "ethos-u85-256", partial(activated, "TANH"), True),
    Example("VER001", "fused RELU6", "ethos-u85-256", partial(activated, "RELU6"), False),
    Example("VER002", "read by a matrix product", "ethos-u55-128", partial(turned, True), True),
    Example("VER002", "an output only", "ethos-u55-128", partial(turned, False), False),
)
