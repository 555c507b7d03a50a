"""Read CSV: cells keep their text, and a damaged row does not affect its neighbours."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from llmtasker.errors import ConfigurationError, InputError
from llmtasker.files.cells import restore
from llmtasker.files.dialect import RETURN, ends_empty, masked, parse, separator_line
from llmtasker.files.encoding import decodes, open_text
from llmtasker.files.format import Format
from llmtasker.files.header import Header, header_of
from llmtasker.values.broken_row import BrokenRow

MAX_RECORD = 1 << 24
"""Characters of one record, line ends in quotes included. Beyond that, a quote was opened and never closed."""


def csv_header(path: Path, form: Format) -> Header:
    """Return the columns of a CSV file; see `header_of`."""
    with _open(path, form) as file:
        return _header(path, _Lines(file), form)


def csv_lines(path: Path, form: Format, most: int) -> list[str]:
    """Return the first lines of a CSV file, the empty ones too."""
    with _open(path, form) as file:
        return [line.rstrip("\r\n") for line in islice(file, most)]


def read_csv(path: Path, form: Format) -> Iterator[dict[str, Any]]:
    """Yield the rows of a CSV file as dicts of their texts; none for an empty file.

    Empty lines are skipped, except between the rows of a file with one column, where they are empty texts.
    """
    damaged = not form.odd_bytes and not decodes(path, form.encoding)
    with _open(path, form) as file:
        lines = _Lines(file)
        names = _header(path, lines, form).names
        for row in _records(lines, names, form):
            if damaged and any("\ufffd" in cell for cell in row.values()):
                yield BrokenRow(row, error=InputError(f"line {lines.number} is not {form.encoding}"))
            elif form.neutralised:
                yield _restored(row)
            else:
                yield row


def _open(path: Path, form: Format) -> Any:
    # With newline="", Python also ends a line at each lone carriage return in a text.
    return open_text(path, form.encoding, newline="" if form.newline == "\r" else "\n", odd_bytes=form.odd_bytes)


def _restored(row: dict[str, Any]) -> dict[str, Any]:
    values = {name: restore(cell) for name, cell in row.items()}
    return BrokenRow(values, error=row.error) if isinstance(row, BrokenRow) else values


class _Lines:
    """The lines of a file; the lines of a record can be put back and read again."""

    def __init__(self, file: Iterable[str]) -> None:
        self._file = iter(file)
        self._again: list[str] = []
        self._size = 0
        self.record: list[str] = []
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.pop() if self._again else masked(next(self._file))
        self.number += 1
        self.record.append(line)
        self._size += len(line)
        if self._size > MAX_RECORD and len(self.record) > 1:
            raise csv.Error("a quote is not closed")
        return line

    def shown(self, cells: list[str]) -> list[str]:
        """Return cells with their carriage returns."""
        if any(RETURN in line for line in self.record):
            return [cell.replace(RETURN, "\r") for cell in cells]
        return cells

    def skip(self, count: int) -> None:
        """Skip lines."""
        for _ in islice(self, count):
            self.begin()

    def begin(self) -> None:
        """Forget the lines of the finished record."""
        self.record.clear()
        self._size = 0

    def give_back(self, keep: int) -> None:
        """Keep the first lines of the record; the others are read again."""
        again = self.record[keep:]
        self._again += reversed(again)
        self.number -= len(again)


def _header(path: Path, lines: _Lines, form: Format) -> Header:
    lines.skip(form.header - 1)
    try:
        cells = _first(lines, form)
        if len(lines.record) == 1 and separator_line(lines.record[0]):
            lines.begin()
            cells = _first(lines, form)
    except csv.Error as error:
        raise ConfigurationError(f"can't read the header of {path}: {error}") from error
    lines.begin()
    names = [restore(name) for name in cells] if form.neutralised else cells
    if any("\0" in name for name in names):
        raise ConfigurationError(f"{path} looks like UTF-16.", give={"encoding": "utf-16-le"})
    return header_of(names)


def _first(lines: _Lines, form: Format) -> list[str]:
    none: list[str] = []
    return next((cells for cells in parse(lines, form.delimiter, strict=True, quoted=form.quoted) if cells), none)


def _records(lines: _Lines, names: Sequence[str], form: Format) -> Iterator[dict[str, Any]]:
    reader = parse(lines, form.delimiter, strict=True, quoted=form.quoted)
    width, empty = len(names), 0
    while True:
        try:
            for cells in reader:
                if not cells:
                    empty += width == 1
                    lines.begin()
                    continue
                # Empty lines at the end of a file are not rows: editors add them.
                yield from [dict.fromkeys(names, "") for _ in range(empty)]
                empty = 0
                if len(cells) == width or ends_empty(cells, width):
                    yield dict(zip(names, lines.shown(cells[:width]), strict=True))
                else:
                    yield _ragged(names, lines.shown(cells), lines.number, form)
                lines.begin()
        except csv.Error as error:
            yield _unreadable(names, lines, form, error)
            lines.begin()
        else:
            return


def _ragged(names: Sequence[str], cells: list[str], line: int, form: Format) -> BrokenRow:
    cause = "a delimiter in a text without quotes?" if len(cells) > len(names) else "cut?"
    count = f"{len(cells)} cell{'' if len(cells) == 1 else 's'}"
    message = f"line {line} has {count}, the header has {len(names)} ({cause})"
    return BrokenRow(_kept(names, cells, form), error=InputError(message))


def _kept(names: Sequence[str], cells: list[str], form: Format) -> dict[str, str]:
    """Return the cells of a refused row; those beyond the header are kept in the last column."""
    last = len(names) - 1
    return dict(
        zip(names, [*cells[:last], form.delimiter.join(cells[last:])] if last < len(cells) else cells, strict=False)
    )


def _unreadable(names: Sequence[str], lines: _Lines, form: Format, error: csv.Error) -> BrokenRow:
    """Skip the lines of a record up to the next valid row, so that a stray quote affects no more rows than
    necessary."""

    def whole(line: str) -> bool:
        try:
            return any(len(cells) == len(names) for cells in parse([line], form.delimiter, strict=True))
        except csv.Error:
            return False

    record = lines.record
    broken = next((place for place, line in enumerate(record) if place and whole(line)), len(record))
    first = lines.number - len(record) + 1
    text = "".join(record[:broken]).rstrip("\r\n")
    lines.give_back(broken)
    message = f"line {first} can't be read as CSV: {error}; double the quotes inside a quoted text"
    return BrokenRow(_kept(names, lines.shown(text.split(form.delimiter)), form), error=InputError(message))
