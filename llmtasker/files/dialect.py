"""Detect the delimiter, quotes, decimal mark and line end of a CSV text."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from llmtasker.values.lazy_pattern import lazy_pattern

DELIMITERS = (";", ",", "\t", "|")
_MAX_CELL = 2**31 - 1  # The largest C long on Windows.
_DECIMAL = lazy_pattern(r"[+-]?\d+([.,])\d+")
_SEPARATOR_LINE = lazy_pattern(r'("?)sep=(.)\1\r?\n?', re.IGNORECASE)
_NUMBER_OR_DATE = lazy_pattern(r"[\d/.,:+ -]*\d[\d/.,:+ TZ-]*")
RETURN = "\udc0d"
"""Replaces a carriage return inside a line; it is half of a character, which no accepted encoding reads in a file."""
_MANY = 1_000  # the most different values of a column to count


def parse(lines: Iterable[str], delimiter: str, *, strict: bool, quoted: bool = True) -> Iterator[list[str]]:
    """Return the cells of each record.

    Strict raises csv.Error for a quote that is not closed or closed too early; if the file is not `quoted`, a quote
    is a character like any other.
    """
    # The limit of 128 KB per cell belongs to the whole process: raised here, never lowered.
    if csv.field_size_limit() < _MAX_CELL:
        csv.field_size_limit(_MAX_CELL)
    return csv.reader(
        lines, delimiter=delimiter, strict=strict, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    )


def masked(line: str) -> str:
    """Return a line with `RETURN` for each carriage return inside it, which the csv module would take for its end."""
    text = line.rstrip("\r\n")
    if "\r" not in text or RETURN in text:
        return line
    return text.replace("\r", RETURN) + line[len(text) :]


def separator_line(line: str) -> str | None:
    """Return the delimiter of a first line `sep=;`, as Excel writes and reads it; None for any other line."""
    match = _SEPARATOR_LINE.fullmatch(line)
    return match[2] if match else None


def seen_delimiter(lines: list[str]) -> str:
    """Return the delimiter with which the most records have as many cells as the header.

    If no delimiter splits the header, there is one column: the result is then a delimiter that its texts don't contain.

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
    """Return the number of columns, and the share of records with that many."""
    rows = [cells for cells in parse(lines, delimiter, strict=False) if cells]
    if not rows:
        return 0, 0.0
    width = len(rows[0])
    return width, sum(len(cells) == width or ends_empty(cells, width) for cells in rows) / len(rows)


def ends_empty(cells: list[str], width: int) -> bool:
    """Return whether all cells beyond the columns are empty: some programs end each row with a delimiter."""
    return len(cells) > width > 1 and not any(cells[width:])


def seen_quotes(lines: Callable[[], Iterable[str]], delimiter: str) -> bool:
    r"""Return whether quotes enclose cells, as in most files, or are characters of the texts; `lines` gives all lines.

    They are characters if every line is a complete row without them, while as enclosing quotes they can't be read, or
    join lines that look like the other rows.

    >>> seen_quotes(lambda: ["id\ttext\n", '1\t"Fine" they said\n', "2\tok\n"], "\t")
    False
    >>> seen_quotes(lambda: ["id;text\n", '1;"Bonjour\n', 'Merci; au revoir"\n', "2;ok\n"], ";")
    True
    """
    bare, last = _BareLines(), ""

    def each() -> Iterator[str]:
        nonlocal last
        for last in lines():
            yield masked(last)

    try:
        if not bare.are_rows(parse(each(), delimiter, strict=True, quoted=False)):
            return True
    except csv.Error:  # a carriage return that is not masked
        return True
    try:
        records = sum(1 for cells in parse(each(), delimiter, strict=True) if cells)
    except csv.Error:
        cut = not last.endswith(("\r", "\n")) and last.count('"') % 2 == 1
        return bare.enclosed or cut
    # Fewer records than lines: texts of several lines, or rows between two stray quotes?
    return records == bare.count or not (delimiter == "\t" or bare.has_a_column_of_one_kind())


class _BareLines:
    """The lines of a file if quotes are ordinary characters."""

    def __init__(self) -> None:
        self.count = 0
        self.enclosed = False
        self._quotes = False
        self._numeric: list[bool] = []
        self._values: list[set[str]] = []

    def are_rows(self, lines: Iterable[list[str]]) -> bool:
        """Read them, and return whether each has as many cells as the first, and any has a quote."""
        for cells in lines:
            if not cells:
                continue
            if self.count == 0:
                self._numeric, self._values = [True] * len(cells), [set() for _ in cells]
            elif len(cells) != len(self._values):
                return False
            else:
                self._note(cells)
            self.count += 1
        return self._quotes and len(self._values) > 1

    def _note(self, cells: list[str]) -> None:
        for place, cell in enumerate(cells):
            if '"' in cell:
                self._quotes = True
                self.enclosed = self.enclosed or (len(cell) > 1 and cell[0] == cell[-1] == '"')
            self._numeric[place] = self._numeric[place] and _NUMBER_OR_DATE.fullmatch(cell) is not None
            if len(self._values[place]) < _MANY:
                self._values[place].add(cell)

    def has_a_column_of_one_kind(self) -> bool:
        """Return whether some column has only numbers or dates, or few values that recur."""
        rows = self.count - 1
        return any(self._numeric) or any(len(values) <= rows / 2 for values in self._values)


def seen_decimal(lines: list[str], delimiter: str) -> str:
    """Return the decimal mark of the numbers: a comma if more cells have one, else a point."""
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
