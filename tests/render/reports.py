"""Reports that the tests of every format share: all that a report can be, and names with any characters."""

import os
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec.structs import replace
from sample import CPU_ENTRY, NOTHING_ADVISED, RESULT, SAMPLE_REPORT, SECOND, TARGET
from sample import CPU_REPORT as CPU_ALONE

from mlia.report import CheckReport, TargetReport
from mlia.results import NOT_ASKED, Skipped

GOLDEN = Path(__file__).parent / "golden"
CPU_REPORT = replace(CPU_ALONE, budgets=())
SEVERAL = replace(SAMPLE_REPORT, targets=(*SAMPLE_REPORT.targets, SECOND, CPU_ENTRY))


def skipped(reason: str) -> CheckReport:
    """A report in which nothing was learned."""
    parts = (Skipped("compatibility", reason), Skipped("performance", reason))
    result = replace(RESULT, compatibility=parts[0], performance=parts[1])
    return replace(SAMPLE_REPORT, targets=(TargetReport(TARGET, (result,), NOTHING_ADVISED),), budgets=(), fixed=None)


def refused(reason: str) -> CheckReport:
    """A report of three targets, the second of which does not take the model."""
    (entry,) = skipped(reason).targets
    there = replace(entry, target=replace(TARGET, name="ethos-u85-256"), refusal=reason)
    return replace(SAMPLE_REPORT, targets=(*SAMPLE_REPORT.targets, there, CPU_ENTRY), budgets=(), fixed=None)


REPORTS = [
    SAMPLE_REPORT,
    SEVERAL,
    CPU_REPORT,
    skipped("it is compiled already"),
    skipped(NOT_ASKED),
    replace(skipped("it is compiled already"), model=replace(SAMPLE_REPORT.model, graph=())),
    replace(SAMPLE_REPORT, targets=(), budgets=()),
    refused("Vela refused the model: why"),
]
ODD = [
    "|",
    "`",
    "<b>",
    "]]>",
    "&amp;",
    "\r\n",
    "\x00",
    "\x1b[1m",
    "::error::",
    "%0A",
    ",",
    '"',
    "=1+1",
    "{0}",
    "[a](b)",
]
NAMES = st.lists(
    st.one_of(st.sampled_from([*ODD, "\ud800", "\ufffe", "@user", "#1"]), st.text(max_size=20)), max_size=5
)
names = NAMES.map("".join)
_NAMED = ("name", "evidence", "remedy", "reason", "what", "note")


def with_name(report: CheckReport, name: str) -> CheckReport:
    """The same report with this text wherever the model or its user chose one, and in what quotes it."""
    named = _renamed(msgspec.to_builtins(report), name)
    found = msgspec.convert(named, CheckReport)
    targets = tuple(
        replace(entry, target=replace(entry.target, name=each.target.name))
        for entry, each in zip(found.targets, report.targets, strict=True)
    )
    return replace(found, targets=targets)


def _renamed(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {
            key: name if key in _NAMED and isinstance(each, str) else _renamed(each, name)
            for key, each in value.items()
        }
    return [_renamed(each, name) for each in value] if isinstance(value, list | tuple) else value


def check_golden(name: str, text: str) -> None:
    """Compare with the golden file, byte for byte; write it where UPDATE_GOLDEN is set."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_bytes(text.encode())
    assert text.encode() == path.read_bytes()
