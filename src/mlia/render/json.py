"""Report -> JSON, and the JSON Schema that it follows."""

from typing import Any

import msgspec

from mlia.accuracy import Accuracy, Refinement
from mlia.difference import Difference
from mlia.report import SCHEMA_VERSION, Optimization, Report
from mlia.verification import Verification

# What has a schema, by the verb whose --format json follows it.
SCHEMAS = {
    "check": ("mlia-report", Report),
    "optimize": ("mlia-optimization", Optimization),
    "verify": ("mlia-verification", Verification),
    "accuracy": ("mlia-accuracy", Accuracy),
    "calibrate": ("mlia-refinement", Refinement),
    "compare": ("mlia-difference", Difference),
}


def render_json(report: Report | Optimization | Verification | Accuracy | Refinement | Difference) -> str:
    """The report as indented JSON, ending with a newline. The same report gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"


def json_schema(verb: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of render_json's output for a verb."""
    name, kind = SCHEMAS[verb]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{name}-{SCHEMA_VERSION}",
        **msgspec.json.schema(kind),
    }


def render_schema(verb: str) -> str:
    """The schema as indented JSON, ending with a newline."""
    return msgspec.json.format(msgspec.json.encode(json_schema(verb)), indent=2).decode() + "\n"
