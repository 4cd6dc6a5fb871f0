"""Report -> JSON, and the JSON Schema that it follows."""

from typing import Any

import msgspec

from mlia.report import Report

SCHEMA_ID = "mlia-report-1.0"


def render_json(report: Report) -> str:
    """The report as indented JSON, ending with a newline. The same report gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"


def report_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of render_json's output."""
    schema = msgspec.json.schema(Report)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID, **schema}


def render_schema() -> str:
    """The schema as indented JSON, ending with a newline."""
    return msgspec.json.format(msgspec.json.encode(report_schema()), indent=2).decode() + "\n"
