"""DatabaseHandle: keeps the database of a folder open, and handles its failures.

Each kind of failure is reported once, as a CacheWarning; work continues with a new database, with a read-only one, or
without any. A disk that failed is tried again after a while.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from llmtasker.cache.backoff import Backoff
from llmtasker.cache.open_file import (
    FAILURES,
    DatabaseFault,
    keep_open,
    open_file,
    open_read_only,
    quarantine,
    remove_quarantined,
)
from llmtasker.cache.text_cache import TextCache, patiently, place_of
from llmtasker.errors import ConfigurationError

T = TypeVar("T")
P = ParamSpec("P")

_GLANCE = 0.05  # seconds for which reads need not check the file's place again
_STATE = {
    "locked": "locked",
    "full": "not writable",
    "read-only": "read-only",
    "damaged": "damaged",
    "foreign": "not one of llmtasker",
    "unavailable": "not available",
}
_ADVICE = {
    "locked": "look for a process that hangs and holds its lock",
    "full": "free space there",
    "read-only": "make folder and file writable for this user",
    "damaged": "check whether the disk is sound",
    "foreign": "check what it is; it was not changed",
    "unavailable": "check the path and its permissions",
}
_READ_ON = "Its answers are read; new ones are not stored"
_WITHOUT = "The run continues without it"


class DatabaseHandle:
    """The database of a folder, opened at first use, shared by the threads of a process.

    `patience` is how many seconds to wait for another process; `wall` returns the seconds since 1970, `clock` is
    monotonic.
    """

    methods = TextCache
    """The methods to call: callers without a handle need not import them."""

    def __init__(
        self,
        folder: Path,
        patience: float,
        *,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self.patience = patience
        self._wall = wall
        self._clock = clock
        self._start()

    def _start(self) -> None:
        self._lock = threading.RLock()
        self._cache: TextCache | None = None
        self._fault: DatabaseFault | None = None  # why the database is read-only, if it is
        self._place: tuple[int, int] | None = None
        self._looked = -math.inf
        self._quarantined = False
        self._reads = Backoff(f"The cache in {self.folder}", clock=self._clock)
        self._writes = Backoff(f"The cache in {self.folder}", clock=self._clock)

    def after_fork(self) -> None:
        """Reset in a forked child: connection and locks belong to the parent."""
        if self._cache is not None:
            self._abandon(self._cache)
        self._start()

    @property
    def readable(self) -> bool:
        """Whether the database is open."""
        return self._cache is not None

    @property
    def writable(self) -> bool:
        """Whether the database is open and, as far as is known, writable."""
        return self._cache is not None and self._fault is None and not self._writes.lasts

    def read(
        self, operation: Callable[Concatenate[TextCache, P], T], otherwise: T, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a method of the database that reads; return `otherwise` if that fails."""
        with self._lock:
            # A second time if the file was damaged and replaced by a new one.
            for _ in range(2):
                cache = self._open(look=False)
                if cache is None:
                    break
                try:
                    return patiently(partial(operation, cache, *args, **kwargs), self.patience)
                except FAILURES as error:
                    self._react(cache, DatabaseFault.of(error), writing=False)
            return otherwise

    def read_at_once(self, key: str) -> str | None:
        """Return the text of a key, or None if there is none, without waiting for a thread or a process.

        Raises:
            BlockingIOError: it has to wait; or the database has to be opened or repaired, or the row removed.
        """
        if not self._lock.acquire(blocking=False):
            raise BlockingIOError
        try:
            if self._cache is None or (cache := self._open(look=False, reopen=False)) is None:
                raise BlockingIOError
            return cache.text(key)
        except (*FAILURES, ValueError):
            raise BlockingIOError from None
        finally:
            self._lock.release()

    def write(
        self, operation: Callable[Concatenate[TextCache, P], T], otherwise: T, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a method of the database that writes, in one transaction; return `otherwise` if that fails."""
        with self._lock:
            for _ in range(2):
                cache = self._open(look=True)
                if cache is None or self._fault is not None or (self._writes.failures and self._writes.lasts):
                    break
                try:
                    with cache.transaction(self.patience):
                        done = operation(cache, *args, **kwargs)
                except FAILURES as error:
                    self._react(cache, DatabaseFault.of(error), writing=True)
                else:
                    if self._writes.failures:
                        self._writes.worked()
                    return done
            return otherwise

    def demand(self, operation: Callable[[TextCache], T], *, clean_up: bool = False) -> T:
        """Perform an operation that the user requested; `clean_up`: delete quarantined databases first.

        Raises:
            ConfigurationError: it failed.
        """
        with self._lock:
            cache = self._open(look=True)
            if cache is None:
                raise ConfigurationError(
                    f"the cache in {self.folder} can't be opened; the warning before gives the reason"
                )
            try:
                if self._fault is not None:
                    raise self._fault
                if clean_up:
                    remove_quarantined(self.folder)
                return operation(cache)
            except FAILURES as error:
                fault = DatabaseFault.of(error)
                raise ConfigurationError(
                    f"the cache in {self.folder} can't be changed ({fault}): {_ADVICE[fault.kind]}"
                ) from error

    def _open(self, *, look: bool, reopen: bool = True) -> TextCache | None:
        """Return the open database, opening it if needed (and allowed); None if it can't be used.

        `look`: check now whether it is still in its place. For reads, a recent check is enough.
        """
        cache, now = self._cache, self._clock()
        if cache is not None:
            moved = False
            if look or not 0.0 <= now - self._looked < _GLANCE:
                moved, self._looked = place_of(self.folder) != self._place, now
            if not moved and (self._fault is None or self._reads.lasts):
                return cache
            if not reopen:
                return None
            if moved:
                self._abandon(cache)
                self._reads.report("moved", "was deleted or replaced while in use; a new one is started")
            else:
                self._forget()
        return None if self._reads.lasts or not reopen else self._open_now()

    def _open_now(self) -> TextCache | None:
        place = place_of(self.folder)
        try:
            self._cache = self._open_somehow()
        except FAILURES as error:
            fault = DatabaseFault.of(error)
            if fault.kind == "damaged" and self._quarantine(fault, place):
                return self._open_now()
            self._reads.failed()
            self._complain(fault, _WITHOUT)
            return None
        self._finalizer = weakref.finalize(self._cache, self._cache.connection.close)
        # Not when the process ends: another thread may be using it then, and SQLite would crash.
        self._finalizer.atexit = False
        self._place, self._looked = place_of(self.folder), self._clock()
        if self._fault is None:
            self._reads.worked()
        else:
            self._reads.failed()
            self._complain(self._fault, _READ_ON)
        return self._cache

    def _open_somehow(self) -> TextCache:
        """Return the database, with `_fault` set if it is read-only."""
        self._fault = None
        try:
            return open_file(self.folder, self.patience, self._wall)
        except FAILURES as error:
            fault = DatabaseFault.of(error)
            if fault.kind in {"damaged", "foreign"}:
                raise
            with contextlib.suppress(*FAILURES):
                cache = open_read_only(self.folder)
                self._fault = fault
                return cache
            raise

    def _react(self, cache: TextCache, fault: DatabaseFault, *, writing: bool) -> None:
        if fault.kind == "damaged":
            place = self._place
            self._abandon(cache)
            if not self._quarantine(fault, place):
                self._reads.failed()
        elif writing:
            self._writes.failed()
            self._complain(fault, _READ_ON)
        else:
            self._forget()
            self._reads.failed()
            self._complain(fault, _WITHOUT)

    def _quarantine(self, fault: DatabaseFault, place: tuple[int, int] | None) -> bool:
        """Quarantine a damaged database, once; return whether a new one can be created."""
        if self._quarantined:
            return False  # it happened again: the disk can't be trusted
        self._quarantined = True
        try:
            aside = quarantine(self.folder, place)
        except FAILURES as error:
            second = DatabaseFault.of(error)
            self._reads.report(
                "damaged", f"is damaged ({fault}), and can't be renamed ({second}). {_WITHOUT}: delete it."
            )
            return False
        if aside is not None:  # else another process has already moved it
            self._reads.report(
                "damaged",
                f"is damaged ({fault}). It was renamed to {aside.name} and a new one is started: {_ADVICE['damaged']}",
            )
        return True

    def _forget(self) -> None:
        """Close the database; the next use opens it again."""
        if (cache := self._cache) is None:
            return
        if place_of(self.folder) != self._place:
            self._abandon(cache)
            return
        self._cache = None
        with contextlib.suppress(*FAILURES):  # it had already failed, and that was reported
            if self._fault is None:
                cache.settle()
        self._finalizer()

    def _abandon(self, cache: TextCache) -> None:
        """Never touch the file again: it was replaced, is damaged, or belongs to the parent process."""
        self._cache = None
        self._finalizer.detach()
        keep_open(cache.connection)

    def _complain(self, fault: DatabaseFault, consequence: str) -> None:
        self._reads.report(
            fault.kind,
            f"is {_STATE[fault.kind]}: {fault}. {consequence}; it is tried again after a while. To do: "
            f'{_ADVICE[fault.kind]}, or choose another folder (cache="path", or the variable LLMTASKER_CACHE_DIR).',
        )

    def close(self) -> None:
        """Write everything to the file and close it; the next use opens it again."""
        with self._lock:
            self._forget()
