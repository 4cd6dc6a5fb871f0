"""DMA of Ethos-U85 with indexes: rows that are gathered from, or scattered to, places that a list of numbers names."""

import numpy

from mlia.errors import SimulatorError
from mlia.simulator.memory import Memory
from mlia.simulator.operation import Range, Transfer

_INDEX_BYTES = 4


def indexed_transfer(memory: Memory, transfer: Transfer) -> None:
    """Copy one row per index: from row index of the source, or to that of the destination.

    Rows are copied in their order: of two for one place, the later stays.

    Raises:
        SimulatorError: a mode that is not known, an index that is too large, or bytes outside their region.
    """
    if transfer.indexes is None or transfer.mode not in ("1d", "2d") or transfer.to_table:
        raise SimulatorError(f"the indexed transfer at {transfer.offset:#x} has a mode that is not known")
    place = Range(transfer.indexes.region, transfer.indexes.address, _INDEX_BYTES * transfer.rows)
    numbers = numpy.frombuffer(memory.read(place), "<i4")
    for row, number in enumerate(numbers.tolist()):
        if not 0 <= number <= transfer.largest_index:
            raise SimulatorError(
                f"index {number} of the transfer at {transfer.offset:#x} is not in 0..{transfer.largest_index}"
            )
        from_row, to_row = (number, row) if transfer.indexed == "source" else (row, number)
        source = transfer.source + from_row * transfer.source_strides[0]
        destination = transfer.destination + to_row * transfer.destination_strides[0]
        content = memory.read(Range(transfer.source_region, source, transfer.length))
        memory.write(Range(transfer.destination_region, destination, transfer.length), content)
