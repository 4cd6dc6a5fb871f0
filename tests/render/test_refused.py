"""A target that does not take the model says so in every form, and takes nothing from the others."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace
from reports import refused
from sample import CPU_ENTRY, TARGET

from mlia.pipeline.saved import load_report
from mlia.render.check.model_explorer import model_explorer_overlays
from mlia.render.check.terminal import TerminalStyle, render_terminal
from mlia.render.forms import MODULES, in_form
from mlia.report import SCHEMA_VERSION

REASON = "Vela crashed (SIGSEGV) on this model"
REPORT = refused(REASON)
NAMED = "ethos-u85-256"
MATTERS = sorted({*MODULES} - {"model-explorer"})


@pytest.mark.parametrize("form", MATTERS)
def test_every_form_says_why_in_one_place(form: str) -> None:
    text = in_form(REPORT, form)
    assert REASON in text
    assert NAMED in text
    assert text.count(REASON) == {"json": 3}.get(form, 1)  # JSON has it for both results as well
    if form != "github":  # which has findings only
        for entry in (TARGET, CPU_ENTRY.target):
            assert entry.name in text


def test_the_terminal() -> None:
    text = render_terminal(REPORT, TerminalStyle(100))
    assert text.count(f"{NAMED} is not checked: {REASON}") == 1
    everything = render_terminal(REPORT, TerminalStyle(100, all_operators=True))
    section = everything.split(f"Target {NAMED}\n")[1].split("Target ")[0]
    assert section.strip().endswith(f"Not checked: {REASON}")
    assert "Advice" not in section


def test_ci_systems_see_an_error() -> None:
    assert "::error file=" in in_form(REPORT, "github").splitlines()[0]
    (run,) = json.loads(in_form(REPORT, "sarif"))["runs"]
    assert run["invocations"][0]["executionSuccessful"] is False
    notified = run["invocations"][0]["toolExecutionNotifications"]
    assert [each["message"]["text"] for each in notified if each["level"] == "error"] == [
        f"{NAMED}: not checked: {REASON}"
    ]
    suites = ElementTree.fromstring(in_form(REPORT, "junit")).findall("testsuite")
    assert [suite.get("errors") for suite in suites] == ["0", "1", "0"]
    assert [each.get("message") for each in suites[1].iter("error")] == [REASON]


def test_a_spreadsheet_has_one_row_for_it() -> None:
    rows = [row for row in in_form(REPORT, "csv").splitlines() if row.startswith(NAMED)]
    assert len(rows) == 1
    assert rows[0].endswith(f"not checked: {REASON}")


def test_there_are_no_colors_for_it() -> None:
    assert not any(name.startswith(NAMED) for name in model_explorer_overlays(REPORT))
    assert CPU_ENTRY.target.name in in_form(replace(REPORT, targets=REPORT.targets[1:]), "model-explorer")


def test_it_is_read_again_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    report = replace(REPORT, schema_version=SCHEMA_VERSION)
    file.write_text(in_form(report, "json"))
    assert load_report(str(file)) == report
