"""Functions of this package run in child processes, because LiteRT can abort on some models.

Both ends are here. A child is `python -m mlia.transforms.child`; it reads pickled requests from its stdin, a
function and its arguments, and answers each on its stdout until its stdin ends. A child that has answered
waits for the next request, so that what it has imported is imported once.
"""

import atexit
import os
import pickle
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from subprocess import PIPE
from typing import Any, ParamSpec, TypeVar

from mlia.errors import CrashError, MliaError, TransformError, shortage
from mlia.lifeline import Dependent
from mlia.shares import limit_memory

TIMEOUT_S = 600.0
MEMORY_LIMIT_BYTES = 8 << 30  # of addresses, as for Vela: what asks for more is stopped before the machine suffers
_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")
_RESULT, _REFUSED, _FAILED, _PROGRESS = "result", "refused", "failed", "progress"


class Child:
    """One child process, which answers one request at a time."""

    def __init__(self) -> None:
        environment = {"OPENBLAS_NUM_THREADS": "1"} | os.environ
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        command = [sys.executable, "-P", "-m", "mlia.transforms.child"]
        # Several children share the cores: numpy's threads would wait for each other, ten times as long as they work.
        # Errors go into a file: nobody reads it while the child works, and a full pipe would stop it.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the child)
        self._process = Dependent(command, stdin=PIPE, stdout=PIPE, stderr=self._errors, env=environment)

    def kill(self) -> None:
        """Stop the child; who asked it last cleans up."""
        self._process.kill()

    def end(self) -> None:
        """Kill the child, if it still runs, and leave nothing of it."""
        self._process.end()
        self._errors.close()

    def ask(self, request: tuple[Any, ...], timeout_s: float | None, progress: Callable[[str], None] | None) -> Any:
        """The answer of the child.

        Raises:
            TransformError: the function refused, or the child crashed or took too long.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        late = threading.Timer(timeout_s, self._process.kill) if timeout_s is not None else None
        if late is not None:
            late.daemon = True
            late.start()
        try:
            pickle.dump(request, self._process.stdin, protocol=5)
            self._process.stdin.flush()
            kind, answer = pickle.load(self._process.stdout)
            while kind == _PROGRESS:
                if progress is not None:
                    progress(answer)
                kind, answer = pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            if late is not None and not late.is_alive():
                raise TransformError(f"LiteRT did not finish within {timeout_s:g} s") from None
            raise CrashError(f"LiteRT {self._death()}") from None
        finally:
            if late is not None:
                late.cancel()
        if kind == _REFUSED:
            raise answer
        if kind == _FAILED:
            raise RuntimeError(f"in a child process:\n{answer}")  # a defect of ours, told with its traceback
        return answer

    def _death(self) -> str:
        returncode = self._process.wait()
        if returncode < 0:
            return f"crashed ({signal.Signals(-returncode).name}) on this model"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"failed: {lines[-1] if lines else f'exit code {returncode}'}"


_idle: list[Child] = []
_busy: set[Child] = set()


def warm_up(children: int = 1) -> None:
    """Start children ahead of their use, so that they import what they need while their user loads the model."""
    while len(_idle) < children:
        _idle.append(Child())


def abandon() -> None:
    """End all children, also those that work: whoever waits for them is told that they died."""
    for child in tuple(_busy):
        child.kill()
    while _idle:
        _idle.pop().end()


atexit.register(abandon)


def call(function: Callable[_Arguments, _Answer], *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Answer:
    """Run a function of a module of this package in a child process. Threads may call at the same time.

    Raises:
        MliaError: the function raised it.
        TransformError: the child crashed or took too long.
    """
    return call_with_progress(None, function, *args, **kwargs)


def call_with_progress(
    progress: Callable[[str], None] | None,
    function: Callable[_Arguments, _Answer],
    *args: _Arguments.args,
    **kwargs: _Arguments.kwargs,
) -> _Answer:
    """Like call(); a function that reports progress gets a `progress` argument whose texts arrive here."""
    return _ask(progress, TIMEOUT_S, function, args, kwargs)


def call_without_limit(
    progress: Callable[[str], None] | None,
    function: Callable[_Arguments, _Answer],
    *args: _Arguments.args,
    **kwargs: _Arguments.kwargs,
) -> _Answer:
    """Like call_with_progress(), for work that takes as long as its user asked for."""
    return _ask(progress, None, function, args, kwargs)


def _ask(
    progress: Callable[[str], None] | None,
    timeout_s: float | None,
    function: Callable[..., _Answer],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> _Answer:
    child = _take()
    _busy.add(child)
    try:
        answer: _Answer = child.ask((function, args, kwargs, progress is not None), timeout_s, progress)
    except BaseException:
        child.end()  # it may be dead or busy, and what refused a model may have left something behind
        raise
    finally:
        _busy.discard(child)
    _idle.append(child)
    return answer


def _take() -> Child:
    try:
        return _idle.pop()
    except IndexError:
        return Child()


def _serve() -> None:
    """The child: answer requests until there are none."""
    limit_memory(MEMORY_LIMIT_BYTES)
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    # Before the first request comes, so that it does not wait for this.
    from numpy.linalg import LinAlgError

    from mlia.transforms import quantizers

    quantizers.import_litert()

    def tell(kind: str, answer: object) -> None:
        pickle.dump((kind, answer), answers, protocol=5)
        answers.flush()

    while True:
        try:
            function, args, kwargs, reports = pickle.load(requests)
        except EOFError:
            return
        if reports:
            kwargs["progress"] = lambda text: tell(_PROGRESS, text)
        try:
            answer = function(*args, **kwargs)
        except MliaError as error:
            tell(_REFUSED, error)
        except MemoryError:
            tell(_REFUSED, TransformError(f"the model takes more than {MEMORY_LIMIT_BYTES >> 30} GiB to compute"))
        except LinAlgError:  # no weights that were trained are like that, but damaged ones are
            tell(_REFUSED, TransformError("the model's numbers are too far apart to compute with"))
        except OSError as error:
            tell(_REFUSED, TransformError(f"cannot go on: {shortage(error)}"))
        except Exception:  # whatever it is, the parent shows it
            import traceback

            tell(_FAILED, traceback.format_exc())
        else:
            tell(_RESULT, answer)


if __name__ == "__main__":
    _serve()
