"""The private folder of a cache and its file: opened for this user only, checked, and quarantined when damaged.

Only the database is read, written or deleted. What these functions raise is among FAILURES, and
`DatabaseFault.of` returns what it means.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from llmtasker.cache.text_cache import FILE, KNOWN_SETTINGS, TextCache, patiently, place_of

_FOLDERS = {"batches", "compiled"}  # other folders of llmtasker in the user's cache folder
FaultKind = Literal["locked", "full", "read-only", "damaged", "foreign", "unavailable"]

# Primary result codes (sqlite.org/rescode.html); an I/O error is how SQLite reports most limits on files.
_SQLITE: dict[int, FaultKind] = {
    sqlite3.SQLITE_ERROR: "foreign",
    sqlite3.SQLITE_PERM: "read-only",
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_READONLY: "read-only",
    sqlite3.SQLITE_IOERR: "full",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_NOTADB: "damaged",
}
_SYSTEM: dict[int, FaultKind] = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EFBIG: "full",
    errno.EROFS: "read-only",
    errno.EACCES: "read-only",
    errno.EPERM: "read-only",
}

_COLUMNS = {
    *("rowid", "key", "raw", "store_time", "expire_time", "access_time"),
    *("access_count", "tag", "size", "mode", "filename", "value"),
}
_NAMES = {
    "table": {"Cache", "Settings"},
    "index": {
        "sqlite_autoindex_Settings_1",
        "Cache_key_raw",
        "Cache_expire_time",
        "Cache_store_time",
        "Cache_access_time",
        "Cache_access_count",
        "Cache_tag_rowid",
    },
    "trigger": {
        "Settings_count_insert",
        "Settings_count_delete",
        "Settings_size_insert",
        "Settings_size_update",
        "Settings_size_delete",
    },
}


class DatabaseFault(Exception):  # noqa: N818  it becomes a warning, not an error
    """The database can't be used normally; `kind` decides how that is handled."""

    def __init__(self, kind: FaultKind, reason: str) -> None:
        super().__init__(reason)
        self.kind: FaultKind = kind

    @classmethod
    def of(cls, error: Exception) -> DatabaseFault:
        """Return the fault for one of the FAILURES."""
        if isinstance(error, DatabaseFault):
            return error
        if isinstance(error, UnicodeDecodeError):
            return cls("damaged", "it contains bytes that are not text")
        if isinstance(error, OSError):
            return cls(_SYSTEM.get(error.errno or 0, "unavailable"), error.strerror or str(error))
        # After a full disk SQLite has already rolled back, and the error of a second rollback hides the first one.
        while isinstance(error.__context__, sqlite3.Error):
            error = error.__context__
        code = getattr(error, "sqlite_errorcode", None)
        if code is None and isinstance(error, sqlite3.OperationalError):
            return cls("damaged", str(error))  # a name in it is not UTF-8
        return cls(_SQLITE.get((code or 0) & 0xFF, "unavailable"), str(error))


FAILURES = (DatabaseFault, sqlite3.Error, OSError, UnicodeDecodeError)
"""What using the database may raise."""


def open_file(folder: Path, patience: float, clock: Callable[[], float] = time.time) -> TextCache:
    """Return the cache in a folder; create folder, file and tables if they are missing.

    `patience` is how many seconds to wait for a lock that another process holds.

    Raises:
        FAILURES: it can't be opened for writing; a file that is not a cache is not changed.
    """
    _make_private(folder)
    # SQLite itself never waits: a look-up must not block its event loop.
    connection = sqlite3.connect(folder / FILE, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        complete = patiently(lambda: _prepare(connection), patience)
        cache = TextCache(folder, connection, clock)
        if not complete:
            with cache.transaction(patience):
                _make_tables(cache)
        _drop_expired(cache)
    except BaseException:
        connection.close()
        raise
    return cache


def _drop_expired(cache: TextCache) -> None:
    """Delete leases that killed processes left behind; this also shows whether the file can be written."""
    try:
        with cache.transaction(patience=0.0):
            cache.expire()
    except sqlite3.OperationalError as error:
        if DatabaseFault.of(error).kind != "locked":
            raise


def _make_tables(cache: TextCache) -> None:
    try:
        cache.make_tables()
    except (ValueError, TypeError) as error:
        # diskcache trusts everything that it reads.
        raise DatabaseFault("damaged", f"{type(error).__name__} while it was opened") from error


def _prepare(connection: sqlite3.Connection) -> bool:
    """Configure this connection, and return whether all tables already exist."""
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA mmap_size = 0")
    connection.execute("PRAGMA synchronous = NORMAL")
    complete = _check(connection)
    if not complete:
        connection.execute("PRAGMA auto_vacuum = FULL")
    connection.execute("PRAGMA journal_mode = WAL")
    return complete


def _check(connection: sqlite3.Connection) -> bool:
    """Return whether all tables exist; raise DatabaseFault if there is anything that diskcache does not create."""
    objects = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    for kind, name, sql in objects:
        if name not in _NAMES.get(kind, ()) or (kind == "table" and not str(sql).startswith("CREATE TABLE")):
            raise DatabaseFault(
                "foreign", f"it contains a {str(kind)[:20]} named {str(name)[:40]!r}, which is not the cache's"
            )
    names = {name for _, name, _ in objects}
    if "Settings" not in names:
        return False
    # diskcache turns every row here into an attribute.
    if any(key not in KNOWN_SETTINGS for (key,) in connection.execute("SELECT key FROM Settings")):
        raise DatabaseFault("foreign", "it contains settings that are not the cache's")
    columns = {column[1] for column in connection.execute("PRAGMA table_info(Cache)")}
    if columns and not columns.issuperset(_COLUMNS):
        raise DatabaseFault("foreign", "its table lacks columns that the cache's has")
    return {"Cache", "Cache_key_raw", "Cache_expire_time", *_NAMES["trigger"]} <= names


def open_read_only(folder: Path) -> TextCache:
    """Return a cache that can only be read, because it can't be written.

    Raises:
        FAILURES: it can't be read either, or does not exist.
    """
    uri = (folder / FILE).absolute().as_uri()
    log = folder / f"{FILE}-wal"
    _refuse_links(folder)
    try:
        connection = _connect_read_only(f"{uri}?mode=ro")
    except sqlite3.OperationalError as error:
        # Beside a file in WAL mode SQLite has to create two more. If it may not, and the log is
        # empty, the file can be read as immutable.
        if DatabaseFault.of(error).kind == "locked" or (log.exists() and log.stat().st_size):
            raise
        connection = _connect_read_only(f"{uri}?immutable=1")
    return TextCache(folder, connection)


def _connect_read_only(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, timeout=0, isolation_level=None, check_same_thread=False, uri=True)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        patiently(lambda: _check(connection), 0.5)
        connection.execute("SELECT value FROM Cache LIMIT 1").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _make_private(folder: Path) -> None:
    """Create folder and file for this user only, and make existing ones private, whatever the umask."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_links(folder)
    path = folder / FILE
    if not path.exists():
        with contextlib.suppress(FileExistsError):
            # SQLite gives its two other files the same mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    # A folder with other files in it (`cache="."`) keeps its mode; the files of the cache do not.
    with os.scandir(folder) as entries:
        alone = all(entry.name.startswith(FILE) or entry.name in _FOLDERS for entry in entries)
    if alone:
        _tighten(folder, 0o700)
    for name in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            _tighten(path.with_name(FILE + name), 0o600)


def _tighten(path: Path, mode: int) -> None:
    found = path.stat()
    if hasattr(os, "geteuid") and found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != mode:
        path.chmod(mode)


def _refuse_links(folder: Path) -> None:
    """Raise DatabaseFault if one of the files is not a regular file: a link leads out of the folder."""
    for name in (FILE, FILE + "-wal", FILE + "-shm", FILE + "-journal"):
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG((folder / name).lstat().st_mode):
                raise DatabaseFault("damaged", f"{name} is not a plain file")


def quarantine(folder: Path, place: tuple[int, int] | None) -> Path | None:
    """Rename a damaged database, so that a new one can be created; return its new path.

    `place` identifies the damaged file: if another process was faster, nothing is done.
    """
    if place is not None and place_of(folder) != place:
        return None
    number = next(n for n in itertools.count(1) if not os.path.lexists(folder / f"{FILE}.damaged-{n}"))
    # The log goes first: SQLite would take an old log beside a new database for part of it.
    for suffix in ("-wal", "-shm", "-journal", ""):
        with contextlib.suppress(FileNotFoundError):
            (folder / f"{FILE}{suffix}").rename(folder / f"{FILE}.damaged-{number}{suffix}")
    return folder / f"{FILE}.damaged-{number}"


def remove_quarantined(folder: Path) -> None:
    """Delete the quarantined databases."""
    for path in folder.glob(FILE + ".damaged-*"):
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)


def keep_open(connection: sqlite3.Connection) -> None:
    """Leave a connection open for good, even when this process ends.

    Closing the last connection deletes `cache.db-wal` by its name. After the database was replaced, that is the log
    of the new one, and writes of other processes would be lost. A forked child has its parent's connection.
    """
    import ctypes  # few databases are ever replaced

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
