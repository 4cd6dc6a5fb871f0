"""Writing a file whole or not at all."""

import os
from pathlib import Path

from mlia import interrupts
from mlia.errors import OutputError


def write_file(path: str | Path, content: bytes) -> None:
    """Write a file by way of a temporary one beside it, so that no reader ever sees half of it.

    A device or pipe is written to as it is, and a symbolic link keeps pointing where it does.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            with open(path, "wb", buffering=0) as file:
                write_all(file.fileno(), content)
        else:
            _replace(Path(os.path.realpath(path)), content)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None


def check_writable(path: str | Path) -> None:
    """Refuse a path that cannot be written, before long work is done for it.

    Raises:
        OutputError: its folder is missing or closed to us, or it is a folder itself.
    """
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise OutputError(f"cannot write {path}: there is no folder {folder}")
    if os.path.isdir(path) or not os.access(folder, os.W_OK):
        raise OutputError(f"cannot write {path}: {'it is a folder' if os.path.isdir(path) else 'permission denied'}")


def write_all(file: int, content: bytes) -> None:
    """Write to a file descriptor until nothing is left: a write may take a part, or nothing yet.

    Raises:
        OSError: there is no more room, or nobody reads.
    """
    left = memoryview(content)
    while left:
        try:
            left = left[os.write(file, left) :]
        except BlockingIOError:
            from select import select

            select([], [file], [])


def _replace(target: Path, content: bytes) -> None:
    mode = target.stat().st_mode & 0o7777 if target.exists() else None
    temporary = target.with_name(f".{target.name[:100]}.{os.urandom(8).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    interrupts.unfinished.add(str(temporary))
    try:
        file = os.open(temporary, flags, 0o666 if mode is None else 0o600)
        try:
            write_all(file, content)
        finally:
            os.close(file)
        if mode is not None:
            os.chmod(temporary, mode)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        interrupts.unfinished.discard(str(temporary))
