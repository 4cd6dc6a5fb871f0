"""Report -> JSON, and the JSON Schema that it follows."""

from typing import Any

import msgspec

from mlia.faces import Face
from mlia.report import SCHEMA_VERSION

# What a terminal or a browser obeys instead of showing it, and JSON need not escape; the same text when it is read.
_UNSEEN = {
    code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *range(0x200E, 0x2010), *range(0x2028, 0x202F),
    *range(0x2066, 0x206A))
}  # fmt: skip


def render_json(report: Face) -> str:
    """The report as indented JSON, ending with a newline. The same report gives the same bytes."""
    text = msgspec.json.format(msgspec.json.encode(report), indent=2).decode()
    return text.translate(_UNSEEN) + "\n"


def json_schema(verb: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of render_json's output for a verb."""
    from mlia.render.fields import described
    from mlia.render.kinds import KINDS

    kind = KINDS[verb].type
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"mlia-{verb}-{SCHEMA_VERSION}",
        **described(_normalized(msgspec.json.schema(kind)), kind),
    }


def _normalized(schema: Any) -> Any:
    """A part of a schema in the form that is published, which no version of msgspec or Python decides.

    They differ in whether a description keeps the indentation of its docstring (msgspec from 0.23 and Python from 3.13
    strip it), and in whether null is first or last of what a value may be (first up to msgspec 0.21).
    """
    if isinstance(schema, dict):
        normal = {key: _normalized(part) for key, part in schema.items()}
        if isinstance(normal.get("description"), str):
            from inspect import cleandoc  # as slow to import as all else here, and not needed for a report

            normal["description"] = cleandoc(normal["description"])
        if isinstance(normal.get("anyOf"), list):
            normal["anyOf"].sort(key=lambda choice: choice == {"type": "null"})
        return normal
    return [_normalized(part) for part in schema] if isinstance(schema, list) else schema


def render_schema(verb: str) -> str:
    """The schema as indented JSON, ending with a newline."""
    return msgspec.json.format(msgspec.json.encode(json_schema(verb)), indent=2).decode() + "\n"
