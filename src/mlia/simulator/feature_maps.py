"""Feature maps in memory: reading and writing arrays of (height, width, channels), and what is done to inputs.

An element of a plain map (NHWC) is at base + y * stride_y + x * stride_x + c * element_bytes; of one in bricks
(NHCWB16) at base + y * stride_y + x * stride_x + (c // 16) * stride_c + (c % 16) * element_bytes. A map has up to four
tiles, each with its own base, where the coordinates begin at 0 again (Vela's register command stream generator; agrees
with LiteRT's reference in a fuzz).
"""

from collections.abc import Iterator
from typing import Any

import numpy
from msgspec import Struct
from numpy.typing import DTypeLike, NDArray

from mlia.errors import SimulatorError
from mlia.simulator.memory import Memory
from mlia.simulator.operation import FeatureMap, Padding

BRICK = 16  # channels that NHCWB16 keeps together

Integers = NDArray[numpy.int64]


class _Part(Struct, frozen=True):
    """A box of a feature map that one base and constant strides describe; `box` indexes the map."""

    box: tuple[slice, slice, slice]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    address: int


def element_type(feature_map: FeatureMap) -> numpy.dtype[Any]:
    """The numpy type of an element: little-endian, signed or not."""
    if feature_map.element_bytes not in (1, 2, 4, 8):
        raise SimulatorError(f"a feature map has elements of {feature_map.element_bytes} bytes")
    return numpy.dtype(f"<{'i' if feature_map.is_signed else 'u'}{feature_map.element_bytes}")


def stored_shape(feature_map: FeatureMap) -> tuple[int, int, int]:
    """Height, width and channels in memory: 1 along an axis that is broadcast."""
    sizes = (feature_map.height, feature_map.width, feature_map.depth)
    height, width, depth = (
        1 if is_broadcast else size for size, is_broadcast in zip(sizes, feature_map.broadcast, strict=True)
    )
    return height, width, depth


def read_elements(memory: Memory, feature_map: FeatureMap, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """A copy of the map, (height, width, channels), in its own type or another; its zero point is still in it.

    Raises:
        SimulatorError: it leaves its region, or is not in memory.
    """
    if feature_map.storage != "memory":
        raise SimulatorError(f"a feature map that is {feature_map.storage} cannot be read from memory")
    stored = element_type(feature_map)
    values = numpy.empty(stored_shape(feature_map), stored if dtype is None else dtype)
    for part in _parts(feature_map):
        values[part.box] = _view(memory, feature_map, part, stored).reshape(values[part.box].shape)
    return values


def read(memory: Memory, feature_map: FeatureMap) -> Integers:
    """The map as int64, (height, width, channels); a scalar as (1, 1, 1). Its zero point is still in it."""
    if feature_map.storage == "scalar":
        if feature_map.scalar is None:
            raise SimulatorError("an operand is a scalar, but no scalar was set")
        return numpy.full((1, 1, 1), feature_map.scalar, numpy.int64)
    return read_elements(memory, feature_map, numpy.int64)


def write(memory: Memory, feature_map: FeatureMap, values: NDArray[Any]) -> None:
    """Store (height, width, channels) in memory. Values must fit; nothing but the map's own bytes changes.

    Raises:
        SimulatorError: it leaves its region, is not in memory, or has another shape.
    """
    if feature_map.storage != "memory":
        raise SimulatorError(f"a feature map that is {feature_map.storage} cannot be written to memory")
    if values.shape != stored_shape(feature_map):
        raise SimulatorError(f"a result of {values.shape} does not fit an output of {stored_shape(feature_map)}")
    dtype = element_type(feature_map)
    for part in _parts(feature_map):
        view = _view(memory, feature_map, part, dtype)
        view[:] = values[part.box].reshape(view.shape)


def upscaled(values: NDArray[Any], mode: str) -> NDArray[Any]:
    """An input (height, width, channels), its zero point removed, at twice the height and width.

    "nearest" repeats every element; "zeros" puts zeros into odd rows and columns (Vela's IFM_UPSCALE modes).
    """
    if mode == "none":
        return values
    if mode == "nearest":
        return values.repeat(2, axis=0).repeat(2, axis=1)
    if mode != "zeros":
        raise SimulatorError(f"upscaling {mode} is not known")
    height, width, depth = values.shape
    spread = numpy.zeros((2 * height, 2 * width, depth), values.dtype)
    spread[::2, ::2] = values
    return spread


def padded(values: NDArray[Any], padding: Padding, size: tuple[int, int], fill: int = 0) -> NDArray[Any]:
    """An input with its padding around it, cropped at the bottom and right to `size` (height, width).

    Raises:
        SimulatorError: it is smaller than that, even with its padding.
    """
    height = min(values.shape[0], size[0] - padding.top)
    width = min(values.shape[1], size[1] - padding.left)
    if size[0] - padding.top - height > padding.bottom or size[1] - padding.left - width > padding.right:
        raise SimulatorError(f"an input of {values.shape} is less than {size[0]} x {size[1]} with its padding")
    if (height, width) == size and values.shape[:2] == size:
        return values
    around = numpy.full((*size, values.shape[2]), fill, values.dtype)
    around[padding.top : padding.top + height, padding.left : padding.left + width] = values[:height, :width]
    return around


def _parts(feature_map: FeatureMap) -> Iterator[_Part]:
    """The boxes of a map: per tile, and in bricks the full ones apart from a last that is not."""
    height, width, depth = stored_shape(feature_map)
    tiles = feature_map.tiles
    border = min(width, tiles.width0)
    left = (slice(0, border), tiles.height0, tiles.bases[0], tiles.bases[2])
    right = (slice(border, width), tiles.height1, tiles.bases[1], tiles.bases[3])
    for across, split, upper, lower in (left, right):
        top = min(height, split)
        for down, base in ((slice(0, top), upper), (slice(top, height), lower)):
            if down.stop > down.start and across.stop > across.start and depth:
                yield from _boxes(feature_map, down, across, depth, base)


def _boxes(feature_map: FeatureMap, down: slice, across: slice, depth: int, base: int) -> Iterator[_Part]:
    extent = (down.stop - down.start, across.stop - across.start)
    step, strides = feature_map.element_bytes, (feature_map.stride_y, feature_map.stride_x)
    full = depth - depth % BRICK if feature_map.is_brick else 0
    if full:
        shape = (*extent, full // BRICK, BRICK)
        yield _Part((down, across, slice(0, full)), shape, (*strides, feature_map.stride_c, step), base)
    if full < depth:
        address = base + full // BRICK * feature_map.stride_c
        yield _Part((down, across, slice(full, depth)), (*extent, depth - full), (*strides, step), address)


def _view(memory: Memory, feature_map: FeatureMap, part: _Part, dtype: numpy.dtype[Any]) -> NDArray[Any]:
    """Memory seen as the box of a part."""
    reaches = [(size - 1) * stride for size, stride in zip(part.shape, part.strides, strict=True)]
    low = part.address + sum(reach for reach in reaches if reach < 0)
    high = part.address + sum(reach for reach in reaches if reach > 0) + dtype.itemsize
    region = memory.checked(feature_map.region, low, high)
    return numpy.ndarray(part.shape, dtype, buffer=region.data, offset=part.address, strides=part.strides)
