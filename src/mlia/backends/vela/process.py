"""Vela's C++ core in a child process, because it dies of a signal on some damaged models.

Both ends are here. The child is this file, started as a script. Two lines, the settings as JSON and the size of the
model, and then the model go to its stdin; a line of JSON and the compiled file come from its stdout. All that the
compiler prints, to either stream, comes from its stderr. What only the parent needs is imported late, for the child's
sake.
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False  # typing's own would cost the import of typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, BinaryIO

    from mlia.errors import BackendError
    from mlia.targets.target import Target

CHILD = __file__
DEFAULT_TIMEOUT_S = 600.0
# A damaged size field may ask for any amount of memory; this stops it before the machine suffers.
_MEMORY_LIMIT_BYTES = 8 << 30
_PIECE_BYTES = 1 << 20
_TABLES = ("source", "queue", "group", "perf", "perf_debug", "perf_debug_main", "tensors", "cmdstream")
# What is read of "perf_debug", which has 150 columns, beside the bytes that a step moves.
_DETAILS = {
    *(f"{tensor}_shape_{axis}" for tensor in ("ifm", "ifm2", "ofm") for axis in "nhwc"),
    *(f"{tensor}_slice_{axis}" for tensor in ("ifm", "ifm2") for axis in "nhwc"),
    *(f"{tensor}_{what}" for tensor in ("ifm", "ifm2", "ofm") for what in ("memory", "dtype", "format")),
    *("kernel_size_x", "kernel_size_y", "ofm_depth_slices"),
    *("weight_format", "weight_total_bytes", "weight_pre_buffer", "weight_buffering"),
}


# Workers that wait for a request, and workers that have theirs already.
_waiting: list[Worker] = []
_working: dict[tuple[bytes, bytes], Worker] = {}  # by the settings and the hash of the model
_answering: set[Worker] = set()


class Worker:
    """One child process. It loads the compiler, takes one request and answers it."""

    def __init__(self) -> None:
        # It sees our modules, but skips the interpreter's start-up hooks, which cost time.
        from subprocess import PIPE

        from mlia.lifeline import Dependent

        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-S", "-P", CHILD]
        self._process = Dependent(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment)

    def send(self, settings: bytes, size: int, model: Iterable[bytes | memoryview]) -> None:
        """Hand over the request, the model piece by piece; the worker reads all before anything that may fail."""
        stdin, self._process.stdin = self._process.stdin, None
        assert stdin is not None, "a worker takes one request"
        try:
            stdin.write(settings + b"%d\n" % size)
            for piece in model:
                stdin.write(piece)
            stdin.close()
        except BrokenPipeError:
            pass  # its exit code will tell

    def kill(self) -> None:
        """Stop the worker; who waits for its answer cleans up."""
        self._process.kill()

    def end(self) -> None:
        """Kill the worker, if it still runs, and leave nothing of it."""
        self._process.end()

    def answer(self, timeout_s: float) -> tuple[dict[str, Any], bytes, str]:
        """The answer, the compiled file, and all that the compiler printed.

        Raises:
            BackendError: the worker died or took too long.
        """
        from subprocess import TimeoutExpired

        _answering.add(self)
        try:
            output, errors = self._process.communicate(timeout=timeout_s)
        except TimeoutExpired:
            from mlia.errors import BackendTimeout

            raise BackendTimeout(f"Vela did not finish within {timeout_s:g} s; allow more with --timeout") from None
        finally:
            _answering.discard(self)
            if self._process.poll() is None:
                self.end()
        log = errors.decode(errors="replace")
        if self._process.returncode != 0 or not output:
            death = _death(self._process.returncode)
            raise _failure(f"Vela {death} on this model, which may be damaged or beyond what it can take", log)
        told, _, model = output.partition(b"\n")
        return json.loads(told), model, log


class Compilation:
    """What the compiler answered: `report` holds its sums; the rest reads its database; `model` is the compiled file.

    A table has a key in its first column. A network may have ten thousands of steps and a hundred kinds of them, so
    rows whose other columns are alike are one object.
    """

    def __init__(self, answer: dict[str, Any], model: bytes, log: str) -> None:
        self.report: dict[str, Any] = answer["report"]
        self.log = log
        self.model = model
        self._tables: dict[str, dict[str, list[Any]]] = answer["tables"]
        self._kinds: dict[str, list[dict[str, str]]] = {}

    def keys(self, table: str) -> list[str]:
        """The first column; empty where the compiler wrote no such table."""
        return self._tables[table]["keys"] if table in self._tables else []

    def rows(self, table: str) -> list[dict[str, str]]:
        """The other columns of each row by their names."""
        if table not in self._tables:
            return []
        found = self._tables[table]
        if table not in self._kinds:
            self._kinds[table] = [dict(zip(found["columns"], kind, strict=True)) for kind in found["kinds"]]
        kinds = self._kinds[table]
        return [kinds[number] for number in found["rows"]]

    def by_key(self, table: str) -> dict[str, dict[str, str]]:
        """The rows by their keys."""
        return dict(zip(self.keys(table), self.rows(table), strict=True))


def warm_up() -> None:
    """Start a worker ahead of its use, so that it loads the compiler in the meantime."""
    if not _waiting:
        _waiting.append(Worker())


def begin(file: BinaryIO, target: Target) -> None:
    """Start to compile the TFLite file that is opened; `compile_model` will wait for it."""
    from hashlib import sha256

    settings, digest = _settings(target), sha256()

    def pieces() -> Iterator[bytes]:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            yield piece

    size = os.fstat(file.fileno()).st_size
    worker = _waiting.pop() if _waiting else Worker()
    worker.send(settings, size, pieces())
    _working[settings, digest.digest()] = worker


def forget(content: bytes | memoryview, target: Target) -> None:
    """End the worker that began to compile this, if there is one: another file will be compiled in its place."""
    worker = _begun(_settings(target), content)
    if worker is not None:
        worker.end()


def abandon() -> None:
    """End the workers whose answer nobody will ask for, and stop those that somebody still waits for."""
    for worker in tuple(_answering):
        worker.kill()
    while _waiting:
        _waiting.pop().end()
    while _working:
        _working.popitem()[1].end()


def compile_model(content: bytes | memoryview, target: Target, timeout_s: float) -> Compilation:
    """Compile a TFLite file for a target in a child process.

    Raises:
        BackendError: the compiler refused the model, crashed, or took too long.
    """
    settings = _settings(target)
    worker = _begun(settings, content)
    if worker is None:
        worker = Worker()
        worker.send(settings, len(content), [content])
    answer, model, log = worker.answer(timeout_s)
    if "error" in answer:
        raise _failure(f"Vela refused the model: {' '.join(answer['error'].split())}", log)
    return Compilation(answer, model, log)


def _begun(settings: bytes, content: bytes | memoryview) -> Worker | None:
    """The worker that has this request already."""
    if not _working:
        return None
    from hashlib import sha256

    return _working.pop((settings, sha256(content).digest()), None)


def _settings(target: Target) -> bytes:
    """One line of JSON: what the `vela` command would pass to the core for this target."""
    npu = target.npu
    # A U65-512 is two cores of 256 MACs; every other Ethos-U is one core.
    cores = 2 if (npu.family, npu.macs_per_cycle) == ("ethos-u65", 512) else 1
    name, text = _system(target)
    system_config = (
        f"[architecture]\nmacs={npu.macs_per_cycle // cores}\ncores={cores}\n"
        f"[vela]\nsystem_config_name={name}\nmemory_mode_name={target.memory_mode.name}\n"
        f"{text}"
    )
    # Without arena_size_limit the core plans no weight buffers, and its estimate is worth nothing.
    options = (
        "[compiler]\nenable_db=true\noutput_format=TFLite\ncop_format=COP1\n"
        f"[scheduler]\noptimize={target.strategy}\narena_size_limit={target.arena_limit_bytes}\n"
        "cpu_tensor_alignment=16\ntensor_allocator=HillClimb\n"
        "[graph]\nsoftmax_int16_neg_exp_range=10.0\n"
    )
    architecture = "EthosU" + npu.family.removeprefix("ethos-u")
    settings = {"architecture": architecture, "system_config": system_config, "options": options}
    return json.dumps(settings).encode() + b"\n"


def _system(target: Target) -> tuple[str, str]:
    """The name of the system configuration, and the vela.ini that it is in.

    Vela 5.2 takes the first letters of the name for the family: on an Ethos-U55 every other name makes its memories
    twice as fast as they are said to be (18,080 bytes from a flash of 1 byte per cycle in 9,040 cycles).
    """
    name, family = target.system_config.name, target.npu.family.replace("ethos-u", "Ethos_U")
    if name.startswith(family):
        return name, target.vela_config
    from msgspec.structs import replace

    from mlia.targets.target import write_vela_ini

    named = f"{family}_{name}"
    return named, write_vela_ini(replace(target.system_config, name=named), target.memory_mode)


def _failure(message: str, log: str = "") -> BackendError:
    from mlia.errors import BackendError

    return BackendError(message, log)


def _death(returncode: int) -> str:
    if returncode < 0:
        import signal

        return f"crashed ({signal.Signals(-returncode).name})"
    return f"failed (exit code {returncode})"


def _serve() -> None:
    """The child: answer one request."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    from mlia.shares import limit_memory

    limit_memory(_MEMORY_LIMIT_BYTES)
    from ethosu import regor  # while the parent still prepares the request

    settings = json.loads(sys.stdin.buffer.readline())
    model = sys.stdin.buffer.read(int(sys.stdin.buffer.readline()))  # of a known size, it is read without copies
    try:
        compiled = regor.compile(
            settings["architecture"], model, _format(model), settings["system_config"], options=settings["options"]
        )
    except Exception as error:  # whatever it is, the parent tells the user
        output.write(json.dumps({"error": str(error) or type(error).__name__}).encode())
        output.close()
        return
    report = compiled.perf_report
    answer = {
        "report": {
            "npu_cycles": report.npuCycles,
            "total_cycles": report.totalCycles,
            "macs": report.macCount,
            "weights_bytes": report.originalWeights,
            "compressed_weights_bytes": report.encodedWeights,
            "read_only_bytes": report.readOnlyPeakUsage,
            "memories": {
                str(name): {
                    "peak_bytes": memory.peakUsage,
                    "read_bytes": sum(access.bytesRead for access in memory.accesses.values()),
                    "write_bytes": sum(access.bytesWritten for access in memory.accesses.values()),
                }
                for name, memory in report.memories.items()
            },
        },
        "tables": {
            name: _told(name, table.header, table.data)
            for name, table in compiled.opt_database.tables.items()
            if name in _TABLES
        },
    }
    output.write(json.dumps(answer).encode())  # dump() would not use the fast encoder
    output.write(b"\n")
    output.write(compiled.model)
    output.close()


def _told(name: str, header: list[str], data: list[list[str]]) -> dict[str, list[Any]]:
    """A table as it is sent: the key of each row, its columns that are read, and the number of what it is alike."""
    read = [
        index
        for index, column in enumerate(header)
        if index and (name != "perf_debug" or column in _DETAILS or column.endswith(("_read", "_write")))
    ]
    kinds: dict[tuple[str, ...], int] = {}
    rows = [kinds.setdefault(tuple([row[index] for index in read]), len(kinds)) for row in data]
    return {
        "keys": [row[0] for row in data],
        "columns": [header[index] for index in read],
        "kinds": list(kinds),
        "rows": rows,
    }


def _format(model: bytes) -> str:
    """Vela's name for what the file is."""
    return "TOSA" if model[4:8] == b"TOSA" else "TFLITE"


if __name__ == "__main__":
    _serve()
