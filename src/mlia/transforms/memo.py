"""What several threads want is made once."""

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Made = TypeVar("_Made")


class Memo(Generic[_Key, _Made]):
    """Keeps what was made, by its key. Threads that want the same wait for the first of them."""

    def __init__(self) -> None:
        self._made: dict[_Key, _Made] = {}
        self._locks: dict[_Key, Lock] = {}
        self._looking = Lock()

    def get(self, key: _Key, make: Callable[[], _Made]) -> _Made:
        """What was made for the key, or is made now."""
        with self._looking:
            lock = self._locks.setdefault(key, Lock())
        with lock:
            if key not in self._made:
                self._made[key] = make()
            return self._made[key]
