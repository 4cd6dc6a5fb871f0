"""The CRC-32C of bytes, as checkpoints of TensorFlow store it: Python for short ones, numpy for long ones.

Byte by byte, Python takes 30 s for 300 MB. Long content is cut into rows of equal width whose states numpy
advances side by side. The state of the whole is folded from theirs: what appending zeros does to a state is
linear, so two neighbors become one by moving the left state past the right row and adding both.
"""

from functools import cache
from typing import Any

_POLYNOMIAL = 0x82F63B78  # bits reversed
_ALL_BITS = 0xFFFFFFFF
_SHORT = 32_768  # bytes below which Python is as fast
_NARROWEST, _WIDEST = 256, 4096  # bytes of a row; powers of two


def crc32c(content: bytes | memoryview) -> int:
    """The CRC-32C (Castagnoli) of the content."""
    state, position = _ALL_BITS, 0
    if len(content) >= _SHORT:
        width = _NARROWEST
        while width < _WIDEST and width * width < len(content):
            width *= 2
        position = len(content) // width * width
        state = _fold(_row_states(content[:position], width), width)
    return _advance(state, content[position:]) ^ _ALL_BITS


def _advance(state: int, content: bytes | memoryview) -> int:
    table = _byte_table()
    for byte in content:
        state = table[(state ^ byte) & 0xFF] ^ state >> 8
    return state


@cache
def _byte_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


@cache
def _word_tables() -> Any:
    """(4, 256): what each of the four bytes of a word adds to the state behind the word."""
    import numpy

    tables = numpy.zeros((4, 256), numpy.uint32)
    tables[3] = _byte_table()
    for row in (2, 1, 0):
        tables[row] = tables[3][tables[row + 1] & 0xFF] ^ tables[row + 1] >> 8
    return tables


def _row_states(content: bytes | memoryview, width: int) -> Any:
    """The state behind each row; the first row starts with all bits set, the others with none."""
    import numpy

    words = numpy.frombuffer(content, "<u4").reshape(-1, width // 4)
    tables = _word_tables()
    states = numpy.zeros(len(words), numpy.uint32)
    states[0] = _ALL_BITS
    for column in range(words.shape[1]):
        states ^= words[:, column]
        states = (
            tables[0][states & 0xFF]
            ^ tables[1][states >> 8 & 0xFF]
            ^ tables[2][states >> 16 & 0xFF]
            ^ tables[3][states >> 24]
        )
    return states


def _fold(states: Any, width: int) -> int:
    import numpy

    # Rows of zeros in front change nothing, and make the number of rows a power of two.
    padded = numpy.zeros(1 << (len(states) - 1).bit_length(), numpy.uint32)
    padded[len(padded) - len(states) :] = states
    zeros = _appended_zeros(width)
    while len(padded) > 1:
        padded = _apply(zeros, padded[::2]) ^ padded[1::2]
        zeros = _apply(zeros, zeros)
    return int(padded[0])


@cache
def _appended_zeros(count: int) -> Any:
    """(32,): what each bit of a state becomes behind `count` bytes of zero; a power of two."""
    import numpy

    bits = [_advance(1 << bit, b"\0") for bit in range(32)]
    zeros = numpy.array(bits, numpy.uint32)
    for _ in range(count.bit_length() - 1):
        zeros = _apply(zeros, zeros)
    return zeros


def _apply(bits: Any, states: Any) -> Any:
    """States after a linear map that says what each of the 32 bits becomes."""
    import numpy

    result = numpy.zeros_like(states)
    for bit in range(32):
        result ^= numpy.where(states >> bit & 1, bits[bit], numpy.uint32(0))
    return result
