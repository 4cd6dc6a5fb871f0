"""Models for the benchmarks, made on the spot."""

from mlia.graph.tflite_writer import write_tflite
from mlia.testing import Sketch, quantize_synthetically


def visual_wake_words() -> bytes:
    """MobileNetV1 x 0.25 at 96 x 96 x 3 with two classes: the shapes of MLPerf Tiny's vww_96, seeded weights."""
    net = Sketch("MobileNetV1 0.25 96x96, seeded weights", seed=2)
    x = net.input("image", (1, 96, 96, 3))
    x = net.convolution(x, filters=8, kernel=(3, 3), stride=(2, 2), name="conv")
    blocks = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)]
    for number, (filters, stride) in enumerate(blocks, start=1):
        x = net.depthwise(x, stride=(stride, stride), name=f"block_{number}/depthwise")
        x = net.convolution(x, filters=filters, name=f"block_{number}/pointwise")
    x = net.average_pool(x, kernel=(3, 3), name="pool")
    x = net.reshape(x, (1, 256), name="flatten")
    x = net.fully_connected(x, units=2, name="dense")
    x = net.softmax(x, name="classes")
    return quantize_synthetically(write_tflite(net.graph([x])))
