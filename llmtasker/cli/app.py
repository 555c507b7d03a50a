"""llmtasker demo | run | preview | batch | cache: the command line. Vendor SDKs are loaded where they are needed."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtasker.cli.batch import batch_app
from llmtasker.cli.options import SOME_FAILED, Columns, Delimiter, Encoding, Model, TaskName

if TYPE_CHECKING:
    from llmtasker.task import Task

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Declare LLM text tasks as Pydantic signatures and run them in bulk on private data.",
)
cache_app = typer.Typer(no_args_is_help=True, help="Look into the cache, or clear it.")
app.add_typer(cache_app, name="cache")

Directory = Annotated[
    Path | None, typer.Option(help="The folder of the cache; else LLMTASKER_CACHE_DIR or the user's.")
]

_INTERRUPTED = 130
_WRONG = 2


def main() -> None:
    """Run the command line; mistakes are told in a line, without a traceback."""
    from llmtasker.errors import LLMTaskerError

    out: Any = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        # A text of the user may hold what the terminal can't show.
        out.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            app()
    except (LLMTaskerError, OSError) as error:
        _say(f"llmtasker: {error}")
        sys.exit(_WRONG)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _say(f"llmtasker: warning: {message}")


@app.command()
def demo(
    llm: Model = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the answers go.")] = Path("demo-results.csv"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask again what is cached.")] = False,
) -> None:
    """Classify 120 customer messages, with the built-in baseline or an LLM of yours, and measure the accuracy."""
    from llmtasker.cli.demo import show

    show(llm=llm or os.environ.get("LLMTASKER_LLM") or "offline", out=out, fresh=fresh)


@app.command()
def run(
    task_name: TaskName,
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="CSV, JSON lines, JSON, Parquet or Excel.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where the rows go, with their answers.")] = None,
    column: Columns = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Rows that are worked on at once.")] = 32,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows.")] = None,
    llm: Model = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    retry_errors: Annotated[bool, typer.Option(help="Ask again for rows that failed in an earlier run.")] = True,
) -> None:
    """Ask a task for each row of a file; a run that was stopped goes on where it was when it is started again."""
    from llmtasker.cli.file_job import Job
    from llmtasker.files import detect

    task = _load(task_name, llm)
    job = Job(
        task=task,
        source=source,
        target=out or source.with_name(f"{source.stem}.answers{source.suffix}"),
        source_format=detect(source, delimiter=delimiter, encoding=encoding),
        columns=column or (),
        limit=limit,
        retry_errors=retry_errors,
    )
    try:
        with _terminated_as_interrupt():
            tally = job.run(concurrency=concurrency)
    except KeyboardInterrupt:
        done = job.tally.earlier + job.tally.ok + job.tally.failed
        _say(f"llmtasker: stopped; {done:,} rows are in {job.journal_path}. The same command goes on from there.")
        sys.exit(_INTERRUPTED)
    said = [
        f"{tally.ok:,} ok",
        f"{tally.failed:,} failed",
        f"{tally.cached:,} from the cache",
        f"{tally.calls:,} calls",
    ]
    if tally.outdated:
        said.append(f"{tally.outdated:,} earlier ones not used, for the task was changed")
    if tally.earlier:
        said.append(f"{tally.earlier:,} done before")
    _say(f"{tally.rows:,} rows: {', '.join(said)}. {job.target}")
    if tally.failed:
        kinds = ", ".join(f"{count:,} {code}" for code, count in tally.errors.items())
        _say(f"failed: {kinds}; the column {job.error_column!r} says why. The same command asks them again.")
        sys.exit(SOME_FAILED)


@app.command()
def preview(
    task_name: TaskName,
    source: Annotated[Path | None, typer.Argument(metavar="[INPUT]", help="A file; its first row is shown.")] = None,
    text: Annotated[str | None, typer.Option(help="The input, instead of a file.")] = None,
    column: Columns = None,
    llm: Model = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
) -> None:
    """Show what would be sent for an input, and send nothing."""
    from llmtasker.errors import ConfigurationError

    if (source is None) == (text is None):
        raise ConfigurationError("give either a file or --text.")
    task = _load(task_name, llm)
    if source is None:
        typer.echo(str(task.preview(text)))
        return
    from llmtasker.cli.file_job import choose_columns
    from llmtasker.files import read_rows

    row = next(read_rows(source, delimiter=delimiter, encoding=encoding), None)
    if row is None:
        raise ConfigurationError(f"{source} has no rows.")
    columns = choose_columns(task.signature, row, column or ())
    typer.echo(str(task.preview({name: row[found] for name, found in columns.items()})))


@cache_app.command("info")
def cache_info(directory: Directory = None) -> None:
    """Say where the cache is and what is in it."""
    from llmtasker.cache import DiskCache

    info = DiskCache(directory).info()
    typer.echo(f"folder   {info.directory}")
    typer.echo(f"entries  {info.entries:,}")
    typer.echo(f"size     {info.bytes / 1e6:,.1f} MB")
    if info.oldest and info.newest:
        typer.echo(f"from     {info.oldest:%Y-%m-%d %H:%M} to {info.newest:%Y-%m-%d %H:%M} UTC")
    if not info.readable:
        typer.echo("state    not readable")
    elif not info.writable:
        typer.echo("state    not writable")


@cache_app.command("prune")
def cache_prune(
    older_than: Annotated[str | None, typer.Option(help="Remove what is older: 12h, 30d, 8w.")] = None,
    max_size: Annotated[str | None, typer.Option(help="Remove the oldest until it is no larger: 500MB, 2GB.")] = None,
    directory: Directory = None,
) -> None:
    """Remove old answers; they would have to be asked and paid again."""
    from llmtasker.cache import DiskCache
    from llmtasker.errors import ConfigurationError

    if older_than is None and max_size is None:
        raise ConfigurationError("say what to remove: --older-than 30d, --max-size 1GB, or both.")
    seconds = None if older_than is None else _amount(older_than, {"h": 3600, "d": 86400, "w": 604800})
    size = None if max_size is None else int(_amount(max_size, {"kb": 1e3, "mb": 1e6, "gb": 1e9}))
    removed = DiskCache(directory).prune(older_than=seconds, max_bytes=size)
    typer.echo(f"{removed:,} entries removed")


@cache_app.command("clear")
def cache_clear(
    directory: Directory = None, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:
    """Remove all answers; they would have to be asked and paid again."""
    from llmtasker.cache import DiskCache

    cache = DiskCache(directory)
    if not yes:
        typer.confirm(f"Remove all {cache.info().entries:,} answers from {cache.directory}?", abort=True)
    typer.echo(f"{cache.clear():,} entries removed")


def _amount(text: str, units: dict[str, float]) -> float:
    from llmtasker.errors import ConfigurationError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text.strip().lower())
    if found is None or found.group(2) not in units:
        raise ConfigurationError(f"{text!r} is no amount: give a number and one of {', '.join(units)}.")
    return float(found.group(1)) * units[found.group(2)]


def _load(name: str, llm: str | None) -> Task[Any]:
    """Return the task that FILE.py:TASK names."""
    from llmtasker.errors import ConfigurationError
    from llmtasker.task import Task

    if llm is not None:
        os.environ["LLMTASKER_LLM"] = llm
    file, _, attribute = name.rpartition(":")
    path = Path(file)
    if not file or not attribute.isidentifier():
        raise ConfigurationError(f"{name!r} names no task: write FILE.py:TASK, such as triage.py:triage.")
    if not path.is_file():
        raise ConfigurationError(f"there is no file {file}.")
    module = _module(path)
    tasks: dict[str, Task[Any]] = {known: value for known, value in vars(module).items() if isinstance(value, Task)}
    if attribute not in tasks:
        raise ConfigurationError(f"{file} has no task {attribute!r}; it has {', '.join(tasks) or 'none'}.")
    task = tasks[attribute]
    if llm is not None:
        task.llm = task.llm.at(llm)  # also where the file names another one; its settings hold
    return task


def _module(path: Path) -> ModuleType:
    """Run a file of the user's and return its module."""
    from llmtasker.errors import ConfigurationError, LLMTaskerError, snippet

    # A file may have the name of a module that is loaded already.
    full = path.resolve()
    name = path.stem if path.stem not in sys.modules else f"{path.stem} of {full.parent}"
    spec = importlib.util.spec_from_file_location(name, full)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(full.parent))
    try:
        spec.loader.exec_module(module)
    except LLMTaskerError:
        raise
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(full)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        where = f"{path}, line {line}" if line else str(path)
        raise ConfigurationError(f"{where}: {type(error).__name__}: {snippet(error)}") from error
    return module


app.add_typer(batch_app, name="batch", context_settings={"obj": _load})


@contextmanager
def _terminated_as_interrupt() -> Generator[None]:
    """Let SIGTERM end a run as Ctrl-C does: what is finished is kept."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
