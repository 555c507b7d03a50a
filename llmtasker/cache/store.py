"""Store: what a cache has to do; MemoryCache does it in the process, DiskCache (disk.py) on disk.

A Guard makes a whole and harmless one of any object that has `get` and `put`.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar, runtime_checkable

from llmtasker.errors import snippet

T = TypeVar("T")

LEASE = 120.0
"""Seconds that a lease lasts when nothing is said: longer than most calls."""


class CacheWarning(UserWarning):
    """The cache can't be used as it should; the run goes on."""


@runtime_checkable
class Store(Protocol):
    """What a cache has to do: keep a text by a key of 64 hexadecimal digits.

    A store of your own may do with `get` and `put`; the batch forms are used where they are there.
    """

    def get(self, key: str) -> str | None:
        """Return the text, or None when there is none."""
        ...

    def put(self, key: str, text: str) -> None:
        """Keep an ASCII text."""
        ...

    def get_many(self, keys: Sequence[str]) -> list[str | None]:
        """Return the text of each key, None where there is none."""
        ...

    def put_many(self, entries: Sequence[tuple[str, str]]) -> None:
        """Keep texts by key, all at once."""
        ...


class MemoryCache:
    """A cache in this process, for tests and short-lived use.

    >>> cache = MemoryCache()
    >>> cache.put("0" * 64, "{}")
    >>> cache.get("0" * 64), cache.get("1" * 64)
    ('{}', None)
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._texts: dict[str, str] = {}
        self._leases: dict[str, float] = {}
        self._clock = clock
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"MemoryCache({len(self._texts)} entries)"

    def __reduce__(self) -> tuple[Any, ...]:
        return MemoryCache, ()  # another process has a memory of its own

    def get(self, key: str) -> str | None:
        """Return the text, or None when there is none."""
        return self._texts.get(key)

    def put(self, key: str, text: str) -> None:
        """Keep a text, and end the lease on its key."""
        self.put_many([(key, text)])

    def get_many(self, keys: Sequence[str]) -> list[str | None]:
        """Return the text of each key, None where there is none."""
        return [self._texts.get(key) for key in keys]

    def put_many(self, entries: Sequence[tuple[str, str]]) -> None:
        """Keep texts by key, and end the leases on those keys."""
        with self._lock:
            for key, text in entries:
                self._texts[key] = text
                self._leases.pop(key, None)

    def discard(self, key: str) -> None:
        """Forget the text of a key."""
        with self._lock:
            self._texts.pop(key, None)

    def clear(self) -> int:
        """Forget everything; return how many texts there were."""
        with self._lock:
            count = len(self._texts)
            self._texts.clear()
            self._leases.clear()
            return count

    def lease(self, key: str, *, seconds: float = LEASE) -> bool:
        """Return True when the caller may ask, False when somebody does or the answer is there."""
        with self._lock:
            now = self._clock()
            if key in self._texts or self._leases.get(key, now) > now:
                return False
            self._leases[key] = now + seconds
            return True

    def release(self, key: str) -> None:
        """End a lease."""
        with self._lock:
            self._leases.pop(key, None)

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


class Guard:
    """Any store, with batches and leases whether it has them or not, that never raises.

    What the store raises is taken for a miss, a text that is not kept, or a lease that is free, and said once as a
    CacheWarning.
    """

    def __init__(self, store: Store) -> None:
        self.store: Any = store
        self._warned = False

    def get(self, key: str) -> str | None:
        """Return the text, or None when there is none."""
        return self._text(self._call("get", key))

    def put(self, key: str, text: str) -> None:
        """Keep a text."""
        self.put_many([(key, text)])

    def get_many(self, keys: Sequence[str]) -> list[str | None]:
        """Return the text of each key, None where there is none."""
        nothing: list[object] = [None] * len(keys)
        if self._has("get_many"):
            found = self._try(nothing, lambda: list(self.store.get_many(keys)))
        else:
            found = [self._call("get", key) for key in keys]
        if len(found) != len(keys):
            self._warn(f"get_many gave {len(found)} texts for {len(keys)} keys")
            found = nothing
        return [self._text(value) for value in found]

    def put_many(self, entries: Sequence[tuple[str, str]]) -> None:
        """Keep texts by key."""
        if self._has("put_many"):
            self._call("put_many", entries)
            return
        for key, text in entries:
            self._call("put", key, text)

    def lease_many(self, keys: Sequence[str], *, seconds: float = LEASE) -> list[bool]:
        """Return for each key whether the caller may ask."""
        free = [True] * len(keys)
        if self._has("lease_many"):
            taken = self._try(free, lambda: [bool(mine) for mine in self.store.lease_many(keys, seconds=seconds)])
            if len(taken) == len(keys):
                return taken
            self._warn(f"lease_many gave {len(taken)} answers for {len(keys)} keys")
        elif self._has("lease"):
            return [self._try(True, partial(self._lease, key, seconds)) for key in keys]
        return free

    def release_many(self, keys: Sequence[str]) -> None:
        """End leases."""
        if self._has("release_many"):
            self._call("release_many", keys)
        elif self._has("release"):
            for key in keys:
                self._call("release", key)

    def report(self, error: BaseException) -> None:
        """Say once that the store failed."""
        try:
            reason = str(error)
        except Exception:  # noqa: BLE001  an error is anybody's code too
            reason = "it can't be shown"
        self._warn(f"{type(error).__name__}: {reason}")

    def _has(self, name: str) -> bool:
        return self._try(False, lambda: hasattr(self.store, name))

    def _lease(self, key: str, seconds: float) -> bool:
        return bool(self.store.lease(key, seconds=seconds))

    def _call(self, name: str, *arguments: object) -> object:
        return self._try(None, lambda: getattr(self.store, name)(*arguments))

    def _try(self, otherwise: T, action: Callable[[], T]) -> T:
        # The action names the method as well: to look for it may fail like the call.
        try:
            return action()
        except CacheWarning:
            raise  # only where a filter makes errors of warnings
        except Exception as error:  # noqa: BLE001  a store is anybody's code, and a cache stops no run
            self.report(error)
            return otherwise

    def _text(self, value: object) -> str | None:
        if value is None or isinstance(value, str):
            return value
        self._warn(f"it gave a {type(value).__name__} where a text was kept")
        return None

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            name = type(self.store).__name__
            warnings.warn(
                f"The cache {name} failed: {snippet(reason)}. The run goes on, answers may not be kept.",
                CacheWarning,
                stacklevel=2,
            )
