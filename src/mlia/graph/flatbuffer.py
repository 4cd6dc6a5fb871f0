"""A reader of FlatBuffers tables by field name, with every offset checked against the file.

Format: https://flatbuffers.dev/internals/ . The reader exists because the `flatbuffers` package
imports numpy (more than half the time of a whole check) and lets a damaged offset read elsewhere.
"""

from functools import cache
from struct import calcsize, error, unpack_from
from typing import Any, NamedTuple

from mlia.errors import ModelError
from mlia.graph import tflite_schema, tosa_schema

TABLES = tflite_schema.TABLES | tosa_schema.TABLES
ENUMS = tflite_schema.ENUMS | tosa_schema.ENUMS

SCALAR_FORMATS = {
    "bool": "?", "i8": "b", "u8": "B", "i16": "h", "u16": "H", "i32": "i",
    "u32": "I", "i64": "q", "u64": "Q", "f32": "f", "f64": "d",
}  # fmt: skip


class Field(NamedTuple):
    """One field of a table: its slot, type, and for scalars the default and perhaps an enum."""

    slot: int
    type: str
    is_vector: bool
    enum: str
    default: float


@cache
def fields(table: str) -> dict[str, Field]:
    """The fields of a table of the schema, by name."""
    found = {}
    for slot, text in enumerate(TABLES[table].split()):
        name, _, kind = text.partition(":")
        kind, _, default = kind.partition("=")
        kind, _, enum = kind.partition(":")
        zero: dict[str, bool | int | float] = {"bool": bool(default), "f32": float(default or 0)}
        found[name] = Field(
            slot, kind.strip("[]"), kind.startswith("["), enum, zero.get(kind, int(float(default or 0)))
        )
    return found


class Budget:
    """How many more elements may be read: a damaged file may make many fields share one huge vector."""

    __slots__ = ("left",)

    def __init__(self, elements: int) -> None:
        self.left = elements

    def spend(self, elements: int) -> None:
        self.left -= elements
        if self.left < 0:
            raise ModelError("the file is damaged: its fields overlap")


class Table:
    """One table of the file: `table["name"]` is the decoded value of that field.

    Scalars come as bool, int or float, enums as names, vectors of scalars as tuples (of bytes as a
    memoryview), tables as Table or None, unions as (type name, Table) or None.
    """

    __slots__ = ("_budget", "_file", "_position", "_slots", "_vtable", "kind")

    def __init__(self, kind: str, file: memoryview, position: int, budget: Budget) -> None:
        self.kind, self._file, self._position, self._budget = kind, file, position, budget
        budget.spend(1)
        try:
            self._vtable = position - unpack_from("<i", file, position)[0]
            if self._vtable < 0:
                raise error
            size = unpack_from("<H", file, self._vtable)[0]
            if size < 4 or self._vtable + size > len(file):
                raise error
        except error:
            raise ModelError(f"the file is damaged: a {kind} lies outside of it") from None
        self._slots = (size - 4) // 2

    def __getitem__(self, name: str) -> Any:
        field = fields(self.kind)[name]
        try:
            return self._read(name, field)
        except (error, IndexError):
            raise ModelError(f"the file is damaged: {self.kind}.{name} lies outside of it") from None
        except UnicodeDecodeError:
            raise ModelError(f"the file is damaged: {self.kind}.{name} is not text") from None

    def values(self) -> dict[str, Any]:
        """All fields; nested tables become dictionaries as well."""
        return {name: _plain(self[name]) for name, field in fields(self.kind).items() if field.type}

    def vector_of_tables(self, name: str) -> tuple[int, list[int]]:
        """Where in the file a vector of tables begins (with its length), and where its tables are."""
        position = self._follow(self._position + self._offset(fields(self.kind)[name].slot))
        count = unpack_from("<I", self._file, position)[0]
        return position, [self._follow(position + 4 + 4 * index) for index in range(count)]

    def _offset(self, slot: int) -> int:
        if slot >= self._slots:
            return 0
        found: int = unpack_from("<H", self._file, self._vtable + 4 + 2 * slot)[0]
        return found

    def _read(self, name: str, field: Field) -> Any:
        offset = self._offset(field.slot)
        position = self._position + offset
        if field.is_vector:
            if not offset:
                return memoryview(b"") if field.type == "u8" else ()
            return self._vector(field, self._follow(position))
        if field.type in SCALAR_FORMATS:
            number = unpack_from("<" + SCALAR_FORMATS[field.type], self._file, position)[0] if offset else field.default
            return enum_name(field.enum, int(number)) if field.enum else number
        if field.type == "string":
            return self._string(self._follow(position)) if offset else ""
        if field.type == "union":
            return self._union(name, position) if offset else None
        return Table(field.type, self._file, self._follow(position), self._budget) if offset else None

    def _follow(self, position: int) -> int:
        target: int = position + unpack_from("<I", self._file, position)[0]
        return target

    def _string(self, position: int) -> str:
        return bytes(self._bytes(position)).decode()

    def _bytes(self, position: int) -> memoryview:
        size = unpack_from("<I", self._file, position)[0]
        if position + 4 + size > len(self._file):
            raise error
        return self._file[position + 4 : position + 4 + size]

    def _vector(self, field: Field, position: int) -> Any:
        if field.type == "u8":
            return self._bytes(position)
        count = unpack_from("<I", self._file, position)[0]
        element = "<" + SCALAR_FORMATS.get(field.type, "I")
        if position + 4 + count * calcsize(element) > len(self._file):
            raise error
        self._budget.spend(count)
        start = position + 4
        if field.type in SCALAR_FORMATS:
            return unpack_from(f"<{count}{element[1]}", self._file, start)
        targets = [self._follow(start + 4 * index) for index in range(count)]
        if field.type == "string":
            return tuple(self._string(target) for target in targets)
        return tuple(Table(field.type, self._file, target, self._budget) for target in targets)

    def _union(self, name: str, position: int) -> tuple[str, "Table"] | None:
        number = self[f"{name}_type"]
        if number == 0:
            return None
        # The schema names the union by its field, but for `details` and the two sparse index arrays.
        union = {
            "builtin_options": "BuiltinOptions",
            "builtin_options2": "BuiltinOptions2",
            "details": "QuantizationDetails",
        }
        kind = enum_name(union.get(name, "SparseIndexVector"), number)
        if kind not in TABLES:
            raise ModelError(f"the file is damaged, or newer than the schema known here: {self.kind}.{name} is {kind}")
        return kind, Table(kind, self._file, self._follow(position), self._budget)


def enum_name(enum: str, number: int) -> str:
    """The name of an enumerator; UNKNOWN_<number> when the schema does not have it."""
    return ENUMS[enum].get(number, f"UNKNOWN_{number}")


def read_root(kind: str, content: bytes | memoryview) -> Table:
    """The root table of a file.

    Raises:
        ModelError: the file is too short or its root lies outside of it.
    """
    if len(content) < 8:
        raise ModelError(f"the file is cut short: {len(content)} bytes")
    # A sound file stores each element once; four times its size leaves room for shared strings.
    budget = Budget(4 * len(content) + 1000)
    return Table(kind, memoryview(content), unpack_from("<I", content)[0], budget)


def _plain(value: Any) -> Any:
    if isinstance(value, Table):
        return value.values()
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    return value
