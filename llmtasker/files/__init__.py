"""Read and write rows of files: CSV as office programs write it, JSON lines, JSON, Parquet, Excel; and the journal of a
run.

read_rows      a file → its rows, lazily
read_header    a file → the names of its columns
write_rows     rows → a file, whole or not at all
detect         the format of a file; output_format: the format of an output
Journal        the finished rows of a run that can be resumed

csv_file, json_file, parquet_file, excel_file   one format each
csv_output, excel_output, block_buffer          written while the rows come
detect, encoding, dialect, format, header       the format of a file
cells, compressed, atomic                       values of cells; compressed files; whole or not at all
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from llmtasker.files.atomic import replacing
from llmtasker.files.compressed import unpacked
from llmtasker.files.csv_file import csv_header, csv_lines, read_csv
from llmtasker.files.csv_output import write_csv
from llmtasker.files.detect import FormatOptions, check_readable, detect
from llmtasker.files.excel_file import excel_header, excel_lines, read_excel
from llmtasker.files.excel_output import write_excel
from llmtasker.files.format import Format, Kind, output_format
from llmtasker.files.header import Header
from llmtasker.files.journal import Journal
from llmtasker.files.json_file import json_header, read_json, read_jsonl, write_json, write_jsonl
from llmtasker.files.parquet_file import parquet_header, read_parquet, write_parquet
from llmtasker.values.broken_row import BrokenRow

__all__ = [
    "BrokenRow",
    "Format",
    "FormatOptions",
    "Header",
    "Journal",
    "Kind",
    "detect",
    "output_format",
    "read_header",
    "read_rows",
    "write_rows",
]

_READERS = {
    "csv": read_csv,
    "jsonl": read_jsonl,
    "json": read_json,
    "parquet": read_parquet,
    "excel": read_excel,
}
_HEADERS = {
    "csv": csv_header,
    "jsonl": json_header,
    "json": json_header,
    "parquet": parquet_header,
    "excel": excel_header,
}
_WRITERS = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "json": write_json,
    "parquet": write_parquet,
    "excel": write_excel,
}


def read_rows(
    path: str | os.PathLike[str],
    format: Format | None = None,  # noqa: A002 - the word that users of `open`, pandas and polars look for
    **given: Unpack[FormatOptions],
) -> Iterator[dict[str, Any]]:
    """Return the rows of a file, one dict each, read lazily.

    What neither `format` nor a keyword of `detect` sets is detected in the file.
    CSV, JSON lines and Parquet take the same memory however long they are; a JSON array is read as a whole.
    The values of CSV are texts exactly as in the file: `01234`, `NA`, `NULL` and the empty text are kept. JSON,
    Parquet and Excel have the types of the file. A row that can't be read completely is a `BrokenRow` in its place.
    A column without a name, or with a duplicate one, gets a name; see `read_header`.

    Raises:
        ConfigurationError: the file can't be read, has another format than its name, or needs the extra `[data]`.
    """
    file = Path(path)
    if format is None:
        form = detect(path, **given)
    else:
        check_readable(file)
        form = _overruled(format, given)
    return _rows(file, form)


def _overruled(form: Format, given: FormatOptions) -> Format:
    options: dict[str, Any] = {name: value for name, value in given.items() if value}
    return replace(form, **options)


def _rows(file: Path, form: Format) -> Generator[dict[str, Any]]:
    with unpacked(file) as place:
        yield from _READERS[form.kind](place, form)


def read_header(path: str | os.PathLike[str], format: Format) -> Header:  # noqa: A002 - as above
    """Return the columns of a file, in its order, each with a unique name; `notes` describe the changed names.

    JSON is read to its end, because each row may have its own columns.

    Raises:
        ConfigurationError: the header can't be read.
    """
    with unpacked(Path(path)) as place:
        return _HEADERS[format.kind](place, format)


def typed_cells(row: Mapping[str, Any], source: Format | None, target: Format) -> Mapping[str, Any]:
    """Return the cells of a row as they are written: an empty cell of a workbook, which is read as "", has no value.

    Parquet gives a column one type: among numbers or dates, a text would turn all of them into texts.
    """
    if source is None or source.kind != "excel" or target.kind != "parquet":
        return row
    return {name: None if cell == "" else cell for name, cell in row.items()}


def first_lines(path: str | os.PathLike[str], format: Format, most: int) -> list[str]:  # noqa: A002 - as above
    """Return the first lines of a file as texts: the line with the names of the columns may be any of them.

    Files whose columns are always named by the format (JSON, Parquet) have none.
    """
    reader = {"csv": csv_lines, "excel": excel_lines}.get(format.kind)
    if reader is None:
        return []
    with unpacked(Path(path)) as place:
        return reader(place, format, most)


def write_rows(
    path: str | os.PathLike[str],
    rows: Iterable[Mapping[str, Any]],
    *,
    format: Format | None = None,  # noqa: A002 - as above
    neutralise_formulas: bool = False,
    columns: Sequence[str] | None = None,
) -> int:
    """Write rows to a file and return their number; the file appears when it is complete, and is unchanged until then.

    Without `format`, it is that of `output_format` for the name. `columns` chooses and orders the columns; without it
    there is one for each name in any row. In CSV and Excel, None is an empty cell, and nested values are JSON text.
    `neutralise_formulas` writes an apostrophe before text that a spreadsheet would run (`=`, `+`, `-`, `@`, tab,
    line ends); `read_rows(..., neutralised=True)` removes it. It applies only to CSV: in Excel files text is always
    stored as text.

    Warns if characters require another encoding, or if a text has to be cut for Excel.

    Raises:
        ConfigurationError: the folder can't be written, or the extra `[data]` is missing.
        OSError: the disk is full.
    """
    form = format or output_format(path)
    if neutralise_formulas:
        form = replace(form, neutralised=True)
    with replacing(path) as file:
        return _WRITERS[form.kind](file, rows, form, columns)
