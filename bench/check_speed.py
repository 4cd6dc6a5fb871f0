"""Time and memory of a full check beside its peers: `python bench/check_speed.py`.

Peers: the `vela` command, and Arm's MLIA 0.12.2. Both are installed from PyPI into environments of
their own below .bench/, on first use. Each round runs all contestants in turn, so that they share
whatever else the machine is doing; the ratios are of the medians.
"""

import argparse
import statistics
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models import visual_wake_words

BENCH = Path(__file__).parent.parent / ".bench"
PEERS = {
    "vela": ["ethos-u-vela==5.2.0"],
    "mlia-0.12.2": ["mlia==0.12.2", "mlia-ethos-u==0.1.0"],
}


@dataclass(frozen=True)
class Run:
    seconds: float
    largest_process_kib: int
    tree_kib: int


def environment(name: str) -> Path:
    """The bin folder of a peer's environment, made when it is not there."""
    folder = BENCH / name
    if not (folder / ".ready").exists():
        print(f"installing {' '.join(PEERS[name])} …", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        install = [folder / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *PEERS[name]]
        subprocess.run(install, check=True)
        (folder / ".ready").touch()
    return folder / "bin"


def tree_kib(root: int, high_water: dict[int, int]) -> int:
    """Resident memory of a process and its descendants now; notes the highest of each in `high_water`."""
    total, todo = 0, [root]
    while todo:
        process = todo.pop()
        try:
            status = Path(f"/proc/{process}/status").read_text()
            todo += map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())
        except (OSError, ValueError):
            continue
        fields = dict(line.split(":", 1) for line in status.splitlines())
        total += int(fields.get("VmRSS", "0").split()[0])
        high_water[process] = max(high_water.get(process, 0), int(fields.get("VmHWM", "0").split()[0]))
    return total


def run(command: Sequence[str | Path], folder: Path, weigh: bool) -> Run:
    """Run a command once: to time it, or to watch its memory, which takes time from it."""
    peak = 0
    high_water: dict[int, int] = {}
    start = time.perf_counter()
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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
        raise SystemExit(f"exit code {child.returncode}: {' '.join(map(str, command))}")
    return Run(seconds, max(high_water.values(), default=0), peak)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    BENCH.mkdir(exist_ok=True)
    model = BENCH / "vww_96_like_int8.tflite"
    model.write_bytes(visual_wake_words())
    ours = Path(sys.executable).with_name("mlia")
    settings = ["--accelerator-config", "ethos-u55-256", "--system-config", "Ethos_U55_High_End_Embedded"]
    both = ["--performance", "--compatibility"]
    contestants: dict[str, list[str | Path]] = {
        "mlia check (ours)": [ours, "check", model, "-t", "ethos-u55-256"],
        "vela": [environment("vela") / "vela", model, *settings, "--memory-mode", "Shared_Sram"],
        "MLIA 0.12.2": [environment("mlia-0.12.2") / "mlia", "check", model, "-t", "ethos-u55-256", *both],
        "mlia --help (ours)": [ours, "--help"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    runs: dict[str, list[Run]] = {name: [] for name in contestants}
    weights: dict[str, list[Run]] = {name: [] for name in contestants}  # the first round, which warms caches too
    for number in range(rounds + 1):
        for name, command in contestants.items():
            result = run(command, BENCH, weigh=not number)
            (runs if number else weights)[name].append(result)
    medians = {name: statistics.median(result.seconds for result in results) for name, results in runs.items()}
    print(f"{model.name}: {model.stat().st_size:,} bytes; {rounds} rounds, medians")
    for name, results in runs.items():
        largest = max(result.largest_process_kib for result in weights[name]) / 1024
        tree = max(result.tree_kib for result in weights[name]) / 1024
        fastest = min(result.seconds for result in results)
        memory = f"largest process {largest:.1f} MiB, all together {tree:.1f} MiB"
        print(f"  {name:20} {medians[name]:7.3f} s (fastest {fastest:.3f}), {memory}")
    for peer, limit in (("vela", 0.5), ("MLIA 0.12.2", 0.25)):
        ratio = medians["mlia check (ours)"] / medians[peer]
        print(f"  ours / {peer}: {ratio:.2f} (goal: at most {limit})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
