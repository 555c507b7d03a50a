"""OutputFiles: the answers to the rows of a batch job, read from the provider's files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from llmtasker.errors import BadResponseError, ItemError, NotFoundError, NotRunError
from llmtasker.runner.batch.job_store import Part, head_of
from llmtasker.wire.batch_file import BatchInfo, key_of, read_line
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Request

if TYPE_CHECKING:
    from llmtasker.llm.transports.openai_batches import Batches


class OutputFiles:
    """The answers of some batches, by key.

    A batch is downloaded when the first of its rows is taken, into an unnamed file in `folder`, so that only the
    offsets of its lines are in memory. `look` returns the state of a batch, `patiently` retries transient failures.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        provider: Callable[[], Batches],
        look: Callable[[Part], BatchInfo | None],
        patiently: Callable[[Callable[[], None]], None],
        folder: Path,
    ) -> None:
        self._parts = parts
        self._provider = provider
        self._look = look
        self._patiently = patiently
        self._folder = folder
        self._homes: dict[str, tuple[int, ...]] = {}
        for number, part in enumerate(parts):
            home = (number,)  # one tuple shared by all its rows: there may be a million
            for head in part.heads():
                self._homes[head] = self._homes[head] + home if head in self._homes else home
        self._files: dict[int, _OutputFile] = {}
        self._seen: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for output in self._files.values():
            output.close()

    def saw(self, key: str) -> bool:
        """Record a row; return whether it is the first with its key."""
        head = head_of(key)
        first = head not in self._seen
        self._seen.add(head)
        return first

    def take(self, key: str, request: Request | None = None) -> Completion | ItemError:
        """Return the answer to a row, or the error that explains why there is none."""
        homes = self._homes.get(head_of(key))
        if homes is None:
            return NotRunError(
                "this row is in no batch of the job: it is new, or the task or its model has changed since. "
                "Submit the rows again, or run them"
            )
        found: Completion | ItemError | None = None
        # Latest first: for a row that was submitted again, an answer counts, or else the latest error.
        for number in reversed(homes):
            came = self._file_of(number).take(key, request)
            if isinstance(came, Completion):
                return came
            found = found or came
        assert found is not None  # noqa: S101 - a home has at least one batch
        return found

    def finished(self) -> list[Part]:
        """Return the batches that have ended and whose rows were all seen."""
        return [part for part in self._parts if part.end is not None and self._seen.issuperset(part.heads())]

    def _file_of(self, number: int) -> _OutputFile:
        output = self._files.get(number)
        if output is None:
            info = self._look(self._parts[number])
            output = self._files[number] = _output_file(info)
            if info is not None and info.ended:
                self._fill(output, info, number)
        return self._files[number]

    def _fill(self, output: _OutputFile, info: BatchInfo, number: int) -> None:
        try:
            for name in filter(None, (info.output, info.errors)):
                self._fetch(name, output)
        except NotFoundError:
            output.close()
            gone = f"the provider no longer has the answers of the batch {info.id}"
            self._files[number] = _OutputFile(NotRunError, gone)

    def _fetch(self, name: str, output: _OutputFile) -> None:
        file = output.open(self._folder)
        start = file.tell()

        def download() -> None:
            file.seek(start)
            file.truncate()
            self._provider().download(name, file)

        self._patiently(download)
        output.index(start)


def _output_file(info: BatchInfo | None) -> _OutputFile:
    """Return an empty file for a batch, with the error for a row that has no line."""
    if info is None:
        return _OutputFile(NotRunError, "the batch of this row was never started. Submit the rows again, or run them")
    if not info.ended:
        return _OutputFile(NotRunError, f"not answered yet: the batch {info.id} is {info.status}. Fetch it later")
    if info.status == "completed":
        return _OutputFile(BadResponseError, f"the files of the batch {info.id} have no readable line for this row")
    why = f" ({'; '.join(info.reasons)})" if info.reasons else ""
    message = f"the batch {info.id} is {info.status}{why}; this row was not asked. Submit it again, or run it"
    return _OutputFile(NotRunError, message)


class _OutputFile:
    """The lines of one batch, by key; a row without a line gets the error given here."""

    def __init__(self, kind: type[ItemError], message: str) -> None:
        self._missing = kind, message
        self._file: IO[bytes] | None = None
        self._places: dict[str, int] = {}
        self._unreadable = 0

    def open(self, folder: Path) -> Any:
        """Return the file for the lines, positioned at its end."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed with this object
        return self._file

    def index(self, start: int) -> None:
        """Record the offsets of the lines from `start` on; of several lines with one key, the first counts."""
        assert self._file is not None  # noqa: S101 - it was just written
        self._file.seek(start)
        place, line = start, b"\n"
        for line in self._file:
            key = key_of(line)
            if key is not None:
                self._places.setdefault(key, place)
            elif line.strip():
                self._unreadable += 1
            place += len(line)
        if not line.endswith(b"\n"):
            self._file.write(b"\n")  # the next file starts on a new line

    def take(self, key: str, request: Request | None = None) -> Completion | ItemError:
        """Return the answer or the error in the line of a row."""
        place = self._places.get(key)
        if place is None or self._file is None:
            kind, message = self._missing
            return kind(f"{message} ({self._unreadable:,} lines can't be read)" if self._unreadable else message)
        self._file.seek(place)
        return read_line(self._file.readline(), request)

    def close(self) -> None:
        """Close the file, which deletes it."""
        if self._file is not None:
            self._file.close()
