"""Models that take longer than they need to, and their near misses."""

from collections.abc import Callable
from functools import partial

import numpy as np
from msgspec.structs import replace

from mlia.graph.graph import Quantization
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import IntegerSketch
from tests.rules.example import Example

U55, U55_256, U65, U85 = "ethos-u55-128", "ethos-u55-256", "ethos-u65-512", "ethos-u85-256"
NARROW = Quantization((0.03,), (-5,))
TO_NHWC, TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


class Sketch(IntegerSketch):
    """An IntegerSketch with what these models need."""

    def transpose(self, x: int, order: tuple[int, ...], name: str) -> int:
        shape = [self.shape(x)[axis] for axis in order]
        return self.plain("TRANSPOSE", x, self.integers(f"{name}/order", *order), shape=shape, name=name)

    def product(self, x: int, y: int, name: str) -> int:
        options = {"fused_activation_function": "NONE"}
        return self.operator("MUL", [x, y], self.shape(x), name, options_table="MulOptions", options=options)

    def logistic(self, x: int, name: str) -> int:
        return self.operator("LOGISTIC", [x], self.shape(x), name, quantization=Quantization((1 / 256,), (-128,)))

    def softmax(self, x: int, name: str) -> int:
        scale = Quantization((1 / 256,), (-128,))
        return self.operator(
            "SOFTMAX",
            [x],
            self.shape(x),
            name,
            quantization=scale,
            options_table="SoftmaxOptions",
            options={"beta": 1.0},
        )

    def file(self, *outputs: int) -> bytes:
        return write_tflite(self.graph(outputs))


def chain(channels: int, size: int = 32, kind: str = "int8") -> bytes:
    net = Sketch("chain")
    x = net.image("image", (1, size, size, 8), kind)
    for number in range(3):
        x = net.filter("CONV_2D", x, filters=channels, activation="RELU", name=f"conv_{number}")
    return net.file(net.filter("CONV_2D", x, filters=8, kernel=(1, 1), name="last"))


def first(channels: int, kind: str = "CONV_2D", size: int = 40, stride: int = 2) -> bytes:
    net = Sketch("first")
    x = net.image("spectrogram", (1, 49, size, channels))
    x = net.filter(kind, x, filters=8, kernel=(10, 8), stride=(stride, stride), activation="RELU", name="first")
    return net.file(net.filter("CONV_2D", x, filters=8, kernel=(1, 1), name="last"))


def waveform() -> bytes:
    net = Sketch("waveform")
    x = net.image("samples", (1, 4000, 1, 1))
    x = net.filter("CONV_2D", x, filters=16, kernel=(60, 1), stride=(2, 1), activation="RELU", name="first")
    return net.file(net.filter("CONV_2D", x, filters=16, kernel=(3, 1), stride=(3, 1), name="last"))


def sequence(height: int, width: int) -> bytes:
    net = Sketch("sequence")
    x = net.image("samples", (1, height, width, 16))
    kernel = (9, 1) if height > width else (1, 9)
    for number in range(2):
        x = net.filter("CONV_2D", x, filters=32, kernel=kernel, activation="RELU", name=f"conv_{number}")
        x = net.filter("DEPTHWISE_CONV_2D", x, filters=32, kernel=kernel, name=f"depthwise_{number}")
    return net.file(x)


def average(kind: str, keep: bool = True, scale: Quantization | None = None) -> bytes:
    net = Sketch("average")
    x = net.filter("CONV_2D", net.image("image", (1, 8, 8, 16)), filters=32, kernel=(1, 1), name="conv")
    if kind == "MEAN":
        axes = net.integers("axes", 1, 2)
        shape = (1, 1, 1, 32) if keep else (1, 32)
        options = {"keep_dims": keep}
        x = net.operator(
            "MEAN", [x, axes], shape, "mean", quantization=scale, options_table="ReducerOptions", options=options
        )
    else:
        sizes = {"stride_w": 8, "stride_h": 8, "filter_width": 8, "filter_height": 8}
        shape = (1, 1, 1, 32)
        x = net.plain(kind, x, shape=shape, name="pool", table="Pool2DOptions", padding="VALID", **sizes)
    return net.file(x)


def dominated(filters: int) -> bytes:
    net = Sketch("dominated")
    x = net.filter("CONV_2D", net.image("image", (1, 32, 32, 16)), filters=filters, kernel=(5, 5), name="large")
    x = net.filter("CONV_2D", x, filters=16, kernel=(1, 1), stride=(2, 2), name="small")
    return net.file(net.filter("CONV_2D", x, filters=16, name="last"))


def balanced() -> bytes:
    net = Sketch("balanced")
    x = net.image("image", (1, 32, 32, 16))
    for number in range(4):
        x = net.filter("CONV_2D", x, filters=16, name=f"conv_{number}")
    return net.file(x)


def channels_first(is_transposed: bool) -> bytes:
    net = Sketch("nchw")
    x = net.image("image", (1, 16, 24, 24) if is_transposed else (1, 24, 24, 16))
    for number in range(2):
        if is_transposed:
            x = net.transpose(x, TO_NHWC, f"in_{number}")
        x = net.filter("CONV_2D", x, filters=16, name=f"conv_{number}")
        if is_transposed:
            x = net.transpose(x, TO_NCHW, f"out_{number}")
    return net.file(x)


def with_product(value: int) -> bytes:
    """MUL by a constant: `value` 127 is 1."""
    net = Sketch("product")
    x = net.filter("CONV_2D", net.image("image", (1, 16, 16, 16)), filters=16, name="conv")
    one = net.constant("one", np.full((1, 1, 1, 16), value, np.int8), Quantization((1 / 127,), (0,)))
    x = net.product(x, one, "product")
    return net.file(net.filter("CONV_2D", x, filters=16, name="last"))


def joined(is_inside: bool) -> bytes:
    net = Sketch("joined")
    x = net.image("image", (1, 32, 32, 16))
    parts = [x, net.image("other", (1, 32, 32, 16))]
    if is_inside:
        parts = [net.filter("CONV_2D", x, filters=16, kernel=(1, 1), name=f"part_{side}") for side in "ab"]
    options = {"axis": 3, "fused_activation_function": "NONE"}
    table = "ConcatenationOptions"
    x = net.operator("CONCATENATION", parts, (1, 32, 32, 32), "both", options_table=table, options=options)
    return net.file(net.filter("CONV_2D", x, filters=16, kernel=(1, 1), name="last"))


def activated(kind: str, size: int = 32) -> bytes:
    net = Sketch("activated")
    x = net.image("image", (1, size, size, 8))
    for number in range(3):
        x = net.filter("CONV_2D", x, filters=16, name=f"conv_{number}")
        if kind == "SWISH":
            x = net.product(x, net.logistic(x, f"gate_{number}"), f"swish_{number}")
        else:
            x = net.plain(kind, x, name=f"activation_{number}")
    return net.file(x)


def rescaled(kind: str, is_rescaled: bool) -> bytes:
    net = Sketch("rescaled")
    x = net.filter("CONV_2D", net.image("image", (1, 16, 16, 8)), filters=16, name="conv")
    scale = NARROW if is_rescaled else None
    x = net.operator(kind, [x], net.shape(x), "rescaled", quantization=scale)
    return net.file(net.filter("CONV_2D", x, filters=16, kernel=(1, 1), name="last"))


def sum_rescaled(kind: str) -> bytes:
    """An ADD, and an activation that brings its result to another scale."""
    net = Sketch("sum")
    x = net.filter("CONV_2D", net.image("image", (1, 16, 16, 8)), filters=16, name="conv")
    y = net.filter("CONV_2D", x, filters=16, name="branch")
    options = {"fused_activation_function": "NONE"}
    x = net.operator("ADD", [x, y], net.shape(x), "sum", options_table="AddOptions", options=options)
    x = net.operator(kind, [x], net.shape(x), "rescaled", quantization=NARROW)
    return net.file(net.filter("CONV_2D", x, filters=16, kernel=(1, 1), name="last"))


def flattened(is_open: bool) -> bytes:
    """A RESHAPE to one row, to sizes that are computed from a batch that may be open."""
    net = Sketch("flattened")
    image = net.image("image", (1, 16, 16, 8))
    counts = {"out_type": "INT32"}
    shape = net.operator("SHAPE", [image], (4,), "shape", dtype="int32", options_table="ShapeOptions", options=counts)
    cuts = [net.integers(name, value) for name, value in (("begin", 0), ("end", 1), ("step", 1))]
    table = "StridedSliceOptions"
    batch = net.operator("STRIDED_SLICE", [shape, *cuts], (1,), "batch", dtype="int32", options_table=table)
    parts, table = [batch, net.integers("rest", 2048)], "ConcatenationOptions"
    sizes = net.operator("CONCATENATION", parts, (2,), "sizes", dtype="int32", options_table=table)
    row = net.operator("RESHAPE", [image, sizes], (1, 2048), "row", options_table="ReshapeOptions")
    graph = net.graph([net.dense(row, 8)])
    if not is_open:
        return write_tflite(graph)
    opened = {image: (-1, 16, 16, 8), row: (-1, 2048), graph.main.outputs[0]: (-1, 8)}
    tensors = tuple(
        replace(tensor, quantization=None if tensor.dtype == "int32" else tensor.quantization,
                shape_signature=opened.get(index, ()))
        for index, tensor in enumerate(graph.main.tensors)
    )  # fmt: skip
    return write_tflite(replace(graph, subgraphs=(replace(graph.main, tensors=tensors),)))


def unsigned(ends: str, zero_point: int) -> bytes:
    """A convolution in int8, and QUANTIZEs to another type, or another scale, at both ends."""
    net = Sketch("unsigned")
    outer = Quantization(net.Q.scale, (zero_point,)) if ends == "uint8" else NARROW
    inner = Quantization(net.Q.scale, (zero_point - 128,))
    x = net.input("image", (1, 32, 32, 3), ends, outer)
    x = net.operator("QUANTIZE", [x], net.shape(x), "signed", dtype="int8", quantization=inner)
    x = net.filter("CONV_2D", x, filters=4, name="conv")
    return net.file(net.operator("QUANTIZE", [x], net.shape(x), "mask", dtype=ends, quantization=outer))


def classified(size: int) -> bytes:
    net = Sketch("classified")
    x = net.image("image", (1, size, size, 16))
    if size > 1:
        x = net.filter("CONV_2D", x, filters=16, name="conv")
        x = net.filter("CONV_2D", x, filters=16, kernel=(size, size), padding="VALID", name="all")
    x = net.dense(net.plain("RESHAPE", x, net.integers("flat", 1, 16), shape=(1, 16), name="flat"), 10)
    return net.file(net.softmax(x, "classes"))


def pooled(kernel: int, padding: str = "SAME") -> bytes:
    net = Sketch("pooled")
    x = net.filter("CONV_2D", net.image("image", (1, 20, 20, 16)), filters=16, kernel=(1, 1), name="conv")
    sizes = {"stride_w": 1, "stride_h": 1, "filter_width": kernel, "filter_height": kernel}
    side = 20 if padding == "SAME" else 21 - kernel
    shape = (1, side, side, 16)
    x = net.plain("MAX_POOL_2D", x, shape=shape, name="pool", table="Pool2DOptions", padding=padding, **sizes)
    return net.file(net.filter("CONV_2D", x, filters=16, kernel=(1, 1), name="last"))


def with_slopes(is_per_channel: bool) -> bytes:
    net = Sketch("slopes")
    x = net.filter("CONV_2D", net.image("image", (1, 32, 32, 8)), filters=16, name="conv")
    if is_per_channel:
        slopes = np.arange(16, dtype=np.int8).reshape(1, 1, 16)
        x = net.operator("PRELU", [x, net.constant("slopes", slopes, Quantization((0.03,), (0,)))], net.shape(x), "act")
    else:
        x = net.plain("LEAKY_RELU", x, name="act", table="LeakyReluOptions", alpha=0.2)
    return net.file(net.filter("CONV_2D", x, filters=16, kernel=(1, 1), name="last"))


def _example(code: str, name: str, build: Callable[[], bytes], fires: bool, target: str = U55) -> Example:
    return Example(code, name, target, build, fires)


def one_step() -> bytes:
    """Less work than it takes to start the NPU."""
    net = IntegerSketch("small")
    return write_tflite(net.graph([net.dense(net.image("x", (1, 16)), 16)]))


EXAMPLES = (
    _example("PER001", "a convolution of 96 channels", partial(dominated, 96), True),
    _example("PER001", "convolutions alike", balanced, False),
    _example("PER002", "17 channels", partial(chain, 17), True),
    _example("PER002", "9 channels", partial(chain, 9), True, U85),
    _example("PER002", "16 channels", partial(chain, 16), False),
    _example("PER002", "24 channels", partial(chain, 24), False),
    _example("PER003", "one channel", partial(first, 1), True),
    _example("PER003", "one channel, depthwise", partial(first, 1, "DEPTHWISE_CONV_2D"), True, U85),
    _example("PER003", "three channels", partial(first, 3, stride=1), True, U65),
    _example("PER003", "one channel along the height", waveform, True),
    _example("PER003", "8 channels", partial(first, 8), False),
    _example("PER004", "time along the height", partial(sequence, 64, 1), True),
    _example("PER004", "time along the width", partial(sequence, 1, 64), False),
    _example("PER005", "MEAN", partial(average, "MEAN"), True),
    _example("PER005", "MEAN to rows", partial(average, "MEAN", False, NARROW), True, U85),
    _example("PER005", "AVERAGE_POOL_2D", partial(average, "AVERAGE_POOL_2D"), False),
    _example("PER006", "13x13", partial(pooled, 13), True),
    _example("PER006", "5x5, VALID", partial(pooled, 5, "VALID"), True, U85),
    _example("PER006", "3x3", partial(pooled, 3), False),
    _example("PER010", "NCHW", partial(channels_first, True), True),
    _example("PER010", "NHWC", partial(channels_first, False), False),
    _example("PER011", "MUL by 1", partial(with_product, 127), True),
    _example("PER011", "MUL by 0.5", partial(with_product, 64), False),
    _example("PER012", "inputs joined", partial(joined, False), True),
    _example("PER012", "results joined", partial(joined, True), False),
    _example("PER013", "sizes of an open batch", partial(flattened, True), True),
    _example("PER013", "sizes of a known batch", partial(flattened, False), False),
    _example("PER014", "bytes", partial(unsigned, "uint8", 0), True, U55_256),
    _example("PER014", "bytes on U85", partial(unsigned, "uint8", 0), True, U85),
    _example("PER014", "bytes that the compiler takes as they are", partial(unsigned, "uint8", 128), False, U55_256),
    _example("PER014", "int8 in another scale", partial(unsigned, "int8", 0), False, U55_256),
    _example("PER020", "swish", partial(activated, "SWISH"), True),
    _example("PER020", "hard swish", partial(activated, "HARD_SWISH"), False),
    _example("PER021", "hard swish", partial(activated, "HARD_SWISH"), True, U55_256),
    _example("PER021", "RELU", partial(activated, "RELU"), False, U55_256),
    _example("PER021", "hard swish on U85", partial(activated, "HARD_SWISH"), False, U85),
    _example("PER022", "RELU to another scale", partial(rescaled, "RELU", True), True),
    _example("PER022", "QUANTIZE", partial(rescaled, "QUANTIZE", True), True),
    _example("PER022", "RELU to the same scale", partial(rescaled, "RELU", False), False),
    _example("PER022", "RELU_N1_TO_1 behind an ADD", partial(sum_rescaled, "RELU_N1_TO_1"), True),
    _example("PER022", "RELU6 behind an ADD on U85", partial(sum_rescaled, "RELU6"), True, U85),
    _example("PER023", "little in front of a SOFTMAX", partial(classified, 1), True),
    _example("PER023", "much in front of a SOFTMAX", partial(classified, 16), False),
    _example("PER024", "int16", partial(chain, 16, 32, "int16"), True),
    _example("PER024", "int8", partial(chain, 16), False),
    _example("PER025", "PRELU", partial(with_slopes, True), True),
    _example("PER025", "LEAKY_RELU", partial(with_slopes, False), False),
    _example("PER030", "one step on a U85", one_step, True, U85),
    _example("PER030", "one step that the band leaves open", one_step, False),
    _example("PER030", "convolutions alike", balanced, False),
)
