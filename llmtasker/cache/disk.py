"""DiskCache: what was asked and answered, as text by key, in a folder that processes share.

A cache is never a reason for a run to stop. What goes wrong with the disk is said once, as a CacheWarning,
and the run goes on without the cache, or with what is left of it. No answer is ever removed unasked.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtasker.cache.recovery import Steward
from llmtasker.cache.store import LEASE, CacheWarning, Store
from llmtasker.errors import ConfigurationError, snippet

if TYPE_CHECKING:
    from llmtasker.cache.database import Database

PATIENCE = 5.0
"""Seconds to wait for a lock that another process holds, when nothing is said."""

_KEY = re.compile(r"[0-9a-f]{64}")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheInfo:
    """What is in a DiskCache: `bytes` are those of its files; oldest and newest are in UTC."""

    directory: Path
    entries: int
    bytes: int
    oldest: datetime | None
    newest: datetime | None
    readable: bool
    writable: bool


class DiskCache:
    """A cache in a folder of its own, shared by threads and processes; it survives their being killed.

    It is opened at first use. A `size_limit` (bytes of the file) stops the keeping of new answers, with a
    warning; old ones are removed by `prune` and `clear` only. `patience` is how many seconds to wait for a lock that
    another process holds, before going on without. `clock` gives the seconds since 1970.
    Copy `cache.db` only after `close`: until then the latest answers are in the file beside it.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        size_limit: int | None = None,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        folder = os.fsdecode(default_directory() if directory is None else directory)
        if not folder or "\0" in folder:
            raise ConfigurationError(f"{snippet(repr(folder), 40)} is no folder for a cache")
        # Neither `~` nor `$VAR` means anything here: the folder is where its name says.
        self.directory = Path(os.path.abspath(folder))  # noqa: PTH100  Path.absolute keeps ".."
        self.size_limit = size_limit
        self.patience = patience
        self._clock = clock
        self._steward = Steward(self.directory, patience)
        self._leased: set[str] = set()
        self._ended: set[str] = set()  # leases that this process is done with, and that the disk has kept so far
        with _lock:
            _caches.add(self)

    def __repr__(self) -> str:
        return f"DiskCache({str(self.directory)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(DiskCache, size_limit=self.size_limit, patience=self.patience), (self.directory,)

    def get(self, key: str) -> str | None:
        """Return the text, or None when there is none or it is damaged."""

        def read(database: Database) -> str | None:
            text, spoilt = database.get(key)
            if spoilt:
                self._drop(spoilt)
            return text

        return self._steward.read(read, None) if self._is_key(key) else None

    def put(self, key: str, text: str) -> None:
        """Keep an ASCII text, and end this process's lease on its key."""
        self.put_many([(key, text)])

    def get_many(self, keys: Sequence[str]) -> list[str | None]:
        """Return the text of each key, None where there is none, in one pass."""

        def read(database: Database) -> list[str | None]:
            texts, spoilt = database.get_many(sound)
            if spoilt:
                self._drop(spoilt)
            return texts

        sound = [key for key in keys if self._is_key(key)]
        nothing: list[str | None] = []
        texts = self._steward.read(read, nothing)
        if len(texts) == len(keys):
            return texts
        found = dict(zip(sound, texts, strict=False))
        return [found.get(key) for key in keys]

    def _drop(self, spoilt: Sequence[int]) -> None:
        _logger.info("%d damaged entries of %s were dropped", len(spoilt), self.directory)
        self._steward.write(lambda database: database.drop(spoilt), None)

    def put_many(self, entries: Sequence[tuple[str, str]]) -> None:
        """Keep texts by key in one transaction, and end this process's leases on those keys, kept or not."""

        def keep(database: Database, ended: Sequence[str]) -> None:
            if self.size_limit is None or database.used() < self.size_limit:
                database.put_many(sound, self._clock(), ended)
                return
            # Nobody must wait for an answer that is not kept.
            if ended:
                database.release(ended)
            self._steward.warn(
                "limit", f"has reached its limit of {self.size_limit:,} bytes: prune it, or raise the limit"
            )

        keyed = [(key, text) for key, text in entries if self._is_key(key)]
        sound = [(key, text) for key, text in keyed if self._is_text(text)]
        if sound:
            self._finish([key for key, _ in keyed], keep)
        else:
            self.release_many([key for key, _ in keyed])

    def _finish(self, keys: Sequence[str], write: Callable[[Database, Sequence[str]], None]) -> None:
        """Write what ends the leases on these keys, and those that could not be ended before."""
        held = {key for key in keys if key in self._leased}

        def work(database: Database) -> None:
            ended = held | self._ended
            write(database, list(ended))
            self._ended -= ended
            self._leased -= held
            held.clear()

        try:
            self._steward.write(work, None)
        finally:
            # The disk refused: this process takes them for free from now on, and the next write ends them for others.
            self._ended |= held
            self._leased -= held

    def discard(self, key: str) -> None:
        """Remove the text of a key."""
        self._steward.write(lambda database: database.discard([key]), None)

    def lease(self, key: str, *, seconds: float = LEASE) -> bool:
        """Return True when this process may ask, False when somebody does, or when the answer is there: get it."""
        return self.lease_many([key], seconds=seconds)[0]

    def lease_many(self, keys: Sequence[str], *, seconds: float = LEASE) -> list[bool]:
        """Return for each key whether this process may ask; True as well where leases can't be kept.

        A key is leased until `release`, `put`, or `seconds` later; the lease of a process that has ended is taken
        over at once. Do not use it to ask anew for an answer that is there.
        """

        def take(database: Database) -> list[bool]:
            taken = database.lease_many(sound, self._clock(), seconds, self._is_held)
            mine = {key for key, is_mine in zip(sound, taken, strict=True) if is_mine}
            self._leased |= mine
            self._ended -= mine
            return taken

        usable = [self._is_key(key) for key in keys]
        sound = [key for key, is_key in zip(keys, usable, strict=True) if is_key]
        everything = [True] * len(sound)
        answers = iter(self._steward.write(take, everything))
        if self._ended:
            self.release_many([])
        return [next(answers) if is_key else True for is_key in usable]

    def release(self, key: str) -> None:
        """End this process's lease."""
        self.release_many([key])

    def release_many(self, keys: Sequence[str]) -> None:
        """End this process's leases on these keys."""
        if self._ended or not self._leased.isdisjoint(keys):
            self._finish(keys, lambda database, ended: database.release(ended))

    def info(self) -> CacheInfo:
        """Return what is in the cache, as far as it can be read."""
        nothing: tuple[int, float | None, float | None] = (0, None, None)
        entries, oldest, newest = self._steward.read(lambda database: database.span(), nothing)
        size = 0
        for path in self.directory.glob("cache.db*"):
            with contextlib.suppress(OSError):
                size += path.lstat().st_size
        return CacheInfo(
            directory=self.directory,
            entries=entries,
            bytes=size,
            oldest=_moment(oldest),
            newest=_moment(newest),
            readable=self._steward.readable,
            writable=self._steward.writable,
        )

    def prune(self, *, older_than: float | None = None, max_bytes: int | None = None, now: float | None = None) -> int:
        """Remove answers, the oldest first; return how many.

        `older_than` is in seconds before `now` (seconds since 1970). `max_bytes` is what the file may take.

        Raises:
            ConfigurationError: the cache can't be changed.
        """
        removed = 0
        if older_than is not None:
            before = (self._clock() if now is None else now) - older_than
            removed += self._steward.demand(lambda database: database.prune(before))
        if max_bytes is not None:
            removed += self._steward.demand(lambda database: database.shrink(max_bytes))
        return removed

    def clear(self) -> int:
        """Remove every answer, and damaged files that were set aside; return how many answers there were.

        Raises:
            ConfigurationError: the cache can't be changed.
        """
        return self._steward.demand(lambda database: database.clear())

    def close(self) -> None:
        """Write everything into `cache.db` and close it; the next use opens it again."""
        self._steward.close()

    def after_fork(self) -> None:
        """Start anew in a forked child: what is open and leased belongs to its parent."""
        self._leased, self._ended = set(), set()
        self._steward.after_fork()

    @staticmethod
    def _is_held(key: str) -> bool:
        """Return whether some cache of this process, perhaps on the same folder, uses a lease on a key."""
        with _lock:
            caches = list(_caches)
        return any(key in cache._leased for cache in caches)  # noqa: SLF001  of its own class

    def _is_key(self, key: object) -> bool:
        if isinstance(key, str) and _KEY.fullmatch(key):
            return True
        self._steward.warn("key", f"takes keys of 64 hexadecimal digits only, not {snippet(repr(key), 20)}: left out")
        return False

    def _is_text(self, text: object) -> bool:
        if isinstance(text, str) and text.isascii():
            return True
        self._steward.warn(
            "text", f"takes ASCII text only, not {type(text).__name__}: left out; json.dumps writes such text"
        )
        return False


def _moment(seconds: float | None) -> datetime | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None  # a forged or damaged row may hold any number


def default_directory(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Return the user's cache folder: LLMTASKER_CACHE_DIR, or what the platform's convention says.

    Raises:
        RuntimeError: the home folder of the user is not known.

    >>> default_directory({"HOME": "/home/ada"}, platform="linux").as_posix()
    '/home/ada/.cache/llmtasker'
    """
    if chosen := environ.get("LLMTASKER_CACHE_DIR"):
        return Path(chosen)
    if platform == "win32":
        local = environ.get("LOCALAPPDATA")
        return (Path(local) if local else _home(environ) / "AppData" / "Local") / "llmtasker" / "Cache"
    if platform == "darwin":
        return _home(environ) / "Library" / "Caches" / "llmtasker"
    shared = environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a path that isn't absolute is to be ignored.
    return (Path(shared) if shared.startswith("/") else _home(environ) / ".cache") / "llmtasker"


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or environ.get("USERPROFILE") or Path.home())


def open_cache(value: bool | str | os.PathLike[str] | Store | None = None) -> Store | None:
    """Return the cache that `cache=` stands for: True or None the default folder, False none, a path, or a store.

    The same folder gives the same DiskCache, however often and in whatever thread it is asked for.

    Raises:
        ConfigurationError: the value is none of these.
    """
    if value is False:
        return None
    if isinstance(value, str | os.PathLike):
        return _shared(DiskCache(value))
    if value is None or value is True:
        try:
            return _shared(DiskCache())
        except RuntimeError as error:
            warnings.warn(f"No cache: {error} Set LLMTASKER_CACHE_DIR to a folder.", CacheWarning, stacklevel=2)
            return None
    if callable(getattr(value, "get", None)) and callable(getattr(value, "put", None)):
        return value
    raise ConfigurationError(
        f"cache={snippet(repr(value), 40)} is no cache: give a path, a store with get and put, True or False"
    )


_caches: weakref.WeakSet[DiskCache] = weakref.WeakSet()
_by_folder: weakref.WeakValueDictionary[str, DiskCache] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def _shared(cache: DiskCache) -> DiskCache:
    """Return the cache that this process has for the folder already, or else this one."""
    with _lock:
        return _by_folder.setdefault(os.path.realpath(cache.directory), cache)


def _after_fork() -> None:
    global _lock  # noqa: PLW0603  a thread that is not there in the child may hold the old one
    _lock = threading.Lock()
    for cache in list(_caches):
        cache.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
