"""A TensorFlow checkpoint (`variables.index` and its data shards): a sorted table of tensors by key.

The index is a LevelDB-style table: blocks of prefix-compressed keys, each with a checksum; its values say where
in which shard the bytes of a tensor are. Every checksum of what is read is verified.
"""

from math import prod
from pathlib import Path

from msgspec import Struct

from mlia.archives import open_file
from mlia.errors import ModelError
from mlia.graph.formats.crc32c import crc32c
from mlia.graph.formats.keras_model import Array
from mlia.graph.formats.protobuf import Message, read_varint

LARGEST_INDEX = 256 << 20
LARGEST_TENSORS = 4 << 30  # bytes of all tensors that are read; far above any model for the edge
_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_FOOTER, _TRAILER = 48, 5  # bytes: two padded handles and the magic; compression and checksum behind a block
_MASK_DELTA = 0xA282EAD8
_HEADER = {"shards": 1, "endianness": 2}
_ENTRY = {"dtype": 1, "shape": 2, "shard": 3, "offset": 4, "size": 5, "checksum": 6, "slices": 7}
_SHAPE, _AXIS = {"axes": 2, "unknown_rank": 3}, {"size": 1}
# numpy's names of TensorFlow's numbers of types; what is not here is no weight.
_DTYPES = {
    1: "<f4", 2: "<f8", 3: "<i4", 4: "|u1", 5: "<i2", 6: "|i1", 9: "<i8", 10: "|b1", 17: "<u2", 19: "<f2",
    22: "<u4", 23: "<u8",
}  # fmt: skip
_STRING = 7


class Entry(Struct, frozen=True):
    """Where a tensor is: `size` bytes from `offset` of a shard; `checksum` is its masked CRC-32C."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    sliced: bool


class TensorBundle:
    """The tensors of a checkpoint, read when asked for.

    Args:
        prefix: the common part of the file names, such as folder/variables/variables.

    Raises:
        ModelError: the index or a shard is missing, cut short, damaged, or in a form that is not read.
    """

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        index = prefix.with_name(prefix.name + ".index")
        values = read_table(_read(index, LARGEST_INDEX), index.name)
        header = Message(values.pop(b"", b""), "BundleHeaderProto", _HEADER)
        self._shard_count = header.number("shards")
        if header.number("endianness"):
            raise ModelError(f"{index.name} stores big-endian numbers, which are not read; save it on another machine")
        if not 1 <= self._shard_count <= 99_999:
            raise ModelError(f"{index.name} is damaged: it names {self._shard_count} shards")
        self._values = values
        self._shards: dict[int, memoryview] = {}
        self._left = LARGEST_TENSORS

    def keys(self) -> list[str]:
        """The keys of all tensors, sorted; bytes that are not text stand as escapes."""
        return [key.decode(errors="backslashreplace") for key in self._values]

    def entry(self, key: str) -> Entry:
        """Where the tensor of a key is.

        Raises:
            ModelError: there is none, or its entry contradicts itself.
        """
        value = self._values.get(key.encode())
        if value is None:
            raise ModelError(f"{self._prefix.name}.index has no tensor '{key}'")
        message = Message(value, "BundleEntryProto", _ENTRY)
        return Entry(
            dtype=message.number("dtype"),
            shape=read_shape(message.content("shape")),
            shard=message.number("shard"),
            offset=message.number("offset"),
            size=message.number("size"),
            checksum=message.number("checksum"),
            sliced=message.has("slices"),
        )

    def array(self, key: str) -> Array:
        """A numeric tensor as a numpy array that cannot be written to; its bytes stay in the shard.

        Raises:
            ModelError: it is missing, damaged, partitioned, or not numeric.
        """
        import numpy

        entry = self.entry(key)
        if entry.sliced:
            raise ModelError(f"tensor '{key}' is partitioned, which is not read; save the model as one piece")
        if entry.dtype not in _DTYPES:
            raise ModelError(f"tensor '{key}' has the type number {entry.dtype} of TensorFlow, which is not read")
        dtype = numpy.dtype(_DTYPES[entry.dtype])
        if prod(entry.shape) * dtype.itemsize != entry.size:
            shape = "x".join(map(str, entry.shape))
            raise ModelError(f"{self._prefix.name}.index is damaged: tensor '{key}' of {shape} has {entry.size} bytes")
        return numpy.frombuffer(self._content(key, entry), dtype).reshape(entry.shape)

    def text(self, key: str) -> bytes:
        """The bytes of a scalar string: their number, a checksum of that, and the bytes themselves.

        Raises:
            ModelError: it is missing, damaged, or something else.
        """
        entry = self.entry(key)
        if entry.dtype != _STRING or entry.shape or entry.sliced:
            raise ModelError(f"{self._prefix.name}.index is damaged: '{key}' is not a string")
        stored = self._content(key, entry, verify=False)
        size, start = read_varint(stored, 0, key)
        head, content = stored[start : start + 4], stored[start + 4 :]
        # The checksum covers the length as four bytes, its own checksum, and then the content.
        covered = size.to_bytes(8, "little")[: 4 if size < 1 << 32 else 8] + head + content
        if len(content) != size or (crc32c(covered) != _unmask(entry.checksum)):
            raise ModelError(f"it is damaged: '{key}' does not match its checksum")
        return bytes(content)

    def _content(self, key: str, entry: Entry, verify: bool = True) -> memoryview:
        self._left -= entry.size
        if self._left < 0:
            raise ModelError(f"its tensors have more than {LARGEST_TENSORS} bytes, which is more than mlia reads")
        shard = self._shard(entry.shard)
        stored = shard[entry.offset : entry.offset + entry.size]
        if len(stored) != entry.size:
            raise ModelError(
                f"it is cut short: tensor '{key}' ends at byte {entry.offset + entry.size} of a shard of {len(shard)}"
            )
        if verify and crc32c(stored) != _unmask(entry.checksum):
            raise ModelError(f"it is damaged: tensor '{key}' does not match its checksum")
        return stored

    def _shard(self, number: int) -> memoryview:
        if number not in self._shards:
            if number >= self._shard_count:
                raise ModelError(f"{self._prefix.name}.index is damaged: shard {number} of {self._shard_count}")
            name = f"{self._prefix.name}.data-{number:05d}-of-{self._shard_count:05d}"
            self._shards[number] = _read(self._prefix.with_name(name), LARGEST_TENSORS)
        return self._shards[number]


def read_table(content: memoryview, name: str) -> dict[bytes, bytes]:
    """All keys and values of a LevelDB-style table without compression.

    Raises:
        ModelError: it is cut short, damaged, or compressed.
    """
    if len(content) < _FOOTER or content[-8:] != _MAGIC:
        raise ModelError(f"{name} is cut short or not the index of a checkpoint")
    footer = content[-_FOOTER:-8]
    _, position = _handle(footer, 0, name)  # of the filter, which checkpoints do not have
    index, _ = _handle(footer, position, name)
    values: dict[bytes, bytes] = {}
    used = 0
    for _, handle in _block(content, index, name):
        extent, _ = _handle(memoryview(handle), 0, name)
        used += extent[1]
        if used > len(content):  # blocks that overlap would be read again and again
            raise ModelError(f"{name} is damaged: its blocks overlap")
        for key, value in _block(content, extent, name):
            if values and key <= next(reversed(values)):
                raise ModelError(f"{name} is damaged: its keys are not in order")
            values[key] = value
    return values


def read_shape(content: memoryview) -> tuple[int, ...]:
    """The sizes in a TensorShapeProto.

    Raises:
        ModelError: a size is negative or not known, or there are more than 32.
    """
    shape = Message(content, "TensorShapeProto", _SHAPE)
    axes = tuple(axis.signed("size") for axis in shape.messages("axes", "TensorShapeProto.Dim", _AXIS))
    if min(axes, default=0) < 0 or len(axes) > 32 or shape.number("unknown_rank"):
        raise ModelError(f"it is damaged, or not a plain model of Keras: a variable has the shape {axes[:32]}")
    return axes


def _handle(content: memoryview, position: int, name: str) -> tuple[tuple[int, int], int]:
    offset, position = read_varint(content, position, name)
    size, position = read_varint(content, position, name)
    return (offset, size), position


def _block(content: memoryview, extent: tuple[int, int], name: str) -> list[tuple[bytes, bytes]]:
    """The keys and values of one block, after its checksum has been verified."""
    start, end = extent[0], sum(extent)
    if end + _TRAILER > len(content) - _FOOTER or extent[1] < 4:
        raise ModelError(f"{name} is damaged: a block lies outside of it")
    if crc32c(content[start : end + 1]) != _unmask(int.from_bytes(content[end + 1 : end + _TRAILER], "little")):
        raise ModelError(f"{name} is damaged: a block does not match its checksum")
    if content[end]:
        raise ModelError(f"{name} is compressed, which is not read; save the model again with TensorFlow")
    block = content[start:end]
    # Behind the entries: the offsets of keys that are stored in full, for searching, and how many there are.
    limit = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
    if limit < 0:
        raise ModelError(f"{name} is damaged: a block lies outside of it")
    return _entries(block[:limit], name)


def _entries(block: memoryview, name: str) -> list[tuple[bytes, bytes]]:
    found, key, position, copied = [], b"", 0, 0
    while position < len(block):
        shared, position = read_varint(block, position, name)
        rest, position = read_varint(block, position, name)
        size, position = read_varint(block, position, name)
        end = position + rest + size
        copied += shared
        if shared > len(key) or end > len(block) or copied > LARGEST_INDEX:
            raise ModelError(f"{name} is damaged: an entry lies outside of its block")
        key = key[:shared] + bytes(block[position : position + rest])
        found.append((key, bytes(block[position + rest : end])))
        position = end
    return found


def _unmask(masked: int) -> int:
    """Stored checksums are rotated and shifted, lest a checksum of checksums be degenerate."""
    rotated = (masked - _MASK_DELTA) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


def _read(path: Path, largest: int) -> memoryview:
    def refuse(reason: str) -> ModelError:
        return ModelError(f"cannot read {path.name}: {reason}; copy the whole folder")

    with open_file(path, refuse) as file:
        try:
            content = file.read(largest + 1)
        except OSError as error:
            raise refuse(error.strerror or str(error)) from None
    if len(content) > largest:
        raise ModelError(f"{path.name} has more than {largest} bytes, which is more than mlia reads")
    return memoryview(content)
