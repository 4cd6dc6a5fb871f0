"""Files of samples -> numpy arrays: an .npz, an .npy, or a folder of .npy, told apart by content.

numpy.load() trusts what it reads: it takes the memory that a header asks for before it looks at the file, and leaves
by any error of its libraries. So headers are read here, and compared with the bytes that there are. Format:
https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any, TypeAlias

from msgspec import Struct

from mlia.archives import Archive, open_file
from mlia.errors import TransformError

Array: TypeAlias = Any  # numpy.ndarray, without importing numpy where nothing is computed
MAXIMUM_BYTES = 4 << 30  # of all arrays that are read together
LARGEST_HEADER = 10_000  # bytes, as numpy itself has it
MOST_AXES = 32
_MAGIC, _ZIP = b"\x93NUMPY", (b"PK\x03\x04", b"PK\x05\x06")  # an archive that holds something, or nothing
_SUFFIX = ".npy"
_PIECE = 1 << 20  # bytes that are read at a time
_DICTIONARY = re.compile(r"\s*\{(.*)\}\s*", re.DOTALL)
_ENTRY = re.compile(
    r"""\s*(?P<quote>['"])(?P<key>descr|fortran_order|shape)(?P=quote)\s*:\s*"""
    r"""(?:(?P<mark>['"])(?P<type>[^'"\\]*)(?P=mark)|(?P<truth>True|False)|\((?P<sizes>[\dL,\s]*)\))\s*(?:,\s*|$)"""
)
_SIZE = re.compile(r"\s*(\d{1,19})L?\s*")  # Python 2 wrote 3L
_NUMBER = re.compile(r"[<>|=]?([fiu])([1248])|[|=<>]?(b)1|\?")


class Header(Struct, frozen=True):
    """What an .npy says of its array: numpy's name of the type of its numbers, the shape, and the order of axes."""

    dtype: str
    shape: tuple[int, ...]
    is_fortran: bool

    @property
    def size_bytes(self) -> int:
        return prod(self.shape) * int(self.dtype[-1])


class Arrays(Mapping[str, Array]):
    """The arrays of a file or folder by name, each read when it is asked for: what nobody uses is not read.

    Raises:
        TransformError: when an array is read: it is damaged or too large.
    """

    def __init__(self, names: Iterable[str], read: Callable[[str], Array]) -> None:
        self._names, self._read = tuple(names), read

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            raise KeyError(name)
        return self._read(name)

    def without(self, name: str) -> "Arrays":
        """All but one."""
        return Arrays((each for each in self._names if each != name), self._read)

    def __contains__(self, name: object) -> bool:
        return name in self._names  # Mapping's own would read it

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read_arrays(path: Path) -> Arrays:
    """The arrays of samples that a file or a folder holds.

    An .npz has one array per input, by name; the only array of an .npy, and the samples in the files of a folder
    stacked, are called "samples". Numbers only: nothing is unpickled.

    Raises:
        TransformError: it is missing, no such file, damaged, empty, or has more than MAXIMUM_BYTES.
    """
    if path.is_dir():
        return _folder(path)
    members = _members(path)
    left = MAXIMUM_BYTES

    def read(name: str) -> Array:
        nonlocal left
        with _opened(path, members[name]) as (header, file):
            left -= header.size_bytes
            if left < 0:
                raise _refused(path)(f"it holds more than {MAXIMUM_BYTES:,} bytes of data; at most those are read")
            return _filled(file, header, _refused(path, members[name]))

    return Arrays(members, read)


def _folder(path: Path) -> Arrays:
    """One array of the samples in all files, in the order of their names."""
    files = sorted(path.glob(f"*{_SUFFIX}"))
    if not files:
        raise TransformError(f"the folder {path} holds no .npy files")
    headers: list[Header] = []
    members: list[str] = []
    for file in files:
        found = [*_members(file).values()]
        if len(found) != 1:
            raise _refused(file)(f"it holds {len(found)} arrays, and each file of a folder is one sample")
        members += found
        with _opened(file, found[0]) as (header, _):
            headers.append(header)
        if header.shape != headers[0].shape:
            shapes = f"{list(headers[0].shape)} and {list(header.shape)}"
            raise TransformError(f"the calibration samples in {path} differ in shape: {shapes}")

    def read(_: str) -> Array:
        import numpy

        dtype = numpy.result_type(*{header.dtype for header in headers})
        size = len(files) * prod(headers[0].shape) * dtype.itemsize
        if size > MAXIMUM_BYTES:
            raise TransformError(f"{path} holds {size:,} bytes of data; at most {MAXIMUM_BYTES:,} are read")
        stacked = _empty((len(files), *headers[0].shape), dtype, _refused(path))
        for number, (file, member) in enumerate(zip(files, members, strict=True)):
            with _opened(file, member) as (header, content):
                if header != headers[number]:
                    raise _refused(file)("it has been changed while it was read")
                stacked[number] = _filled(content, header, _refused(file, member))
        return stacked

    return Arrays(("samples",), read)


def _refused(path: Path, member: str = "") -> Callable[[str], TransformError]:
    """Makes the error of what is wrong with a file, or with a member of it."""
    where = f"{path}, {' '.join(member.split())[:80]}" if member else f"{path}"
    return lambda reason: TransformError(f"cannot read the samples {where}: {reason}")


def _members(path: Path) -> dict[str, str]:
    """The members of an archive that are arrays, by the arrays' names; "" is the file itself."""
    refuse = _refused(path)
    with open_file(path, refuse) as file:
        if not file.read(len(_ZIP[0])).startswith(_ZIP):
            return {"samples": ""}
        with Archive(file, refuse) as archive:
            found = {name.removesuffix(_SUFFIX): name for name in archive.sizes if name.endswith(_SUFFIX)}
    if not found:
        raise refuse("it holds no arrays")
    return found


@contextmanager
def _opened(path: Path, member: str) -> Iterator[tuple[Header, IO[bytes]]]:
    """An .npy, a file of its own or a member of an archive, behind its header."""
    refuse = _refused(path, member)
    if member:
        with Archive(path, _refused(path)) as archive, archive.open(member, MAXIMUM_BYTES) as stream:
            yield _header(stream, archive.sizes[member], refuse), stream
    else:
        with open_file(path, refuse) as file:
            yield _header(file, os.fstat(file.fileno()).st_size, refuse), file


def _header(file: IO[bytes], size: int, refuse: Callable[[str], TransformError]) -> Header:
    """The header of an .npy of `size` bytes, all of which it accounts for; the file is behind it then."""
    start = file.read(8)
    if not size:
        raise refuse("it is empty")
    if not start.startswith(_MAGIC) or len(start) < 8 or start[6] not in (1, 2, 3):
        raise refuse("it is neither .npy nor .npz")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > LARGEST_HEADER:
        raise refuse(f"it is damaged: its header has {length:,} bytes, far more than any array of numbers needs")
    header = _parsed(file.read(length).decode("latin1"), refuse)
    left = size - 8 - width - length
    if header.size_bytes != left:
        shape = "x".join(map(str, header.shape)) or "one number"
        raise refuse(
            f"it is damaged: its header tells of {shape} {header.dtype}, {header.size_bytes:,} bytes, and"
            f" {max(left, 0):,} bytes follow"
        )
    return header


def _parsed(text: str, refuse: Callable[[str], TransformError]) -> Header:
    """A header's dictionary, read as what numpy writes and not as the Python that it looks like."""
    found: dict[str, re.Match[str]] = {}
    dictionary = _DICTIONARY.fullmatch(text)
    body, at = dictionary[1].rstrip() if dictionary else "", 0
    while entry := _ENTRY.match(body, at):
        found[entry["key"]], at = entry, entry.end()
    described, order, shape = (found.get(key) for key in ("descr", "fortran_order", "shape"))
    if at < len(body) or not (described and order and shape) or order["truth"] is None or shape["sizes"] is None:
        raise refuse("its header is not that of an array of numbers; records and the like are not read")
    number = _NUMBER.fullmatch(described["type"] or "")
    if number is None:
        what = "objects" if "O" in (described["type"] or "") else " ".join((described["type"] or "").split())[:40]
        raise refuse(f"it holds {what}, not numbers of up to 64 bits")
    sizes = [_SIZE.fullmatch(each) for each in shape["sizes"].split(",") if each.strip()]
    numbers = tuple(int(size[1]) for size in sizes if size)
    name = f"{number[1]}{number[2]}" if number[1] else "b1"
    itemsize = int(name[-1])
    if len(numbers) < len(sizes) or len(numbers) > MOST_AXES or (name[0], itemsize) == ("f", 1):
        raise refuse("it is damaged: its header tells of a shape or a type that there is not")
    if prod(max(size, 1) for size in numbers) * itemsize > MAXIMUM_BYTES:
        sizes_told = "x".join(map(str, numbers))
        raise refuse(f"its header tells of {sizes_told} numbers, and at most {MAXIMUM_BYTES:,} bytes are read")
    return Header((">" if described["type"].startswith(">") else "<") + name, numbers, order["truth"] == "True")


def _filled(file: IO[bytes], header: Header, refuse: Callable[[str], TransformError]) -> Array:
    """The array whose bytes come next in the file, and are the last ones."""
    size = header.size_bytes
    content = _empty((size,), "u1", refuse)
    view, at = memoryview(content), 0
    while at < size and (read := file.readinto(view[at : at + _PIECE])):  # type: ignore[attr-defined]
        at += read
    if at < size or file.read(1):  # which also lets an archive compare its checksum
        raise refuse("it is damaged: it has not the size that it says")
    array = content != 0 if header.dtype[1] == "b" else content.view(header.dtype)
    return array.reshape(header.shape[::-1]).T if header.is_fortran else array.reshape(header.shape)


def _empty(shape: tuple[int, ...], dtype: Any, refuse: Callable[[str], TransformError]) -> Array:
    import numpy

    try:
        return numpy.empty(shape, dtype)
    except MemoryError:
        raise refuse("there is not enough memory for it") from None
