"""CheckReport -> SARIF 2.1.0, the format that GitHub code scanning and editors read."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from mlia.advice import Severity
from mlia.render.check.findings import (
    AT_LEAST,
    Grouped,
    advice_text,
    blamed_text,
    budget_text,
    figure_name,
    grouped_advice,
    headline,
    headline_text,
    skipped_reasons,
    tried_text,
)
from mlia.render.text import identity, printable
from mlia.report import Budget, CheckReport
from mlia.results import OperatorId

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
VERSION = "2.1.0"
_LEVELS = {Severity.WARNING: "warning", Severity.NOTE: "note"}
_SEVERITIES = {"error": "error", "warning": "warning", "note": "recommendation"}  # as code scanning calls them
Json = dict[str, Any]


def render_sarif(report: CheckReport, file: str = "") -> str:
    """The report as SARIF: a rule for each code of advice, a result for each advice and each limit that is missed.

    Limits have the rules BUDGET/<figure> and the level error; those that are kept are no results. Operators are
    logical locations; the physical location is the model, at its line 1, because code scanning shows nothing without
    one. `file` is the model's path in the repository, as a rule relative; without it only its name is known.
    """
    uri = quote(_clean(file or report.model.name).replace("\\", "/"), safe="/")
    names = {OperatorId(each.subgraph, each.index): (each.kind, each.name) for each in report.model.graph}
    missed = [budget for budget in report.budgets if not budget.is_kept]
    groups = grouped_advice(report)
    rules = _rules(missed, groups)
    order = {rule["id"]: number for number, rule in enumerate(rules)}
    results = [_missed(budget, order, uri) for budget in missed]
    results += [_advised(group, order, uri, names) for group in groups]
    driver = {"name": "mlia", "semanticVersion": report.mlia_version, "version": report.mlia_version, "rules": rules}
    is_successful = not any(entry.refusal for entry in report.targets)
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": is_successful, "toolExecutionNotifications": _notifications(report)}],
        "artifacts": [_artifact(report, uri)],
        "results": results,
        "columnKind": "utf16CodeUnits",
        "properties": {"targets": [_clean(entry.target.name) for entry in report.targets]},
    }
    log = {"$schema": SCHEMA, "version": VERSION, "runs": [run]}
    return json.dumps(log, indent=2, ensure_ascii=False) + "\n"


def _artifact(report: CheckReport, uri: str) -> Json:
    """The user's file. Size and hash are of the file that was analyzed, which a conversion made."""
    artifact: Json = {"location": {"uri": uri}, "roles": ["analysisTarget"]}
    if report.model.conversion is None:
        artifact |= {"length": report.model.size_bytes, "hashes": {"sha-256": report.model.sha256}}
    return artifact


def _rules(missed: Sequence[Budget], groups: Sequence[Grouped]) -> list[Json]:
    """One rule for each code, in the order of codes. The first advice with a code explains it."""
    rules: dict[str, Json] = {}
    for group in groups:
        advice = group.advice
        rules.setdefault(
            _clean(advice.code),
            _rule(advice.code, advice.name, advice.name.replace("-", " "), advice.remedy, _LEVELS[advice.severity]),
        )
    for budget in missed:
        code = f"BUDGET/{budget.figure}"
        help_text = "Raise the limit, or do what is advised for the operators that have most of it."
        if budget.figure in AT_LEAST:
            help_text = "Lower the limit, or do what is advised for the operators that are not there."
        words = f"{figure_name(budget)} misses the limit that was set"
        rules.setdefault(_clean(code), _rule(code, f"limit-{budget.figure}", words, help_text, "error"))
    return [rules[code] for code in sorted(rules)]


def _rule(code: str, name: str, words: str, remedy: str, level: str) -> Json:
    return {
        "id": _clean(code),
        "name": _clean(name) or _clean(code),
        "shortDescription": {"text": _message(words) or _clean(code)},
        "fullDescription": {"text": _message(words) or _clean(code)},
        "help": {"text": _message(remedy) or _clean(code)},
        "defaultConfiguration": {"level": level},
        "properties": {
            "tags": ["inference", "performance"],
            "precision": "high",
            "problem.severity": _SEVERITIES[level],
        },
    }


def _advised(group: Grouped, order: Mapping[str, int], uri: str, names: Mapping[OperatorId, tuple[str, str]]) -> Json:
    advice = group.advice
    lines = [f"{', '.join(group.targets)}: {advice_text(advice)}"]
    lines += [tried_text(advice)] if tried_text(advice) else []
    found = [(operator, *names.get(operator, ("", ""))) for operator in advice.operators]
    code = _clean(advice.code)
    # The evidence has figures, which change; a finding stays the same as long as its operators do.
    identity_of = (code, *group.targets, *(name or str(operator.index) for operator, _, name in found))
    return _result(code, order, _LEVELS[advice.severity], lines, uri, found, identity_of, group.targets)


def _missed(budget: Budget, order: Mapping[str, int], uri: str) -> Json:
    code = _clean(f"BUDGET/{budget.figure}")
    lines = [f"{budget.target}: {budget_text(budget)}"]
    lines += [f"to blame: {blamed_text(each, budget.figure)}" for each in budget.blamed]
    found = [(OperatorId(each.subgraph, each.index), each.kind, each.name) for each in budget.blamed]
    return _result(code, order, "error", lines, uri, found, (code, budget.target), (budget.target,))


def _result(
    code: str,
    order: Mapping[str, int],
    level: str,
    lines: Sequence[str],
    uri: str,
    operators: Sequence[tuple[OperatorId, str, str]],
    identity_of: Sequence[str],
    targets: Sequence[str],
) -> Json:
    region = {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1}
    location: Json = {"physicalLocation": {"artifactLocation": {"uri": uri, "index": 0}, "region": region}}
    logical = [_logical(*operator) for operator in operators]
    if logical:
        location["logicalLocations"] = logical
    fingerprint = sha256("\0".join(_clean(part) for part in identity_of).encode()).hexdigest()[:16]
    return {
        "ruleId": code,
        "ruleIndex": order[code],
        "level": level,
        "message": {"text": "\n".join(_message(line) for line in lines)},
        "locations": [location],
        # All results are in line 1 of one file: without this, code scanning takes them for the same.
        "partialFingerprints": {"primaryLocationLineHash": f"{fingerprint}:1"},
        "properties": {"targets": [_clean(target) for target in targets]},
    }


def _logical(operator: OperatorId, kind: str, name: str) -> Json:
    number = identity(operator.subgraph, operator.index)
    location = {"fullyQualifiedName": _clean(f"{number}/{name}"), "name": _clean(name) or number}
    return {**location, "kind": _clean(kind)} if kind else location


def _notifications(report: CheckReport) -> list[Json]:
    """What the report says of itself: headline figures, what was skipped, and notes. Errors are what was refused."""
    said = [(entry, headline_text(headline(entry, result))) for entry in report.targets for result in entry.results]
    levels = {text: "error" if entry.refusal else "note" for entry, text in said}
    further = [
        f"{entry.target.name}: {reason}"
        for entry in report.targets
        for result in entry.results
        for reason in skipped_reasons(entry, result)
    ]
    for text in (*further, *report.notes):
        levels.setdefault(text, "note")
    return [{"level": level, "message": {"text": _message(text)}} for text, level in levels.items()]


def _message(text: str) -> str:
    """Text for a message, in which braces are placeholders and "[a](b)" is a link."""
    return _clean(text).replace("{", "{{").replace("}", "}}").replace("](", "] (")


def _clean(text: str) -> str:
    return printable(text)
