"""The task of a project: from its form, with its request, its cost, and its jobs."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmtasker.api import job_files
from llmtasker.api.api_keys import ApiKey
from llmtasker.api.job_creation import new_job
from llmtasker.api.problem import Problem
from llmtasker.api.served_tasks import Definition
from llmtasker.errors import ConfigurationError, InputError
from llmtasker.files import detect, write_rows
from llmtasker.jobs.chosen_columns import choose_columns, read_input
from llmtasker.jobs.job_rows import NewRow
from llmtasker.jobs.job_state import Job
from llmtasker.jobs.pipeline_work import TaskLike, rows_at_once_of
from llmtasker.jobs.project_store import Project
from llmtasker.task import Task
from llmtasker.ui.table_facts import typed_row
from llmtasker.ui.task_form import FieldForm, LabelForm, TaskForm
from llmtasker.ui.visit import SignInNeededError, Visit

TRIAL = 20
"""Rows of a trial."""

_PRICED = 20  # rows on which an estimate is based


def form_of(visit: Visit, project: Project) -> TaskForm | None:
    """Return the form of a project; None: its task is one of the server's."""
    if project.kind == "classification":
        return LabelForm.of(project.definition, visit.language.code)
    return FieldForm.of(project.definition) if project.kind == "instruction" else None


def task_of(visit: Visit, project: Project) -> tuple[TaskLike, Definition | None]:
    """Return the task of a project, with its definition if it is not the server's own.

    Raises:
        Problem: the form is not a valid task, or the server no longer has it.
    """
    form = form_of(visit, project)
    if form is None:
        return visit.server.tasks.named(project.kind), None
    definition = form.definition()
    return visit.server.tasks.described(project.kind, definition), definition


def columns_of(project: Project, task: TaskLike) -> dict[str, str]:
    """Return the column of each input field: the chosen one, that of its name, or the texts for the one that is left.

    Raises:
        Problem: a field has no column.
    """
    chosen = {field: column for field, column in project.columns.items() if field in task.signature.input_fields}
    fields = task.signature.input_fields
    left = [name for name in fields if fields[name].is_required() and name not in {*chosen, *project.header}]
    texts = project.columns["text"]
    rest = {left[0]: texts} if len(left) == 1 and texts not in {*chosen.values(), *fields} else {}
    try:
        pairs = [f"{field}={column}" for field, column in {**chosen, **rest}.items()]
        return choose_columns(task.signature, project.header, pairs)
    except ConfigurationError as error:
        raise Problem("file", str(error.args[0])) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The request for a row: messages with their roles, and the schema of the answer as JSON."""

    number: int
    messages: list[Mapping[str, Any]]
    schema: Mapping[str, Any] | None
    given: Mapping[str, Any]
    refused: str | None = None


def sent(project: Project, task: TaskLike, sample: Sequence[Mapping[str, Any]], place: int) -> Sent | None:
    """Return what is sent for a row of the sample; None: it has no rows, or it is a pipeline."""
    if not sample or not isinstance(task, Task):
        return None
    one = sample[place % len(sample)]
    given = read_input(task.signature, one["row"], columns_of(project, task))
    try:
        preview = task.preview(given)
    except InputError as error:
        return Sent(number=one["number"], messages=[], schema=None, given=given, refused=error.message)
    return Sent(number=one["number"], messages=list(preview.messages), schema=preview.schema, given=given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The cost of a run, estimated from some of its rows: calls, tokens, US dollars (None: the price is not known)."""

    rows: int
    calls: int
    tokens_in: int
    tokens_out: int
    cost: float | None
    seconds: float | None


def price(visit: Visit, project: Project, task: TaskLike, sample: Sequence[Mapping[str, Any]]) -> Price | None:
    """Return the estimate of a run over all rows; None: the calls of a pipeline are not known in advance."""
    columns = columns_of(project, task)
    if not isinstance(task, Task):
        return None
    some = sample[:_PRICED]
    rows = project.rows - project.broken_rows
    found = task.estimate([read_input(task.signature, one["row"], columns) for one in some])
    scale = rows / len(some) if some else 0.0
    count = max(1, found.distinct - found.cached)
    one = task.llm.tokens.expected(0)
    calls = round(scale * (found.distinct - found.cached)) if some else 0
    return Price(
        rows=rows,
        calls=calls,
        tokens_in=round(found.usage.input * calls / count),
        tokens_out=one.output * calls,
        cost=None if found.cost is None else found.cost * calls / count,
        seconds=_seconds(visit, project, task, calls),
    )


def _seconds(visit: Visit, project: Project, task: TaskLike, calls: int) -> float | None:
    """Return how long a run will take if each row takes as long as in the trial."""
    if project.trial is None:
        return None
    asked = [
        row.item["latency"]
        for row in visit.server.queue.rows(project.trial, limit=TRIAL)
        if row.item is not None and row.item.get("latency") and not row.item.get("cached")
    ]
    at_once = rows_at_once_of(task, visit.server.settings.concurrency)
    return calls * sum(asked) / len(asked) / at_once if asked else None


def start(visit: Visit, project: Project, *, trial: bool) -> Project:
    """Create the job of a trial or of a run over all rows, and return the project with it.

    Raises:
        Problem: a job of the project is active, the form is not a valid task, the key has reached its spending limit,
            or the file can't be read.
    """
    server, key = visit.server, visit.key
    if key is None or server.stopping:
        raise Problem("stopping", visit.language.text("The server is stopping. Try again in a minute."))
    server.check_spending(key)
    with visit.pages.starting:
        project = visit.project(project.id)
        last = server.queue.get(project.job, visit.owner) if project.job else None
        if last is not None and last.state in {"queued", "running", "paused"}:
            raise Problem("wrong-state", visit.language.text("A run of this task is not finished: cancel it first."))
        job = _trial(visit, project) if trial else _run(visit, project)
        about: dict[str, Any] = {"trial": job.id} if trial else {"run": job.id}
        if not trial and project.run:
            about["earlier"] = (*project.earlier, project.run)
        try:
            changed = visit.pages.projects.change(project, jobs=(*project.jobs, job.id), **about)
        except LookupError:  # it was deleted in the meantime
            server.queue.delete(job.id)
            raise Problem(
                "not-found", visit.language.text("There is no such task here; it may have expired.")
            ) from None
    server.wake()
    return changed


def _trial(visit: Visit, project: Project) -> Job:
    task, definition = task_of(visit, project)
    columns = columns_of(project, task)
    some = visit.pages.projects.sample(project.id)
    count = min(TRIAL, len(some))
    chosen = [some[place * len(some) // count] for place in range(count)]
    rows: list[NewRow] = [(one["row"], read_input(task.signature, one["row"], columns), None) for one in chosen]
    about: dict[str, Any] = {"columns": columns, "header": project.header, "name": project.name}
    kind = (project.format or {}).get("kind")
    if kind not in {"excel", "parquet"}:
        return new_job(visit.server, _key(visit), project.kind, task, definition, about, rows)
    # These files have dates, which JSON rows lack, so the trial gets its own file, from which it is exported.
    with tempfile.TemporaryDirectory(prefix="llmtasker-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nobody would see them
        path = Path(folder) / f"trial{job_files.ENDINGS[kind]}"
        write_rows(path, map(typed_row, chosen), columns=project.header)
        about["format"] = job_files.stored_format(detect(path))
        return new_job(visit.server, _key(visit), project.kind, task, definition, about, rows, upload=path)


def _run(visit: Visit, project: Project) -> Job:
    server, key = visit.server, _key(visit)
    task, definition = task_of(visit, project)
    columns = columns_of(project, task)
    server.check_rows(key, project.rows, server.settings.max_rows)
    about = {"columns": columns, "header": project.header, "name": project.name, "format": project.format}
    with uploaded(visit, project) as table:
        rows = table.rows(columns, most=server.settings.max_rows, task=task)
        job = new_job(server, key, project.kind, task, definition, about, rows, upload=table.path)
    keep_corrections(visit, project.run, job)
    return job


def _key(visit: Visit) -> ApiKey:
    if visit.key is None:
        raise SignInNeededError
    return visit.key


def keep_corrections(visit: Visit, before: str | None, job: Job) -> None:
    """Copy people's corrections from the previous run to a new one, because the rows of the file are the same."""
    if before is None:
        return
    queue, after = visit.server.queue, 0
    while rows := queue.rows(before, after=after, limit=500, only="corrected"):
        for row in rows:
            correction = {name: value for name, value in (row.correction or {}).items() if name in job.outputs}
            if correction:
                queue.correct(job.id, row.number, correction)
        after = rows[-1].number


@contextmanager
def uploaded(visit: Visit, project: Project) -> Generator[job_files.TableFile]:
    """Give the file of a project as a table, for as long as it is read."""
    kind = (project.format or {}).get("kind", "csv")
    with tempfile.TemporaryDirectory(prefix="llmtasker-") as folder:
        path = Path(folder) / f"upload{job_files.ENDINGS[kind]}"
        with path.open("wb") as file:
            file.writelines(visit.pages.projects.upload(project.id))
        yield table_of(visit, path, project.format or {})


def table_of(visit: Visit, path: Path, form: Mapping[str, Any]) -> job_files.TableFile:
    """Return a file as a table, read with the settings of its form.

    Raises:
        Problem: it can't be read.
    """
    given = {name: form[name] for name in ("encoding", "delimiter", "sheet", "header") if form.get(name)}
    if form.get("kind", "csv") in {"excel", "parquet"}:
        given = {name: given[name] for name in ("sheet", "header") if name in given}
    settings = visit.server.settings
    return job_files.TableFile(path, max_bytes=settings.max_bytes, max_columns=settings.max_columns, **given)
