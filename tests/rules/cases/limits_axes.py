"""Models that reduce, slice, transpose, turn around or multiply more or otherwise than the NPU does."""

from collections.abc import Callable, Sequence
from functools import partial

from msgspec.structs import replace

from mlia.graph.graph import OptionValue, Quantization, Tensor
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import IntegerSketch
from tests.rules.example import Example

U55, U65, U85 = "ethos-u55-128", "ethos-u65-256", "ethos-u85-256"
Shape = tuple[int, ...]


def softmax(shape: Shape, dtype: str = "int8") -> bytes:
    """One SOFTMAX over the last axis."""
    net = IntegerSketch("softmax")
    x = net.image("image", shape, dtype)
    scale = Quantization((1 / 256,), (-128,)) if dtype == "int8" else Quantization((1 / 32768,), (0,))
    made = net.operator("SOFTMAX", [x], shape, "softmax", quantization=scale, options_table="SoftmaxOptions",
                        options={"beta": 1.0})  # fmt: skip
    return write_tflite(net.graph([made]))


def mean(shape: Shape, axes: Sequence[int], dtype: str = "int8", keep: bool = True) -> bytes:
    """One MEAN."""
    net = IntegerSketch("mean")
    x = net.image("image", shape, dtype)
    whole = [1 if axis in axes else size for axis, size in enumerate(shape)]
    made_shape = whole if keep else [size for axis, size in enumerate(shape) if axis not in axes]
    axis = net.integers("axes", *axes)
    made = net.plain("MEAN", x, axis, shape=made_shape, name="mean", table="ReducerOptions", keep_dims=keep)
    return write_tflite(net.graph([made]))


def argmax(shape: Shape, axis: int) -> bytes:
    """One ARG_MAX."""
    net = IntegerSketch("argmax")
    x = net.image("image", shape)
    over = net.tensor(Tensor("axis", (), "int32", data=memoryview(axis.to_bytes(4, "little"))))
    made_shape = [size for position, size in enumerate(shape) if position != axis]
    options: dict[str, OptionValue] = {"output_type": "INT32"}
    made = net.operator(
        "ARG_MAX", [x, over], made_shape, "argmax", dtype="int32", options_table="ArgMaxOptions", options=options
    )
    return write_tflite(net.graph([made]))


def strided(shape: Shape, begin: Shape, end: Shape, step: Shape, end_mask: int = 0, shrink: int = 0) -> bytes:
    """One STRIDED_SLICE."""
    net = IntegerSketch("strided")
    x = net.image("image", shape)
    parts = [
        range(size)[slice(first, None if end_mask >> axis & 1 else last, stride)]
        for axis, (size, first, last, stride) in enumerate(zip(shape, begin, end, step, strict=True))
    ]
    made_shape = [len(part) for axis, part in enumerate(parts) if not shrink >> axis & 1]
    limits = [net.integers(name, *values) for name, values in (("begin", begin), ("end", end), ("step", step))]
    options: dict[str, OptionValue] = {
        "begin_mask": 0, "end_mask": end_mask, "ellipsis_mask": 0, "new_axis_mask": 0, "shrink_axis_mask": shrink,
    }  # fmt: skip
    made = net.plain(
        "STRIDED_SLICE", x, *limits, shape=made_shape, name="strided", table="StridedSliceOptions", **options
    )
    return write_tflite(net.graph([made]))


def transpose(shape: Shape, order: Sequence[int], dtype: str = "int8") -> bytes:
    """One TRANSPOSE."""
    net = IntegerSketch("transpose")
    x = net.image("image", shape, dtype)
    made_shape = [shape[axis] for axis in order]
    permutation = net.integers("permutation", *order)
    made = net.plain("TRANSPOSE", x, permutation, shape=made_shape, name="transpose", table="TransposeOptions")
    return write_tflite(net.graph([made]))


def reverse(shape: Shape, axes: Sequence[int], dtype: str = "int8") -> bytes:
    """One REVERSE_V2."""
    net = IntegerSketch("reverse")
    x = net.image("image", shape, dtype)
    made = net.plain("REVERSE_V2", x, net.integers("axes", *axes), name="reverse", table="ReverseV2Options")
    return write_tflite(net.graph([made]))


def matmul(left: Shape, right: Shape, dtype: str = "int8", adjoint: bool = False) -> bytes:
    """One BATCH_MATMUL of two inputs."""
    net = IntegerSketch("matmul")
    inputs = [net.image("left", left, dtype), net.image("right", right, dtype)]
    options: dict[str, OptionValue] = {"adj_x": False, "adj_y": adjoint}
    shape = (*left[:-1], right[-2] if adjoint else right[-1])
    scale = Quantization((2.0 if dtype == "int8" else 1000.0,), (0,))
    table = "BatchMatMulOptions"
    made = net.operator(
        "BATCH_MATMUL", inputs, shape, "matmul", quantization=scale, options_table=table, options=options
    )
    return write_tflite(net.graph([made]))


def computed_weights(left: Shape, right: Shape, dtype: str = "int8") -> bytes:
    """One FULLY_CONNECTED whose int8 weights are an input."""
    net = IntegerSketch("computed")
    inputs = [net.image("left", left, dtype), net.image("right", right)]
    options: dict[str, OptionValue] = {"fused_activation_function": "NONE"}
    scale = Quantization((2.0,), (0,))
    shape = (*left[:-1], right[0])
    table = "FullyConnectedOptions"
    made = net.operator(
        "FULLY_CONNECTED", inputs, shape, "dense", quantization=scale, options_table=table, options=options
    )
    return write_tflite(net.graph([made]))


def cut(times: int) -> bytes:
    """Convolutions with operators between that no Ethos-U55 has."""
    net = IntegerSketch("cut")
    x = net.image("image", (1, 16, 16, 8))
    for number in range(times):
        x = net.filter("CONV_2D", x, filters=8, name=f"conv_{number}")
        x = net.plain(
            "REVERSE_V2", x, net.integers(f"axis_{number}", 1), name=f"turn_{number}", table="ReverseV2Options"
        )
    x = net.filter("CONV_2D", x, filters=64, kernel=(7, 7), name="last")
    return write_tflite(net.graph([x]))


def _fires(code: str, name: str, target: str, build: Callable[[], bytes], gets_onto_npu: bool | None = True) -> Example:
    return Example(code, name, target, build, fires=True, gets_onto_npu=gets_onto_npu)


def _quiet(code: str, name: str, target: str, build: Callable[[], bytes]) -> Example:
    return Example(code, name, target, build, fires=False)


WHOLE = (1, 8, 8, 16)
EXAMPLES = (
    _fires("CMP036", "two images", U55, partial(softmax, (2, 1, 66000, 2))),
    _fires("CMP036", "rows of 3 axes", U85, partial(softmax, (2, 40000, 2))),
    _quiet("CMP036", "65,535 rows", U55, partial(softmax, (1, 255, 257, 2))),
    _fires("CMP037", "over depth", U55, partial(mean, WHOLE, (3,))),
    _fires("CMP037", "over everything", U85, partial(mean, WHOLE, (1, 2, 3))),
    _fires("CMP037", "over height and depth", U65, partial(mean, WHOLE, (1, 3))),
    _fires("CMP037", "over depth, int16", U55, partial(mean, WHOLE, (3,), "int16", keep=False)),
    _quiet("CMP037", "over height and width", U55, partial(mean, WHOLE, (1, 2))),
    _quiet("CMP037", "over depth with a height of 1", U85, partial(mean, (1, 1, 8, 16), (3,))),
    _fires("CMP038", "over 5,000 of time", U55, partial(mean, (1, 5000, 1, 4), (1,))),
    _fires("CMP038", "over 5,000 of depth", U85, partial(mean, (1, 3, 5000), (2,))),
    _fires("CMP038", "over 66,000 of int16", U55, partial(mean, (1, 250, 264, 2), (1, 2), "int16")),
    replace(_fires("CMP038", "over a prime", U55, partial(mean, (1, 5003, 1, 4), (1,)), False), is_beyond_remedy=True),
    _quiet("CMP038", "over 4,096", U55, partial(mean, (1, 4096, 1, 4), (1,))),
    _fires("CMP039", "over height", U55, partial(argmax, WHOLE, 1)),
    _fires("CMP039", "over width", U65, partial(argmax, WHOLE, 2)),
    _quiet("CMP039", "over depth", U55, partial(argmax, WHOLE, 3)),
    _quiet("CMP039", "over height, U85", U85, partial(argmax, WHOLE, 1)),
    _fires("CMP040", "1000 classes", U55, partial(argmax, (1, 1000), 1), gets_onto_npu=False),
    _quiet("CMP040", "127 classes", U55, partial(argmax, (1, 127), 1)),
    _fires("CMP041", "every second channel", U55, partial(strided, WHOLE, (0,) * 4, WHOLE, (1, 1, 1, 2))),
    _fires("CMP041", "upside down", U65, partial(strided, WHOLE, (0, -1, 0, 0), WHOLE, (1, -1, 1, 1), end_mask=2)),
    _fires("CMP041", "every second of a batch", U85,
           partial(strided, (4, 3, 5, 2), (0,) * 4, (4, 3, 5, 2), (2, 1, 1, 1))),
    _fires("CMP041", "backwards with strides", U55,
           partial(strided, WHOLE, (0, -1, -2, 3), (1, 0, -9, 9), (1, -3, -3, 2), shrink=1)),
    _quiet("CMP041", "every second row", U55, partial(strided, WHOLE, (0,) * 4, WHOLE, (1, 2, 3, 1))),
    _fires("CMP042", "9 axes", U55, partial(transpose, (1, 2, 2, 2, 2, 2, 2, 2, 3), (0, 1, 2, 3, 4, 5, 6, 8, 7))),
    _fires("CMP042", "9 axes", U85, partial(transpose, (1, 2, 2, 2, 2, 2, 2, 2, 3), (0, 1, 2, 3, 4, 5, 6, 8, 7))),
    _quiet("CMP042", "6 axes", U55, partial(transpose, (1, 2, 3, 2, 2, 3), (0, 5, 4, 3, 2, 1))),
    _fires("CMP043", "a large image to NCHW", U55, partial(transpose, (2, 300, 300, 2), (0, 3, 1, 2))),
    _fires("CMP043", "a long matrix", U65, partial(transpose, (70000, 2), (1, 0))),
    _fires("CMP043", "int32 to NCHW", U55, partial(transpose, (1, 4, 5, 6), (0, 3, 1, 2), "int32")),
    _fires("CMP043", "int32 in batches", U55, partial(transpose, (3, 4, 5, 6), (0, 2, 1, 3), "int32")),
    _fires("CMP043", "int32 of 5 axes", U65, partial(transpose, (2, 3, 4, 5, 6), (4, 1, 3, 0, 2), "int32")),
    _quiet("CMP043", "int8 to NCHW", U55, partial(transpose, WHOLE, (0, 3, 1, 2))),
    _quiet("CMP043", "a long matrix, U85", U85, partial(transpose, (70000, 2), (1, 0))),
    _fires("CMP044", "upside down", U55, partial(reverse, WHOLE, (1,))),
    _fires("CMP044", "left and right, int16", U65, partial(reverse, WHOLE, (2,), "int16")),
    _fires("CMP044", "both, and channels", U55, partial(reverse, (1, 3, 4, 5), (-3, 2, 3))),
    _quiet("CMP044", "upside down, U85", U85, partial(reverse, WHOLE, (1,))),
    _fires("CMP045", "a deep product", U55, partial(matmul, (1, 2, 4), (1, 4, 65600))),
    _fires("CMP045", "deep computed weights", U65, partial(computed_weights, (2, 4), (65600, 4))),
    _fires("CMP045", "a long product", U55, partial(matmul, (1, 2, 65600), (1, 65600, 2)), gets_onto_npu=False),
    _quiet("CMP045", "a product", U55, partial(matmul, (1, 4, 64), (1, 64, 4))),
    _fires("CMP046", "int16", U55, partial(matmul, (1, 4, 8), (1, 8, 6), "int16")),
    _fires("CMP046", "int16, adjoint", U65, partial(matmul, (2, 4, 8), (2, 6, 8), "int16", adjoint=True)),
    _fires("CMP046", "int16 with computed weights", U55, partial(computed_weights, (4, 8), (6, 8), "int16")),
    _quiet("CMP046", "int16, U85", U85, partial(matmul, (1, 4, 8), (1, 8, 6), "int16")),
    _fires("CMP050", "three cuts", U55, partial(cut, 3), gets_onto_npu=None),
    _quiet("CMP050", "nothing on the CPU", U85, partial(cut, 3)),
    _quiet("CMP050", "no cut", U55, partial(cut, 0)),
)  # fmt: skip
