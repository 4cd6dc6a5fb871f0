"""Addresses of elements, against the formula element by element; upscaling and padding."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlia.errors import SimulatorError
from mlia.simulator import feature_maps
from mlia.simulator.memory import Memory
from mlia.simulator.operation import FeatureMap, Padding, Tiles

SIZE = 1 << 16


def _memory() -> Memory:
    return Memory({1: numpy.random.default_rng(0).integers(0, 256, SIZE).astype(numpy.uint8)})


def _map(shape: tuple[int, int, int], *, brick: bool = False, element_bytes: int = 1, tiles: Tiles | None = None,
         sign: int = 1, base: int = 1 << 15) -> FeatureMap:  # fmt: skip
    height, width, depth = shape
    x = (16 if brick else depth) * element_bytes
    y, c = width * x + 6, height * (width * x + 6)
    whole = Tiles((base, 0, 0, 0), width, height, height)
    return FeatureMap(1, tiles or whole, height, width, depth, sign * y, x, c if brick else element_bytes,
                      element_bytes, True, brick, 0)  # fmt: skip


def _address(m: FeatureMap, y: int, x: int, c: int) -> int:
    right = x >= m.tiles.width0
    split = m.tiles.height1 if right else m.tiles.height0
    base = m.tiles.bases[right + 2 * (y >= split)]
    y, x = (y - split if y >= split else y), (x - m.tiles.width0 if right else x)
    inner = c // 16 * m.stride_c + c % 16 * m.element_bytes if m.is_brick else c * m.element_bytes
    return base + y * m.stride_y + x * m.stride_x + inner


def _expected(memory: Memory, m: FeatureMap) -> list[int]:
    region, found = memory.region(1).tobytes(), []
    for y, x, c in numpy.ndindex(m.height, m.width, m.depth):
        at = _address(m, y, x, c)
        found.append(int.from_bytes(region[at : at + m.element_bytes], "little", signed=m.is_signed))
    return found


shapes = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 40))


@given(shapes, st.booleans(), st.sampled_from([1, 2, 4]), st.sampled_from([1, -1]))
def test_reads_every_element(shape: tuple[int, int, int], brick: bool, element_bytes: int, sign: int) -> None:
    memory, m = _memory(), _map(shape, brick=brick, element_bytes=element_bytes, sign=sign)
    assert feature_maps.read(memory, m).ravel().tolist() == _expected(memory, m)


@given(shapes, st.booleans(), st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)))
def test_reads_four_tiles(shape: tuple[int, int, int], brick: bool, border: tuple[int, int, int]) -> None:
    tiles = Tiles((100, 15000, 30000, 45000), *border)
    memory, m = _memory(), _map(shape, brick=brick, element_bytes=2, tiles=tiles)
    assert feature_maps.read(memory, m).ravel().tolist() == _expected(memory, m)


@given(shapes, st.booleans(), st.sampled_from([1, 2, 4]))
def test_writes_nothing_else(shape: tuple[int, int, int], brick: bool, element_bytes: int) -> None:
    memory, m = _memory(), _map(shape, brick=brick, element_bytes=element_bytes)
    before, values = memory.region(1).copy(), numpy.arange(numpy.prod(shape)).reshape(shape) % 128
    feature_maps.write(memory, m, values)
    assert feature_maps.read(memory, m).tolist() == values.tolist()
    owned = {_address(m, *at) + k for at in numpy.ndindex(*shape) for k in range(element_bytes)}
    changed = set(numpy.flatnonzero(before != memory.region(1)).tolist())
    assert changed <= owned


def test_bounds_are_of_the_elements() -> None:
    memory = Memory({1: numpy.zeros(24, numpy.uint8)})
    m = _map((2, 3, 4), base=0)
    with pytest.raises(SimulatorError, match="0x0 to 0x1e of region 1"):
        feature_maps.read(memory, m)
    with pytest.raises(SimulatorError, match="region 1"):
        feature_maps.read(memory, _map((2, 1, 2), sign=-1, base=0))


def test_a_broadcast_axis_is_stored_once() -> None:
    import msgspec

    memory = _memory()
    m = msgspec.structs.replace(_map((4, 5, 6)), broadcast=(True, False, True))
    assert feature_maps.read(memory, m).shape == (1, 5, 1)


def test_scalars() -> None:
    import msgspec

    m = msgspec.structs.replace(_map((4, 5, 6)), storage="scalar", scalar=-7)
    assert feature_maps.read(_memory(), m).tolist() == [[[-7]]]
    with pytest.raises(SimulatorError, match="scalar"):
        feature_maps.write(_memory(), m, numpy.zeros((4, 5, 6)))
    with pytest.raises(SimulatorError, match="no scalar"):
        feature_maps.read(_memory(), msgspec.structs.replace(m, scalar=None))


def test_upscaling() -> None:
    x = numpy.array([[[1], [2]]])
    assert feature_maps.upscaled(x, "nearest")[..., 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]
    assert feature_maps.upscaled(x, "zeros")[..., 0].tolist() == [[1, 0, 2, 0], [0, 0, 0, 0]]
    with pytest.raises(SimulatorError, match="cubic"):
        feature_maps.upscaled(x, "cubic")


def test_padding_fills_and_crops() -> None:
    x = numpy.arange(1, 7).reshape(2, 3, 1)
    around = feature_maps.padded(x, Padding(1, 1, 0, 0), (3, 3), fill=-1)
    assert around[..., 0].tolist() == [[-1, -1, -1], [-1, 1, 2], [-1, 4, 5]]
    beyond = feature_maps.padded(x, Padding(0, 0, 1, 2), (3, 5))
    assert beyond[..., 0].tolist() == [[1, 2, 3, 0, 0], [4, 5, 6, 0, 0], [0, 0, 0, 0, 0]]
    assert feature_maps.padded(x, Padding(0, 0, 0, 0), (2, 3)) is x
    with pytest.raises(SimulatorError, match="3 x 3 with its padding"):
        feature_maps.padded(x, Padding(0, 0, 0, 0), (3, 3))
