"""The published JSON Schemas: ours to the byte, whatever msgspec made them from."""

from typing import Any

import msgspec
import pytest
from conftest import ROOT

from mlia.render.json import json_schema, render_schema
from mlia.render.kinds import KINDS

FILES = {verb: ROOT / f"docs/{verb}.schema.json" for verb in KINDS}


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


@pytest.mark.parametrize("verb", KINDS)
def test_published_schema_is_current(verb: str) -> None:
    assert FILES[verb].read_text() == render_schema(verb)


@pytest.mark.parametrize("verb", KINDS)
def test_schema_does_not_depend_on_the_version_of_msgspec(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    older = in_an_older_form(msgspec.json.schema(KINDS[verb].type))
    has_nothing_that_differs = verb in ("accuracy", "calibrate")
    assert (older == msgspec.json.schema(KINDS[verb].type)) == has_nothing_that_differs
    monkeypatch.setattr(msgspec.json, "schema", lambda kind: older)
    assert FILES[verb].read_text() == render_schema(verb)


@pytest.mark.parametrize("verb", KINDS)
def test_every_field_says_what_it_is(verb: str) -> None:
    definitions = json_schema(verb)["$defs"]
    fields = [
        (f"{kind}.{name}", field)
        for kind, part in definitions.items()
        for name, field in part.get("properties", {}).items()
    ]
    assert len(fields) > 10
    for name, field in fields:
        text = field["description"]
        assert text.endswith((".", '".')), name
        assert 10 < len(text) < 160, name
        is_optional = {"type": "null"} in field.get("anyOf", field.get("items", {}).get("anyOf", ()))
        assert is_optional == ("null" in text), f"{name}: it says when it is null, and only then"


def test_fields_of_a_class_above_have_their_texts() -> None:
    from mlia.estimates import Calibration
    from mlia.render.fields import field_texts

    assert [*field_texts(Calibration)] == [*Calibration.__struct_fields__]


def test_a_field_without_a_text_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlia.render import fields

    monkeypatch.setattr(fields, "field_texts", lambda kind: {})
    with pytest.raises(KeyError):
        json_schema("check")
