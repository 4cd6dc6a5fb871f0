"""The order of weights beside Vela's own reordering, which has that of Ethos-U55 and U65."""

import numpy as np
import pytest
from ethosu import mlw_codec

from mlia.simulator.weight_order import Traversal, order
from mlia.simulator.weight_stream import decode_stream


def _theirs(
    weights: np.ndarray, unit: int, block: int, kind: str, bits: int, sub_kernel: tuple[int, int]
) -> np.ndarray:
    """Weights as (outputs, height, width, inputs) in Vela's order."""
    content, _ = mlw_codec.reorder_encode(
        8, unit, weights, block, kind == "depthwise", kind == "part kernel", bits, *sub_kernel
    )
    return decode_stream(bytes(content))


def _ours(unit: int, block: int, kind: str, bits: int, sub_kernel: tuple[int, int]) -> Traversal:
    inputs = 16 if kind == "part kernel" or bits == 16 else 32
    if kind == "depthwise":
        return Traversal(block, unit, tuple(range(unit)), 1, 1, 1, sub_kernel, 4)
    if kind == "part kernel":
        return Traversal(block, unit, tuple(range(unit)), inputs, 8, 8, sub_kernel, 4 if bits == 8 else 2)
    return Traversal(block, unit, tuple(range(unit)), inputs, inputs, 8, sub_kernel)


@pytest.mark.parametrize("kind", ["depthwise", "part kernel", "depth first"])
@pytest.mark.parametrize("seed", range(20))
def test_the_order_is_velas(kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    unit, bits = int(random.choice([4, 8])), int(random.choice([8, 16]))
    block = int(random.choice([random.integers(1, 70), unit * random.integers(1, 9)]))
    sub_kernel = tuple(int(size) for size in random.choice([4, 8], 2))
    height, width = (int(size) for size in random.integers(1, 12, 2))
    inputs = 1 if kind == "depthwise" else int(random.integers(1, 70))
    weights = random.integers(1, 128, (int(random.integers(1, 70)), height, width, inputs)).astype(np.int16)
    places = order(_ours(unit, block, kind, bits, (sub_kernel[0], sub_kernel[1])), weights.shape)
    ordered = np.where(places < 0, 0, weights.ravel()[np.maximum(places, 0)])
    assert np.array_equal(ordered, _theirs(weights, unit, block, kind, bits, (sub_kernel[0], sub_kernel[1])))


def test_ethos_u85_goes_back_and_forth() -> None:
    traversal = Traversal(2, 2, (0, 1), 1, 1, 1, (8, 8), 5, 1, (1, 2), is_serpentine=True, is_column_first=True)
    places = order(traversal, (3, 2, 3, 1)).tolist()
    pad = -1
    # Even columns then odd ones, each row back where the last ended; five taps, then one of padding, and again.
    expected = [0, 2, 5, 3, 1, pad, 4, pad, pad, pad, pad, pad]
    first = [(channel, tap) for tap in expected for channel in (0, 1)]
    assert [max(place, -1) for place in places[:24]] == [pad if tap == pad else 6 * c + tap for c, tap in first]
    # The last channel has a unit of its own, half of it padding.
    assert [max(place, -1) for place in places[24::2]] == [pad if tap == pad else 12 + tap for tap in expected]
    assert max(places[25::2]) < 0


def test_two_cores_share_all_outputs() -> None:
    def of_core(core: int) -> set[int]:
        traversal = Traversal(8, 8, tuple(range(8)), 16, 8, 8, (8, 8), 4, first_output=core, output_stride=2)
        return {place for place in order(traversal, (21, 3, 3, 5)).tolist() if place >= 0}

    assert of_core(0) | of_core(1) == set(range(21 * 45))
    assert not of_core(0) & of_core(1)
    assert {place // 45 % 2 for place in of_core(1)} == {1}
