"""Fuzz the command line: damaged files of every format, given to every verb, each in a fresh process.

    python tools/fuzz_files.py --cases 10000 [--seed 1] [--first 0] [-j 2] [--formats tflite,…] [--verbs check,…]
    python tools/fuzz_files.py --seed 1 --only 4711      # one case again: its command, its files, what it said

Case N of a seed is always the same. Prints a line for each defect, then the table of formats and verbs, then the
defects by their cause; exits with 1 if there are any. What broke stays in the folder, one folder a case.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parent.parent))

from mlia.graph.formats.environments import home
from tests.e2e.fuzzing import MODELS, PAIRS, ROUND, VERBS, draw_case
from tests.e2e.judging import MEMORY_LIMIT_BYTES, TIMEOUT_S, Outcome, adopt_orphans, judged
from tests.e2e.sound_files import ROOT, make_sound_files

FOLDER = ROOT / "build/fuzz_files"


def main() -> int:
    chosen = _arguments()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    sound = _sound_files(chosen.folder, chosen.models)
    if chosen.only is not None:
        return _once(chosen, sound)
    formats = _formats(chosen.formats)
    results = chosen.folder / f"results_{chosen.seed}.jsonl"
    known = _known(results) if chosen.resume else {}
    numbers = _numbers(chosen.first, chosen.cases, formats, chosen.verbs.split(","))
    started, outcomes = time.monotonic(), [known[number] for number in numbers if number in known]
    job = partial(run_case, chosen.seed, sound, chosen.folder / "cases")
    context = multiprocessing.get_context("spawn")
    with results.open("ab" if chosen.resume else "wb") as file:
        with context.Pool(chosen.jobs, adopt_orphans, maxtasksperchild=500) as pool:
            for outcome in pool.imap_unordered(job, [number for number in numbers if number not in known]):
                outcomes.append(outcome)
                file.write(msgspec.json.encode(outcome) + b"\n")
                file.flush()
                for kind, said in outcome.defects:
                    print(f"case {outcome.number:5} {outcome.format} {outcome.verb}: {kind}: {said}", flush=True)
    seconds = time.monotonic() - started
    print(f"\n{table(outcomes, chosen.markdown)}")
    print(f"\n{summary(outcomes, chosen.seed, seconds)}\n{causes(outcomes)}")
    return 1 if any(outcome.defects for outcome in outcomes) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, help="how many (default: a round, each pair once)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the first case")
    parser.add_argument("--only", type=int, metavar="N", help="this case alone; its files are kept")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--formats", default=",".join(ROUND))
    parser.add_argument("--verbs", default=",".join(VERBS))
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="further .tflite files to damage")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of what is made and kept")
    parser.add_argument("--resume", action="store_true", help="leave out cases that the folder has results of")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    return parser.parse_args()


def run_case(seed: int, sound: Path, folder: Path, number: int) -> Outcome:
    """Draw, run and judge one case; its files stay where it has a defect."""
    place = folder / f"{seed}-{number}"
    case = draw_case(seed, number, sound, place)
    outcome = judged(case, seed, place, home())
    if not outcome.defects:
        shutil.rmtree(place)
    return outcome


def _once(chosen: argparse.Namespace, sound: Path) -> int:
    adopt_orphans()
    place = chosen.folder / "cases" / f"{chosen.seed}-{chosen.only}"
    case = draw_case(chosen.seed, chosen.only, sound, place)
    print(
        f"case {chosen.only} of seed {chosen.seed}: {case.format}, {case.damage}\n$ cd {place / 'cwd'}\n$ {case.line}"
    )
    outcome = judged(case, chosen.seed, place, home())
    for name in ("stdout", "stderr"):
        text = (place / name).read_text(errors="replace")
        print(f"--- {name}\n{text[:4000]}{'…' if len(text) > 4000 else ''}")
    print(f"--- exit {outcome.code}, {outcome.seconds:.1f} s, {outcome.memory_bytes >> 20} MiB")
    for kind, said in outcome.defects:
        print(f"{kind}: {said}")
    return 1 if outcome.defects else 0


def _sound_files(folder: Path, models: Path | None) -> Path:
    """The sound files, made once."""
    sound = folder / "sound"
    if not (sound / "complete").exists():
        shutil.rmtree(sound, ignore_errors=True)
        make_sound_files(sound, models)
        (sound / "complete").touch()
    return sound


def _formats(asked: str) -> list[str]:
    formats = asked.split(",")
    if unknown := [each for each in formats if each not in ROUND]:
        raise SystemExit(f"no format {unknown[0]}; there are {', '.join(ROUND)}")
    return formats


def _numbers(first: int, count: int | None, formats: Sequence[str], verbs: Sequence[str]) -> list[int]:
    """The numbers of the first so many cases of these formats and verbs, or of one round of them."""
    a_round = sum(kind in formats and verb in verbs for kind, verb in PAIRS)
    if not a_round:
        raise SystemExit("no such format is given to such a verb")
    found: list[int] = []
    number = first
    while len(found) < (a_round if count is None else count):
        kind, verb = PAIRS[number % len(PAIRS)]
        if kind in formats and verb in verbs:
            found.append(number)
        number += 1
    return found


def _known(results: Path) -> dict[int, Outcome]:
    lines = results.read_bytes().splitlines() if results.exists() else []
    return {outcome.number: outcome for outcome in (msgspec.json.decode(line, type=Outcome) for line in lines)}


def table(outcomes: Sequence[Outcome], is_markdown: bool) -> str:
    """Cases, exit codes and defects, by format and verb."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    kinds: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        for key in ((outcome.format, outcome.verb), ("all", "")):
            counts[key][str(outcome.code)] += 1
            counts[key]["defective"] += bool(outcome.defects)
            kinds[key].update({kind for kind, _ in outcome.defects})
    order = [*dict.fromkeys(PAIRS), ("all", "")]
    rows = [("format", "verb", "cases", "exit 0", "exit 1", "exit 2", "defects", "of what kind")]
    for key in (each for each in order if each in counts):
        count = counts[key]
        figures = [count.total() - count["defective"], count["0"], count["1"], count["2"], count["defective"]]
        said = ", ".join(f"{number} {kind}" for kind, number in kinds[key].most_common())
        rows.append((*key, *(f"{figure:,}" for figure in figures), said))
    if is_markdown:
        lines = [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([lines[0], "|---|---|--:|--:|--:|--:|--:|---|", *lines[1:]])
    widths = [max(len(row[place]) for row in rows) for place in range(7)]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    words = [
        cell.ljust(width) if place < 2 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=False))
    ]
    return "  ".join([*words, row[7]]).rstrip()


def summary(outcomes: Sequence[Outcome], seed: int, seconds: float) -> str:
    """What the run was, and how long and large its cases were."""
    if not outcomes:
        return "no cases"
    slowest = max(outcomes, key=lambda each: each.seconds)
    largest = max(outcomes, key=lambda each: each.memory_bytes)
    bad = sum(bool(outcome.defects) for outcome in outcomes)
    models = sum(outcome.format in MODELS for outcome in outcomes)
    return (
        f"seed {seed}: {len(outcomes):,} damaged inputs ({models:,} of them models), {bad:,} with defects,"
        f" in {seconds:,.0f} s;"
        f" the slowest {slowest.seconds:.1f} s of {TIMEOUT_S:g} (case {slowest.number}),"
        f" the largest {largest.memory_bytes >> 20:,} MiB of {MEMORY_LIMIT_BYTES >> 20:,} (case {largest.number})"
    )


def causes(outcomes: Sequence[Outcome]) -> str:
    """Defects by what they have in common, the most frequent first."""
    found: dict[str, list[int]] = defaultdict(list)
    for outcome in sorted(outcomes, key=lambda each: each.number):
        for kind, said in outcome.defects:
            found[
                f"{kind}: {said[:110] if kind in ('traceback', 'signal') else outcome.format + ' ' + outcome.verb}"
            ].append(outcome.number)
    return "\n".join(_cause(name, numbers) for name, numbers in sorted(found.items(), key=lambda each: -len(each[1])))


def _cause(name: str, numbers: Sequence[int]) -> str:
    return f"{len(numbers):5}  {name}: case {', '.join(map(str, numbers[:4]))}{' …' if len(numbers) > 4 else ''}"


if __name__ == "__main__":
    raise SystemExit(main())
