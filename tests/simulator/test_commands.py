"""Commands against Vela's own disassembly of the streams it writes, and what is no command."""

from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlia.errors import SimulatorError
from mlia.simulator.commands import KINDS, commands
from mlia.simulator.container import Config, Program
from tests.simulator.disassembly import difference, disassemble
from tests.simulator.single_operators import draw

_CONFIGS = {
    "ethos-u55": Config(0, "ethos-u55", 128, 24, 1),
    "ethos-u65": Config(1, "ethos-u65", 512, 96, 2),
    "ethos-u85": Config(2, "ethos-u85", 256, 0, 1),
}
_TARGETS = ("ethos-u55-128", "ethos-u65-512", "ethos-u85-1024")
# Between them: strides, scalars, broadcasts, tables, negative strides, resizes, matrices, chains, indexed transfers.
_OPERATORS = (
    ("convolution", "int16"), ("add_constant", "int8"), ("softmax", "int8"), ("tanh", "int16"),
    ("leaky_relu", "int16"), ("transpose_convolution", "int8"),
)  # fmt: skip


def program(family: str, *words: int) -> Program:
    return Program(_CONFIGS[family], numpy.array(words, numpy.uint32))


def _assert_same(content: bytes, target: str) -> None:
    said = disassemble(content, target)
    read = [command for part in said.programs for command in commands(part)]
    assert len(read) == len(said.lines) > 0
    assert [text for text in map(difference, read, said.lines) if text] == []
    assert all(part.config.name == target for part in said.programs)


@pytest.mark.parametrize("target", _TARGETS)
def test_names_and_fields_are_vela_s_own(target: str, sample: Path) -> None:
    _assert_same(sample.read_bytes(), target)


@pytest.mark.parametrize(("kind", "dtype"), _OPERATORS)
@pytest.mark.parametrize("target", ["ethos-u55-256", "ethos-u85-256"])
def test_single_operators_are_read_as_vela_writes_them(target: str, kind: str, dtype: str) -> None:
    _assert_same(draw(kind, dtype, 0).content, target)


def test_a_command_has_its_words_and_its_offset() -> None:
    first, second, stop = commands(program("ethos-u55", 0x00FF4015, 0xFFFFFE80, 0xFF800118, 0xFFFF0000))
    assert (first.offset, first.name, first.opcode) == (0, "NPU_SET_OFM_STRIDE_Y", 0x4015)
    assert (first.parameter, first.payload, first.fields) == (0xFF, 0xFFFFFE80, {"stride": -384})
    assert (second.offset, second.payload, second.fields) == (8, None, {"zero_point": -128})
    assert (stop.offset, stop.name, stop.is_operation) == (12, "NPU_OP_STOP", True)


@pytest.mark.parametrize(
    ("family", "words", "message"),
    [
        ("ethos-u55", (0x00000004,), "command 0x0004 at byte 0x0 is not known of an ethos-u55"),
        ("ethos-u55", (0x00000007,), "0x0007"),  # RESIZE is of Ethos-U85
        ("ethos-u55", (0x00000123,), "0x0123"),  # PARALLEL_MODE is of Ethos-U65
        ("ethos-u85", (0x00008002,), "0x8002"),  # two payload words
        ("ethos-u85", (0x00004100, 0), "0x4100"),  # BRANCH: no stream of Vela has one
        ("ethos-u55", (0x00010002,), "NPU_OP_CONV at byte 0x0 sets bits that are not known: 0x1"),
        ("ethos-u55", (0x000A0006,), "unknown elementwise_mode: 10"),  # LSR is of Ethos-U85
        ("ethos-u55", (0x00010105, 0x00004000), "in the middle of NPU_SET_IFM_BASE0 at byte 0x4"),
    ],
)
def test_what_is_not_known_is_an_error(family: str, words: tuple[int, ...], message: str) -> None:
    with pytest.raises(SimulatorError, match=message):
        list(commands(program(family, *words)))


@pytest.mark.parametrize("family", KINDS)
def test_fields_do_not_overlap_and_fit(family: str) -> None:
    for opcode, kind in KINDS[family].items():
        bits = [bit for field in kind.fields for bit in range(field.low, field.low + field.width)]
        assert len(bits) == len(set(bits)), kind.name
        assert max(bits, default=0) < (48 if opcode & 0x4000 else 16), kind.name


@given(st.sampled_from(sorted(KINDS)), st.lists(st.integers(0, 2**32 - 1), max_size=4))
def test_any_words_are_commands_or_one_kind_of_error(family: str, words: list[int]) -> None:
    try:
        read = list(commands(program(family, *words)))
    except SimulatorError:
        return
    assert sum(1 if command.payload is None else 2 for command in read) == len(words)
