import os
import shutil
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from keras_models import assert_holds, assert_one_line, damaged, unpacked

from mlia.errors import ModelError
from mlia.graph.formats.keras_saved_model import read_saved_model

SHARD = "variables/variables.data-00000-of-00001"
FILES = ["saved_model.pb", "keras_metadata.pb", "variables/variables.index", SHARD]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return unpacked("small_2_saved_model.zip", tmp_path / "model")


def field(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def test_what_keras_2_wrote(folder: Path) -> None:
    model = read_saved_model(folder)
    assert_holds(model, "small_2")
    assert model.config["class_name"] == "Sequential"
    assert model.container == "Keras SavedModel"


def test_metadata_inside_the_graph_of_objects(shared: Path) -> None:
    """TensorFlow 2.3 wrote it, without a keras_metadata.pb."""
    path = shared / "mlperf_tiny/kws_ref_model"
    model = read_saved_model(path)
    assert model.config["class_name"] == "Functional"
    shapes = {name: [array.shape for array in arrays] for name, arrays in model.weights.items()}
    assert model.config["config"]["layers"][0]["config"]["batch_input_shape"] == [None, 49, 10, 1]
    assert len(shapes) == 19
    assert shapes["conv2d"] == [(10, 4, 1, 64), (64,)]
    assert shapes["depthwise_conv2d_3"] == [(3, 3, 64, 1), (64,)]
    assert shapes["dense"] == [(64, 12), (12,)]
    _, _, mean, variance = model.weights["batch_normalization"]
    assert (variance > 0).all()
    assert (mean < 0).any()
    assert all(np.isfinite(array).all() for arrays in model.weights.values() for array in arrays)


def test_it_is_read_at_once(shared: Path) -> None:
    def seconds() -> float:
        start = perf_counter()
        read_saved_model(shared / "mlperf_tiny/kws_ref_model")
        return perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.3


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match="no configuration" if "metadata" in name else Path(name).name):
        read_saved_model(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_place_of_a_file_is_not_waited_for(name: str, folder: Path) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ModelError, match="it is a pipe, not a file"):
        read_saved_model(folder)


def test_a_folder_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"saved_model\.pb: No such file"):
        read_saved_model(tmp_path)


@pytest.mark.parametrize(
    "graph", [b"", field(7, b""), field(7, field(1, b"")), field(7, field(1, field(4, b"\x0a\x01x")))]
)
def test_a_model_without_layers_says_what_to_do(graph: bytes, tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(field(2, graph))
    with pytest.raises(ModelError, match=r"save it as \.keras or \.h5 instead"):
        read_saved_model(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_every_cut_is_refused(name: str, folder: Path) -> None:
    content = (folder / name).read_bytes()
    for step in range(25):
        (folder / name).write_bytes(content[: len(content) * step // 25])
        with pytest.raises(ModelError) as error:
            read_saved_model(folder)
        assert_one_line(error)


@pytest.mark.parametrize("name", FILES)
def test_damage_anywhere_gives_a_model_or_one_line(name: str, folder: Path, tmp_path: Path) -> None:
    whole = (folder / name).read_bytes()
    for content in damaged(whole, seed=5, count=60):
        (folder / name).write_bytes(content)
        try:
            read_saved_model(folder)
        except ModelError as error:
            assert_one_line(error)


def test_weights_of_another_model_are_refused(folder: Path, shared: Path) -> None:
    shutil.copytree(shared / "mlperf_tiny/kws_ref_model/variables", folder / "other")
    shutil.rmtree(folder / "variables")
    (folder / "other").rename(folder / "variables")
    with pytest.raises(ModelError, match=r"variables are of another model|no value of a variable"):
        read_saved_model(folder)
