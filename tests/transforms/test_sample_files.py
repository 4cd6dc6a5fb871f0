"""Whatever bytes stand for samples: arrays, or one line of TransformError, and no memory that they only ask for."""

import os
import socket
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlia.errors import TransformError
from mlia.transforms.sample_files import read_arrays

VALUES = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def npy(array: np.ndarray) -> bytes:
    content = BytesIO()
    np.lib.format.write_array(content, array)
    return content.getvalue()


def headed(text: str, data: bytes = b"", version: int = 1) -> bytes:
    header = text.encode("latin1")
    width = 2 if version == 1 else 4
    return b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(width, "little") + header + data


def npz(compressed: bool = False, **arrays: np.ndarray) -> bytes:
    content = BytesIO()
    (np.savez_compressed if compressed else np.savez)(content, **arrays)
    return content.getvalue()


def read_all(path: Path) -> dict[str, np.ndarray]:
    arrays = read_arrays(path)
    return {name: arrays[name] for name in arrays}


def refusal(path: Path) -> str:
    """What is said of samples that cannot be read: one line that names the file."""
    with pytest.raises(TransformError) as caught:
        read_all(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path.parent) in text
    return text


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """No more memory is allocated at any time: numpy and Python both tell what they allocate."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8", "|i1", ">i2", "<u4", "<i8", "|b1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_all_numbers_in_both_orders(tmp_path: Path, dtype: str, order: str) -> None:
    array = np.array(VALUES % 2 if dtype == "|b1" else VALUES, dtype, order=order)
    (tmp_path / "x.npy").write_bytes(npy(array))
    found = read_arrays(tmp_path / "x.npy")["samples"]
    assert found.dtype == array.dtype
    assert (found == array).all()


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,)])
def test_shapes_with_little_in_them(tmp_path: Path, shape: tuple[int, ...]) -> None:
    (tmp_path / "x.npy").write_bytes(npy(np.zeros(shape)))
    assert read_arrays(tmp_path / "x.npy")["samples"].shape == shape


def test_headers_as_others_write_them(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    for text in (
        "{'shape': (3L,), 'descr': '<f4', 'fortran_order': False}",
        '{"descr":"<f4","fortran_order":False,"shape":(3,)}\n',
    ):
        for version in (1, 2, 3):
            path.write_bytes(headed(text, bytes(12), version))
            assert read_arrays(path)["samples"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", ["x.npz", "x.npy", "x"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_is_what_it_holds_and_not_what_it_is_called(tmp_path: Path, name: str, compressed: bool) -> None:
    path = tmp_path / name
    path.write_bytes(npz(compressed, a=VALUES, b=VALUES + 1))
    found = read_arrays(path)
    assert [*found] == ["a", "b"]
    assert (found["b"] == VALUES + 1).all()
    path.write_bytes(npy(VALUES))
    assert (read_arrays(path)["samples"] == VALUES).all()


def test_a_folder_may_hold_archives_of_one_array(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(npz(x=VALUES))
    (tmp_path / "b.npy").write_bytes(npy(VALUES.astype(np.int8) + 1))
    found = read_arrays(tmp_path)["samples"]
    assert found.dtype == np.float32
    assert (found == [VALUES, VALUES + 1]).all()
    (tmp_path / "b.npy").write_bytes(npz(x=VALUES, y=VALUES))
    assert "it holds 2 arrays" in refusal(tmp_path)


def test_what_nobody_asks_for_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(npz(x=VALUES, names=np.array(["a", "b"])))
    found = read_arrays(tmp_path / "x.npz")
    assert (found["x"] == VALUES).all()
    with pytest.raises(TransformError, match=r"names\.npy: it holds <U1, not numbers"):
        found["names"]


FLOATS = "'descr': '<f4', 'fortran_order': False"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it is empty"),
        (b"\x93NUMPY", "neither .npy nor .npz"),
        (b"hello world", "neither .npy nor .npz"),
        (headed("{" + FLOATS + ", 'shape': (8, 1099511627776,)}", bytes(100)), "at most"),
        (headed("{" + FLOATS + ", 'shape': (1000, 1000, 100)}", bytes(100)), "400,000,000 bytes, and 100 bytes follow"),
        (headed("{" + FLOATS + ", 'shape': (3,)}", bytes(13)), "12 bytes, and 13 bytes follow"),
        (headed("{" + FLOATS + ", 'shape': (0, 99999999999999999999)}"), "that there is not"),
        (headed("{" + FLOATS + ", 'shape': (0, 4611686018427387904)}"), "at most"),
        (headed("{" + FLOATS + ", 'shape': (" + "1," * 40 + ")}", bytes(4)), "that there is not"),
        (headed("{" + FLOATS + ", 'shape': (-1,)}"), "not that of an array of numbers"),
        (headed("{" + FLOATS + ", 'shape': (3,)", bytes(12)), "not that of an array of numbers"),
        (headed("{'descr': '<f4'}", bytes(12)), "not that of an array of numbers"),
        (headed("(" * 9000), "not that of an array of numbers"),
        (headed("{" * 9000 + "}" * 900), "not that of an array of numbers"),
        (headed("{'a': 1" + " " * 70_000, version=2), "far more than any array"),
        (headed("{'descr': '<f1', 'fortran_order': False, 'shape': (1,)}", b"x"), "that there is not"),
        (headed("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", bytes(4)), "records"),
        (npy(np.array([(1, 2)], [("a", "i4"), ("b", "f4")])), "records"),
        (npy(np.array([{"a": 1}], object)), "it holds objects, not numbers"),
        (npy(np.array(["a"])), "it holds <U1, not numbers"),
        (npy(np.array([1j])), "it holds <c16, not numbers"),
        (npy(np.array([1], "M8[s]")), "not numbers"),
    ],
)
def test_npy_that_are_wrong(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with at_most(1 << 20):
        assert told in refusal(tmp_path / "x.npy")
        assert told in refusal(tmp_path)
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr("x.npy", content)
        assert told in refusal(tmp_path / "x.npz")


def changed(content: bytes, where: bytes, offset: int, value: bytes) -> bytes:
    """The archive with a field of its first local header, or of its directory, replaced."""
    at = content.index(where) + offset
    return content[:at] + value + content[at + len(value) :]


@pytest.mark.parametrize(
    ("where", "offset", "value", "told"),
    [
        (b"PK\x01\x02", 24, b"\xff\xff\xff\x7f", "would unpack from"),  # its size
        (b"PK\x01\x02", 20, b"\xff\xff\xff\x7f", "larger than the file"),  # its size packed
        (b"PK\x01\x02", 8, b"\x01", "encrypted"),
        (b"PK\x01\x02", 10, b"\x63", "packed in a way that is not read"),
        (b"PK\x01\x02", 16, b"\x00\x00", "damaged zip archive: Bad CRC-32"),
        (b"PK\x01\x02", 42, b"\xff\xff\xff\x00", "damaged zip archive"),  # where it is
        (b"PK\x03\x04", 26, b"\xff\xff", "damaged zip archive"),  # the length of its name
        (b"PK\x05\x06", 12, b"\xff\xff\xff\x00", "damaged zip archive"),  # the size of the directory
    ],
)
def test_directories_that_lie(tmp_path: Path, where: bytes, offset: int, value: bytes, told: str) -> None:
    path = tmp_path / "x.npz"
    random = np.random.default_rng(0).normal(size=2000)
    path.write_bytes(changed(npz(True, x=random), where, offset, value))
    with at_most(1 << 20):
        assert told in refusal(path)


def test_a_deflated_stream_that_is_damaged(tmp_path: Path) -> None:
    content = npz(True, x=np.random.default_rng(0).normal(size=2000))
    (tmp_path / "x.npz").write_bytes(changed(content, b"PK\x03\x04", 2000, bytes(50)))
    assert "damaged zip archive" in refusal(tmp_path / "x.npz")


def test_members_twice_and_none(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", npy(VALUES))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x.npy", npy(VALUES))
    assert "an entry twice" in refusal(tmp_path / "x.npz")
    with zipfile.ZipFile(tmp_path / "x.npz", "w"):
        pass
    assert "no arrays" in refusal(tmp_path / "x.npz")


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    os.mkfifo(tmp_path / "pipe.npz")
    assert "it is a pipe, not a file" in refusal(tmp_path / "pipe.npz")
    (tmp_path / "device.npy").symlink_to("/dev/zero")
    assert "it is a device, not a file" in refusal(tmp_path / "device.npy")
    os.mkfifo(folder / "a.npy")
    assert "it is a pipe" in refusal(folder)
    (folder / "a.npy").unlink()
    (folder / "a.npy").mkdir()
    assert "it is a folder" in refusal(folder)
    (folder / "a.npy").rmdir()
    place = os.open(folder, os.O_RDONLY)  # the name of a socket has few letters
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.bind(f"/proc/self/fd/{place}/a.npy") if os.path.isdir("/proc/self/fd") else pytest.skip("no /proc")
        assert "it is a socket" in refusal(folder)
    os.close(place)
    assert "No such file" in refusal(tmp_path / "none.npz")


SEEDS = [npy(VALUES), npz(x=VALUES), npz(True, x=np.random.default_rng(0).normal(size=(4, 30)))]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A sound file with pieces overwritten, left out or put in twice."""
    content = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        piece = draw(
            st.binary(max_size=8) | st.sampled_from([b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"(", b"9" * 9])
        )
        kept = at + draw(st.sampled_from([len(piece), 0, 5, 1 << 20]))
        content[at:kept] = piece
    return bytes(content)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=mutated())
def test_damaged_bytes_are_samples_or_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with at_most(4 << 20):
        for place in (path, tmp_path):
            with suppress(TransformError):  # nothing else
                for array in read_all(place).values():
                    assert array.nbytes <= max(1 << 20, 200 * len(content))
