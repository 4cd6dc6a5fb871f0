"""The bias and the scale of every output channel, in records of ten bytes.

Ethos-U55 and U65: bias 40 bits signed, scale 32 bits unsigned, shift 6 bits. Ethos-U85: bias 32 bits signed, scale 31
bits, shift 6 bits, or with accumulators of 48 bits: bias 48 bits signed, scale 15 bits, shift 6 bits. All else is zero.
Source: Vela's weight_compressor; Regor's published encoder.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy
from msgspec import Struct
from numpy.typing import NDArray

from mlia.errors import SimulatorError
from mlia.simulator.operation import Range

if TYPE_CHECKING:
    from mlia.simulator.container import Config
    from mlia.simulator.operation import Compute

Ints = NDArray[numpy.int64]

_RECORD = 10


class Scales(Struct, frozen=True):
    """Per output channel: (sum + bias) * multiplier / 2 ** shift."""

    bias: Ints
    multiplier: Ints
    shift: Ints


def decode_scales(operation: "Compute", read: Callable[[Range], bytes], config: "Config") -> Scales:
    """The scales of a CONV or DEPTHWISE, one for each output channel.

    Raises:
        SimulatorError: too few records, or one with bits set that are not known.
    """
    depth, name = operation.ofm.depth, f"{operation.kind} at {operation.offset:#x}"
    parts = [_records(read(part)) for part in operation.scales if part.length]
    # Two cores have every second channel each; four weight streams of Ethos-U85 still have one of scales.
    cores = min(operation.cores, depth)
    needed = [len(range(core, depth, cores)) for core in range(cores)]
    if len(parts) != cores or any(len(part) < count for part, count in zip(parts, needed, strict=True)):
        found = ", ".join(str(len(part)) for part in parts) or "no"
        raise SimulatorError(f"{name}: {found} records of scales, where {', '.join(map(str, needed))} are needed")
    records = numpy.empty((depth, _RECORD), numpy.uint8)
    for core, (part, count) in enumerate(zip(parts, needed, strict=True)):
        records[core::cores] = part[:count]
    fields: tuple[tuple[int, int], ...]
    unused: tuple[tuple[int, int], ...]
    if config.family != "ethos-u85":
        fields, unused = ((0, 5), (5, 9), (9, 10)), ((9, 0xC0),)
    elif operation.accumulator == "int48":
        fields, unused = ((0, 6), (6, 8), (8, 9)), ((7, 0x80), (8, 0xC0), (9, 0xFF))
    else:
        fields, unused = ((0, 4), (4, 8), (8, 9)), ((7, 0x80), (8, 0xC0), (9, 0xFF))
    if any((records[:, byte] & bits).any() for byte, bits in unused):
        raise SimulatorError(f"{name}: a record of scales has bits set that are not known")
    bias, multiplier, shift = (_number(records[:, begin:end]) for begin, end in fields)
    sign = 1 << 8 * (fields[0][1] - fields[0][0]) - 1
    return Scales((bias ^ sign) - sign, multiplier, shift)


def _records(content: bytes) -> NDArray[numpy.uint8]:
    """As many whole records as there are; streams are aligned to 16 bytes."""
    count = len(content) // _RECORD
    return numpy.frombuffer(content, numpy.uint8, count * _RECORD).reshape(count, _RECORD)


def _number(columns: NDArray[numpy.uint8]) -> Ints:
    """Little-endian numbers, one for each row."""
    places = 8 * numpy.arange(columns.shape[1], dtype=numpy.int64)
    numbers: Ints = (columns.astype(numpy.int64) << places).sum(axis=1)
    return numbers
