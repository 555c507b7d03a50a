"""Step 5: the rows with their answers: filters, search, a row's raw answer and repairs, corrections by keyboard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from llmtasker.api.job_routes import Only
from llmtasker.api.problem import Problem
from llmtasker.errors import InputError
from llmtasker.jobs.job_queue import JobQueue
from llmtasker.jobs.job_rows import UNSURE
from llmtasker.jobs.job_state import Job, JobRow
from llmtasker.jobs.project_store import Project
from llmtasker.task import Task
from llmtasker.ui.corrections import answers_of, asked_job, correct_picked, correct_row
from llmtasker.ui.page_route import page_router
from llmtasker.ui.rows_to_label import rows_to_label
from llmtasker.ui.run_pages import failed_and_sent
from llmtasker.ui.shown_answers import ShownAnswers
from llmtasker.ui.visit import Pages, Visit

_PAGE = 50
_QUEUES = frozenset({"abstained", "next"})
"""Filters whose rows wait for a person; rows that were decided disappear when the page is shown again."""

RowNumber = Annotated[int, Path(ge=1, le=1 << 53)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A position in the rows: filters, and the page by the row before or after it; `last`: its last row."""

    f: str = ""
    label: str = ""
    q: str = ""
    after: int = 0
    before: int | None = None
    last: bool = False

    @property
    def filters(self) -> dict[str, Any]:
        """The filters as a query string."""
        return {"f": self.f, "label": self.label, "q": self.q}

    @property
    def query(self) -> dict[str, Any]:
        """The whole position as a query string."""
        return {**self.filters, "after": self.after or "", "before": self.before or ""}

    def rows(self, queue: JobQueue, job: Job, limit: int) -> list[JobRow]:
        """Return the rows of the page."""
        f, label, q = self.f or None, self.label or None, self.q or None
        return queue.rows(job.id, after=self.after, before=self.before, limit=limit, only=f, label=label, search=q)


def results_pages(pages: Pages) -> APIRouter:
    """Return the routes."""
    router = page_router(pages)

    @router.get("/p/{id}/results")
    def results(
        request: Request,
        id: str,  # noqa: A002 - the word of the path
        f: Only | Literal["next"] | None = None,
        label: str = Query("", max_length=200),
        q: str = Query("", max_length=500),
        after: int = Query(0, ge=0, le=1 << 53),
        before: int | None = Query(None, ge=1, le=1 << 53),
        row: int | None = Query(None, ge=1, le=1 << 53),
        open: Literal["last"] | None = None,  # noqa: A002
    ) -> Response:
        visit = Visit.of(pages, request)
        if row is not None and row > _PAGE and not after and before is None and f != "next":
            after = row - 1  # a shared address: the page begins with its row
        place = Place(f=f or "", label=label, q=q, after=after, before=before, last=open == "last")
        return _shown(visit, visit.project(id), place, row)

    @router.get("/p/{id}/rows/{number}")
    def one(request: Request, id: str, number: RowNumber) -> Response:  # noqa: A002
        visit = Visit.of(pages, request)
        return _row(visit, visit.project(id), number)

    @router.post("/p/{id}/rows/{number}")
    async def correct(request: Request, id: str, number: RowNumber) -> Response:  # noqa: A002
        visit, project, form = await Visit.of_form(pages, request, id)
        await asyncio.to_thread(correct_row, visit, project, number, form)
        if request.headers.get("hx-request") or request.headers.get("x-part"):
            return await asyncio.to_thread(_row, visit, project, number)
        return visit.go(f"/p/{id}/results?{_back(str(form.get('then') or ''), number)}#row")

    @router.post("/p/{id}/rows")
    async def bulk(request: Request, id: str) -> Response:  # noqa: A002
        visit, project, form = await Visit.of_form(pages, request, id)
        to = await asyncio.to_thread(correct_picked, visit, project, form)
        return visit.go(to)

    @router.get("/p/{id}/rows")
    def back(request: Request, id: str) -> Response:  # noqa: A002 - a language that was chosen after a refused form
        return Visit.of(pages, request).go(f"/p/{id}/results")

    return router


def _back(then: str, number: int) -> str:
    """Return the address of the page on which a row was corrected: the same row, or the next one that waits."""
    known = Place().query.keys()
    place = {name: value for name, value in parse_qsl(then[:2_000]) if name in known}
    return urlencode(place if place.get("f") in _QUEUES else {**place, "row": number})


@dataclass(frozen=True, slots=True, kw_only=True)
class _ShownRows:
    """The rows of a page, the open one, and whether there are others before and after."""

    rows: list[JobRow]
    opened: JobRow | None
    earlier: bool = False
    later: bool = False


def _rows(queue: JobQueue, project: Project, job: Job, place: Place, number: int | None) -> _ShownRows:
    if place.f == "next":
        found = [queue.row(job.id, one) for one in rows_to_label(queue, job, project.gold)]
        rows = [row for row in found if row is not None]
        earlier = later = False
    else:
        rows = place.rows(queue, job, _PAGE + 1)
        more = len(rows) > _PAGE  # one more than is shown
        if place.before is None:
            rows, earlier, later = rows[:_PAGE], bool(place.after), more
        else:
            rows, earlier, later = rows[-_PAGE:], more, True
    first = (rows[-1] if place.last else rows[0]) if rows else None
    opened = first if number is None else queue.row(job.id, number)
    return _ShownRows(rows=rows, opened=opened, earlier=earlier and bool(rows), later=later and bool(rows))


def _shown(visit: Visit, project: Project, place: Place, number: int | None) -> Response:
    job, queue = asked_job(visit, project), visit.server.queue
    answers = answers_of(visit, project, job, queue.labels(job.id))
    found = _rows(queue, project, job, place, number)
    if place.before and not found.rows:  # no rows before it: show the first page
        place = replace(place, before=None, last=False)
        found = _rows(queue, project, job, place, number)
    rows = found.rows

    def link(**changes: Any) -> str:
        values = {name: value for name, value in {**place.filters, **changes}.items() if value not in {"", None}}
        return f"{visit.root}/p/{project.id}/results{'?' if values else ''}{urlencode(values)}"

    unsure = queue.unsure(job.id)
    corrected = queue.corrected(job.id)
    return visit.show(
        "results.html",
        project=project,
        job=job,
        answers=answers,
        rows=rows,
        chosen=place.filters,
        then=urlencode({name: value for name, value in place.query.items() if value}),
        place=place.query,
        filtered=any(place.filters.values()),
        again=failed_and_sent(job, queue.failures(job.id)) if job.failed else 0,
        filters=_filters(queue, job, corrected, unsure, place.f),
        corrected=corrected,
        unsure=unsure,
        calibrated=any(answers.calibrated(row) for row in rows),
        link=link,
        previous=link(before=rows[0].number) if found.earlier else None,
        following=link(after=rows[-1].number) if found.later else link(f="next") if place.f == "next" else None,
        beside=_beside(link, place, found),
        open_row=number,
        step=5,
        **_opened(visit, job, answers, found.opened),
    )


def _filters(
    queue: JobQueue, job: Job, corrected: int, unsure: int | None, chosen: str
) -> list[tuple[str, int | None]]:
    """Return the filters that match rows, and the chosen one, with their rows (None: not counted)."""
    abstained, open_ = queue.abstained(job.id)
    filters: list[tuple[str, int | None]] = [("", job.rows)]
    if abstained:
        filters.append(("abstained", open_))
    if job.done:
        filters.append(("next", None))
    if job.failed > abstained or chosen == "failed":
        filters.append(("failed", job.failed))
    if unsure is not None:
        filters.append(("unsure", unsure))
    if job.state != "done":
        filters.append(("waiting", job.rows - job.done))
    if job.repaired or chosen == "repaired":
        filters.append(("repaired", job.repaired))
    return [*filters, ("corrected", corrected)]


def _beside(link: Callable[..., str], place: Place, found: _ShownRows) -> tuple[str | None, str | None]:
    """Return the addresses of the rows before and after the open one, among the filtered rows."""
    numbers = [row.number for row in found.rows]
    if found.opened is None or found.opened.number not in numbers:
        return None, None
    at = numbers.index(found.opened.number)
    here = {name: value for name, value in place.query.items() if name in {"after", "before"}}
    previous = link(row=numbers[at - 1], **here) if at else None
    following = link(row=numbers[at + 1], **here) if at + 1 < len(numbers) else None
    if previous is None and found.earlier:
        previous = link(before=numbers[0], open="last")
    if following is None and found.later:
        following = link(after=numbers[-1])
    return previous, following


def _row(visit: Visit, project: Project, number: int) -> Response:
    job = asked_job(visit, project)
    row = visit.server.queue.row(job.id, number)
    if row is None:
        raise Problem("not-found", visit.language.text("The run has no row {number}.", number=number))
    answers = answers_of(visit, project, job, visit.server.queue.labels(job.id))
    return visit.show("_row.html", project=project, job=job, answers=answers, **_opened(visit, job, answers, row))


def _opened(visit: Visit, job: Job, answers: ShownAnswers, row: JobRow | None) -> dict[str, Any]:
    """Return the values of the open row for the template."""
    messages: list[Mapping[str, Any]] = []
    if row is not None and row.given:
        try:
            task = visit.server.tasks.of_job(job)
            messages = list(task.preview(dict(row.given)).messages) if isinstance(task, Task) else []
        except (ValueError, InputError):  # the server has no such task any more, or the row does not fit it
            messages = []
    return {"row": row, "messages": messages, "by_fields": not answers.by_label, "limit": UNSURE}
