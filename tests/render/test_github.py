"""Commands of GitHub Actions, read back as the runner reads them."""

import re
from urllib.parse import unquote

import pytest
from conftest import ROOT
from hypothesis import given, settings
from msgspec.structs import replace
from reports import CPU_REPORT, REPORTS, SEVERAL, check_golden, names, with_name
from sample import SAMPLE_REPORT

import mlia
from mlia.render.check.github import render_github

COMMAND = re.compile(r"::(error|warning|notice) file=([^,:]*),title=([^,:]*)::(.*)")


def commands(text: str) -> list[tuple[str, str, str, str]]:
    """Kind, file, title and message of each line."""
    assert text == "" or text.endswith("\n")
    found = [COMMAND.fullmatch(line) for line in text.split("\n")[:-1]]
    assert all(found)
    # Percent signs are escaped last in reverse, and the runner knows these escapes only.
    assert not re.search(r"%(?!25|0D|0A|3A|2C)", text)
    return [(m[1], *(unquote(part) for part in m.groups()[1:])) for m in found if m]  # type: ignore[misc]


def test_golden() -> None:
    check_golden("github.txt", render_github(SEVERAL))


@pytest.mark.parametrize("report", REPORTS)
def test_every_line_is_a_command(report: mlia.CheckReport) -> None:
    commands(render_github(report))
    assert render_github(report) == render_github(report)


def test_missed_limits_are_errors_and_stand_first() -> None:
    found = commands(render_github(SAMPLE_REPORT, "models/a,b.tflite"))
    assert [kind for kind, *_ in found] == ["error", "error", "warning", "notice", "notice"]
    assert {file for _, file, *_ in found} == {"models/a,b.tflite"}
    message = found[0][3]
    assert message.startswith("ethos-u55-256: operators on the NPU: 75.0 %, at least 90.0 % allowed\n")
    assert "operator 1 CONV_2D" in message
    assert "the baseline has no such target" in found[1][3]


def test_one_annotation_for_what_several_targets_share() -> None:
    found = commands(render_github(SEVERAL))
    assert [message.partition(":")[0] for kind, _, _, message in found if kind == "warning"] == [
        "ethos-u55-256, ethos-u55-128"
    ]


def test_nothing_to_say_says_nothing() -> None:
    assert render_github(replace(CPU_REPORT, notes=())) == ""


def test_advice_of_a_real_check() -> None:
    report = mlia.check(ROOT / "examples/off_the_npu.tflite", "ethos-u55-128")
    found = [(kind, title) for kind, _, title, _ in commands(render_github(report))]
    assert found[:2] == [
        ("warning", "CMP032 unsupported-transposed-stride (operator 3)"),
        ("warning", "CMP037 mean-over-depth (operator 5)"),
    ]
    assert "tried interleaved convolutions: 2.511 -> 0.797 ms" in render_github(report)


@given(names)
@settings(deadline=None, max_examples=60)
def test_no_name_begins_another_command(name: str) -> None:
    text = render_github(with_name(SEVERAL, name), name)
    text.encode()
    assert [kind for kind, *_ in commands(text)] == [kind for kind, *_ in commands(render_github(SEVERAL))]
    assert len(text.splitlines()) == text.count("\n")
