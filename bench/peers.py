"""Peers in environments of their own below .bench/, and commands that are timed or weighed."""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).parent.parent / ".bench"
PEERS = {
    "vela": ["ethos-u-vela==5.2.0"],
    "mlia-0.12.2": ["mlia==0.12.2", "mlia-ethos-u==0.1.0"],
    # The last one that optimizes. Its `mlia-backend install vela` takes the newest Vela; this is ours.
    "mlia-0.9.2": ["mlia==0.9.2", "ethos-u-vela==5.2.0"],
    "tensorflow": ["tensorflow-cpu==2.21.*"],
}
PYTHON = {"mlia-0.9.2": "python3.10"}  # it pins TensorFlow 2.15.1, which has wheels for 3.9 to 3.11


@dataclass(frozen=True)
class Run:
    seconds: float
    cpu_seconds: float  # of it and its descendants; a busy machine changes this less
    largest_process_kib: int
    tree_kib: int


def environment(name: str) -> Path:
    """The bin folder of a peer's environment, made when it is not there.

    Raises:
        FileNotFoundError: the Python that it needs is not on this machine.
    """
    folder = BENCH / name
    if not (folder / ".ready").exists():
        python = find_python(PYTHON[name]) if name in PYTHON else sys.executable
        print(f"installing {' '.join(PEERS[name])} …", file=sys.stderr)
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        install = [folder / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *PEERS[name]]
        subprocess.run(install, check=True)
        (folder / ".ready").touch()
    return folder / "bin"


def find_python(name: str) -> str:
    """A Python by its name on the path or among pyenv's; pyenv's stand-ins are found but may refuse to run."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for found in (shutil.which(name), *root.glob(f"versions/*/bin/{name}")):
        if found and not subprocess.run([found, "-c", "pass"], capture_output=True).returncode:
            return str(found)
    raise FileNotFoundError(f"{name} is not here")


def tree_kib(root: int, high_water: dict[int, int]) -> int:
    """Resident memory of a process and its descendants now; notes the highest of each in `high_water`."""
    total, todo = 0, [root]
    while todo:
        process = todo.pop()
        try:
            status = Path(f"/proc/{process}/status").read_text()
            for children in Path(f"/proc/{process}/task").glob("*/children"):  # each thread has its own
                todo += map(int, children.read_text().split())
        except (OSError, ValueError):
            continue
        fields = dict(line.split(":", 1) for line in status.splitlines())
        total += int(fields.get("VmRSS", "0").split()[0])
        high_water[process] = max(high_water.get(process, 0), int(fields.get("VmHWM", "0").split()[0]))
    return total


def run(command: Sequence[str | Path], folder: Path, weigh: bool, log: Path | None = None) -> Run:
    """Run a command once: to time it, or to watch its memory, which takes time from it.

    Its stdout goes to `log`, or nowhere, its stderr to a file, and is shown when it fails. The folder of the
    command comes first on its path.
    """
    peak = 0
    high_water: dict[int, int] = {}
    path = os.pathsep.join([str(Path(command[0]).parent), os.environ["PATH"]])
    with open(log or os.devnull, "wb") as output, tempfile.TemporaryFile() as errors:
        start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        child = subprocess.Popen(command, cwd=folder, stdout=output, stderr=errors, env=os.environ | {"PATH": path})
        done = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.004):
                peak = max(peak, tree_kib(child.pid, high_water))

        watcher = threading.Thread(target=watch)
        if weigh:
            watcher.start()
        child.wait()
        seconds = time.perf_counter() - start
        done.set()
        if weigh:
            watcher.join()
        if child.returncode:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()
            raise SystemExit(f"exit code {child.returncode}: {' '.join(map(str, command))}\n{said}")
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return Run(seconds, cpu_seconds, max(high_water.values(), default=0), peak)
