"""llmtasker batch submit | status | fetch | cancel | list: the provider's batch API from the shell."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from llmtasker.cli.command import Commands
from llmtasker.cli.parameters import (
    SOME_FAILED,
    ColumnOption,
    Delimiter,
    Directory,
    Encoding,
    InputArgument,
    LimitOption,
    Model,
    Out,
    Overwrite,
    TaskName,
    say,
)

if TYPE_CHECKING:
    from llmtasker.runner.batch.job import BatchStatus

batch_app = Commands(no_args_is_help=True, help="Send rows to the provider's batch API: cheaper, within a day.")

JobId = Annotated[str | None, typer.Option("--job", help="The id of the job; default: the latest of this task.")]
Poll = Annotated[float, typer.Option(min=0.1, help="Seconds between checks while waiting.")]


@batch_app.command()
def submit(
    task_name: TaskName,
    source: InputArgument,
    column: ColumnOption = None,
    limit: LimitOption = None,
    trial: Annotated[int, typer.Option(min=0, help="Ask this many rows first, one by one.")] = 0,
    llm: Model = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
) -> None:
    """Send the rows of a file that are neither cached nor sent yet, and print the id of the job."""
    from itertools import islice

    from llmtasker.cli.file_job import FileJob
    from llmtasker.cli.load_task import load_task
    from llmtasker.errors import ConfigurationError
    from llmtasker.files import BrokenRow, detect

    task = load_task(task_name, llm)
    form = detect(source, delimiter=delimiter, encoding=encoding)
    rows = FileJob(task=task, source=source, target=source, source_format=form, columns=column or (), limit=limit)
    if trial:
        whole = (row for row in rows.inputs() if not isinstance(row, BrokenRow))
        tried = task.run(islice(whole, trial), progress=False)
        if len(tried.errors) == len(tried):
            raise ConfigurationError(f"nothing was sent: no row could be answered: {tried.errors[0]}")
    job = task.submit(rows.inputs())
    typer.echo(job.id)
    say(f"{job!r}. Fetch the answers with: llmtasker batch fetch {task_name} {source}")


@batch_app.command()
def status(task_name: TaskName, job: JobId = None, llm: Model = None) -> None:
    """Show the status of a job at the provider."""
    from llmtasker.cli.load_task import load_task

    found = load_task(task_name, llm).batch(job)
    typer.echo(f"{found.id}  {found.status()}")


@batch_app.command()
def fetch(
    task_name: TaskName,
    source: InputArgument,
    out: Out = None,
    column: ColumnOption = None,
    job: JobId = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the job has ended.")] = False,
    poll: Poll = 60.0,
    overwrite: Overwrite = False,
    reask: Annotated[bool, typer.Option("--reask", help="Ask again, one by one, for answers that do not fit.")] = False,
    llm: Model = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
) -> None:
    """Write the rows with their answers; run it again to fetch those that are not answered yet."""
    from llmtasker.cli.file_job import FileJob
    from llmtasker.cli.load_task import load_task
    from llmtasker.errors import counted
    from llmtasker.files import detect

    task = load_task(task_name, llm)
    batch = task.batch(job)
    if wait:
        batch.wait(poll=poll, on_status=_StatusPrinter().show)
    target = out or source.with_name(f"{source.stem}.answers{source.suffix}")
    writing = FileJob(
        task=task,
        source=source,
        target=target,
        source_format=detect(source, delimiter=delimiter, encoding=encoding),
        columns=column or (),
        overwrite=overwrite,
        stream=lambda inputs: batch.stream(inputs, reask=reask),
    )
    counts = writing.run()
    kinds = "".join(f", {count:,} {code}" for code, count in counts.errors.items())
    earlier = f", {counts.earlier:,} done before" if counts.earlier else ""
    say(f"{counted(counts.rows, 'row')}: {counts.ok:,} ok{kinds}{earlier}. {target}")
    if counts.failed:
        say(f"the reasons are in the column {writing.error_column!r}; `batch submit` asks for these rows again.")
        sys.exit(SOME_FAILED)


@batch_app.command()
def cancel(task_name: TaskName, job: JobId = None, llm: Model = None) -> None:
    """Stop a job; rows that are answered by then can be fetched."""
    from llmtasker.cli.load_task import load_task

    found = load_task(task_name, llm).batch(job)
    typer.echo(f"{found.id}  {found.cancel()}")


@batch_app.command("list")
def list_jobs(
    directory: Directory = None,
) -> None:
    """List the jobs known on this machine, without asking the provider."""
    from llmtasker.cache import default_directory
    from llmtasker.runner.batch.job_store import JobStore

    records = JobStore((directory or default_directory()) / "batches").all()
    for record in records:
        made = datetime.fromtimestamp(record.created, UTC)
        open_parts = sum(not part.fetched for part in record.parts)
        state = f"{open_parts} to fetch" if open_parts else "fetched"
        typer.echo(f"{record.id}  {made:%Y-%m-%d %H:%M} UTC  {record.task}  {record.model}  {record.size}, {state}")
    if not records:
        say("no batch jobs")


class _StatusPrinter:
    """Prints the status of a job when it has changed."""

    def __init__(self) -> None:
        self._last = ""

    def show(self, status: BatchStatus) -> None:
        if str(status) != self._last:
            self._last = str(status)
            say(self._last)
