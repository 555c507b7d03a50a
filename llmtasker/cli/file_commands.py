"""llmtasker run | classify | preview: run a task over the rows of a file."""

from __future__ import annotations

import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from llmtasker.cli.parameters import (
    INTERRUPTED,
    SOME_FAILED,
    TEXT,
    ColumnOption,
    Concurrency,
    Delimiter,
    Encoding,
    HeaderLine,
    InputArgument,
    KindOption,
    LimitOption,
    Model,
    Out,
    Overwrite,
    Sheet,
    TaskName,
    format_options,
    say,
)
from llmtasker.cli.tracing import traced

if TYPE_CHECKING:
    from llmtasker.cli.file_job import FileJob, JobCounts
    from llmtasker.files import FormatOptions
    from llmtasker.jobs.pipeline_work import TaskLike
    from llmtasker.runner.budget import Budget
    from llmtasker.task import Task

GroupSizeOption = Annotated[
    str | None, typer.Option("--group-size", help='Rows per message: a number, or "auto"; default: that of the task.')
]
BudgetOption = Annotated[
    str | None, typer.Option("--budget", help="The most to spend: a cost such as 5.00, or calls=…, tokens=…")
]
EstimateOnly = Annotated[bool, typer.Option("--estimate", help="Show the calls, tokens and cost, and send nothing.")]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Ask again for cached rows.")]
RetryErrors = Annotated[bool, typer.Option(help="Ask again for rows that failed in an earlier run.")]

_STANDARD = Path("-")  # standard input or output
_STDOUT = Path("/dev/stdout")


def run(
    task_name: TaskName,
    source: InputArgument,
    out: Out = None,
    column: ColumnOption = None,
    concurrency: Concurrency = None,
    limit: LimitOption = None,
    llm: Model = None,
    group_size: GroupSizeOption = None,
    budget: BudgetOption = None,
    estimate: EstimateOnly = False,
    fresh: FreshOption = False,
    retry_errors: RetryErrors = True,
    overwrite: Overwrite = False,
    kind: KindOption = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    header: HeaderLine = 1,
    sheet: Sheet = None,
) -> None:
    """Run a task or a pipeline over the rows of a file; run the same command again to resume."""
    from llmtasker.cli.load_task import load_runnable

    task = load_runnable(task_name, llm)
    if group_size is not None:
        task = _grouped(task, _group_size(group_size))
    settings = {"columns": column or (), "limit": limit, "retry_errors": retry_errors, "overwrite": overwrite}
    options = {"concurrency": concurrency, "budget": _budget(budget), "fresh": fresh}
    _run_file(task, source, out, format_options(kind, delimiter, encoding, header, sheet), settings, options, estimate)


def classify(
    source: InputArgument,
    label: Annotated[
        list[str], typer.Option("--label", "-l", help="A label, or LABEL=what it means; repeatable.", **TEXT)
    ],
    out: Out = None,
    column: ColumnOption = None,
    instructions: Annotated[str | None, typer.Option(help="What to do; default: a generic prompt.", **TEXT)] = None,
    multi_label: Annotated[bool, typer.Option("--multi-label", help="Several labels may fit.")] = False,
    concurrency: Concurrency = None,
    limit: LimitOption = None,
    llm: Model = None,
    budget: BudgetOption = None,
    estimate: EstimateOnly = False,
    fresh: FreshOption = False,
    overwrite: Overwrite = False,
    kind: KindOption = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    header: HeaderLine = 1,
    sheet: Sheet = None,
) -> None:
    """Choose a label for each row of a file, without a Python file: llmtasker classify -l billing -l delivery FILE."""
    from llmtasker.errors import ConfigurationError
    from llmtasker.tasks.classification import Classification

    meanings = dict[str, str]()
    for name, _, meaning in (one.partition("=") for one in label):
        if name in meanings:
            raise ConfigurationError(f"--label {name} is given twice.")
        meanings[name] = meaning
    task = traced(Classification(llm=llm, labels=meanings, instructions=instructions, multi_label=multi_label))
    settings = {"columns": column or (), "limit": limit, "overwrite": overwrite}
    options = {"concurrency": concurrency, "budget": _budget(budget), "fresh": fresh}
    _run_file(task, source, out, format_options(kind, delimiter, encoding, header, sheet), settings, options, estimate)


def preview(
    task_name: TaskName,
    source: Annotated[Path | None, typer.Argument(metavar="[INPUT]", help="A file; its first row is used.")] = None,
    text: Annotated[str | None, typer.Option(help="The input, instead of a file.", **TEXT)] = None,
    column: ColumnOption = None,
    llm: Model = None,
    kind: KindOption = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    header: HeaderLine = 1,
    sheet: Sheet = None,
) -> None:
    """Show the request for an input, and send nothing."""
    from llmtasker.cli.load_task import load_task
    from llmtasker.errors import ConfigurationError
    from llmtasker.files import detect, read_header, read_rows
    from llmtasker.jobs.chosen_columns import choose_columns

    if (source is None) == (text is None):
        raise ConfigurationError("give either a file or --text.")
    task = load_task(task_name, llm)
    if source is None:
        typer.echo(str(task.preview(text)))
        return
    if not source.exists():
        raise ConfigurationError(f"there is no file {str(source)!r}; if it is a text, write --text before it.")
    form = detect(source, **format_options(kind, delimiter, encoding, header, sheet))
    row = next(read_rows(source, form), None)
    if row is None:
        raise ConfigurationError(f"{source} {form.no_rows}.")
    columns = choose_columns(task.signature, read_header(source, form), column or ())
    typer.echo(str(task.preview({name: row[found] for name, found in columns.items() if found in row})))


def _grouped(task: TaskLike, size: int | Literal["auto"]) -> TaskLike:
    from llmtasker.errors import ConfigurationError
    from llmtasker.task import Task

    if isinstance(task, Task):
        return task.with_(group_size=size)
    raise ConfigurationError(f"--group-size {size}: {task!r} calls its tasks for one row at a time.")


def _group_size(text: str) -> int | Literal["auto"]:
    from llmtasker.errors import ConfigurationError

    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) < 1:
        raise ConfigurationError(f"--group-size {text}: give a number of rows, or auto.")
    return int(text)


def _budget(text: str | None) -> Budget | None:
    from llmtasker.errors import ConfigurationError
    from llmtasker.runner.budget import Budget

    if text is None:
        return None
    name, equals, amount = text.partition("=")
    given = {name: amount} if equals else {"cost": text}
    try:
        limits: dict[str, Any] = {name: float(value) if name == "cost" else int(value) for name, value in given.items()}
        return Budget(**limits)
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"--budget {text}: give a cost above 0 such as 5.00, or calls=1000 or tokens=1000000"
        ) from None


@contextmanager
def _opened(source: Path, kind: str | None) -> Generator[Path]:
    """Give a file that can be read several times: standard input is copied, a compressed file is unpacked once."""
    from llmtasker.errors import ConfigurationError
    from llmtasker.files.compressed import spooled, unpacked

    if source == _STANDARD and kind is None:
        raise ConfigurationError("standard input needs --kind and --out.")
    name = f"stdin.{'xlsx' if kind == 'excel' else kind}"
    with spooled(sys.stdin.buffer, name) if source == _STANDARD else unpacked(source) as place:
        try:
            yield place
        except ConfigurationError as error:  # which names the copy
            shown = "standard input" if source == _STANDARD else str(source)
            raise ConfigurationError(error.args[0].replace(str(place), shown), give=error.give) from error


def _target(source: Path, out: Path | None) -> Path:
    from llmtasker.errors import ConfigurationError
    from llmtasker.files.compressed import COMPRESSED

    if out is not None:
        return _STDOUT if out == _STANDARD else out
    if source == _STANDARD:
        raise ConfigurationError("standard input needs --kind and --out.")
    if not source.name:
        raise ConfigurationError(f"{source} is a folder; give a file")
    whole = source.with_suffix("") if source.suffix in COMPRESSED else source
    ending = ".xlsx" if whole.suffix.lower() == ".xlsm" else whole.suffix  # macros are not written
    return whole.with_name(f"{whole.stem}.answers{ending}")


def _run_file(
    task: TaskLike,
    source: Path,
    out: Path | None,
    given: FormatOptions,
    settings: dict[str, Any],
    options: dict[str, Any],
    estimate: bool,
) -> None:
    from llmtasker.cli.file_job import FileJob
    from llmtasker.files import detect

    estimated = _estimable(task) if estimate else None
    target = _target(source, out)
    with _opened(source, given.get("kind")) as place:
        form = detect(place if source == _STANDARD else source, **given)
        job = FileJob(
            task=task, source=place, origin=source, target=target, source_format=form, begin=_show_source, **settings
        )
        if estimated is None:
            _run_job(job, options)
        else:
            _show_estimate(estimated, job, fresh=options["fresh"])


def _estimable(task: TaskLike) -> Task[Any]:
    from llmtasker.errors import ConfigurationError
    from llmtasker.task import Task

    if isinstance(task, Task):
        return task
    raise ConfigurationError(
        f"--estimate: the calls of {task!r} are known only after it has run. Try --limit 20: the line of counts "
        "shows its calls, and a run over all rows takes these rows from the cache."
    )


def _show_source(job: FileJob) -> None:
    """Print how the source is read, before anything is asked: a wrong guess costs nothing then."""
    from llmtasker.errors import counted

    source = "standard input" if job.origin == _STANDARD else job.origin
    for note in job.notes:
        say(f"llmtasker: {source}: {note}")
    say(f"{source}: {job.source_format}, {counted(job.counts.rows, 'row')}")


def _show_estimate(task: Task[Any], job: FileJob, *, fresh: bool) -> None:
    from llmtasker.errors import counted

    asked = task.with_(cache=False) if fresh else task
    estimate = asked.estimate(job.unfinished())
    _show_source(job)
    typer.echo(str(estimate))
    if job.counts.earlier:
        say(f"{counted(job.counts.earlier, 'row')} done before, not in the estimate")


def _run_job(job: FileJob, options: dict[str, Any]) -> None:
    from llmtasker.errors import ConfigurationError, counted

    if not job.lasting and not job.retry_errors:
        raise ConfigurationError(
            f"--no-retry-errors: {job.task!r} has no version, so the rows of an earlier run may come from other code, "
            'and all rows run again. Write @pipeline(version="1"), and change the version when you change the code.'
        )
    try:
        with _terminated_as_interrupt():
            job.run(**options)
    except KeyboardInterrupt:
        kept = counted(job.kept(), "row")
        if job.lasting:
            say(f"llmtasker: stopped; {kept} kept in {job.journal_path}. The same command resumes from there.")
        else:
            say(f"llmtasker: stopped after {kept}. The same command runs them again, from the caches of the steps.")
        sys.exit(INTERRUPTED)
    if options["fresh"] and job.counts.earlier:
        say(f"--fresh asks no row twice: {job.journal_path} has those done before. Delete it to ask them again.")
    show_counts(job)


def _advice(counts: JobCounts) -> str:
    """Return what to do about rows that failed: those whose input is wrong were never asked."""
    asked = counts.failed - counts.errors.get("input", 0)
    if asked == counts.failed:
        return "The same command asks them again."
    again = f"The same command asks {asked:,} again; for the others nothing" if asked else "Nothing"
    return f"{again} was sent: correct {'those' if asked else 'these'} rows in the input."


def show_counts(job: FileJob) -> None:
    """Print how the rows of a job ended; exit with SOME_FAILED if rows failed."""
    from llmtasker.errors import counted

    counts = job.counts
    parts = [f"{counts.earlier:,} done before"] if counts.earlier else []
    if counts.earlier == counts.rows:
        parts = ["all done before"]
    else:
        parts += [
            f"{counts.ok:,} ok",
            f"{counts.failed:,} failed",
            f"{counts.cached:,} from the cache{' or an equal row' if counts.cached else ''}",
        ]
        parts.append(counted(round(counts.calls), "call"))
    target = "standard output" if job.target == _STDOUT else job.target
    say(f"{counted(counts.rows, 'row')}: {', '.join(parts)}. {target}")
    if counts.failed:
        kinds = ", ".join(f"{count:,} {code}" for code, count in counts.errors.items())
        say(f"failed: {kinds}; the column {job.error_column!r} has the reasons. {_advice(counts)}")
        sys.exit(SOME_FAILED)


@contextmanager
def _terminated_as_interrupt() -> Generator[None]:
    """Let SIGTERM and a closed terminal end a run as Ctrl-C does: finished rows are kept."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = [(number, signal.signal(number, interrupt)) for number in signals]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
