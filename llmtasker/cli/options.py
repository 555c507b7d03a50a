"""The arguments, options and exit codes that several commands of the command line share."""

from __future__ import annotations

from typing import Annotated

import typer

SOME_FAILED = 1
"""Exit code: rows failed; the others are done."""

TaskName = Annotated[str, typer.Argument(metavar="FILE.py:TASK", help="A Python file and the name of a task in it.")]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column", "-c", help="The column of an input field: COLUMN, or FIELD=COLUMN where there are several."
    ),
]
Delimiter = Annotated[str | None, typer.Option(help="Between the cells of the CSV input; seen if not given.")]
Encoding = Annotated[str | None, typer.Option(help="Of the input; seen if not given.")]
Model = Annotated[str | None, typer.Option("--llm", help='Such as "openai/gpt-4.1-mini"; else LLMTASKER_LLM.')]
