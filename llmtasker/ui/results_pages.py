"""Step 5: the rows with their answers: filters, search, a row's raw answer and repairs, corrections by keyboard."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from starlette.datastructures import FormData

from llmtasker.api.correction import check_correction
from llmtasker.api.job_routes import Only
from llmtasker.api.problem import Problem
from llmtasker.errors import InputError
from llmtasker.jobs.job_rows import UNSURE
from llmtasker.jobs.job_state import Job, JobRow
from llmtasker.jobs.project_store import Project
from llmtasker.ui.page_route import page_router
from llmtasker.ui.project_task import form_of
from llmtasker.ui.run_pages import job_of
from llmtasker.ui.shown_answers import ShownAnswers
from llmtasker.ui.task_form import LabelForm
from llmtasker.ui.visit import Pages, Visit
from llmtasker.values.folding import caseless

_PAGE = 50
RowNumber = Annotated[int, Path(ge=1, le=1 << 53)]
_MOST_PICKED = 500
_NUMBER = re.compile(r"[1-9][0-9]{0,14}")
_COMMA = re.compile(r"[-+]?[0-9]+,[0-9]+")
_YES, _NO = frozenset({"true", "oui", "yes", "vrai", "1"}), frozenset({"false", "non", "no", "faux", "0"})


def results_pages(pages: Pages) -> APIRouter:
    """Return the routes."""
    router = page_router(pages)

    @router.get("/p/{id}/results")
    def results(
        request: Request,
        id: str,  # noqa: A002 - the word of the path
        f: Only | None = None,
        label: str = Query("", max_length=200),
        q: str = Query("", max_length=500),
        after: int = Query(0, ge=0, le=1 << 53),
        before: int | None = Query(None, ge=1, le=1 << 53),
        row: int | None = Query(None, ge=1, le=1 << 53),
    ) -> Response:
        visit = Visit.of(pages, request)
        project = visit.project(id)
        chosen = {"f": f or "", "label": label, "q": q}
        return _shown(visit, project, chosen, after=after, before=before, row=row)

    @router.get("/p/{id}/rows/{number}")
    def one(request: Request, id: str, number: RowNumber) -> Response:  # noqa: A002
        visit = Visit.of(pages, request)
        return _row(visit, visit.project(id), number)

    @router.post("/p/{id}/rows/{number}")
    async def correct(request: Request, id: str, number: RowNumber) -> Response:  # noqa: A002
        visit, project, form = await Visit.of_form(pages, request, id)
        await asyncio.to_thread(_corrected, visit, project, number, form)
        if request.headers.get("hx-request") or request.headers.get("x-part"):
            return await asyncio.to_thread(_row, visit, project, number)
        return visit.go(f"/p/{id}/results?row={number}#row")

    @router.post("/p/{id}/rows")
    async def bulk(request: Request, id: str) -> Response:  # noqa: A002
        visit, project, form = await Visit.of_form(pages, request, id)
        to = await asyncio.to_thread(_bulk, visit, project, form)
        return visit.go(to)

    @router.get("/p/{id}/rows")
    def back(request: Request, id: str) -> Response:  # noqa: A002 - a language that was chosen after a refused form
        return Visit.of(pages, request).go(f"/p/{id}/results")

    return router


def _job(visit: Visit, project: Project) -> Job:
    job = job_of(visit, project)
    if job is None:
        raise Problem("not-found", visit.language.text("Nothing was asked yet: try 20 rows first."))
    return job


def _shown(
    visit: Visit, project: Project, chosen: dict[str, str], *, after: int, before: int | None, row: int | None
) -> Response:
    job, queue = _job(visit, project), visit.server.queue
    if row is not None and row > _PAGE and not after and before is None:
        after = row - 1  # an address that was sent: the page begins with its row
    rows = queue.rows(
        job.id,
        after=after,
        before=before,
        limit=_PAGE + (before is None),
        only=chosen["f"] or None,
        label=chosen["label"] or None,
        search=chosen["q"] or None,
    )
    further, rows = len(rows) > _PAGE or before is not None, rows[:_PAGE]
    answers = ShownAnswers(project, job, queue.labels(job.id))
    corrected = queue.corrected(job.id)
    opened = queue.row(job.id, row) if row is not None else rows[0] if rows else None
    filters = [("", job.rows), ("failed", job.failed), ("repaired", job.repaired), ("corrected", corrected)]
    unsure = queue.unsure(job.id)
    if unsure is not None:
        filters.insert(2, ("unsure", unsure))
    if job.state != "done":
        filters.insert(2, ("waiting", job.rows - job.done))

    def link(**changes: Any) -> str:
        values = {name: value for name, value in {**chosen, **changes}.items() if value not in {"", None}}
        return f"{visit.root}/p/{project.id}/results{'?' if values else ''}{urlencode(values)}"

    filtered = any(chosen.values())
    return visit.show(
        "results.html",
        project=project,
        job=job,
        answers=answers,
        rows=rows,
        chosen=chosen,
        filtered=filtered,
        filters=filters,
        corrected=corrected,
        unsure=unsure,
        limit=UNSURE,
        link=link,
        previous=rows[0].number if rows and rows[0].number > 1 and (after or before) else None,
        following=rows[-1].number if rows and further else None,
        open_row=row,
        step=5,
        **_opened(visit, project, job, answers, opened),
    )


def _row(visit: Visit, project: Project, number: int) -> Response:
    job = _job(visit, project)
    row = visit.server.queue.row(job.id, number)
    if row is None:
        raise Problem("not-found", visit.language.text("The run has no row {number}.", number=number))
    answers = ShownAnswers(project, job, visit.server.queue.labels(job.id))
    return visit.show(
        "_row.html", project=project, job=job, answers=answers, **_opened(visit, project, job, answers, row)
    )


def _opened(visit: Visit, project: Project, job: Job, answers: ShownAnswers, row: JobRow | None) -> dict[str, Any]:
    """Return what the open row is filled with."""
    messages: list[Mapping[str, Any]] = []
    if row is not None and row.given:
        try:
            messages = list(visit.server.tasks.of_job(job).preview(dict(row.given)).messages)
        except (ValueError, InputError):  # the server has no such task any more, or the row does not fit it
            messages = []
    is_form = project.kind != "classification" or not answers.labels
    return {"row": row, "messages": messages, "by_fields": is_form}


def _corrected(visit: Visit, project: Project, number: int, form: FormData) -> None:
    job = _job(visit, project)
    row = visit.server.queue.row(job.id, number)
    if row is None:
        raise Problem("not-found", visit.language.text("The run has no row {number}.", number=number))
    output = None if "undo" in form else _output(job, row, form, several=ShownAnswers(project, job, {}).several)
    check_correction(visit.server, job, output)
    visit.server.queue.correct(job.id, number, output)
    if "as_example" in form and output is not None:
        _add_examples(visit, project, [number])


def _output(job: Job, row: JobRow, form: FormData, *, several: bool) -> dict[str, Any]:
    """Return the corrected output that was sent: a label, some labels, or a value for each field."""
    first = next(iter(job.outputs))
    labels = [value for value in form.getlist("label") if isinstance(value, str)]
    if several:
        return {first: labels}
    if labels:
        return {first: labels[-1]}
    before: Mapping[str, Any] = (row.item or {}).get("output") or {}
    sent = {name: value for name in job.outputs if isinstance(value := form.get(f"field_{name}"), str)}
    if not sent:
        raise Problem("invalid", "label")
    return {name: _typed(value, before.get(name)) for name, value in sent.items()}


def _typed(text: str, before: Any) -> Any:
    """Return a field that was typed as the kind of value that it had: the task checks whether it may be so."""
    if isinstance(before, bool):
        word = caseless(text.strip())
        return True if word in _YES else False if word in _NO else text
    if isinstance(before, int | float) and _COMMA.fullmatch(text.strip()):
        return text.strip().replace(",", ".")
    if isinstance(before, list):
        return [part.strip() for part in text.split(";") if part.strip()]
    return text


def _bulk(visit: Visit, project: Project, form: FormData) -> str:
    """Do what was asked with the picked rows, and return where to go then."""
    job, queue = _job(visit, project), visit.server.queue
    numbers = [int(value) for value in form.getlist("picked") if isinstance(value, str) and _NUMBER.fullmatch(value)]
    action = str(form.get("do", ""))
    if action in {"failed", "corrected"}:
        if not queue.move(job.id, "retry", only=action):
            raise Problem("wrong-state", visit.language.text("The run must have ended before rows are asked again."))
        visit.server.wake()
        return f"/p/{project.id}/run"
    if not numbers:
        raise Problem("invalid", visit.language.text("No row is picked."))
    numbers = numbers[:_MOST_PICKED]
    if action == "example":
        _add_examples(visit, project, numbers)
        return f"/p/{project.id}/task#examples"
    label = str(form.get("label", ""))
    first = next(iter(job.outputs))
    output = {first: [label] if ShownAnswers(project, job, {}).several else label}
    check_correction(visit.server, job, output)
    for number in numbers:
        queue.correct(job.id, number, output)
    return f"/p/{project.id}/results?f=corrected"


def _add_examples(visit: Visit, project: Project, numbers: list[int]) -> None:
    """Add rows with their answers to the examples of the form; they count from the next run on."""
    job, form = _job(visit, project), form_of(visit, project)
    if not isinstance(form, LabelForm):
        raise Problem("invalid", visit.language.text("Examples can be added to a classification only."))
    answers, known = ShownAnswers(project, job, {}), {text for text, _ in form.examples}
    added = list[tuple[str, str]]()
    for number in numbers:
        row = visit.server.queue.row(job.id, number)
        if row is not None and (labels := answers.chosen(row)) and answers.text(row) not in known:
            added.append((answers.text(row), "; ".join(labels)))
    changed = replace(form, examples=(*form.examples, *added))
    visit.pages.projects.change(project, definition={**project.definition, **changed.kept()})
