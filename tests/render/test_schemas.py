"""The published JSON Schemas: ours to the byte, whatever msgspec made them from."""

from typing import Any

import msgspec
import pytest
from conftest import ROOT

from mlia.render.json import SCHEMAS, render_schema

FILES = {verb: ROOT / f"docs/{name.removeprefix('mlia-')}.schema.json" for verb, (name, _) in SCHEMAS.items()}


def in_an_older_form(schema: Any) -> Any:
    """The same schema as msgspec 0.19 words it: descriptions indented as docstrings are, and null first."""
    if isinstance(schema, list):
        return [in_an_older_form(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    older = {key: in_an_older_form(part) for key, part in schema.items()}
    if isinstance(older.get("description"), str):
        older["description"] = older["description"].replace("\n", "\n    ").replace("\n    \n", "\n\n")
    if isinstance(older.get("anyOf"), list):
        older["anyOf"].sort(key=lambda choice: choice != {"type": "null"})
    return older


@pytest.mark.parametrize("verb", SCHEMAS)
def test_published_schema_is_current(verb: str) -> None:
    assert FILES[verb].read_text() == render_schema(verb)


@pytest.mark.parametrize("verb", SCHEMAS)
def test_schema_does_not_depend_on_the_version_of_msgspec(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    older = in_an_older_form(msgspec.json.schema(SCHEMAS[verb][1]))
    assert older != msgspec.json.schema(SCHEMAS[verb][1])
    monkeypatch.setattr(msgspec.json, "schema", lambda kind: older)
    assert FILES[verb].read_text() == render_schema(verb)
