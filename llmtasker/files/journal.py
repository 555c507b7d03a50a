"""Journal: finished rows on disk, one JSON line each, the moment they are done."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from llmtasker.errors import ConfigurationError
from llmtasker.files.json_file import json_line
from llmtasker.values.json_values import parse_json

_BLOCK = 1 << 16
_LOCK_AT = 1 << 40  # Windows locks bytes against readers too: one that no journal reaches.


class Journal:
    """A file of JSON lines to which finished rows are appended, and which a later run takes up again.

    Each row is one write, so a reader sees whole lines while the run goes on, and a killed process loses none of
    them. The line that a power cut or a full disk tore is mended when the file is opened: completed where only its
    end of line is missing, else cut off. The same row may stand there more than once; the last one counts.

    Raises ConfigurationError when another Journal has the file open, when it is no JSON lines file (it stays
    untouched), or when it can't be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Journal(folder + "/out.jsonl") as journal:
    ...         journal.append({"id": "07", "team": "billing"})
    ...     with Journal(folder + "/out.jsonl") as journal:
    ...         list(journal.earlier())
    [{'id': '07', 'team': 'billing'}]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.damaged = 0
        """Lines that `earlier` passed over in its last round, for they hold no JSON object."""
        self._lock = threading.Lock()
        self._file: int | None = _open(self.path)
        try:
            _claim(self._file, self.path)
            self._earlier = self._end = _mend(self._file, self.path)
        except BaseException:
            os.close(self._file)
            raise

    def earlier(self) -> Iterator[dict[str, Any]]:
        """Yield the records that were there when the journal was opened, lazily and in the order of the file."""
        self.damaged = 0
        left = self._earlier
        with self.path.open("rb") as file:
            while left > 0:
                line = file.readline()
                left -= len(line)
                record = _record(line)
                if record is not None:
                    yield record
                elif not line:
                    return
                elif not line.isspace():
                    self.damaged += 1

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record as the last line, from any thread.

        Raises OSError when the disk is full; the file then ends with the line before.
        """
        line = json_line(record)
        with self._lock:
            if self._file is None:
                raise ValueError(f"the journal {self.path} is closed")
            try:
                _write(self._file, line)
            except OSError:
                os.ftruncate(self._file, self._end)
                raise
            self._end += len(line)

    def close(self) -> None:
        """Bring everything to the disk and let others write; closing twice is closing once."""
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                try:
                    os.fsync(file)
                finally:
                    os.close(file)  # The lock goes with it.

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        raise ConfigurationError(f"can't write {path}: {error.strerror or error}") from error


def _claim(file: int, path: Path) -> None:
    """Lock the file against a second writer, as long as it is open; a killed process leaves no lock behind."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(file, _LOCK_AT, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EACCES, errno.EDEADLK}:
            raise ConfigurationError(
                f"another run is writing {path}; wait for its end, or choose another name"
            ) from error
        # Else a network folder that knows no locks: then nobody watches, as for any other file there.


def _mend(file: int, path: Path) -> int:
    """Make the file end with a whole line, and return its size."""
    size = os.fstat(file).st_size
    if size == 0:
        return 0
    _check_ours(path)
    start = _last_line(file, size)
    if start == size:
        return size
    os.lseek(file, start, os.SEEK_SET)
    tail = os.read(file, size - start)
    if _record(tail) is None:
        os.ftruncate(file, start)
        return start
    _write(file, b"\n")
    return size + 1


def _check_ours(path: Path) -> None:
    """Keep hands off a file that is something else: its last line must not be cut."""
    with path.open("rb") as opened:
        first = opened.readline().lstrip(b"\xef\xbb\xbf")
    torn = not first.endswith(b"\n") and first[:1] in {b"{", b"\0"}
    if not torn and not first.isspace() and _record(first) is None:
        raise ConfigurationError(f"{path} is there and holds no JSON lines; choose another name, or move it away")


def _last_line(file: int, size: int) -> int:
    """Return where the text after the last end of line begins."""
    end = size
    while end > 0:
        start = max(0, end - _BLOCK)
        os.lseek(file, start, os.SEEK_SET)
        found = os.read(file, end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        value = parse_json(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    return cast(dict[str, Any], value) if isinstance(value, dict) else None


def _write(file: int, data: bytes) -> None:
    """One write; a second only where the system took a part (over 2 GB, or the disk is full: then it raises)."""
    while data:
        data = data[os.write(file, data) :]
