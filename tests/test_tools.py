"""Every script in tools/ and bench/ explains itself when asked to, and does nothing else then."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

SCRIPTS = [path for folder in ("tools", "bench") for path in sorted((ROOT / folder).glob("*.py"))]
COMMANDS = [path for path in SCRIPTS if "__main__" in path.read_text()]


def contents() -> dict[str, str]:
    """What the scripts could write: everything that is kept in the repository, and .bench/."""
    folders = [ROOT / name for name in ("bench", "docs", "examples", "src", "tools", ".bench")]
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix != ".pyc" and path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_help_only_helps(script: Path, tmp_path: Path) -> None:
    before = contents()
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, script, "--help"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert contents() == before
    assert not list(tmp_path.iterdir())
    if script in COMMANDS:
        usage, said, *_ = done.stdout.split("\n\n")
        assert usage.startswith(f"usage: {script.name}")
        assert said.split()[0][0].isupper()  # a sentence says what it is for, before the options
    else:
        assert done.stdout == ""  # what the scripts share; no command
