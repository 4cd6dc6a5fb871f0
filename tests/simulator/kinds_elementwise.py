"""Single operators number by number: arithmetic, comparisons and functions."""

import numpy as np

from mlia.graph.graph import Quantization
from tests.simulator.sketch import ACTIVATIONS, OperatorSketch

_TABLES = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions"}
_LOWEST = {"int8": -128, "int16": 0}


def broadcast(net: OperatorSketch) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Two shapes that broadcast (or are the same), and that of the result."""
    shape = net.image_shape()
    if net.chance(0.4):
        return shape, shape, shape
    lost = net.choose((1,), (2,), (3,), (1, 2), (1, 2, 3), (2, 3), (1, 3))
    small = tuple(1 if axis in lost else size for axis, size in enumerate(shape))
    if net.chance(0.3):  # fewer dimensions
        small = small[net.size(1, 3) :] if all(size == 1 for size in small[:3]) else small
    return (small, shape, shape) if net.chance(0.3) else (shape, small, shape)


def arithmetic(net: OperatorSketch, kind: str, constant: bool = False, activation: bool = True) -> list[int]:
    """ADD, SUB or MUL of two inputs that may broadcast, or of an input and a constant."""
    a, b, shape = broadcast(net)
    x = net.x(a)
    other = net.quantization()
    y = net.numbers(b, other) if constant else net.x(b, other)
    first, second = net.quantization_of(x).scale[0], other.scale[0]
    size = first * second * (74 if net.dtype == "int8" else 18900) if kind == "MUL" else max(first, second)
    options = {"fused_activation_function": net.choose(*ACTIVATIONS) if activation else "NONE"}
    if kind in ("ADD", "SUB"):
        options["pot_scale_int16"] = False
    inputs = [y, x] if constant and net.chance(0.3) else [x, y]
    return [net.one(kind, inputs, shape, net.quantization(around=size), _TABLES[kind], **options)]


def squared_difference(net: OperatorSketch) -> list[int]:
    a, b, shape = broadcast(net)
    x, y = net.x(a), net.x(b)
    size = max(net.quantization_of(x).scale[0], net.quantization_of(y).scale[0]) ** 2
    out = net.quantization(around=size * (74 if net.dtype == "int8" else 18900))
    return [net.one("SQUARED_DIFFERENCE", [x, y], shape, out, "SquaredDifferenceOptions")]


def with_itself(net: OperatorSketch, kind: str) -> list[int]:
    """An operator whose both operands are the same tensor."""
    x = net.x(net.image_shape())
    size = net.quantization_of(x).scale[0] * (1 if kind == "ADD" else net.quantization_of(x).scale[0] * 74)
    options = {"fused_activation_function": "NONE"}
    return [net.one(kind, [x, x], net.shape(x), net.quantization(around=size), _TABLES[kind], **options)]


def larger_or_smaller(net: OperatorSketch, kind: str) -> list[int]:
    """MAXIMUM or MINIMUM: all of one quantization."""
    a, b, shape = broadcast(net)
    x = net.x(a)
    same = net.quantization_of(x)
    y = net.numbers(b, same) if net.chance(0.3) else net.x(b, same)
    return [net.one(kind, [x, y], shape, same, "MaximumMinimumOptions")]


def whole_numbers(net: OperatorSketch, kind: str) -> list[int]:
    """An operator on int32."""
    shape = net.image_shape()
    plain = Quantization((1.0,), (0,))
    x, y = net.x(shape, plain, "int32"), net.x(shape, plain, "int32")
    net.limits |= dict.fromkeys((x, y), (-30000, 30000))
    return [net.one(kind, [x, y], shape, plain, _TABLES[kind], fused_activation_function="NONE")]


def unary(net: OperatorSketch, kind: str, table: str = "") -> list[int]:
    """An operator on one input."""
    x = net.x(net.any_shape())
    out = net.quantization(around=net.quantization_of(x).scale[0])
    return [net.one(kind, [x], net.shape(x), out, table)]


def negated(net: OperatorSketch) -> list[int]:
    """NEG. LiteRT negates the codes, whatever the zero point, and the lowest number has no negative."""
    x = net.x(net.any_shape(), Quantization(net.quantization().scale, (0,)))
    highest = int(np.iinfo(net.dtype).max)
    net.limits[x] = (-highest, highest)
    return [net.one("NEG", [x], net.shape(x), None, "NegOptions")]


def fixed_output(net: OperatorSketch, kind: str, int8: tuple[float, int], int16: float, table: str = "") -> list[int]:
    """An operator whose output's quantization TFLite prescribes (TANH, LOGISTIC, SOFTMAX)."""
    wide = net.dtype == "int16"
    around = 2.0 ** net.random.uniform(-14, -11) if wide else 2.0 ** net.random.uniform(-6, -3)
    shape = net.any_shape()
    x = net.x((1, *shape) if kind == "SOFTMAX" and len(shape) == 1 else shape, net.quantization(around=around))
    out = Quantization((int16,), (0,)) if wide else Quantization((int8[0],), (int8[1],))
    options = {"beta": 1.0} if kind == "SOFTMAX" else {}
    return [net.one(kind, [x], net.shape(x), out, table, **options)]


def of_positive(net: OperatorSketch, kind: str) -> list[int]:
    """LOG or RSQRT: what goes in is positive."""
    scale = net.quantization().scale[0]
    lowest = _LOWEST[net.dtype]
    x = net.x(net.any_shape(), Quantization((scale,), (lowest,)))
    net.limits[x] = (lowest + 1, int(np.iinfo(net.dtype).max))
    size = abs(np.log(scale * 64)) / 40 + 0.01 if kind == "LOG" else 1 / np.sqrt(scale * 16) / 127
    out = net.quantization(around=size / (256 if net.dtype == "int16" else 1))
    return [net.one(kind, [x], net.shape(x), out)]


def exponential(net: OperatorSketch) -> list[int]:
    wide = net.dtype == "int16"
    x = net.x(net.any_shape(), net.quantization(around=1 / 8192 if wide else 1 / 48))
    top = np.exp(net.quantization_of(x).scale[0] * (30000 if wide else 90))
    out = net.quantization(around=top / (30000 if wide else 200))
    return [net.one("EXP", [x], net.shape(x), out, "ExpOptions")]


def leaky(net: OperatorSketch) -> list[int]:
    x = net.x(net.any_shape())
    out = net.quantization(around=net.quantization_of(x).scale[0]) if net.chance(0.7) else None
    # Not 1.5: where the scales are the same, LiteRT rounds its ties away from zero, unlike its multiplications.
    alpha = float(np.float32(net.choose(0.1, 0.01, 0.3, 0.5, 1.6)))
    return [net.one("LEAKY_RELU", [x], net.shape(x), out, "LeakyReluOptions", alpha=alpha)]


def parametric(net: OperatorSketch) -> list[int]:
    """PRELU with a slope per channel."""
    shape = net.image_shape()
    x = net.x(shape)
    slope = net.numbers((1, 1, shape[3]), Quantization((float(np.float32(1 / 100)),), (net.size(0, 40) - 20,)))
    return [net.one("PRELU", [x, slope], shape, net.quantization(around=net.quantization_of(x).scale[0]))]


def requantized(net: OperatorSketch, output: str) -> list[int]:
    """QUANTIZE to another scale, or another type."""
    x = net.x(net.any_shape())
    factor = {("int8", "int16"): 1 / 256, ("int16", "int8"): 256.0}.get((net.dtype, output), 1.0)
    out = net.quantization(output, around=net.quantization_of(x).scale[0] * factor)
    return [net.one("QUANTIZE", [x], net.shape(x), out, "QuantizeOptions", output)]


def _compared_exactly(net: OperatorSketch) -> Quantization:
    """A scale with which LiteRT does not round int16 numbers before it compares them."""
    return net.quantization(around=1 / 16) if net.dtype == "int16" else net.quantization()


def compared(net: OperatorSketch, kind: str) -> list[int]:
    """EQUAL, LESS and the like; the result is a bool."""
    a, b, shape = broadcast(net)
    x = net.x(a, _compared_exactly(net))
    y = net.x(b, net.quantization_of(x))
    table = "".join(part.capitalize() for part in kind.split("_")) + "Options"
    return [net.one(kind, [x, y], shape, Quantization((1.0,), (0,)), table, "bool")]


def selected(net: OperatorSketch, kind: str) -> list[int]:
    """SELECT or SELECT_V2 by a comparison."""
    shape = net.image_shape()
    x = net.x(shape, _compared_exactly(net))
    y = net.x(shape, net.quantization_of(x))
    truth = net.one("GREATER", [x, y], shape, Quantization((1.0,), (0,)), "GreaterOptions", "bool")
    table = "SelectOptions" if kind == "SELECT" else "SelectV2Options"
    return [net.one(kind, [truth, x, y], shape, net.quantization_of(x), table, net.dtype)]


def logical(net: OperatorSketch, kind: str) -> list[int]:
    """LOGICAL_AND, LOGICAL_OR or LOGICAL_NOT of bools."""
    shape = net.image_shape()
    plain = Quantization((1.0,), (0,))
    inputs = [net.x(shape, plain, "bool") for _ in range(1 if kind == "LOGICAL_NOT" else 2)]
    net.limits |= dict.fromkeys(inputs, (0, 1))
    table = "".join(part.capitalize() for part in kind.split("_")) + "Options"
    return [net.one(kind, inputs, shape, plain, table, "bool")]


def cast(net: OperatorSketch, output: str) -> list[int]:
    x = net.x(net.any_shape(), Quantization((1.0,), (0,)))
    options = {"in_data_type": net.dtype.upper(), "out_data_type": output.upper()}
    return [net.one("CAST", [x], net.shape(x), Quantization((1.0,), (0,)), "CastOptions", output, **options)]
