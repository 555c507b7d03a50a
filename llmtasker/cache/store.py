"""Store: the interface of a cache; MemoryCache implements it in the process, DiskCache on disk.

A user's store needs only `get` and `put`: SafeStore completes it, once, in `open_cache`.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from llmtasker.errors import ConfigurationError, counted
from llmtasker.values.lazy_pattern import lazy_pattern

# "C:/" is a drive; a Path has one slash left. A URL may have lost its colon, "redis//host", or its scheme:
# "user:password@host", "host:6379/0".
_BEGINS_AS_URL = lazy_pattern(
    r"\s*(?:([a-z][a-z0-9+.-]+):/|(rediss?|valkeys?)(?::|//)|/{0,2}[^/\\]*:[^/\\]*@|[\w.-]+:\d+(?:/\d*)?\s*$)",
    re.IGNORECASE,
)

LEASE = 120.0
"""The default seconds of a lease: longer than most calls."""


class CacheWarning(UserWarning):
    """The cache can't be used normally; the run continues."""


@runtime_checkable
class Store(Protocol):
    """The interface of a cache: store a text by a key of 64 hexadecimal digits.

    Your own store needs these two; any of `get_many`, `put_many`, `lease`, `release`, `lease_many` and
    `release_many` (see CompleteStore) is used if the store has it.
    """

    def get(self, key: str) -> str | None:
        """Return the text, or None if there is none."""
        ...

    def put(self, key: str, text: str) -> None:
        """Keep an ASCII text."""
        ...


class CompleteStore(Store, Protocol):
    """The store that the runner uses, with batches and leases; its methods neither raise errors nor hang.

    A lease is the right to ask for the answer of a key, so that one of several processes asks and the others wait.
    """

    def get_many(self, keys: Sequence[str]) -> list[str | None]:
        """Return the text of each key, or None if there is none."""
        ...

    def put_many(self, entries: Sequence[tuple[str, str]]) -> None:
        """Store texts by key, all at once, and end the leases on those keys."""
        ...

    def lease_many(self, keys: Sequence[str], *, seconds: float = LEASE) -> list[bool]:
        """Return for each key whether the caller may ask; False: another caller does, or `get` has the answer."""
        ...

    def release_many(self, keys: Sequence[str]) -> None:
        """End the caller's leases."""
        ...

    def get_at_once(self, key: str) -> str | None:
        """Return the result of `get`.

        Raises:
            BlockingIOError: it has to wait.
        """
        ...


def checksum(key: str, text: str) -> str:
    """Return 16 hexadecimal digits over a key of 64 characters and its text."""
    return hashlib.blake2b(text.encode(), digest_size=8, key=key.encode("ascii")).hexdigest()


def check_folder(folder: str | os.PathLike[str]) -> None:
    """Check that the name of a folder is not a URL, which would become a folder named after its password.

    Raises:
        ConfigurationError: it is a URL; only its scheme is shown.
    """
    if url := _BEGINS_AS_URL.match(os.fsdecode(folder)):
        scheme = url[1] or url[2]
        seen = f"a {scheme}:// URL" if scheme else "a host with a port, user or password"
        raise ConfigurationError(
            f"{seen} is not a folder: a cache is a "
            'folder, a store with get and put, or a Redis or Valkey, as LLM(…, cache="redis://host:6379/0").'
        )


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
        return f"MemoryCache({counted(len(self._texts), 'entry', 'entries')})"

    def __reduce__(self) -> tuple[Any, ...]:
        return MemoryCache, ()  # another process has its own memory

    def get(self, key: str) -> str | None:
        """Return the text, or None if there is none."""
        return self._texts.get(key)

    get_at_once = get

    def put(self, key: str, text: str) -> None:
        """Store a text, and end the lease on its key."""
        self.put_many([(key, text)])

    def get_many(self, keys: Sequence[str]) -> list[str | None]:
        """Return the text of each key, or None if there is none."""
        return [self._texts.get(key) for key in keys]

    def put_many(self, entries: Sequence[tuple[str, str]]) -> None:
        """Store texts by key, and end the leases on those keys."""
        with self._lock:
            for key, text in entries:
                self._texts[key] = text
                self._leases.pop(key, None)

    def discard(self, key: str) -> None:
        """Remove the text of a key."""
        with self._lock:
            self._texts.pop(key, None)

    def clear(self) -> int:
        """Remove all texts; return how many there were."""
        with self._lock:
            count = len(self._texts)
            self._texts.clear()
            self._leases.clear()
            return count

    def lease(self, key: str, *, seconds: float = LEASE) -> bool:
        """Return True if the caller may ask, False if another caller does or the answer is stored."""
        with self._lock:
            now = self._clock()
            if key in self._texts or self._leases.get(key, now) > now:
                return False
            self._leases[key] = now + seconds
            return True

    def lease_many(self, keys: Sequence[str], *, seconds: float = LEASE) -> list[bool]:
        """Return for each key whether the caller may ask."""
        return [self.lease(key, seconds=seconds) for key in keys]

    def release(self, key: str) -> None:
        """End a lease."""
        with self._lock:
            self._leases.pop(key, None)

    def release_many(self, keys: Sequence[str]) -> None:
        """End the leases on these keys."""
        for key in keys:
            self.release(key)

    def close(self) -> None:
        """Do nothing: there is nothing to close."""
