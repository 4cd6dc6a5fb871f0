"""Which bytes an operation reads and writes, without running it."""

import numpy
from msgspec import Struct

from mlia.errors import SimulatorError
from mlia.simulator.container import Config
from mlia.simulator.feature_maps import BRICK, stored_shape
from mlia.simulator.intervals import Intervals, interval, runs, strided, union
from mlia.simulator.memory import TABLE_BYTES
from mlia.simulator.operation import TABLE_SIZES, Compute, FeatureMap, Range, Transfer

TABLES = -1  # stands for the look-up memory where a region is named
# With as little shared RAM as this, accumulators reach into the look-up memory where no table is in use (Vela's
# architecture features: no banks are set aside for it).
_SHARED_WITH_TABLES_KIB = 16

Span = tuple[int, int]  # begin and end along an axis


class Access(Struct, frozen=True, eq=False):
    """Bytes of a region that an operation reads or writes, and what they are to it ("ifm", "weights", …)."""

    what: str
    region: int
    bytes: Intervals


class Footprint(Struct, frozen=True, eq=False):
    """All that an operation reads and writes. What it `spoils` is overwritten with nothing that is of use."""

    reads: tuple[Access, ...]
    writes: tuple[Access, ...]
    spoils: tuple[Access, ...] = ()


def footprint(operation: Compute | Transfer, config: Config) -> Footprint:
    """The bytes that an operation reads and writes.

    Raises:
        SimulatorError: it looks up a kind of table that is not known.
    """
    return _of_transfer(operation, config) if isinstance(operation, Transfer) else _of_compute(operation, config)


def whole_input(feature_map: FeatureMap) -> Intervals:
    """The bytes of an input."""
    height, width, depth = stored_shape(feature_map)
    return box(feature_map, (0, height), (0, width), (0, depth))


def output_box(operation: Compute, y: Span, x: Span, c: Span) -> Intervals:
    """The bytes of a box of an output, in coordinates before it is reversed and transposed."""
    ofm = operation.ofm
    spans = {"h": y, "w": x, "c": c}
    sizes = {"h": ofm.height, "w": ofm.width, "c": ofm.depth}
    if operation.ofm_reverse != "none":
        begin, end = spans[operation.ofm_reverse]
        last = sizes[operation.ofm_reverse]
        spans[operation.ofm_reverse] = (last - end, last - begin)
    first, second, third = (spans[axis] for axis in operation.ofm_transpose)
    return box(ofm, first, second, third)


def box(feature_map: FeatureMap, y: Span, x: Span, c: Span) -> Intervals:
    """The bytes of a box of a feature map, in coordinates as stored."""
    if min(y[1] - y[0], x[1] - x[0], c[1] - c[0]) <= 0:
        return interval(0, 0)
    tiles = feature_map.tiles
    if x[1] <= tiles.width0 and y[1] <= tiles.height0:
        return _channels(feature_map, numpy.array(tiles.bases[0], numpy.int64), y, x, c)
    found = interval(0, 0)
    for is_right, across in ((False, (x[0], min(x[1], tiles.width0))), (True, (max(x[0], tiles.width0), x[1]))):
        split = tiles.height1 if is_right else tiles.height0
        shift_x = tiles.width0 if is_right else 0
        for is_lower, down in ((False, (y[0], min(y[1], split))), (True, (max(y[0], split), y[1]))):
            if across[1] <= across[0] or down[1] <= down[0]:
                continue
            shift_y = split if is_lower else 0
            base = numpy.array(tiles.bases[2 * is_lower + is_right], numpy.int64)
            inside = (down[0] - shift_y, down[1] - shift_y), (across[0] - shift_x, across[1] - shift_x)
            found = union(found, _channels(feature_map, base, *inside, c))
    return found


def _channels(feature_map: FeatureMap, base: Intervals, y: Span, x: Span, c: Span) -> Intervals:
    """The bytes of a box inside one tile."""
    size = feature_map.element_bytes
    start = int(base) + y[0] * feature_map.stride_y + x[0] * feature_map.stride_x
    shape, strides = (y[1] - y[0], x[1] - x[0]), (feature_map.stride_y, feature_map.stride_x)
    if not feature_map.is_brick:
        return strided(start + c[0] * size, shape, strides, (c[1] - c[0]) * size)
    found = interval(0, 0)
    first, last = c[0] // BRICK, (c[1] - 1) // BRICK
    whole = (-(-c[0] // BRICK), c[1] // BRICK)  # bricks with all of their channels
    if whole[1] > whole[0]:
        address = start + whole[0] * feature_map.stride_c
        count = whole[1] - whole[0]
        found = strided(address, (*shape, count), (*strides, feature_map.stride_c), BRICK * size)
    for brick in {first, last} - set(range(*whole)):
        inside = (max(c[0] - brick * BRICK, 0), min(c[1] - brick * BRICK, BRICK))
        address = start + brick * feature_map.stride_c + inside[0] * size
        found = union(found, strided(address, shape, strides, (inside[1] - inside[0]) * size))
    return found


def _of_range(what: str, place: Range) -> Access:
    return Access(what, place.region, interval(place.address, place.address + place.length))


def _of_compute(operation: Compute, config: Config) -> Footprint:
    reads = []
    for what, feature_map in (("ifm", operation.ifm), ("ifm2", operation.ifm2)):
        if feature_map is not None and feature_map.storage == "memory":
            reads.append(Access(what, feature_map.region, whole_input(feature_map)))
    reads += [_of_range("weights", place) for place in operation.weights if place.length]
    reads += [_of_range("scales", place) for place in operation.scales if place.length]
    activation = operation.activation
    spoils = []
    if activation.function == "table":
        if activation.table_kind not in TABLE_SIZES:
            raise SimulatorError(f"the look-up table {activation.table_kind} is not known")
        start = activation.table_at
        reads.append(Access("table", TABLES, interval(start, start + TABLE_SIZES[activation.table_kind])))
    elif config.family != "ethos-u85" and config.shram_kib // config.cores <= _SHARED_WITH_TABLES_KIB:
        spoils.append(Access("accumulators", TABLES, interval(0, TABLE_BYTES)))
    writes = []
    if operation.is_output_enabled and operation.ofm.storage == "memory":
        ofm = operation.ofm
        everything = output_box(operation, (0, ofm.height), (0, ofm.width), (0, ofm.depth))
        writes.append(Access("ofm", ofm.region, everything))
    return Footprint(tuple(reads), tuple(writes), tuple(spoils))


def _of_transfer(transfer: Transfer, config: Config) -> Footprint:
    source = _moved(transfer, transfer.source, transfer.source_strides, transfer.indexed == "source")
    destination = _moved(
        transfer, transfer.destination, transfer.destination_strides, transfer.indexed == "destination"
    )
    reads = [Access("source", transfer.source_region, source)]
    if transfer.indexes is not None:
        reads.append(_of_range("indexes", transfer.indexes))
    region = transfer.destination_region
    if transfer.to_table:
        region, destination = TABLES, destination - _tables_at(config)
    return Footprint(tuple(reads), (Access("destination", region, destination),))


def _tables_at(config: Config) -> int:
    """Where the look-up memory begins in the NPU's own: at its end, on Ethos-U85 at 0 (as the machines have it)."""
    return 0 if config.family == "ethos-u85" else 1024 * config.shram_kib // config.cores - TABLE_BYTES


def _moved(transfer: Transfer, address: int, strides: Span, is_indexed: bool) -> Intervals:
    """One side of a transfer. Which rows an index names is not known before it runs: all that it may name."""
    rows = transfer.largest_index + 1 if is_indexed else transfer.rows
    if rows == transfer.planes == 1:
        return runs(numpy.array([address], numpy.int64), transfer.length)
    return strided(address, (rows, transfer.planes), strides, transfer.length)
