"""FileJob: run a task over the rows of a file into another file; a stopped job can be resumed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b, file_digest
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from llmtasker.errors import ConfigurationError, NotRunError, counted
from llmtasker.files import BrokenRow, Format, Journal, output_format, read_header, read_rows, typed_cells, write_rows
from llmtasker.files.atomic import is_stream
from llmtasker.files.cells import cell_json
from llmtasker.files.json_file import json_line
from llmtasker.item import Item, error_line
from llmtasker.jobs.chosen_columns import choose_columns, read_input, sentences
from llmtasker.jobs.pipeline_work import TaskLike, work_on
from llmtasker.result_table import free_name, free_names

ERROR = "error"


class RowInput(dict[str, Any]):
    """The input of a row, with its row number and the identity of its work."""

    def __init__(self, inputs: Mapping[str, Any], number: int, row: Mapping[str, Any], identity: bytes) -> None:
        super().__init__(inputs)
        self.number = number
        self.row = row
        self.identity = identity


@dataclass(slots=True, kw_only=True)
class JobCounts:
    """The rows of a job: all of them, those that an earlier run finished, and how the others ended."""

    rows: int = 0
    earlier: int = 0
    ok: int = 0
    failed: int = 0
    cached: int = 0
    calls: float = 0
    errors: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, item: Item[Any], *, equal: bool = False) -> None:
        """Count an item, or that of an equal row once more."""
        self.ok += item.ok
        self.cached += item.cached or equal
        self.calls += 0 if equal else item.requests
        if item.error is not None:
            self.failed += 1
            self.errors[item.error.code] = self.errors.get(item.error.code, 0) + 1


@dataclass(kw_only=True)
class FileJob:
    """A run of `task` over the rows of `source`, written to `target`.

    Each finished row is stored at once in a journal beside the target. A finished row is recognised by its identity:
    the values of its inputs, its request, and the task. Its answer is validated again by the current signature. The
    rows of a pipeline are recognised by its version; without one, all are run again. Cells are read from the source
    again when the target is written, so they come out unchanged. A JSON lines target grows while the job runs, until it
    has all rows once. A complete run deletes from the journal the answers that no row needs any more.

    Args:
        columns: as for `choose_columns`.
        limit: only the first rows.
        retry_errors: ask again for rows that failed in an earlier run.
        overwrite: replace what is at `target` even if it is not of this job.
        stream: where the items come from; None: from the task.
        origin: what the source was copied from, such as a compressed file; None: it is not a copy.
        begin: called when all is read and checked, before anything is asked.
    """

    task: TaskLike
    source: Path
    target: Path
    source_format: Format
    target_format: Format | None = None
    columns: Sequence[str] = ()
    limit: int | None = None
    retry_errors: bool = True
    overwrite: bool = False
    stream: Callable[[Iterable[Any]], Iterator[Item[Any]]] | None = None
    origin: Path | None = None
    begin: Callable[[FileJob], object] | None = None

    def __post_init__(self) -> None:
        self.form = self.target_format or output_format(self.target, like=self.source_format)
        self.counts = JobCounts()
        self._work = work_on(self.task)
        self.error_column = ERROR
        self.notes: tuple[str, ...] = ()
        self._lock = threading.Lock()  # broken rows are counted in the thread that reads them
        self._chosen: dict[str, str] = {}
        self._outputs: dict[str, str] = {}
        self._columns: list[str] = []
        self._whole = False  # the target has all rows of an earlier run

    @property
    def journal_path(self) -> Path:
        """The journal of finished rows; None: output to a pipe can't be resumed."""
        if self._is_pipe:
            return Path(self._scratch.name) / "journal"
        return self.target.with_name(f"{self.target.name}.journal")

    @property
    def lasting(self) -> bool:
        """Whether the same command reuses the finished rows of this one, also in a later process."""
        return self._work.lasting

    @property
    def _is_pipe(self) -> bool:
        return is_stream(self.target)

    @cached_property
    def _scratch(self) -> TemporaryDirectory[str]:
        return TemporaryDirectory(prefix="llmtasker-")

    def inputs(self) -> Iterator[dict[str, Any]]:
        """Yield the input of each row; a row that could not be read completely has its error.

        Raises:
            ConfigurationError: the source can't be read or has no rows, or a column is missing.
        """
        self._survey()
        for row in self._rows():
            given = self._given(row)
            yield BrokenRow(given, error=row.error) if isinstance(row, BrokenRow) else given

    def unfinished(self) -> Iterator[dict[str, Any]]:
        """Yield the input of each row that a run would ask for, and count the rows that are done; see `inputs`."""
        if not self.journal_path.exists():
            yield from self.inputs()
            return
        with Journal(self.journal_path) as journal:
            for number, given in enumerate(self.inputs(), start=1):
                row = RowInput(given, number, given, self._work.identity(given))
                if isinstance(given, BrokenRow) or self._done(journal, row) is None:
                    yield given
                else:
                    self.counts.earlier += 1

    def run(self, **options: Any) -> JobCounts:
        """Process the remaining rows and return the counts; `options` are those of `Task.stream`.

        Raises:
            ConfigurationError: a file can't be read or written, a column is missing, or another job wrote the file at
                the target.
            KeyboardInterrupt: finished rows are in the journal.
        """
        self._check_places()
        self._survey()
        with Journal(self.journal_path) as journal:
            self._check_journal(journal)
            if self.begin is not None:
                self.begin(self)
            with self._growing() as show:
                finished = len(journal) if self._work.lasting else 0
                inputs = _Sized(self._unfinished(journal, show), max(self.counts.rows - finished, 0))
                for item in (self.stream or self._work.asked.stream)(inputs, **options):
                    if not isinstance(item.input, RowInput):
                        raise ConfigurationError(str(item.error))  # the source broke, and the error names the reason
                    self._keep(item, journal, show)
            self._write(journal)
        return self.counts

    def kept(self) -> int:
        """Return the number of finished rows in the journal, even after an interrupt while one was being written."""
        if not self.journal_path.exists():
            return 0
        with Journal(self.journal_path) as journal:
            return len(journal)

    def _check_places(self) -> None:
        if self.source.resolve() in {self.target.resolve(), self.journal_path.resolve()}:
            raise ConfigurationError(f"{self.target} is the input itself: choose another name for the output.")
        if not self.target.parent.is_dir():
            raise ConfigurationError(f"can't write {self.target}: there is no folder {self.target.parent}.")
        if self.target.is_dir():
            raise ConfigurationError(f"{self.target} is a folder; give the name of a file.")
        if self.target.is_file() and not self._is_pipe and not self.journal_path.exists():
            self._refuse(f"{self.target} exists and was not started by this command")

    def _refuse(self, reason: str) -> None:
        if not self.overwrite:
            raise ConfigurationError(f"{reason}: choose another name, or give --overwrite.")

    def _survey(self) -> None:
        """Read the source once: its columns, its rows, and whether it has the task's inputs."""
        header = read_header(self.source, self.source_format)
        self.notes = header.notes
        names, broken = dict.fromkeys(header.names), list[str]()
        for row in self._rows():
            self.counts.rows += 1
            if isinstance(row, BrokenRow):
                broken.append(row.error.message)
                names.update(dict.fromkeys(row))
        if not self.counts.rows:
            give = {"sheet": header.sheets[0]} if header.sheets else None
            raise ConfigurationError(
                " ".join([f"{self.source} {self.source_format.no_rows}.", *sentences(header.notes)]), give=give
            )
        if len(broken) == self.counts.rows and self.source_format.kind in {"jsonl", "json"}:
            raise ConfigurationError(f"no row of {self.source} can be read: {broken[0]}.")
        self._chosen = choose_columns(self.task.signature, header, self.columns)
        self._outputs = free_names(self.task.signature.output_fields, names)
        self.error_column = free_name(ERROR, [*names, *self._outputs.values()])
        self._columns = [*names, *self._outputs.values(), self.error_column]

    def _rows(self) -> Iterator[dict[str, Any]]:
        return islice(read_rows(self.source, self.source_format), self.limit)

    def _given(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return read_input(self.task.signature, row, self._chosen)

    def _input(self, number: int, row: Mapping[str, Any]) -> RowInput:
        given = self._given(row)
        return RowInput(given, number, row, self._work.identity(given))

    def _unfinished(self, journal: Journal, show: Show) -> Generator[RowInput]:
        """Yield the inputs of the rows that are not finished."""
        for number, row in enumerate(self._rows(), start=1):
            given = self._input(number, row)
            if isinstance(row, BrokenRow):
                self._keep(Item(input=given, error=row.error), journal, show)
                continue
            found = self._done(journal, given)
            if found is None:
                yield given
                continue
            new, item = found
            with self._lock:
                if new:  # not done before: an equal row of this run
                    self.counts.add(item, equal=True)
                else:
                    self.counts.earlier += 1
            show(item)

    def _keep(self, item: Item[Any], journal: Journal, show: Show) -> None:
        with self._lock:
            self.counts.add(item)
        journal.put(item.input.number, item.input.identity, self._work.kept(item), failed=not item.ok)
        show(item)

    def _done(self, journal: Journal, given: RowInput) -> tuple[bool, Item[Any]] | None:
        """Return whether the stored item of a row is of this run, and the item; None: ask for the row."""
        found = self._finished(journal, given)
        return None if found is not None and found[1].error is not None and self.retry_errors else found

    def _finished(self, journal: Journal, given: RowInput) -> tuple[bool, Item[Any]] | None:
        """Return the item of a finished row, as `_done` does, its output as a record; None if it no longer fits."""
        found = journal.find(given.number, given.identity)
        item = None if found is None else self._work.read(found[1], given)
        return None if found is None or item is None else (found[0], item)

    def _check_journal(self, journal: Journal) -> None:
        """Make sure that the journal and the target belong to this job, unless they may be overwritten."""
        about, before = self._about(), journal.about
        differing = [name for name, value in about.items() if before.get(name, value) != value]
        written = before.get("written", "")
        grows = self.form.kind == "jsonl" and before and not written
        if differing and len(journal):
            self._refuse(f"the run that wrote {self.target} differs in its {', '.join(differing)}")
        elif self.target.is_file() and not self._is_pipe and not grows and written != _digest(self.target):
            self._refuse(f"{self.target} was changed since it was written, or another program wrote it")
        elif self.target.is_file() and not self.lasting and len(journal) > (self.limit or len(journal)):
            self._refuse(
                f"{self.target} may have {counted(len(journal), 'row')}; those past the limit of {self.limit} would be "
                f"lost, because {self.task!r} has no version by which they could be known"
            )
        self._whole = bool(written) and not differing and self.target.is_file()
        journal.describe({**about, "written": ""} if self.form.kind == "jsonl" and not self._whole else about)

    def _about(self) -> dict[str, str]:
        source = str((self.origin or self.source).resolve())
        parts = {"input": source, "columns": self._chosen, **self._work.parts}
        return {name: blake2b(cell_json(part).encode(), digest_size=8).hexdigest() for name, part in parts.items()}

    @contextmanager
    def _growing(self) -> Generator[Show]:
        """Yield a function that writes an item to the target while the job runs; only JSON lines can grow.

        A target with all rows of an earlier run stays unchanged until it is replaced at the end: whatever stops the
        job, no row is lost, and no row is in it twice.
        """
        if self.form.kind != "jsonl" or self._is_pipe or self._whole:
            yield _unseen
            return
        with self.target.open("wb", buffering=0) as file:

            def show(item: Item[Any]) -> None:
                lines = b"".join(map(json_line, self._answered(item.input.row, item)))
                with self._lock:
                    file.write(lines)

            yield show

    def _answered(self, row: Mapping[str, Any], item: Item[Any]) -> Iterator[dict[str, Any]]:
        """Yield the rows of the target for a row of the source."""
        error = None if item.error is None else error_line(item.to_dict())
        for answer in self._work.cells(item):
            cells = {column: answer.get(name) for name, column in self._outputs.items()}
            yield {**row, **cells, self.error_column: error}

    def _write(self, journal: Journal) -> None:
        """Write the target: each row of the source unchanged, with its answer."""

        def rows() -> Iterator[dict[str, Any]]:
            for number, row in enumerate(read_rows(self.source, self.source_format), start=1):
                given = self._input(number, row)
                found = self._finished(journal, given)
                cells = typed_cells(row, self.source_format, self.form)
                if found is not None:  # also past the limit, if an earlier run had no limit
                    yield from self._answered(cells, found[1])
                elif self.limit is None or number <= self.limit:
                    yield from self._answered(cells, Item(input=given, error=_CHANGED))

        columns = None if self.form.kind in {"jsonl", "json"} else self._columns
        try:
            write_rows(self.target, rows(), format=self.form, columns=columns)
        except OSError as error:
            if self._is_pipe:
                raise  # output to a pipe has no journal
            raise ConfigurationError(
                f"can't write {self.target}: {error.strerror or error}. Nothing is lost: the rows are in "
                f"{self.journal_path}, and the same command writes them."
            ) from error
        if self.target.is_file():
            journal.describe({"written": _digest(self.target)})
            # Answers to former texts and requests; rows past the limit may still need theirs.
            journal.delete_unused(most=self.limit)


Show: TypeAlias = Callable[[Item[Any]], object]


def _unseen(_: Item[Any]) -> None:
    """Write nothing."""


_CHANGED = NotRunError("the input was changed while the job ran; the same command resumes it")


class _Sized(Iterable[RowInput]):
    """Inputs whose number is known, so that progress can show how many are left."""

    def __init__(self, inputs: Generator[RowInput], count: int) -> None:
        self._inputs = inputs
        self._count = count

    def __iter__(self) -> Iterator[RowInput]:
        return self._inputs

    def __len__(self) -> int:
        return self._count


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "blake2b").hexdigest()[:32]
