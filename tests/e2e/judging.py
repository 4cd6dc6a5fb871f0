"""Run one case of the fuzz in a fresh process and judge it from outside, as a user would see it.

Memory is the largest of two figures: what the kernel says of the largest single process (`wait4`, which counts the
children that it has waited for), and the sum over the tree of processes, sampled ten times a second. Processes that
outlive the command become children of this one (Linux), so that none is missed.
"""

import ctypes
import hashlib
import io
import json
import os
import re
import resource
import signal
import sys
import time
import tomllib
import xml.etree.ElementTree
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import Popen

import numpy as np
from msgspec import Struct

from tests.e2e.fuzzing import Case, Places
from tests.e2e.sound_files import MLIA

TIMEOUT_S = 30.0
MEMORY_LIMIT_BYTES = 2 << 30
_GRACE_S = 2.0  # in which children of a command that has ended may notice
_SAMPLE_S = 0.1
_LONGEST_LINE = 700
_BIGGEST_OUTPUT = 64 << 20
_PR_SET_CHILD_SUBREAPER = 36
# What Python or a library says to programmers.
JARGON = re.compile(
    r"NoneType|object has no attribute|not subscriptable|not iterable|object is not|list index|string index|"
    r"invalid literal for|codec can't|unpack|\w+Error\(|\bErrno\b|<[a-z_.]+ object|positional argument|"
    r"unsupported operand|cannot reshape array|be broadcast together|Traceback|File \"",
)
_RAISED = re.compile(r"^([A-Za-z_.]+(?:Error|Exception|Warning|Interrupt|Exit))\b:? ?(.*)$", re.MULTILINE)
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


class Outcome(Struct, frozen=True):
    """How a case went. `code` is negative for a signal; each defect is its kind and what is to be said of it."""

    number: int
    seed: int
    format: str
    verb: str
    damage: str
    command: str
    code: int
    seconds: float
    cpu_s: float
    memory_bytes: int
    said: str = ""  # the beginning of stderr
    defects: tuple[tuple[str, str], ...] = ()


def adopt_orphans() -> None:
    """From now on, whatever a command leaves behind is a child of this process. No core files are written."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Limits(Struct, frozen=True):
    """What a command may take; and, so that the machine lives on, at how much memory it is ended."""

    seconds: float = TIMEOUT_S
    memory_bytes: int = MEMORY_LIMIT_BYTES
    killed_at_bytes: int = 2 * MEMORY_LIMIT_BYTES


LIMITS = Limits()


def judged(
    case: Case, seed: int, folder: Path, home: Path, limits: Limits = LIMITS, program: Sequence[str | Path] = (MLIA,)
) -> Outcome:
    """Run the case, whose files are in `folder`; `home` is where converters are installed (MLIA_HOME)."""
    places = Places(*(folder / name for name in ("in", "cwd", "home", "tmp", "out")))
    before = _fingerprint(places.given)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(places.home),
        "TMPDIR": str(places.temporary),
        "MLIA_HOME": str(home),
        "LANG": "C.UTF-8",
    }
    started, cpu = time.monotonic(), _cpu_s()
    with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
        process = Popen(
            [*program, *case.command],
            cwd=places.cwd,
            env=environment,
            stdin=-3,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        code, peak, ended = _wait(process, limits)
    seconds = time.monotonic() - started
    left = _survivors()
    defects = []
    if ended:
        defects.append((ended, f"{seconds:.0f} s, {peak >> 20} MiB"))
    elif peak > limits.memory_bytes:
        defects.append(("memory", f"{peak >> 20} MiB"))
    if left:
        defects.append(("children left", left))
    out, said = (folder / "stdout").read_bytes(), (folder / "stderr").read_bytes().decode(errors="replace")
    if not ended:
        defects += _of_exit(code, out, said, case.command.count("-t"))
    if not ended or code in (0, 1, 2):
        defects += _of_files(case, code, places, before)
    if code in (0, 1) and not defects:
        defects += _of_outputs(case, out, places.output)
    cpu_s = _cpu_s() - cpu
    return Outcome(
        number=case.number,
        seed=seed,
        format=case.format,
        verb=case.verb,
        damage=case.damage,
        command=case.line,
        code=code,
        seconds=seconds,
        cpu_s=cpu_s,
        memory_bytes=peak,
        said=_short(said),
        defects=tuple(defects),
    )


def _wait(process: Popen[bytes], limits: Limits) -> tuple[int, int, str]:
    """Wait for the end, or make it: the exit code, the peak of memory in bytes, and for what it was ended."""
    started = sampled = time.monotonic()
    peak, ended, pause = 0, "", 0.002
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            unit = 1 if sys.platform == "darwin" else 1024
            return process.returncode, max(peak, usage.ru_maxrss * unit), ended
        now = time.monotonic()
        if now - sampled > _SAMPLE_S:
            sampled = now
            peak = max(peak, sum(map(_resident_bytes, [process.pid, *_descendants(process.pid)])))
        is_late = now - started > limits.seconds
        if not ended and (is_late or peak > limits.killed_at_bytes):
            ended = "hang" if is_late else "memory"
            for each in (process.pid, *_descendants(process.pid)):
                _kill(each)
        time.sleep(pause)
        pause = min(pause * 1.5, 0.03)


def _survivors() -> str:
    """Which processes outlived the command; they are ended."""
    found: dict[int, str] = {}
    until = time.monotonic() + _GRACE_S
    while True:
        _reap()
        alive = _children(os.getpid())
        if not alive or time.monotonic() > until:
            break
        time.sleep(0.02)
    for pid in alive:
        for each in (pid, *_descendants(pid)):
            found[each] = _name_of(each)
            _kill(each)
    while _children(os.getpid()):
        _reap()
        time.sleep(0.01)
    return ", ".join(found.values())


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _children(pid: int) -> list[int]:
    """The children of a process and of its threads; none where the system does not say."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, path.read_text().split())
        except OSError:
            continue
    return found


def _descendants(pid: int) -> Iterator[int]:
    for child in _children(pid):
        yield child
        yield from _descendants(child)


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def _name_of(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "a process"
    return " ".join(os.path.basename(word) for word in words)[:80].strip() or "a process"


def _cpu_s() -> float:
    times = resource.getrusage(resource.RUSAGE_CHILDREN)
    return times.ru_utime + times.ru_stime


def _of_exit(code: int, out: bytes, said: str, targets: int) -> list[tuple[str, str]]:
    """What is wrong with the exit code, stdout and stderr. Of several targets some may have a report, others a line."""
    if code < 0:
        return [("signal", f"{signal.Signals(-code).name} {_where(said)}")]
    if "Traceback" in said:
        return [("traceback", _where(said))]
    if code not in (0, 1, 2):
        return [("exit code", f"{code} {_short(said)}")]
    if code != 2:
        ours = all(line.startswith("mlia: ") for line in said.splitlines())  # which limit is missed
        return [] if ours else [("words on stderr", _short(said))]
    lines = said.splitlines()
    if out and targets < 2:
        return [("stdout beside an error", _short(out.decode(errors="replace")))]
    if not 1 <= len(lines) <= (targets if out else 1):
        return [("not one line", f"{len(lines)} lines: {_short(said)}")]
    for line in lines:
        if not re.match(r"mlia[ \w]*: error: \S", line) or not line.isprintable() or len(line) > _LONGEST_LINE:
            return [("unclear line", _short(said))]
    return [("jargon", _short(said))] if JARGON.search(re.sub(r"'[^']*'", "", said)) else []


def _where(said: str) -> str:
    """The error and where it was raised: what defects of one cause have in common."""
    raised = _RAISED.findall(said)
    frames = [match for match in _FRAME.findall(said) if "mlia" in match[0]] or _FRAME.findall(said)
    place = f" at {'/'.join(Path(frames[-1][0]).parts[-2:])}:{frames[-1][1]}" if frames else ""
    return f"{raised[-1][0]}: {raised[-1][1][:90]}{place}" if raised else _short(said)


def _short(said: str) -> str:
    return ascii(" | ".join(said.strip().splitlines()))[1:-1][:200] or "nothing was said"


def _of_files(case: Case, code: int, places: Places, before: dict[str, str]) -> list[tuple[str, str]]:
    """Files where none should be, and inputs that are not as they were."""
    found = []
    for place in (places.temporary, places.home, *(() if case.format == "words" and code != 2 else (places.cwd,))):
        if left := sorted(str(path.relative_to(places.given.parent)) for path in place.rglob("*")):
            found.append(("files left", ", ".join(left)[:200]))
    if code == 2 and (left := sorted(path.name for path in places.output.rglob("*"))):
        found.append(("output beside an error", ", ".join(left)[:200]))
    after = _fingerprint(places.given)
    is_in_place = case.verb == "calibrate" and code == 0
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    if changed and not (is_in_place and set(before) == set(after)):
        found.append(("input changed", ", ".join(changed)[:200]))
    return found


def _fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
        if not path.is_symlink()
    }


def _of_outputs(case: Case, out: bytes, folder: Path) -> list[tuple[str, str]]:
    """What was written, to stdout or to files, that is not what it should be."""
    words = case.command
    form = words[words.index("--format") + 1] if "--format" in words[:-1] and case.format != "words" else ""
    is_in_a_file = bool({"-o", "--output"} & {*words}) and case.verb in ("run", "trace", "view", "schema")
    found = []
    if not out.strip() and not is_in_a_file and form not in ("github", "csv"):
        found.append(("nothing said", f"{case.verb} {form}"))
    if len(out) > _BIGGEST_OUTPUT:
        found.append(("too much said", f"{len(out) >> 20} MiB"))
    if not is_in_a_file and form and (reason := _why_not(form, out)):
        found.append(("output is not valid", f"{form}: {reason}"))
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "view" and (reason := _why_not(path.suffix[1:], path.read_bytes())):
            found.append(("output is not valid", f"{path.name}: {reason}"))
    return found


def _why_not(form: str, content: bytes) -> str:
    try:
        match form:
            case "json" | "sarif":
                json.loads(content, parse_constant=_refuse)
            case "html":
                return "" if content.rstrip().endswith(b"</html>") else "it is cut short"
            case "junit":
                xml.etree.ElementTree.fromstring(content)
            case "toml":
                tomllib.loads(content.decode())
            case "npz":
                with np.load(io.BytesIO(content)) as archive:
                    return "" if [archive[name] for name in archive.files] else "it is empty"
            case "tflite":
                return "" if content[4:8] == b"TFL3" else "it is no TFLite file"
            case _:
                content.decode()
    except (ValueError, xml.etree.ElementTree.ParseError, zipfile.BadZipFile) as error:
        return str(error)[:150]
    return ""


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")
