"""Damage of HDF5 that its library does not survive, found before the library opens the file.

Texts of variable length are in collections named GCOL. The library walks a collection by the sizes of its
objects, and never ends when a free one claims no size (seen with HDF5 2.0).
Format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
"""

from math import prod

from mlia.errors import ModelError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_COLLECTION = b"GCOL\x01"
_VARIABLE_LENGTH = 9  # the class of such a datatype
_REFERENCE = 16  # bytes of a reference to a text: its length, the address of a collection, and a number there
_HEADER = 16  # bytes of the head of a collection, and of one of its objects
# Where the superblock stores how long addresses and lengths are, by its version.
_SIZES_AT = {0: 13, 1: 13, 2: 9, 3: 9}


def check_heap(content: bytes) -> None:
    """Refuse what would make the library hang.

    Raises:
        ModelError: it is not HDF5, is cut short, or a collection is damaged.
    """
    if not content.startswith(SIGNATURE) or len(content) < 48:
        raise ModelError("it is damaged, or not HDF5")
    sizes_at = _SIZES_AT.get(content[8])
    if sizes_at is None or content[sizes_at : sizes_at + 2] != b"\x08\x08":
        raise ModelError("it is damaged, or HDF5 of a kind that Keras does not write")
    position = content.find(_COLLECTION)
    while position >= 0:
        _check_collection(content, position)
        position = content.find(_COLLECTION, position + 1)


def _check_collection(content: bytes, start: int) -> None:
    end = start + int.from_bytes(content[start + 8 : start + 16], "little")
    position = start + _HEADER
    while position + _HEADER <= end:
        number = int.from_bytes(content[position : position + 2], "little")
        size = int.from_bytes(content[position + 8 : position + 16], "little")
        if number:  # the size of an object in use is without its head, padded to 8 bytes
            size = _HEADER + (size + 7) // 8 * 8
        position += size
        if size < _HEADER or position > min(end, len(content)):
            raise ModelError("it is damaged: its texts of variable length overlap or lie outside of it")


def check_texts(content: bytes, name: str) -> None:
    """Refuses attributes of a name whose texts claim more bytes than the file has.

    The library makes room for what is claimed, up to 4 GiB, before it looks where the text is.

    Raises:
        ModelError: a claim is impossible, or the attribute ends outside of the file.
    """
    stored = name.encode() + b"\0"
    position = content.find(stored)
    while position >= 0:
        for version in (1, 2, 3):
            # The head: version, flags, three sizes of two bytes; from version 3 on one byte more.
            start = position - (9 if version == 3 else 8)
            if start >= 0 and content[start] == version and _number(content, start + 2, 2) == len(stored):
                _check_attribute(content, start, position, padded=version == 1)
        position = content.find(stored, position + 1)


def _check_attribute(content: bytes, start: int, position: int, *, padded: bool) -> None:
    sizes = [_number(content, start + at, 2) for at in (2, 4, 6)]
    if padded:
        sizes = [(size + 7) // 8 * 8 for size in sizes]
    datatype = position + sizes[0]
    dataspace = datatype + sizes[1]
    data = dataspace + sizes[2]
    if data > len(content):
        raise ModelError("it is damaged: an attribute lies outside of it")
    if content[datatype] & 15 != _VARIABLE_LENGTH:
        return
    version, rank = content[dataspace], content[dataspace + 1]
    first = dataspace + (8 if version == 1 else 4)
    count = prod(_number(content, first + 8 * axis, 8) for axis in range(rank))
    if data + _REFERENCE * count > len(content):
        raise ModelError("it is damaged: an attribute lies outside of it")
    for at in range(data, data + _REFERENCE * count, _REFERENCE):
        if _number(content, at, 4) > len(content):
            raise ModelError("it is damaged: a text of an attribute is longer than the file")


def _number(content: bytes, position: int, size: int) -> int:
    return int.from_bytes(content[position : position + size], "little")
