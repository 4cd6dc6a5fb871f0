"""`mlia view` shows what was saved as it was shown."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SAMPLE
from test_cli import mlia

OFF_THE_NPU = ROOT / "examples/off_the_npu.tflite"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "report.json"
    assert mlia("check", OFF_THE_NPU, "-t", "ethos-u55-128", "--format", "json", "-o", path).returncode == 0
    return path


@pytest.mark.parametrize("form", ["terminal", "json", "html", "csv", "markdown", "junit", "model-explorer"])
def test_a_check_again(saved: Path, form: str) -> None:
    again = mlia("view", saved, "--format", form)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == mlia("check", OFF_THE_NPU, "-t", "ethos-u55-128", "--format", form).stdout


def test_limits_of_a_saved_report(saved: Path) -> None:
    done = mlia("view", saved, "--max-latency-ms", "1")
    assert done.returncode == 1
    assert "MISSED   latency: " in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        ("accuracy",),
        ("verify", SAMPLE, "-t", "ethos-u55-128", "--samples", "1"),
        ("calibrate", "--measured", f"{SAMPLE}=fvp.log", "-t", "ethos-u55-128", "--dry-run"),
    ],
    ids=lambda command: command[0],
)
def test_reports_of_other_verbs(
    command: tuple[str | Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fvp.log").write_text("NPU ACTIVE cycles: 90000\n")
    (tmp_path / "saved.json").write_text(mlia(*command, "--format", "json").stdout)
    again = mlia("view", "saved.json")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == mlia(*command).stdout
    refused = mlia("view", "saved.json", "--format", "html")
    assert refused.returncode == 2
    assert "html is for reports of `mlia check`" in refused.stderr


def test_an_optimization_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = (SAMPLE, "-t", "ethos-u55-128", "--clustering", "-o", "o.tflite", "--format")
    (tmp_path / "saved.json").write_text(mlia("optimize", *options, "json").stdout)
    assert mlia("view", "saved.json", "--format", "html").stdout == mlia("optimize", *options, "html").stdout
    assert "What was done" in mlia("view", "saved.json").stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Input data was truncated"),
        (b"[]", "is no report"),
        (b"{}", "is no report"),
        (b"\xff\xfe", "JSON is malformed"),
        (b'{"a": ' + b"[" * 5000, "nested too deeply"),
        (b'{"targets": [], "schema_version": "2.0"}', "its schema is version 2.0, and this mlia reads"),
        (b'{"targets": [], "schema_version": "4.0"}', "is a damaged report"),
    ],
)
def test_what_is_no_report_costs_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "saved.json").write_bytes(content)
    done = mlia("view", tmp_path / "saved.json")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert message in done.stderr


def test_a_report_cut_short_is_refused(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    for share in (0.1, 0.5, 0.99):
        (tmp_path / "cut.json").write_bytes(whole[: int(share * len(whole))])
        assert mlia("view", tmp_path / "cut.json").returncode == 2
    report = json.loads(whole)
    report["targets"][0]["results"][0]["performance"]["total_cycles"] = "many"
    (tmp_path / "odd.json").write_text(json.dumps(report))
    assert "is a damaged report" in mlia("view", tmp_path / "odd.json").stderr


def test_overlays_are_files_of_a_folder(saved: Path, tmp_path: Path) -> None:
    assert mlia("view", saved, "--format", "model-explorer", "-o", tmp_path / "overlays").returncode == 0
    names = {path.name for path in (tmp_path / "overlays").iterdir()}
    assert {f"ethos-u55-128.{what}.json" for what in ("cycles", "placement", "mac_utilization")} <= names
    assert mlia("view", saved, "--format", "model-explorer", "-o", saved).returncode == 2


def test_a_baseline(saved: Path) -> None:
    kept = mlia(
        "check", OFF_THE_NPU, "-t", "ethos-u55-128", "--no-try", "--max-regression-percent", "1", "--baseline", saved
    )
    assert kept.returncode == 0
    assert "kept     latency above the baseline's: 0.0 %" in kept.stdout
    for options in (("--baseline", saved), ("--max-regression-percent", "1")):
        assert mlia("check", OFF_THE_NPU, "-t", "ethos-u55-128", *options).returncode == 2
    none = mlia("check", OFF_THE_NPU, "-t", "ethos-u55-128", "--max-regression-percent", "1", "--baseline", OFF_THE_NPU)
    assert (none.returncode, len(none.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize(
    "edit",
    [
        lambda report: report["targets"][0].update(results=[]),
        lambda report: report.update(targets=[]),
        lambda report: report.update(targets=report["targets"] * 2),
        lambda report: report["targets"][0]["target"].update(clock_mhz=0),
        lambda report: report["targets"][0]["target"]["memories"][0].update(bandwidth_gb_s=0),
        lambda report: report["targets"][0]["results"][0]["performance"]["operators"][0].update(macs=-5),
        lambda report: report["model"]["graph"][1].update(reads_from=[-1]),
        lambda report: report["model"]["graph"][1].update(subgraph=-1),
        lambda report: report["model"]["graph"].append(report["model"]["graph"][0]),
    ],
)
def test_a_report_that_cannot_be_costs_one_line(edit: Callable[[Any], None], saved: Path, tmp_path: Path) -> None:
    report = json.loads(saved.read_bytes())
    edit(report)
    (tmp_path / "odd.json").write_text(json.dumps(report))
    for form in ("terminal", "html", "model-explorer"):
        done = mlia("view", tmp_path / "odd.json", "--format", form)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert "is a damaged report" in done.stderr


def test_a_saved_miss_is_shown_and_is_no_failure_of_the_view(saved: Path, tmp_path: Path) -> None:
    missed = mlia("view", saved, "--max-latency-ms", "0.1", "--format", "json")
    assert missed.returncode == 1
    (tmp_path / "missed.json").write_text(missed.stdout)
    again = mlia("view", tmp_path / "missed.json")
    assert (again.returncode, "MISSED   latency" in again.stdout) == (0, True)
    both = mlia("view", tmp_path / "missed.json", "--max-sram-kib", "1000").stdout
    assert "MISSED   latency" in both
    assert "kept     SRAM" in both
    table = mlia("view", saved, "--max-latency-ms", "0.1", "--format", "csv")
    assert (table.returncode, "missed on ethos-u55-128: latency" in table.stderr) == (1, True)
