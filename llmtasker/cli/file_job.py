"""Job: the rows of a file through a task into another file; a job that was stopped is taken up again."""

from __future__ import annotations

import hashlib
import inspect
import threading
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from llmtasker.compiler.examples import show_examples
from llmtasker.errors import ConfigurationError
from llmtasker.files import BrokenRow, Format, Journal, output_format, read_rows, write_rows
from llmtasker.files.json_file import json_line
from llmtasker.item import Item
from llmtasker.results import free_name
from llmtasker.runner.progress import OnProgress
from llmtasker.signature import Signature
from llmtasker.task import Task
from llmtasker.values.json_values import parse_json

ROW = "_row"  # the number of its row, in each line of a journal
TASK = "_task"  # what it was asked by: an answer to a task that was changed since is no answer to this one
ERROR = "error"
_MOST_ROWS = 1 << 31


class Given(dict[str, Any]):
    """The input of a row, which knows the row that it comes from."""

    def __init__(self, inputs: Mapping[str, Any], number: int, row: Mapping[str, Any]) -> None:
        super().__init__(inputs)
        self.number = number
        self.row = row


@dataclass(slots=True, kw_only=True)
class Tally:
    """What came of a job: rows in all, those done by an earlier run, and how the others ended.

    `outdated` rows were done by an earlier run too, but by a task that was changed since: they are done again.
    """

    rows: int = 0
    earlier: int = 0
    outdated: int = 0
    ok: int = 0
    failed: int = 0
    cached: int = 0
    calls: int = 0
    errors: dict[str, int] = field(default_factory=dict[str, int])

    def saw(self, item: Item[Any]) -> None:
        """Count an item."""
        self.ok += item.ok
        self.cached += item.cached
        self.calls += item.attempts
        if item.error is not None:
            self.failed += 1
            self.errors[item.error.code] = self.errors.get(item.error.code, 0) + 1


def choose_columns(signature: type[Signature], header: Iterable[str], chosen: Sequence[str]) -> dict[str, str]:
    """Return the column of each input field.

    `chosen` has `field=column`, or just the column where there is one input field. What is not chosen is taken
    from the column of the same name.

    Raises:
        ConfigurationError: a field has no column, or a column is not there.
    """
    columns, fields = list(header), list(signature.input_fields)
    found = {name: name for name in fields if name in columns}
    for one in chosen:
        name, equals, column = one.rpartition("=")
        if not equals and len(fields) == 1:
            name = fields[0]
        if name not in fields:
            raise ConfigurationError(f"--column {one}: give field=column, where field is one of {', '.join(fields)}.")
        if column not in columns:
            raise ConfigurationError(f"--column {one}: there is no column {column!r}; there are {', '.join(columns)}.")
        found[name] = column
    missing = [name for name in fields if name not in found and signature.input_fields[name].is_required()]
    if missing:
        raise ConfigurationError(
            f"which column holds {missing[0]!r}? Give --column {missing[0]}=…; there are {', '.join(columns)}."
        )
    return found


@dataclass(kw_only=True)
class Job:
    """A run of `task` over the rows of `source`, written to `target`.

    A JSON lines target grows while the job runs: each row is appended when it is done. Other kinds are written at
    the end, from such a journal beside the target. What an earlier run has done is not asked again; its failed
    rows are, unless `retry_errors` is False.
    """

    task: Task[Any]
    source: Path
    target: Path
    source_format: Format
    target_format: Format | None = None
    columns: Sequence[str] = ()
    limit: int | None = None
    retry_errors: bool = True

    def __post_init__(self) -> None:
        self.form = self.target_format or output_format(self.target, like=self.source_format)
        self.tally = Tally()
        self._outputs: dict[str, str] = {}
        self.version = _version(self.task)
        self._lock = threading.Lock()  # broken rows are counted where they are read, in another thread
        self.error_column = ERROR
        self.row_column, self.task_column = ROW, TASK

    @property
    def journal_path(self) -> Path:
        """Where finished rows are kept while the job runs."""
        return self.target if self.form.kind == "jsonl" else self.target.with_name(f"{self.target.name}.journal.jsonl")

    def run(self, *, concurrency: int, progress: bool | OnProgress | None = None) -> Tally:
        """Do what is left to do and return what came of it.

        Raises:
            ConfigurationError: a file can't be read or written, or a column is missing.
            KeyboardInterrupt: finished rows are in the journal.
        """
        if self.source.resolve() in {self.target.resolve(), self.journal_path.resolve()}:
            raise ConfigurationError(f"{self.target} is the input itself: choose another name for the output.")
        header = self._header()
        if not header:
            raise ConfigurationError(f"{self.source} has no rows.")
        columns = choose_columns(self.task.signature, header, self.columns)
        self._outputs = {name: free_name(name, header) for name in self.task.signature.output_fields}
        self.error_column = free_name(ERROR, [*header, *self._outputs.values()])
        # The output of another job may be the input of this one.
        self.row_column, self.task_column = free_name(ROW, header), free_name(TASK, header)
        with Journal(self.journal_path) as journal:
            done = _Done(self, journal, {*self._outputs.values(), self.error_column})
            self.tally.outdated = done.outdated
            given = self._given(columns, done, journal)
            for item in self.task.stream(given, concurrency=concurrency, progress=progress):
                self._write(item, journal)
            added_rows = self.tally.ok + self.tally.failed
        self._finish(rewrite=bool(added_rows) or not done.in_order)
        return self.tally

    def _header(self) -> list[str]:
        """Return the names of all columns: in JSON each row may have its own, else the first whole row has all."""
        names: dict[str, None] = {}
        for row in self._rows():
            names.update(dict.fromkeys(row))
            if self.source_format.kind not in {"jsonl", "json"} and not isinstance(row, BrokenRow):
                break
        return list(names)

    def _rows(self) -> Iterator[dict[str, Any]]:
        return islice(read_rows(self.source, self.source_format), self.limit)

    def _given(self, columns: Mapping[str, str], done: _Done, journal: Journal) -> Iterator[Given]:
        for number, row in enumerate(self._rows(), start=1):
            self.tally.rows += 1
            if done.has(number, row):
                self.tally.earlier += 1
            elif isinstance(row, BrokenRow):
                self._write(Item(input=Given({}, number, row), error=row.error), journal)
            else:
                yield Given({name: row[column] for name, column in columns.items() if column in row}, number, row)

    def _write(self, item: Item[Any], journal: Journal) -> None:
        with self._lock:
            self.tally.saw(item)
        given = item.input
        if not isinstance(given, Given):
            raise ConfigurationError(str(item.error))  # the source broke, and said why
        values = dict.fromkeys(self._outputs.values())
        if item.ok:
            output = item.to_dict()["output"]
            # A task may show its one output field without the record around it.
            bare = len(self._outputs) == 1 and not isinstance(item.output, Signature)
            answer: dict[str, Any] = dict.fromkeys(self._outputs, output) if bare else output
            values = {column: answer.get(name) for name, column in self._outputs.items()}
        error = None if item.error is None else f"{item.error.code}: {item.error.message}"
        place = {self.row_column: given.number, self.task_column: self.version}
        journal.append({**place, **given.row, **values, self.error_column: error})

    def _finish(self, *, rewrite: bool) -> None:
        """Put the journal's rows in order of the input, each once; other kinds are made from it."""
        ordered = _in_order(self.journal_path, self.row_column, self.tally.rows if self.limit is None else None)
        if self.form.kind == "jsonl":
            if rewrite:
                write_rows(self.target, ordered, format=self.form)
            return
        own = {self.row_column, self.task_column}
        failed = 0

        def rows() -> Iterator[dict[str, Any]]:
            nonlocal failed
            for row in ordered:
                failed += row.get(self.error_column) is not None
                yield {name: value for name, value in row.items() if name not in own}

        write_rows(self.target, rows(), format=self.form)
        if not failed:
            self.journal_path.unlink()


class _Done:
    """The rows that an earlier run has finished, known by number and content; eight bytes each."""

    def __init__(self, job: Job, journal: Journal, added: Collection[str]) -> None:
        self._marks = array("Q")
        self.in_order = True
        self.outdated = last = 0
        for record in journal.earlier():
            number, version = record.pop(job.row_column, None), record.pop(job.task_column, None)
            if type(number) is not int or not 1 <= number < _MOST_ROWS:
                raise ConfigurationError(
                    f"{journal.path} is there already and was not written by this command: choose another name."
                )
            again = job.retry_errors and record.get(job.error_column) is not None
            row = {name: value for name, value in record.items() if name not in added}
            self._marks.extend([0] * (number + 1 - len(self._marks)))
            self.outdated += version != job.version
            self._marks[number] = 0 if again or version != job.version else _mark(row)
            self.in_order = self.in_order and number == last + 1
            last = number
        self.in_order = self.in_order and not journal.damaged

    def has(self, number: int, row: Mapping[str, Any]) -> bool:
        """Return whether this very row is finished."""
        return number < len(self._marks) and self._marks[number] != 0 and self._marks[number] == _mark(row)


def _mark(row: Mapping[str, Any]) -> int:
    # As it is written, so that a date of the input and its text in the journal are the same.
    return int.from_bytes(hashlib.blake2b(json_line(row), digest_size=8).digest()) | 1


def _version(task: Task[Any]) -> str:
    """Return a short hash of all that makes an answer of a task: prompt, schema, examples, model, validators."""
    program = task.program
    _, started = program.head(program.first_mode).start(task.llm.settings)
    hashed = started.copy()
    layout = program.layout
    parts: list[object] = [layout.template, layout.examples_role, show_examples(layout.signature, layout.examples)]
    for kind in task.signature.__mro__[: task.signature.__mro__.index(Signature)]:
        try:
            parts.append(inspect.getsource(kind))
        except (OSError, TypeError):
            continue  # made by a function: what it asks for is in the schema
    hashed.update(repr(parts).encode("utf-8", "surrogatepass"))
    return str(hashed.hexdigest()[:12])


def _in_order(journal: Path, row_column: str, rows: int | None) -> Iterator[dict[str, Any]]:
    """Yield the last record of each row by number; only their places are held in memory."""
    places = array("q")
    with journal.open("rb") as file:
        at = 0
        for line in file:
            number = _number(line, row_column)
            if number is not None:
                places.extend([-1] * (number + 1 - len(places)))
                places[number] = at
            at += len(line)
        for place in islice(places, None if rows is None else rows + 1):
            if place >= 0:
                file.seek(place)
                yield parse_json(file.readline().decode("utf-8-sig"))


def _number(line: bytes, row_column: str) -> int | None:
    """Return the number of the row in a line; None where a crash of the machine left no JSON."""
    try:
        return int(parse_json(line.decode("utf-8-sig"))[row_column])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
