"""Markdown, read back by a parser of it: the same tables whatever the names."""

import html
import re

import pytest
from conftest import ROOT
from hypothesis import given, settings
from markdown_it import MarkdownIt
from msgspec.structs import replace
from reports import CPU_REPORT, REPORTS, SEVERAL, check_golden, names, with_name
from sample import SAMPLE_REPORT

import mlia
from mlia.render.check.markdown import LONGEST, code, prose, render_markdown

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
TAG = re.compile(r"</?[a-zA-Z][^>]*>")


def page(text: str) -> str:
    return str(PARSER.render(text))


def tables(text: str) -> list[list[list[str]]]:
    """The cells of each table, as HTML."""
    found = re.findall(r"<table>(.*?)</table>", page(text), re.DOTALL)
    rows = [re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL) for table in found]
    return [[re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in table] for table in rows]


def tags(text: str) -> list[str]:
    return TAG.findall(page(text))


def test_golden() -> None:
    check_golden("report.md", render_markdown(SEVERAL))


@pytest.mark.parametrize("report", REPORTS)
def test_every_row_has_every_cell(report: mlia.CheckReport) -> None:
    text = render_markdown(report)
    assert text == render_markdown(report)
    assert text.count("<details>") == text.count("</details>")
    for table in tables(text):
        assert len({len(row) for row in table}) == 1


def test_headline_and_limits() -> None:
    figures, limits, _ = tables(render_markdown(SAMPLE_REPORT))
    assert figures[1] == ["ethos-u55-256", "0.300 (0.250..0.360)", "30,000 (-10..+11 %)", "75.0", "22.1", "35.0"]
    assert [row[0] for row in limits[1:]] == ["✅", "❌", "❌"]
    assert limits[2][2:5] == ["operators on the NPU", "75.0 %", "≥ 90.0 %"]
    assert "estimated by calibrated Vela 5.2.0" in render_markdown(SAMPLE_REPORT)


def test_a_time_that_is_not_known_has_a_reason() -> None:
    text = render_markdown(CPU_REPORT)
    assert tables(text)[0][1][1:3] == ["-", "-"]
    assert "The time on cortex-m55 is not known: 1 operator cannot run: TFLite Micro has no kernel for it" in text


def test_figures_of_a_real_check() -> None:
    report = mlia.check(ROOT / "examples/off_the_npu.tflite", "ethos-u55-128")
    figures, slowest = tables(text := render_markdown(report))
    assert figures[1] == ["ethos-u55-128", "2.511 (1.229..5.283)", "63,444 (-14..+16 %)", "66.7", "65.3", "14.1"]
    assert [row[0] for row in slowest[1:]] == ["3", "5", "4", "2", "0", "1"]
    assert slowest[1][1:6] == ["TRANSPOSE_CONV", "<code>upsampled</code>", "CPU", "1.879", "939,711"]
    assert "tried interleaved convolutions: 2.511 → 0.797 ms" in text


def test_a_comment_is_never_too_long_for_github() -> None:
    text = render_markdown(replace(SEVERAL, targets=SEVERAL.targets * 50))
    assert len(text) < LONGEST + 500
    assert "are left out for length" in text
    assert text.endswith("_by mlia 0.1.0_\n")


@pytest.mark.parametrize(
    "text", ["a|b", "`a`", "<b>a</b>", "*a* _b_ ~~c~~", "[a](http://b)", "CONV_2D", "&amp;", "$a$"]
)
def test_text_reads_as_it_is(text: str) -> None:
    inner = page(prose(text)).strip().removeprefix("<p>").removesuffix("</p>")
    assert html.unescape(inner) == text
    assert not TAG.search(inner)
    assert html.unescape(TAG.sub("", page(code(text)))).strip() == text


def test_nobody_is_called() -> None:
    assert not re.search(r"@\w|#\d", html.unescape(page(prose("thanks @user, see #12"))))
    assert "://" not in prose("http://a.b")
    assert "www." not in prose("www.example.com")


@given(names)
@settings(deadline=None, max_examples=60)
def test_no_name_changes_the_page(name: str) -> None:
    text, plain = render_markdown(with_name(SEVERAL, name)), render_markdown(with_name(SEVERAL, "plain"))
    text.encode()
    shapes = [[[len(row) for row in table] for table in tables(each)] for each in (text, plain)]
    assert shapes[0] == shapes[1]
    assert [tag for tag in tags(text) if "code" not in tag] == [tag for tag in tags(plain) if "code" not in tag]
