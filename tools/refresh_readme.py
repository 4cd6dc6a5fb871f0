"""Put what commands print today in the place of what README says they print, where the two differ.

    python tools/refresh_readme.py

What a line of … leaves out stays left out: the lines before and behind it are found again by their words, whatever
their figures are. Where a line is not found again, the command is named, and its block stays as it is.
"""

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
README = ROOT / "README.md"
GAP = "…"


def main() -> int:
    """Run each command of README, and rewrite what follows it."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    from test_readme import run, sessions

    text, lost = README.read_text(), 0
    for command, expected in sessions():
        if not expected or command == "make demo":
            continue
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(ROOT / "examples", Path(folder) / "examples")
            shutil.copy(ROOT / "examples/ds_cnn_small_int8.tflite", Path(folder) / "your_model.tflite")
            printed = run(command, Path(folder)).splitlines()
        shown = cut_alike(expected, printed)
        if shown is None:
            print(f"by hand, please: {command}", file=sys.stderr)
            lost += 1
        elif shown != expected:
            old, new = "\n".join(expected), "\n".join(shown)
            assert text.count(old) == 1, command
            text = text.replace(old, new)
            print(f"refreshed: {command}")
    README.write_text(text)
    return 1 if lost else 0


def cut_alike(expected: Sequence[str], printed: Sequence[str]) -> list[str] | None:
    """The lines of `printed` that stand where those of `expected` stood; None where they are not found."""
    shown: list[str] = []
    at = 0
    parts = _parts(expected)
    for number, part in enumerate(parts):
        if not part:
            shown += [GAP] if number else []
            continue
        first = at if number == 0 else _find(part[0], printed, at, at)
        last = len(printed) - 1
        if number < len(parts) - 1 and first is not None:
            last = _find(part[-1], printed, first, first + len(part) - 1)
        if first is None or last is None or last < first:
            return None
        shown += [*([GAP] if number else []), *printed[first : last + 1]]
        at = last + 1
    return shown


def _parts(lines: Sequence[str]) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for line in lines:
        if line == GAP:
            found.append([])
        else:
            found[-1].append(line)
    return found


def _find(line: str, printed: Sequence[str], start: int, near: int) -> int | None:
    """Where a line with these words is, from `start` on, the closest to `near`."""
    found = [index for index in range(start, len(printed)) if _words(printed[index]) == _words(line)]
    return min(found, key=lambda index: abs(index - near), default=None)


def _words(line: str) -> str:
    """A line without its figures and the width of its columns."""
    return " ".join(re.sub(r"[-+]?<?\d[\d,.]*", "#", line).split())


if __name__ == "__main__":
    sys.exit(main())
