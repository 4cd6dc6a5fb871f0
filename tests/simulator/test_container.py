"""Driver payloads: what they say of the NPU, and damage."""

from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlia.errors import SimulatorError
from mlia.simulator.container import Config, read_program
from tests.simulator.disassembly import programs_of

_STREAM = [0x00010105, 0xFFFF0000]


def _payload(*words: int) -> bytes:
    return b"COP1" + numpy.array(words, "<u4").tobytes()


def _with_config(register: int) -> bytes:
    return _payload(0x1 | 1 << 20, register, 0, 5, 5, 5, 0x2 | len(_STREAM) << 16, *_STREAM)


@pytest.mark.parametrize(
    ("register", "config"),
    [
        (0x00001005, Config(0, "ethos-u55", 32, 16, 1)),
        (0x00003008, Config(0, "ethos-u55", 256, 48, 1)),
        (0x10003008, Config(1, "ethos-u65", 256, 48, 1)),
        (0x10006009, Config(1, "ethos-u65", 512, 96, 2)),
        (0x2000010B, Config(2, "ethos-u85", 2048, 0, 1)),
    ],
)
def test_reads_the_npu_and_the_stream(register: int, config: Config) -> None:
    program = read_program(_with_config(register))
    assert program.config == config
    assert program.words.tolist() == _STREAM
    assert program.words.dtype == numpy.uint32


def test_a_long_stream_has_more_than_16_bits_of_length() -> None:
    words = [0x00010105] * 0x12345
    program = read_program(_payload(1, 0x00003008, 0, 0x2 | 0x01 << 8 | 0x2345 << 16, *words))
    assert len(program.words) == 0x12345


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"COP2" + b"\0" * 12, "begins with COP1"),
        (b"COP1\1", "32-bit words"),
        (_payload(1, 0x00003008, 0), "no command stream"),
        (_payload(2 | 1 << 16, 0), "no configuration"),
        (_payload(1, 0x00003008), "ends in the middle"),
        (_payload(1, 0x00003008, 0, 2 | 9 << 16, 0), "ends in the middle"),
        (_payload(1, 0x30003008, 0), "product 3"),
        (_payload(1, 0x00003009, 0), "no ethos-u55 with 512 MACs"),
        (_payload(1, 0x00003008, 0, 3, 0), "driver action 0x3 at byte 16"),
        (_payload(1, 0x00003008, 0, 0, 5), "empty action at byte 16"),
        (_payload(1, 0x00003008, 0, 2, 2), "more than one command stream"),
    ],
)
def test_what_is_not_known_is_an_error(payload: bytes, message: str) -> None:
    with pytest.raises(SimulatorError, match=message):
        read_program(payload)


@given(st.binary(max_size=64))
def test_any_damage_is_one_kind_of_error(noise: bytes) -> None:
    payload = b"COP1" + noise
    try:
        program = read_program(payload)
    except SimulatorError:
        return
    assert 4 * len(program.words) < len(payload)


def test_reads_a_model_of_an_older_vela(shared: Path) -> None:
    content = (shared / "tflite_micro/person_detect_vela.tflite").read_bytes()
    assert [program.config.name for program in programs_of(content)] == ["ethos-u55-256"]
