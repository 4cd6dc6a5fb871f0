"""CheckReport -> JUnit XML, which GitLab, Jenkins and most other CI servers show as tests."""

from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from mlia.advice import Advice, Severity
from mlia.render.check.findings import (
    advice_text,
    blamed_text,
    budget_text,
    headline,
    headline_text,
    helpful_advice,
    tried_text,
    where_text,
)
from mlia.render.text import printable
from mlia.report import Budget, CheckReport, TargetReport

_COUNTED = ("failure", "error", "skipped")


def render_junit(report: CheckReport) -> str:
    """The report as JUnit XML: a test suite per target.

    Only what somebody asked for can fail, because a red build that nobody asked for is soon ignored:

    - each limit is a test case. A miss is a failure that names figure, value, limit and the operators to blame, with
      the advice about them; a figure that is not known is an error with the reason.
    - each target has a test case "estimate" with the headline figures, skipped where there are none, so that a suite
      is never empty, which some servers take for a failure. It is an error where the target could not be checked.
    - each warning is a test case that passes, with the advice in its system-out. Notes are in the suite's system-out.

    `time` is 0: it would be that of the test, not of the model. There is no time stamp, so that the same report gives
    the same bytes.
    """
    root = Element("testsuites", name=printable(f"mlia {report.model.name}"))
    for number, entry in enumerate(report.targets):
        _add_suite(root, report, entry, number)
    for attribute, kind in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
        root.set(attribute, str(sum(1 for _ in root.iter(kind))))
    root.set("time", "0")
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _add_suite(root: Element, report: CheckReport, entry: TargetReport, number: int) -> None:
    name = printable(entry.target.name)
    suite = SubElement(root, "testsuite", name=name, id=str(number), package="mlia", hostname="localhost")
    properties = SubElement(suite, "properties")
    facts = {
        "mlia": report.mlia_version, "model": report.model.name, "sha256": report.model.sha256,
        "system_config": entry.target.system_config or "", "memory_mode": entry.target.memory_mode or "",
    }  # fmt: skip
    for key, value in facts.items():
        if value:
            SubElement(properties, "property", name=key, value=printable(value))
    names: set[str] = set()
    _add_estimate(suite, report, entry, names)
    for budget in report.budgets:
        if budget.target == entry.target.name:
            _add_budget(_case(suite, report, entry, f"limit {budget.figure}", names), budget, entry.advised.advice)
    for advice in entry.advised.advice:
        if advice.severity == Severity.WARNING:
            case = _case(suite, report, entry, _title(advice), names)
            SubElement(case, "system-out").text = _lines(_advice_lines(advice))
    notes = [each for each in entry.advised.advice if each.severity != Severity.WARNING]
    lines = [*report.notes, *(f"{_title(each)}: {line}" for each in notes for line in _advice_lines(each))]
    SubElement(suite, "system-out").text = _lines(lines)
    for attribute, kind in (
        ("tests", "testcase"),
        ("failures", "failure"),
        ("errors", "error"),
        ("skipped", "skipped"),
    ):
        suite.set(attribute, str(sum(1 for _ in suite.iter(kind))))
    suite.set("time", "0")


def _add_estimate(suite: Element, report: CheckReport, entry: TargetReport, names: set[str]) -> None:
    """The headline figures; skipped when no result has any, an error when the model could not be checked."""
    case = _case(suite, report, entry, "estimate", names)
    figures = [headline(entry, result) for result in entry.results]
    if entry.refusal:
        SubElement(case, "error", type="refused", message=printable(entry.refusal))
        return
    reasons = dict.fromkeys(each.unknown for each in figures if each.unknown)
    if reasons or not figures:
        text = printable("; ".join(reasons) or "no backend was asked")
        SubElement(case, "skipped", message=text)
    SubElement(case, "system-out").text = _lines([headline_text(each) for each in figures])


def _add_budget(case: Element, budget: Budget, advice: Sequence[Advice]) -> None:
    """The outcome of one limit."""
    text = budget_text(budget)
    if budget.is_kept:
        SubElement(case, "system-out").text = _lines([text])
        return
    lines = [text, *(f"to blame: {blamed_text(each, budget.figure)}" for each in budget.blamed)]
    for each in helpful_advice(advice, budget.blamed):
        lines += [f"advice: {_title(each)}: {line}" for line in _advice_lines(each)]
    kind, type_ = ("error", "unknown") if budget.value is None else ("failure", "limit")
    SubElement(case, kind, type=f"{type_}.{printable(budget.figure)}", message=printable(text)).text = _lines(lines)


def _case(suite: Element, report: CheckReport, entry: TargetReport, name: str, names: set[str]) -> Element:
    """A test case with a name of its own: servers compare runs by names."""
    unique, number = printable(name), 1
    while unique in names:
        number += 1
        unique = f"{printable(name)} #{number}"
    names.add(unique)
    # Servers take a dot for the end of a package.
    classname = f"{report.model.name}.{entry.target.name}".replace(" ", "_")
    return SubElement(suite, "testcase", name=unique, classname=printable(classname), time="0")


def _title(advice: Advice) -> str:
    return f"{advice.code} {advice.name}{f' ({where_text(advice.operators)})' if advice.operators else ''}"


def _advice_lines(advice: Advice) -> list[str]:
    return [advice_text(advice), *([tried_text(advice)] if tried_text(advice) else [])]


def _lines(lines: Sequence[str]) -> str:
    return "\n".join(printable(line) for line in lines)
