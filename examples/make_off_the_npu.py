"""Make off_the_npu.tflite: an int8 model with two operators that an Ethos-U55 does not take, for the README.

The weights are seeded noise. An upsampling by 3 that was trained, a mean over channels and convolutions of 17 channels
stand for what is found in models that were not made for an NPU.
"""

import sys
from pathlib import Path

from mlia.graph.tflite_writer import write_tflite
from mlia.testing import IntegerSketch

MODEL = Path(__file__).with_name("off_the_npu.tflite")


def off_the_npu() -> bytes:
    """The model."""
    net = IntegerSketch("Two operators off the NPU, noise for weights, made by examples/make_off_the_npu.py", seed=1)
    x = net.image("image", (1, 64, 64, 3))
    x = net.filter("CONV_2D", x, filters=16, stride=(2, 2), name="stem")
    x = net.filter("CONV_2D", x, filters=17, stride=(2, 2), name="narrow")
    x = net.filter("CONV_2D", x, filters=16, name="deep")
    weights, bias = net.weights((16, 3, 3, 16), 16, 0, "upsampled")
    x = net.operator(
        "TRANSPOSE_CONV",
        [net.integers("size", 1, 48, 48, 16), weights, x, bias],
        (1, 48, 48, 16),
        "upsampled",
        dtype="int8",
        quantization=net.Q,
        options_table="TransposeConvOptions",
        options={"padding": "SAME", "stride_h": 3, "stride_w": 3, "fused_activation_function": "NONE"},
    )
    x = net.filter("CONV_2D", x, filters=8, name="smooth")
    x = net.plain(
        "MEAN", x, net.integers("axes", 3), shape=(1, 48, 48), name="mask", table="ReducerOptions", keep_dims=False
    )
    return write_tflite(net.graph([x]))


if __name__ == "__main__":
    MODEL.write_bytes(off_the_npu())
    print(f"{MODEL.name}: {MODEL.stat().st_size} bytes")
    sys.exit(0)
