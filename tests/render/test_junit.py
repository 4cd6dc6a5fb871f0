"""JUnit XML: only limits fail, and every document follows the schema."""

from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
import xmlschema
from conftest import ROOT, SAMPLE
from hypothesis import given, settings
from msgspec.structs import replace
from reports import REPORTS, SEVERAL, check_golden, names, skipped, with_name
from sample import SAMPLE_REPORT

import mlia
from mlia.render.check.junit import render_junit
from mlia.report import Budget

SCHEMA = xmlschema.XMLSchema(str(Path(__file__).parent / "junit.xsd"))


def parsed(report: mlia.CheckReport) -> Element:
    """The document, which follows the schema and counts right."""
    root = ElementTree.fromstring(render_junit(report).encode())
    SCHEMA.validate(root)
    for element in (root, *root.iter("testsuite")):
        for attribute, kind in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
            assert element.get(attribute) == str(len(list(element.iter(kind))))
    for suite in root:
        cases = [case.get("name") for case in suite.iter("testcase")]
        assert len(set(cases)) == len(cases)
    return root


def case(root: Element, name: str) -> Element:
    return next(each for each in root.iter("testcase") if each.get("name") == name)


def test_golden() -> None:
    check_golden("junit.xml", render_junit(SEVERAL))


@pytest.mark.parametrize("report", REPORTS)
def test_every_report_follows_the_schema(report: mlia.CheckReport) -> None:
    root = parsed(report)
    assert [suite.get("name") for suite in root] == [entry.target.name for entry in report.targets]
    assert render_junit(report) == render_junit(report)


def test_a_missed_limit_fails_and_one_that_is_not_known_is_an_error() -> None:
    root = parsed(SAMPLE_REPORT)
    assert [each.tag for each in case(root, "limit latency_ms")] == ["system-out"]
    failure = case(root, "limit npu_percent").find("failure")
    assert failure is not None
    assert failure.get("message") == "operators on the NPU: 75.0 %, at least 90.0 % allowed"
    assert "to blame: operator 1 CONV_2D" in (failure.text or "")
    assert "advice: CMP031" in (failure.text or "")
    error = case(root, "limit regression_percent").find("error")
    assert error is not None
    assert "the baseline has no such target" in (error.get("message") or "")


def test_a_miss_by_little_does_not_read_as_if_it_were_none() -> None:
    close = Budget("ethos-u55-256", "latency_ms", 0.3, 0.3000001, False, "", ())
    failure = case(parsed(replace(SAMPLE_REPORT, budgets=(close,))), "limit latency_ms").find("failure")
    assert failure is not None
    assert failure.get("message") == "latency: 0.3000001 ms, at most 0.3 ms allowed"


def test_warnings_do_not_fail() -> None:
    report = mlia.check(ROOT / "examples/off_the_npu.tflite", ["ethos-u55-128", "cortex-m4"])
    root = parsed(report)
    assert (root.get("failures"), root.get("errors")) == ("0", "0")
    assert [each.get("name") for each in root[0].iter("testcase")] == [
        "estimate",
        "CMP032 unsupported-transposed-stride (operator 3)",
        "CMP037 mean-over-depth (operator 5)",
    ]
    assert "ethos-u55-128: 2.511 ms (1.229..5.283), 63,444 cycles" in (
        case(root, "estimate").findtext("system-out") or ""
    )


def test_a_suite_is_never_empty_and_tells_what_was_skipped() -> None:
    found = case(parsed(skipped("it is compiled already")), "estimate").find("skipped")
    assert found is not None
    assert found.get("message") == "it is compiled already"
    assert case(parsed(mlia.check(SAMPLE, "ethos-u55-128")), "estimate").find("skipped") is None


@given(names)
@settings(deadline=None, max_examples=60)
def test_no_name_breaks_the_document(name: str) -> None:
    root = parsed(with_name(SEVERAL, name))
    assert [len(list(suite.iter("testcase"))) for suite in root] == [
        len(list(suite.iter("testcase"))) for suite in parsed(SEVERAL)
    ]
