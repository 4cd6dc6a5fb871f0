import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from keras_models import assert_holds, assert_one_line, damaged, unpacked

from mlia.errors import ModelError
from mlia.graph.formats.keras_h5 import read_h5
from mlia.graph.formats.keras_tree import layer_tree


def dense(name: str) -> dict[str, Any]:
    return {"class_name": "Dense", "config": {"name": name, "units": 2}}


def sequential(*layers: dict[str, Any], name: str = "model") -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": name, "layers": list(layers)}}


def write(path: Path, config: dict[str, Any], weights: dict[str, dict[str, np.ndarray]]) -> Path:
    """A file as Keras 2 writes it; weights by layer and name."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config).encode()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in weights]
        for layer, arrays in weights.items():
            own = group.create_group(layer)
            own.attrs["weight_names"] = [name.encode() for name in arrays]
            for name, array in arrays.items():
                own[name] = array
    return path


ONES = {"d/kernel:0": np.ones((3, 2), np.float32), "d/bias:0": np.zeros(2, np.float32)}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write(tmp_path / "small.h5", sequential(dense("d")), {"d": ONES})


@pytest.mark.parametrize("keras", [2, 3])
def test_what_keras_wrote(keras: int, tmp_path: Path) -> None:
    model = read_h5(unpacked(f"small_{keras}_h5.zip", tmp_path) / f"small_{keras}.h5")
    assert_holds(model, f"small_{keras}")
    assert model.config["class_name"] == "Sequential"
    assert model.container == "Keras HDF5"


def test_a_published_model(shared: Path) -> None:
    model = read_h5(shared / "mlperf_tiny/pretrainedResnet.h5")
    with h5py.File(shared / "mlperf_tiny/pretrainedResnet.h5") as file:
        for name, arrays in model.weights.items():
            group = file["model_weights"][name]
            for array, weight in zip(arrays, group.attrs["weight_names"], strict=True):
                assert np.array_equal(array, group[weight][()])
    assert sum(len(arrays) for arrays in model.weights.values()) == 48


def test_weights_of_a_nested_model_are_told_by_their_names(tmp_path: Path) -> None:
    inner = sequential(dense("block"), dense("block/conv"), dense("z"), name="inner")
    names = ["inner/block/conv/kernel:0", "z/kernel:0", "block/kernel:0", "z/bias:0"]
    arrays = {name: np.float32([number]) for number, name in enumerate(names)}
    model = read_h5(write(tmp_path / "m.h5", sequential(inner), {"inner": arrays}))
    numbers = {path: [int(array[0]) for array in own] for path, own in model.weights.items()}
    assert numbers == {"inner/block/conv": [0], "inner/z": [1, 3], "inner/block": [2]}


def test_a_nested_weight_of_no_layer_is_refused(tmp_path: Path) -> None:
    inner = sequential(dense("a"), name="inner")
    path = write(tmp_path / "m.h5", sequential(inner), {"inner": {"b/kernel:0": np.ones(2)}})
    with pytest.raises(
        ModelError, match=r"nested model 'inner' has the weight 'b/kernel:0'; save the model as \.keras"
    ):
        read_h5(path)


def test_names_in_several_attributes(tmp_path: Path) -> None:
    path = write(tmp_path / "m.h5", sequential(dense("a"), dense("b")), {"a": ONES, "b": ONES})
    with h5py.File(path, "r+") as file:
        del file["model_weights"].attrs["layer_names"]
        file["model_weights"].attrs["layer_names0"] = [b"a"]
        file["model_weights"].attrs["layer_names1"] = [b"b"]
    assert set(read_h5(path).weights) == {"a", "b"}


def test_the_layers_of_keras_1_are_a_list(tmp_path: Path) -> None:
    config = {"class_name": "Sequential", "config": [dense("d")]}
    assert set(read_h5(write(tmp_path / "m.h5", config, {"d": ONES})).weights) == {"d"}


def test_a_file_of_weights_only_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.h5", {}, {"d": ONES})
    with h5py.File(path, "r+") as file:
        del file.attrs["model_config"]
    with pytest.raises(ModelError, match=r"without the configuration .* save it with model\.save"):
        read_h5(path)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"class_name": "MyModel", "config": {}}, "its own code"),
        ({"class_name": "Functional", "config": {"name": "x"}}, "has no layers"),
        (sequential(dense("a")), "has weights for 'd'"),
        (sequential(dense("d"), dense("d")), "two layers have the name 'd'"),
        (sequential({"class_name": "Dense", "config": {}}), "Dense has no name"),
        (sequential({"config": {}}), "without class"),
    ],
)
def test_configurations_that_are_refused(config: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=why):
        read_h5(write(tmp_path / "m.h5", config, {"d": ONES}))


def test_models_inside_models_without_end_are_refused() -> None:
    config = sequential(dense("d"))
    for _ in range(50):
        config = sequential(config)
    with pytest.raises(ModelError, match="more than 32 deep"):
        layer_tree(config)


@pytest.mark.parametrize("how", ["external link", "soft link", "external storage", "virtual", "text", "object", "bomb"])
def test_data_that_is_not_plainly_in_the_file_is_refused(how: str, small: Path, tmp_path: Path) -> None:
    with h5py.File(small, "r+") as file:
        group, name = file["model_weights/d/d"], "kernel:0"
        del group[name]
        match how:
            case "external link":
                group[name] = h5py.ExternalLink("other.h5", "/x")
            case "soft link":
                group[name] = h5py.SoftLink("/model_weights/d/d/bias:0")
            case "external storage":
                group.create_dataset(name, (4,), "f4", external=[(str(tmp_path / "raw"), 0, 16)])
            case "virtual":
                layout = h5py.VirtualLayout((4,), "f4")
                layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
                group.create_virtual_dataset(name, layout)
            case "text":
                group[name] = np.bytes_("no number")
            case "object":
                group.create_dataset(name, (1,), h5py.special_dtype(vlen=np.float32))
            case "bomb":
                group.create_dataset(name, (1 << 33,), "f4", chunks=(1 << 20,), compression="gzip")[:8] = 1
    with pytest.raises(ModelError) as error:
        read_h5(small)
    assert_one_line(error)
    assert "kernel:0" in str(error.value)


def test_a_text_that_would_hang_the_library_is_refused(tmp_path: Path) -> None:
    path = unpacked("small_2_h5.zip", tmp_path) / "small_2.h5"
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 16 : heap + 32] = bytes(16)  # a free object of no size
    path.write_bytes(content)
    with pytest.raises(ModelError, match="texts of variable length"):
        read_h5(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        read_h5(tmp_path / "none.h5")


def test_every_cut_is_refused(small: Path) -> None:
    content = small.read_bytes()
    for size in range(0, len(content), 97):
        small.write_bytes(content[:size])
        with pytest.raises(ModelError) as error:
            read_h5(small)
        assert_one_line(error)


def test_damage_anywhere_gives_a_model_or_one_line(tmp_path: Path) -> None:
    path = unpacked("small_3_h5.zip", tmp_path) / "small_3.h5"
    for content in damaged(path.read_bytes(), seed=2, count=200):
        path.write_bytes(content)
        try:
            read_h5(path)
        except ModelError as error:
            assert_one_line(error)
