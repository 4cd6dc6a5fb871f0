import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from keras_models import FIXTURES, assert_holds, assert_one_line, damaged

from mlia.errors import ModelError
from mlia.graph.formats.keras_archive import read_archive

CONFIG = {
    "class_name": "Sequential",
    "config": {
        "name": "model",
        "layers": [{"class_name": kind, "config": {"name": name}} for kind, name in (("Dense", "b"), ("Dense", "a"))],
    },
}


def weights(*paths: str, names: dict[str, str] | None = None) -> bytes:
    """A file of one array for each path, of the value of its place; and names of groups."""
    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        for number, path in enumerate(paths):
            root[path] = np.float32([number])
        for path, name in (names or {}).items():
            root[path].attrs["name"] = name
    return file.getvalue()


def archive(folder: Path, stored: bytes, config: object = CONFIG, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(folder / "m.keras", "w", compression) as file:
        file.writestr("config.json", json.dumps(config))
        file.writestr("model.weights.h5", stored)
    return folder / "m.keras"


@pytest.mark.parametrize("name", ["small_2", "small_3", "parts_3"])
def test_what_keras_wrote(name: str) -> None:
    model = read_archive(FIXTURES / f"{name}.keras")
    assert_holds(model, name)
    assert model.container == "Keras archive"


@pytest.mark.parametrize("container", ["layers", "_layer_checkpoint_dependencies"])
def test_groups_are_numbered_in_the_order_of_layers(container: str, tmp_path: Path) -> None:
    stored = weights(
        f"{container}/dense/vars/0", f"{container}/dense_1/vars/0", "optimizer/vars/0", "metrics/mean/vars/0"
    )
    model = read_archive(archive(tmp_path, stored))
    assert {path: float(arrays[0][0]) for path, arrays in model.weights.items()} == {"b": 0.0, "a": 1.0}


@pytest.mark.parametrize("container", ["layers", "_layer_checkpoint_dependencies"])
def test_groups_that_windows_named(container: str, tmp_path: Path) -> None:
    """There Keras 2.15 made one group of each path: its name has backslashes, also of models inside models."""
    inner = {"name": "in", "layers": [{"class_name": "Dense", "config": {"name": "c"}}]}
    config = {
        **CONFIG["config"],
        "layers": [*CONFIG["config"]["layers"], {"class_name": "Sequential", "config": inner}],
    }
    paths = ("dense", "dense_1", f"sequential\\{container}\\dense")
    names = {f"{container}\\{path}": name for path, name in zip(paths, "bac", strict=True)}
    stored = weights(*(f"{path}/vars/0" for path in names), "optimizer\\vars/0", names=names)
    model = read_archive(archive(tmp_path, stored, {"class_name": "Sequential", "config": config}))
    assert {path: float(arrays[0][0]) for path, arrays in model.weights.items()} == {"b": 0, "a": 1, "in/c": 2}
    stored = weights(*(f"{path}/vars/0" for path in names), names=dict(zip(names, "abc", strict=True)))
    with pytest.raises(ModelError, match="the weights of 'a', not of 'b'"):
        read_archive(archive(tmp_path, stored, {"class_name": "Sequential", "config": config}))


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (weights("layers/dense_2/vars/0"), "'dense_2', which is no layer"),
        (weights("layers/dense/vars/0", "extra/vars/0"), "'extra', which is no layer"),
        (weights("layers/dense/vars/1"), "order of its weights 1 is not known"),
        (weights("layers/dense/vars/scale"), "order of its weights scale"),
        (weights("layers/dense/x/vars/0", "layers/dense/y/vars/0"), "order of its weights x, y"),
        (weights("layers/dense"), "'dense' is not a group"),
        (weights("layers/dense/vars/0", names={"layers/dense": "a"}), "the weights of 'a', not of 'b'"),
        (b"", "not HDF5"),
    ],
)
def test_weights_that_do_not_fit_the_layers_are_refused(stored: bytes, why: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=why):
        read_archive(archive(tmp_path, stored))


def test_groups_in_circles_are_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        root["layers/dense/vars/0"] = np.ones(1)
        root["layers/dense/again"] = root["layers"]
    with pytest.raises(ModelError, match="more than once"):
        read_archive(archive(tmp_path, file.getvalue()))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="would unpack from"):
        read_archive(archive(tmp_path, bytes(64 << 20), compression=zipfile.ZIP_DEFLATED))


def test_other_ways_of_packing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="packed in a way"):
        read_archive(archive(tmp_path, weights("layers/dense/vars/0"), compression=zipfile.ZIP_LZMA))


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as file:
        file.writestr("config.json", json.dumps(CONFIG))
    with pytest.raises(ModelError, match=r"no model\.weights\.h5; save the whole model"):
        read_archive(tmp_path / "m.keras")


def test_what_is_not_a_zip_archive(tmp_path: Path) -> None:
    (tmp_path / "m.keras").write_bytes(b"no archive")
    with pytest.raises(ModelError, match="damaged zip"):
        read_archive(tmp_path / "m.keras")
    with pytest.raises(ModelError, match="No such file"):
        read_archive(tmp_path / "none.keras")


def test_a_configuration_that_is_no_text(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as file:
        file.writestr("config.json", b'{"class_name": "caf\xe9"}')
        file.writestr("model.weights.h5", weights("layers/dense/vars/0"))
    with pytest.raises(ModelError, match=r"config\.json is not text in UTF-8"):
        read_archive(tmp_path / "m.keras")


@pytest.mark.parametrize("config", [[], "text", {"class_name": "Sequential"}, {"class_name": "Lambda", "config": {}}])
def test_configurations_that_are_refused(config: object, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        read_archive(archive(tmp_path, weights("layers/dense/vars/0"), config))
    assert_one_line(error)


def test_damage_anywhere_in_the_archive_is_noticed_or_harmless(tmp_path: Path) -> None:
    path, noticed = tmp_path / "m.keras", 0
    for content in damaged((FIXTURES / "parts_3.keras").read_bytes(), seed=3, count=150):
        path.write_bytes(content)
        try:
            assert_holds(read_archive(path), "parts_3")
        except ModelError as error:
            noticed += 1
            assert_one_line(error)
    assert noticed > 100


def test_damage_of_the_weights_gives_a_model_or_one_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(FIXTURES / "small_3.keras") as file:
        stored, config = file.read("model.weights.h5"), json.loads(file.read("config.json"))
    for content in damaged(stored, seed=4, count=150):
        try:
            read_archive(archive(tmp_path, content, config))
        except ModelError as error:
            assert_one_line(error)
