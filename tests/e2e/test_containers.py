"""One network in every container that Keras and TFLite have for it gives one graph."""

import os
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import mlia
from mlia.graph.formats.keras_saved_model import read_saved_model
from mlia.graph.graph import Graph
from mlia.results import Compatibility, Performance

os.environ.setdefault("KERAS_BACKEND", "jax")
TARGET = "ethos-u55-256"


def outputs(content: bytes, samples: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=content)
    image, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.allocate_tensors()
    found = []
    for sample in samples:
        interpreter.set_tensor(image["index"], sample[None].astype(np.float32))
        interpreter.invoke()
        found.append(interpreter.get_tensor(answer["index"])[0])
    return np.array(found)


def results(model: Path | Graph) -> tuple[Compatibility, Performance]:
    result = mlia.check(model, TARGET).targets[0].results[0]
    assert isinstance(result.compatibility, Compatibility)
    assert isinstance(result.performance, Performance)
    return result.compatibility, result.performance


@pytest.mark.long
@pytest.mark.filterwarnings("default")
def test_resnet_in_h5_keras_and_tflite(shared: Path, tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    h5 = shared / "mlperf_tiny/pretrainedResnet.h5"
    model = keras.models.load_model(h5, compile=False)
    archive = tmp_path / "resnet.keras"
    model.save(archive)
    random = np.random.default_rng(0)
    samples = random.uniform(0, 255, (8, 32, 32, 3))
    expected = np.asarray(model(samples.astype(np.float32)))
    cycles = []
    for path in (h5, archive, shared / "mlperf_tiny/pretrainedResnet.tflite"):
        graph = mlia.load_model(path)
        assert np.abs(outputs(bytes(graph.content), samples) - expected).max() <= 1e-4, path.suffix
        compatibility, performance = results(path)
        assert compatibility.npu_percent == 100
        assert performance.total_cycles is not None
        cycles.append(performance.total_cycles)
    assert max(cycles) <= 1.01 * min(cycles)


def test_kws_saved_model_without_tensorflow(shared: Path) -> None:
    folder = shared / "mlperf_tiny/kws_ref_model"
    graph = mlia.load_model(folder)
    assert graph.provenance.format == "Keras SavedModel"
    names = [graph.main.operator_name(operator) for operator in graph.operators]
    assert "depthwise_conv2d" in " ".join(names)
    compatibility, performance = results(folder)
    assert compatibility.npu_percent == 100
    # The cycles of TensorFlow's own int8 conversion of this model.
    assert performance.vela_total_cycles == pytest.approx(58_340, rel=0.01)


@pytest.mark.filterwarnings("default")
def test_kws_computes_the_same_in_keras_and_in_every_container(shared: Path, tmp_path: Path) -> None:
    """The network is built anew in Keras, from the paper, with the weights of the SavedModel."""
    keras = pytest.importorskip("keras")
    layers = keras.layers
    x = image = keras.Input((49, 10, 1))
    x = layers.Conv2D(64, (10, 4), strides=2, padding="same", name="conv2d")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="batch_normalization")(x))
    for block in range(4):
        first, second = "" if not block else f"_{block}", f"_{2 * block + 1}"
        x = layers.DepthwiseConv2D(3, padding="same", name=f"depthwise_conv2d{first}")(x)
        x = layers.ReLU()(layers.BatchNormalization(name=f"batch_normalization{second}")(x))
        x = layers.Conv2D(64, 1, padding="same", name=f"conv2d_{block + 1}")(x)
        x = layers.ReLU()(layers.BatchNormalization(name=f"batch_normalization_{2 * block + 2}")(x))
    x = layers.Flatten()(layers.AveragePooling2D((25, 5))(x))
    model = keras.Model(image, layers.Dense(12, activation="softmax", name="dense")(x))
    folder = shared / "mlperf_tiny/kws_ref_model"
    weights = read_saved_model(folder).weights
    for layer in model.layers:
        if layer.name in weights:
            layer.set_weights(weights[layer.name])
    samples = np.random.default_rng(0).normal(size=(20, 49, 10, 1))
    expected = np.asarray(model(samples.astype(np.float32)))
    paths = [folder, tmp_path / "kws.keras", tmp_path / "kws.h5"]
    for path in paths[1:]:
        model.save(path)
    cycles = []
    for path in paths:
        graph = mlia.load_model(path)
        assert np.abs(outputs(bytes(graph.content), samples) - expected).max() <= 1e-4, path.suffix
        cycles.append(results(path)[1].total_cycles or 0)
    assert max(cycles) <= 1.01 * min(cycles)
