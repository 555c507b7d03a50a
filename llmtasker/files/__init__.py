"""Rows in and out of files: CSV as offices write it, JSON lines, JSON, Parquet, Excel; and the journal of a run.

read_rows    a file → its rows, lazily
write_rows   rows → a file, whole or not at all
detect       what a file looks like; output_format: what the next one should look like
Journal      rows appended as they are done, for a run that can be taken up again
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmtasker.files.atomic import replacing
from llmtasker.files.csv_file import read_csv, write_csv
from llmtasker.files.excel_file import read_excel, write_excel
from llmtasker.files.format import Format, Kind, check_readable, detect, output_format
from llmtasker.files.journal import Journal
from llmtasker.files.json_file import read_json, read_jsonl, write_json, write_jsonl
from llmtasker.files.parquet_file import read_parquet, write_parquet
from llmtasker.files.row import BrokenRow

__all__ = ["BrokenRow", "Format", "Journal", "Kind", "detect", "output_format", "read_rows", "write_rows"]

_READERS = {
    "csv": read_csv,
    "jsonl": read_jsonl,
    "json": read_json,
    "parquet": read_parquet,
    "excel": read_excel,
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
    *,
    kind: Kind | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    decimal: str | None = None,
    neutralised: bool = False,
) -> Iterator[dict[str, Any]]:
    """Return the rows of a file, one dict each, read as they are asked for.

    What is not given, by `format` or by a word that overrules it, is seen: see `detect`.
    CSV, JSON lines and Parquet take the same memory however long they are; a JSON array is read as a whole.
    The values of CSV are the texts as they stand there: `01234`, `NA`, `NULL` and the empty text are kept. JSON,
    Parquet and Excel have the types of the file. A row that can't be read whole is a `BrokenRow` in its place.

    Raises ConfigurationError when the file can't be read, is not of its kind, has a column name twice or none,
    or needs the extra `[data]`.
    """
    if format is None:
        format = detect(  # noqa: A001 - as above
            path, kind=kind, delimiter=delimiter, encoding=encoding, decimal=decimal, neutralised=neutralised
        )
    else:
        check_readable(Path(path))
        given: dict[str, Any] = {"kind": kind, "delimiter": delimiter, "encoding": encoding, "decimal": decimal}
        given["neutralised"] = neutralised
        format = replace(format, **{name: value for name, value in given.items() if value})  # noqa: A001 - as above
    return _READERS[format.kind](Path(path), format)


def write_rows(
    path: str | os.PathLike[str],
    rows: Iterable[Mapping[str, Any]],
    *,
    format: Format | None = None,  # noqa: A002 - as above
    neutralise_formulas: bool = False,
    columns: Sequence[str] | None = None,
) -> int:
    """Write rows to a file and return their number; the file is there when it is whole, else as it was before.

    `format` is what `output_format` says for the name when it is not given. `columns` chooses and orders the
    columns; without it there is one for each name that any row has. In CSV and Excel, None is an empty cell, what
    is nested is JSON text.
    `neutralise_formulas` writes an apostrophe before text that a spreadsheet would run (`=`, `+`, `-`, `@`, tab,
    line ends); `read_rows(..., neutralised=True)` takes it away. It is of CSV only: in Excel files text is always
    stored as text.

    Warns when characters made another encoding necessary or a text had to be cut for Excel.
    Raises ConfigurationError when the folder can't be written or the extra `[data]` is missing, OSError when the
    disk is full.
    """
    form = format or output_format(path)
    if neutralise_formulas:
        form = replace(form, neutralised=True)
    with replacing(path) as file:
        return _WRITERS[form.kind](file, rows, form, columns)
