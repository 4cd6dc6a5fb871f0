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


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_synthetic_samples_repeat_and_are_marked() -> None:
    first, again = (synthetic_calibration(one_input()) for _ in range(2))
    assert first.is_synthetic
    assert "synthetic" in first.description
    assert (first.calibrating[0] == again.calibrating[0]).all()
    assert not (first.calibrating[0] == first.held_out[0]).all()


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
        ({"x": np.zeros((9, 4, 6, 3)), "labels": np.zeros(8)}, "same number of samples"),
        ({"x": np.zeros((9, 4, 6, 3)), "z": np.zeros(9)}, "no array for the input 'image'; it has x, z"),
        ({"x": np.full((9, 4, 6, 3), np.nan)}, "not finite"),
        ({"x": np.full((9, 4, 6, 3), "a")}, "not numbers"),
        ({"x": np.zeros(())}, "samples of shape"),
        ({}, "no arrays"),
    ],
)
def test_data_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(TransformError, match=message):
        load_calibration(save(tmp_path / "data.npz", **arrays), one_input())


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
                file.write(bytes(64 << 20))
    with pytest.raises(TransformError, match="at most"):
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
