"""DiskCache: answers as text, by the key of the request, in a folder that processes share.

A cache never stops a run. A disk failure is reported once, as a CacheWarning, and the run continues without the
cache, or with the part that still works. Answers are removed only on request.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtasker.cache.backoff import Backoff
from llmtasker.cache.process import reset_in_child
from llmtasker.cache.store import LEASE, check_folder
from llmtasker.errors import ConfigurationError, snippet
from llmtasker.values.lazy_pattern import lazy_pattern

if TYPE_CHECKING:
    from llmtasker.cache.recovery import DatabaseHandle

PATIENCE = 5.0
"""The default seconds to wait for a lock that another process holds."""

_LISTED = 500  # keys per batch
_KEY = lazy_pattern(r"[0-9a-f]{64}")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheInfo:
    """The content of a DiskCache: `bytes` is the size of its files; `oldest` and `newest` are in UTC."""

    directory: Path
    entries: int
    bytes: int
    oldest: datetime | None
    newest: datetime | None
    readable: bool
    writable: bool


class DiskCache:
    """A cache in its own folder, shared by threads and processes; killing a process loses no stored answer.

    It is opened at first use. At its `size_limit` (bytes of the file) new answers are not stored, with a warning; old
    ones are removed only by `prune` and `clear`. `patience` is how many seconds to wait for a lock that another process
    holds, before continuing without it. `clock` returns the seconds since 1970.
    Copy `cache.db` only after `close`: until then the latest answers are in a file beside it.

    Raises:
        ConfigurationError: the directory is not the name of a folder, such as a URL.
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
        check_folder(folder)
        if not folder or "\0" in folder:
            raise ConfigurationError(f"{snippet(repr(folder), 40)} is not a folder for a cache")
        # Neither `~` nor `$VAR` is expanded here: the name is used literally.
        self.directory = Path(os.path.abspath(folder))  # noqa: PTH100  Path.absolute keeps ".."
        self.size_limit = size_limit
        self.patience = patience
        self._clock = clock
        self._start()
        _caches.add(weakref.ref(self, _caches.discard))
        reset_in_child(self)

    def _start(self) -> None:
        self._handle: DatabaseHandle | None = None
        self._opening = threading.Lock()
        self._backoff = Backoff(f"The cache in {self.directory}")
        self._leased: set[str] = set()
        self._ended: set[str] = set()  # leases that this process no longer needs, not yet deleted

    def __repr__(self) -> str:
        return f"DiskCache({str(self.directory)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(DiskCache, size_limit=self.size_limit, patience=self.patience), (self.directory,)

    @property
    def _database(self) -> DatabaseHandle:
        """The database; SQLite and diskcache are imported at first use."""
        if self._handle is None:
            from llmtasker.cache.recovery import DatabaseHandle

            with self._opening:
                if self._handle is None:
                    self._handle = DatabaseHandle(self.directory, self.patience, wall=self._clock)
        return self._handle

    def get(self, key: str) -> str | None:
        """Return the text, or None if there is none or it is damaged."""
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[str]) -> list[str | None]:
        """Return the text of each key, None if there is none, in one pass."""
        sound = [key for key in keys if self._is_key(key)]
        missing: list[str | None] = [None] * len(sound)
        nothing: list[str] = []
        database = self._database
        texts, damaged = database.read(database.methods.read_many, (missing, nothing), sound)
        if damaged:
            _logger.info("%d damaged entries of %s are removed", len(damaged), self.directory)
            database.write(database.methods.remove_many, None, damaged)
        if len(sound) == len(keys):
            return texts
        found = dict(zip(sound, texts, strict=True))
        return [found.get(key) for key in keys]

    def get_at_once(self, key: str) -> str | None:
        """Return the result of `get` if it needs to wait neither for a lock nor for a repair of the database.

        Raises:
            BlockingIOError: it has to wait; use `get`, outside the thread of an event loop.
        """
        if self._handle is None or not _KEY.fullmatch(key):
            raise BlockingIOError
        return self._handle.read_at_once(key)

    def put(self, key: str, text: str) -> None:
        """Store an ASCII text, and end this process's lease on its key."""
        self.put_many([(key, text)])

    def put_many(self, entries: Sequence[tuple[str, str]]) -> None:
        """Store texts by key in one transaction, and end this process's leases on those keys, even if that fails."""
        keyed = [(key, text) for key, text in entries if self._is_key(key)]
        sound = [(key, text) for key, text in keyed if self._is_text(text)]
        self._finish([key for key, _ in keyed], sound)

    def discard(self, key: str) -> None:
        """Remove the text of a key."""
        self._database.write(self._database.methods.remove_many, None, [key])

    def lease(self, key: str, *, seconds: float = LEASE) -> bool:
        """Return True if this process may ask; False if another caller is asking, or `get` has the answer."""
        return self.lease_many([key], seconds=seconds)[0]

    def lease_many(self, keys: Sequence[str], *, seconds: float = LEASE) -> list[bool]:
        """Return for each key whether this process may ask; also True if leases can't be stored.

        A key is leased until `release`, `put`, or `seconds` later; the lease of a process that has ended can be taken
        over at once.
        """
        database = self._database
        usable = [self._is_key(key) for key in keys]
        sound = [key for key, is_key in zip(keys, usable, strict=True) if is_key]
        leases = seconds, self._is_held, self._leased, self._ended
        taken = iter(database.write(database.methods.lease_many, [True] * len(sound), sound, *leases))
        if self._ended:
            self._finish([])
        return [next(taken) if is_key else True for is_key in usable]

    def release(self, key: str) -> None:
        """End this process's lease."""
        self.release_many([key])

    def release_many(self, keys: Sequence[str]) -> None:
        """End this process's leases on these keys."""
        self._finish(keys)

    def _finish(self, keys: Sequence[str], entries: Sequence[tuple[str, str]] = ()) -> None:
        """Write texts, and end the leases on these keys and those that could not be ended before."""
        held = self._leased.intersection(keys)
        if not (entries or held or self._ended):
            return
        database, written = self._database, None
        try:
            written = database.write(database.methods.finish, None, held, entries, self.size_limit, self._ended)
        finally:
            if written is None:
                # This process treats them as free from now on; the next write ends them for others.
                self._ended |= held
            self._leased -= held
        if written is False:
            full = f"has reached its limit of {self.size_limit:,} bytes: prune it, or raise the limit"
            self._backoff.report("limit", full)

    def key_batches(self) -> Iterator[list[str]]:
        """Yield the keys of all answers, in batches.

        Raises:
            ConfigurationError: the cache can't be read.
        """
        database, row = self._database, 0
        while True:
            listed = database.read(database.methods.keys_after, None, row, _LISTED)
            if listed is None:
                raise ConfigurationError(
                    f"the cache in {self.directory} can't be read; the warning before gives the reason."
                )
            if not listed:
                return
            row = listed[-1][0]
            yield [key for _, key in listed if isinstance(key, str) and _KEY.fullmatch(key)]

    def info(self) -> CacheInfo:
        """Return the content of the cache, as far as it can be read."""
        nothing: tuple[int, float | None, float | None] = (0, None, None)
        entries, oldest, newest = self._database.read(self._database.methods.span, nothing)
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
            readable=self._database.readable,
            writable=self._database.writable,
        )

    def prune(self, *, older_than: float | None = None, max_bytes: int | None = None, now: float | None = None) -> int:
        """Remove answers, the oldest first; return how many.

        `older_than` is in seconds before `now` (seconds since 1970). `max_bytes` is the largest size of the file.

        Raises:
            ConfigurationError: the cache can't be changed.
        """
        removed = 0
        if older_than is not None:
            before = (self._clock() if now is None else now) - older_than
            removed += self._database.demand(lambda cache: cache.prune(before, self.patience))
        if max_bytes is not None:
            removed += self._database.demand(lambda cache: cache.shrink(max_bytes, self.patience))
        return removed

    def clear(self) -> int:
        """Remove every answer, and quarantined files; return how many answers there were.

        Raises:
            ConfigurationError: the cache can't be changed.
        """
        return self._database.demand(lambda cache: cache.empty(self.patience), clean_up=True)

    def close(self) -> None:
        """Write everything to `cache.db` and close it; the next use opens it again."""
        if self._handle is not None:
            self._handle.close()

    def after_fork(self) -> None:
        """Reset in a forked child: open files and leases belong to the parent."""
        if self._handle is not None:
            self._handle.after_fork()
        self._start()

    @staticmethod
    def _is_held(key: str) -> bool:
        """Return whether a cache of this process, possibly another one on the same folder, uses the lease on a key."""
        # A list, because another thread may add one in the meantime.
        return any((cache := ref()) is not None and key in cache._leased for ref in list(_caches))  # noqa: SLF001

    def _is_key(self, key: object) -> bool:
        if isinstance(key, str) and _KEY.fullmatch(key):
            return True
        what = f"takes only keys of 64 hexadecimal digits, not {snippet(repr(key), 20)}: left out"
        self._backoff.report("key", what)
        return False

    def _is_text(self, text: object) -> bool:
        if isinstance(text, str) and text.isascii():
            return True
        what = f"takes only ASCII text, not {type(text).__name__}: left out; json.dumps writes such text"
        self._backoff.report("text", what)
        return False


_caches: set[weakref.ref[DiskCache]] = set()


def _moment(seconds: float | None) -> datetime | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None  # a forged or damaged row may contain any number


def default_directory(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Return the user's cache folder: LLMTASKER_CACHE_DIR, or the platform's default.

    Raises:
        RuntimeError: the home folder of the user is unknown.
        ConfigurationError: LLMTASKER_CACHE_DIR is a URL.

    >>> default_directory({"HOME": "/home/ada"}, platform="linux").as_posix()
    '/home/ada/.cache/llmtasker'
    """
    if chosen := environ.get("LLMTASKER_CACHE_DIR"):
        check_folder(chosen)
        return Path(chosen)
    if platform == "win32":
        local = environ.get("LOCALAPPDATA")
        return (Path(local) if local else _home(environ) / "AppData" / "Local") / "llmtasker" / "Cache"
    if platform == "darwin":
        return _home(environ) / "Library" / "Caches" / "llmtasker"
    shared = environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a path that isn't absolute must be ignored.
    return (Path(shared) if shared.startswith("/") else _home(environ) / ".cache") / "llmtasker"


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or environ.get("USERPROFILE") or Path.home())
