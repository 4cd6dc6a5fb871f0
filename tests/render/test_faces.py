"""What reports do in a Python session: print a verdict, show HTML, be saved and read again, become a table."""

import json
import sys
import types
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import SAMPLE
from hypothesis import given
from msgspec.structs import replace
from reports import REPORTS, names, with_name
from sample import SAMPLE_REPORT
from sample_optimization import SAMPLE_OPTIMIZATION

import mlia
from mlia.faces import Face
from mlia.pipeline.accuracy import accuracy
from mlia.render.check.csv import COLUMNS, render_csv
from mlia.render.forms import SUFFIXES, forms_of
from mlia.render.json import render_json
from mlia.report import SCHEMA_VERSION
from mlia.results import Skipped


@pytest.fixture(scope="module")
def reports() -> list[Face]:
    """A report of every verb, made by the verb where that is fast."""
    off_the_npu = SAMPLE.with_name("off_the_npu.tflite")
    return [
        mlia.check(off_the_npu, ["ethos-u55-128", "cortex-m4"], try_remedies=False),
        mlia.compare(off_the_npu, SAMPLE, ["ethos-u55-128", "cortex-m4"]),
        replace(SAMPLE_OPTIMIZATION, schema_version=SCHEMA_VERSION),
        mlia.verify(SAMPLE, "ethos-u55-128", samples=1),
        mlia.convert(SAMPLE.with_name("ds_cnn_small_float.tflite")).report,
        accuracy(),
        calibrated(),
    ]


def calibrated() -> mlia.CalibrateReport:
    rows = Path(__file__).parents[2] / "examples/imaginary_board.csv"
    return mlia.calibrate(str(rows), "ethos-u55-128").report


class Tags(HTMLParser):
    """The tags of a page, of which all must be closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_verdict_is_short_and_there_for_every_verb(reports: list[Face]) -> None:
    for report in reports:
        text = str(report)
        assert len(text.splitlines()) <= 10
        assert len(text) < 4000
        assert len(report._repr_html_()) < 8000
    texts = [*map(str, reports)]
    assert "2.511 (1.229..5.283)" in texts[0]  # as `mlia check` prints it
    assert "% less time" in texts[1]
    assert "0.284 -> 0.215" in texts[2]
    assert "computes the same, bit by bit" in texts[3]
    assert "relative error" in texts[4]
    assert "ethos-u85 networks" in texts[5]
    assert "models not measured" in texts[6]


def test_many_targets_and_much_advice_stay_short() -> None:
    (entry,) = SAMPLE_REPORT.targets
    advised = replace(entry.advised, advice=entry.advised.advice * 40)
    names = [f"{number}" * 300 for number in range(10, 40)]
    many = tuple(replace(entry, advised=advised, target=replace(entry.target, name=name)) for name in names)
    report = replace(SAMPLE_REPORT, targets=many, model=replace(SAMPLE_REPORT.model, name="long" * 3000))
    assert len(str(report).splitlines()) <= 10
    assert len(str(report)) < 4000
    assert "and 25 more" in str(report)


@given(names)
def test_no_name_breaks_text_or_html(name: str) -> None:
    for report in REPORTS:
        named = with_name(report, name)
        assert str(named).replace("\n", "").isprintable()
        tags = Tags()
        tags.feed(named._repr_html_())
        assert not tags.open
        assert tags.seen <= {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td"}


def test_saved_reports_are_read_again(reports: list[Face], tmp_path: Path) -> None:
    for report in reports:
        report.save(tmp_path / "report.json")
        assert (tmp_path / "report.json").read_text() == report.to_json() == render_json(report)
        assert mlia.view(tmp_path / "report.json") == report
        assert report.to_dict() == json.loads(report.to_json())


def test_the_suffix_names_the_form(reports: list[Face], tmp_path: Path) -> None:
    for report in reports:
        for suffix, form in SUFFIXES.items():
            path = tmp_path / f"report{suffix}"
            path.unlink(missing_ok=True)
            if form in forms_of(report):
                report.save(path)
                assert path.stat().st_size
            else:
                with pytest.raises(mlia.OutputError, match=r"is saved with a name that ends in \.json"):
                    report.save(path)
                assert not path.exists()
    reports[0].save(tmp_path / "report.csv")
    assert (tmp_path / "report.csv").read_bytes().decode() == render_csv(reports[0])  # type: ignore[arg-type]
    with pytest.raises(mlia.OutputError, match=r"ends in \.json, \.html, \.csv, \.md, \.xml, \.sarif"):
        reports[0].save("report.pdf")


def test_a_model_shows_its_report(tmp_path: Path) -> None:
    made = mlia.convert(SAMPLE.with_name("ds_cnn_small_float.tflite"))
    assert str(made) == str(made.report)
    assert made._repr_html_() == made.report._repr_html_()


def test_a_table_needs_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(mlia.BackendUnavailable, match="pip install pandas"):
        SAMPLE_REPORT.to_dataframe()


def test_tables_have_the_rows_of_the_report(reports: list[Face], monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = types.ModuleType("pandas")
    pandas.DataFrame = lambda rows, columns: (columns, rows)  # type: ignore[attr-defined]
    if "pandas" not in sys.modules:
        monkeypatch.setitem(sys.modules, "pandas", pandas)
    monkeypatch.setattr(sys.modules["pandas"], "DataFrame", pandas.DataFrame)
    tables = [report.to_dataframe() for report in reports]
    columns, rows = tables[0]
    assert tuple(columns) == COLUMNS  # the words of --format csv
    assert len(rows) == 12  # six operators on each of two targets
    assert rows[0][columns.index("latency_ms")] > 0
    for columns, rows in tables:
        assert rows
        assert all(len(row) == len(columns) for row in rows)
    assert {"target", "before_total_cycles", "after_total_cycles"} <= {*tables[1][0], *tables[2][0]}


def test_a_refused_target_is_told() -> None:
    (entry,) = SAMPLE_REPORT.targets
    nothing = replace(entry.results[0], compatibility=Skipped("a", "why"), performance=Skipped("b", "why"))
    refused = replace(entry, results=(nothing,), refusal="Vela refused the model")
    assert "not checked: Vela refused the model" in str(replace(SAMPLE_REPORT, targets=(refused,)))


def test_what_is_built_in_is_listed() -> None:
    import mlia.rules
    import mlia.targets

    targets = mlia.targets()
    assert str(targets[0]).startswith("ethos-u55-32: Ethos-U55, 32 MACs per cycle at 500 MHz")
    assert str(targets[-1]).startswith("cortex-m")
    assert mlia.check(SAMPLE, targets[0], try_remedies=False).targets[0].target.name == targets[0].name
    rules = mlia.rules()
    assert [rule.code for rule in rules] == sorted(rule.code for rule in rules)
    assert str(next(rule for rule in rules if rule.code == "PER002")).startswith("PER002 channels-past-block (note): A")
