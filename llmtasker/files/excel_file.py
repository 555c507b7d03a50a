"""Excel workbooks in and out, through openpyxl."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from llmtasker.errors import ConfigurationError, InputError, snippet
from llmtasker.files.cells import cell_text
from llmtasker.files.format import Format
from llmtasker.files.row import BrokenRow

MAX_ROWS = 1_048_575
"""Rows that a sheet holds, the header not counted."""
MAX_CELL = 32_767
"""Characters that a cell holds."""
EXACT = 2**53
"""Integers up to this are exact in a cell, which holds a double."""

_ESCAPED = re.compile("_x([0-9A-Fa-f]{4})_")
# What XML does not hold (a lone \r becomes \n), and the underscore of a text that looks like such an escape.
_TO_ESCAPE = re.compile("[\\x00-\\x08\\x0b-\\x1f\\ud800-\\udfff\\ufffe\\uffff]|_(?=x[0-9A-Fa-f]{4}_)")


def read_excel(path: Path, form: Format) -> Iterator[dict[str, Any]]:
    """Yield the rows of the first sheet: texts, numbers, booleans, dates; of a formula its value.

    Empty rows are left out. A number shown with leading zeros (a postal code) is the text that is shown.

    Raises ConfigurationError when it is no workbook, or a column has a name twice or none.
    """
    openpyxl = _openpyxl()
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # openpyxl lets anything through that zip and XML raise
        raise ConfigurationError(f"can't read {path} as an Excel file: {snippet(error)}") from error
    try:
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # Some programs write a wrong size: what is there counts.
        rows = sheet.iter_rows()
        header = _header(path, next(rows, ()))
        for number, cells in enumerate(rows, start=2):
            values = [_value(cell) for cell in cells]
            if any(value is not None for value in values):
                yield _row(header, values, number)
    finally:
        book.close()


def _header(path: Path, cells: Sequence[Any]) -> list[str]:
    values = [_value(cell) for cell in cells]
    while values and values[-1] is None:
        values.pop()  # Formatted but empty columns at the right.
    names = [cell_text(value) for value in values]
    for place, name in enumerate(names, start=1):
        if not name.strip():
            raise ConfigurationError(f"column {place} of {path} has no name; give it one in the first row")
        if names.index(name) < place - 1:
            raise ConfigurationError(
                f"two columns of {path} are called {snippet(name, 40)!r}; rename one in the first row"
            )
    return names


def _row(header: list[str], values: list[Any], number: int) -> dict[str, Any]:
    row = dict.fromkeys(header) | dict(zip(header, values, strict=False))
    if any(value is not None for value in values[len(header) :]):
        return BrokenRow(row, error=InputError(f"row {number} has a value in a column without a name"))
    return row


def _value(cell: Any) -> Any:
    value = cell.value
    if isinstance(value, str):
        return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), value)
    if isinstance(value, datetime) and "h" not in cell.number_format.lower():
        return value.date()
    # A postal code is often the number 1234 shown as 01234: the text that people see is meant.
    if isinstance(value, int) and not isinstance(value, bool) and re.fullmatch("00+", cell.number_format):
        return str(value).zfill(len(cell.number_format))
    return value


def write_excel(file: BinaryIO, rows: Iterable[Mapping[str, Any]], form: Format, columns: Sequence[str] | None) -> int:
    """Write rows as the one sheet of a workbook and return their number.

    Text is stored as text, never as a formula. Integers over 2⁵³, which Excel would round, are text; what
    Excel has no cell for is ISO 8601 or JSON text; texts over 32,767 characters are cut, with a warning.

    Raises ConfigurationError for more than 1,048,575 rows.
    """
    openpyxl = _openpyxl()
    held = rows if columns is not None else list(rows)
    names = list(columns) if columns is not None else list(dict.fromkeys(name for row in held for name in row))
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("rows")
    count = 0
    try:
        sheet.append([_cell(openpyxl, sheet, name) for name in names])
        for count, row in enumerate(held, start=1):
            if count > MAX_ROWS:
                raise ConfigurationError(f"an Excel sheet holds {MAX_ROWS:,} rows; write .csv, .jsonl or .parquet")
            sheet.append([_cell(openpyxl, sheet, row.get(name)) for name in names])
    finally:
        # Also after an error: closing ends the sheet's half-written temporary file.
        sheet.close()
    book.save(file)
    return count


def _cell(openpyxl: Any, sheet: Any, value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) <= EXACT:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, date | time) and _excel_knows(value):
        return value
    # A cell that is told to be text: by itself, openpyxl makes a formula of what begins with "=".
    cell = openpyxl.cell.WriteOnlyCell(sheet)
    cell.value = _text(cell_text(value))
    cell.data_type = "s"
    return cell


def _excel_knows(value: date | time) -> bool:
    """Excel has no time zones, no days before 1900 (nor the right ones before March), and counts milliseconds."""
    if isinstance(value, time):
        return value.tzinfo is None and value.microsecond == 0
    if isinstance(value, datetime) and (value.tzinfo is not None or value.microsecond):
        return False
    return (value.year, value.month) >= (1900, 3)


def _text(text: str) -> str:
    escaped = _TO_ESCAPE.sub(lambda match: f"_x{ord(match[0]):04X}_", text)
    if len(escaped) <= MAX_CELL:
        return escaped
    warnings.warn(f"a text of {len(text):,} characters is cut: an Excel cell holds {MAX_CELL:,}", stacklevel=2)
    return escaped[: MAX_CELL - 1] + "…"


def _openpyxl() -> Any:
    try:
        return import_module("openpyxl")
    except ImportError as error:
        raise ConfigurationError('Excel files need openpyxl: pip install "llmtasker[data]"') from error
