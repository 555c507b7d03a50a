"""The arguments, options and exit codes that several commands of the command line share."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated, Any

import typer

SOME_FAILED = 1
"""Exit code: rows failed; the others are done."""
WRONG = 2
"""Exit code: the set-up is wrong, nothing was done."""
INTERRUPTED = 130
"""Exit code: stopped; what is finished is kept."""


def as_written(text: str) -> str:
    """Return a text of the command line, as UTF-8 where the locale can't decode it (such as LC_ALL=C)."""
    with contextlib.suppress(UnicodeError):
        return os.fsencode(text).decode()
    return text


TEXT: dict[str, Any] = {"parser": as_written, "metavar": "<str>"}
"""Settings of an option whose text may have accents; not of one that names a file."""

TaskName = Annotated[
    str, typer.Argument(metavar="TASK", help="FILE.py:TASK or package.module:TASK, such as triage.py:triage.")
]
InputArgument = Annotated[
    Path, typer.Argument(metavar="INPUT", help="CSV, JSON lines, JSON, Parquet or Excel; also packed; - for stdin.")
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Where the rows go, with their answers; - for stdout.")]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column", "-c", help="The column of an input field: COLUMN, or FIELD=COLUMN where there are several.", **TEXT
    ),
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Only the first rows.")]
KindOption = Annotated[
    str | None, typer.Option(help="Of the input: csv, jsonl, json, parquet or excel; else by its name.")
]
Delimiter = Annotated[str | None, typer.Option(help="Between the cells of a CSV file; detected if not given.")]
Encoding = Annotated[str | None, typer.Option(help="Of the input; detected if not given.")]
HeaderLine = Annotated[int, typer.Option("--header", min=1, help="The line that names the columns.")]
Sheet = Annotated[
    str | None,
    typer.Option(help="The name or number of the sheet of an Excel file; else the first that is shown.", **TEXT),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that is not of this very run.")]
Model = Annotated[str | None, typer.Option("--llm", help='Such as "openai/gpt-4.1-mini"; else LLMTASKER_LLM.')]
Directory = Annotated[
    Path | None, typer.Option(help="The folder of the cache; else LLMTASKER_CACHE_DIR or the user's.")
]


def say(text: str) -> None:
    """Print a line for the person at the terminal, apart from the output."""
    typer.echo(text, err=True)


def named_columns(fields: list[str], chosen: list[str], option: str) -> dict[str, str]:
    """Return the columns that an option names by field: COLUMN, where there is one field, or FIELD=COLUMN.

    Raises:
        ConfigurationError: there is no such field.
    """
    from llmtasker.errors import ConfigurationError

    found = dict[str, str]()
    for one in chosen:
        name, equals, column = one.partition("=")
        if not equals and len(fields) == 1:
            name, column = fields[0], one
        if name not in fields or not column:
            raise ConfigurationError(f"{option} {one}: give field=column, where field is one of {', '.join(fields)}.")
        found[name] = column
    return found
