"""Whether an operation may read what the one before it has not written yet, given its block dependency.

An operation computes its output block by block: through the depth first, then the width, then the height. With a block
dependency of n, its block i may begin while the last n - i blocks of the operation before it are not finished (what
Vela's block dependency is computed for). A block that sums over the depth of its input is one job for each part of it.

INFERRED, and by two counts. The bytes that a job needs follow from what it computes; where these may be read too
early, it cannot be ruled out that they are. Vela counts otherwise: it takes the input apart into boxes as large as what
a block needs, side by side. A dependency that this count forbids too is one that no compiler would write.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from mlia.simulator.container import Config
from mlia.simulator.feature_maps import stored_shape
from mlia.simulator.footprints import Span, box, output_box, whole_input
from mlia.simulator.intervals import Intervals, common, overlap
from mlia.simulator.operation import Compute, FeatureMap
from mlia.simulator.u85_resize import resized_from


class EarlyRead(Struct, frozen=True, eq=False):
    """Bytes of an input (`what`: "ifm" or "ifm2") that may be read too early; `is_certain` if both counts say so."""

    what: str
    region: int
    bytes: Intervals
    is_certain: bool


def early_reads(operation: Compute, before: Compute, config: Config, aliases: Mapping[int, int]) -> Iterator[EarlyRead]:
    """What of an operation's inputs may be read too early."""
    ofm = before.ofm
    if not operation.block_dependency or ofm.storage != "memory" or not before.is_output_enabled:
        return
    written = output_box(before, (0, ofm.height), (0, ofm.width), (0, ofm.depth))
    for what, feature_map in (("ifm", operation.ifm), ("ifm2", operation.ifm2)):
        if feature_map is None or feature_map.storage != "memory":
            continue
        if aliases.get(feature_map.region, feature_map.region) != aliases.get(ofm.region, ofm.region):
            continue
        if overlap(whole_input(feature_map), written):
            parts = _depth_parts(operation, config) if what == "ifm" else [(0, feature_map.depth)]
            found = _first_early(operation, before, partial(_needed, operation, feature_map, parts))
            if found is None:
                continue
            by_vela = _first_early(operation, before, partial(_boxed, operation, feature_map, parts))
            yield EarlyRead(what, feature_map.region, found, by_vela is not None)


def _first_early(operation: Compute, before: Compute, input_of: Callable[[int], Intervals | None]) -> Intervals | None:
    """The first bytes that a job reads and the operation before may not have written; None of what is no job."""
    for job in range(operation.block_dependency):
        read = input_of(job)
        if read is None:
            return None
        for back in range(operation.block_dependency - job):
            spans = _block(before, -1 - back)
            if spans is None:
                break
            written = output_box(before, *spans)
            if overlap(read, written):
                return common(read, written)
    return None


def _block(operation: Compute, index: int) -> tuple[Span, Span, Span] | None:
    """The box of a block of the output, counted from its beginning or (negative) its end; None if there is none."""
    ofm, block = operation.ofm, operation.block
    sizes = ((ofm.height, block.height), (ofm.width, block.width), (ofm.depth, block.depth))
    down, across, deep = (-(-size // step) for size, step in sizes)
    index = index if index >= 0 else down * across * deep + index
    if not 0 <= index < down * across * deep:
        return None
    places = (index // (across * deep), index // deep % across, index % deep)
    y, x, c = ((place * step, min((place + 1) * step, size)) for place, (size, step) in zip(places, sizes, strict=True))
    return y, x, c


def _boxed(operation: Compute, feature_map: FeatureMap, parts: Sequence[Span], job: int) -> Intervals | None:
    """A box of an input by Vela's count (Regor's generator): depth first, then the width, then the height."""
    kernel, block = operation.kernel, operation.block
    height, width = (
        (size - 1) * kernel.stride[axis] + (kernel.size[axis] - 1) * kernel.dilation[axis] + 1
        for axis, size in enumerate((block.height, block.width))
    )
    depth = parts[0][1] if _sums_over_depth(operation) else block.depth
    steps = (height, width, depth)
    sizes = stored_shape(feature_map)
    down, across, deep = (-(-size // step) for size, step in zip(sizes, steps, strict=True))
    if job >= down * across * deep:
        return None
    places = (job // (across * deep), job // deep % across, job % deep)
    y, x, c = (
        (place * step, min((place + 1) * step, size)) for place, step, size in zip(places, steps, sizes, strict=True)
    )
    return box(feature_map, y, x, c)


def _needed(operation: Compute, feature_map: FeatureMap, parts: Sequence[Span], job: int) -> Intervals | None:
    """What a job needs of an input; None if the operation has no such job."""
    spans = _block(operation, job // len(parts))
    if spans is None:
        return None
    if operation.is_matmul or operation.accumulator_source == "ifm2":
        return whole_input(feature_map)
    if operation.resize is not None:
        return box(feature_map, *resized_from(operation.resize, feature_map, spans[0], spans[1]), spans[2])
    depth = parts[job % len(parts)]
    if not _sums_over_depth(operation):
        depth = (0, 1) if feature_map.broadcast[2] else spans[2]
    if operation.kind == "elementwise":
        rows, columns = (
            (0, 1) if is_one else span for span, is_one in zip(spans[:2], feature_map.broadcast[:2], strict=True)
        )
        return box(feature_map, rows, columns, depth)
    before = (operation.padding.top, operation.padding.left)
    stored = (feature_map.height, feature_map.width)
    rows, columns = (_reach(operation, spans[axis], axis, before[axis], stored[axis]) for axis in (0, 1))
    if operation.kernel.size == (1, 1) and operation.upscale == "none" and not operation.padding.is_any:
        return _skipping(feature_map, operation.kernel.stride, rows, columns, depth)
    return box(feature_map, rows, columns, depth)


def _skipping(feature_map: FeatureMap, stride: tuple[int, int], rows: Span, columns: Span, depth: Span) -> Intervals:
    """The elements of a box that a kernel of one element needs: it steps over others."""
    tiles = feature_map.tiles
    if stride == (1, 1) or rows[1] > tiles.height0 or columns[1] > tiles.width0:
        return box(feature_map, rows, columns, depth)
    sparse = replace(feature_map, stride_y=feature_map.stride_y * stride[0], stride_x=feature_map.stride_x * stride[1])
    y, x = ((begin // step, -(-end // step)) for (begin, end), step in zip((rows, columns), stride, strict=True))
    return box(sparse, y, x, depth)


def _sums_over_depth(operation: Compute) -> bool:
    return operation.kind == "conv" or operation.mode == "reduce_sum" or operation.ifm.depth != operation.ofm.depth


def _reach(operation: Compute, span: Span, axis: int, padding: int, size: int) -> Span:
    """The rows or columns of an input, as stored, that some of an output need."""
    kernel = operation.kernel
    begin = span[0] * kernel.stride[axis] - padding
    end = (span[1] - 1) * kernel.stride[axis] - padding + (kernel.size[axis] - 1) * kernel.dilation[axis] + 1
    if operation.upscale != "none":
        begin, end = begin // 2, -(-end // 2)
    return max(begin, 0), min(max(end, 0), size)


def _depth_parts(operation: Compute, config: Config) -> list[Span]:
    """How the depth of an input is taken apart: as deep as its weights are ordered (facts of Vela's weight encoder)."""
    depth = operation.ifm.depth
    if operation.is_matmul or not (operation.kind == "conv" or operation.mode == "reduce_sum"):
        return [(0, depth)]
    most = 64 if config.family == "ethos-u85" else 32
    most = 16 if operation.kernel.is_part_kernel_first else most // operation.ifm.element_bytes
    return [(begin, min(begin + most, depth)) for begin in range(0, depth, most)]
