"""SARIF: what the specification and code scanning ask for, whatever the names of operators."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema
import pytest
from conftest import ROOT
from hypothesis import given, settings
from msgspec.structs import replace
from reports import REPORTS, SEVERAL, check_golden, names, with_name
from sample import SAMPLE_REPORT

import mlia
from mlia.render.check.sarif import render_sarif
from mlia.report import Conversion

TEXT = {"type": "string", "minLength": 1}
MESSAGE = {"type": "object", "required": ["text"], "additionalProperties": False, "properties": {"text": TEXT}}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
BAG = {"type": "object"}


def closed(**properties: Any) -> dict[str, Any]:
    """An object with these properties only, all of them required but those that end with an underscore."""
    required = [name for name in properties if not name.endswith("_")]
    named = {name.rstrip("_"): each for name, each in properties.items()}
    return {"type": "object", "required": required, "additionalProperties": False, "properties": named}


# What SARIF 2.1.0 allows of what we write, and what code scanning requires of it: stricter than the specification.
URI = {"type": "string", "pattern": "^[A-Za-z0-9_.~/%-]+$"}
RULE = closed(
    id=TEXT, name=TEXT, shortDescription=MESSAGE, fullDescription=MESSAGE, help=MESSAGE,
    defaultConfiguration=closed(level=LEVEL), properties=BAG,
)  # fmt: skip
REGION = closed(**{key: {"const": 1} for key in ("startLine", "startColumn", "endLine", "endColumn")})
ARTIFACT = closed(uri=URI, index={"const": 0})
LOGICAL = {"type": "array", "minItems": 1, "items": closed(name=TEXT, fullyQualifiedName=TEXT, kind_=TEXT)}
RESULT = closed(
    ruleId=TEXT, ruleIndex={"type": "integer", "minimum": 0}, level=LEVEL, message=MESSAGE,
    locations={"type": "array", "minItems": 1, "maxItems": 1, "items": closed(
        physicalLocation=closed(artifactLocation=ARTIFACT, region=REGION), logicalLocations_=LOGICAL)},
    partialFingerprints=closed(primaryLocationLineHash={"type": "string", "pattern": "^[0-9a-f]{16}:1$"}),
    properties=BAG,
)  # fmt: skip
NOTIFICATION = closed(level=LEVEL, message=MESSAGE)
INVOCATION = closed(
    executionSuccessful={"type": "boolean"}, toolExecutionNotifications={"type": "array", "items": NOTIFICATION}
)
FILE = closed(
    location=closed(uri=URI), roles={"const": ["analysisTarget"]}, length_={"type": "integer", "minimum": -1},
    hashes_={"type": "object", "additionalProperties": TEXT},
)  # fmt: skip
DRIVER = closed(
    name=TEXT, version=TEXT, semanticVersion=TEXT, rules={"type": "array", "uniqueItems": True, "items": RULE}
)
RUN = closed(
    tool=closed(driver=DRIVER), invocations={"type": "array", "items": INVOCATION},
    results={"type": "array", "items": RESULT},
    artifacts={"type": "array", "minItems": 1, "uniqueItems": True, "items": FILE},
    columnKind={"const": "utf16CodeUnits"}, properties=BAG,
)  # fmt: skip
LOG = {
    "type": "object", "required": ["$schema", "version", "runs"], "additionalProperties": False,
    "properties": {"$schema": URI | {"pattern": "^https://"}, "version": {"const": "2.1.0"},
                   "runs": {"type": "array", "items": RUN, "minItems": 1, "maxItems": 1}},
}  # fmt: skip


def run(text: str) -> Any:
    """The one run of a log that follows the rules, each result with the rule that it names."""
    log = json.loads(text)
    jsonschema.validate(log, LOG)
    found = log["runs"][0]
    rules = found["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for result in found["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    return found


def test_golden() -> None:
    check_golden("report.sarif", render_sarif(SEVERAL))


@pytest.mark.parametrize("report", REPORTS)
def test_every_report_follows_what_is_asked_for(report: mlia.CheckReport) -> None:
    run(render_sarif(report))
    assert render_sarif(report) == render_sarif(report)


@pytest.mark.parametrize("report", REPORTS)
def test_every_report_follows_the_published_schema(report: mlia.CheckReport) -> None:
    schema = json.loads(Path(__file__).with_name("sarif-2.1.0.schema.json").read_text())
    jsonschema.validate(json.loads(render_sarif(report)), schema)


def test_a_missed_limit_is_an_error_of_its_own_rule() -> None:
    results = run(render_sarif(SAMPLE_REPORT))["results"]
    assert [(each["ruleId"], each["level"]) for each in results] == [
        ("BUDGET/npu_percent", "error"),
        ("BUDGET/regression_percent", "error"),
        ("CMP031", "warning"),
        ("MEM001", "note"),
    ]
    assert results[0]["locations"][0]["logicalLocations"][0]["kind"] == "CONV_2D"
    assert len({each["partialFingerprints"]["primaryLocationLineHash"] for each in results}) == 4


def test_a_finding_of_a_real_check_names_operator_remedy_and_what_it_brings() -> None:
    report = mlia.check(ROOT / "examples/off_the_npu.tflite", "ethos-u55-128")
    found = run(render_sarif(report, "models/off the npu.tflite"))
    first = found["results"][0]
    assert first["ruleId"] == "CMP032"
    assert "2.511 -> 0.797 ms" in first["message"]["text"]
    location = first["locations"][0]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "models/off%20the%20npu.tflite"
    assert location["logicalLocations"] == [
        {"fullyQualifiedName": "3/upsampled", "name": "upsampled", "kind": "TRANSPOSE_CONV"}
    ]
    help_text = next(rule for rule in found["tool"]["driver"]["rules"] if rule["id"] == "CMP032")["help"]["text"]
    assert help_text.startswith("Use one convolution for each row of the stride")


def test_fingerprints_outlive_figures() -> None:
    other = replace(SAMPLE_REPORT.targets[0].advised.advice[0], evidence="other figures")
    entry = SAMPLE_REPORT.targets[0]
    changed = replace(entry, advised=replace(entry.advised, advice=(other,)))
    prints = [
        next(each for each in run(render_sarif(report))["results"] if each["ruleId"] == "CMP031")["partialFingerprints"]
        for report in (SAMPLE_REPORT, replace(SAMPLE_REPORT, targets=(changed,)))
    ]
    assert prints[0] == prints[1]


def test_hash_and_size_are_of_the_user_s_file_or_not_there() -> None:
    assert run(render_sarif(SAMPLE_REPORT))["artifacts"][0]["length"] == SAMPLE_REPORT.model.size_bytes
    converted = replace(SAMPLE_REPORT.model, conversion=Conversion("keras", "read", ()))
    assert "hashes" not in run(render_sarif(replace(SAMPLE_REPORT, model=converted)))["artifacts"][0]


@pytest.mark.long
@given(names)
@settings(deadline=None, max_examples=60)
def test_no_name_breaks_the_log_or_becomes_a_link(name: str) -> None:
    text = render_sarif(with_name(SEVERAL, name), f"x{name}")
    text.encode()
    found = run(text)
    for result in found["results"]:
        message = result["message"]["text"]
        assert "](" not in message
        assert "{" not in message.replace("{{", "")
        assert "}" not in message.replace("}}", "")
    uri = found["artifacts"][0]["location"]["uri"]
    assert unquote(uri).startswith("x")
    assert len(found["results"]) == len(run(render_sarif(SEVERAL))["results"])
