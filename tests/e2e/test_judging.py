"""The judge of the fuzz, on commands that each do one thing that no command of mlia may do."""

import multiprocessing
import sys
from collections.abc import Iterator
from multiprocessing.pool import Pool
from pathlib import Path

import pytest

from tests.e2e.fuzzing import Case, prepare
from tests.e2e.judging import Limits, Outcome, adopt_orphans, judged

ERROR = "print('mlia: error: it is damaged', file=sys.stderr); sys.exit(2)"
OTHERS = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)"
WRITES = "open('{}', 'w').write('half'); "
DEFECTS = {
    "hang": "while True: pass",
    "memory": "kept = bytearray(200 << 20); print('fine')",
    "signal": "os.kill(os.getpid(), 11)",
    "traceback": "{}['x']",
    "exit code": "sys.exit(3)",
    "words on stderr": "print('fine'); print('RuntimeWarning: overflow', file=sys.stderr)",
    "stdout beside an error": f"print('half a report'); {ERROR}",
    "not one line": f"print('a warning', file=sys.stderr); {ERROR}",
    "unclear line": "print('it went wrong', file=sys.stderr); sys.exit(2)",
    "jargon": "print('mlia: error: list index out of range', file=sys.stderr); sys.exit(2)",
    "nothing said": "pass",
    "output beside an error": WRITES.format("../out/smaller.tflite") + ERROR,
    "files left": WRITES.format("' + os.environ['TMPDIR'] + '/x") + ERROR,
    "input changed": WRITES.format("../in/input.tflite") + ERROR,
    "children left": f"{OTHERS}; {ERROR}",
    "output is not valid": "print('fine'); " + WRITES.format("../out/smaller.tflite"),
}


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """A process of its own, because the judge looks after all children that its process has."""
    with multiprocessing.get_context("spawn").Pool(1, adopt_orphans) as made:
        yield made


def outcome(pool: Pool, folder: Path, script: str, *words: str) -> Outcome:
    prepare(folder).given.joinpath("input.tflite").write_bytes(b"damaged")
    case = Case(1, "tflite", "optimize", "a script", words)
    limits = Limits(seconds=20 if script != DEFECTS["hang"] else 0.5, memory_bytes=150 << 20)
    program = (sys.executable, "-c", f"import os, subprocess, sys\n{script}")
    return pool.apply(judged, (case, 1, folder, folder, limits, program))


@pytest.mark.parametrize("kind", DEFECTS)
@pytest.mark.skipif(sys.platform != "linux", reason="processes that are left behind are seen on Linux only")
def test_every_defect_is_seen(kind: str, pool: Pool, tmp_path: Path) -> None:
    assert [found for found, _ in outcome(pool, tmp_path / "case", DEFECTS[kind]).defects] == [kind]


MISSED = "print('a limit is missed'); print('mlia: missed on ethos-u55-128: …', file=sys.stderr); sys.exit(1)"


@pytest.mark.parametrize("script", [ERROR, "print('fine')", MISSED])
def test_what_is_well_has_none(script: str, pool: Pool, tmp_path: Path) -> None:
    found = outcome(pool, tmp_path / "case", script)
    assert found.defects == ()
    assert found.memory_bytes > 1 << 20


def test_some_of_several_targets_may_have_a_report(pool: Pool, tmp_path: Path) -> None:
    script = f"print('a report'); {ERROR}"
    assert outcome(pool, tmp_path / "case", script, "-t", "ethos-u55-32", "-t", "ethos-u85-256").defects == ()
    assert outcome(pool, tmp_path / "case", script, "-t", "ethos-u55-32").defects
