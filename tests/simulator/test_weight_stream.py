"""The entropy coding of weights, beside Vela's own encoder and decoder."""

from contextlib import suppress

import numpy as np
import pytest
from ethosu import mlw_codec
from hypothesis import given, settings
from hypothesis import strategies as st

from mlia.errors import SimulatorError
from mlia.simulator.weight_stream import decode_stream


def _weights(seed: int) -> np.ndarray:
    """Stretches of weights of different kinds: dense, few values, bell-shaped, zeros."""
    random = np.random.default_rng(seed)
    parts = []
    for _ in range(int(random.integers(1, 9))):
        count, kind = int(random.integers(1, 6000)), int(random.integers(5))
        if kind == 0:
            part = random.integers(-255, 256, count)
        elif kind == 1:
            part = random.choice(random.integers(-255, 256, int(random.integers(1, 33))), count)
        elif kind == 2:
            part = np.clip(np.round(random.normal(random.integers(-9, 9), random.uniform(0.3, 60), count)), -255, 255)
        elif kind == 3:
            part = np.where(random.random(count) < random.random(), 0, random.integers(-40, 41, count))
        else:
            part = np.zeros(count)
        parts.append(part.astype(np.int64))
    return np.concatenate(parts)


@pytest.mark.parametrize("seed", range(60))
def test_what_vela_encodes_is_decoded(seed: int) -> None:
    weights = _weights(seed)
    content = bytes(mlw_codec.encode(weights.tolist()))
    decoded = decode_stream(content)
    assert decoded.dtype == np.int16
    assert np.array_equal(decoded, weights)
    assert np.array_equal(decoded, mlw_codec.decode(bytearray(content)))


@given(st.lists(st.integers(-255, 255), min_size=1, max_size=60))
def test_any_weights(weights: list[int]) -> None:
    assert decode_stream(bytes(mlw_codec.encode(weights))).tolist() == weights


@pytest.mark.parametrize(
    "stream",
    [
        # Runs of zeros by 8 and by 12, with weights that are not coded by 8 and by 12: no encoder writes such.
        "e300680528861a3409178fbe46024864b3708800602431b045b1a400309804802619a8fcffff",
        "8a00fc0348a9710a102d5208c51c0820dec95ea028008162e72483fcffff",
        "2b017c506891585f5309010008c84008601101200800206b02009040180888742d0064202302060c200a2888ffff",
        "93005c078a0100020044002a125192040219012c0483c040001248d39a40c2e8ffff",
    ],
)
def test_slices_that_vela_reads_but_does_not_write(stream: str) -> None:
    content = bytes.fromhex(stream)
    assert decode_stream(content).tolist() == list(mlw_codec.decode(bytearray(content)))


def test_streams_behind_each_other_are_one() -> None:
    first, second = [3, 0, 0, -7], [0] * 100 + [255]
    content = b"".join(bytes(mlw_codec.encode(part)) for part in (first, second))
    assert decode_stream(content).tolist() == [*first, *second]


def test_nothing_but_padding_is_no_weights() -> None:
    assert decode_stream(b"\xff" * 16).tolist() == []


@settings(max_examples=200)
@given(st.integers(0, 1 << 16), st.integers(1, 400))
def test_damage_is_an_error_or_other_weights(place: int, length: int) -> None:
    content = bytearray(mlw_codec.encode(_weights(3).tolist())[:2000])
    content[place % len(content)] ^= 1 + place % 255
    with suppress(SimulatorError):
        assert abs(decode_stream(bytes(content[:length]))).max(initial=0) <= 255


@given(st.binary(max_size=60))
def test_any_bytes_are_weights_or_an_error(content: bytes) -> None:
    with suppress(SimulatorError):
        assert abs(decode_stream(content)).max(initial=0) <= 255


def test_a_cut_stream_is_refused() -> None:
    content = bytes(mlw_codec.encode(list(range(-120, 120))))
    with pytest.raises(SimulatorError, match="ends within a slice"):
        decode_stream(content[: len(content) // 2])
