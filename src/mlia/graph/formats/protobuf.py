"""A bounds-checked reader of the protobuf wire format; the caller names the field numbers it wants.

Format: https://protobuf.dev/programming-guides/encoding/ . Content is never copied, and nothing is sized by
what a message claims: every length is checked against the bytes that are there.
"""

from collections.abc import Mapping
from typing import NoReturn, TypeAlias

from mlia.errors import ModelError

Fields: TypeAlias = Mapping[str, int]
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
_LONGEST_VARINT = 10
_UNSIGNED_64 = (1 << 64) - 1


class Message:
    """One message: `kind` is its name in error messages, `fields` names the field numbers to keep.

    Other fields are skipped, but their framing is checked as well. Of a field that is not repeated the last
    value counts, as the format says.

    Raises:
        ModelError: the message is cut short or is not in the wire format.
    """

    __slots__ = ("_fields", "_values", "kind")

    def __init__(self, content: bytes | memoryview, kind: str, fields: Fields) -> None:
        self.kind, self._fields = kind, fields
        self._values = _split(memoryview(content), kind, frozenset(fields.values()))

    def number(self, name: str, default: int = 0) -> int:
        """An unsigned number: a varint, or a fixed-size field as its little-endian bits."""
        values = self._values.get(self._fields[name])
        if not values:
            return default
        if not isinstance(values[-1], int):
            self._refuse(name, "a number")
        return values[-1]

    def signed(self, name: str) -> int:
        """A number of type int32 or int64, which may be negative."""
        value = self.number(name)
        return value - (1 << 64) if value >> 63 else value

    def content(self, name: str) -> memoryview:
        """The bytes of a field; empty when it is not there."""
        found = self.contents(name)
        return found[-1] if found else memoryview(b"")

    def contents(self, name: str) -> list[memoryview]:
        """The bytes of each occurrence of a repeated field."""
        found = []
        for value in self._values.get(self._fields[name], ()):
            if isinstance(value, int):
                self._refuse(name, "bytes")
            found.append(value)
        return found

    def numbers(self, name: str) -> list[int]:
        """Each number of a repeated field of varints, packed or one by one; negative ones as in `signed`."""
        found = []
        for value in self._values.get(self._fields[name], ()):
            if isinstance(value, int):
                found.append(value)
                continue
            position = 0
            while position < len(value):
                number, position = read_varint(value, position, self.kind)
                found.append(number)
        return [number - (1 << 64) if number >> 63 else number for number in found]

    def fixed(self, name: str, size: int) -> bytes:
        """The bytes of a repeated field of numbers of `size` bytes, packed or one by one."""
        values = self._values.get(self._fields[name], ())
        content = b"".join(value.to_bytes(8, "little")[:size] if isinstance(value, int) else value for value in values)
        if len(content) % size:
            self._refuse(name, f"numbers of {size} bytes")
        return content

    def text(self, name: str) -> str:
        """A string; empty when it is not there."""
        try:
            return bytes(self.content(name)).decode()
        except UnicodeDecodeError:
            self._refuse(name, "text")

    def message(self, name: str, kind: str, fields: Fields) -> "Message":
        """A nested message; an empty one when it is not there."""
        return Message(self.content(name), kind, fields)

    def messages(self, name: str, kind: str, fields: Fields) -> list["Message"]:
        """Each occurrence of a repeated nested message."""
        return [Message(content, kind, fields) for content in self.contents(name)]

    def has(self, name: str) -> bool:
        return self._fields[name] in self._values

    def _refuse(self, name: str, expected: str) -> NoReturn:
        raise ModelError(f"it is damaged: {self.kind}.{name} is not {expected}")


def read_varint(content: memoryview, position: int, what: str) -> tuple[int, int]:
    """A number of 7 bits per byte, and the position behind it.

    Raises:
        ModelError: it does not end inside the content, or has more than 64 bits.
    """
    if position < len(content) and content[position] < 0x80:  # most are this short
        return content[position], position + 1
    number = 0
    for index, byte in enumerate(content[position : position + _LONGEST_VARINT]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number & _UNSIGNED_64, position + index + 1
    raise ModelError(f"it is damaged: a number in {what} is cut short or too long")


def _split(content: memoryview, kind: str, wanted: frozenset[int]) -> dict[int, list[int | memoryview]]:
    found: dict[int, list[int | memoryview]] = {}
    position, size = 0, len(content)
    while position < size:
        key = content[position]
        position += 1
        if key >= 0x80:
            key, position = read_varint(content, position - 1, kind)
        number, wire = key >> 3, key & 7
        value: int | memoryview
        if wire == _VARINT:
            value, position = read_varint(content, position, kind)
        else:
            start, position = _extent(content, position, wire, kind)
            value = content[start:position]
            if wire != _BYTES:
                value = int.from_bytes(value, "little")
        if number == 0:
            raise ModelError(f"it is damaged: {kind} has a field of number 0")
        if number in wanted:
            found.setdefault(number, []).append(value)
    return found


def _extent(content: memoryview, position: int, wire: int, kind: str) -> tuple[int, int]:
    """Where a value of several bytes starts and ends."""
    if wire == _BYTES:
        size, position = read_varint(content, position, kind)
    elif wire in _FIXED_SIZES:
        size = _FIXED_SIZES[wire]
    else:
        raise ModelError(f"it is damaged: {kind} has a field of the unknown wire type {wire}")
    if position + size > len(content):
        raise ModelError(f"it is damaged: a field of {kind} ends outside of it")
    return position, position + size
