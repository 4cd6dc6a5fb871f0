"""Ethos-U85's fast weight format: every weight has the same number of bits.

A header of 256 bits, the lowest bit of each byte first: 1 bit "raw"; 1 bit "small table"; 102 bits zero; 8 bits signed
what was added to raw weights; a table of 16 values of 9 bits with the sign in the lowest. Then come, per
weight, 8 bits if raw, 2 bits that index a small table, or 4 that index the table. Source: Regor's published encoder.
"""

import numpy
from numpy.typing import NDArray

from mlia.errors import SimulatorError

_HEADER_BYTES = 32
_TABLE, _ENTRY_BITS, _ENTRIES = 112, 9, 16


def decode_fast(content: bytes, count: int) -> NDArray[numpy.int16]:
    """The first `count` weights of a stream; what comes after them aligns it to 32 bytes.

    Raises:
        SimulatorError: the stream is too short, or its header not known.
    """
    if len(content) < _HEADER_BYTES:
        raise SimulatorError(f"weights: a fast stream of {len(content)} bytes has no header")
    header = int.from_bytes(content[:_HEADER_BYTES], "little")
    is_raw, is_small = header & 1, header >> 1 & 1
    if (is_raw and is_small) or header >> 2 & (1 << 102) - 1:
        raise SimulatorError("weights: a fast stream's header has bits set that are not known")
    width = 8 if is_raw else 2 if is_small else 4
    items = numpy.frombuffer(content, numpy.uint8, offset=_HEADER_BYTES)
    if len(items) * 8 < count * width:
        raise SimulatorError(f"weights: a fast stream of {len(content)} bytes is too short for {count} weights")
    if is_raw:
        added = (header >> 104 & 0xFF ^ 0x80) - 0x80
        return items[:count].view(numpy.int8).astype(numpy.int16) - numpy.int16(added)
    folded = [header >> _TABLE + _ENTRY_BITS * index & 0x1FF for index in range(_ENTRIES)]
    table = numpy.array([-(value >> 1) if value & 1 else value >> 1 for value in folded], numpy.int16)
    shifts = numpy.arange(0, 8, width)
    indices = (items[:, None] >> shifts & (1 << width) - 1).ravel()
    weights: NDArray[numpy.int16] = table[indices[:count]]
    return weights
