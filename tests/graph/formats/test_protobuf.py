from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlia.errors import ModelError
from mlia.graph.formats.protobuf import Message, read_varint

FIELDS = {"number": 1, "text": 2, "inner": 3, "fixed": 4, "wide": 5}
# number = 300, text = "hi", inner { number = 1 } twice, fixed = 7, wide = 9, and field 9, which nobody asks for
SAMPLE = b"\x08\xac\x02\x12\x02hi\x1a\x02\x08\x01\x1a\x02\x08\x02\x25\x07\0\0\0\x29\x09\0\0\0\0\0\0\0\x4a\x01x"


def test_each_kind_of_field_is_read() -> None:
    message = Message(SAMPLE, "Sample", FIELDS)
    assert message.number("number") == 300
    assert message.text("text") == "hi"
    assert [inner.number("number") for inner in message.messages("inner", "Inner", FIELDS)] == [1, 2]
    assert message.message("inner", "Inner", FIELDS).number("number") == 2  # of several, the last one counts
    assert (message.number("fixed"), message.number("wide")) == (7, 9)


def test_missing_fields_have_defaults() -> None:
    message = Message(b"", "Sample", FIELDS)
    assert (message.number("number", 5), message.text("text"), message.contents("inner")) == (5, "", [])
    assert not message.has("number")


def test_negative_numbers_are_sixty_four_bits() -> None:
    assert Message(b"\x08" + b"\xff" * 9 + b"\x01", "Sample", FIELDS).signed("number") == -1


@pytest.mark.parametrize("size", [size for size in range(1, len(SAMPLE)) if size not in (3, 7, 11, 15, 20, 29)])
def test_a_cut_inside_a_field_is_refused(size: int) -> None:
    with pytest.raises(ModelError, match="Sample"):
        Message(SAMPLE[:size], "Sample", FIELDS)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\x0b", "wire type 3"),
        (b"\x00\x00", "number 0"),
        (b"\x08" + b"\xff" * 11, "too long"),
        (b"\x12\xff\xff\xff\xff\x0f", "outside"),
    ],
)
def test_what_is_not_the_wire_format_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(ModelError, match=why):
        Message(content, "Sample", FIELDS)


def test_fields_of_another_type_are_refused_by_name() -> None:
    message = Message(b"\x0a\x01x\x10\x05\x1a\x01\xff", "Sample", FIELDS)
    for read in (lambda: message.number("number"), lambda: message.text("text"), lambda: message.text("inner")):
        with pytest.raises(ModelError, match=r"Sample\.(number|text|inner) is not"):
            read()


@given(st.binary(max_size=200))
def test_noise_is_read_or_refused(noise: bytes) -> None:
    with suppress(ModelError):
        Message(noise, "Noise", FIELDS).messages("inner", "Inner", FIELDS)


@given(st.integers(0, 2**64 - 1))
def test_numbers_of_any_length(number: int) -> None:
    content = bytearray()
    rest = number
    while rest > 0x7F:
        content.append(rest & 0x7F | 0x80)
        rest >>= 7
    content.append(rest)
    assert read_varint(memoryview(bytes(content)), 0, "a test") == (number, len(content))
