"""A round of the fuzz of the command line: every format damaged, and given to every verb that takes it."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from tests.e2e.fuzzing import PAIRS, draw_case
from tests.e2e.judging import Outcome
from tests.e2e.sound_files import ROOT, make_sound_files

TOOL = ROOT / "tools/fuzz_files.py"
SEED = 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "fuzz"


def fuzz(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, TOOL, "--seed", str(SEED), "--folder", folder, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, env=os.environ | {"COLUMNS": "80"})


def test_a_round_ends_well(folder: Path) -> None:
    done = fuzz(folder, "--markdown")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    lines = (folder / f"results_{SEED}.jsonl").read_bytes().splitlines()
    outcomes = [msgspec.json.decode(line, type=Outcome) for line in lines]
    assert Counter((outcome.format, outcome.verb) for outcome in outcomes) == Counter(PAIRS)
    codes = Counter(outcome.code for outcome in outcomes)
    assert {*codes} <= {0, 1, 2}
    assert codes[0] > 10  # damage that is harmless, or only makes another model
    assert codes[2] > 30
    assert f"| all |  | {len(outcomes)} | {codes[0]} | {codes[1]} | {codes[2]} | 0 |" in done.stdout
    assert not [*(folder / "cases").iterdir()]


def test_a_case_is_always_the_same(folder: Path, tmp_path: Path) -> None:
    """The number says all: also with other formats and verbs, later, elsewhere."""

    def files(place: Path) -> dict[str, bytes]:
        return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}

    make_sound_files(folder / "sound")
    kinds: dict[str, int] = {}
    for number, (kind, _) in enumerate(PAIRS):
        kinds.setdefault(kind, number)
    for number in kinds.values():
        places = tmp_path / "once", tmp_path / "again"
        once, again = (draw_case(SEED, number + len(PAIRS), folder / "sound", place) for place in places)
        assert once == again
        assert files(places[0]) == files(places[1])
    one = PAIRS.index(("log", "calibrate"))
    done = fuzz(folder, "--only", str(one))
    assert f"case {one} of seed {SEED}: log, " in done.stdout
    assert "$ mlia calibrate --measured " in done.stdout
    assert (folder / f"cases/{SEED}-{one}/in").is_dir()
