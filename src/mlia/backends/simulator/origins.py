"""Which operator of the model each operation of its command streams is of."""

from collections.abc import Iterable, Mapping, Sequence

from mlia.simulator.footprints import Access, footprint
from mlia.simulator.intervals import overlap
from mlia.simulator.operation import Compute, Transfer
from mlia.simulator.stream import Stream


def owners_of(streams: Iterable[Stream], known: Mapping[tuple[int, int], int]) -> dict[tuple[int, int], int]:
    """The operator of each operation, by stream and offset, as far as it can be told.

    `known` has the operators of those operations that the compiler tells of. It tells of the first of each step: what
    follows, up to the next that is told of, is of the same step. A transfer is of the operator whose operation is the
    first to read what it brings, or, if none does, of the one that wrote what it takes away.

    Raises:
        SimulatorError: a stream has what is not known.
    """
    found: dict[tuple[int, int], int] = {}
    for stream in streams:
        owners = _of_computes(stream, known)
        _add_transfers(stream, owners)
        found |= {(stream.number, offset): owner for offset, owner in owners.items()}
    return found


def _of_computes(stream: Stream, known: Mapping[tuple[int, int], int]) -> dict[int, int]:
    """By offset, also of transfers that are told of."""
    owners: dict[int, int] = {}
    latest: int | None = None
    for operation in stream.operations:
        told = known.get((stream.number, operation.offset))
        if isinstance(operation, Compute):
            latest = told if told is not None else latest
            told = latest
        if told is not None:
            owners[operation.offset] = told
    return owners


def _add_transfers(stream: Stream, owners: dict[int, int]) -> None:
    """Put the owners of transfers to the others: from the last, since one transfer may bring what another moves on."""
    moving = [each for each in stream.operations if isinstance(each, Compute | Transfer)]
    if all(each.offset in owners or isinstance(each, Compute) for each in moving):
        return
    places = [footprint(each, stream.program.config) for each in moving]
    for position in reversed(range(len(moving))):
        offset = moving[position].offset
        if offset in owners or not isinstance(moving[position], Transfer):
            continue
        readers = (at for at in range(position + 1, len(moving)) if _meet(places[position].writes, places[at].reads))
        writers = (at for at in reversed(range(position)) if _meet(places[position].reads, places[at].writes))
        for at in (next(readers, None), next(writers, None)):
            if at is not None and moving[at].offset in owners:
                owners[offset] = owners[moving[at].offset]
                break


def _meet(some: Iterable[Access], others: Sequence[Access]) -> bool:
    return any(a.region == b.region and overlap(a.bytes, b.bytes) for a in some for b in others)
