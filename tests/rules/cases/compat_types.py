"""Models whose types, scales, weights and biases an Ethos-U does not take, and near misses."""

from collections.abc import Callable
from functools import partial

import numpy
from msgspec.structs import replace

from mlia.graph.graph import Operator, Quantization, Tensor
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import Sketch
from tests.rules.cases.compat_sketches import SHAPE, U55, U65, U85, Net, Q, bare, one, pair
from tests.rules.example import Example


def float_model() -> bytes:
    net = Sketch("float")
    x = net.convolution(net.input("image", (1, 8, 8, 3)), filters=4, kernel=(3, 3))
    return write_tflite(net.graph([net.fully_connected(net.reshape(x, (1, 256)), units=2)]))


def int8_model() -> bytes:
    net = Net()
    return net.done(net.end(net.start()))


def island(kind: str, table: str = "", constant: float | None = None, fixed: Quantization | None = None) -> bytes:
    """An operator on float32 between DEQUANTIZE and QUANTIZE."""
    net = Net()
    real = net.operator("DEQUANTIZE", [net.start()], SHAPE, "real", dtype="float32")
    net._tensors[real] = Tensor("real", SHAPE, "float32")
    inputs = [real]
    if constant is not None:
        inputs.append(net.constant("factor", numpy.full(8, constant, numpy.float32)))
    options = {"fused_activation_function": "NONE"} if table in ("MulOptions", "DivOptions", "AddOptions") else {}
    made = net.tensor(Tensor("it", SHAPE, "float32"))
    net.put(Operator(0, kind, tuple(inputs), (made,), options, table))
    back = net.operator("QUANTIZE", [made], SHAPE, "back", dtype="int8", quantization=fixed or Q)
    return net.done(net.end(back))


def softmax_in_float() -> bytes:
    """A classifier whose last operator is float, as some converters leave it."""
    net = Net()
    flat = net.plain("RESHAPE", net.start(), net.integers("sizes", 1, 512), shape=(1, 512), name="flat")
    real = net.tensor(Tensor("real", (1, 512), "float32"))
    net.put(Operator(0, "DEQUANTIZE", (flat,), (real,)))
    made = net.tensor(Tensor("it", (1, 512), "float32"))
    net.put(Operator(0, "SOFTMAX", (real,), (made,), {"beta": 1.0}, "SoftmaxOptions"))
    return net.done(made)


def float_edges() -> bytes:
    net = Net()
    net._inputs.clear()
    image = net.input("real_image", SHAPE)
    x = net.operator("QUANTIZE", [image], SHAPE, "quantized", dtype="int8", quantization=Q)
    x = net.end(net.filter("CONV_2D", x, filters=8))
    made = net.tensor(Tensor("real", SHAPE, "float32"))
    net.put(Operator(0, "DEQUANTIZE", (x,), (made,)))
    return net.done(made)


def without_scale() -> bytes:
    net = Net()
    made = bare(net, "it", SHAPE)
    net.put(Operator(0, "RELU", (net.start(),), (made,)))
    return net.done(net.end(made))


def weights_without_scale() -> bytes:
    net = Net()
    made = net.end(net.start())
    index = net._operators[-1].inputs[1]
    tensor = net._tensors[index]
    net._tensors[index] = Tensor(tensor.name, tensor.shape, tensor.dtype, None, tensor.data)
    return net.done(made)


def scaled_constant(scale: float, code: int) -> bytes:
    """ADD of a constant with that scale."""
    net = Net()
    values = net.constant("values", numpy.full((1, 1, 1, 8), code, numpy.int8), Quantization((scale,), (0,)))
    return net.done(net.end(net.operator("ADD", [net.start(), values], SHAPE, "it")))


def with_scales(kind: str, quantization: Quantization, dtype: str = "int8") -> bytes:
    """An operator whose two inputs and whose output all have that quantization."""
    net = Net()
    other = net.input("other", SHAPE, dtype, quantization)
    return net.done(net.start(), net.operator(kind, [other, other], SHAPE, "it"))


def constant_per_channel() -> bytes:
    net = Net()
    scales = Quantization(tuple(0.01 * (number + 1) for number in range(8)), (0,) * 8, 3)
    values = net.constant("values", numpy.arange(8, dtype=numpy.int8).reshape(1, 1, 1, 8), scales)
    options = {"fused_activation_function": "NONE"}
    made = net.operator("MUL", [net.start(), values], SHAPE, "it", options_table="MulOptions", options=options)
    return net.done(net.end(made))


def maximum(scale: float) -> bytes:
    net = Net()
    x = net.start()
    return net.done(net.end(net.operator("MAXIMUM", [x, x], SHAPE, "it", quantization=Quantization((scale,), (0,)))))


def minimum_of_constant() -> bytes:
    net = Net()
    six = net.constant("six", numpy.full((1, 1, 1, 1), 100, numpy.int8), Quantization((0.06,), (0,)))
    return net.done(net.end(net.operator("MINIMUM", [net.start(), six], SHAPE, "it")))


def convolution(
    weights: str = "int8",
    bias: str = "int32",
    shape: tuple[int, ...] = (8,),
    value: float = 1,
    channels: int = 8,
    fill: int = 1,
    source: str = "int8",
) -> bytes:
    net = Net(source, (1, 4, 4, channels))
    scales = Quantization((0.01,) * 8, (0,) * 8)
    w = net.constant("weights", numpy.full((8, 3, 3, channels), fill, weights), scales)
    units = None if bias == "float32" else Quantization((0.0005,) * 8, (0,) * 8)
    b = net.constant("bias", numpy.full(shape, value, bias), units)
    options = {
        "padding": "SAME", "stride_w": 1, "stride_h": 1, "fused_activation_function": "NONE",
        "dilation_w_factor": 1, "dilation_h_factor": 1,
    }  # fmt: skip
    made = net.operator(
        "CONV_2D", [net.first, w, b], (1, 4, 4, 8), "it", options_table="Conv2DOptions", options=options
    )
    return net.done(made)


def computed_bias() -> bytes:
    net = Net()
    bias = net.input("bias", (8,), "int32", Quantization((0.0005,), (0,)))
    made = net.end(net.first, "it")
    net._operators[-1] = Operator(
        0, "CONV_2D", (*net._operators[-1].inputs[:2], bias), net._operators[-1].outputs,
        net._operators[-1].options, "Conv2DOptions",
    )  # fmt: skip
    return net.done(made)


def folded_bias() -> bytes:
    """A bias that is a RESHAPE of a constant."""
    net = Net()
    wide = net.constant("wide", numpy.arange(8, dtype=numpy.int32).reshape(2, 4))
    bias = net.operator(
        "RESHAPE", [wide, net.integers("sizes", 8)], (8,), "bias",
        options_table="ReshapeOptions", options={"new_shape": (8,)},
    )  # fmt: skip
    made = net.end(net.first, "it")
    last = net._operators[-1]
    net._operators[-1] = Operator(0, "CONV_2D", (*last.inputs[:2], bias), last.outputs, last.options, "Conv2DOptions")
    return net.done(made)


def fires(code: str, name: str, build: Callable[[], bytes], onto_npu: bool | None = True, target: str = U55) -> Example:
    return Example(code, name, target, build, True, onto_npu)


def quiet(code: str, name: str, build: Callable[[], bytes], target: str = U55) -> Example:
    return Example(code, name, target, build, False)


ELEMENTWISE = Quantization((0.1,), (3,))
EXAMPLES = (
    fires("CMP001", "float32 throughout", float_model),
    quiet("CMP001", "int8 throughout", int8_model),
    fires("CMP002", "LOGISTIC in float", partial(island, "LOGISTIC")),
    fires("CMP002", "ELU in float", partial(island, "ELU")),
    fires("CMP002", "MUL by a constant in float", partial(island, "MUL", "MulOptions", 0.5)),
    fires("CMP002", "DIV by a constant in float", partial(island, "DIV", "DivOptions", 4.0)),
    fires("CMP002", "SQUARE in float", partial(island, "SQUARE", "SquareOptions")),
    fires("CMP002", "SIN in float", partial(island, "SIN"), False),
    fires("CMP002", "SOFTMAX in float at the end", softmax_in_float, False),
    quiet("CMP002", "float at the edges only", float_edges),
    fires("CMP003", "float inputs and outputs", float_edges),
    fires("CMP003", "float inputs and outputs on Ethos-U85", float_edges, True, U85),
    quiet("CMP003", "integer inputs and outputs", int8_model),
    fires("CMP004", "uint32", pair("ADD", "uint32"), False),
    fires("CMP004", "float16", pair("ADD", "float16", None), False),
    fires("CMP004", "int4", pair("ADD", "int4"), False),
    fires("CMP004", "float64 on Ethos-U85", pair("MUL", "float64", None), False, U85),
    quiet("CMP004", "int32", pair("ADD", "int32")),
    fires("CMP005", "int32 MAXIMUM", pair("MAXIMUM", "int32"), False),
    fires("CMP005", "int64 ADD", pair("ADD", "int64"), False),
    quiet("CMP005", "int32 ADD", pair("ADD", "int32")),
    fires("CMP010", "activation without a scale", without_scale),
    replace(fires("CMP010", "weights without a scale", weights_without_scale, False), is_beyond_remedy=True),
    quiet("CMP010", "scales everywhere", int8_model),
    fires("CMP011", "scale 0", partial(scaled_constant, 0.0, 3), False),
    fires("CMP011", "negative scale", partial(scaled_constant, -0.1, 3), False),
    quiet("CMP011", "scale 0 of zeros", partial(scaled_constant, 0.0, 0)),
    fires("CMP012", "one scale throughout", partial(with_scales, "ADD", Quantization((0.1,) * 8, (0,) * 8, 3))),
    fires("CMP012", "a constant with scales per channel", constant_per_channel),
    quiet("CMP012", "weights with scales per channel", int8_model),
    fires("CMP013", "int32 with a zero point", partial(with_scales, "ADD", ELEMENTWISE, "int32")),
    fires("CMP013", "int32 zero point on Ethos-U85", partial(with_scales, "ADD", ELEMENTWISE, "int32"), True, U85),
    fires("CMP013", "int16 with a zero point", partial(with_scales, "ADD", ELEMENTWISE, "int16"), False, U85),
    fires("CMP013", "uint8 below zero", partial(with_scales, "ADD", Quantization((0.1,), (-3,)), "uint8"), False),
    quiet("CMP013", "int8 with a zero point", partial(with_scales, "ADD", ELEMENTWISE)),
    fires("CMP014", "MAXIMUM to another scale", partial(maximum, 0.1)),
    fires("CMP014", "MINIMUM with a constant of another scale", minimum_of_constant),
    fires("CMP014", "MAXIMUM to another scale on Ethos-U85", partial(maximum, 0.1), True, U85),
    quiet("CMP014", "MAXIMUM of one scale", partial(maximum, 0.05)),
    fires("CMP015", "int16 weights", partial(convolution, "int16")),
    quiet("CMP015", "int8 weights", convolution),
    fires("CMP016", "sum of 66,600 weights of 127", partial(convolution, channels=7400, fill=127)),
    quiet("CMP016", "sum of 65,007 weights of 127", partial(convolution, channels=7223, fill=127)),
    fires("CMP017", "bias of two axes", partial(convolution, shape=(8, 1))),
    fires("CMP017", "int16 bias", partial(convolution, bias="int16")),
    fires("CMP017", "float bias", partial(convolution, bias="float32", value=0.1)),
    fires("CMP017", "bias of 41 bits", partial(convolution, bias="int64", value=1 << 41, source="int16"), False),
    fires("CMP017", "bias of 49 bits", partial(convolution, bias="int64", value=1 << 49, source="int16"), False, U85),
    fires("CMP017", "bias from an input", computed_bias, False),
    fires("CMP017", "bias from constants", folded_bias),
    quiet("CMP017", "bias of 39 bits", partial(convolution, bias="int64", value=1 << 39, source="int16")),
    fires("CMP018", "ELU of int16", one("ELU", dtype="int16", alone=True)),
    fires("CMP018", "GELU of int16", one("GELU", "GeluOptions", dtype="int16", alone=True), True, U65),
    fires("CMP018", "RSQRT of uint8", one("RSQRT", dtype="uint8", alone=True)),
    fires("CMP018", "LOG from int8 to int16", one("LOG", output="int16", alone=True)),
    fires("CMP018", "ELU of int16 on Ethos-U85", one("ELU", dtype="int16", alone=True), True, U85),
    fires("CMP018", "MEAN of int32", one(
        "MEAN", "ReducerOptions", dtype="int32", alone=True, shape=(1, 8), constants=(([1, 2], "int32"),),
        keep_dims=False,
    ), False),
    quiet("CMP018", "ELU of int8", one("ELU")),
)  # fmt: skip
