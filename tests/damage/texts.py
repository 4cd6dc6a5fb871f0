"""Damage to text that people write and programs print: TOML, CSV, ini files and logs, line by line."""

import json
import re
from random import Random
from typing import Any

from tests.damage import raw
from tests.damage.values import WORDS, damaged_tree, wild_integer

_NUMBER = re.compile(rb"\d[\d_.,]*")
_TOML = (
    "-1", "0", "1", "true", "nan", "inf", "-inf", "1e400", "1e-300", "9223372036854775808", '""', '"x"', "[]", "{}",
    "[1, 2]", '"../../etc/passwd"', "2026-11-30", '"\\u0000"', '"\\u001b[31m"', "0x10", "1_000", "'''\n'''",
    "500.0000001", '"sram"', '"dead"',
)  # fmt: skip
_CELLS = (
    "", " ", "-1", "0", "nan", "inf", "1e400", "1e-400", "1e308", "1,5", "1_0", "_1", "0x10", "１２", "½", '"', '""',
    '"a\nb"', "x", "=1+1", "missing.tflite", ".", "/", "a" * 140_000, "\x00", "\x1b[31m", "1 2", "+5", "5.", "--5",
    "9" * 400,
)  # fmt: skip


def damaged_toml(content: bytes, random: Random) -> tuple[str, bytes]:
    """Values that a field cannot have, keys that there are not, tables twice, or no TOML at all."""
    if random.random() < 0.2:
        return raw.damaged(content, random)
    lines = content.decode().splitlines()
    for _ in range(random.choice((1, 1, 2, 3))):
        at = random.randrange(len(lines))
        key, equals, value = lines[at].partition(" = ")
        match random.randrange(9):
            case 0:
                lines.insert(at, random.choice(lines))
            case 1 if len(lines) > 1:
                del lines[at]
            case 2 if equals:
                lines[at] = f"{random.choice((key + 'x', key.upper(), 'a.b', ''))} = {value}"
            case 3:
                lines.insert(
                    at, random.choice(("[new]", "[[npu]]", "[npu.x]", "x = 1", "[", "= 1", "x", "[memory.sram]"))
                )
            case _ if equals:
                lines[at] = f"{key} = {random.choice(_TOML) if random.random() < 0.5 else _near(value, random)}"
            case _:
                lines[at] = random.choice(
                    ("[host]", f"[{random.choice(WORDS[:2])}]", "[[layers]]", "[targets.x]", "[npu")
                )
    return "toml", "\n".join(lines).encode() + b"\n"


def _near(value: str, random: Random) -> str:
    """A number near to what there is, or a word like it."""
    try:
        return str(wild_integer(int(float(value)), random))
    except (ValueError, OverflowError):
        return value.replace("-", "_").replace('"', "'") if random.random() < 0.5 else f'"{value.strip(chr(34))[:-1]}"'


def damaged_csv(content: bytes, random: Random) -> tuple[str, bytes]:
    """Cells, columns and lines as a spreadsheet or a hurried hand leaves them."""
    if random.random() < 0.2:
        return raw.damaged(content, random)
    rows = [line.split(",") for line in content.decode().splitlines()]
    for _ in range(random.choice((1, 1, 2, 3))):
        row = random.choice(rows)
        match random.randrange(6):
            case 0:
                rows.insert(random.randrange(len(rows)), [*row])
            case 1 if len(rows) > 1:
                rows.remove(row)
            case 2:
                row.append(random.choice(_CELLS))
            case 3:
                row[-1:] = []
            case _ if row:
                row[random.randrange(len(row))] = random.choice(_CELLS)
            case _:
                row.append("x")
    separator = random.choice((",", ",", ",", ";", "\t"))
    ending = random.choice(("\n", "\n", "\r\n", "\r", ""))
    text = ending.join(separator.join(row) for row in rows) + ending
    return "csv", text.encode(random.choice(("utf-8", "utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16")), "replace")


def damaged_log(content: bytes, random: Random) -> tuple[str, bytes]:
    """Other figures, lines missing, doubled or cut, or what is no text."""
    if random.random() < 0.3:
        return raw.damaged(content, random)
    figures = [each.encode() for each in ("0", "-1", "1e9", "1.2.3", "..", ",", "9" * 400, "1,2", "nan", "９", "")]
    numbers = [*_NUMBER.finditer(content)]
    for match in sorted(
        random.sample(numbers, min(len(numbers), random.choice((1, 2, 9)))), key=lambda each: -each.start()
    ):
        content = content[: match.start()] + random.choice(figures) + content[match.end() :]
    lines = content.split(b"\n")
    if random.random() < 0.4:
        lines.insert(random.randrange(len(lines)), random.choice(lines))
        del lines[random.randrange(len(lines))]
    return "log", b"\n".join(lines)


def damaged_json(content: bytes, random: Random) -> tuple[str, bytes]:
    """Values that cannot be where they are, or no JSON at all."""
    if random.random() < 0.15:
        return raw.damaged(content, random)
    if random.random() < 0.05:
        depth = random.choice((100, 5000, 200_000))
        return "nested", b'{"schema_version": "4.0", "targets": ' + b"[" * depth + b"]" * depth + b"}"
    said, tree = damaged_tree(json.loads(content), random)
    return said, _dumped(tree)


def _dumped(tree: Any) -> bytes:
    return json.dumps(tree, ensure_ascii=False).encode("utf-8", "surrogatepass")
