"""Child processes that do not outlive this one, whatever ends it."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakSet

_alive: WeakSet["Dependent"] = WeakSet()
# Linux sends a signal of our choice when the other end of a pipe closes; elsewhere a shell has to wait for that.
KERNEL_KILLS = sys.platform == "linux"
# `read` fails when the pipe ends without a line, which is how it ends when this process dies.
_GUARD = '(read -r _ || kill -s KILL -- -$$) </dev/fd/{pipe} >/dev/null 2>&1 & exec "$@"'


class Dependent(subprocess.Popen[bytes]):
    """A child process in a group of its own. When this process ends, the child is killed with its group.

    It need not know: it inherits the reading end of a pipe whose writing end only this process has, and which closes
    even when this process is killed. That works while the child is busy in C code, and in any program. A terminal's
    Ctrl-C does not reach it: what an interrupt ends is for this process to say.
    """

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        self._line: int | None = None
        if sys.platform == "win32":
            super().__init__(command, **options)
            return
        pipe, self._line = os.pipe()
        try:
            if KERNEL_KILLS:
                _let_kernel_kill(pipe)
            else:
                command = ["/bin/sh", "-c", _GUARD.format(pipe=pipe), "sh", *command]
            super().__init__(command, pass_fds=(pipe,), process_group=0, **options)
            if KERNEL_KILLS:
                _let_kernel_kill(pipe, self.pid)
            _alive.add(self)
        finally:
            os.close(pipe)

    def kill(self) -> None:
        """Kill the child and what it started, also where it has ended and they have not."""
        if sys.platform == "win32":
            super().kill()
            return
        with suppress(ProcessLookupError, PermissionError):  # macOS does not permit to signal what has ended
            os.killpg(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill the child and what it started, and leave nothing of it."""
        self.kill()
        self.wait()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):  # what was still to be sent
                    stream.close()

    def __del__(self, *args: Any, **kwargs: Any) -> None:
        """Let go of the line; a guard whose child has ended is told that nobody is left to kill."""
        line, self._line = self._line, None
        if line is not None:
            if not KERNEL_KILLS and self.returncode is not None:
                with suppress(OSError):
                    os.write(line, b"\n")
            os.close(line)
        super().__del__(*args, **kwargs)


def end_all() -> None:
    """Kill all children, for this process is about to end."""
    for child in tuple(_alive):
        if child.returncode is None:
            child.kill()


def _let_kernel_kill(pipe: int, group: int | None = None) -> None:
    """Have the kernel signal the end of a pipe with SIGKILL, and tell it to whom."""
    assert sys.platform == "linux"
    import fcntl

    if group is None:
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, os.O_ASYNC)
    else:
        with suppress(ProcessLookupError):  # it has ended already
            fcntl.fcntl(pipe, fcntl.F_SETOWN, -group)
