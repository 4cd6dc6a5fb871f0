"""Ethos-U85's fast weight format, with an encoder of its own: Vela seldom takes it."""

import numpy as np
import pytest

from mlia.errors import SimulatorError
from mlia.simulator.fast_weights import decode_fast


def _encoded(items: list[int], width: int, table: tuple[int, ...] = (), added: int = 0, flags: int = 0) -> bytes:
    folded = [abs(value) << 1 | (value < 0) for value in table]
    header = flags | (added & 0xFF) << 104 | sum(value << 112 + 9 * index for index, value in enumerate(folded))
    body = sum((item & (1 << width) - 1) << width * index for index, item in enumerate(items))
    size = -(-len(items) * width // 256) * 32
    return header.to_bytes(32, "little") + body.to_bytes(size, "little")


def test_a_table_of_sixteen() -> None:
    table = (0, 1, -1, 255, -255, 100, -100, 7, 8, 9, 10, 11, 12, 13, 14, -15)
    indices = np.random.default_rng(1).integers(0, 16, 77).tolist()
    decoded = decode_fast(_encoded(indices, 4, table), 77)
    assert decoded.dtype == np.int16
    assert decoded.tolist() == [table[index] for index in indices]


def test_a_small_table() -> None:
    table, indices = (0, -3, 200, 5), [3, 0, 1, 2, 2, 1, 0, 3, 1]
    assert decode_fast(_encoded(indices, 2, table, flags=2), 9).tolist() == [table[index] for index in indices]


@pytest.mark.parametrize(("low", "high", "added"), [(-128, 127, 0), (-200, 50, 72), (-10, 240, -113)])
def test_raw_weights_are_moved_into_a_byte(low: int, high: int, added: int) -> None:
    weights = [*range(low, high + 1)]
    assert (
        decode_fast(_encoded([w + added for w in weights], 8, added=added, flags=1), len(weights)).tolist() == weights
    )


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(SimulatorError, match="bits set that are not known"):
        decode_fast(_encoded([0], 4, flags=3), 1)
    with pytest.raises(SimulatorError, match="bits set that are not known"):
        decode_fast(_encoded([0], 4, flags=1 << 50), 1)
    with pytest.raises(SimulatorError, match="too short for 65 weights"):
        decode_fast(_encoded([0] * 64, 4), 65)
    with pytest.raises(SimulatorError, match="has no header"):
        decode_fast(b"\0" * 16, 1)
