"""Members of a zip archive and other files, read with limits: whatever is wrong with one is one error.

A reader says what its error is (`refuse`), because a damaged model and damaged samples are told apart.
"""

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO

from mlia.errors import MliaError

Refuse = Callable[[str], MliaError]
MOST_MEMBERS = 100_000
LARGEST_RATIO = 200  # of unpacked to packed, for members of more than a mebibyte; weights and samples have far less
_READ_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


def open_file(path: Path, refuse: Refuse) -> BinaryIO:
    """Open a regular file to read; what is none is refused without waiting for who might write to it.

    Raises:
        MliaError: `refuse` made it: the file is missing, closed to us, or a folder, pipe, socket or device.
    """
    try:
        _require_regular(os.stat(path).st_mode, refuse)  # before it is opened: opening a device may do something
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            _require_regular(os.fstat(handle).st_mode, refuse)
        except BaseException:
            os.close(handle)
            raise
        return os.fdopen(handle, "rb")
    except (OSError, ValueError) as error:  # a path may hold a null
        raise refuse(_reason(error)) from None


def _require_regular(mode: int, refuse: Refuse) -> None:
    if not stat.S_ISREG(mode):
        raise refuse(f"it is {_KINDS.get(stat.S_IFMT(mode), 'no file')}, not a file")


class Archive:
    """An opened zip archive; use it in a `with` statement. `sizes` are the bytes of each member, unpacked.

    The directory of an archive may say anything. It is believed only where the file can hold what it says: members
    that are stored or deflated, not encrypted, of different names, and together no larger than the file.

    Args:
        source: the path of a regular file, or a file that is open already.
        refuse: makes the error to raise, of what is wrong in words.

    Raises:
        MliaError: `refuse` made it, here or later: the archive is damaged, or unpacks to more than is read.
    """

    def __init__(self, source: Path | BinaryIO, refuse: Refuse) -> None:
        self._refuse = refuse
        self._opened = open_file(source, refuse) if isinstance(source, Path) else None
        file = self._opened or source
        assert not isinstance(file, Path)
        try:
            with self._damage():
                length = file.seek(0, os.SEEK_END)
                self._zip = zipfile.ZipFile(file)
                self._entries = self._checked(length)
        except BaseException:
            self._close()
            raise
        self.sizes: Mapping[str, int] = {name: entry.file_size for name, entry in self._entries.items()}

    def __enter__(self) -> "Archive":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()
        self._close()

    def read(self, name: str, largest: int) -> bytes:
        """The whole content of a member of at most `largest` bytes."""
        with self.open(name, largest) as member:
            content = member.read(self.sizes[name])
            if len(content) != self.sizes[name] or member.read(1):
                raise self._refuse(f"it is a damaged zip archive: {_short(name)} is cut short")
            return content

    @contextmanager
    def open(self, name: str, largest: int) -> Iterator[IO[bytes]]:
        """A member of at most `largest` bytes as a file, in a `with` statement."""
        entry = self._entries.get(name)
        if entry is None:
            raise self._refuse(f"it has no {_short(name)}")
        if entry.compress_type not in _READ_METHODS:
            raise self._refuse(f"its {_short(name)} is packed in a way that is not read; only deflate is")
        if entry.flag_bits & _ENCRYPTED:
            raise self._refuse(f"its {_short(name)} is encrypted")
        if entry.file_size > min(largest, max(1 << 20, LARGEST_RATIO * entry.compress_size)):
            raise self._refuse(
                f"its {_short(name)} would unpack from {entry.compress_size:,} to {entry.file_size:,} bytes, which is"
                " more than mlia reads"
            )
        with self._damage(), self._zip.open(entry) as member:
            yield member

    def _checked(self, length: int) -> dict[str, zipfile.ZipInfo]:
        """The members by name, as far as a file of this length can hold them."""
        entries = [entry for entry in self._zip.infolist() if not entry.is_dir()]
        if len(entries) > MOST_MEMBERS:
            raise self._refuse(f"it has {len(entries):,} members, and at most {MOST_MEMBERS:,} are read")
        if sum(entry.compress_size for entry in entries) > length:
            raise self._refuse("it is a damaged zip archive: its members are larger than the file")
        named = {entry.filename: entry for entry in entries}
        if len(named) < len(entries):
            raise self._refuse("it is a damaged zip archive: it has an entry twice")
        return named

    @contextmanager
    def _damage(self) -> Iterator[None]:
        """The library reports damage by many kinds of errors; all become one."""
        try:
            yield
        except (
            zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, RuntimeError, LookupError,
            ArithmeticError, AttributeError, MemoryError,
        ) as error:  # fmt: skip
            raise self._refuse(f"it is a damaged zip archive: {_reason(error)}") from None

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()


def _reason(error: BaseException) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "a name in it is not text"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return _short(text or type(error).__name__)


def _short(text: str) -> str:
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:200]
