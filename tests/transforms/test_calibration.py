import zipfile
from pathlib import Path

import numpy as np
import pytest

from mlia.errors import TransformError
from mlia.graph.graph import Graph
from mlia.testing import Sketch
from mlia.transforms.calibration import load_calibration, synthetic_calibration


def one_input() -> Graph:
    net = Sketch("one")
    return net.graph([net.unary("ABS", net.input("image", (1, 4, 6, 3)), "abs")])


def two_inputs() -> Graph:
    net = Sketch("two")
    a, b = net.input("a", (1, 4)), net.input("b", (1, 4))
    return net.graph([net.operator("ADD", [a, b], (1, 4), "sum", options_table="AddOptions")])


def classifier(classes: int = 4, positions: int = 1) -> Graph:
    net = Sketch("classifier")
    return net.graph([net.fully_connected(net.input("x", (positions, 3)), units=classes, name="scores")])


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_synthetic_samples_repeat_and_are_marked() -> None:
    first, again = (synthetic_calibration(one_input()) for _ in range(2))
    assert first.is_synthetic
    assert "synthetic" in first.description
    assert (first.calibrating[0][:] == again.calibrating[0][:]).all()
    assert not (first.calibrating[0][:] == first.held_out[0][:]).all()


@pytest.mark.parametrize("shape", [(10, 4, 6, 3), (10, 1, 4, 6, 3)])
def test_samples_of_an_npz(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    found = load_calibration(save(tmp_path / "data.npz", whatever=values), one_input())
    assert [len(part) for part in (found.calibrating[0], found.held_out[0])] == [8, 2]
    assert found.calibrating[0].shape[1:] == (1, 4, 6, 3)
    assert same_samples([*found.calibrating[0], *found.held_out[0]], values)
    assert not found.is_synthetic
    assert found.description == "data.npz (8 samples, 2 more held out)"


def same_samples(found: list[np.ndarray], expected: np.ndarray) -> bool:
    """Whether both are the same samples in any order."""
    rows = [
        np.array(sorted(np.ravel(sample).astype(np.float32).tolist() for sample in part)) for part in (found, expected)
    ]
    return bool((rows[0] == rows[1]).all())


def test_what_is_held_out_does_not_depend_on_the_order_of_classes(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(4), 25)
    images = np.broadcast_to(labels[:, None, None, None], (100, 4, 6, 3))
    path = save(tmp_path / "data.npz", image=images)
    found, again = (load_calibration(path, one_input()) for _ in range(2))
    for part in (found.calibrating[0], found.held_out[0]):
        assert set(part[:, 0, 0, 0, 0].tolist()) == {0, 1, 2, 3}
    assert (found.held_out[0] == again.held_out[0]).all()


def test_channels_first_samples_are_turned(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(10, 3, 4, 6)).astype(np.float32)
    found = load_calibration(save(tmp_path / "data.npz", x=values), one_input())
    assert same_samples([*found.calibrating[0], *found.held_out[0]], values.transpose(0, 2, 3, 1))


def test_a_folder_of_samples(tmp_path: Path) -> None:
    for number in range(5):
        np.save(tmp_path / f"{number}.npy", np.full((4, 6, 3), number))
    found = load_calibration(tmp_path, one_input())
    numbers = [part[:, 0, 0, 0, 0].tolist() for part in (found.calibrating[0], found.held_out[0])]
    assert list(map(len, numbers)) == [4, 1]
    assert sorted(numbers[0] + numbers[1]) == [0, 1, 2, 3, 4]


def test_inputs_by_name(tmp_path: Path) -> None:
    found = load_calibration(save(tmp_path / "d.npz", b=np.ones((5, 4)), a=np.zeros((5, 4))), two_inputs())
    assert [part.max() for part in found.calibrating] == [0, 1]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((10, 5))}, r"samples of shape \[5\], and the model takes \[1, 4, 6, 3\]"),
        ({"x": np.zeros((1, 4, 6, 3))}, "at least 2"),
        ({"x": np.zeros((9, 4, 6, 3)), "z": np.zeros(9)}, "no array for the input 'image'; it has x, z"),
        ({"x": np.full((9, 4, 6, 3), np.nan)}, "not finite"),
        ({"x": np.full((9, 4, 6, 3), "a")}, "not numbers"),
        ({"x": np.zeros(())}, "a single number, not samples"),
        ({}, "no arrays"),
    ],
)
def test_data_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(TransformError, match=message):
        load_calibration(save(tmp_path / "data.npz", **arrays), one_input())


@pytest.mark.parametrize("shape", [(20,), (20, 1)])
@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32"])
def test_labels_stay_with_their_samples(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    labels = np.arange(20) % 4
    values = np.repeat(labels[:, None], 3, axis=1).astype(np.float32)
    path = save(tmp_path / "data.npz", x=values, labels=labels.reshape(shape).astype(dtype))
    found = load_calibration(path, classifier())
    assert found.labels is not None
    assert found.labels.dtype.kind == "i"
    assert found.labels.tolist() == found.held_out[0][:, 0, 0].tolist()
    assert load_calibration(save(tmp_path / "b.npz", x=values, y=labels < 1), classifier()).labels is not None
    assert load_calibration(save(tmp_path / "plain.npz", x=values), classifier()).labels is None


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.eye(4)[np.arange(8) % 4], r"the labels are an array of shape \[8, 4\]; give one class per sample"),
        (np.array(3), r"an array of shape \[\]"),
        (np.full(8, "cat"), "labels.npy: it holds <U3, not numbers"),
        (np.full(8, 0.5), "not whole numbers"),
        (np.full(8, np.nan), "not whole numbers"),
        (np.full(8, -1), "from -1 to -1; give one class per sample, counted from 0"),
        (np.full(8, 1e300), "from 1e\\+300"),
        (np.arange(8) % 5, "the labels go up to 4, but the first output 'scores' has 4 classes"),
        (np.zeros(7, int), "same number of samples, at least 2; they have 7, 8"),
        (np.zeros(0, int), "they have 0, 8"),
    ],
)
def test_labels_that_are_no_classes(tmp_path: Path, labels: np.ndarray, message: str) -> None:
    path = save(tmp_path / "data.npz", x=np.zeros((8, 3)), labels=labels)
    with pytest.raises(TransformError, match=message) as caught:
        load_calibration(path, classifier())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("classes", "positions"), [(1, 1), (4, 6)])
def test_labels_of_outputs_without_a_value_per_class(tmp_path: Path, classes: int, positions: int) -> None:
    path = save(tmp_path / "data.npz", x=np.zeros((8, positions, 3)), labels=np.zeros(8, int))
    with pytest.raises(TransformError, match="does not have a value per class"):
        load_calibration(path, classifier(classes, positions))


def test_an_input_may_be_named_like_labels(tmp_path: Path) -> None:
    net = Sketch("y")
    inputs = [net.input(name, (1, 4)) for name in ("x", "y")]
    graph = net.graph([net.operator("ADD", inputs, (1, 4), "sum", options_table="AddOptions")])
    found = load_calibration(save(tmp_path / "data.npz", x=np.zeros((5, 4)), y=np.ones((5, 4))), graph)
    assert found.labels is None
    assert found.calibrating[1].all()


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    evil = np.array([{"a": 1}], dtype=object)
    with pytest.raises(TransformError):
        load_calibration(save(tmp_path / "data.npz", x=evil), one_input())
    np.save(tmp_path / "a.npy", evil)
    with pytest.raises(TransformError):
        load_calibration(tmp_path, one_input())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip", bytes(1000)])
def test_damaged_data(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(TransformError) as caught:
        load_calibration(path, one_input())
    assert "\n" not in str(caught.value)
    with pytest.raises(TransformError, match="No such file"):
        load_calibration(tmp_path / "missing.npz", one_input())


def test_cut_archives(tmp_path: Path) -> None:
    whole = save(tmp_path / "data.npz", x=np.zeros((9, 4, 6, 3))).read_bytes()
    for size in range(0, len(whole) - 1, 97):
        cut = tmp_path / "cut.npz"
        cut.write_bytes(whole[:size])
        with pytest.raises(TransformError):
            load_calibration(cut, one_input())


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.npy", "w", force_zip64=True) as file:
            for _ in range(65):
                file.write(bytes(1 << 20))
    with pytest.raises(TransformError, match="would unpack from"):
        load_calibration(path, one_input())


def test_a_folder_of_unlike_samples(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    np.save(tmp_path / "b.npy", np.zeros(4))
    with pytest.raises(TransformError, match="differ in shape"):
        load_calibration(tmp_path, one_input())
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(TransformError, match=r"no \.npy files"):
        load_calibration(empty, one_input())
