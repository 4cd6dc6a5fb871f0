"""Regions, their bounds, and DMA."""

import numpy
import pytest

from mlia.errors import SimulatorError
from mlia.simulator.memory import Memory
from mlia.simulator.operation import Range, Transfer


def _memory() -> Memory:
    return Memory({0: numpy.arange(64, dtype=numpy.uint8), 1: numpy.zeros(64, numpy.uint8)})


def test_reads_and_writes_ranges() -> None:
    memory = _memory()
    memory.write(Range(1, 4, 3), b"abc")
    assert memory.read(Range(1, 3, 5)) == b"\0abc\0"
    assert memory.read(Range(0, 60, 4)) == bytes([60, 61, 62, 63])


@pytest.mark.parametrize(("address", "length"), [(61, 4), (-1, 2), (64, 1)])
def test_leaving_a_region_is_an_error(address: int, length: int) -> None:
    with pytest.raises(SimulatorError, match="of region 0, which has 0x40"):
        _memory().read(Range(0, address, length))


def test_an_absent_region_is_an_error() -> None:
    with pytest.raises(SimulatorError, match="region 2"):
        _memory().read(Range(2, 0, 1))


def test_transfers_a_run() -> None:
    memory = _memory()
    memory.transfer(Transfer(0, source_region=0, source=8, destination_region=1, destination=16, length=4))
    assert memory.region(1)[15:21].tolist() == [0, 8, 9, 10, 11, 0]


def test_transfers_rows_and_planes() -> None:
    memory = _memory()
    memory.transfer(
        Transfer(0, 0, 0, 1, 10, length=2, mode="3d", rows=2, planes=2,
                 source_strides=(4, 16), destination_strides=(2, 4))
    )  # fmt: skip
    assert memory.region(1)[10:18].tolist() == [0, 1, 4, 5, 16, 17, 20, 21]


def test_transfers_a_table() -> None:
    memory = _memory()
    memory.transfer(Transfer(0, 0, 32, 0, 256, length=16, to_table=True))
    assert memory.tables[255:273].tolist() == [0, *range(32, 48), 0]
    with pytest.raises(SimulatorError, match="look-up memory"):
        memory.transfer(Transfer(0, 0, 0, 0, 2047, length=2, to_table=True))


def test_overlapping_transfer_reads_first() -> None:
    memory = _memory()
    memory.transfer(Transfer(0, 0, 0, 0, 1, length=8))
    assert memory.region(0)[:10].tolist() == [0, 0, 1, 2, 3, 4, 5, 6, 7, 9]


def test_an_unknown_mode_is_an_error() -> None:
    with pytest.raises(SimulatorError, match="DMA mode gather at 0x24"):
        _memory().transfer(Transfer(0x24, 0, 0, 1, 0, length=2, mode="gather"))


@pytest.mark.parametrize("length", [0, 1, 64])
def test_more_rows_than_bytes_are_refused_at_once(length: int) -> None:
    with pytest.raises(SimulatorError, match=f"writes 65536 x 65536 runs of {length} bytes, more than the 64 bytes"):
        _memory().transfer(Transfer(0, 0, 0, 1, 0, length=length, mode="3d", rows=65536, planes=65536))
