"""Vault: the private folder of a cache and diskcache's file in it, opened so that a forged one runs nothing.

The only file that imports diskcache. It gives the file format and makes the tables; its Disk class is replaced by
ours, which refuses pickles, and the rows are read and written with SQL of our own (database.py). Values and keys are
text in the row itself: whatever else a row says, nothing is unpickled, and no file but the database is read, written
or deleted. What goes wrong is a `Fault`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import random
import sqlite3
import stat
import time
from collections.abc import Callable, Generator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NoReturn

FILE = "cache.db"
Kind = Literal["locked", "full", "read-only", "damaged", "foreign", "unavailable"]

# Primary result codes (sqlite.org/rescode.html); an I/O error is how SQLite sees most limits on files.
_SQLITE: dict[int, Kind] = {
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
_SYSTEM: dict[int, Kind] = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EFBIG: "full",
    errno.EROFS: "read-only",
    errno.EACCES: "read-only",
    errno.EPERM: "read-only",
}


class Fault(Exception):  # noqa: N818  what is reported becomes a warning, not an error
    """The database can't be used as it should; `kind` says what to do about it."""

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(reason)
        self.kind: Kind = kind


def fault_of(error: sqlite3.Error | OSError) -> Fault:
    """Return what an error of SQLite (by its result code, sqlite.org/rescode.html) or of the system means here."""
    if isinstance(error, OSError):
        return Fault(_SYSTEM.get(error.errno or 0, "unavailable"), error.strerror or str(error))
    code = getattr(error, "sqlite_errorcode", None)
    if code is None and isinstance(error, sqlite3.OperationalError):
        return Fault("damaged", str(error))  # a name or a text in it is not UTF-8
    return Fault(_SQLITE.get((code or 0) & 0xFF, "unavailable"), str(error))


class faults:  # noqa: N801 - used as a function; as a generator it would cost as much as the look-up that it guards
    """Turn the errors of SQLite and of the system into Faults."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise the Fault that an error is."""
        if isinstance(error, sqlite3.Error | OSError):
            raise fault_of(error) from error
        if isinstance(error, UnicodeDecodeError):
            raise Fault("damaged", "it holds bytes that are no text") from error


class TextDisk:
    """A `diskcache.Disk` for text inside the row: it unpickles nothing, and opens, makes and removes no file.

    diskcache's own unpickle what a row says is pickled, the JSON one as well (CVE-2025-69872), and
    open and delete the file that a row names, wherever it is.
    """

    def __init__(self, directory: str, min_file_size: int = 0, pickle_protocol: int = 0) -> None:
        self.min_file_size = min_file_size
        self.pickle_protocol = pickle_protocol

    def put(self, key: object) -> tuple[str, bool]:
        """Return the key for the row and that it is stored as it is."""
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
        return 0, _core().MODE_RAW, None, value

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> str:
        """Return the text of a row."""
        if mode != _core().MODE_RAW or filename is not None or read or type(value) is not str:
            raise ValueError("refused a value that is not text inside its row")
        return value

    def filename(self, key: object = None, value: object = None) -> NoReturn:
        """Refuse to name a file."""
        raise TypeError("the cache keeps no value in a file of its own")

    def remove(self, file_path: object) -> None:
        """Leave the file alone that a row names: no row of ours does."""


class _Pinned:
    """A `diskcache.Cache` over a connection and a folder that are given, and that nothing in the file can change.

    diskcache expands `~` and `$VAR` in the folder, takes attributes from the Settings rows, and waits for a minute.
    """

    connection: sqlite3.Connection
    folder: str

    @property
    def _directory(self) -> str:
        return self.folder

    @_directory.setter
    def _directory(self, value: str) -> None:
        """Keep the folder, whatever diskcache made of it."""

    @property
    def _con(self) -> sqlite3.Connection:
        return self.connection

    @property
    def _sql_retry(self) -> Callable[..., sqlite3.Cursor]:
        return self.connection.execute


def _core() -> Any:
    return import_module("diskcache.core")  # it has no types, hence neither an import statement nor a class statement


def _settings() -> dict[str, Any]:
    return {
        **_core().DEFAULT_SETTINGS,
        "eviction_policy": "none",
        "cull_limit": 0,
        "size_limit": 2**62,
        "disk_min_file_size": 2**62,
        # Mapped pages turn a file that somebody truncates into a crash of this process.
        "sqlite_mmap_size": 0,
    }


def _diskcache(folder: Path, connection: sqlite3.Connection) -> Any:
    core = _core()
    disk = type("TextDisk", (TextDisk, core.Disk), {})
    kind: Any = type("TextCache", (_Pinned, core.Cache), {"connection": connection, "folder": str(folder)})
    # The root stands in for the folder: it is there, and nothing in it is expanded.
    return kind(os.sep, timeout=0, disk=disk, **_settings())


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


def _check(connection: sqlite3.Connection) -> bool:
    """Return whether the tables are there already; raise Fault when there is something that diskcache does not make."""
    core = _core()
    objects = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    for kind, name, sql in objects:
        if name not in _NAMES.get(kind, ()) or (kind == "table" and not str(sql).startswith("CREATE TABLE")):
            raise Fault(
                "foreign", f"it holds a {str(kind)[:20]} named {str(name)[:40]!r}, which is none of the cache's"
            )
    if not any(name == "Settings" for _, name, _ in objects):
        return False
    known = {*core.DEFAULT_SETTINGS, *core.METADATA}
    # diskcache makes an attribute of every row here.
    if any(key not in known for (key,) in connection.execute("SELECT key FROM Settings")):
        raise Fault("foreign", "it holds settings that are none of the cache's")
    columns = {column[1] for column in connection.execute("PRAGMA table_info(Cache)")}
    if columns and not columns.issuperset(_COLUMNS):
        raise Fault("foreign", "its table lacks columns that the cache's has")
    return bool(columns)


def open_vault(folder: Path, patience: float) -> sqlite3.Connection:
    """Return a connection to the cache in a folder; folder, file and tables are made where they are missing.

    `patience` is how many seconds to wait for a lock that another process holds.

    Raises:
        Fault: it can't be opened for writing; nothing was changed in a file that is not the cache's.
    """
    with faults():
        _make_private(folder)
        path = folder / FILE
        connection = sqlite3.connect(path, timeout=0.1, isolation_level=None, check_same_thread=False)
        try:
            patiently(lambda: _prepare(connection), patience)
            with transaction(connection, patience):
                try:
                    _diskcache(folder, connection)
                except (ValueError, TypeError) as error:
                    # diskcache doubts nothing that it reads.
                    raise Fault("damaged", f"{type(error).__name__} while it was opened") from error
                # Leases of killed processes that nobody has asked for again.
                connection.execute("DELETE FROM Cache WHERE expire_time < ?", (time.time() - 86_400,))
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA mmap_size = 0")
    connection.execute("PRAGMA synchronous = NORMAL")
    if not _check(connection):
        connection.execute("PRAGMA auto_vacuum = FULL")
    connection.execute("PRAGMA journal_mode = WAL")


def open_read_only(folder: Path) -> sqlite3.Connection:
    """Return a connection that can only read, to a cache that can't be written.

    Raises:
        Fault: it can't be read either, or there is none.
    """
    uri = (folder / FILE).absolute().as_uri()
    log = folder / f"{FILE}-wal"
    with faults():
        _refuse_links(folder)
        try:
            return _connect_read_only(f"{uri}?mode=ro")
        except sqlite3.OperationalError as error:
            # Beside a file in WAL mode SQLite has to make two more. Where it may not, and nothing is
            # waiting in the log, the file can be read as one that never changes.
            if fault_of(error).kind == "locked" or (log.exists() and log.stat().st_size):
                raise
            return _connect_read_only(f"{uri}?immutable=1")


def _connect_read_only(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, timeout=0.5, isolation_level=None, check_same_thread=False, uri=True)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        _check(connection)
        connection.execute("SELECT value FROM Cache LIMIT 1").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def patiently(action: Callable[[], object], seconds: float) -> None:
    """Do something, again and again while another process holds the lock."""
    # SQLite's own waiting grows to 100 ms a step and is not fair: among eight busy writers one can starve.
    end = time.monotonic() + seconds
    while True:
        try:
            action()
        except sqlite3.OperationalError as error:
            if fault_of(error).kind != "locked" or time.monotonic() > end:
                raise
            time.sleep(random.uniform(0.001, 0.01))  # noqa: S311  spreads the tries; nothing secret
        else:
            return


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, patience: float) -> Generator[None]:
    """Hold the write lock: what is written inside is there as a whole or not at all."""
    try:
        patiently(lambda: connection.execute("BEGIN IMMEDIATE"), patience)
        yield
        patiently(lambda: connection.execute("COMMIT"), patience)
    except BaseException:
        # After some errors, a full disk among them, SQLite has rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _make_private(folder: Path) -> None:
    """Make folder and file for this user only, and existing ones of this user private, whatever the umask is."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_links(folder)
    path = folder / FILE
    if not path.exists():
        with contextlib.suppress(FileExistsError):
            # SQLite gives its two other files the mode of this one.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    # A folder with other things in it (`cache="."`) is not the cache's to close; its files are.
    with os.scandir(folder) as entries:
        alone = all(entry.name.startswith(FILE) for entry in entries)
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
    """Raise Fault when something else is in the place of one of the files: a link leads out of the folder."""
    for name in (FILE, FILE + "-wal", FILE + "-shm", FILE + "-journal"):
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG((folder / name).lstat().st_mode):
                raise Fault("damaged", f"{name} is not a plain file")


def set_aside(folder: Path, place: tuple[int, int] | None) -> Path | None:
    """Rename a damaged database, so that a new one can be made; return its new path.

    `place` is where the damaged one was seen: when another process was faster, nothing is done.
    """
    with faults():
        if place is not None and place_of(folder) != place:
            return None
        number = next(n for n in itertools.count(1) if not os.path.lexists(folder / f"{FILE}.damaged-{n}"))
        # The log goes first: beside a new database an old log would be taken for a part of it.
        for suffix in ("-wal", "-shm", "-journal", ""):
            with contextlib.suppress(FileNotFoundError):
                (folder / f"{FILE}{suffix}").rename(folder / f"{FILE}.damaged-{number}{suffix}")
        return folder / f"{FILE}.damaged-{number}"


def place_of(folder: Path) -> tuple[int, int] | None:
    """Return device and inode of the database, or None when it isn't there."""
    try:
        found = os.lstat(f"{folder}/{FILE}")  # faster than pathlib, and asked before each look-up
    except OSError:
        return None
    return found.st_dev, found.st_ino


def leak(connection: sqlite3.Connection) -> None:
    """Leave a connection open for good, also when this process ends.

    Closing the last connection deletes `cache.db-wal` by its name. After the database was replaced that is the log
    of the new one, and what other processes write would be lost. A forked child has its parent's connection.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
