"""named_table: a table read from the line that names its columns, where titles stand above it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from llmtasker.api.job_files import TableFile
from llmtasker.api.problem import Problem
from llmtasker.values.lazy_pattern import lazy_pattern

_LAST = 6  # the last line that is tried
_ROWS = 30  # rows below it that must fit
_LONGEST = 60  # characters of a name
_MOST_BYTES = 5_000_000  # larger files are read once
_MADE_UP = lazy_pattern(r"column_\d+_*")  # the name of a column without one
_FIGURE = lazy_pattern(r"[\d/.,:+ -]*\d[\d/.,:+ -]*")
_WORD = lazy_pattern(r"[^\W\d_]")


def named_table(read: Callable[[int], TableFile]) -> TableFile:
    """Return the table of `read(1)`, or of the line that names its columns: office files have titles above it.

    A title is one cell, alone on its line; a line of names has several, and the rows below fit it. A file whose first
    line has several names is read once.

    Raises:
        Problem: the file can't be read.
    """
    first = read(1)
    named = len(_names(first)) > 1 and _fits(first)
    if named or first.format.kind not in {"csv", "excel"} or first.path.stat().st_size > _MOST_BYTES:
        return first
    for line in range(2, _LAST + 1):
        try:
            table = read(line)
        except Problem:
            continue
        if len(_names(table)) > 1:
            return table if _is_likely(table, first) else first
    return first


def _is_likely(table: TableFile, first: TableFile) -> bool:
    """Whether a table begins with the names of its columns, and the line above, which `first` read so, is a title."""
    if any(len(name) > _LONGEST or not _WORD.search(name) for name in _names(table)) or not _fits(table):
        return False
    if table.format.kind == "csv" and table.format.delimiter != first.format.delimiter:
        return _is_table(table)
    return len(_names(first)) <= 1 and not _fits(first)


def _is_table(table: TableFile) -> bool:
    """Whether each row has all cells: texts of one column have semicolons too, but rarely in each row.

    A tenth of the rows may be broken if there are three columns, or one of numbers or dates, as texts hardly have.
    """
    if table.format.delimiter == "," or any(name != name.strip() for name in table.header):
        return False
    try:
        rows = [(row, refused is not None) for row, _, refused in table.rows({}, most=_MOST_BYTES)]
    except Problem:
        return False
    broken = sum(bad for _, bad in rows)
    if not broken:
        return True
    whole = [row for row, bad in rows if not bad]
    figures = any(whole and all(_FIGURE.fullmatch(row[name]) for row in whole) for name in table.header)
    return (figures or len(table.header) > 2) and broken <= max(1, len(rows) // 10)


def _names(table: TableFile) -> list[str]:
    """Return the names of columns that stand in the file."""
    return [name for name in table.header if not _MADE_UP.fullmatch(name)]


def _fits(table: TableFile) -> bool:
    """Whether most columns have a name, and most of the first rows have as many cells."""
    try:
        broken = [refused is not None for _, _, refused in islice(table.rows({}, most=_ROWS + 1), _ROWS)]
    except Problem:
        return False
    return 2 * sum(broken) < len(broken) and 2 * len(_names(table)) > len(table.header)
