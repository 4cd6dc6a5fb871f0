"""Files of any size and kind where a text or a report is expected."""

import errno
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mlia import input as module
from mlia.errors import MeasurementError, MliaError, ReportError, TargetError, TransformError, shortage
from mlia.input import LOG_BYTES, REPORT_BYTES, TEXT_BYTES, read_file
from mlia.pipeline.budgets import load_budget
from mlia.pipeline.calibrate.measured_runs import cycles_of_log
from mlia.pipeline.saved import view
from mlia.recipe import load_recipe
from mlia.targets.profiles import load_target
from mlia.targets.target import read_vela_ini

READERS: list[tuple[Callable[[str], object], int, type[MliaError]]] = [
    (load_recipe, TEXT_BYTES, TransformError),
    (load_budget, TEXT_BYTES, TargetError),
    (load_target, TEXT_BYTES, TargetError),
    (read_vela_ini, TEXT_BYTES, TargetError),
    (cycles_of_log, LOG_BYTES, MeasurementError),
    (view, REPORT_BYTES, ReportError),
]


@pytest.mark.parametrize(("read", "limit_bytes", "error"), READERS)
def test_every_reader_has_a_limit(
    read: Callable[[str], object], limit_bytes: int, error: type[MliaError], tmp_path: Path
) -> None:
    path = tmp_path / "large.toml"
    with path.open("wb") as file:
        file.truncate(limit_bytes + 1)
    with pytest.raises(error, match=f"larger than {limit_bytes >> 20} MiB"):
        read(str(path))


@pytest.mark.parametrize(("read", "limit_bytes", "error"), READERS)
def test_no_reader_waits_for_a_pipe_that_nobody_writes_to(
    read: Callable[[str], object],
    limit_bytes: int,
    error: type[MliaError],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_WAIT_MS", 0)
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(error, match="a pipe that nobody writes to"):
        read(str(tmp_path / "pipe.toml"))


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero"])
def test_a_device_is_no_file(path: str) -> None:
    with pytest.raises(OSError, match="a device"):
        read_file(path, TEXT_BYTES)


def test_a_pipe_is_read_to_its_end() -> None:
    far, near = os.pipe()
    content = b"x" * 300_000  # more than a pipe holds
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=near) as process:
        os.close(near)
        assert process.stdin is not None
        feed = threading.Thread(target=lambda: process.communicate(content))
        feed.start()
        assert read_file(f"/dev/fd/{far}", TEXT_BYTES) == content
        feed.join()
    os.close(far)


def test_an_endless_pipe_is_refused() -> None:
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with pytest.raises(OSError, match="larger than 1 MiB"):
            read_file(f"/dev/fd/{process.stdout.fileno()}", TEXT_BYTES)
        process.kill()


def test_a_file_that_tells_no_size() -> None:
    assert read_file("/proc/self/status", TEXT_BYTES).startswith(b"Name:")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, "…"), "ulimit -n"),
        (ImportError(f"numpy.so: {os.strerror(errno.EMFILE)}"), "ulimit -n"),
        (BlockingIOError(errno.EAGAIN, "…"), "ulimit -u"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (MemoryError(), "memory"),
        (RuntimeError("Could not determine home directory."), "set HOME"),
        (PermissionError(errno.EACCES, "Permission denied", "/tmp/x"), "Permission denied: /tmp/x"),
    ],
)
def test_what_is_lacking_is_told(error: Exception, words: str) -> None:
    assert words in shortage(error)


@pytest.mark.parametrize("error", [ImportError("no module"), RuntimeError("odd"), KeyError("x")])
def test_a_defect_of_ours_is_no_shortage(error: Exception) -> None:
    assert shortage(error) == ""
