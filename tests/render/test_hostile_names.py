"""Names that a terminal or a browser would obey are shown harmlessly, in every form."""

import re
import xml.dom.minidom
from pathlib import Path

import msgspec
import pytest

from mlia.graph.tflite_writer import write_tflite
from mlia.pipeline.check.check import check
from mlia.render.check.terminal import TerminalStyle, render_terminal
from mlia.render.forms import MODULES, in_form
from mlia.report import CheckReport
from tests.models import sandwich

BAD = "a\x1b[31m\u202e|b\r\n\x00`<img src=x onerror=alert(1)>\x9b\u2066::error::x ]]> &"
OBEYED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> CheckReport:
    path: Path = tmp_path_factory.mktemp("folder") / "m\x1b[1m\u202e|\n<b>.tflite"
    path.write_bytes(write_tflite(sandwich("CUMSUM", names=(f"=cmd|{BAD}", f"{BAD}2", f"]]>{BAD}"))))
    return check(str(path), "ethos-u55-256", try_remedies=False)


@pytest.mark.parametrize("form", ["terminal", *MODULES])
def test_nothing_is_obeyed(report: CheckReport, form: str) -> None:
    is_text = form == "terminal"
    text = render_terminal(report, TerminalStyle(width=100, color=False)) if is_text else in_form(report, form)
    assert OBEYED.findall(text) == []
    if form == "html":
        assert "<img" not in text
        assert not re.search(r"\\u(00[01][0-9a-f]|007f|202e)", text)
    elif form == "junit":
        xml.dom.minidom.parseString(text)
    elif form == "csv":
        assert not re.search(r"(^|,)\"?=", text, re.MULTILINE)
    elif form == "json":
        assert msgspec.json.decode(text, type=CheckReport) == report
    elif form == "github":
        assert all(line.startswith("::") for line in text.splitlines())
