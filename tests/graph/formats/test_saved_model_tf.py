"""What our own reader refuses goes to TensorFlow, if its environment is there, and never if code could run."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import mlia
from mlia.errors import BackendUnavailable, ModelError
from mlia.graph.formats import environments
from mlia.graph.formats.keras_model import KerasModel
from mlia.graph.formats.saved_model_tf import is_harmless, read_after_refusal, read_with_tensorflow

REFUSAL = ModelError("cannot read the layer 'x' of class Conv3D")


def config(class_name: str, **extra: str) -> KerasModel:
    layer = {"class_name": class_name, "config": {"name": "x"}, "module": "keras.layers", **extra}
    return KerasModel({"class_name": "Sequential", "config": {"layers": [layer]}}, {}, "Keras file")


def test_only_keras_own_classes_are_harmless() -> None:
    assert is_harmless(config("Conv3D"))
    assert not is_harmless(config("Lambda"))
    assert not is_harmless(config("Conv3D", module="os"))
    assert not is_harmless(config("Conv3D", registered_name="Custom>Conv3D"))


def test_the_refusal_and_the_way_out_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLIA_HOME", str(tmp_path))
    with pytest.raises(ModelError, match=r"class Conv3D; TensorFlow may read it: `mlia backend install savedmodel`"):
        read_after_refusal(tmp_path / "model.keras", REFUSAL, config("Conv3D"), {})


@pytest.mark.parametrize("model", [config("Lambda"), None])
def test_what_could_run_code_never_gets_there(tmp_path: Path, model: KerasModel | None) -> None:
    with pytest.raises(ModelError) as caught:
        read_after_refusal(tmp_path / "model.keras", REFUSAL, model, {})
    assert str(caught.value) == str(REFUSAL)


@pytest.mark.filterwarnings("default")
def test_lambda_layers_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    layers = [
        {"class_name": "InputLayer", "config": {"name": "in", "batch_shape": [None, 4], "dtype": "float32"}},
        {"class_name": "Lambda", "config": {"name": "evil", "function": {"class_name": "__lambda__", "config": {}}}},
    ]
    model = {"class_name": "Sequential", "module": "keras", "config": {"name": "s", "layers": layers}}
    keras = pytest.importorskip("keras")
    keras.Sequential([keras.Input((4,)), keras.layers.ReLU()]).save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["config.json"] = json.dumps(model).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(ModelError, match="Lambda"):
        mlia.load_model(path)


@pytest.fixture
def installed() -> None:
    try:
        environments.locate("savedmodel")
    except BackendUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("installed")
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_layer_we_do_not_know(tmp_path: Path, suffix: str) -> None:
    keras = pytest.importorskip("keras")
    image = keras.Input((4, 6, 6, 2), name="image")
    x = keras.layers.Conv3D(3, 3, name="conv")(image)
    model = keras.Model(image, keras.layers.GlobalAveragePooling3D(name="pool")(x))
    path = tmp_path / f"model.{suffix}"
    model.save(path)
    graph = mlia.load_model(path)
    assert graph.provenance.route.startswith("TensorFlow")
    assert "CONV_3D" in [operator.kind for operator in graph.operators]


@pytest.mark.usefixtures("installed")
def test_a_saved_model_by_tensorflow(shared: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    folder = shared / "mlperf_tiny/kws_ref_model"
    sample = np.random.default_rng(0).normal(size=(1, 49, 10, 1)).astype(np.float32)
    found = []
    for graph in (mlia.load_model(folder), read_with_tensorflow(folder)):
        interpreter = Interpreter(model_content=bytes(graph.content))
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample)
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    assert np.abs(found[0] - found[1]).max() < 1e-5
