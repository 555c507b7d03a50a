"""Fault: why the database of a cache can't be used, whichever error SQLite or the system raised."""

from __future__ import annotations

import errno
import sqlite3
from typing import Literal

Kind = Literal["locked", "full", "read-only", "damaged", "foreign", "unavailable"]

# Primary result codes (sqlite.org/rescode.html); an I/O error is how SQLite reports most limits on files.
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


class Fault(Exception):  # noqa: N818  it becomes a warning, not an error
    """The database can't be used as it should; `kind` decides what is done about it."""

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(reason)
        self.kind: Kind = kind

    @classmethod
    def of(cls, error: BaseException) -> Fault:
        """Return the fault that an error of SQLite or of the system means."""
        if isinstance(error, OSError):
            return cls(_SYSTEM.get(error.errno or 0, "unavailable"), error.strerror or str(error))
        # After a full disk SQLite has rolled back already, and the error of a second rollback hides the first one.
        while isinstance(error.__context__, sqlite3.Error):
            error = error.__context__
        code = getattr(error, "sqlite_errorcode", None)
        if code is None and isinstance(error, sqlite3.OperationalError):
            return cls("damaged", str(error))  # a name in it is not UTF-8
        return cls(_SQLITE.get((code or 0) & 0xFF, "unavailable"), str(error))


class faults:  # noqa: N801 - used as a function; as a generator it would cost as much as the look-up that it guards
    """Turn the errors of SQLite and of the system into Faults."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise the Fault that an error means."""
        if isinstance(error, sqlite3.Error | OSError):
            raise Fault.of(error) from error
        if isinstance(error, UnicodeDecodeError):
            raise Fault("damaged", "it holds bytes that are no text") from error
