"""llmtasker batch submit | status | fetch | cancel | list: the provider's batch API from the shell."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import typer

from llmtasker.cli.options import SOME_FAILED, Columns, Delimiter, Encoding, Model, TaskName

if TYPE_CHECKING:
    from llmtasker.item import Item
    from llmtasker.runner.batch import BatchStatus
    from llmtasker.task import Task

Load: TypeAlias = "Callable[[str, str | None], Task[Any]]"
"""What returns the task that FILE.py:TASK names; the command line hands it in as the context's object."""

batch_app = typer.Typer(
    no_args_is_help=True, help="Have rows answered by the provider's batch API: cheaper, within a day."
)

Source = Annotated[Path, typer.Argument(metavar="INPUT", help="CSV, JSON lines, JSON, Parquet or Excel.")]
JobId = Annotated[str | None, typer.Option("--job", help="The id of the job; else the latest of this task.")]
Poll = Annotated[float, typer.Option(min=0.1, help="Seconds between two looks while waiting.")]


def _load(context: typer.Context, task: str, llm: str | None) -> Task[Any]:
    return cast("Load", context.obj)(task, llm)


def _say(text: str) -> None:
    typer.echo(text, err=True)


@batch_app.command()
def submit(
    context: typer.Context,
    task_name: TaskName,
    source: Source,
    column: Columns = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows.")] = None,
    trial: Annotated[int, typer.Option(min=0, help="So many rows are asked at once, before the others are sent.")] = 0,
    llm: Model = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
) -> None:
    """Send the rows of a file that are neither cached nor sent already, and print the id of the job."""
    from itertools import islice

    from llmtasker.cli.file_job import choose_columns
    from llmtasker.errors import ConfigurationError
    from llmtasker.files import BrokenRow, read_rows

    task = _load(context, task_name, llm)
    header = next(read_rows(source, delimiter=delimiter, encoding=encoding), None)
    if header is None:
        raise ConfigurationError(f"{source} has no rows.")
    columns = choose_columns(task.signature, header, column or ())

    def inputs() -> Iterator[dict[str, Any]]:
        for row in islice(read_rows(source, delimiter=delimiter, encoding=encoding), limit):
            if not isinstance(row, BrokenRow):
                yield {name: row[found] for name, found in columns.items() if found in row}

    if trial:
        tried = task.run(islice(inputs(), trial), progress=False)
        if len(tried.errors) == len(tried):
            raise ConfigurationError(f"nothing was sent: no row could be answered: {tried.errors[0]}")
    job = task.submit(inputs())
    typer.echo(job.id)
    _say(f"{job!r}. Fetch the answers with: llmtasker batch fetch {task_name} {source}")


@batch_app.command()
def status(context: typer.Context, task_name: TaskName, job: JobId = None, llm: Model = None) -> None:
    """Ask the provider where a job stands."""
    found = _load(context, task_name, llm).batch(job)
    typer.echo(f"{found.id}  {found.status()}")


@batch_app.command()
def fetch(
    context: typer.Context,
    task_name: TaskName,
    source: Source,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where the rows go, with their answers.")] = None,
    column: Columns = None,
    job: JobId = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until the job has ended.")] = False,
    poll: Poll = 60.0,
    reask: Annotated[bool, typer.Option("--reask", help="Ask one by one for answers that do not fit.")] = False,
    llm: Model = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
) -> None:
    """Write the rows with their answers; what is not answered yet is fetched when the command is run again."""
    from llmtasker.cli.file_job import Job
    from llmtasker.files import detect

    task = _load(context, task_name, llm)
    batch = task.batch(job)
    if wait:
        batch.wait(poll=poll, on_status=_Teller().tell)
    answered = _Answered(task=task, stream_items=lambda given: batch.stream(given, reask=reask))
    target = out or source.with_name(f"{source.stem}.answers{source.suffix}")
    writing = Job(
        task=cast("Task[Any]", answered),
        source=source,
        target=target,
        source_format=detect(source, delimiter=delimiter, encoding=encoding),
        columns=column or (),
    )
    tally = writing.run(concurrency=1)
    kinds = "".join(f", {count:,} {code}" for code, count in tally.errors.items())
    earlier = f", {tally.earlier:,} done before" if tally.earlier else ""
    _say(f"{tally.rows:,} rows: {tally.ok:,} ok{kinds}{earlier}. {target}")
    if tally.failed:
        _say(f"the column {writing.error_column!r} says why; the same command looks again, `batch submit` asks again.")
        sys.exit(SOME_FAILED)


@batch_app.command()
def cancel(context: typer.Context, task_name: TaskName, job: JobId = None, llm: Model = None) -> None:
    """Stop a job; what is answered by then can be fetched."""
    found = _load(context, task_name, llm).batch(job)
    typer.echo(f"{found.id}  {found.cancel()}")


@batch_app.command("list")
def list_jobs(
    directory: Annotated[
        Path | None, typer.Option(help="The folder of the cache; else LLMTASKER_CACHE_DIR or the user's.")
    ] = None,
) -> None:
    """List the jobs that are known here; the provider is not asked."""
    from llmtasker.cache import default_directory
    from llmtasker.runner.batch.job_store import Ledger

    records = Ledger((directory or default_directory()) / "batches").all()
    for record in records:
        made = datetime.fromtimestamp(record.created, UTC)
        open_parts = sum(not part.fetched for part in record.parts)
        state = f"{open_parts} to fetch" if open_parts else "fetched"
        typer.echo(f"{record.id}  {made:%Y-%m-%d %H:%M} UTC  {record.task}  {record.model}  {record.size}, {state}")
    if not records:
        _say("no batch jobs")


@dataclass(frozen=True, kw_only=True)
class _Answered:
    """A task that does not ask: the items that it streams come from a batch."""

    task: Task[Any]
    stream_items: Callable[[Iterator[Any]], Iterator[Item[Any]]]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def stream(self, given: Iterator[Any], **_: object) -> Iterator[Item[Any]]:
        return self.stream_items(given)


class _Teller:
    """Tells where a job stands when that has changed."""

    def __init__(self) -> None:
        self._last = ""

    def tell(self, status: BatchStatus) -> None:
        if str(status) != self._last:
            self._last = str(status)
            _say(self._last)
