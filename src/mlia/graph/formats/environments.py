"""Private virtual environments of converters whose pins contradict ours: which there are, made, found and used.

Each lives in the user's data folder and holds one converter. A converter is a script of ours that the
environment's python runs in a child process: one JSON request in its arguments, one line of JSON from its
stdout, everything else from its stderr.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from mlia.errors import BackendError, BackendUnavailable, ModelError
from mlia.graph.formats.interpreters import interpreters, version_of
from mlia.graph.fuse import with_fused_activations
from mlia.graph.graph import Graph, Provenance
from mlia.graph.tflite import read_tflite
from mlia.lifeline import Dependent

DEFAULT_TIMEOUT_S = 600.0
_MARK = "mlia.json"  # written last: an environment without it does not count
_MEMORY_LIMIT_BYTES = 16 << 30  # of addresses, of which torch reserves many more than it uses
_FILE_LIMIT_BYTES = 4 << 30
_ANSWER_LIMIT_BYTES = 4 << 20
_LOG_BYTES = 20_000
_LOCKS = Path(__file__).parent / "locks"
CUDA_LOCK = _LOCKS / "torch-cuda.txt"
# Kinds that a conversion adds between operators; more of them than in the source is worth telling.
_PLUMBING = ("TRANSPOSE", "PAD", "RESHAPE", "CAST", "SLICE", "STRIDED_SLICE", "CONCATENATION", "SHAPE", "GATHER")
_SAME_KIND = {"PADV2": "PAD", "MIRROR_PAD": "PAD", "SQUEEZE": "RESHAPE", "EXPAND_DIMS": "RESHAPE"}

State: TypeAlias = Literal["installed", "outdated", "not installed"]
Progress: TypeAlias = Callable[[str], None]


class Environment(Struct, frozen=True):
    """A converter's environment: what pip installs, for which Pythons (lowest, highest), and how large it gets."""

    name: str
    purpose: str
    requirements: tuple[str, ...]
    python: tuple[tuple[int, int], tuple[int, int]]
    size_mb: int


class Installed(Struct, frozen=True):
    """What an environment's mark says: from which requirements and by which Python it was made."""

    requirements: tuple[str, ...]
    python: str
    size_mb: int


class Answer(Struct, frozen=True):
    """What a converter answers: an error, or the converter's name and version and what it met.

    `source` counts the model's own operators by TFLite's names; `notes` say what was changed at the model's ends;
    `names` gives the source's name for tensors that the converter named otherwise.
    """

    error: str = ""
    converter: str = ""
    source: Mapping[str, int] = {}
    notes: tuple[str, ...] = ()
    names: Mapping[str, str] = {}


_TORCH_MB = 6150 if sys.platform == "linux" else 2140  # the build for Linux comes with CUDA
_ENVIRONMENTS = (
    Environment("onnx", "ONNX models", ("onnx2tf==2.6.9",), ((3, 12), (3, 14)), 660),
    Environment("torch", "PyTorch models", ("torch==2.13.0", "litert-torch==0.10.0"), ((3, 11), (3, 13)), _TORCH_MB),
    Environment(
        "savedmodel", "further SavedModels and Keras layers", ("tensorflow-cpu==2.21.0",), ((3, 11), (3, 13)), 1550
    ),
)  # fmt: skip


def environments() -> tuple[Environment, ...]:
    """All private environments, installed or not."""
    return _ENVIRONMENTS


def lock_of(name: str) -> Path:
    """The file of all versions that an environment is made of, each with the hashes of its files."""
    return _LOCKS / f"{name}.txt"


def environment(name: str) -> Environment:
    """The environment with that name.

    Raises:
        BackendUnavailable: there is none.
    """
    for candidate in _ENVIRONMENTS:
        if candidate.name == name:
            return candidate
    names = ", ".join(each.name for each in _ENVIRONMENTS)
    raise BackendUnavailable(f"there is no environment '{name}'; there are {names}")


def home() -> Path:
    """The folder of everything that mlia keeps for this user: MLIA_HOME, or the platform's data folder."""
    if chosen := os.environ.get("MLIA_HOME"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/mlia"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "mlia"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share").absolute() / "mlia"


def folder(name: str) -> Path:
    """Where the environment with that name is, or would be."""
    return home() / "environments" / name


def state(name: str) -> tuple[State, Installed | None]:
    """Whether an environment can be used, and what its mark says. A half-made one is not installed."""
    try:
        mark = msgspec.json.decode((folder(name) / _MARK).read_bytes(), type=Installed)
    except (OSError, msgspec.MsgspecError):
        return "not installed", None
    if not _python_of(folder(name)).is_file():
        return "not installed", None
    return ("installed" if mark.requirements == environment(name).requirements else "outdated"), mark


def locate(name: str) -> Path:
    """The python of an installed environment.

    Raises:
        BackendUnavailable: it is not installed, or made from other requirements; says how to install it.
    """
    wanted = environment(name)
    found, _ = state(name)
    install_it = f"run `mlia backend install {name}` (about {wanted.size_mb} MB)"
    if found == "outdated":
        raise BackendUnavailable(f"the converter of {wanted.purpose} is from another version of mlia: {install_it}")
    if found == "not installed":
        raise BackendUnavailable(f"{wanted.purpose} need a converter of their own: {install_it}")
    return _python_of(folder(name))


def find_interpreter(wanted: Environment) -> Path:
    """A Python that can make the environment: this one, or the newest that fits and really runs.

    Raises:
        BackendUnavailable: there is none.
    """
    lowest, highest = wanted.python
    for candidate in interpreters():
        version = version_of(candidate)
        if version and lowest <= version <= highest:
            return Path(candidate)
    versions = f"{lowest[0]}.{lowest[1]} to {highest[0]}.{highest[1]}"
    raise BackendUnavailable(
        f"the converter of {wanted.purpose} needs Python {versions}, and none is on the PATH, nor known to pyenv or uv;"
        " install one and try again"
    )


def install(name: str, progress: Progress = lambda text: None) -> Path:
    """Make an environment, or make it anew; returns its python. Takes minutes. pip's own settings (PIP_*) hold.

    Raises:
        BackendUnavailable: no such environment, or no Python for it.
        BackendError: it could not be made; says pip's last lines and where its whole output is.
    """
    wanted = environment(name)
    interpreter = find_interpreter(wanted)
    final = folder(name)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        place = tempfile.TemporaryDirectory(prefix=f".{name}-", dir=final.parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise BackendError(f"cannot make {final}: {error.strerror}") from None
    log = final.with_name(f"{name}.log")
    try:
        log.unlink(missing_ok=True)
        making = Path(place.name)
        progress(f"making an environment with {interpreter}")
        _run([str(interpreter), "-I", "-m", "venv", str(making)], log)
        progress(f"installing {', '.join(wanted.requirements)} (about {wanted.size_mb} MB)")
        _install_locked(making, lock_of(name), log, progress)
        if name == "torch" and not any(making.glob("lib/*/site-packages/torch-*+cpu.dist-info")):
            _install_locked(making, CUDA_LOCK, log, progress)
        version = ".".join(map(str, version_of(str(_python_of(making))) or ()))
        mark = Installed(wanted.requirements, version, _size_mb(making))
        (making / _MARK).write_bytes(msgspec.json.encode(mark))
        _put(making, final)
    except OSError as error:
        raise BackendError(f"cannot make {final}: {error.strerror}") from None
    finally:
        place.cleanup()
    return _python_of(final)


def convert(
    name: str,
    script: Path,
    request: Mapping[str, Any],
    format_name: str,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Graph:
    """Let a script convert a model in the named environment, and read what it wrote.

    `request` is JSON for the script; "output" is added to it: the path of the TFLite file to write.

    Raises:
        BackendUnavailable: the environment is not installed.
        ModelError: the script refused the model, crashed, took too long, or wrote what is no model.
    """
    python = locate(name)
    with tempfile.TemporaryDirectory(prefix="mlia-") as work:
        output = Path(work) / "converted.tflite"
        text = json.dumps({**request, "output": str(output)})
        answer = ask([str(python), "-I", str(script), text], Path(work), timeout_s)
        if answer.error:
            raise ModelError(" ".join(answer.error.split()))
        if not output.is_file():
            raise ModelError(f"the converter of {format_name} models wrote no file")
        content = output.read_bytes()
        layouts: tuple[str, ...] = ()
        if (Path(work) / "expected.npz").is_file():
            from mlia.graph.formats.converter_proof import prove

            who, may_turn = f"the converter {answer.converter}", name != "savedmodel"
            layouts = prove(read_tflite(content), Path(work), who, may_turn=may_turn)
    try:
        graph = with_fused_activations(_named(read_tflite(content), answer.names))
    except ModelError as error:
        raise ModelError(f"the converter {answer.converter} wrote a file that is no model: {error}") from None
    provenance = Provenance(format_name, answer.converter, (*_added(graph, answer.source), *answer.notes, *layouts))
    return msgspec.structs.replace(graph, provenance=provenance)


def ask(command: Sequence[str], work: Path, timeout_s: float) -> Answer:
    """Run a converter to its end, or kill it; its output goes to files, so that it cannot fill our memory.

    What frameworks keep for later goes into `work` too, and away with it: caches, and the settings that Keras writes.
    """
    kept = dict.fromkeys(("TMPDIR", "TEMP", "TMP", "KERAS_HOME"), str(work))
    with (work / "stdout").open("w+b") as stdout, (work / "stderr").open("w+b") as stderr:
        environment = os.environ | kept
        process = Dependent(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=work, env=environment)
        try:
            _limit_resources(process.pid)
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ModelError(f"the converter did not finish within {timeout_s:g} s") from None
        finally:
            process.end()
        stdout.seek(0)
        text = stdout.read(_ANSWER_LIMIT_BYTES)
        stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - _LOG_BYTES))
        log = stderr.read().decode(errors="replace")
    if process.returncode != 0:
        raise ModelError(f"the converter {_death(process.returncode)} on this model: {_last_lines(log, 1)}")
    try:
        return msgspec.json.decode(text, type=Answer)
    except msgspec.MsgspecError:
        raise ModelError(f"the converter's answer cannot be read: {_last_lines(log, 1)}") from None


def _limit_resources(pid: int) -> None:
    """Bound the child's memory and files, where the platform lets another process do so."""
    if sys.platform != "linux":
        return
    import resource

    limits = {
        resource.RLIMIT_AS: _MEMORY_LIMIT_BYTES, resource.RLIMIT_FSIZE: _FILE_LIMIT_BYTES, resource.RLIMIT_CORE: 0
    }  # fmt: skip
    for limit, size in limits.items():
        try:
            resource.prlimit(pid, limit, (size, size))
        except (OSError, ValueError):
            continue  # it has ended already, or has a lower limit


def _death(returncode: int) -> str:
    if returncode < 0:
        return f"crashed ({signal.Signals(-returncode).name})"
    return f"failed (exit code {returncode})"


def _named(graph: Graph, names: Mapping[str, str]) -> Graph:
    """The graph with the source's names; a name that is taken already stays with whom has it."""
    if not names:
        return graph
    from mlia.graph.tflite_writer import write_tflite

    taken = {tensor.name for tensor in graph.main.tensors}
    tensors = []
    for tensor in graph.main.tensors:
        name = names.get(tensor.name, "")
        if name and name not in taken:
            taken.add(name)
            tensor = msgspec.structs.replace(tensor, name=name)
        tensors.append(tensor)
    main = msgspec.structs.replace(graph.main, tensors=tuple(tensors))
    return read_tflite(write_tflite(msgspec.structs.replace(graph, subgraphs=(main, *graph.subgraphs[1:]))))


def _added(graph: Graph, source: Mapping[str, int]) -> tuple[str, ...]:
    """Operators of the plumbing kind beyond the source's own: "2 TRANSPOSE"."""
    kinds = [_SAME_KIND.get(each.kind, each.kind) for each in graph.operators]
    surplus = {kind: kinds.count(kind) - source.get(kind, 0) for kind in _PLUMBING}
    return tuple(f"{count} {kind}" for kind, count in surplus.items() if count > 0)


def _python_of(place: Path) -> Path:
    return place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _install_locked(place: Path, lock: Path, log: Path, progress: Progress) -> None:
    """Let pip install what a lock file says and nothing else; which of its packages is under way is told."""
    pip = [str(_python_of(place)), "-I", "-m", "pip", "install", "--no-input", "--progress-bar", "off"]
    packages = 0

    def tell(line: str) -> None:
        nonlocal packages
        verb, _, what = line.strip().partition(" ")
        packages += verb in ("Collecting", "Processing")  # from an index, or a file
        if verb in ("Downloading", "Using", "Processing"):
            size = re.search(r" \([\d.]+ \w?B\)$", what)  # "….whl (887.9 MB)"
            file = Path(what.removeprefix("cached ").split(" ")[0]).name
            progress(f"fetching package {packages}, {file}{size[0] if size else ''}")
        elif verb == "Installing":
            progress(f"unpacking {packages} packages")

    _run([*pip, "--require-hashes", "--no-deps", "--requirement", str(lock)], log, tell)


def _run(command: Sequence[str], log: Path, tell: Callable[[str], None] = lambda line: None) -> None:
    """Run a command to its end; each line that it prints goes to `tell`, and everything to the log."""
    with log.open("ab", buffering=0) as file:
        process = Dependent(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=file)
        assert process.stdout is not None
        try:
            for line in process.stdout:
                file.write(line)
                tell(line.decode(errors="replace"))
            process.wait()
        finally:
            process.end()
    if process.returncode != 0:
        text = log.read_bytes()[-_LOG_BYTES:].decode(errors="replace")
        raise BackendError(f"the installation failed: {_last_lines(text, 3)} (all of it: {log})", text)


def _last_lines(text: str, count: int) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-count:]) or "it said nothing"


def _size_mb(place: Path) -> int:
    sizes = (file.lstat().st_size for file in place.rglob("*") if not file.is_dir())
    return max(1, round(sum(sizes) / 1e6))


def _put(made: Path, final: Path) -> None:
    """Put a complete environment in its place, and an older one out of it."""
    if final.exists():
        older = made.with_name(f"{made.name}-older-{time.monotonic_ns()}")
        final.rename(older)
        made.rename(final)
        shutil.rmtree(older, ignore_errors=True)
    else:
        made.rename(final)
