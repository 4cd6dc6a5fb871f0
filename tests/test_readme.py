"""Every command of the README runs, and prints what the README shows."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text()
FITTED = ("mlia optimize", "mlia calibrate")
BIN = Path(sys.executable).parent


def sessions() -> list[tuple[str, list[str]]]:
    """Each command with the lines that follow it; a line of … stands for any lines."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", README, re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:].partition("  #")[0].strip(), []))
            else:
                found[-1][1].append(line)
    return found


def run(command: str, folder: Path) -> str:
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("command", "expected"), sessions())
def test_command(command: str, expected: list[str], tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    shutil.copy(ROOT / "examples/ds_cnn_small_int8.tflite", tmp_path / "your_model.tflite")
    if command == "make demo":
        # Its recipe without the set-up, which is this environment: a test must not install anything.
        recipe = run("MAKEFLAGS= make --no-print-directory --dry-run --always-make demo", ROOT).splitlines()[-1]
        command = recipe.replace(".venv/bin/", "")
    printed = run(command, tmp_path)
    if expected:
        # The last digits of what is fitted to samples depend on the processor's arithmetic.
        as_pattern = with_any_figures if command.startswith(FITTED) else re.escape
        pattern = "\n".join(r"(?:.*\n)*?.*" if line == "…" else as_pattern(line) for line in expected)
        assert re.fullmatch(pattern + r"\n?", printed)


def with_any_figures(line: str) -> str:
    """A pattern for a line like this one with other figures in it."""
    return re.sub(r"(?:\\ )+", r"\\s+", re.sub(r"\d[\d,]*(?:\\\.\d+)?", r"[\\d.,]+", re.escape(line)))


def test_profile(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", README, re.S)
    assert tomllib.loads(block)
    (tmp_path / "board.toml").write_text(block)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    assert "Target board" in run("mlia check examples/ds_cnn_small_int8.tflite -t board.toml", tmp_path)


def test_python() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.S)
    for target in ("ethos-u55-256", "ethos-u85-256", "cortex-m4"):
        code = block.replace("ethos-u55-256", target)
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert target in done.stdout  # the verdict
        latency_ms, sram_bytes, flash_bytes, arena_bytes = map(float, done.stdout.splitlines()[-1].split())
        assert 0 < latency_ms < 1000
        assert min(sram_bytes, flash_bytes, arena_bytes) > 20_000


def test_independence_is_stated() -> None:
    assert "not made, endorsed or supported by Arm" in README
    assert "Apache-2.0" in README
