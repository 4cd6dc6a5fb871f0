"""`mlia compare` and `mlia diff` as commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from conftest import ROOT, SAMPLE

from mlia.render.json import json_schema
from mlia.report import SCHEMA_VERSION

MLIA = Path(sys.executable).with_name("mlia")
OTHER = ROOT / "examples/off_the_npu.tflite"
U55 = ("-t", "ethos-u55-128")


def mlia(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([MLIA, *arguments], capture_output=True, text=True, env=os.environ, timeout=600)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("saved")
    for model in (SAMPLE, OTHER):
        assert (
            mlia("check", model, *U55, "--no-try", "--format", "json", "-o", folder / f"{model.stem}.json").returncode
            == 0
        )
    return folder / f"{SAMPLE.stem}.json", folder / f"{OTHER.stem}.json"


def test_models_and_their_reports_say_the_same(saved: tuple[Path, Path]) -> None:
    told = []
    for before in (SAMPLE, saved[0]):
        for after in (OTHER, saved[1]):
            target = U55 if "tflite" in before.suffix + after.suffix else ()
            done = mlia("compare", before, after, *target, "--format", "json")
            assert (done.returncode, done.stderr) == (0, "")
            report = json.loads(done.stdout)
            jsonschema.validate(report, json_schema("compare"))
            told.append(report["targets"])
    assert told[0] == told[1] == told[2] == told[3]


def test_the_same_input_gives_the_same_bytes_under_both_names(saved: tuple[Path, Path], tmp_path: Path) -> None:
    for form in ("terminal", "json", "markdown"):
        texts = [mlia(verb, *saved, "--format", form).stdout for verb in ("compare", "diff", "diff")]
        assert texts[0] == texts[1] == texts[2] != ""
        out = tmp_path / form
        assert mlia("compare", *saved, "--format", form, "-o", out).stdout == ""
        assert out.read_text() == texts[0]


def test_the_exit_code_tells_a_regression(saved: tuple[Path, Path]) -> None:
    slower, faster = mlia("compare", *saved, "--max-regression-percent", "10"), mlia("compare", *reversed(saved))
    assert slower.returncode == 1
    assert "Limit of the regression: missed on 1 of 1 target\n" in slower.stdout
    assert "TRANSPOSE_CONV 'upsampled'" in slower.stdout
    assert faster.returncode == 0
    assert mlia("compare", *reversed(saved), "--max-regression-percent", "0").returncode == 0
    assert mlia("compare", *saved, "--max-regression-percent", "1e6").returncode == 0


def test_lines_fit_a_terminal_of_80_columns(saved: tuple[Path, Path]) -> None:
    assert max(map(len, mlia("compare", *saved).stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.json", "REPORT"], "cannot read missing.json: No such file"),
        (["TRUNCATED", "REPORT"], "Input data was truncated"),
        (["OLD", "REPORT"], "its schema is version 2.0, and this mlia reads 4.x"),
        (["{}", "REPORT"], "is no report; --format json of a verb writes one"),
        (["TEXT", "REPORT", *U55], "its format is not known"),
        (["DEEP", "REPORT"], "it is nested too deeply"),
        (["NO_GRAPH", "REPORT"], "does not list the operators"),
        (["REPORT", "REPORT"], "are the same file"),
        (["MODEL", "MODEL", *U55], "are the same file"),
        (["/dev/zero", "REPORT", *U55], "it is a device"),
        (["MODEL", "REPORT"], "name one with -t"),
        (["MODEL", "OTHER", "-t", "nope"], "no target 'nope'"),
        (["MODEL", "REPORT", "-t", "ethos-u85-256"], "no report is about ethos-u85-256, but about ethos-u55-128"),
        (["REPORT", "SECOND", "-t", "ethos-u85-256"], "no report is about ethos-u85-256"),
        (["REPORT", "SECOND", "--estimator", "vela"], "options of quantizing and estimating are for models"),
        (["REPORT", "SECOND", "-o", "/nowhere/x"], "cannot write /nowhere/x"),
        (["REPORT", "SECOND", "-o", ""], "the name of its file is empty"),
        (["REPORT", "SECOND", "-o", "SECOND"], "it is what is compared"),
        (["REPORT", "SECOND", "--max-regression-percent", "-1"], "'-1' is not a percentage"),
        (["REPORT", "SECOND", "--max-regression-percent", "nan"], "'nan' is not a percentage"),
        (["REPORT", "SECOND", "--all-operators", "--format", "json"], "for the terminal"),
        (["REPORT"], "required: AFTER"),
    ],
)
def test_what_cannot_be_compared_costs_one_line(
    arguments: list[str], message: str, saved: tuple[Path, Path], tmp_path: Path
) -> None:
    text = saved[0].read_text()
    without = json.loads(text)
    without["model"]["graph"] = []
    content = {
        "TRUNCATED": text[:3000],
        "OLD": text.replace(f'"schema_version": "{SCHEMA_VERSION}"', '"schema_version": "2.0"'),
        "{}": "{}",
        "TEXT": "a text",
        "DEEP": '{"schema_version":"4.0","x":' + "[" * 5000 + "]" * 5000 + "}",
        "NO_GRAPH": json.dumps(without),
    }
    for name, each in content.items():
        (tmp_path / name).write_text(each)
    known = {"MODEL": SAMPLE, "OTHER": OTHER, "REPORT": saved[0], "SECOND": saved[1]}
    known |= {name: tmp_path / name for name in content}
    assert message in one_line(mlia("compare", *(known.get(each, each) for each in arguments)))
    assert saved[0].read_text() == text


def test_reports_out_of_pipes(saved: tuple[Path, Path]) -> None:
    command = f"'{MLIA}' compare <(cat '{saved[0]}') <(cat '{saved[1]}')"
    done = subprocess.run(command, shell=True, executable="/bin/bash", capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    refused = f"'{MLIA}' compare '{saved[0]}' <(cat '{OTHER}') -t ethos-u55-128"
    done = subprocess.run(refused, shell=True, executable="/bin/bash", capture_output=True, text=True, timeout=600)
    assert "only a report can come out of a pipe" in one_line(done)


def test_the_schema_is_the_published_one() -> None:
    assert mlia("schema", "compare").stdout == (ROOT / "docs/compare.schema.json").read_text()
