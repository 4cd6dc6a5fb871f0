"""Models whose kernels, strides or factors are at or beyond what the NPU takes."""

from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec.structs import replace

from mlia.graph.graph import OptionValue
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import IntegerSketch
from tests.rules.example import Example

U55, U65, U85 = "ethos-u55-128", "ethos-u65-256", "ethos-u85-256"
Pair = tuple[int, int]


def convolution(kind: str = "CONV_2D", shape: tuple[int, ...] = (1, 17, 18, 4), **options: Any) -> bytes:
    """One convolution of int8 with weights per channel."""
    net = IntegerSketch("convolution")
    x = net.image("image", shape)
    made = net.filter(kind, x, filters=options.pop("filters", 4), **options)
    return write_tflite(net.graph([made]))


depthwise = partial(convolution, "DEPTHWISE_CONV_2D")


def pool(
    kind: str, kernel: Pair, stride: Pair, padding: str, shape: tuple[int, ...] = (1, 19, 20, 4), dtype: str = "int8"
) -> bytes:
    """One pool."""
    net = IntegerSketch("pool")
    x = net.image("image", shape, dtype)
    size = [
        -(-extent // step) if padding == "SAME" else (extent - taps) // step + 1
        for extent, taps, step in zip(shape[1:3], kernel, stride, strict=True)
    ]
    options: dict[str, OptionValue] = {
        "padding": padding, "stride_h": stride[0], "stride_w": stride[1], "filter_height": kernel[0],
        "filter_width": kernel[1], "fused_activation_function": "NONE",
    }  # fmt: skip
    made = net.plain(kind, x, shape=(1, *size, shape[3]), name="pool", table="Pool2DOptions", **options)
    return write_tflite(net.graph([made]))


average, highest = partial(pool, "AVERAGE_POOL_2D"), partial(pool, "MAX_POOL_2D")


def transposed(
    stride: Pair,
    kernel: Pair = (3, 3),
    padding: str = "SAME",
    size: Pair | None = None,
    shape: tuple[int, ...] = (1, 5, 6, 4),
) -> bytes:
    """One TRANSPOSE_CONV with a bias."""
    net = IntegerSketch("transposed")
    x = net.image("image", shape)
    made = size or tuple(
        extent * step if padding == "SAME" else (extent - 1) * step + taps
        for extent, step, taps in zip(shape[1:3], stride, kernel, strict=True)
    )
    sizes = net.integers("size", 1, *made, 3)
    weights, bias = net.weights((3, *kernel, shape[3]), 3, 0, "transposed")
    options: dict[str, OptionValue] = {
        "padding": padding, "stride_h": stride[0], "stride_w": stride[1], "fused_activation_function": "NONE",
    }  # fmt: skip
    output = net.operator(
        "TRANSPOSE_CONV",
        [sizes, weights, x, bias],
        (1, *made, 3),
        "transposed",
        dtype="int8",
        quantization=net.Q,
        options_table="TransposeConvOptions",
        options=options,
    )
    return write_tflite(net.graph([output]))


def resize(
    kind: str,
    size: Pair,
    aligned: bool = False,
    centered: bool = False,
    shape: tuple[int, ...] = (1, 4, 5, 4),
    dtype: str = "int8",
) -> bytes:
    """One resize."""
    net = IntegerSketch("resize")
    x = net.image("image", shape, dtype)
    table = "ResizeBilinearOptions" if kind == "RESIZE_BILINEAR" else "ResizeNearestNeighborOptions"
    options: dict[str, OptionValue] = {"align_corners": aligned, "half_pixel_centers": centered}
    made_shape = (1, *size, shape[3])
    made = net.plain(kind, x, net.integers("size", *size), shape=made_shape, name="resize", table=table, **options)
    return write_tflite(net.graph([made]))


nearest, bilinear = partial(resize, "RESIZE_NEAREST_NEIGHBOR"), partial(resize, "RESIZE_BILINEAR")


def _fires(code: str, name: str, target: str, build: Callable[[], bytes], gets_onto_npu: bool = True) -> Example:
    return Example(code, name, target, build, fires=True, gets_onto_npu=gets_onto_npu)


def _quiet(code: str, name: str, target: str, build: Callable[[], bytes]) -> Example:
    return Example(code, name, target, build, fires=False)


EXAMPLES = (
    _fires("CMP030", "convolution, stride 4 and SAME", U55, partial(convolution, stride=(4, 4))),
    _fires("CMP030", "convolution, stride 2x4 and SAME", U65, partial(convolution, stride=(2, 4))),
    _fires("CMP030", "convolution, stride 4, dilated", U55,
           partial(convolution, stride=(4, 4), dilation=(2, 3), padding="VALID")),
    _fires("CMP030", "depthwise, stride 4", U55, partial(depthwise, stride=(4, 4))),
    _fires("CMP030", "depthwise, stride 5 and VALID", U65, partial(depthwise, stride=(5, 5), padding="VALID")),
    _fires("CMP030", "depthwise, 1x1, stride 4", U55, partial(depthwise, kernel=(1, 1), stride=(4, 4))),
    _fires("CMP030", "average pool, stride 4", U55, partial(average, (3, 3), (4, 4), "SAME", (1, 17, 17, 4))),
    _fires("CMP030", "max pool, stride 5", U55, partial(highest, (7, 7), (5, 5), "SAME")),
    _quiet("CMP030", "convolution, stride 3", U55, partial(convolution, stride=(3, 3))),
    _quiet("CMP030", "convolution, stride 4 and VALID", U55, partial(convolution, stride=(4, 4), padding="VALID")),
    _quiet("CMP030", "SAME that pads nothing", U55, partial(convolution, shape=(1, 16, 16, 4), stride=(4, 4))),
    _quiet("CMP030", "depthwise, stride 4, U85", U85, partial(depthwise, stride=(4, 4))),
    _fires("CMP031", "average 9x9, SAME, stride 1", U55, partial(average, (9, 9), (1, 1), "SAME")),
    _fires("CMP031", "average 9x9, SAME, stride 9", U85, partial(average, (9, 9), (9, 9), "SAME")),
    _fires("CMP031", "average 300x1 over all", U55, partial(average, (300, 1), (1, 1), "VALID", (1, 300, 4, 4))),
    _fires("CMP031", "average 257x1 of more", U85, partial(average, (257, 1), (1, 1), "VALID", (1, 262, 2, 4))),
    _fires("CMP031", "maximum 300x1 over all", U55, partial(highest, (300, 1), (1, 1), "VALID", (1, 300, 4, 4))),
    _fires("CMP031", "maximum 257x1 of more", U65, partial(highest, (257, 1), (1, 1), "VALID", (1, 262, 2, 4))),
    _fires("CMP031", "maximum 250x270", U55, partial(highest, (250, 270), (1, 1), "VALID", (1, 250, 270, 1))),
    _quiet("CMP031", "average 8x8, SAME", U55, partial(average, (8, 8), (1, 1), "SAME")),
    _quiet("CMP031", "maximum 13x13, SAME", U85, partial(highest, (13, 13), (1, 1), "SAME")),
    _fires("CMP032", "stride 3", U55, partial(transposed, (3, 3))),
    _fires("CMP032", "stride 4, kernel 8, VALID", U65, partial(transposed, (4, 4), (8, 8), "VALID")),
    _fires("CMP032", "stride 2x1", U55, partial(transposed, (2, 1))),
    _quiet("CMP032", "stride 2", U55, partial(transposed, (2, 2))),
    _quiet("CMP032", "stride 3, U85", U85, partial(transposed, (3, 3))),
    _fires("CMP033", "stride 2, one less", U55, partial(transposed, (2, 2), size=(9, 11))),
    _fires("CMP033", "stride 2, one more, VALID", U85, partial(transposed, (2, 2), (2, 2), "VALID", size=(11, 13))),
    _quiet("CMP033", "stride 2, VALID", U85, partial(transposed, (2, 2), (2, 2), "VALID")),
    _fires("CMP034", "nearest, 3 times", U55, partial(nearest, (12, 15))),
    _fires("CMP034", "nearest, 2 and 4 times", U65, partial(nearest, (8, 20))),
    _fires("CMP034", "nearest, 2 times, aligned", U55, partial(nearest, (8, 10), aligned=True)),
    _fires("CMP034", "nearest, half", U55, partial(nearest, (4, 4), centered=True, shape=(1, 8, 8, 4))),
    _fires("CMP034", "nearest, 1.75 times", U55, partial(nearest, (7, 9))),
    _fires("CMP034", "nearest, 2048 times", U85, partial(nearest, (1, 4096), shape=(1, 1, 2, 1))),
    _fires("CMP034", "bilinear, 3 times", U55, partial(bilinear, (12, 15))),
    _fires("CMP034", "bilinear, 4 times, centered", U65, partial(bilinear, (16, 20), centered=True)),
    _fires("CMP034", "bilinear, 3 times, centered", U85, partial(bilinear, (12, 15), centered=True)),
    _fires("CMP034", "bilinear, 3 times, aligned", U85, partial(bilinear, (10, 13), aligned=True)),
    _fires("CMP034", "bilinear, half", U55, partial(bilinear, (4, 4), centered=True, shape=(1, 8, 8, 4))),
    replace(_fires("CMP034", "bilinear, 1.75 times", U55, partial(bilinear, (7, 9)), False), is_beyond_remedy=True),
    _quiet("CMP034", "nearest, 2 times", U55, partial(nearest, (8, 10))),
    _quiet("CMP034", "bilinear, 4 times", U55, partial(bilinear, (16, 20))),
    _quiet("CMP034", "bilinear, 4 times, centered, U85", U85, partial(bilinear, (16, 20), centered=True)),
    _fires("CMP035", "both flags", U85, partial(bilinear, (8, 10), aligned=True, centered=True)),
    _quiet("CMP035", "half-pixel centers only", U85, partial(bilinear, (8, 10), centered=True)),
)  # fmt: skip
