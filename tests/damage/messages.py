"""Damage to protocol buffers (ONNX, SavedModel) by field, with lengths that are right, and no schema."""

from random import Random

from tests.damage import raw
from tests.damage.values import wild_integer, wild_word

_VARINT, _LENGTH = 0, 2
_SIZES = {1: 8, 5: 4}  # of the wire types whose size is fixed
_Field = tuple[int, int, int | bytes]


def with_wild_message(content: bytes, random: Random) -> tuple[str, bytes]:
    """One to three fields, at any depth, with another value, away, doubled or in another place."""
    for _ in range(random.choice((1, 1, 2, 3))):
        content = _changed(content, random, 0)
    return "message", content


def _changed(content: bytes, random: Random, depth: int) -> bytes:
    parsed = _parse(content)
    if not parsed:
        return raw.damaged(content, random)[1]
    at = random.randrange(len(parsed))
    number, wire, value = parsed[at]
    way = random.random()
    if isinstance(value, bytes) and depth < 12 and _parse(value) and way < 0.8:
        parsed[at] = number, wire, _changed(value, random, depth + 1)
    elif way < 0.1:
        del parsed[at]
    elif way < 0.2:
        parsed.insert(random.randrange(len(parsed)), parsed[at])
    elif way < 0.25:
        parsed[at] = random.choice((0, number + 1, 2**29 - 1)), wire, value
    elif isinstance(value, int):
        parsed[at] = number, wire, wild_integer(value, random, 0, 2**64 - 1)
    elif wire == _LENGTH and value.isascii() and way < 0.7:
        parsed[at] = number, wire, wild_word(value.decode(), random).encode()
    elif wire == _LENGTH:
        parsed[at] = number, wire, raw.damaged(value, random)[1]
    else:
        parsed[at] = number, wire, random.randbytes(len(value))
    return b"".join(_written(*each) for each in parsed)


def _parse(content: bytes) -> list[_Field] | None:
    """The fields of what may be a message; None where it is none."""
    found: list[_Field] = []
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        number, wire = key >> 3, key & 7
        if key < 0 or not 0 < number < 2**29:
            return None
        if wire == _VARINT:
            value, at = _varint(content, at)
            if value < 0:
                return None
            found.append((number, wire, value))
            continue
        if wire == _LENGTH:
            size, at = _varint(content, at)
        else:
            size = _SIZES.get(wire, -1)
        if size < 0 or at + size > len(content):
            return None
        found.append((number, wire, content[at : at + size]))
        at += size
    return found


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """The number and where it ends; -1 where there is none."""
    value = 0
    for place in range(10):
        if at + place >= len(content):
            return -1, at
        byte = content[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    return -1, at


def _written(number: int, wire: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _as_varint(number << 3 | wire) + _as_varint(value)
    length = _as_varint(len(value)) if wire == _LENGTH else b""
    return _as_varint(number << 3 | wire) + length + value


def _as_varint(value: int) -> bytes:
    content = b""
    while value > 127:
        content += bytes([value & 127 | 128])
        value >>= 7
    return content + bytes([value])
