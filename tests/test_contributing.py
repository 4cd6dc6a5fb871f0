"""Every recipe of docs/contributing.md works as it stands there, in the files that it names and no others."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

GUIDE = (ROOT / "docs/contributing.md").read_text()
BLOCK = re.compile(r'^```(\w+)(?: file=(\S+))?(?: (like|below)=("(?:[^"\\]|\\.)*"|\S+))?\n(.*?)^```$', re.M | re.S)
RECIPES = dict(re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", GUIDE, re.M | re.S))


def apply(recipe: str, root: Path) -> list[tuple[str, list[str]]]:
    """Write what a recipe says into a copy of the sources; returns its commands, with what they must print."""
    commands = []
    for language, file, how, where, text in BLOCK.findall(recipe):
        if language == "console":
            command, *expected = text.splitlines()
            commands.append((command.removeprefix("$ "), expected))
            continue
        path = root / file
        if how == "below":
            line = where.strip('"').replace('\\"', '"')
            whole = path.read_text()
            assert whole.count(f"{line}\n") == 1, f"{line!r} is not one line of {file}"
            path.write_text(whole.replace(f"{line}\n", f"{line}\n{text}"))
        else:
            assert not path.exists(), f"{file} is there already"
            path.write_text(like(root / where, text) if how == "like" else text)
    return commands


def like(other: Path, lines: str) -> str:
    """Another file, with lines of it replaced by those of the same key."""
    text = other.read_text()
    for line in lines.splitlines():
        key = line.split(" = ")[0]
        text, count = re.subn(rf"^{key} = .*$", line, text, flags=re.M)
        assert count == 1
    return text


def test_each_kind_of_part_has_a_recipe() -> None:
    assert list(RECIPES) == [
        "A rule", "A remedy", "A target", "A core", "A format", "A form of the report", "A verb",
    ]  # fmt: skip


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_works(title: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    before = {path: path.read_bytes() for path in (tmp_path / "src").rglob("*") if path.is_file()}
    commands = apply(RECIPES[title], tmp_path)
    assert commands
    named = {tmp_path / file for _, file, *_ in BLOCK.findall(RECIPES[title]) if file}
    after = {path: path.read_bytes() for path in (tmp_path / "src").rglob("*") if path.is_file()}
    assert {path for path in after if before.get(path) != after[path]} == named
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin/mlia"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m mlia "$@"\n')
    script.chmod(0o755)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src"), "PATH": f"{script.parent}:{os.environ['PATH']}"}
    for command, expected in commands:
        done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for line in expected:
            assert line in done.stdout
