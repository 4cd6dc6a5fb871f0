"""Fuzz the simulator: every kind of operator on every NPU, beside LiteRT's reference kernels.

    python tools/fuzz_simulator.py --seeds 3 [--first 0] [--targets ethos-u55-128,…] [--kinds add,…]

Prints a line for whatever is not exact, and a table of kinds; exits with 1 if a difference is not documented.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.simulator.fuzzing import DOCUMENTED, EXACT, FAILED, TARGETS, Outcome, jobs, run
from tests.simulator.single_operators import KINDS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="models per kind and type")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    chosen = parser.parse_args()
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    todo = jobs(seeds, tuple(chosen.targets.split(",")), tuple(chosen.kinds.split(",")))
    started = time.monotonic()
    outcomes = []
    with multiprocessing.get_context("spawn").Pool(chosen.processes, maxtasksperchild=500) as pool:
        for outcome in pool.imap(run, todo, chunksize=4):
            outcomes.append(outcome)
            if outcome.verdict != EXACT:
                job = outcome.job
                where = f"{job.kind} {job.dtype} seed {job.seed} {job.target}"
                print(f"{outcome.verdict:10} {where}: {outcome.why}", flush=True)
    print_table(outcomes)
    counts = Counter(outcome.verdict for outcome in outcomes)
    print(f"\n{len(outcomes)} models in {time.monotonic() - started:.0f} s: {dict(counts)}")
    return 1 if counts[FAILED] else 0


def print_table(outcomes: list[Outcome]) -> None:
    found: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        found[outcome.job.kind, outcome.job.dtype][outcome.verdict] += 1
    print(f"\n{'kind':28} {'type':6} {'models':>7} {EXACT:>7} {DOCUMENTED:>11} {FAILED:>7}")
    for (kind, dtype), counts in found.items():
        numbers = f"{counts.total():7} {counts[EXACT]:7} {counts[DOCUMENTED]:11} {counts[FAILED]:7}"
        print(f"{kind:28} {dtype:6} {numbers}")


if __name__ == "__main__":
    raise SystemExit(main())
