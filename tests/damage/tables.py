"""Damage to FlatBuffers (TFLite, TOSA), by field of the schema: what the file says is wrong, how it says so is right.

Or the other way round: offsets, tables of offsets and counts are wrong where they stand.
"""

import struct
from random import Random
from typing import Any

from mlia.errors import ModelError
from mlia.graph.flatbuffer import ENUMS, SCALAR_FORMATS, TABLES, Field, Table, fields, read_root
from mlia.graph.tflite_writer import _write_table
from tests.damage import raw
from tests.damage.values import wild_float, wild_integer, wild_list, wild_word

ROOTS = {b"TFL3": "Model", b"TOSA": "TosaGraph"}
PAYLOAD = b"COP1"  # how a command stream begins, in the buffer that holds it
_RANGES = {
    "i8": (-(2**7), 2**7 - 1), "u8": (0, 2**8 - 1), "i16": (-(2**15), 2**15 - 1), "u16": (0, 2**16 - 1),
    "i32": (-(2**31), 2**31 - 1), "u32": (0, 2**32 - 1), "i64": (-(2**63), 2**63 - 1), "u64": (0, 2**64 - 1),
}  # fmt: skip
_Values = dict[str, Any]


def with_wild_fields(content: bytes, random: Random) -> tuple[str, bytes]:
    """The file written anew with one to three fields changed, and which one was the first.

    Every field of the schema that the file could have is drawn as often as any other, also those that it has not.
    """
    said, tree, root = "", *_read(content)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places: dict[str, list[tuple[_Values, Field, str]]] = {}
        _collect(root, tree, places)
        name = random.choice([*places])
        values, field, key = random.choice(places[name])
        said = said or name
        values[key] = _changed(field, key, values, random)
    return said, _write(root, tree, content)


def with_wild_commands(content: bytes, random: Random) -> tuple[str, bytes]:
    """A compiled model whose command stream has other words in some places, or ends early."""
    tree, root = _read(content)
    for buffer in tree["buffers"]:
        stream = bytes(buffer["data"])
        if not stream.startswith(PAYLOAD):
            continue
        words = [*struct.unpack(f"<{len(stream) // 4}I", stream[: len(stream) // 4 * 4])]
        for _ in range(random.choice((1, 1, 2, 4))):
            at = random.randrange(len(words))
            old = words[at]
            near = (old ^ 1 << random.randrange(32), old ^ 1 << random.randrange(32), (old + 1) & 0xFFFFFFFF)
            words[at] = random.choice((*near, words[random.randrange(len(words))], *raw.WILD_WORDS))
        if random.random() < 0.15:
            at = random.randrange(len(words))
            words = random.choice((words[:at], words[:at] + words[at + 1 :], words + words[at:]))
        buffer["data"] = struct.pack(f"<{len(words)}I", *words)
        return "command words", _write(root, tree, content)
    return raw.damaged(content, random)


def with_wild_offsets(content: bytes, random: Random) -> tuple[str, bytes]:
    """Offsets, tables of offsets and counts overwritten where they stand."""
    tables: list[Table] = []
    _descend(read_root(ROOTS[content[4:8]], content), tables)
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 3))):
        table = random.choice(tables)
        slot = random.randrange(max(table._slots, 1))
        entry = table._vtable + 4 + 2 * slot
        offset = int.from_bytes(content[entry : entry + 2], "little")
        match random.randrange(3):
            case 0:  # where a field is, or how large the table is
                at = random.choice((entry, entry, table._vtable, table._vtable + 2))
                old = int.from_bytes(content[at : at + 2], "little")
                changed[at : at + 2] = wild_integer(old, random, 0, 2**16 - 1).to_bytes(2, "little")
            case 1:  # where the table of offsets is
                old = int.from_bytes(content[table._position : table._position + 4], "little", signed=True)
                new = wild_integer(old, random, -(2**31), 2**31 - 1)
                changed[table._position : table._position + 4] = new.to_bytes(4, "little", signed=True)
            case _:  # what a field says: a number, where its content is, or that content
                at = table._position + offset
                if random.random() < 0.5:
                    inside = at + int.from_bytes(content[at : at + 4], "little") + 4 * random.randrange(4)
                    at = inside if inside + 4 <= len(content) else at
                old = int.from_bytes(content[at : at + 4], "little")
                changed[at : at + 4] = wild_integer(old, random, 0, 2**32 - 1).to_bytes(4, "little")
    return "offsets", bytes(changed)


def _read(content: bytes) -> tuple[_Values, str]:
    root = ROOTS[content[4:8]]
    return read_root(root, content).values(), root


def _write(root: str, tree: _Values, content: bytes) -> bytes:
    """What was changed, as a file; with every other damage where no file can say it."""
    import flatbuffers

    builder = flatbuffers.Builder(4096)
    try:
        builder.Finish(_write_table(builder, root, tree), file_identifier=content[4:8])
    except (ModelError, struct.error, OverflowError, TypeError, ValueError, KeyError):
        return raw.flipped(content, Random(len(content)))
    return bytes(builder.Output())


def _descend(table: Table, found: list[Table]) -> None:
    found.append(table)
    for name, field in fields(table.kind).items():
        if not field.type or field.type in SCALAR_FORMATS or field.type == "string":
            continue
        try:
            value = table[name]
        except ModelError:  # of TOSA's unions the schema has no names
            continue
        inner = (value[1],) if field.type == "union" and value else value if field.is_vector else (value,)
        for each in inner or ():
            if isinstance(each, Table):
                _descend(each, found)


def _collect(kind: str, values: _Values, places: dict[str, list[tuple[_Values, Field, str]]]) -> None:
    for name, field in fields(kind).items():
        if not field.type:
            continue
        places.setdefault(f"{kind}.{name}", []).append((values, field, name))
        value = values.get(name)
        if field.type == "union" and value:
            _collect(value[0], value[1], places)
        elif field.type in TABLES and value:
            for each in value if field.is_vector else (value,):
                _collect(field.type, each, places)


def _changed(field: Field, name: str, values: _Values, random: Random) -> Any:
    value = values.get(name)
    if field.is_vector:
        return _changed_vector(field, value, random)
    if field.enum:
        number = random.choice((*ENUMS[field.enum], 100, 127))
        return ENUMS[field.enum].get(number, f"UNKNOWN_{number}")
    if field.type == "bool":
        return not value
    if field.type in ("f32", "f64"):
        return wild_float(float(value or 0), random)
    if field.type in _RANGES:
        return wild_integer(int(value or 0), random, *_RANGES[field.type])
    if field.type == "string":
        return wild_word(value or "", random)
    if field.type == "union":
        return None if value and random.random() < 0.5 else (random.choice(_tables_of(field)), {})
    return None if value else {}


def _tables_of(field: Field) -> list[str]:
    return [name for name in TABLES if name.endswith("Options")] or [field.type]


def _changed_vector(field: Field, value: Any, random: Random) -> Any:
    if field.type == "u8":
        return raw.damaged(bytes(value), random)[1] if value else random.randbytes(random.choice((1, 16)))
    old = [*(value or ())]
    if field.type in TABLES:
        return wild_list(old, random) if old else [{}]
    if not old or random.random() < 0.3:
        made = wild_list(old or [0], random)
        return [each or ("" if field.type == "string" else 0) for each in made if not isinstance(each, list)]
    at = random.randrange(len(old))
    if field.type == "string":
        old[at] = wild_word(old[at], random)
    elif field.type == "bool":
        old[at] = not old[at]
    elif field.type in ("f32", "f64"):
        old[at] = wild_float(old[at], random)
    else:
        old[at] = wild_integer(int(old[at]), random, *_RANGES[field.type])
    return old
