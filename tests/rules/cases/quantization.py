"""Small models whose quantization is wrong in one respect."""

from collections.abc import Callable

import numpy
from msgspec.structs import replace

from mlia.graph.graph import Graph, Quantization, Tensor
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import IntegerSketch
from tests.rules.example import Example

U55 = "ethos-u55-256"


def sound() -> Graph:
    """Two convolutions, the second with a RELU."""
    net = IntegerSketch("sound")
    x = net.image("x", (1, 16, 16, 8))
    x = net.filter("CONV_2D", x, filters=8, name="first")
    x = net.filter("CONV_2D", x, filters=8, name="second")
    return net.graph([x])


def changed(change: Callable[[Tensor], Tensor]) -> Callable[[], bytes]:
    """The sound model with other tensors."""

    def build() -> bytes:
        graph = sound()
        main = replace(graph.main, tensors=tuple(change(tensor) for tensor in graph.main.tensors))
        return write_tflite(replace(graph, subgraphs=(main,)))

    return build


def quantized(name: str, scale: float, zero_point: int = 0) -> Callable[[], bytes]:
    """The sound model with another scale of one tensor."""
    return changed(
        lambda tensor: (
            replace(tensor, quantization=Quantization((scale,), (zero_point,))) if tensor.name == name else tensor
        )
    )


def all_with_scale(scale: float) -> Callable[[], bytes]:
    return changed(
        lambda tensor: tensor if tensor.is_constant else replace(tensor, quantization=Quantization((scale,), (0,)))
    )


def with_codes(name: str, change: Callable[[numpy.ndarray], numpy.ndarray], dtype: str = "int8") -> Callable[[], bytes]:
    """The sound model with other constants in one tensor."""

    def apply(tensor: Tensor) -> Tensor:
        codes = change(numpy.frombuffer(tensor.data, dtype)).astype(dtype)
        return replace(tensor, data=memoryview(codes.tobytes()))

    return changed(lambda tensor: apply(tensor) if tensor.name == name else tensor)


def weights_with(**changes: object) -> Callable[[], bytes]:
    """The sound model with another quantization of the first weights."""

    def apply(tensor: Tensor) -> Tensor:
        assert tensor.quantization is not None
        return replace(tensor, quantization=replace(tensor.quantization, **changes))

    return changed(lambda tensor: apply(tensor) if tensor.name == "first/weights" else tensor)


def relu(zero_point: int) -> Callable[[], bytes]:
    def build() -> bytes:
        net = IntegerSketch("relu")
        x = net.image("x", (1, 16, 16, 8))
        x = net.filter("CONV_2D", x, filters=8, activation="RELU", name="conv")
        graph = net.graph([x])
        own = Quantization(net.Q.scale, (zero_point,))
        tensors = tuple(
            replace(tensor, quantization=own) if tensor.name == "conv" else tensor for tensor in graph.main.tensors
        )
        return write_tflite(replace(graph, subgraphs=(replace(graph.main, tensors=tensors),)))

    return build


def one_scale(narrow: int) -> Callable[[], bytes]:
    """Dense weights of which some rows are narrow."""

    def build() -> bytes:
        net = IntegerSketch("dense")
        x = net.dense(net.image("x", (1, 64)), 16)
        graph = net.graph([x])

        def change(tensor: Tensor) -> Tensor:
            if tensor.name != "dense/weights":
                return tensor
            codes = numpy.frombuffer(tensor.data, "int8").reshape(16, 64).copy()
            codes[:narrow] //= 8
            return replace(tensor, data=memoryview(codes.tobytes()))

        main = replace(graph.main, tensors=tuple(change(tensor) for tensor in graph.main.tensors))
        return write_tflite(replace(graph, subgraphs=(main,)))

    return build


def int16(zero_point: int) -> Callable[[], bytes]:
    def build() -> bytes:
        net = IntegerSketch("wide")
        x = net.input("x", (1, 16), "int16", Quantization((0.001,), (zero_point,)))
        return write_tflite(net.graph([net.plain("RELU", x, name="relu")]))

    return build


def joined(ratio: float) -> Callable[[], bytes]:
    def build() -> bytes:
        net = IntegerSketch("joined")
        x = net.image("x", (1, 8, 8, 8))
        y = net.input("y", (1, 8, 8, 8), "int8", Quantization((net.Q.scale[0] * ratio,), (0,)))
        options = {"fused_activation_function": "NONE"}
        z = net.operator("ADD", [x, y], (1, 8, 8, 8), "sum", options_table="AddOptions", options=options)
        return write_tflite(net.graph([z]))

    return build


def with_small_constant() -> bytes:
    """What is small in a constant is so on purpose."""
    net = IntegerSketch("constant")
    x = net.image("x", (1, 8, 8, 8))
    small = Quantization((1e-9,), (0,))
    constant = net.constant("small", numpy.full((1, 1, 1, 8), 127, numpy.int8), small)
    options = {"fused_activation_function": "NONE"}
    z = net.operator("ADD", [x, constant], (1, 8, 8, 8), "sum", options_table="AddOptions", options=options)
    return write_tflite(net.graph([z]))


def untouched() -> bytes:
    return write_tflite(sound())


EXAMPLES = (
    Example("QNT001", "scale 1 everywhere", U55, all_with_scale(1.0), fires=True),
    Example("QNT001", "scale 0.99 everywhere", U55, all_with_scale(0.99), fires=False),
    Example("QNT001", "scale 1 of one", U55, quantized("first", 1.0), fires=False),
    Example("QNT002", "a scale of 1e-12", U55, quantized("second", 1e-12), fires=True),
    Example("QNT002", "a scale of 1e7", U55, quantized("second", 1e7), fires=True),
    Example("QNT002", "a scale of 1e-5", U55, quantized("second", 1e-5), fires=False),
    Example("QNT003", "RELU with zero point 0", U55, relu(0), fires=True),
    Example("QNT003", "RELU with zero point -128", U55, relu(-128), fires=False),
    Example("QNT003", "RELU with zero point -100", U55, relu(-100), fires=False),
    Example("QNT003", "zero point 0 without RELU", U55, untouched, fires=False),
    Example("QNT004", "int16 with zero point 3", U55, int16(3), fires=True),
    Example("QNT004", "int16 with zero point 0", U55, int16(0), fires=False),
    Example("QNT005", "scales 1 to 100", U55, joined(100), fires=True),
    Example("QNT005", "scales 100 to 1", U55, joined(0.01), fires=True),
    Example("QNT005", "scales 1 to 30", U55, joined(30), fires=False),
    Example("QNT005", "a constant of a small scale", U55, with_small_constant, fires=False),
    Example("QNT006", "codes below 32", U55, with_codes("first/weights", lambda codes: codes // 5), fires=True),
    Example("QNT006", "codes of 42", U55, with_codes("first/weights", lambda codes: codes // 3), fires=False),
    Example("QNT006", "half of the rows narrow", U55, one_scale(8), fires=True),
    Example("QNT006", "seven rows narrow", U55, one_scale(7), fires=False),
    Example("QNT007", "weights with zero point 1", U55, weights_with(zero_point=(0,) * 7 + (1,)), fires=True),
    Example("QNT007", "weights with zero point 0", U55, untouched, fires=False),
    Example(
        "QNT008", "bias of 2^30 + 1", U55, with_codes("first/bias", lambda b: b - (1 << 30) - 1, "int32"), fires=True
    ),
    Example("QNT008", "bias of 2^30", U55, with_codes("first/bias", lambda b: b + (1 << 30), "int32"), fires=False),
    Example("QNT009", "twice the weights' scale", U55, weights_with(scale=(0.02,) * 8), fires=True),
    Example("QNT009", "as the converter has it", U55, untouched, fires=False),
    Example("QNT010", "output scale 1e6", U55, quantized("second", 1e6), fires=True),
    Example("QNT010", "output scale 1e-4", U55, quantized("second", 1e-4), fires=True),
    Example("QNT010", "output scale 1e-3", U55, quantized("second", 1e-3), fires=False),
    Example("QNT010", "output scale 100", U55, quantized("second", 100), fires=False),
)
