import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlia.cli.backend import add_arguments, run
from mlia.cli.main import Parser
from mlia.errors import BackendUnavailable


def backend(*words: str) -> int:
    parser = Parser("mlia backend")
    add_arguments(parser)
    return run(parser.parse_args(words))


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLIA_HOME", str(tmp_path))


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert backend("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["backend", "state", "size", "what", "it", "is", "for"]
    assert lines[1].startswith("vela        available 5.")
    assert [line.split()[0] for line in lines[2:]] == ["onnx", "torch", "savedmodel"]
    assert "not installed: mlia backend install onnx" in lines[2]
    assert "about 660 MB" in lines[2]
    assert lines[2].endswith("ONNX models (onnx2tf==2.6.9)")


def test_unknown_name() -> None:
    with pytest.raises(BackendUnavailable, match="there are onnx, torch, savedmodel"):
        backend("install", "keras")


@pytest.mark.parametrize("words", [("install",), ("list", "onnx"), ("remove", "onnx"), ()])
def test_wrong_words(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        backend(*words)
    assert caught.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_listing_imports_nothing_heavy() -> None:
    code = "import sys; from mlia.cli import backend; backend._list(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert not {"numpy", "torch", "tensorflow", "onnx", "ethosu"} & set(done.stdout.split())
