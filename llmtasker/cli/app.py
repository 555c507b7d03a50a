"""The command line: `llmtasker COMMAND`. Vendor SDKs are loaded where they are needed.

app, command, parameters, load_task   the frame of the commands: errors, shared options, the user's task
file_commands, file_job             run, classify, preview: run a task over the rows of a file, and resume a stopped run
serve, listening                    tasks over HTTP
evaluation_commands                 evaluate, compare; optimize_command: optimize
batch_commands, cache_commands      the provider's batch API; the cache
demo, demo_task                     what `llmtasker demo` runs
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from llmtasker.cli.batch_commands import batch_app
from llmtasker.cli.cache_commands import cache_app
from llmtasker.cli.command import Commands
from llmtasker.cli.evaluation_commands import compare, evaluate
from llmtasker.cli.file_commands import classify, preview, run
from llmtasker.cli.optimize_command import optimize
from llmtasker.cli.parameters import Model, say
from llmtasker.cli.serve import serve

app = Commands(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Declare LLM text tasks as Pydantic signatures and run them in bulk on private data.",
)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        out: Any = stream
        if isinstance(out, io.TextIOWrapper):
            # A user's text may contain characters that the terminal can't show.
            out.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        app()


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    say(f"llmtasker: warning: {message}")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("llmtasker"))
        raise typer.Exit


@app.callback()
def common(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Declare LLM text tasks as Pydantic signatures and run them in bulk on private data."""


@app.command()
def demo(
    llm: Model = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the answers go.")] = Path("demo-results.csv"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask again for cached rows.")] = False,
) -> None:
    """Classify 120 customer messages with the built-in baseline or your LLM, and measure the accuracy."""
    from llmtasker.cli.demo import show

    show(llm=llm or os.environ.get("LLMTASKER_LLM") or "offline", out=out, fresh=fresh)


for command in (run, classify, preview, serve, evaluate, compare, optimize):
    app.command()(command)
app.add_typer(cache_app, name="cache")
app.add_typer(batch_app, name="batch")
