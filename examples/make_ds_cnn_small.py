"""Make ds_cnn_small_int8.tflite, the model that `make demo` checks, and the float model behind it.

The architecture is DS-CNN (small) of "Hello Edge: Keyword Spotting on Microcontrollers" (Zhang et al.,
2017): 49 x 10 MFCC features, one 10 x 4 convolution with 64 channels, four depthwise separable blocks,
average pooling and 12 classes. The weights are seeded noise: where it runs and what it costs does not
depend on them, but do not ask it what it hears.
"""

import sys
from pathlib import Path

from mlia.graph.tflite_writer import write_tflite
from mlia.testing import Sketch, quantize_synthetically

FLOAT, INT8 = (Path(__file__).with_name(f"ds_cnn_small_{kind}.tflite") for kind in ("float", "int8"))


def ds_cnn_small() -> bytes:
    """The float model."""
    net = Sketch("DS-CNN small, seeded noise for weights, made by examples/make_ds_cnn_small.py", seed=1)
    x = net.input("mfcc", (1, 49, 10, 1))
    x = net.convolution(x, filters=64, kernel=(10, 4), stride=(2, 2), name="conv_1")
    for block in range(1, 5):
        x = net.depthwise(x, name=f"block_{block}/depthwise")
        x = net.convolution(x, filters=64, name=f"block_{block}/pointwise")
    x = net.average_pool(x, kernel=(25, 5), name="average_pool")
    x = net.reshape(x, (1, 64), name="flatten")
    x = net.fully_connected(x, units=12, name="dense")
    x = net.softmax(x, name="labels")
    return write_tflite(net.graph([x]))


def main() -> int:
    FLOAT.write_bytes(ds_cnn_small())
    INT8.write_bytes(quantize_synthetically(FLOAT.read_bytes()))
    for path in (FLOAT, INT8):
        print(f"{path.name}: {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
