"""The rows of a job before it is created, from an uploaded file or a request."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from llmtasker.api.problem import Problem
from llmtasker.errors import ConfigurationError, InputError, snippet
from llmtasker.files import BrokenRow, Format, detect, read_header, read_rows
from llmtasker.item import Item
from llmtasker.jobs.chosen_columns import choose_columns, given_of, read_input
from llmtasker.jobs.job_rows import NewRow
from llmtasker.jobs.pipeline_work import TaskLike
from llmtasker.values.json_values import is_object

ENDINGS = {"csv": ".csv", "excel": ".xlsx", "jsonl": ".jsonl", "parquet": ".parquet", "json": ".json"}
_TAKEN = (".csv", ".tsv", ".txt", ".xlsx", ".xlsm", ".jsonl", ".ndjson", ".json", ".parquet")
_INFLATED = 20  # the unpacked size of an Excel file, in multiples of the body limit


def ending_of(name: str) -> str:
    """Return the suffix of an uploaded file's name; the rest of the name is not used.

    Raises:
        Problem: files with this suffix are not read.
    """
    ending = Path(name.replace("\\", "/")).suffix.lower()
    if ending not in _TAKEN:
        raise Problem("media-type", f"{snippet(ending or name, 40)!r} is not read; send one of {', '.join(_TAKEN)}.")
    return ending


class TableFile:
    """An uploaded table: its format, its columns, and its rows for a task.

    Raises:
        Problem: the file can't be read, has another format, or has too many columns.
    """

    def __init__(self, path: Path, *, max_bytes: int, max_columns: int, **given: Any) -> None:
        self.path = path
        try:
            if path.suffix in {".xlsx", ".xlsm"}:
                _check_inflated(path, max_bytes * _INFLATED)
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                self.format = detect(path, **given)
            header = read_header(path, self.format)
        except ConfigurationError as error:
            raise Problem("file", _without_path(error, path)) from None
        self.header = tuple(header.names)
        self.notes = [str(warning.message).replace(str(path), "the file") for warning in seen] + list(header.notes)
        if len(self.header) > max_columns:
            raise Problem("file", f"The file has {len(self.header):,} columns; the limit is {max_columns:,}.")

    def chosen(self, task: TaskLike, columns: Sequence[str]) -> dict[str, str]:
        """Return the column of each input field.

        Raises:
            Problem: a field has no column, or a column is not there.
        """
        try:
            return choose_columns(task.signature, self.header, columns)
        except ConfigurationError as error:
            raise Problem("file", error.worded(_parameter), columns=list(self.header)) from None

    def rows(self, chosen: Mapping[str, str], *, most: int, task: TaskLike | None = None) -> Iterator[NewRow]:
        """Yield the rows for a job.

        Raises:
            Problem: there are too many, or none.
        """
        number = 0
        try:
            for number, row in enumerate(read_rows(self.path, self.format), start=1):
                if number > most:
                    raise Problem("too-many-rows", f"The file has more than {most:,} rows. Send it in several jobs.")
                given = {} if task is None else read_input(task.signature, row, chosen)
                yield row, given, Item(input=given, error=row.error) if isinstance(row, BrokenRow) else None
        except ConfigurationError as error:
            raise Problem("file", _without_path(error, self.path)) from None
        if not number:
            raise Problem("file", "The file has no rows.")


def given_rows(
    task: TaskLike, rows: Sequence[Any], columns: Sequence[str], *, max_columns: int
) -> tuple[tuple[str, ...], dict[str, str], list[NewRow]]:
    """Return the columns, the column of each input field, and the rows of a job that has its rows in its request.

    Raises:
        Problem: a row is neither a text nor an object, there are no rows, or a field has no column.
    """
    fields = list(task.signature.input_fields)
    tables = list[dict[str, Any]]()
    for number, row in enumerate(rows, start=1):
        if is_object(row):
            tables.append(row)
        elif isinstance(row, str) and len(fields) == 1:
            tables.append({fields[0]: row})
        else:
            raise Problem("input", f"Row {number} must be an object with the columns of the row.", row=number)
    header = tuple(dict.fromkeys(name for row in tables for name in row))
    if not tables:
        raise Problem("input", "There are no rows.")
    if len(header) > max_columns:
        raise Problem("input", f"The rows have {len(header):,} columns; the limit is {max_columns:,}.")
    try:
        chosen = choose_columns(task.signature, header, columns)
    except ConfigurationError as error:
        raise Problem("input", error.worded(_parameter), columns=list(header)) from None
    made = list[NewRow]()
    for row in tables:
        missing = [name for name, column in chosen.items() if column not in row]
        given = given_of(row, chosen)
        refused = InputError(f"the row has no column {chosen[missing[0]]!r}") if missing else None
        made.append((row, given, Item(input=given, error=refused) if refused else None))
    return header, chosen, made


def format_of(stored: Mapping[str, Any] | None) -> Format | None:
    """Return the format of the file that a job came from."""
    return None if stored is None else Format(**stored)


def stored_format(format_: Format) -> dict[str, Any]:
    """Return a format as JSON values, without the path of the upload, which no longer exists when the job is
    exported."""
    return asdict(replace(format_, typed_by=None))


def _check_inflated(path: Path, most: int) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ConfigurationError(f"it is not an Excel file: {snippet(error, 60)}") from None
    if size > most:
        raise ConfigurationError(f"it has {size:,} bytes unpacked; the limit is {most:,}")


def _parameter(name: str, value: Any) -> str | None:
    """Return an argument as a caller writes it; None: a request does not have it."""
    if name == "columns":
        return ", ".join(f"{field}={column} as column" for field, column in value.items())
    return f"{name}={value}" if name in {"encoding", "sheet"} else None


def _without_path(error: ConfigurationError, path: Path) -> str:
    """Return the text of an error without the path of the file on the server."""
    return error.worded(_parameter).replace(str(path), "the file").replace(str(path.parent), "")
