"""JobFile: the SQLite file of a server's jobs, opened and checked; several processes write to it."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from llmtasker.errors import ConfigurationError
from llmtasker.values.folding import without_accents

_APPLICATION = 0x6C740002  # in the head of the file: "lt", a file of jobs
_VERSION = 2
_RENEWED = 500  # rows to migrate in one transaction
_PART = 1 << 20  # bytes of an uploaded file in a row of the database
_BUSY = 10.0  # seconds to wait for another process that writes
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, repeated TEXT, about TEXT NOT NULL, state TEXT NOT NULL, reason TEXT,
    rows INTEGER NOT NULL DEFAULT 0, ok INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0,
    cached INTEGER NOT NULL DEFAULT 0, repaired INTEGER NOT NULL DEFAULT 0, calls REAL NOT NULL DEFAULT 0,
    cost REAL, created REAL NOT NULL, updated REAL NOT NULL, expires REAL NOT NULL,
    worker TEXT, beat REAL NOT NULL DEFAULT 0, UNIQUE (owner, repeated)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
    job TEXT NOT NULL, number INTEGER NOT NULL, row TEXT NOT NULL, given TEXT NOT NULL, words TEXT NOT NULL,
    state TEXT NOT NULL, item TEXT, label TEXT, repaired INTEGER NOT NULL DEFAULT 0, correction TEXT, sure REAL,
    PRIMARY KEY (job, number)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_state ON rows (job, state, number);
CREATE INDEX IF NOT EXISTS by_label ON rows (job, label, number);
CREATE TABLE IF NOT EXISTS uploads (
    job TEXT NOT NULL, part INTEGER NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (job, part)
);
CREATE INDEX IF NOT EXISTS by_confidence ON rows (job, sure, number) WHERE sure IS NOT NULL;
CREATE INDEX IF NOT EXISTS by_abstention ON rows (job, number, state, sure) WHERE state = 'failed' AND sure IS NOT NULL;
CREATE INDEX IF NOT EXISTS by_repair ON rows (job, number) WHERE repaired = 1;
CREATE INDEX IF NOT EXISTS by_correction ON rows (job, number, correction, state, sure) WHERE correction IS NOT NULL;
CREATE TABLE IF NOT EXISTS pace (
    job TEXT NOT NULL, minute INTEGER NOT NULL, rows INTEGER NOT NULL, PRIMARY KEY (job, minute)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS projects (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, about TEXT NOT NULL, sample TEXT NOT NULL, created REAL NOT NULL,
    updated REAL NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
    hash TEXT PRIMARY KEY, key TEXT NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spending (
    owner TEXT NOT NULL, day TEXT NOT NULL, cost REAL NOT NULL, PRIMARY KEY (owner, day)
);
"""


class JobFile:
    """Two connections, so that readers never wait for a writer; each is used by one thread at a time.

    The file is private (mode 0600), and deleted content is overwritten. SQLite does not allow a connection to survive a
    fork: connections are closed before, and both processes open their own when they need them.

    Raises:
        ConfigurationError: the path is another kind of file, of a later version, or can't be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock, self._read_lock = threading.Lock(), threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._closed = False
        self._held: list[threading.Lock] = []
        try:
            if not self.path.exists():
                os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600))
            try:
                self._prepare(self._to_write())
            except BaseException:
                self.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise ConfigurationError(f"can't use {self.path} for jobs: {error}") from error
        _files.add(self)

    def _connect(self, *settings: str) -> sqlite3.Connection:
        if self._closed:
            raise sqlite3.ProgrammingError(f"{self.path} was closed")
        database = sqlite3.connect(self.path, timeout=_BUSY, check_same_thread=False, isolation_level=None)
        for setting in settings:
            database.execute(f"PRAGMA {setting}")
        return database

    def _to_write(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = self._connect("synchronous = NORMAL", "secure_delete = ON")
        return self._database

    def _to_read(self) -> sqlite3.Connection:
        if self._reader is None:
            self._reader = self._connect("query_only = ON")
        return self._reader

    def _prepare(self, database: sqlite3.Connection) -> None:
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if tables and application != _APPLICATION:
            raise ConfigurationError(f"{self.path} exists and is not a file of jobs; choose another name.")
        if version > _VERSION:
            raise ConfigurationError(f"{self.path} was written by a later version of llmtasker.")
        database.execute(f"PRAGMA application_id = {_APPLICATION}")
        database.execute("PRAGMA journal_mode = WAL")
        with self.writing():
            self._renew_indexes(database)
        if version == 1:
            self._fold_words()
        database.execute(f"PRAGMA user_version = {_VERSION}")

    def _renew_indexes(self, database: sqlite3.Connection) -> None:
        """Create what is missing, and recreate indexes that an earlier version defined differently."""
        made = dict(database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"))
        for statement in filter(None, map(str.strip, _SCHEMA.split(";"))):
            create, index, rest = statement.partition("INDEX IF NOT EXISTS ")
            name = rest.partition(" ")[0]
            if index and made.get(name, f"{create}INDEX {rest}") != f"{create}INDEX {rest}":
                database.execute(f"DROP INDEX {name}")
            database.execute(statement)

    def _fold_words(self) -> None:
        """Remove the accents from the words of version 1, in parts, so that others can write in between."""
        job, number = "", 0
        query = "SELECT job, number, words FROM rows WHERE (job, number) > (?, ?) ORDER BY job, number LIMIT ?"
        while found := self.read(query, job, number, _RENEWED):
            job, number, _ = found[-1]
            folded = [(without_accents(words), *row) for *row, words in found]
            with self.writing() as database:
                database.executemany("UPDATE rows SET words = ? WHERE job = ? AND number = ?", folded)

    @contextmanager
    def writing(self) -> Generator[sqlite3.Connection]:
        """Give the database for a transaction: everything is written, or nothing if an error is raised."""
        with self._lock:
            database = self._to_write()
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")

    def read(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the committed rows that a query finds."""
        with self._read_lock:
            return self._to_read().execute(query, values).fetchall()

    def store_upload(self, id_: str, source: Path) -> None:
        """Store an uploaded file under an id, in parts, so that others can write in between."""
        with source.open("rb") as file:
            for number, content in enumerate(iter(lambda: file.read(_PART), b"")):
                with self.writing() as database:
                    database.execute("INSERT INTO uploads VALUES (?, ?, ?)", (id_, number, content))

    def upload(self, id_: str) -> Iterator[bytes]:
        """Yield the file under an id, in parts; nothing if there is none."""
        part = 0
        while found := self.read("SELECT bytes FROM uploads WHERE job = ? AND part = ?", id_, part):
            yield found[0][0]
            part += 1

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock, self._read_lock:
            self._closed = True
            self._disconnect()

    def _disconnect(self) -> None:
        for connection in (self._database, self._reader):
            if connection is not None:
                connection.close()
        self._database = self._reader = None

    def before_fork(self) -> None:
        """Wait until no thread uses the file, and close its connections."""
        self._held = [lock for lock in (self._lock, self._read_lock) if lock.acquire(timeout=2 * _BUSY)]
        if len(self._held) == 2:
            self._disconnect()

    def after_fork(self, *, child: bool) -> None:
        """Let the file be used again, in both processes."""
        for lock in self._held:
            lock.release()
        if child and len(self._held) < 2:  # a thread that does not exist here is still using it
            _left.append((self._database, self._reader))
            self._database = self._reader = None
            self._lock, self._read_lock = threading.Lock(), threading.Lock()


_files: weakref.WeakSet[JobFile] = weakref.WeakSet()
_forking: list[JobFile] = []
_left: list[object] = []  # connections of the parent, which must not be closed


def _before_fork() -> None:
    _forking.extend(_files)
    for file in _forking:
        file.before_fork()


def _after_fork(*, child: bool) -> None:
    while _forking:
        _forking.pop().after_fork(child=child)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=partial(_after_fork, child=False),
        after_in_child=partial(_after_fork, child=True),
    )
