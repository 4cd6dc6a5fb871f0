"""Seconds from the configuration and weights of known Keras models to a TFLite file, and how far its outputs are off.

Run with KERAS_BACKEND=jax where keras and jax are installed:  python bench/load_keras.py [NAME …]
"""

import argparse
import json
import os
import sys
import time
from typing import Any

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
from ai_edge_litert.interpreter import Interpreter

from mlia.graph.formats.keras import build_graph
from mlia.graph.formats.keras_model import KerasModel
from mlia.graph.tflite_writer import write_tflite

NAMES = ("MobileNet", "MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "ResNet50")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"of keras.applications (default: {' '.join(NAMES)})")
    names = parser.parse_args().names or NAMES
    print(f"{'model':18} {'graph s':>8} {'file s':>8} {'operators':>9} {'max |y-y0|/max|y0|':>19}  added")
    for name in names:
        model = getattr(keras.applications, name)(weights=None, input_shape=(224, 224, 3), classifier_activation=None)
        randomize(model)
        stored = json.loads(model.to_json())
        weights = {layer.name: tuple(layer.get_weights()) for layer in model.layers if hasattr(layer, "get_weights")}
        start = time.perf_counter()
        graph = build_graph(KerasModel(stored, weights, "Keras"))
        built = time.perf_counter()
        content = write_tflite(graph)
        written = time.perf_counter()
        added = ", ".join(graph.provenance.added)
        print(
            f"{name:18} {built - start:8.2f} {written - built:8.2f} {len(graph.operators):9} "
            f"{difference(model, content):19.1e}  {added}",
            flush=True,
        )
    return 0


def randomize(model: Any) -> None:
    """Statistics and scales that are not the identity, so that folding them is seen."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.moving_mean.shape
            layer.moving_mean.assign(random.normal(0, 0.1, shape))
            layer.moving_variance.assign(random.uniform(0.5, 1.5, shape))
            if layer.gamma is not None:
                layer.gamma.assign(random.uniform(0.8, 1.2, shape))
            if layer.beta is not None:
                layer.beta.assign(random.normal(0, 0.1, shape))


def difference(model: Any, content: bytes) -> float:
    image = np.random.default_rng(1).uniform(0, 255, (1, 224, 224, 3)).astype(np.float32)
    expected = np.asarray(model(image, training=False))
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    actual = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


if __name__ == "__main__":
    sys.exit(main())
