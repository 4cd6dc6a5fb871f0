"""`mlia calibrate` as it is typed."""

import json
from pathlib import Path

import jsonschema
import pytest
from conftest import SAMPLE
from test_cli import mlia

from mlia.render.json import json_schema
from mlia.targets.profiles import load_target
from mlia.targets.writing import write_profile


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A profile, and beside it a table of runs."""
    (tmp_path / "board.toml").write_text(write_profile(load_target("ethos-u55-128")))
    (tmp_path / "runs.csv").write_text(f"model,cycles\n{SAMPLE},100000\n")
    return tmp_path / "board.toml"


def test_a_profile_is_refined_in_its_place(board: Path) -> None:
    before = board.read_text()
    done = mlia("calibrate", "--measured", board.parent / "runs.csv", "-t", board)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 run of 1 model measured" in done.stdout
    assert "profile     " in done.stdout
    assert board.read_text().startswith(before.rstrip())
    shown = mlia("target", "show", board).stdout
    assert "NPU estimate   Vela, calibrated on 1 run of 1 model on ethos-u55-128" in shown
    checked = mlia("check", SAMPLE, "-t", board, "--performance", "--no-try").stdout
    assert "calibrated  on 1 run of 1 model on ethos-u55-128; off by" in checked
    assert sorted(path.name for path in board.parent.iterdir()) == ["board.toml", "runs.csv"]


def test_elsewhere_nowhere_and_json(board: Path) -> None:
    runs, before = board.parent / "runs.csv", board.read_text()
    new = board.parent / "new.toml"
    done = mlia("calibrate", "--measured", runs, "-t", "ethos-u55-128", "-o", new, "--format", "json")
    found = json.loads(done.stdout)
    jsonschema.validate(found, json_schema("calibrate"))
    assert (found["file"], found["models"]) == (str(new), 1)
    assert "[coefficients.physics]" in new.read_text()
    dry = mlia("calibrate", "--measured", runs, "-t", board, "--dry-run")
    assert "profile     not written" in dry.stdout
    assert board.read_text() == before


def test_the_words_of_a_profile_are_kept_beside_it_too(board: Path) -> None:
    runs = board.parent / "runs.csv"
    board.write_text(f"# mine\n{board.read_text()}")
    for place in (board.parent / "new.toml", board.parent / "." / "board.toml"):
        assert mlia("calibrate", "--measured", runs, "-t", board, "-o", place).returncode == 0
        assert place.read_text().startswith("# mine\n")


def test_a_log(board: Path) -> None:
    log = board.parent / "fvp.log"
    log.write_text("INFO - NPU ACTIVE cycles: 95000\n")
    done = mlia("calibrate", "--measured", f"{SAMPLE}={log}", "-t", board)
    assert done.returncode == 0
    assert "95,000" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--measured", "{runs}", "-t", "ethos-u55-128"), "say with --output which profile to write"),
        (("--measured", "{runs}", "-t", "ethos-u55-129"), "does not come with 129 MACs"),
        (("--measured", "{runs}", "-t", "missing.toml"), "cannot read the target profile missing.toml"),
        (("--measured", "{runs}", "-t", "cortex-m55", "-o", "{new}"), "has no NPU"),
        (("--measured", "missing.csv", "-t", "{board}"), "cannot read missing.csv"),
        (("--measured", "{runs}", "-t", "{board}", "-o", "{folder}/none/new.toml"), "there is no folder"),
        (("--measured", "{runs}", "-t", "{board}", "-o", "{runs}"), "it is what was measured"),
        (("--measured", "{board}", "-t", "{board}"), "it is what was measured"),
        (("--measured", "{runs}", "-t", "{board}", "-o", ""), "--output needs a name"),
        (("--measured", "{runs}", "-t", "{board}", "-o", "{new}", "--dry-run"), "leave out --output"),
        (("-t", "{board}"), "--measured"),
    ],
)
def test_what_cannot_be_costs_one_line(arguments: tuple[str, ...], message: str, board: Path) -> None:
    before = board.read_text()
    folder = board.parent
    names = {"runs": folder / "runs.csv", "new": folder / "new.toml", "board": board, "folder": folder}
    done = mlia("calibrate", *(each.format(**names) for each in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert board.read_text() == before
    assert not (folder / "new.toml").exists()
