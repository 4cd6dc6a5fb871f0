"""The suffix of the report's file stands for --format, in every verb that has one."""

import json
from pathlib import Path

import pytest
from conftest import SAMPLE
from test_cli import mlia

CHECK = ("check", SAMPLE, "-t", "ethos-u55-256", "--no-try")
FLOAT = SAMPLE.with_name("ds_cnn_small_float.tflite")


@pytest.mark.parametrize(
    ("name", "form", "begins"),
    [
        ("r.html", "html", "<!DOCTYPE html>"), ("r.JSON", "json", "{"), ("r.csv", "csv", "target,"),
        ("r.md", "markdown", "#"), ("r.xml", "junit", "<?xml"), ("r.sarif", "sarif", "{"),
    ],
)  # fmt: skip
def test_a_file_is_written_as_it_is_called(name: str, form: str, begins: str, tmp_path: Path) -> None:
    file = tmp_path / name
    done = mlia(*CHECK, "-o", file)
    assert done.stderr == f"mlia: {file} is written as {form}; --format says otherwise\n"
    assert file.read_text().startswith(begins)


def test_format_says_otherwise_and_other_names_say_nothing(tmp_path: Path) -> None:
    assert mlia(*CHECK, "-o", tmp_path / "a.html", "--format", "json").stderr == ""
    assert "targets" in json.loads((tmp_path / "a.html").read_text())
    assert mlia(*CHECK, "-o", tmp_path / "b.txt").stderr == ""
    assert (tmp_path / "b.txt").read_text().startswith(SAMPLE.name)


def test_it_means_the_same_in_every_verb(tmp_path: Path) -> None:
    for words in (
        ("verify", SAMPLE, "-t", "ethos-u55-256", "-o"),
        ("compare", SAMPLE, SAMPLE.with_name("off_the_npu.tflite"), "-t", "ethos-u55-256", "-o"),
        ("accuracy", "-o"),
        ("optimize", FLOAT, "-t", "ethos-u55-256", "--clustering", "-o", tmp_path / "m.tflite", "--report"),
    ):
        file = tmp_path / f"{words[0]}.json"
        assert "is written as json" in mlia(*words, file).stderr
        assert json.loads(file.read_text())["schema_version"]


def test_a_form_that_a_verb_does_not_have_is_not_guessed(tmp_path: Path) -> None:
    done = mlia("verify", SAMPLE, "-t", "ethos-u55-256", "-o", tmp_path / "r.csv")
    assert done.stderr == ""
    assert (tmp_path / "r.csv").read_text().startswith(SAMPLE.name)
