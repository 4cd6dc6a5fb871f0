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
# Bytes of bias and scale, the shift after them, and the bits of a record that are zero.
_LAYOUTS = {
    "u55": ((5, 4), (0, 0, 0, 0, 0, 0, 0, 0, 0, 0xC0)),
    "int32": ((4, 4), (0, 0, 0, 0, 0, 0, 0, 0x80, 0xC0, 0xFF)),
    "int48": ((6, 2), (0, 0, 0, 0, 0, 0, 0, 0x80, 0xC0, 0xFF)),
}


class Scales(Struct, frozen=True):
    """Per output channel: (sum + bias) * multiplier / 2 ** shift."""

    bias: Ints
    multiplier: Ints
    shift: Ints


def decode_scales(operation: "Compute", read: Callable[[Range], bytes], config: "Config") -> Scales:
    """The scales of an operation that has them by channel, one for each of its output.

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
    layout = "u55" if config.family != "ethos-u85" else "int48" if operation.accumulator == "int48" else "int32"
    (bias_bytes, scale_bytes), unused = _LAYOUTS[layout]
    if (records & numpy.array(unused, numpy.uint8)).any():
        raise SimulatorError(f"{name}: a record of scales has bits set that are not known")
    sign, end = 1 << 8 * bias_bytes - 1, bias_bytes + scale_bytes
    bias, multiplier, shift = (_number(part) for part in numpy.split(records[:, : end + 1], (bias_bytes, end), axis=1))
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
