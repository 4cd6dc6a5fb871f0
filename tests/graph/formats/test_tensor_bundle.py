import random
from pathlib import Path

import numpy as np
import pytest
from keras_models import assert_one_line, damaged, unpacked

from mlia.errors import ModelError
from mlia.graph.formats.crc32c import crc32c
from mlia.graph.formats.tensor_bundle import TensorBundle, read_table

MAGIC = bytes.fromhex("57fb808b247547db")
KERNEL = "layer_with_weights-1/kernel/.ATTRIBUTES/VARIABLE_VALUE"


def slow_crc32c(content: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in content:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def block(entries: list[tuple[int, bytes, bytes]], compression: int = 0) -> bytes:
    """A block of (shared bytes, rest of the key, value), with its trailer."""
    content = b"".join(varint(s) + varint(len(k)) + varint(len(v)) + k + v for s, k, v in entries)
    content += bytes(4) + (1).to_bytes(4, "little") + bytes([compression])
    checksum = crc32c(content)
    masked = ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return content + masked.to_bytes(4, "little")


def table(entries: list[tuple[int, bytes, bytes]], compression: int = 0, copies: int = 1) -> memoryview:
    first = block(entries, compression)
    handle = varint(0) + varint(len(first) - 5)
    index = block([(0, bytes([65 + copy]), handle) for copy in range(copies)])
    handles = varint(0) * 2 + varint(len(first)) + varint(len(index) - 5)
    return memoryview(first + index + handles.ljust(40, b"\0") + MAGIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return unpacked("small_2_saved_model.zip", tmp_path) / "variables"


@pytest.mark.parametrize("size", [0, 1, 5000, 32_767, 32_768, 32_769, 50_001, 100_000])
def test_checksum_of_any_length(size: int) -> None:
    content = random.Random(size).randbytes(size)
    assert crc32c(content) == slow_crc32c(content)


def test_checksum_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_keys_share_prefixes() -> None:
    assert read_table(table([(0, b"abc", b"1"), (2, b"d", b"2"), (1, b"z", b"")]), "t") == {
        b"abc": b"1", b"abd": b"2", b"az": b"",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (table([(0, b"a", b"1")], compression=1), "compressed"),
        (table([(0, b"b", b"1"), (0, b"a", b"1")]), "not in order"),
        (table([(0, b"a", b"1"), (5, b"a", b"1")]), "outside of its block"),
        (table([(0, b"a", b"1" * 500)], copies=9), "overlap|not in order"),
        (memoryview(b"x" * 100), "not the index"),
        (memoryview(b""), "cut short"),
    ],
)
def test_tables_that_are_refused(content: memoryview, why: str) -> None:
    with pytest.raises(ModelError, match=why):
        read_table(content, "t")


def test_a_real_checkpoint(folder: Path) -> None:
    bundle = TensorBundle(folder / "variables")
    kernel = bundle.array(KERNEL)
    assert kernel.dtype == np.float32
    assert not kernel.flags.writeable
    assert len(bundle.text("_CHECKPOINTABLE_OBJECT_GRAPH")) > 1000
    assert [key for key in bundle.keys() if "kernel" in key]  # noqa: SIM118 (not a dictionary)


def test_what_is_asked_for_wrongly(folder: Path) -> None:
    bundle = TensorBundle(folder / "variables")
    with pytest.raises(ModelError, match="no tensor 'x'"):
        bundle.array("x")
    with pytest.raises(ModelError, match="type number 7"):
        bundle.array("_CHECKPOINTABLE_OBJECT_GRAPH")
    with pytest.raises(ModelError, match="not a string"):
        bundle.text(KERNEL)


def test_a_flipped_bit_of_a_tensor_is_noticed(folder: Path) -> None:
    bundle = TensorBundle(folder / "variables")
    entry = bundle.entry(KERNEL)
    shard = folder / "variables.data-00000-of-00001"
    content = bytearray(shard.read_bytes())
    content[entry.offset] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ModelError, match="does not match its checksum"):
        TensorBundle(folder / "variables").array(KERNEL)


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "variables.data-00000-of-00001").unlink()
    with pytest.raises(ModelError, match=r"variables\.data-00000-of-00001: No such file"):
        TensorBundle(folder / "variables").array(KERNEL)


def test_damage_anywhere_in_the_index_is_noticed_or_harmless(folder: Path) -> None:
    index = folder / "variables.index"
    whole = {key: TensorBundle(folder / "variables").entry(key) for key in TensorBundle(folder / "variables").keys()}  # noqa: SIM118
    noticed = 0
    for content in damaged(index.read_bytes(), seed=1, count=200):
        index.write_bytes(content)
        try:
            bundle = TensorBundle(folder / "variables")
            assert {key: bundle.entry(key) for key in bundle.keys()} == whole  # noqa: SIM118
        except ModelError as error:
            noticed += 1
            assert_one_line(error)
    assert noticed > 150
