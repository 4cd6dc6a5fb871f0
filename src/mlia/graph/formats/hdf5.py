"""HDF5 files of weights, read with limits: only numbers and texts, only from the file itself."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import takewhile
from types import TracebackType
from typing import Any, TypeAlias

from mlia.errors import ModelError
from mlia.graph.formats.hdf5_heap import check_heap, check_texts
from mlia.graph.formats.keras_model import Array

LARGEST_WEIGHTS = 4 << 30  # bytes of all data sets that are read; far above any model for the edge
LARGEST_RATIO = 1000  # of a data set to what the file stores for it: compression of weights gives far less
MOST_OBJECTS, DEEPEST = 200_000, 64
_PLAIN_FILTERS = (1, 2, 3)  # deflate, shuffle, checksum: what the library has without loading more code
_KINDS = "fiub"  # numpy's kinds of numbers

Tree: TypeAlias = Mapping[str, "Tree | None"]  # names in a group; None is a data set


class Hdf5:
    """The content of a file, opened; use it in a `with` statement. Paths are "group/data set", "" for the root.

    Raises:
        ModelError: every method: it is damaged, too large, or leads out of the file.
    """

    def __init__(self, content: bytes) -> None:
        check_heap(content)
        with _damage():
            import h5py

            self._library = h5py
            self._file = h5py.File(io.BytesIO(content), "r")
        self._content, self._checked = content, set[str]()
        self._left = LARGEST_WEIGHTS
        self._groups: dict[str, Any] = {}
        self._implied: set[str] = set()  # groups that only the names of others speak of

    def __enter__(self) -> "Hdf5":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _damage():
            self._file.close()

    def has_attribute(self, path: str, name: str) -> bool:
        with _damage():
            return path not in self._implied and name in self._object(path).attrs

    def texts(self, path: str, name: str) -> list[str]:
        """An attribute of one or more texts; longer lists stand in several attributes, name0, name1, …"""
        with _damage():
            attributes = self._object(path).attrs
            names = [name] if name in attributes else []
            numbered = (f"{name}{number}" for number in range(len(attributes)))
            names = names or list(takewhile(attributes.__contains__, numbered))
            if not names:
                raise ModelError(f"'{path or '/'}' has no attribute '{name}'")
            return [text for each in names for text in self._texts(attributes, each)]

    def tree(self) -> Tree:
        """All that the file holds; a group that Keras on Windows called "layers\\dense" is 'dense' in 'layers'."""
        with _damage():
            return self._unfolded(self._tree(self._file, set(), 0))

    def has(self, name: str) -> bool:
        """Whether the root has something of that name."""
        with _damage():
            return name in self._file

    def array(self, path: str) -> Array:
        """A data set as a numpy array."""
        with _damage():
            found = self._object(path)
            if not isinstance(found, self._library.Dataset):
                raise ModelError(f"it is damaged: '{path}' is not a data set")
            self._check(path, found)
            return found[()] if found.shape else _scalar(found)

    def _object(self, path: str) -> Any:
        if path in self._groups:
            return self._groups[path]
        if not path:
            return self._file
        parent, _, name = path.rpartition("/")
        found = self._object(parent)
        if not isinstance(found, self._library.Group) or name not in found:
            raise ModelError(f"it has no '{path}'")
        found = self._child(found, name)
        if isinstance(found, self._library.Group):
            self._groups[path] = found
        return found

    def _tree(self, group: Any, seen: set[int], depth: int) -> Tree:
        seen.add(self._library.h5o.get_info(group.id).addr)
        tree: dict[str, Tree | None] = {}
        for name in group:
            found = self._child(group, name)
            tree[name] = None
            if isinstance(found, self._library.Group):
                if depth == DEEPEST or len(seen) > MOST_OBJECTS or self._library.h5o.get_info(found.id).addr in seen:
                    raise ModelError(f"it has too many groups, or the group '{found.name}' more than once")
                tree[name] = self._tree(found, seen, depth + 1)
        return tree

    def _unfolded(self, tree: Tree) -> Tree:
        """Groups of the root whose name is a path of Windows, where such a path leads; their members follow."""
        unfolded: dict[str, Any] = {name: part for name, part in tree.items() if "\\" not in name}
        for name in sorted(set(tree) - set(unfolded)):
            *outer, last = parts = name.split("\\")
            place = unfolded
            for depth, part in enumerate(outer, 1):
                if part not in place:
                    self._implied.add("/".join(parts[:depth]))
                place[part] = dict(place.get(part) or {})
                place = place[part]
            place[last] = {**(place.get(last) or {}), **(tree[name] or {})}
            self._groups["/".join(parts)] = self._child(self._file, name)
            self._implied.discard("/".join(parts))
        return unfolded

    def _child(self, group: Any, name: str) -> Any:
        if not isinstance(group.get(name, getlink=True), self._library.HardLink):
            raise ModelError(
                f"'{group.name}/{name}' is a link to elsewhere, which is not followed; save the whole model"
            )
        return group[name]

    def _texts(self, attributes: Any, name: str) -> list[str]:
        if name not in self._checked:
            check_texts(self._content, name)
            self._checked.add(name)
        attribute = attributes.get_id(name)
        if attribute.shape is None or 0 in attribute.shape:
            return []
        if attribute.get_storage_size() > len(self._content):
            raise ModelError(f"it is damaged: the attribute '{name}' is larger than the file")
        if not isinstance(attribute.get_type(), self._library.h5t.TypeStringID):  # of others the library may crash
            raise ModelError(f"it is damaged: the attribute '{name}' is not text")
        value = attributes[name]
        items = [value] if isinstance(value, str | bytes) else list(getattr(value, "flat", ()))
        texts = [bytes(item).decode() if isinstance(item, bytes) else item for item in items]
        if not all(isinstance(text, str) for text in texts):
            raise ModelError(f"it is damaged: the attribute '{name}' is not text")
        return [str(text) for text in texts]

    def _check(self, path: str, found: Any) -> None:
        """Refuses what is no array of numbers in the file, or larger than what it is stored as."""
        if found.is_virtual or found.external:
            raise ModelError(
                f"the data set '{path}' is stored in other files, which are not read; save the whole model"
            )
        if found.shape is None or found.dtype.kind not in _KINDS or found.dtype.shape or found.dtype.metadata:
            raise ModelError(f"the data set '{path}' has the type {found.dtype}; only numbers are read as weights")
        plan = found.id.get_create_plist()
        filters = [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]
        if any(number not in _PLAIN_FILTERS for number in filters):
            raise ModelError(
                f"the data set '{path}' is compressed in a way that is not read; save it with gzip or none"
            )
        size, stored = found.nbytes, found.id.get_storage_size()
        chunk = found.dtype.itemsize
        for axis in found.chunks or ():
            chunk *= axis
        self._left -= size
        if stored > len(self._content) or (size and not stored):
            raise ModelError(f"it is damaged: the data set '{path}' of {size} bytes is not in the file")
        if self._left < 0 or max(size, chunk) > LARGEST_RATIO * stored:
            raise ModelError(
                f"the data set '{path}' has {size} bytes stored as {stored}, which is more than mlia reads"
            )


@contextmanager
def _damage() -> Iterator[None]:
    """The library reports damage by many kinds of errors; all become one."""
    try:
        yield
    except UnicodeError:
        raise ModelError("it is damaged, or not HDF5: a text is not UTF-8") from None
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(f"it is damaged, or not HDF5: {reason}") from None
    except MemoryError:
        raise ModelError("it is damaged: it asks for more memory than there is") from None


def _scalar(found: Any) -> Array:
    import numpy

    return numpy.asarray(found[()])
