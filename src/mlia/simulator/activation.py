"""What happens to a result after it is scaled: zero point, clipping, look-up tables, tanh and sigmoid.

Tables are 256 entries of 8 bits, 256 of 32 bits, or 512 words of 16 bits base and 16 bits slope between which values
are interpolated (Vela's LUT generation; agrees with LiteRT's reference in a fuzz). tanh and sigmoid of 16 bits are
computed like TensorFlow Lite's int16 kernels: with a table of the sigmoid in steps of 1 / 24 (equal to LiteRT's
reference for all inputs).
"""

from functools import cache
from typing import Any

import numpy
from numpy.typing import NDArray

from mlia.errors import SimulatorError
from mlia.simulator.memory import Bytes
from mlia.simulator.operation import Activation

Integers = NDArray[numpy.int64]

_FORCED = {"uint8": (0, 255), "int8": (-128, 127), "int16": (-32768, 32767)}
_ENTRIES = {"s8>s8": "i1", "u8>u8": "u1", "s8>s32": "<i4", "u8>s32": "<i4"}
# Where the table of the int16 kernels has one more than the nearest integer to 65536 * sigmoid(n / 24). These are
# facts about its numbers, found by probing LiteRT's TANH with an input scale of 1 / 6144 at every multiple of 128.
_ONE_MORE = (
    4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40, 41, 43, 44, 45, 46, 49,
    50, 54, 62, 63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135, 255,
)  # fmt: skip


def activated(values: Integers, activation: Activation, tables: Bytes) -> Integers:
    """The output of an operation from its scaled result, zero point added; `tables` is the look-up memory.

    Raises:
        SimulatorError: a function or table that is not known.
    """
    if activation.function == "tanh":
        return _clipped(tanh(values), activation)
    if activation.function == "sigmoid":
        return _clipped(sigmoid(values), activation)
    values = _clipped(values, activation)
    if activation.function == "none":
        return values
    if activation.function != "table":
        raise SimulatorError(f"the activation {activation.function} is not known")
    return looked_up(values, activation, tables)


def looked_up(values: Integers, activation: Activation, tables: Bytes) -> Integers:
    """Each value's entry in a table of the look-up memory.

    Raises:
        SimulatorError: a kind of table that is not known, one that is not all in the look-up memory, or a value
            that the table has no entry for.
    """
    kind, start = activation.table_kind, activation.table_at
    if kind == "s16>s16":
        words = _table(tables, start, 512, "<u4")
        base = words.astype(numpy.uint16).view(numpy.int16).astype(numpy.int64)
        slope = (words >> 16).astype(numpy.uint16).view(numpy.int16).astype(numpy.int64)
        index = _index((values + 32768) >> 7, 512, kind)
        interpolated: Integers = base[index] + ((slope[index] * (values & 127) + 64) >> 7)
        return interpolated
    if kind not in _ENTRIES:
        raise SimulatorError(f"the look-up table {kind} is not known")
    entries = _table(tables, start, 256, _ENTRIES[kind]).astype(numpy.int64)
    found: Integers = entries[_index(values + 128 if kind.startswith("s") else values, 256, kind)]
    return found


@cache
def sigmoid_table() -> Integers:
    """65536 * sigmoid(n / 24) for n up to 255, as TensorFlow Lite's int16 kernels have it: at most 65535."""
    table = numpy.floor(65536 / (1 + numpy.exp(-numpy.arange(256) / 24)) + 0.5).astype(numpy.int64)
    table[list(_ONE_MORE)] += 1
    table.setflags(write=False)
    return table


def sigmoid(values: Integers) -> Integers:
    """The sigmoid of values / (3 * 4096), times 32768."""
    curve = _interpolated(numpy.abs(values), 9, 0x7FFF << 10)
    half: Integers = numpy.where(values >= 0, curve + (1 << 9), (1 << 25) - curve + (1 << 9) - 1)
    return half >> 10


def tanh(values: Integers) -> Integers:
    """The hyperbolic tangent of values / (3 * 4096), times 32768."""
    curve = _interpolated(numpy.abs(values), 8, 0xFFFF << 8) - (1 << 23)
    signed: Integers = numpy.where(values >= 0, curve + (1 << 7), (1 << 7) - 1 - curve)
    return signed >> 8


def _interpolated(sizes: Integers, bits: int, beyond: int) -> Integers:
    """The table at sizes / 2 ** bits, times 2 ** bits; `beyond` its end."""
    table, index = sigmoid_table(), sizes >> bits
    inside = numpy.minimum(index, 254)
    lower = table[inside]
    curve = (lower << bits) + (sizes & ((1 << bits) - 1)) * (table[inside + 1] - lower)
    capped: Integers = numpy.where(index >= 255, beyond, curve)
    return capped


def _clipped(values: Integers, activation: Activation) -> Integers:
    if activation.forced_range:
        if activation.forced_range not in _FORCED:
            raise SimulatorError(f"the forced range {activation.forced_range} is not known")
        values = numpy.clip(values, *_FORCED[activation.forced_range])
    return numpy.clip(values, activation.low, activation.high) if activation.is_clipped else values


def _index(index: Integers, size: int, kind: str) -> Integers:
    if index.size and (index.min() < 0 or index.max() >= size):
        raise SimulatorError(f"a value has no entry in a table {kind}: {index.min()} to {index.max()} of {size}")
    return index


def _table(tables: Bytes, start: int, entries: int, dtype: str) -> NDArray[Any]:
    length = entries * numpy.dtype(dtype).itemsize
    if start + length > tables.size:
        raise SimulatorError(f"a table of {length} bytes at {start:#x} leaves the look-up memory")
    return tables[start : start + length].view(dtype)
