"""Shared: one object per key in this process, as long as it is in use."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from llmtasker.cache.process import reset_in_child

T = TypeVar("T")


class Shared(Generic[T]):
    """Creates the object of a key at first use, and forgets it when the last reference to it is gone.

    The key may be the id of a thing that need not be hashable, if the object keeps that thing alive: then the id is
    not reused.
    """

    def __init__(self) -> None:
        self._objects: weakref.WeakValueDictionary[Hashable, T] = weakref.WeakValueDictionary()
        self.after_fork()
        reset_in_child(self)

    def after_fork(self) -> None:
        """Reset in a forked child: a thread that does not exist there may hold the lock."""
        self._lock = threading.Lock()

    def get(self, key: Hashable, create: Callable[[], T]) -> T:
        """Return the object of a key."""
        with self._lock:
            found = self._objects.get(key)
            if found is None:
                found = self._objects[key] = create()
            return found
