"""The arguments, options and exit codes that several commands share."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from llmtasker.files import FormatOptions, Kind
    from llmtasker.signature.signature import Signature

SOME_FAILED = 1
"""Exit code: some rows failed."""
WRONG = 2
"""Exit code: the set-up is wrong; nothing was done."""
INTERRUPTED = 130
"""Exit code: stopped; finished rows are kept."""


def as_written(text: str) -> str:
    """Return a text of the command line, decoded as UTF-8 where the locale can't decode it (such as LC_ALL=C)."""
    with contextlib.suppress(UnicodeError):
        return os.fsencode(text).decode()
    return text


TEXT: dict[str, Any] = {"parser": as_written, "metavar": "<str>"}
"""Settings of an option whose text may have accents; not for file names."""

TaskName = Annotated[
    str,
    typer.Argument(
        metavar="TASK",
        help="FILE.py:TASK or package.module:TASK, such as triage.py:triage; or a task file: better.json, or "
        "triage.py:triage+better.json if it needs the classes of a task.",
    ),
]
InputArgument = Annotated[
    Path, typer.Argument(metavar="INPUT", help="CSV, JSON lines, JSON, Parquet or Excel, also compressed; - for stdin.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Where the rows go, with their answers; default: INPUT.answers; - for stdout."),
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column", "-c", help="The column of an input field: COLUMN, or FIELD=COLUMN if there are several.", **TEXT
    ),
]
GoldColumn = Annotated[
    list[str] | None,
    typer.Option(
        "--gold",
        "-g",
        help="The column of the right answers: COLUMN, or FIELD=COLUMN if there are several.",
        **TEXT,
    ),
]
Concurrency = Annotated[
    int | None,
    typer.Option(min=1, help="Rows to process at once; default: 32, or the max_concurrency of the LLM, if larger."),
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Use only the first rows.")]
KindOption = Annotated[
    str | None, typer.Option(help="The format of the input: csv, jsonl, json, parquet or excel; default: by its name.")
]
Delimiter = Annotated[str | None, typer.Option(help="The delimiter of a CSV file; default: detected.")]
Encoding = Annotated[str | None, typer.Option(help="The encoding of the input; default: detected.")]
HeaderLine = Annotated[int, typer.Option("--header", min=1, help="The line with the column names.")]
Sheet = Annotated[
    str | None,
    typer.Option(help="The name or number of an Excel sheet; default: the first visible one.", **TEXT),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output of another run.")]
Model = Annotated[str | None, typer.Option("--llm", help='Such as "openai/gpt-4.1-mini"; default: LLMTASKER_LLM.')]
Directory = Annotated[Path | None, typer.Option(help="The cache folder; default: LLMTASKER_CACHE_DIR, or the user's.")]


def say(text: str) -> None:
    """Print a line to standard error, apart from the output."""
    typer.echo(text, err=True)


def format_options(
    kind: str | None, delimiter: str | None, encoding: str | None, header: int, sheet: str | None
) -> FormatOptions:
    """Return how a file is to be read; what is None is detected."""
    known = cast("Kind | None", kind)  # an unknown kind is an error of `detect`
    return {"kind": known, "delimiter": delimiter, "encoding": encoding, "header": header, "sheet": sheet}


def gold_columns(signature: type[Signature], column: list[str] | None, gold: list[str] | None) -> dict[str, str]:
    """Return the columns that --column and --gold name, by field: FIELD=COLUMN, or COLUMN if there is one field.

    `--column FIELD=COLUMN` accepts an output field too.

    Raises:
        ConfigurationError: there is no such field.
    """
    inputs, outputs = list(signature.input_fields), list(signature.output_fields)
    named = _by_field(column or [], inputs, [*inputs, *outputs], "--column")
    return named | _by_field(gold or [], outputs, outputs, "--gold")


def _by_field(chosen: list[str], own: list[str], known: list[str], option: str) -> dict[str, str]:
    from llmtasker.errors import ConfigurationError

    found = dict[str, str]()
    for one in chosen:
        name, equals, column = one.partition("=")
        if not equals and len(own) == 1:
            name, column = own[0], one
        if name not in known or not column:
            raise ConfigurationError(f"{option} {one}: give field=column, where field is one of {', '.join(own)}.")
        if found.get(name, column) != column:
            raise ConfigurationError(f"{option} {one}: {name!r} has the column {found[name]!r} already; give one.")
        found[name] = column
    return found
