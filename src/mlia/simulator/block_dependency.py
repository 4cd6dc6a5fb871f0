"""Whether an operation may read what the one before it has not written yet, given its block dependency.

An operation computes its output block by block: through the depth first, then the width, then the height. With a block
dependency of n, its block i may begin while the last n - i blocks of the operation before it are not finished (what
Vela's block dependency is computed for). INFERRED: blocks are counted as Vela counts them; a block of a convolution is
one job for each part of its input's depth.
"""

from collections.abc import Iterator, Mapping

from mlia.simulator.container import Config
from mlia.simulator.footprints import Span, box, output_box, whole_input
from mlia.simulator.intervals import Intervals, common, overlap
from mlia.simulator.operation import Compute, FeatureMap


def early_reads(
    operation: Compute, before: Compute, config: Config, aliases: Mapping[int, int]
) -> Iterator[tuple[str, FeatureMap, Intervals]]:
    """Inputs ("ifm" or "ifm2") and the bytes of them that may be read too early."""
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
            found = _first_early(operation, what, feature_map, before, config)
            if found is not None:
                yield what, feature_map, found


def _first_early(
    operation: Compute, what: str, feature_map: FeatureMap, before: Compute, config: Config
) -> Intervals | None:
    for job in range(operation.block_dependency):
        read = _job_input(operation, what, feature_map, job, config)
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


def _job_input(operation: Compute, what: str, feature_map: FeatureMap, job: int, config: Config) -> Intervals | None:
    """What a job reads of an input; None if the operation has no such job."""
    parts = _depth_parts(operation, config) if what == "ifm" else [(0, feature_map.depth)]
    spans = _block(operation, job // len(parts))
    if spans is None:
        return None
    if operation.kind == "resize" or operation.is_matmul or operation.accumulator_source == "ifm2":
        return whole_input(feature_map)
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
    return box(feature_map, rows, columns, depth)


def _sums_over_depth(operation: Compute) -> bool:
    return operation.kind == "conv" or operation.ifm.depth != operation.ofm.depth


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
    if operation.kind != "conv" or operation.is_matmul:
        return [(0, depth)]
    most = 64 if config.family == "ethos-u85" else 32
    most = 16 if operation.kernel.is_part_kernel_first else most // operation.ifm.element_bytes
    return [(begin, min(begin + most, depth)) for begin in range(0, depth, most)]
