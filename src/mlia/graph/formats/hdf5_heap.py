"""Damage of HDF5 that its library does not survive, found before the library opens the file.

Texts of variable length are in collections named GCOL. The library walks a collection by the sizes of its
objects, and never ends when a free one claims no size (seen with HDF5 2.0).
Format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
"""

from mlia.errors import ModelError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_COLLECTION = b"GCOL\x01"
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
