"""Seconds that `mlia run` takes for one inference, compiling included: `python bench/simulate.py`.

The sample model, and MobileNetV2 of 224x224 with random weights, built with Keras and quantized on noise. Beside them
LiteRT's reference kernels on the same input, which compute the same numbers. Run with KERAS_BACKEND=jax where
keras and jax are installed.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "jax")

from load_keras import randomize
from peers import BENCH

from mlia.graph.tflite import read_tflite
from mlia.testing import quantize_synthetically
from mlia.transforms.interpreter import ReferenceModel

SAMPLE = Path(__file__).parent.parent / "examples/ds_cnn_small_int8.tflite"
GOALS = {"sample": 0.5, "MobileNetV2 224": 6.0}
TARGETS = ("ethos-u55-256", "ethos-u65-512", "ethos-u85-512")
ROUNDS = 3


def mobilenet() -> Path:
    """MobileNetV2 as int8 TFLite, kept from run to run."""
    path = BENCH / "mobilenet_v2_224_int8.tflite"
    if not path.exists():
        import json

        import keras

        from mlia.graph.formats.keras import build_graph
        from mlia.graph.formats.keras_model import KerasModel
        from mlia.graph.tflite_writer import write_tflite

        BENCH.mkdir(exist_ok=True)
        model = keras.applications.MobileNetV2(weights=None, input_shape=(224, 224, 3), classifier_activation=None)
        randomize(model)
        weights = {layer.name: tuple(layer.get_weights()) for layer in model.layers}
        graph = build_graph(KerasModel(json.loads(model.to_json()), weights, "Keras"))
        path.write_bytes(quantize_synthetically(write_tflite(graph), samples=4))
    return path


def seconds(command: list[str | Path]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - start


def reference(model: Path, inputs: np.ndarray) -> tuple[np.ndarray, float]:
    interpreter = ReferenceModel(model.read_bytes())
    start = time.perf_counter()
    (output,) = interpreter.run([inputs])
    return output, time.perf_counter() - start


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    ours = Path(sys.executable).with_name("mlia")
    print(
        f"{'model':16} {'target':14} {'mlia run s':>10} {'goal':>6} {'LiteRT reference s':>18} {'ratio':>6}  same bytes"
    )
    for name, model in (("sample", SAMPLE), ("MobileNetV2 224", mobilenet())):
        (index,) = read_tflite(model.read_bytes()).main.inputs
        tensor = read_tflite(model.read_bytes()).main.tensors[index]
        inputs = np.random.default_rng(0).integers(-128, 128, tensor.shape).astype(np.int8)
        expected, peer = reference(model, inputs)
        with tempfile.TemporaryDirectory() as folder:
            given, made = Path(folder) / "in.npz", Path(folder) / "out.npz"
            np.savez(given, **{tensor.name: inputs[None]})
            for target in TARGETS:
                command = [ours, "run", model, "-t", target, "--inputs", given, "-o", made]
                taken = statistics.median(seconds(command) for _ in range(ROUNDS))
                with np.load(made) as outputs:
                    same = all((array[0] == expected).all() for array in outputs.values())
                print(
                    f"{name:16} {target:14} {taken:10.2f} {GOALS[name]:6.1f} {peer:18.2f} {taken / peer:6.1f}  {same}"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
