"""The stream as text: every command has its line, every operation its sentence."""

from pathlib import Path

import pytest

from mlia.simulator.commands import commands
from mlia.simulator.listing import in_words, listing
from mlia.simulator.operation import Range, Transfer, Wait
from tests.simulator.disassembly import disassemble
from tests.simulator.single_operators import draw
from tests.simulator.test_commands import program


@pytest.mark.parametrize("target", ["ethos-u55-256", "ethos-u65-512", "ethos-u85-2048"])
def test_every_command_has_its_line(target: str, sample: Path) -> None:
    (stream,) = disassemble(sample.read_bytes(), target).programs
    lines = [line.split() for line in listing(stream) if line.startswith("0x")]
    assert [(int(line[0], 16), line[1]) for line in lines] == [
        (command.offset, command.name) for command in commands(stream)
    ]


def test_the_sample_in_words(sample: Path) -> None:
    (stream,) = disassemble(sample.read_bytes(), "ethos-u55-256").programs
    text = "\n".join(listing(stream))
    assert text.startswith("; ethos-u55-256, 48 KiB of shared RAM, ")
    assert "\n; copy 1120 bytes from read-only 0x0 to arena 0x2e50\n0x000000  NPU_SET_DMA0_SRC_REGION" in text
    assert (
        "\n; convolution 10x4, stride 2x2, padding 4 1 5 1 of 49x10x1 int8 at arena 0x2c60 to 25x5x16 int8 bricks at "
        "arena 0x0; 960 bytes of weights at arena 0x2ef0; 160 bytes of scales at arena 0x2e50; clipped to -128..127\n"
    ) in text
    assert "NPU_SET_IFM_HEIGHT0_M1      height 49\n" in text
    assert "NPU_SET_OFM_ZERO_POINT      zero point -128\n" in text
    assert "type signed, precision 8 bits, format nhwc, scale mode opa opb 16, round mode double\n" in text
    assert "NPU_OP_DMA_WAIT             wait until at most 0 transfers are under way\n" in text
    assert text.endswith("; end\n" + text.splitlines()[-1])


def test_where_operations_come_from_is_said() -> None:
    (stream,) = disassemble(draw("convolution_1x1", "int8", 0).content, "ethos-u55-128").programs
    lines = list(listing(stream, lambda operation: f"from {operation.offset}"))
    ends = [command.offset for command in commands(stream) if command.is_operation and "WAIT" not in command.name]
    assert [line.rsplit("[")[-1] for line in lines[1:] if line.startswith(";")] == [f"from {end}]" for end in ends]


@pytest.mark.parametrize(
    ("kind", "dtype", "target", "words"),
    [
        ("tanh", "int8", "ethos-u85-256", "then table 0 (s8 to s8)"),
        ("tanh", "int16", "ethos-u55-256", "then tanh"),
        ("transpose_convolution", "int8", "ethos-u55-256", "upscaled 2x (zeros)"),
        ("batch_matmul", "int8", "ethos-u85-256", "; matrix multiplication of "),
        ("softmax", "int8", "ethos-u85-256", "(chained 0)"),
        ("softmax", "int8", "ethos-u55-256", "then table 0 (s8 to s32)"),
    ],
)
def test_what_is_special_is_said(kind: str, dtype: str, target: str, words: str) -> None:
    (stream,) = disassemble(draw(kind, dtype, 0).content, target).programs
    assert any(words in line for line in listing(stream))


def test_transfers_and_waits_in_words() -> None:
    assert in_words(Transfer(0, 0, 16, 3, 64, 256, to_table=True)) == (
        "copy 256 bytes from read-only 0x10 to table memory 0x40"
    )
    rows = Transfer(0, 1, 0, 2, 0, 10, mode="2d", rows=3, indexed="source", indexes=Range(0, 32, 12))
    assert in_words(rows) == (
        "copy 3 rows of 10 bytes from arena 0x0 to fast scratch 0x0, the source's as the indexes at read-only 0x20 say"
    )
    assert in_words(Wait(0, "kernel", 1)) == "wait until at most 1 operations are under way"


def test_a_stream_without_an_end_is_listed_whole() -> None:
    assert list(listing(program("ethos-u55", 0x00010100))) == [
        "; ethos-u55-128, 24 KiB of shared RAM, 1 words",
        "0x000000  NPU_SET_IFM_PAD_TOP         pad 1",
    ]
