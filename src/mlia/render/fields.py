"""What each field of a report is: the text below it in the source, for the JSON Schema.

Python keeps none of these texts, so the source is read again, and only for that.
"""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from msgspec import Struct, inspect


def described(schema: dict[str, Any], kind: type[Struct]) -> dict[str, Any]:
    """The JSON Schema of a Struct with a description of every field of it and of what it holds."""
    kinds = {each.__name__: each for each in structs(kind)}
    definitions = {
        name: _with_fields(part, kinds[name]) if name in kinds else part for name, part in schema["$defs"].items()
    }
    return {**schema, "$defs": definitions}


def structs(kind: type[Struct]) -> set[type[Struct]]:
    """The Struct and all that are in it."""
    found: set[type[Struct]] = set()
    _collect(inspect.type_info(kind), found)
    return found


def field_texts(kind: type[Struct]) -> dict[str, str]:
    """The text below each field, by its name; those that it inherits are included."""
    texts: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if isinstance(each, type(Struct)) and each is not Struct:
            texts |= _texts_of(each.__module__).get(each.__name__, {})
    return texts


def _with_fields(part: dict[str, Any], kind: type[Struct]) -> dict[str, Any]:
    texts = field_texts(kind)
    config = kind.__struct_config__
    if config.tag is not None:
        texts[config.tag_field or "type"] = f"What kind of value this is: always {config.tag}."
    properties = {name: {"description": texts[name], **value} for name, value in part["properties"].items()}
    return {**part, "properties": properties}


def _collect(found: inspect.Type, structs: set[type[Struct]]) -> None:
    if isinstance(found, inspect.StructType):
        if found.cls in structs:
            return
        structs.add(found.cls)
        for field in found.fields:
            _collect(field.type, structs)
    for held in _held(found):
        _collect(held, structs)


def _held(found: inspect.Type) -> Iterator[inspect.Type]:
    if isinstance(found, inspect.UnionType):
        yield from found.types
    elif isinstance(found, inspect.VarTupleType | inspect.ListType):
        yield found.item_type
    elif isinstance(found, inspect.TupleType):
        yield from found.item_types
    elif isinstance(found, inspect.DictType):
        yield found.value_type


@cache
def _texts_of(module: str) -> dict[str, dict[str, str]]:
    """The texts of a module, by class and field."""
    file = sys.modules[module].__file__
    assert file is not None, "classes of reports are in files"
    tree = ast.parse(Path(file).read_text())
    return {node.name: dict(_below(node)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _below(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, text in zip(node.body, node.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        ):
            yield field.target.id, " ".join(text.value.value.split())
