"""Reading the files that people write and save: profiles, budgets, recipes, logs, tables and reports."""

import errno
import os
import stat

TEXT_BYTES = 1 << 20  # of a profile, a budget, a recipe, a vela.ini; real ones have a few KiB
LOG_BYTES = 64 << 20  # of a log or a table of runs
REPORT_BYTES = 256 << 20  # of a report: 10,000 operators on eight targets take less
_WAIT_MS = 2000  # for somebody to open the other end of a pipe


def read_file(path: str | os.PathLike[str], limit_bytes: int) -> bytes:
    """The content of a file, or of a pipe such as `<(command)` is.

    Raises:
        OSError: it cannot be read, is larger than the limit, is a device, or a pipe that nobody writes to.
    """
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        found = os.fstat(file)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISFIFO(found.st_mode):
            raise OSError(errno.EINVAL, "it is a device and no file")
        _refuse_large(found.st_size, limit_bytes)
        is_pipe = stat.S_ISFIFO(found.st_mode)
        return _from_pipe(file, limit_bytes) if is_pipe else _read(file, limit_bytes, found.st_size)
    finally:
        os.close(file)


def _read(file: int, limit_bytes: int, size_bytes: int) -> bytes:
    content = os.read(file, size_bytes + 1)
    while part := os.read(file, 1 << 16):  # it has grown, or tells no size, as those of /proc
        content += part
        _refuse_large(len(content), limit_bytes)
    return content


def _from_pipe(file: int, limit_bytes: int) -> bytes:
    """All that comes until the last writer has closed it; who writes may take their time, but must be there."""
    from select import poll

    waiting = poll()
    waiting.register(file)
    content = bytearray()
    is_open = False
    while True:
        try:
            part = os.read(file, 1 << 16)
        except BlockingIOError:  # nothing is there yet, but somebody who may write
            is_open = True
            waiting.poll()
            continue
        if part:
            content += part
            _refuse_large(len(content), limit_bytes)
        elif content or is_open:
            return bytes(content)
        elif waiting.poll(_WAIT_MS):
            is_open = True
        else:
            raise OSError(errno.EPIPE, "it is a pipe that nobody writes to")


def _refuse_large(size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {limit_bytes >> 20} MiB, which it cannot be")
