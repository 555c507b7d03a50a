"""TextCache: a `diskcache.Cache` for texts with checksums, in which a forged row can't run code or open files.

diskcache's own Disk classes, including the JSON one, unpickle values that a row marks as pickled (CVE-2025-69872), and
open and delete the file that a row names, wherever it is. Ours accepts only keys and values that are text inside the
row. The only file that imports diskcache.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from llmtasker.cache.process import ProcessId, this_process
from llmtasker.cache.store import checksum

T = TypeVar("T")

_core: Any = import_module("diskcache.core")  # it has no type hints

if TYPE_CHECKING:

    class _Disk:
        def __init__(self, directory: str, min_file_size: int = 0, pickle_protocol: int = 0) -> None: ...

    class _DatabaseCache:
        """The part of `diskcache.Cache` that is used."""

        def __init__(self, directory: str, timeout: float, disk: type[_Disk], **settings: Any) -> None: ...
        def get(self, key: str, default: None = None, *, tag: Literal[True]) -> tuple[str | None, str | None]: ...
        def set(self, key: str, value: str, expire: float | None = None, *, tag: str) -> bool: ...
        def add(self, key: str, value: str, expire: float | None = None, *, tag: str) -> bool: ...
        def transact(self) -> contextlib.AbstractContextManager[None]: ...
        def expire(self) -> int: ...
        def _row_insert(self, key: str, raw: bool, now: float, columns: tuple[Any, ...]) -> None: ...
        def _row_update(self, rowid: int, now: float, columns: tuple[Any, ...]) -> None: ...

else:
    _Disk, _DatabaseCache = _core.Disk, _core.Cache

LONGEST_LEASE = 3600.0
"""The longest seconds of a lease: a clock that jumped, or a forged row, must not block a caller for longer."""

FILE = "cache.db"
_LEASE = "lease:"  # before the key of an answer that is being asked for
_STEP = 5_000  # rows deleted per transaction: other processes get their turn in between
_RAW = 1  # diskcache's mode for a value that is stored unchanged in its row
_SETTINGS: dict[str, Any] = {
    **_core.DEFAULT_SETTINGS,
    "eviction_policy": "none",
    "cull_limit": 0,
    "size_limit": 2**62,
    "disk_min_file_size": 2**62,
    # If a mapped file is truncated, this process would crash.
    "sqlite_mmap_size": 0,
}
KNOWN_SETTINGS: frozenset[str] = frozenset({*_core.DEFAULT_SETTINGS, *_core.METADATA})


class TextDisk(_Disk):
    """Converts keys and values to rows for diskcache: text inside the row; everything else is refused."""

    def put(self, key: object) -> tuple[str, bool]:
        """Return the key for the row, and True: it is stored unchanged."""
        if type(key) is not str:
            raise TypeError(f"the cache takes text keys, not {type(key).__name__}")
        return key, True

    def get(self, key: object, raw: object) -> str:
        """Return the key of a row."""
        if raw != 1 or type(key) is not str:
            raise ValueError("refused a key that is not text")
        return key

    def store(self, value: object, read: bool, key: object = None) -> tuple[int, int, None, str]:
        """Return size, mode, file name and value for the row."""
        if read or type(value) is not str:
            raise TypeError(f"the cache takes text, not {type(value).__name__}")
        return 0, _RAW, None, value

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> str:
        """Return the text of a row."""
        if mode != _RAW or filename is not None or read or type(value) is not str:
            raise ValueError("refused a value that is not text inside its row")
        return value

    def filename(self, key: object = None, value: object = None) -> NoReturn:
        """Refuse to name a file."""
        raise TypeError("the cache does not store values in separate files")

    def remove(self, file_path: object) -> None:
        """Ignore the file that a row names: none of our rows names one."""


class TextCache(_DatabaseCache):
    """A cache over an open connection, whose settings can't be changed by the file.

    Plain diskcache expands `~` and `$VAR` in the folder, reads attributes from the Settings rows, and waits for a
    minute. `clock` returns the seconds since 1970. The methods raise the errors of `sqlite3`.
    """

    # Attributes of each instance; in diskcache they are properties.
    _con: Any = None
    _sql: Any = None
    _sql_retry: Any = None
    # Values that the constructor would read from the file.
    eviction_policy = "none"
    statistics = 0
    cull_limit = 0

    def __init__(self, folder: Path, connection: sqlite3.Connection, clock: Callable[[], float] = time.time) -> None:
        self.connection = self._con = connection
        self._sql = self._sql_retry = connection.execute
        self._clock = clock
        # A byte that is not UTF-8 breaks the checksum of its own row, and must not raise an error.
        connection.text_factory = _lenient
        self._timeout = 0
        self._txn_id = None
        self._disk = TextDisk(str(folder))
        self._directory = str(folder)

    @cached_property
    def _me(self) -> str:
        return this_process().to_json()  # a forked child opens its own cache

    def make_tables(self) -> None:
        """Create the missing tables of diskcache.

        Raises:
            ValueError, TypeError: the tables contain values that diskcache can't read.
        """
        directory, transaction = self._directory, self._txn_id
        try:
            # The root replaces the folder: it exists, and nothing in it is expanded.
            super().__init__(os.sep, timeout=0, disk=TextDisk, **_SETTINGS)
        finally:
            self._directory, self._txn_id = directory, transaction

    def _row_insert(self, key: str, raw: bool, now: float, columns: tuple[Any, ...]) -> None:
        super()._row_insert(key, raw, self._clock(), columns)

    def _row_update(self, rowid: int, now: float, columns: tuple[Any, ...]) -> None:
        super()._row_update(rowid, self._clock(), columns)

    @contextlib.contextmanager
    def transaction(self, patience: float) -> Generator[None]:
        """Hold the write lock; everything written inside is committed, or nothing is."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._roll_back)
            patiently(lambda: self._begin(stack), patience)
            yield

    def _begin(self, stack: contextlib.ExitStack) -> None:
        try:
            stack.enter_context(self.transact())
        except _core.Timeout as timeout:
            # diskcache reports every error here as a timeout, including a full or read-only disk.
            raise timeout.__context__ or timeout from None

    def _roll_back(self) -> None:
        # If the commit failed, the transaction is still open.
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def text(self, key: str) -> str | None:
        """Return the text of a key, or None if there is none.

        Raises:
            ValueError: the row is damaged or forged.
        """
        text, tag = self.get(key, tag=True)
        if text is None or tag == checksum(key, text):
            return text
        raise ValueError("the checksum is wrong")

    def read_many(self, keys: Iterable[str]) -> tuple[list[str | None], list[str]]:
        """Return the text of each key, None if there is none, and the keys whose rows are damaged or forged."""
        texts: list[str | None] = []
        damaged: list[str] = []
        for key in keys:
            try:
                texts.append(self.text(key))
            except ValueError:
                texts.append(None)
                damaged.append(key)
        return texts, damaged

    def keys_after(self, row: int, most: int) -> list[tuple[int, object]]:
        """Return the rows and keys of the next answers after a row, in the order of their rows."""
        listed: list[tuple[int, object]] = self._sql(
            "SELECT rowid, key FROM Cache WHERE expire_time IS NULL AND rowid > ? ORDER BY rowid LIMIT ?", (row, most)
        ).fetchall()
        return listed

    def write_many(self, entries: Iterable[tuple[str, str]]) -> None:
        """Write texts by key, inside a transaction."""
        for key, text in entries:
            self.set(key, text, tag=checksum(key, text))

    def lease_many(
        self, keys: Iterable[str], seconds: float, is_held: Callable[[str], bool], held: set[str], ended: set[str]
    ) -> list[bool]:
        """Take the free leases of keys without a text, inside a transaction; return which were taken.

        `is_held` returns whether this process still uses its lease on a key: otherwise the lease was left behind.
        Those taken are added to `held` and removed from `ended`, before another thread can take them.
        """
        now, me = self._clock(), self._me
        seconds = min(seconds, LONGEST_LEASE)
        until, taken, gone = repr(now + seconds), set[str](), dict[str, bool]()

        def take(key: str) -> bool:
            if key in taken or self.read_many([key])[0] != [None]:
                return False
            name = _LEASE + key
            try:
                added = self.add(name, me, expire=seconds, tag=until)
            except TypeError:
                added = False  # a forged expiry time that is not a number
            if not added:
                owner = self._owner(name, now)
                if owner is not None and (is_held(key) if owner == me else not _has_ended(owner, gone)):
                    return False
                self.set(name, me, expire=seconds, tag=until)
            taken.add(key)
            return True

        granted = [take(key) for key in keys]
        held |= taken
        ended -= taken
        return granted

    def _owner(self, name: str, now: float) -> str | None:
        """Return which process holds a lease, or None if it has expired or names no process."""
        try:
            owner, until = self.get(name, tag=True)
            # diskcache's own expiry time is ignored: it follows another clock.
            return owner if now < float(until or "") <= now + LONGEST_LEASE else None
        except ValueError:
            return None

    def finish(
        self, held: set[str], entries: Sequence[tuple[str, str]], size_limit: int | None, ended: set[str]
    ) -> bool:
        """End leases of this process, and write texts by key, inside a transaction; False: the file is too large.

        `held` are the leases to end; those in `ended` are too, and are removed from there.
        """
        over = held | ended
        for key in over:
            self._sql("DELETE FROM Cache WHERE key = ? AND raw = 1 AND value = ?", (_LEASE + key, self._me))
        fits = not entries or size_limit is None or self.bytes_used() < size_limit
        if fits:
            self.write_many(entries)
        ended -= over
        return fits

    def remove_many(self, keys: Iterable[str]) -> None:
        """Delete rows by key, inside a transaction, whatever they contain."""
        for key in keys:
            self._sql("DELETE FROM Cache WHERE key = ? AND raw = 1", (key,))

    def span(self) -> tuple[int, float | None, float | None]:
        """Return the number of answers, and when the oldest and the newest were written."""
        found: tuple[int, float | None, float | None] = self._sql(
            "SELECT COUNT(*), MIN(CAST(store_time AS REAL)), MAX(CAST(store_time AS REAL)) FROM Cache"
            " WHERE expire_time IS NULL"
        ).fetchone()
        return found

    def bytes_used(self) -> int:
        """Return the bytes that the rows take in the file."""
        names = ("page_count", "freelist_count", "page_size")
        pages, free, size = (self._sql(f"PRAGMA {name}").fetchone()[0] for name in names)
        return int((pages - free) * size)

    def prune(self, before: float, patience: float) -> int:
        """Delete the answers that were written before a time; return how many."""
        return self._sweep("WHERE expire_time IS NULL AND store_time < ?", (before,), patience)

    def shrink(self, size: int, patience: float) -> int:
        """Delete the oldest answers until the file takes at most `size` bytes; return how many."""
        removed = 0
        while (used := self.bytes_used()) > size and (entries := self.span()[0]):
            # Rows differ in size: delete a part of the estimate each time, so that few more than necessary are deleted.
            share = max(int(0.8 * entries * (used - size) / used), 1)
            removed += self._sweep("WHERE expire_time IS NULL ORDER BY store_time, rowid", (), patience, share)
        return removed

    def empty(self, patience: float) -> int:
        """Delete every row; return how many answers there were."""
        entries = self.span()[0]
        self._sweep("", (), patience)
        return entries

    def _sweep(self, which: str, arguments: tuple[float, ...], patience: float, most: float = math.inf) -> int:
        removed, deleted = 0, _STEP
        while most > removed and deleted == _STEP:
            step = int(min(most - removed, _STEP))
            statement = f"DELETE FROM Cache WHERE rowid IN (SELECT rowid FROM Cache {which} LIMIT {step})"  # noqa: S608
            with self.transaction(patience):
                deleted = self._sql(statement, arguments).rowcount
            removed += deleted
        self.settle()
        return removed

    def settle(self) -> None:
        """Merge the log into the file: deleted texts are gone from the disk, and the file alone is a complete copy."""
        self._sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _has_ended(owner: str, known: dict[str, bool]) -> bool:
    # A process that waits for many leases usually waits for one other process.
    if owner not in known:
        process = ProcessId.from_json(owner)
        known[owner] = process is None or process.gone
    return known[owner]


def place_of(folder: Path) -> tuple[int, int] | None:
    """Return device and inode of the database of a folder, or None if there is none."""
    try:
        found = os.lstat(f"{folder}/{FILE}")  # faster than pathlib, and needed before each look-up
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _lenient(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def patiently(action: Callable[[], T], seconds: float) -> T:
    """Perform an action, retrying while another process holds the lock."""
    # SQLite's own waits grow to 100 ms each and are not fair: among eight busy writers one can starve.
    end = time.monotonic() + seconds
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            code = getattr(error, "sqlite_errorcode", None) or 0
            if code & 0xFF not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED} or time.monotonic() > end:
                raise
        time.sleep(random.uniform(0.001, 0.01))  # noqa: S311  spreads the attempts; not for secrets
