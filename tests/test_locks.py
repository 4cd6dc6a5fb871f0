"""What `make` and `mlia backend install` install is written in lock files that fit what is required."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from mlia.graph.formats.environments import CUDA_LOCK, environments, lock_of
from tools import lock as tool

LOCKS = [*sorted((ROOT / "locks").glob("*.txt")), CUDA_LOCK, *(lock_of(each.name) for each in environments())]


def test_they_fit_the_requirements() -> None:
    done = subprocess.run([sys.executable, "tools/lock.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_every_package_has_one_version_and_hashes(path: Path) -> None:
    entries = list(tool.pins(path.read_text()))
    assert entries
    for entry in entries:
        assert tool.HASH.search(entry)
        assert "==" in entry.split(" ")[0]


def test_users_get_what_developers_test() -> None:
    developers = {*tool.pins(tool.DEVELOPERS.read_text())}
    assert {*tool.pins(tool.USERS.read_text())} <= developers


def test_what_does_not_fit_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    path = tmp_path / "lock.txt"
    lock = tool.Lock(path, ("numpy>=2.0,<3", "h5py>=3.11"), "3.11")
    assert [*tool.misfits(lock)] == ["there is no lock.txt"]
    path.write_text("numpy==1.26.4\n")
    assert [*tool.misfits(lock)] == [
        "lock.txt has no hashes for numpy",
        "lock.txt has numpy 1.26.4, and <3,>=2.0 is asked for",
        "lock.txt lacks h5py",
    ]
    shutil.copy(tool.USERS, path)
    assert [*tool.misfits(lock)] == []
