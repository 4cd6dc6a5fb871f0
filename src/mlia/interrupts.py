"""How Ctrl-C, SIGTERM and a closed terminal end the command: at once, with exit code 128 + signal, nothing left behind.

The handler ends the process by itself. An exception could be lost in a destructor, or crash a C library that it comes
out of. Only a search asks for one, to keep its best. In a program that uses mlia as a library nothing is changed.
"""

import _thread
import os
import signal
import sys
import time

TYPE_CHECKING = False  # nothing is imported here that takes long: until it is, an interrupt leaves a traceback
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

MESSAGES: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
if sys.platform != "win32":
    MESSAGES[signal.SIGHUP] = "the terminal was closed"
PATIENCE_S = 0.7  # until a process ends that is busy in C code, or tidies up
_AGAIN_S = 0.01  # until a destructor that an exception was lost in has ended

unfinished: set[str] = set()  # files that go when the process is ended
_told = _thread.allocate_lock()  # by the first of two threads; never released
_passed = 0  # signals that were made exceptions


class Held:
    """While output is written, a signal does not cut it, unless that takes too long."""

    depth = 0

    def __enter__(self) -> None:
        Held.depth += 1

    def __exit__(self, *_: object) -> None:
        Held.depth -= 1


class Stoppable:
    """In a search the first Ctrl-C raises KeyboardInterrupt, to keep the best so far; only the next one ends all."""

    is_now = False

    def __enter__(self) -> None:
        Stoppable.is_now = True

    def __exit__(self, *_: object) -> None:
        Stoppable.is_now = False


def end_on_signals() -> None:
    """From now on end this process, which is the command's own, on a signal."""
    for number in MESSAGES:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup asks for
            signal.signal(number, _end)


def stand_by() -> None:
    """Start a thread that ends what no handler can, because the main thread is in C code."""
    sys.unraisablehook = _not_lost
    if sys.platform == "win32":
        return
    signal.signal(signal.SIGALRM, _raise_again)
    try:
        while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass  # a standard stream that is closed must not become one of our pipes
        os.close(spare)
        far, near = os.pipe()
        os.set_blocking(near, False)
        signal.set_wakeup_fd(near, warn_on_full_buffer=False)
        _thread.start_new_thread(_wait, (far,))
    except (OSError, RuntimeError):
        pass  # no descriptor or no thread is left: nobody stands by


def leave(code: int) -> "NoReturn":
    """End this process without waiting for its threads; its children end with it."""
    _ignore_them()
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 (contextlib would have to be imported)
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # it is closed, or there is none
    os._exit(code)


def end(number: int) -> "NoReturn":
    """End this process as a signal does."""
    _ignore_them()
    _tell(number)
    try:  # noqa: SIM105
        _tidy_up()
    except Exception:
        pass  # the signal came in the middle of an import, of which only a part is there
    os._exit(128 + number)


def _end(number: int, frame: "FrameType | None") -> None:
    """The handler."""
    global _passed
    if Held.depth:
        return
    if number == signal.SIGINT and Stoppable.is_now:
        Stoppable.is_now = False
        _passed += 1
        raise KeyboardInterrupt
    end(number)


def _raise_again(number: int, frame: "FrameType | None") -> None:
    raise KeyboardInterrupt


def _not_lost(lost: "sys.UnraisableHookArgs") -> None:
    """A destructor raises nothing: that is told on stderr. But an interrupt is raised again when it is over."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
    else:
        sys.__unraisablehook__(lost)


def _wait(wakeups: int) -> None:
    """In a thread: a while after a signal, end what its handler has not ended."""
    global _passed
    while True:
        number = os.read(wakeups, 1)[0]
        if number not in MESSAGES:
            continue
        time.sleep(PATIENCE_S)
        if number == signal.SIGINT and _passed:
            _passed -= 1
            continue
        _tell(number)
        os._exit(128 + number)


def _ignore_them() -> None:
    for number in MESSAGES:
        signal.signal(number, signal.SIG_IGN)


def _tell(number: int) -> None:
    if not _told.acquire(blocking=False):
        return
    try:  # noqa: SIM105
        os.write(2, f"mlia: {MESSAGES[number]}\n".encode())
    except OSError:
        pass  # nobody is there to read it


def _tidy_up() -> None:
    """End the children, and take away what is half made."""
    if "mlia.lifeline" in sys.modules:
        sys.modules["mlia.lifeline"].end_all()
    for path in tuple(unfinished):
        try:  # noqa: SIM105
            os.unlink(path)
        except OSError:
            pass  # it is not there yet, or no longer
    if "tempfile" in sys.modules:  # it removes its folders at the exit of the interpreter, which does not come
        import atexit

        atexit._run_exitfuncs()
