"""Step 4: a trial or a run in progress: progress, time left, cost, failures, the last answers; pause, cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response

from llmtasker.api.problem import Problem
from llmtasker.errors import InputError
from llmtasker.jobs.job_state import MOVES, Job
from llmtasker.jobs.project_store import Project
from llmtasker.ui.page_route import page_router
from llmtasker.ui.project_task import start
from llmtasker.ui.scored_rows import scored
from llmtasker.ui.shown_answers import ShownAnswers
from llmtasker.ui.visit import Pages, Visit

_LAST = 8
_RATED = 3  # minutes over which the rate is measured
_FEW, _SHORTEST = 10, 5.0  # the rows and seconds that an estimate of the rest needs
_WIDTH, _HEIGHT = 600, 56  # of the line of the last minutes, in the units of its picture


def run_pages(pages: Pages) -> APIRouter:
    """Return the routes."""
    router = page_router(pages)

    @router.get("/p/{id}/run")
    def run(request: Request, id: str) -> Response:  # noqa: A002 - the word of the path
        visit = Visit.of(pages, request)
        return _shown(visit, visit.project(id), "run.html")

    @router.get("/p/{id}/progress")
    def progress(request: Request, id: str) -> Response:  # noqa: A002
        visit = Visit.of(pages, request)
        return _shown(visit, visit.project(id), "_progress.html")

    @router.post("/p/{id}/run")
    async def act(request: Request, id: str) -> Response:  # noqa: A002
        visit, project, form = await Visit.of_form(pages, request, id)
        await asyncio.to_thread(_acted, visit, project, str(form.get("do", "")))
        return visit.go(f"/p/{id}/run")

    return router


def job_of(visit: Visit, project: Project) -> Job | None:
    """Return the job whose answers are shown; None: nothing was asked, or it has expired."""
    return visit.server.queue.get(project.job, visit.owner) if project.job else None


def failed_and_sent(job: Job, failures: Mapping[str, int]) -> int:
    """Return how many failed rows may succeed if they are asked again: others do not fit the task."""
    return job.failed - failures.get(InputError.code, 0)


def _acted(visit: Visit, project: Project, action: str) -> None:
    if action == "run":
        start(visit, project, trial=False)
        return
    job = job_of(visit, project)
    if job is None or action not in MOVES or not visit.server.queue.move(job.id, action):
        raise Problem("wrong-state", visit.language.text("This can't be done in the current state of the run."))
    visit.server.wake()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The pace of a job: recent rows per second, seconds left, the points of the line of the last minutes.

    `rate` and `left` are None for as long as they would be guesses.
    """

    rate: float | None
    left: float | None
    points: str
    most: float


def pace(minutes: Sequence[int], job: Job, now: float) -> Pace:
    """Return the pace of a job from the rows of its last minutes, the last of which is not over."""
    seconds, recent = now % 60, minutes[-_RATED:]
    rate = _rate(recent, job, now)
    rates = [rows / 60 for rows in minutes[:-1]] + [minutes[-1] / max(seconds, 1.0)]
    most = max([*rates, 1e-9])
    step = _WIDTH / max(1, len(rates) - 1)
    points = " ".join(
        f"{place * step:.0f},{_HEIGHT - 1 - (_HEIGHT - 6) * value / most:.1f}" for place, value in enumerate(rates)
    )
    enough = sum(recent) >= min(_FEW, job.rows / 10)
    left = (job.rows - job.done) / rate if rate and enough and job.rows > job.done else None
    return Pace(rate=rate, left=left, points=points, most=most)


def _rate(recent: Sequence[int], job: Job, now: float) -> float | None:
    """Return the rows per second of the last minutes; None: the job has not run long enough."""
    started = next((place for place, rows in enumerate(recent) if rows), len(recent))
    span = 60.0 * (len(recent) - started - 1) + now % 60
    if (age := now - job.created) < span + 60:
        span = age  # the whole job is in these minutes
    elif started:
        started, span = started + 1, span - 60  # it is unknown when in that minute the rows were asked again
    return sum(recent[started:]) / span if span >= _SHORTEST else None


def _shown(visit: Visit, project: Project, template: str) -> Response:
    job = job_of(visit, project)
    if job is None:
        return visit.go(f"/p/{project.id}/task")
    queue = visit.server.queue
    now = visit.pages.clock()
    last = queue.rows(job.id, before=job.rows + 1, limit=_LAST, only=None if job.state == "done" else "ok")
    failures = queue.failures(job.id)
    going = job.state in {"queued", "running"}
    response = visit.show(
        template,
        project=project,
        job=job,
        trial=project.run is None,
        going=going,
        pace=pace(queue.pace(job.id), job, now),
        answers=ShownAnswers.of(visit.server.tasks, project, job, queue.labels(job.id)),
        last=list(reversed(last)),
        failures=list(failures.items())[:6],
        again=failed_and_sent(job, failures),
        right=_right(visit, project, job),
        step=4,
    )
    if template.startswith("_") and not going:
        response.headers["HX-Refresh"] = "true"
    return response


def _right(visit: Visit, project: Project, job: Job) -> tuple[int, int] | None:
    """Return how many rows of a finished trial are right, and how many have a right answer; None: no row has one."""
    if project.gold is None or project.run is not None or job.state != "done":
        return None
    report = scored(visit.server.queue, project, job, visit.server.tasks.of_job(job), job).report
    score = None if report is None else report.score(report.names[0])
    return None if score is None or score.right is None else (score.right, score.rows)
