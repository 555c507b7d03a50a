"""Journal: the finished rows of a run on disk, in one SQLite file, so that the run can be resumed."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from llmtasker.errors import ConfigurationError

_APPLICATION = 0x6C740003  # written in the head of the file: "lt", a journal
_FORMER = 0x6C740001  # with one entry per row number
_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
    place INTEGER PRIMARY KEY AUTOINCREMENT, number INTEGER NOT NULL, identity BLOB NOT NULL, item TEXT NOT NULL,
    checksum BLOB NOT NULL, failed INTEGER NOT NULL DEFAULT 0, UNIQUE (number, identity)
);
CREATE INDEX IF NOT EXISTS identities ON rows (identity, failed, place DESC);
"""
_UPGRADE = """
BEGIN;
ALTER TABLE rows RENAME TO former;
%s
INSERT INTO rows (number, identity, item, checksum) SELECT number, identity, item, checksum FROM former ORDER BY number;
DROP TABLE former;
COMMIT;
"""
_ADD_FAILED = "BEGIN; ALTER TABLE rows ADD COLUMN failed INTEGER NOT NULL DEFAULT 0; DROP INDEX identities; %s COMMIT;"
_PUT = "INSERT OR REPLACE INTO rows (number, identity, item, checksum, failed) VALUES (?, ?, ?, ?, ?)"
_BY_NUMBER = "SELECT place, item, checksum, failed FROM rows WHERE number = ? AND identity = ?"
_BY_IDENTITY = "SELECT place, item, checksum, failed FROM rows WHERE identity = ? ORDER BY failed, place DESC"
_PLACES = "SELECT coalesce((SELECT min(place) FROM rows), 1), coalesce((SELECT max(place) FROM rows), 0)"
_DELETE_UNUSED = "DELETE FROM rows WHERE place <= :place AND (:most IS NULL OR number <= :most) AND NOT used(place)"


class Journal:
    """A file that stores the item of each finished row at once, by the number and identity of the row.

    A killed process loses none of them, nor do rows that move in the input. An entry with a wrong checksum is ignored.
    `about` describes the run, so that it is not mistaken for another. The file is private (mode 0600), because it
    contains texts and answers.

    Raises:
        ConfigurationError: another Journal has the file open, it is another kind of file (and stays untouched), or it
            can't be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Journal(folder + "/out.csv.journal") as journal:
    ...         journal.put(1, b"row", "{}")
    ...     with Journal(folder + "/out.csv.journal") as journal:
    ...         journal.find(1, b"row"), journal.find(7, b"row"), journal.find(1, b"changed")
    ((False, '{}'), (False, '{}'), None)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        _check_ours(self.path)
        try:
            self._database = self._opened()
        except sqlite3.Error as error:
            if "locked" in str(error):
                raise ConfigurationError(
                    f"another run is writing {self.path}; wait until it ends, or choose another name for the output"
                ) from error
            if isinstance(error, sqlite3.OperationalError):  # such as a full disk, which has cost no row
                raise ConfigurationError(self._unwritable(error)) from error
            raise ConfigurationError(f"can't open {self.path}: {error}; move it away to start again") from error
        try:
            with self._locked():
                self._first, self._earlier = map(int, self._database.execute(_PLACES).fetchone())
                self._used = bytearray(self._earlier + 1 - self._first)  # 1 for each earlier entry that was found
        except BaseException:
            self.close()
            raise

    def _opened(self) -> sqlite3.Connection:
        # Worker threads add rows too; the lock separates them.
        if not self.path.exists():
            _create(self.path)
        database = sqlite3.connect(self.path, timeout=0, check_same_thread=False, isolation_level=None)
        try:
            # Exclusive: a second run is refused, and a killed one leaves no lock behind.
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            # Before the log is switched on, because the file is recognised by its head.
            database.execute(f"PRAGMA application_id = {_APPLICATION}")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute("PRAGMA secure_delete = ON")  # a deleted text must not stay in the free space of the file
            # Not recognised by the head, which may be older than the log of a killed process.
            columns = {name for (name,) in database.execute("SELECT name FROM pragma_table_info('rows')")}
            if columns and "place" not in columns:
                database.executescript(_UPGRADE % _SCHEMA)
            elif columns and "failed" not in columns:
                database.executescript(_ADD_FAILED % _SCHEMA)
            database.executescript(_SCHEMA)
        except BaseException:
            database.close()
            raise
        return database

    @property
    def about(self) -> dict[str, str]:
        """The description of the run; empty in a new file."""
        with self._locked():
            return dict(self._database.execute("SELECT name, value FROM about"))

    def describe(self, about: Mapping[str, str]) -> None:
        """Store a description of the run, in addition to the existing one."""
        with self._locked():
            self._database.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", about.items())

    @contextmanager
    def _locked(self) -> Generator[None]:
        """Hold the lock, and report what to do if the file can't be written, or is damaged.

        Raises:
            OSError: the disk is full.
        """
        with self._lock:
            try:
                yield
            except sqlite3.OperationalError as error:
                raise OSError(self._unwritable(error)) from error
            except sqlite3.DatabaseError as error:
                raise ConfigurationError(
                    f"{self.path} is damaged ({error}); move it and the output away to start again: answers in the "
                    "cache are not paid for twice"
                ) from error

    def put(self, number: int, identity: bytes, item: str, *, failed: bool = False) -> None:
        """Store the item of a row, from any thread; it replaces an earlier one of the same number and identity.

        Raises:
            OSError: the disk is full.
        """
        with self._locked():
            self._database.execute(_PUT, (number, identity, item, _checksum(identity, item), failed))

    def find(self, number: int, identity: bytes) -> tuple[bool, str] | None:
        """Return whether the item of a row was stored since the journal was opened, and the item; None: not finished.

        Of several items with this identity, it is the one of this number, else the latest; one that did not fail if
        there is any.
        """
        with self._locked():
            try:
                own = self._sound(_BY_NUMBER, (number, identity))
                found = own if own is not None and not own[2] else self._sound(_BY_IDENTITY, (identity,))
            except sqlite3.OperationalError:  # bytes that are not text
                return None
            if own is not None and (found is None or found[2]):
                found = own
            if found is None:
                return None
            place, item, _ = found
            if place <= self._earlier:
                self._used[place - self._first] = 1
            return place > self._earlier, item

    def _sound(self, query: str, values: tuple[int | bytes, ...]) -> tuple[int, str, bool] | None:
        """Return place, item and failure of the first entry of an identity, its last value, with a right checksum."""
        # Read one by one: thousands of rows may be equal.
        for place, item, checksum, failed in self._database.execute(query, values):
            if checksum == _checksum(cast(bytes, values[-1]), item):
                return place, str(item), bool(failed)
        return None

    def delete_unused(self, *, most: int | None = None) -> None:
        """Delete the entries that were neither stored nor found since the journal was opened.

        `most` is the highest row number of an entry to delete; None: any number.

        Raises:
            OSError: the disk is full.
        """
        with self._locked():
            self._database.create_function("used", 1, self._is_used)
            self._database.execute(_DELETE_UNUSED, {"place": self._earlier, "most": most})

    def _unwritable(self, error: sqlite3.Error) -> str:
        return (
            f"can't write {self.path}: {error}. Make room, or choose another folder; the rows that are finished stay "
            "in it, and the same command resumes from there"
        )

    def _is_used(self, place: int) -> int:
        return self._used[place - self._first]

    def __len__(self) -> int:
        # Until a run is complete, the earlier entries of a row that was changed are kept too.
        with self._locked():
            (count,) = self._database.execute("SELECT count(DISTINCT number) FROM rows").fetchone()
        return int(count)

    def close(self) -> None:
        """Release the file for other processes; a second call does nothing."""
        with self._lock:
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _checksum(identity: bytes, item: str) -> bytes:
    return blake2b(identity + item.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _create(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise ConfigurationError(f"can't write {path}: {error.strerror or error}") from error


def _check_ours(path: Path) -> None:
    """Refuse a file of another kind, without changing it."""
    if not path.exists() or (path.is_file() and path.stat().st_size == 0):
        return
    try:
        with path.open("rb") as file:
            head = file.read(72)
    except OSError as error:
        raise ConfigurationError(f"can't read {path}: {error.strerror or error}") from error
    if not head.startswith(b"SQLite format 3\0") or int.from_bytes(head[68:72]) not in {_APPLICATION, _FORMER}:
        raise ConfigurationError(f"{path} exists and is not a journal of llmtasker; choose another name, or move it")
