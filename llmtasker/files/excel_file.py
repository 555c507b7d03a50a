"""Read Excel workbooks, through openpyxl."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import datetime, time
from importlib import import_module
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

from llmtasker.errors import ConfigurationError, InputError, snippet
from llmtasker.files.cells import cell_text
from llmtasker.files.format import Format
from llmtasker.files.header import Header, free_column, header_of
from llmtasker.values.broken_row import BrokenRow
from llmtasker.values.folding import composed
from llmtasker.values.lazy_pattern import lazy_pattern

_PEEKED = 20  # rows that show whether there are columns to the right of the header
_ESCAPED = lazy_pattern("_x([0-9A-Fa-f]{4})_")


def excel_header(path: Path, form: Format) -> Header:
    """Return the columns of the sheet, with a note if there are other sheets."""
    with _sheet(path, form) as (sheet, others):
        header = _header(sheet, form)[0]
        names = ", ".join(repr(name) for name in others)
        notes = (f"the sheet {sheet.title!r} is read, not {names}",) if others else ()
        return Header(header.names, (*notes, *header.notes), tuple(others))


def excel_lines(path: Path, form: Format, most: int) -> list[str]:
    """Return the first rows of the sheet as texts, the empty ones too."""
    with _sheet(path, form) as (sheet, _):
        rows = (map(_value, cells) for cells in sheet.iter_rows(max_row=most))
        return [" | ".join(str(value) for value in values if value is not None) for values in rows]


def read_excel(path: Path, form: Format) -> Iterator[dict[str, Any]]:
    """Yield the rows of a sheet: texts, numbers, booleans, dates; the value of a formula; "" for an empty cell.

    Empty rows are left out. A number shown with leading zeros (a postal code) becomes the text shown. A formula
    whose value is not stored, because no spreadsheet has computed it yet, is read as its text, with a warning.

    Raises:
        ConfigurationError: it is not a workbook, or it does not have the sheet.
    """
    with _sheet(path, form) as (sheet, _):
        header, place, rows = _header(sheet, form)
        with _formulas(path, form, place) as formulas:
            for number, cells in enumerate(rows, start=place + 1):
                values = [_value(cell) for cell in cells]
                if formulas is not None:
                    values = _with_formulas(path, values, next(formulas, list[Any]()))
                if any(value is not None for value in values):
                    yield _row(header, values, number)


def _with_formulas(path: Path, values: list[Any], written: list[Any]) -> list[Any]:
    """Return the values of a row; if the value of a formula is not stored, the formula itself."""
    known = [
        formula if value is None and isinstance(formula, str) and formula.startswith("=") else value
        for value, formula in zip_longest(values, written)
    ]
    if known != values:
        warnings.warn(f"{path} has formulas without a stored value: they are read as text", stacklevel=2)
    return known


@contextmanager
def _sheet(path: Path, form: Format, *, values: bool = True) -> Generator[tuple[Any, list[str]]]:
    """Open the requested sheet, and name the others."""
    openpyxl = _openpyxl()
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=values)
    except Exception as error:  # openpyxl passes on anything that zip and XML raise
        raise ConfigurationError(
            f"can't read {path} as an Excel file: {snippet(error)}. Save it again in a spreadsheet, as .xlsx or .csv"
        ) from error
    try:
        names = [sheet.title for sheet in book.worksheets]
        shown = [sheet.title for sheet in book.worksheets if sheet.sheet_state == "visible"]
        name = form.sheet or (shown or names)[0]
        if name not in names:
            name = next((one for one in names if composed(one) == composed(name)), name)
        if name not in names and name.isdecimal() and 0 < int(name) <= len(names):
            name = names[int(name) - 1]
        if name not in names:
            raise ConfigurationError(f"{path} has no sheet {name[:40]!r}; it has {', '.join(map(repr, names))}")
        sheet = book.worksheets[names.index(name)]
        sheet.reset_dimensions()  # Some programs write a wrong size: the actual cells count.
        yield sheet, [other for other in names if other != name]
    finally:
        book.close()


@contextmanager
def _formulas(path: Path, form: Format, header: int) -> Generator[Iterator[list[Any]] | None]:
    """Give the rows with their formulas instead of values; None if the workbook has no formulas."""
    with zipfile.ZipFile(path) as archive:
        sheets = [name for name in archive.namelist() if name.startswith("xl/worksheets/")]
        if not any(_has_formula(archive, name) for name in sheets):
            yield None
            return
    with _sheet(path, form, values=False) as (written, _):
        # The formula of several cells is an object with a text.
        yield (
            [getattr(cell.value, "text", cell.value) for cell in cells]
            for cells in written.iter_rows(min_row=header + 1)
        )


def _has_formula(archive: zipfile.ZipFile, name: str) -> bool:
    tail = b""
    with archive.open(name) as file:
        while block := file.read(1 << 20):
            if re.search(rb"<(\w+:)?f[ >/]", tail + block):
                return True
            tail = block[-16:]
    return False


def _header(sheet: Any, form: Format) -> tuple[Header, int, Iterator[Any]]:
    """Return the columns, the number of the row that names them, and the rows below."""
    rows, values, place = sheet.iter_rows(min_row=form.header), list[Any](), form.header - 1
    for cells in rows:
        place, values = place + 1, [_value(cell) for cell in cells]
        if form.header > 1 or any(value is not None for value in values):
            break  # Empty rows above the names are skipped, as in CSV.
    while values and values[-1] is None:
        values.pop()  # Formatted but empty columns at the right.
    first: list[Any] = list(islice(rows, _PEEKED))
    values += [None] * (_columns_of(first) - len(values))
    return header_of([cell_text(value) for value in values]), place, chain(first, rows)


def _columns_of(rows: list[Any]) -> int:
    """Return the number of columns up to the last that most rows have a value in; a stray note is not a column."""
    filled = Counter(place for cells in rows for place, cell in enumerate(cells, start=1) if cell.value is not None)
    return max((place for place, count in filled.items() if 2 * count > max(2, len(rows))), default=0)


def _row(header: Header, values: list[Any], number: int) -> dict[str, Any]:
    names = header.names
    texts = ["" if value is None else value for value in values]
    row: dict[str, Any] = dict.fromkeys(names, "") | dict(zip(names, texts, strict=False))
    past = {
        free_column(f"column_{place}", names): value
        for place, value in enumerate(texts, start=1)
        if place > len(names) and value != ""
    }
    if past:
        return BrokenRow(row | past, error=InputError(f"row {number} has a value in a column without a name"))
    return row


def _value(cell: Any) -> Any:
    value = cell.value
    if isinstance(value, str):
        return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), value)
    if isinstance(value, datetime) and "h" not in cell.number_format.lower() and value.time() == time():
        return value.date()  # a time that the format hides is kept
    # A postal code is often the number 1234 shown as 01234: use the text that people see.
    if isinstance(value, int) and not isinstance(value, bool) and re.fullmatch("00+", cell.number_format):
        return f"{'-' if value < 0 else ''}{abs(value):0{len(cell.number_format)}}"
    return value


def _openpyxl() -> Any:
    try:
        return import_module("openpyxl")
    except ImportError as error:
        raise ConfigurationError('Excel files need openpyxl: pip install "llmtasker[data]"') from error
