"""The memory that a command stream sees: numbered regions of bytes, and the look-up memory for tables.

Regions are numpy arrays that the caller keeps: the same array may stand for two regions, as when the fast scratch is
part of the arena. Whatever leaves its region is an error.
"""

from collections.abc import Mapping

import numpy
from numpy.typing import NDArray

from mlia.errors import SimulatorError
from mlia.simulator.operation import Range, Transfer

TABLE_BYTES = 2048  # of the look-up memory: eight tables of 256 bytes (Vela's architecture features)

Bytes = NDArray[numpy.uint8]


class Memory:
    """Regions by number, and the look-up memory."""

    def __init__(self, regions: Mapping[int, Bytes], table_bytes: int = TABLE_BYTES) -> None:
        self._regions = dict(regions)
        self.tables: Bytes = numpy.zeros(table_bytes, numpy.uint8)

    def region(self, number: int) -> Bytes:
        """All bytes of a region; they may be written where the caller's array may.

        Raises:
            SimulatorError: there is no such region.
        """
        if number not in self._regions:
            raise SimulatorError(f"the command stream uses region {number}, which was not given")
        return self._regions[number]

    def checked(self, number: int, low: int, high: int) -> Bytes:
        """All bytes of a region, of which the ones from `low` up to, not including, `high` will be used.

        Raises:
            SimulatorError: they are not in the region.
        """
        region = self.region(number)
        if low < 0 or high > region.size:
            raise SimulatorError(
                f"the command stream uses bytes {low:#x} to {high:#x} of region {number}, which has {region.size:#x}"
            )
        return region

    def bytes_of(self, place: Range) -> Bytes:
        """The bytes of a range, not copied."""
        end = place.address + place.length
        return self.checked(place.region, place.address, end)[place.address : end]

    def read(self, place: Range) -> bytes:
        """A copy of the bytes of a range."""
        return self.bytes_of(place).tobytes()

    def write(self, place: Range, content: bytes) -> None:
        """Put bytes where a range says."""
        self.bytes_of(place)[:] = numpy.frombuffer(content, numpy.uint8)

    def transfer(self, transfer: Transfer) -> None:
        """Do what a DMA command says: a run of bytes, or rows and planes of such runs.

        Raises:
            SimulatorError: a mode that is not known, or bytes outside their region.
        """
        if transfer.mode not in ("1d", "2d", "3d"):
            raise SimulatorError(f"DMA mode {transfer.mode} at {transfer.offset:#x} is not known")
        self._refuse_endless(transfer)
        for plane in range(transfer.planes):
            for row in range(transfer.rows):
                source = transfer.source + _offset(transfer.source_strides, row, plane)
                destination = transfer.destination + _offset(transfer.destination_strides, row, plane)
                self._copy(transfer, source, destination)

    def _refuse_endless(self, transfer: Transfer) -> None:
        """No more rows than there are bytes to write to: only damage asks for them, and takes hours."""
        room = self.tables.size if transfer.to_table else self.region(transfer.destination_region).size
        if transfer.planes * transfer.rows * max(transfer.length, 1) > max(room, 1):
            raise SimulatorError(
                f"the transfer at {transfer.offset:#x} writes {transfer.planes} x {transfer.rows} runs of "
                f"{transfer.length} bytes, more than the {room:,} bytes that there are"
            )

    def _copy(self, transfer: Transfer, source: int, destination: int) -> None:
        content = self.bytes_of(Range(transfer.source_region, source, transfer.length)).copy()
        if not transfer.to_table:
            self.bytes_of(Range(transfer.destination_region, destination, transfer.length))[:] = content
            return
        if destination < 0 or destination + transfer.length > self.tables.size:
            raise SimulatorError(
                f"the transfer at {transfer.offset:#x} writes bytes {destination:#x} to "
                f"{destination + transfer.length:#x} of the look-up memory, which has {self.tables.size:#x}"
            )
        self.tables[destination : destination + transfer.length] = content


def _offset(strides: tuple[int, int], row: int, plane: int) -> int:
    return row * strides[0] + plane * strides[1]
