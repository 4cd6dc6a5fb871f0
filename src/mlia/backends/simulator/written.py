"""What the NPU wrote while a stream ran, put together to the tensors of the model."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from math import prod

import numpy
from msgspec import Struct
from msgspec.structs import replace

from mlia.errors import SimulatorError
from mlia.graph.graph import Subgraph
from mlia.simulator.feature_maps import read_elements
from mlia.simulator.memory import Memory
from mlia.simulator.operation import Compute, FeatureMap
from mlia.transforms.calibration import Array


class Link(Struct, frozen=True):
    """Which operator of the main subgraph the operation at an offset of a stream is of.

    `makes_output` when it writes the operator's only output, or a part of it.
    """

    stream: int
    offset: int
    operator: int
    makes_output: bool


class Parts:
    """What operations wrote, by the operator of the model that it is an output of, or a part of one."""

    def __init__(self, main: Subgraph, links: Sequence[Link]) -> None:
        self._shapes = {
            operator.index: main.tensors[operator.outputs[0]].shape for operator in main.operators if operator.outputs
        }
        self._owners = {(link.stream, link.offset): link.operator for link in links if link.makes_output}
        self._written: dict[int, list[tuple[FeatureMap, Array]]] = defaultdict(list)
        self._wholes: dict[int, list[Array]] = {}

    def clear(self) -> None:
        """Forget what was written."""
        self._written.clear()
        self._wholes.clear()

    def watch(self, stream: int, operation: Compute, memory: Memory) -> None:
        """Keep what an operation wrote, and what then stands where all parts so far began."""
        owner = self._owners.get((stream, operation.offset))
        if owner is None or operation.ofm.storage != "memory" or owner not in self._shapes:
            return
        stored = _stored(operation)
        with suppress(SimulatorError):
            self._written[owner].append((stored, read_elements(memory, stored)))
        self._wholes[owner] = list(_wholes(memory, [each for each, _ in self._written[owner]], self._shapes[owner]))

    def candidates(self, owner: int) -> tuple[list[Array], bool]:
        """The ways in which what was written can be an operator's output, and whether there is one only."""
        written = self._written.get(owner)
        if not written:
            return [], False
        elements = prod(self._shapes[owner])
        if len(written) == 1 and written[0][1].size == elements and _is_natural(written[0][0]):
            return [written[0][1]], True
        found = list(self._wholes.get(owner, ()))
        for group in _groups([each for each, _ in written]):
            found += _arrangements([written[number][1] for number in group], elements)
        return found, False


def _stored(operation: Compute) -> FeatureMap:
    """An output as it is in memory: Ethos-U85 can turn its axes while it writes."""
    ofm = operation.ofm
    sizes = {"h": ofm.height, "w": ofm.width, "c": ofm.depth}
    height, width, depth = (sizes[axis] for axis in operation.ofm_transpose)
    return replace(ofm, height=height, width=width, depth=depth)


def _groups(maps: Sequence[FeatureMap]) -> Iterator[list[int]]:
    """The parts that may make a tensor: those of one region, also without the first, which may be a padded copy."""
    for region in dict.fromkeys(each.region for each in maps):
        group = [number for number, each in enumerate(maps) if each.region == region]
        yield group
        if len(group) > 1:
            yield group[1:]


def _natural_strides(feature_map: FeatureMap) -> tuple[int, int, int]:
    """Strides (y, x, c) in bytes of rows of pixels, or of bricks of 16 channels, that lie one after the other."""
    width, depth, size = feature_map.width, feature_map.depth, feature_map.element_bytes
    if feature_map.is_brick:
        brick = width * 16 * size
        return -(-depth // 16) * brick, 16 * size, brick
    return width * depth * size, depth * size, size


def _is_natural(feature_map: FeatureMap) -> bool:
    """Whether a map lies in memory as a tensor of its shape does."""
    y, x, c = _natural_strides(feature_map)
    return (
        (feature_map.height == 1 or feature_map.stride_y == y)
        and (feature_map.width == 1 or feature_map.stride_x == x)
        and (not feature_map.is_brick or feature_map.depth <= 16 or feature_map.stride_c == c)
    )


def _wholes(memory: Memory, maps: Sequence[FeatureMap], shape: Sequence[int]) -> Iterator[Array]:
    """The whole tensor in memory, if its parts lie where they belong: rows of pixels, or bricks of 16 channels."""
    height, width, depth = (1, 1, 1, *shape)[-3:]
    height *= prod(shape[:-3])
    for group in _groups(maps):
        written = sum(maps[number].height * maps[number].width * maps[number].depth for number in group)
        if written < prod(shape):  # others write the rest, perhaps later
            continue
        first = min((maps[number] for number in group), key=lambda each: each.tiles.bases[0])
        tiles = replace(first.tiles, width0=width, height0=height, height1=height)
        whole = replace(first, tiles=tiles, height=height, width=width, depth=depth)
        strides = _natural_strides(whole)
        whole = replace(whole, stride_y=strides[0], stride_x=strides[1], stride_c=strides[2])
        with suppress(SimulatorError):  # a buffer that rolls holds only a part
            yield read_elements(memory, whole)


def _arrangements(parts: Sequence[Array], elements: int) -> Iterable[Array]:
    """The ways in which parts (height, width, channels) can make a whole of so many elements."""
    if sum(part.size for part in parts) != elements:
        if parts and parts[-1].size == elements:  # computed in place, step by step
            yield parts[-1]
        return
    if len(parts) == 1:
        yield parts[0]
        return
    for axis in (2, 0, 1):
        shapes = {tuple(size for each, size in enumerate(part.shape) if each != axis) for part in parts}
        if len(shapes) == 1:
            yield numpy.concatenate(parts, axis)
    # Stripes of rows, each in slices of channels; or slices of channels, each in stripes.
    for count in range(2, len(parts)):
        if len(parts) % count:
            continue
        groups = [parts[at : at + count] for at in range(0, len(parts), count)]
        for inner, outer in ((2, 0), (0, 2)):
            try:
                yield numpy.concatenate([numpy.concatenate(group, inner) for group in groups], outer)
            except ValueError:
                continue
