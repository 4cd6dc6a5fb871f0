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


EXAMPLES = (
    Example("VER001", "largest along the width", "ethos-u85-256", partial(reduced, "REDUCE_MAX", (2,), False), True),
    Example("VER001", "largest, width kept", "ethos-u85-256", partial(reduced, "REDUCE_MAX", (2,), True), False),
    Example("VER001", "sum over two axes", "ethos-u85-256", partial(reduced, "SUM", (1, 2), True), True),
    Example("VER001", "sum over one axis", "ethos-u85-256", partial(reduced, "SUM", (2,), True), False),
)
