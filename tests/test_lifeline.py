"""Children end with their parent. A pidfd can be read when its process has ended, so nothing here waits for a clock."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pidfd")
LATEST_S = 30  # after which a test fails instead of waiting for ever
MLIA = Path(sys.executable).with_name("mlia")
EXAMPLES = Path(__file__).parent.parent / "examples"

# The child says who it and its own child are, and is busy; the parent says so too, and waits.
PARENT = """
import subprocess, sys
from mlia import lifeline
lifeline.KERNEL_KILLS = sys.argv[1] == "kernel"
code = "import os, subprocess; own = subprocess.Popen(['sleep', '1000']); print(os.getpid(), own.pid, flush=True)"
child = lifeline.Dependent([sys.executable, "-c", code + "\\nwhile True: pass"], stdout=subprocess.PIPE)
print(child.stdout.readline().decode(), flush=True)
child.wait()
"""


@pytest.fixture
def parent(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    process = subprocess.Popen([sys.executable, "-c", PARENT, request.param], stdout=subprocess.PIPE)
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    files = [os.pidfd_open(pid) for pid in pids]
    yield process, files
    process.kill()
    process.communicate()
    for file in files:
        os.close(file)


@pytest.mark.parametrize("parent", ["kernel", "shell"], indirect=True)
def test_a_busy_child_and_its_own_child_end_with_a_parent_that_is_killed(
    parent: tuple[subprocess.Popen[bytes], list[int]],
) -> None:
    process, files = parent
    assert len(files) == 2
    process.kill()
    assert all(select.select([file], [], [], LATEST_S)[0] for file in files)


def descendants(pid: int) -> set[int]:
    """The children of a process, and theirs."""
    found = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child, *descendants(child)}
    return found


@pytest.mark.parametrize(
    "words",
    [
        ("check", "ds_cnn_small_int8.tflite", "-t", "ethos-u55-256"),
        ("verify", "ds_cnn_small_int8.tflite", "-t", "ethos-u55-256", "--samples", "5000"),
        ("convert", "ds_cnn_small_float.tflite", "-o", "converted.tflite"),
        ("optimize", "ds_cnn_small_float.tflite", "-t", "ethos-u55-256", "--clustering", "--finetune", "2000"),
    ],
    ids=lambda words: words[0],
)
def test_no_child_of_a_verb_outlives_it(words: tuple[str, ...], tmp_path: Path) -> None:
    verb, model, *options = words
    process = subprocess.Popen([MLIA, verb, EXAMPLES / model, *options], stdout=subprocess.DEVNULL, cwd=tmp_path)
    try:
        while not (pids := descendants(process.pid)):
            assert process.poll() is None, "it has had no child"
        files = [os.pidfd_open(pid) for pid in pids]
    finally:
        process.kill()
        process.wait()
    assert all(select.select([file], [], [], LATEST_S)[0] for file in files)
    for file in files:
        os.close(file)


def test_a_line_that_is_let_go_leaves_nothing() -> None:
    from mlia.lifeline import Dependent

    before = {*os.listdir("/proc/self/fd")}
    child = Dependent([sys.executable, "-c", "print(1)"], stdout=subprocess.PIPE)
    assert child.communicate() == (b"1\n", None)
    child.end()
    del child
    assert {*os.listdir("/proc/self/fd")} == before
