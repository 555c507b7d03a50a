"""Which delimiter, decimal mark and line end a CSV text has."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator

DELIMITERS = (";", ",", "\t", "|")
_MAX_CELL = 2**31 - 1  # The most that a C long holds on Windows.
_DECIMAL = re.compile(r"[+-]?\d+([.,])\d+")
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)


def parse(lines: Iterable[str], delimiter: str, *, strict: bool) -> Iterator[list[str]]:
    """Return the cells of each record; strict raises csv.Error for a quote that is not closed or closed too early."""
    # The limit of 128 KB a cell is one for the whole process: raised here, never lowered.
    if csv.field_size_limit() < _MAX_CELL:
        csv.field_size_limit(_MAX_CELL)
    return csv.reader(lines, delimiter=delimiter, strict=strict)


def separator_line(line: str) -> str | None:
    """Return the delimiter of a first line `sep=;`, as Excel writes and reads it; None for any other line."""
    match = _SEPARATOR_LINE.fullmatch(line)
    return match[1] if match else None


def seen_delimiter(lines: list[str]) -> str:
    """Return the delimiter with which the most records have as many cells as the header.

    Where no delimiter splits the header, there is one column: the answer is then one that its texts don't hold.

    >>> seen_delimiter(["id;message\\n", '1;"one, two; three"\\n', "2;four, five, six\\n"])
    ';'
    """
    if lines and (given := separator_line(lines[0])):
        return given
    scores = {delimiter: _score(lines, delimiter) for delimiter in DELIMITERS}
    tables = [delimiter for delimiter, (columns, share) in scores.items() if columns > 1 and share >= 0.5]
    if tables:
        return max(tables, key=lambda delimiter: (scores[delimiter][1], scores[delimiter][0]))
    alone = [delimiter for delimiter, (columns, _) in scores.items() if columns == 1]
    return max(sorted(alone, key=",;\t|".index), key=lambda delimiter: scores[delimiter][1], default=",")


def _score(lines: list[str], delimiter: str) -> tuple[int, float]:
    """Return the number of columns, and the share of records that have as many."""
    widths = [len(cells) for cells in parse(lines, delimiter, strict=False) if cells]
    if not widths:
        return 0, 0.0
    return widths[0], Counter(widths)[widths[0]] / len(widths)


def seen_decimal(lines: list[str], delimiter: str) -> str:
    """Return the decimal mark of the numbers: a comma where more cells have one, else a point."""
    marks = Counter(
        match[1]
        for cells in parse(lines, delimiter, strict=False)
        for cell in cells
        if (match := _DECIMAL.fullmatch(cell.strip()))
    )
    return "," if marks[","] > marks["."] else "."


def seen_newline(lines: list[str]) -> str:
    """Return the end of the first line."""
    first = lines[0] if lines else ""
    return next((end for end in ("\r\n", "\n", "\r") if first.endswith(end)), "\n")
