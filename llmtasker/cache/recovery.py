"""Steward: keeps the database of a folder open, and decides what is done when it can't be used.

Whatever happens is said once, as a CacheWarning; the work goes on with what is left: a new database, an old
one that can only be read, or none. A disk that failed is tried again after a minute.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from llmtasker.cache.store import CacheWarning
from llmtasker.errors import ConfigurationError

if TYPE_CHECKING:
    from llmtasker.cache.database import Database
    from llmtasker.cache.open_file import Fault

T = TypeVar("T")

_GLANCE = 0.05  # seconds for which a look at the file's place is good enough for reading
_REST = 60.0  # seconds until a disk that failed is tried again
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
    "damaged": "look whether the disk is sound",
    "foreign": "look what is there, it was left as it is",
    "unavailable": "check the path, and who may read and write there",
}
_READ_ON = "What is there is read, new answers are not kept"
_WITHOUT = "The run goes on without it"


def _fault() -> type[Fault]:
    """Return the class; it is looked for only when something was raised, and then it is loaded."""
    from llmtasker.cache.open_file import Fault

    return Fault


class Steward:
    """The database of a folder, opened at first use, shared by the threads of a process.

    `patience` is how many seconds to wait for another process; `clock` is monotonic, in seconds.
    diskcache and SQLite are loaded at first use too.
    """

    def __init__(self, folder: Path, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder = folder
        self._patience = patience
        self._clock = clock
        self._start()

    def _start(self) -> None:
        self._lock = threading.RLock()
        self._database: Database | None = None
        self._warned: set[str] = set()
        # Until when the disk is left alone, as a whole and for writing.
        self._rest = self._rest_writing = 0.0
        self._looked = -math.inf

    def after_fork(self) -> None:
        """Start anew in a forked child: connection and locks belong to its parent."""
        database = self._database
        self._start()
        if database is not None:
            database.abandon()

    @property
    def readable(self) -> bool:
        """Whether the database is open."""
        return self._database is not None

    @property
    def writable(self) -> bool:
        """Whether the database is open and, as far as is known, can be written."""
        return self._database is not None and not self._is_resting(self._database)

    def read(self, operation: Callable[[Database], T], otherwise: T) -> T:
        """Do something with the database; return `otherwise` when it can't be done."""
        return self._work(operation, otherwise, writing=False)

    def write(self, operation: Callable[[Database], T], otherwise: T) -> T:
        """Do something that changes the database; return `otherwise` when it can't be done."""
        return self._work(operation, otherwise, writing=True)

    def demand(self, operation: Callable[[Database], T]) -> T:
        """Do something with the database that the user asked for.

        Raises:
            ConfigurationError: it can't be done.
        """
        from llmtasker.cache.open_file import Fault

        with self._lock:
            database = self._open()
            if database is None:
                raise ConfigurationError(f"the cache in {self.folder} can't be opened; the warning before says why")
            try:
                return operation(database)
            except Fault as fault:
                raise ConfigurationError(
                    f"the cache in {self.folder} can't be changed ({fault}): {_ADVICE[fault.kind]}"
                ) from fault

    def _work(self, operation: Callable[[Database], T], otherwise: T, *, writing: bool) -> T:
        with self._lock:
            # A second time when the file was damaged and a new one is there.
            for _ in range(2):
                database = self._open(look=writing)
                if database is None or (writing and self._is_resting(database)):
                    break
                try:
                    return operation(database)
                except _fault() as fault:
                    self._react(database, fault, writing=writing)
            return otherwise

    def _is_resting(self, database: Database) -> bool:
        return database.fault is not None or self._clock() < self._rest_writing

    def _open(self, *, look: bool = True) -> Database | None:
        """Return the open database, opened now where it has to be; None where it can't be used.

        `look` tells that its place must be looked at now. For reading, a moment ago will do: what was
        there still holds.
        """
        database, now = self._database, self._clock()
        if database is not None and not look and 0.0 <= now - self._looked < _GLANCE:
            moved = False
        else:
            moved, self._looked = database is not None and database.moved, now
        if database is not None and not moved:
            if database.fault is None or now < self._rest:
                return database
            self._forget(database)
        elif database is not None:
            self._database = None
            database.abandon()
            self.warn("moved", "was deleted or replaced while in use; it is started anew")
        return self._open_anew() if now >= self._rest else None

    def _open_anew(self, again: bool = True) -> Database | None:
        from llmtasker.cache.database import Database
        from llmtasker.cache.open_file import Fault, place_of

        place = place_of(self.folder)
        try:
            self._database = Database(self.folder, self._patience)
        except Fault as fault:
            if fault.kind == "damaged" and again and self._set_aside(fault, place):
                return self._open_anew(again=False)
            self._rest = self._clock() + _REST
            self._complain(fault, _WITHOUT)
            return None
        if (reason := self._database.fault) is not None:
            self._rest = self._clock() + _REST
            self._complain(reason, _READ_ON)
        return self._database

    def _react(self, database: Database, fault: Fault, *, writing: bool) -> None:
        if fault.kind == "damaged":
            self._database = None
            database.abandon()
            if not self._set_aside(fault, database.place):
                self._rest = self._clock() + _REST
        elif writing:
            self._rest_writing = self._clock() + _REST
            self._complain(fault, _READ_ON)
        else:
            self._forget(database)
            self._rest = self._clock() + _REST
            self._complain(fault, _WITHOUT)

    def _set_aside(self, fault: Fault, place: tuple[int, int] | None) -> bool:
        """Put a damaged database out of the way, once; return whether a new one can be made."""
        from llmtasker.cache.open_file import Fault, set_aside

        try:
            aside = set_aside(self.folder, place) if "damaged" not in self._warned else None
        except Fault as second:
            self.warn("damaged", f"is damaged ({fault}), and can't be renamed ({second}). {_WITHOUT}: delete it.")
            return False
        if aside is None:
            # Another process has put it aside already; or it happens again, and the disk can't be trusted.
            return "damaged" not in self._warned
        told = f"is damaged ({fault}). It was renamed to {aside.name} and a new one is started: {_ADVICE['damaged']}"
        self.warn("damaged", told)
        return True

    def _forget(self, database: Database) -> None:
        from llmtasker.cache.open_file import Fault

        self._database = None
        with contextlib.suppress(Fault):  # it had failed already, and that was said
            database.close()

    def _complain(self, fault: Fault, consequence: str) -> None:
        self.warn(
            fault.kind,
            f"is {_STATE[fault.kind]}: {fault}. {consequence}; it is tried again in a minute. To do: "
            f'{_ADVICE[fault.kind]}, or choose another folder (cache="path", or the variable LLMTASKER_CACHE_DIR).',
        )

    def warn(self, kind: str, text: str) -> None:
        """Say something about the cache, once for each kind."""
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(f"The cache in {self.folder} {text}", CacheWarning, stacklevel=2)

    def close(self) -> None:
        """Write everything into the file and close it; the next use opens it again."""
        with self._lock:
            if self._database is not None:
                self._forget(self._database)
