"""Database: the rows of a cache: answers with their checksums, and leases.

Everything raises `Fault` when the file can't be used; what to do about it is the business of `DiskCache`.
"""

from __future__ import annotations

import hashlib
import sqlite3
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from llmtasker.cache.open_file import FILE, Fault, faults, leak, open_read_only, open_vault, place_of, transaction
from llmtasker.cache.process import LONGEST, Owner, this_process

_CHUNK = 500  # keys in one statement; SQLite before 3.32 allows 999
_SWEEP = 5_000  # rows deleted in one transaction: others get their turn in between
_LEASE = "lease:"  # before the key of what is being asked

# Bytes, not text: a flipped byte must spoil its own row only, not the decoding of all.
_READ = (
    "SELECT rowid, key, mode, filename IS NULL, CAST(tag AS BLOB), CAST(value AS BLOB) FROM Cache"
    " WHERE raw = 1 AND +expire_time IS NULL AND key IN ({})"
)
_READ_ONE = _READ.format("?")
_WRITE = (
    "INSERT INTO Cache(key, raw, store_time, expire_time, access_time, access_count, tag, size, mode, filename, value)"
    " VALUES (?, 1, ?, ?, ?, 0, ?, 0, 1, NULL, ?) ON CONFLICT(key, raw) DO UPDATE SET store_time = excluded.store_time,"
    " expire_time = excluded.expire_time, access_time = excluded.access_time, access_count = 0, tag = excluded.tag,"
    " size = 0, mode = 1, filename = NULL, value = excluded.value"
)


def checksum(key: str, text: bytes) -> bytes:
    """Return 16 hexadecimal digits over a key of 64 characters and its text."""
    return hashlib.blake2b(text, digest_size=8, key=key.encode("ascii")).hexdigest().encode("ascii")


class Database:
    """An open cache file; `fault` says why it can only be read, where it can.

    `patience` is how many seconds to wait for a lock that another process holds.

    Raises:
        Fault: it can't even be read.
    """

    def __init__(self, folder: Path, patience: float) -> None:
        self.folder = folder
        self.patience = patience
        self.fault: Fault | None = None
        try:
            self._connection = open_vault(folder, patience)
        except Fault as fault:
            if fault.kind in {"damaged", "foreign"}:
                raise
            self.fault = fault
            try:
                self._connection = open_read_only(folder)
            except Fault:
                raise fault from None
        self.place = place_of(folder)
        self._finalizer = weakref.finalize(self, self._connection.close)
        # Not when the process ends: the store's thread may be using it just then, and sqlite would crash.
        self._finalizer.atexit = False

    @property
    def moved(self) -> bool:
        """Whether the file was deleted or replaced since it was opened: what is written would be lost."""
        return place_of(self.folder) != self.place

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection]:
        if self.fault is not None:
            raise self.fault
        with faults(), transaction(self._connection, self.patience):
            yield self._connection

    def get(self, key: str) -> tuple[str | None, list[int]]:
        """Return the text of a key, None where there is none, and the id of a row that can't be trusted."""
        with faults():
            row = self._connection.execute(_READ_ONE, (key,)).fetchone()
        if row is None:
            return None, []
        rowid, _, mode, inline, tag, value = row
        if mode == 1 and inline and value is not None and tag == checksum(key, value):
            return value.decode("ascii", "replace"), []
        return None, [rowid]

    def get_many(self, keys: Sequence[str]) -> tuple[list[str | None], list[int]]:
        """Return the texts, None where there is none, and the ids of rows that can't be trusted."""
        found: dict[str, str] = {}
        spoilt: list[int] = []
        with faults():
            for chunk in _chunks(keys):
                rows = self._connection.execute(_READ.format(_marks(chunk)), chunk)
                for rowid, key, mode, inline, tag, value in rows:
                    if mode == 1 and inline and value is not None and tag == checksum(key, value):
                        found[key] = value.decode("ascii", "replace")
                    else:
                        spoilt.append(rowid)
        return [found.get(key) for key in keys], spoilt

    def put_many(self, entries: Sequence[tuple[str, str]], now: float, ended: Sequence[str] = ()) -> None:
        """Write texts by key, and end leases of this process, in one transaction."""
        rows = [(key, now, None, now, checksum(key, text.encode()).decode(), text) for key, text in entries]
        with self._writing() as connection:
            connection.executemany(_WRITE, rows)
            _release(connection, ended)

    def drop(self, rowids: Sequence[int]) -> None:
        """Delete rows by id."""
        with self._writing() as connection:
            connection.executemany("DELETE FROM Cache WHERE rowid = ?", [(rowid,) for rowid in rowids])

    def discard(self, keys: Sequence[str]) -> None:
        """Delete texts by key."""
        with self._writing() as connection:
            connection.executemany("DELETE FROM Cache WHERE key = ?", [(key,) for key in keys])

    def lease_many(
        self, keys: Sequence[str], now: float, seconds: float, held: Callable[[str], bool] = bool
    ) -> list[bool]:
        """Take the leases that are free, of keys that have no text; return which were taken.

        `held` tells of which keys this process still uses its lease: another one in its name was left behind.
        """
        taken = self._takeable(keys, now, held)
        if not taken:
            return [False] * len(keys)
        until = now + min(seconds, LONGEST)
        with self._writing() as connection:
            # Looked at again: another process may have been faster.
            taken = self._takeable(keys, now, held)
            me = this_process().to_json()
            connection.executemany(_WRITE, [(_LEASE + key, now, until, now, "lease", me) for key in taken])
        first = {key: number for number, key in reversed([*enumerate(keys)])}
        return [key in taken and first[key] == number for number, key in enumerate(keys)]

    def _takeable(self, keys: Sequence[str], now: float, held: Callable[[str], bool]) -> set[str]:
        free = set(keys)
        me = this_process().to_json().encode("ascii")
        gone: dict[bytes, bool] = {}
        with faults():
            for chunk in _chunks([*keys, *(_LEASE + key for key in keys)]):
                rows = self._connection.execute(
                    f"SELECT key, expire_time, CAST(value AS BLOB) FROM Cache WHERE key IN ({_marks(chunk)})",  # noqa: S608  marks only
                    chunk,
                )
                for key, until, owner in rows:
                    if until is None:
                        free.discard(key)
                        continue
                    # Whoever waits for many leases mostly waits for one process.
                    if owner not in gone:
                        known = Owner.from_json(owner or b"")
                        gone[owner] = known is None or known.gone
                    if gone[owner] or not (isinstance(until, float) and now < until <= now + LONGEST):
                        continue
                    asked = key.removeprefix(_LEASE)
                    if owner != me or held(asked):
                        free.discard(asked)
        return free

    def release(self, keys: Sequence[str]) -> None:
        """End the leases of this process."""
        with self._writing() as connection:
            _release(connection, keys)

    def used(self) -> int:
        """Return the bytes that the rows take in the file."""
        with faults():
            pages, free, size = (
                self._connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
        return int((pages - free) * size)

    def span(self) -> tuple[int, float | None, float | None]:
        """Return how many texts there are, and when the oldest and the newest were written."""
        with faults():
            row = self._connection.execute(
                "SELECT COUNT(*), MIN(CAST(store_time AS REAL)), MAX(CAST(store_time AS REAL)) FROM Cache"
                " WHERE expire_time IS NULL"
            ).fetchone()
        return row[0], row[1], row[2]

    def prune(self, before: float) -> int:
        """Delete what was written before a time; return how many texts."""
        return self._sweep("WHERE expire_time IS NULL AND store_time < ?", before, -1)

    def shrink(self, size: int) -> int:
        """Delete the oldest texts until the file takes at most `size` bytes; return how many."""
        removed = 0
        while (used := self.used()) > size and (entries := self.span()[0]):
            # Rows differ in size: a part of the estimate each time, so that little more goes than has to.
            share = int(0.8 * entries * (used - size) / used)
            removed += self._sweep("WHERE expire_time IS NULL ORDER BY store_time, rowid", None, max(share, 1))
        return removed

    def clear(self) -> int:
        """Delete every row, and the databases that were set aside; return how many texts."""
        entries = self.span()[0]
        self._sweep("", None, -1)
        with faults():
            for path in self.folder.glob(FILE + ".damaged-*"):
                if path.is_symlink() or not path.is_dir():
                    path.unlink(missing_ok=True)
        return entries

    def _sweep(self, which: str, argument: float | None, most: int) -> int:
        removed = 0
        arguments = () if argument is None else (argument,)
        while most:
            step = _SWEEP if most < 0 else min(most, _SWEEP)
            with self._writing() as connection:
                statement = f"DELETE FROM Cache WHERE rowid IN (SELECT rowid FROM Cache {which} LIMIT {step})"  # noqa: S608  ours
                count = connection.execute(statement, arguments).rowcount
            removed += count
            most = 0 if count < step else most - count if most > 0 else most
        self._settle()
        return removed

    def _settle(self) -> None:
        """Bring the log into the file: deleted texts are gone from the disk, and the file alone is a whole copy."""
        with faults():
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Bring the log into the file and close it."""
        if self.moved:
            self.abandon()
            return
        try:
            if self.fault is None:
                self._settle()
        finally:
            self._finalizer()

    def abandon(self) -> None:
        """Never touch the file again: it was replaced, or belongs to the parent of this process."""
        self._finalizer.detach()
        leak(self._connection)


def _release(connection: sqlite3.Connection, keys: Sequence[str]) -> None:
    me = this_process().to_json()
    connection.executemany("DELETE FROM Cache WHERE key = ? AND value = ?", [(_LEASE + key, me) for key in keys])


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[start : start + _CHUNK] for start in range(0, len(keys), _CHUNK))


def _marks(keys: Sequence[str]) -> str:
    return ",".join("?" * len(keys))
