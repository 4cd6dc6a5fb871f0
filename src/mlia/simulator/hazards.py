"""What may go wrong with the memory of a command stream, found without running it.

A functional run executes operations one after the other, so it cannot reveal a missing wait. An Ethos-U starts DMA
transfers and kernels (all other operations) in the order of the stream, but works on a few of each kind at a time:
up to two kernels, and one transfer on Ethos-U55, two on U65, four on U85 (Vela's architecture features). Among
themselves, transfers end in their order, and so do kernels; a kernel may begin while the last blocks of the one before
it are still computed, as many as its block dependency says. INFERRED: all of Vela's streams are free of hazards by
these rules; no hardware confirmed them.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from mlia.simulator.block_dependency import early_reads
from mlia.simulator.container import Config
from mlia.simulator.footprints import TABLES, Access, Footprint, footprint
from mlia.simulator.intervals import NOTHING, Intervals, common, interval, minus, overlap, size, union
from mlia.simulator.memory import TABLE_BYTES
from mlia.simulator.operation import Compute, FeatureMap, Operation, Range, Stop, Transfer, Wait

_KERNELS_AT_A_TIME = 2
_TRANSFER_UNIT = 16  # bytes; lengths are multiples of it
_TRANSFERS_AT_A_TIME = {"ethos-u55": 1, "ethos-u65": 2, "ethos-u85": 4}


class HazardKind(StrEnum):
    """What may go wrong."""

    OUTSIDE = "outside its region"
    UNWRITTEN = "read before anything is written"
    MISSING = "not written by the end"
    OVERLAP = "written over an input that is still read"
    WAIT = "missing wait"
    DEPENDENCY = "block dependency too large"


class Hazard(Struct, frozen=True):
    """One thing that may go wrong.

    `offset` is that of the operation in the stream, and `what` of it is concerned ("ifm", "weights", …); `place` holds
    the first of the bytes (region -1 is the look-up memory), `bytes` is how many there are. `earlier` is the offset of
    the other operation, where there is one. What is not `is_certain` cannot be ruled out, by rules that are inferred.
    """

    kind: HazardKind
    offset: int
    what: str
    place: Range
    bytes: int
    earlier: int | None = None
    is_certain: bool = True

    def __str__(self) -> str:
        where = "the look-up memory" if self.place.region == TABLES else f"region {self.place.region}"
        other = "" if self.earlier is None else f", because of the operation at {self.earlier:#x}"
        begin, end = self.place.address, self.place.address + self.place.length
        return f"{self.offset:#x}: {self.what} {self.kind}: {begin:#x} to {end:#x} of {where}{other}"


def find_hazards(
    operations: Sequence[Operation],
    config: Config,
    regions: Mapping[int, int],
    initial: Sequence[Range],
    aliases: Mapping[int, int] | None = None,
    outputs: Sequence[Range] = (),
) -> list[Hazard]:
    """All that may go wrong with the memory of a stream, in its order; nothing for a stream that is safe.

    Args:
        operations: of one stream.
        config: the NPU that it is compiled for.
        regions: the size of each region, in bytes, by its number.
        initial: the bytes that are valid before the run: read-only data, inputs, variables.
        aliases: regions that are the same memory as another one, such as the fast scratch of a shared arena.
        outputs: the bytes that must be valid after the run.

    Raises:
        SimulatorError: an operation looks up a kind of table that is not known.
    """
    search = _Search(config, regions, initial, aliases or {})
    found = list(search.through(operations))
    end = operations[-1].offset if operations else 0
    return [*found, *(hazard for place in outputs for hazard in search.missing(place, end))]


def written_by(operations: Sequence[Operation], config: Config, regions: Collection[int]) -> Intervals:
    """The bytes that a stream writes to memory that goes by these numbers."""
    found = NOTHING
    for operation in operations:
        if isinstance(operation, Compute | Transfer):
            for access in footprint(operation, config).writes:
                if access.region in regions:
                    found = union(found, access.bytes)
    return found


class _Started(Struct, frozen=True, eq=False):
    """An operation that may still be under way."""

    operation: Compute | Transfer
    footprint: Footprint


class _Search:
    def __init__(
        self, config: Config, regions: Mapping[int, int], initial: Sequence[Range], aliases: Mapping[int, int]
    ) -> None:
        self._config = config
        self._sizes = {**regions, TABLES: TABLE_BYTES}
        self._aliases = aliases
        self._valid: dict[int, Intervals] = {}
        for place in initial:
            region = self._region(place.region)
            self._valid[region] = union(self._valid_in(region), interval(place.address, place.address + place.length))
        self._transfers: list[_Started] = []
        self._kernels: list[_Started] = []

    def through(self, operations: Sequence[Operation]) -> Iterator[Hazard]:
        before: Compute | None = None
        for operation in operations:
            if isinstance(operation, Stop):
                return
            if isinstance(operation, Wait):
                running = self._transfers if operation.kind == "dma" else self._kernels
                del running[: max(len(running) - operation.outstanding, 0)]
                continue
            used = self._with_aliases(footprint(operation, self._config))
            yield from self._outside(operation, used)
            yield from self._unwritten(operation, used)
            yield from self._unordered(operation, used)
            if isinstance(operation, Compute):
                yield from _over_its_input(operation, used)
                if before is not None:
                    yield from self._too_early(operation, before)
                before = operation
            self._write(used)

    def missing(self, output: Range, end: int) -> Iterator[Hazard]:
        """Bytes of an output that are not valid now; `end` is the offset of the stream's end."""
        region, everything = self._region(output.region), interval(output.address, output.address + output.length)
        lost = minus(everything, self._valid_in(region))
        yield from _hazards(HazardKind.MISSING, end, Access("output", region, everything), lost)

    def _region(self, number: int) -> int:
        return self._aliases.get(number, number)

    def _valid_in(self, region: int) -> Intervals:
        return self._valid.get(region, NOTHING)

    def _with_aliases(self, used: Footprint) -> Footprint:
        if not self._aliases:
            return used
        changed = (
            tuple(Access(each.what, self._region(each.region), each.bytes) for each in accesses)
            for accesses in (used.reads, used.writes, used.spoils)
        )
        return Footprint(*changed)

    def _outside(self, operation: Compute | Transfer, used: Footprint) -> Iterator[Hazard]:
        for access in (*used.reads, *used.writes):
            inside = interval(0, self._sizes.get(access.region, 0))
            yield from _hazards(HazardKind.OUTSIDE, operation.offset, access, minus(access.bytes, inside))

    def _unwritten(self, operation: Compute | Transfer, used: Footprint) -> Iterator[Hazard]:
        for access in used.reads:
            inside = common(access.bytes, interval(0, self._sizes.get(access.region, 0)))
            missing = minus(inside, self._valid_in(access.region))
            if isinstance(operation, Transfer) and _is_rounded_up(access.bytes, missing):
                continue
            yield from _hazards(HazardKind.UNWRITTEN, operation.offset, access, missing)

    def _unordered(self, operation: Compute | Transfer, used: Footprint) -> Iterator[Hazard]:
        """What an operation has to do with those of the other kind that may still be under way."""
        is_transfer = isinstance(operation, Transfer)
        own, others = (self._transfers, self._kernels) if is_transfer else (self._kernels, self._transfers)
        for other in others:
            for access in _conflicts(used, other.footprint):
                yield from _hazards(HazardKind.WAIT, operation.offset, access, access.bytes, other.operation)
        own.append(_Started(operation, used))
        most = _TRANSFERS_AT_A_TIME[self._config.family] if is_transfer else _KERNELS_AT_A_TIME
        del own[: max(len(own) - most, 0)]

    def _too_early(self, operation: Compute, before: Compute) -> Iterator[Hazard]:
        for early in early_reads(operation, before, self._config, self._aliases):
            access = Access(early.what, self._region(early.region), early.bytes)
            for hazard in _hazards(HazardKind.DEPENDENCY, operation.offset, access, early.bytes, before):
                yield replace(hazard, is_certain=early.is_certain)

    def _write(self, used: Footprint) -> None:
        for access in used.spoils:
            self._valid[access.region] = minus(self._valid_in(access.region), access.bytes)
        for access in used.writes:
            inside = common(access.bytes, interval(0, self._sizes.get(access.region, 0)))
            self._valid[access.region] = union(self._valid_in(access.region), inside)


def _conflicts(a: Footprint, b: Footprint) -> Iterator[Access]:
    """What of `a` must not happen at the same time as `b`: one of both writes it."""
    written = (*a.writes, *a.spoils)
    pairs = [(mine, theirs) for mine in a.reads for theirs in (*b.writes, *b.spoils)]
    pairs += [(mine, theirs) for mine in written for theirs in (*b.reads, *b.writes, *b.spoils)]
    for mine, theirs in pairs:
        if mine.region == theirs.region and overlap(mine.bytes, theirs.bytes):
            yield Access(mine.what, mine.region, common(mine.bytes, theirs.bytes))


def _is_rounded_up(read: Intervals, missing: Intervals) -> bool:
    """Whether nothing is missing but the end of a transfer whose length is rounded up (Vela's check of transfers)."""
    return len(read) == len(missing) == 1 and bool(missing[0, 1] == read[0, 1]) and size(missing) < _TRANSFER_UNIT


def _over_its_input(operation: Compute, used: Footprint) -> Iterator[Hazard]:
    """An output may take the place of an input only where each number is written where it was read.

    What is computed in one block has been read before anything of it is written.
    """
    ofm, block = operation.ofm, operation.block
    if ofm.height <= block.height and ofm.width <= block.width and ofm.depth <= block.depth:
        return
    inputs = {"ifm": operation.ifm, "ifm2": operation.ifm2}
    for read in used.reads:
        for written in used.writes:
            if read.region != written.region or not overlap(read.bytes, written.bytes):
                continue
            feature_map = inputs.get(read.what)
            if feature_map is None or not _is_in_place(operation, feature_map):
                shared = common(read.bytes, written.bytes)
                yield from _hazards(
                    HazardKind.OVERLAP, operation.offset, Access(read.what, read.region, shared), shared
                )


def _is_in_place(operation: Compute, feature_map: FeatureMap) -> bool:
    ofm = operation.ofm
    is_pointwise = operation.kind == "elementwise" or (
        operation.kind == "pool" and operation.kernel.size == operation.kernel.stride == (1, 1)
    )
    return (
        is_pointwise
        and (operation.ofm_transpose, operation.ofm_reverse) == ("hwc", "none")
        and (feature_map.height, feature_map.width, feature_map.depth) == (ofm.height, ofm.width, ofm.depth)
        and feature_map.tiles.bases == ofm.tiles.bases
        and (feature_map.stride_y, feature_map.stride_x, feature_map.stride_c, feature_map.is_brick)
        == (ofm.stride_y, ofm.stride_x, ofm.stride_c, ofm.is_brick)
        and feature_map.element_bytes == ofm.element_bytes
    )


def _hazards(
    kind: HazardKind,
    offset: int,
    access: Access,
    found: Intervals,
    earlier: Compute | Transfer | None = None,
) -> Iterator[Hazard]:
    if len(found):
        begin, end = found[0].tolist()
        place = Range(access.region, begin, end - begin)
        other = None if earlier is None else earlier.offset
        yield Hazard(kind, offset, access.what, place, size(found), other)
