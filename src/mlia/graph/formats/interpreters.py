"""The Pythons of this machine, of which one makes a converter's environment."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from mlia.lifeline import Dependent

_NEWEST_FIRST = ("python3.14", "python3.13", "python3.12", "python3.11")


def interpreters() -> Iterator[str]:
    """This Python, those on the PATH, and those that pyenv and uv keep in folders of their own; the newest first."""
    yield sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or data / "uv/python")
    for name in _NEWEST_FIRST:
        if found := shutil.which(name):
            yield found
        for kept in (pyenv, uv):
            yield from map(str, sorted(kept.glob(f"*/bin/{name}")))


def version_of(python: str) -> tuple[int, int] | None:
    """The version of a python that really runs (pyenv's stand-ins may not)."""
    command = [python, "-I", "-c", "import sys; print(*sys.version_info[:2])"]
    try:
        process = Dependent(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            output, _ = process.communicate(timeout=60)
        finally:
            process.end()
        major, minor = output.split()
        return int(major), int(minor)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
