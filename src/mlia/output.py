"""Writing a file whole or not at all."""

import os
from pathlib import Path

from mlia.errors import OutputError


def write_file(path: str | Path, content: bytes) -> None:
    """Write a file by way of a temporary one beside it, so that no reader ever sees half of it.

    A device or pipe is written to as it is, and a symbolic link keeps pointing where it does.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            Path(path).write_bytes(content)
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


def _replace(target: Path, content: bytes) -> None:
    import tempfile

    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, _mode(target))  # mkstemp makes it private
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _mode(target: Path) -> int:
    """The permissions of the file that is replaced, or what a new file gets."""
    if target.exists():
        return target.stat().st_mode & 0o7777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
