"""Small models for the rules about weights and the size of the NPU."""

import numpy
from msgspec.structs import replace

from mlia.graph.graph import Quantization
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import IntegerSketch
from tests.rules.example import Example

U55, U85 = "ethos-u55-256", "ethos-u85-256"


def dense_network() -> bytes:
    """Each weight is used once."""
    net = IntegerSketch("dense")
    x = net.image("x", (1, 512))
    for number in range(3):
        x = net.dense(x, 512, name=f"dense_{number}")
    return write_tflite(net.graph([x]))


def convolutions() -> bytes:
    """Each weight is used at 1,024 positions."""
    net = IntegerSketch("convolutions")
    x = net.image("x", (1, 32, 32, 16))
    for number in range(3):
        x = net.filter("CONV_2D", x, filters=32, name=f"conv_{number}")
    return write_tflite(net.graph([x]))


def without_weights() -> bytes:
    net = IntegerSketch("empty")
    x = net.image("x", (1, 32, 32, 16))
    return write_tflite(net.graph([net.plain("RELU", x, name="relu")]))


def scale_per_row(rows: int = 256, depth: int = 1024) -> bytes:
    """Rows of very different size, each with a scale of its own."""
    net = IntegerSketch("rows")
    x = net.image("x", (1, depth))
    random = numpy.random.default_rng(0)
    real = random.normal(0, 1, (rows, depth)) * numpy.exp(random.normal(0, 1, (rows, 1)))
    scales = numpy.abs(real).max(axis=1) / 127
    codes = numpy.round(real / scales[:, None]).astype(numpy.int8)
    own = tuple(float(scale) for scale in scales)
    w = net.constant("dense/weights", codes, Quantization(own, (0,) * rows, 0))
    values = random.integers(-4000, 4000, rows).astype(numpy.int32)
    of_bias = Quantization(tuple(scale * net.Q.scale[0] for scale in own), (0,) * rows)
    b = net.constant("dense/bias", values, of_bias)
    options = {"fused_activation_function": "NONE"}
    wide = replace(net.Q, scale=(float(numpy.abs(real).sum(axis=1).max() * 0.02),))
    y = net.operator(
        "FULLY_CONNECTED", [x, w, b], (1, rows), "dense", quantization=wide,
        options_table="FullyConnectedOptions", options=options,
    )  # fmt: skip
    return write_tflite(net.graph([y]))


EXAMPLES = (
    Example("OPT001", "dense", U55, dense_network, fires=True),
    Example("OPT001", "convolutions", U55, convolutions, fires=False),
    Example("OPT001", "no weights", U55, without_weights, fires=False),
    Example("OPT002", "convolutions", U55, convolutions, fires=True),
    Example("OPT002", "dense", U55, dense_network, fires=False),
    Example("OPT002", "no weights", U55, without_weights, fires=False),
    Example("OPT003", "convolutions on a U85", U85, convolutions, fires=True),
    Example("OPT003", "convolutions on a U55", U55, convolutions, fires=False),
    Example("OPT004", "convolutions", "ethos-u55-128", convolutions, fires=True),
    Example("OPT004", "convolutions on the largest", U55, convolutions, fires=False),
    Example("OPT004", "dense", "ethos-u55-128", dense_network, fires=False),
    Example("OPT005", "a scale per row", U55, scale_per_row, fires=True),
    Example("OPT005", "a scale per tensor", U55, dense_network, fires=False),
    Example("OPT006", "dense", U55, dense_network, fires=True),
    Example("OPT006", "dense on the smallest", "ethos-u55-32", dense_network, fires=False),
    Example("OPT006", "convolutions", U55, convolutions, fires=False),
    Example("OPT006", "dense on a U85", U85, dense_network, fires=False),
)
