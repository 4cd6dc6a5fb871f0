"""Our quantization beside TensorFlow's own: `python bench/quantize.py MODEL_FOLDER`.

Both quantize the same float model with the same samples and are compared with the float model on others:
relative error of the first output, and seconds from the file to the int8 model. TensorFlow is installed
into an environment of its own below .bench/ on first use. MODEL_FOLDER is a SavedModel or a Keras .h5.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from peers import environment

import mlia
from mlia.transforms.calibration import load_calibration

SAMPLES = 100
FORMATS = Path(mlia.__file__).parent / "graph/formats"
# What runs in TensorFlow's environment: its converter, post-training quantization to int8.
PEER = """
import json, sys, time
start = time.perf_counter()
import numpy as np, tensorflow as tf
source, data, target, ours = sys.argv[1:]
samples = np.load(data)["x"].astype(np.float32)
if source.endswith(".h5"):
    import keras
    class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
        def __init__(self, *args, groups=None, **options): super().__init__(*args, **options)
    model = keras.models.load_model(source, compile=False, custom_objects={"DepthwiseConv2D": DepthwiseConv2D})
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
else:
    sys.path.insert(0, ours)
    from convert_saved_model import forget_optimizers
    forget_optimizers(tf)
    converter = tf.lite.TFLiteConverter.from_saved_model(source)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = lambda: ([sample[None]] for sample in samples)
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = converter.inference_output_type = tf.int8
open(target, "wb").write(converter.convert())
print(json.dumps({"seconds": time.perf_counter() - start}))
"""


def outputs(content: bytes, samples: np.ndarray) -> np.ndarray:
    """The first output in real numbers for each sample."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    image, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    found = []
    for sample in samples:
        values = sample[None].astype(np.float32)
        scale, zero_point = image["quantization"]
        if scale:
            values = np.clip(np.round(values / scale) + zero_point, -128, 127)
        interpreter.set_tensor(image["index"], values.astype(image["dtype"]))
        interpreter.invoke()
        result = interpreter.get_tensor(answer["index"]).astype(np.float64)
        scale, zero_point = answer["quantization"]
        found.append((result - zero_point) * scale if scale else result)
    return np.concatenate(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    model = parser.parse_args().model.resolve()
    floating = mlia.convert(model, quantize=False)
    shape = floating.graph.main.tensors[floating.graph.main.inputs[0]].shape[1:]
    random = np.random.default_rng(7)
    # A fifth is held out by us; TensorFlow is given the same samples to calibrate with.
    given, judged = random.normal(0, 1, (SAMPLES * 5 // 4, *shape)), random.normal(0, 1, (SAMPLES, *shape))
    expected = outputs(bytes(floating.graph.content), judged)
    with tempfile.TemporaryDirectory() as name:
        data, ours, theirs = (Path(name) / file for file in ("data.npz", "ours.tflite", "theirs.tflite"))
        np.savez(data, x=given.astype(np.float32))
        start = time.perf_counter()
        command = [Path(sys.executable).with_name("mlia"), "convert", model, "-o", ours, "--calibration", data]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = {"mlia": time.perf_counter() - start}
        (calibrating,) = load_calibration(data, floating.graph).calibrating
        np.savez(data, x=calibrating.reshape(SAMPLES, *shape))
        done = subprocess.run(
            [environment("tensorflow") / "python", "-c", PEER, str(model), data, theirs, FORMATS],
            check=True,
            capture_output=True,
            text=True,
        )
        seconds["TensorFlow"] = json.loads(done.stdout.splitlines()[-1])["seconds"]
        errors = {
            maker: np.linalg.norm(outputs(path.read_bytes(), judged) - expected) / np.linalg.norm(expected)
            for maker, path in (("mlia", ours), ("TensorFlow", theirs))
        }
    print(f"{model.name}, {SAMPLES} samples to calibrate with, {SAMPLES} others to judge by")
    for maker in ("mlia", "TensorFlow"):
        print(f"  {maker:10} {seconds[maker]:6.2f} s, relative error {errors[maker]:.4f}")
    print(f"  {seconds['TensorFlow'] / seconds['mlia']:.1f} times as fast (goal: at least 10)")
    print(f"  error {errors['mlia'] / errors['TensorFlow']:.3f} times TensorFlow's (goal: at most 1)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
