"""Step 6: how many answers are right, by label; which labels are mistaken; whether it is better than before."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from llmtasker.api.attachment import attachment
from llmtasker.api.problem import Problem
from llmtasker.errors import ConfigurationError
from llmtasker.evaluation import Report, compare
from llmtasker.evaluation.comparison import Comparison
from llmtasker.evaluation.intervals import Interval
from llmtasker.evaluation.report_page import report_page
from llmtasker.jobs.job_state import Job
from llmtasker.jobs.project_store import Project
from llmtasker.ui.export_pages import file_name
from llmtasker.ui.page_route import page_router
from llmtasker.ui.run_pages import job_of
from llmtasker.ui.scored_rows import Scored, ScoredRows
from llmtasker.ui.shown_answers import ShownAnswers
from llmtasker.ui.visit import Pages, Visit
from llmtasker.values.language import locale_of

_MOST_IN_TABLE = 12
_STEPS = 4  # shades of a cell
_MOST_TICKS = 6
_MARGIN = 6.0  # percent of the width, for the figure at the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of the confusions: how many rows, and its shade from 0 to 4."""

    rows: int
    shade: int
    right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """The axis of shares: its ticks, at even steps, and the position of a share on it."""

    ticks: tuple[float, ...]

    @classmethod
    def over(cls, *intervals: Interval) -> Axis:
        """Return an axis of at most six ticks over some intervals.

        >>> from llmtasker.evaluation.intervals import wilson
        >>> Axis.over(wilson(167, 180)).ticks
        (0.85, 0.9, 0.95, 1.0)
        """
        low, high = max(0.0, min(one.low for one in intervals)), min(1.0, max(one.high for one in intervals))
        for step in (5, 10, 20):  # percent
            last = max(1, math.ceil(100 * high / step))
            first = min(last - 1, math.floor(100 * low / step))
            if last - first < _MOST_TICKS:
                break
        return cls(ticks=tuple(step * place / 100 for place in range(first, last + 1)))

    def at(self, share: float) -> float:
        """Return the place of a share in percent of the width."""
        span = (self.ticks[-1] - self.ticks[0]) or 1.0
        return round(_MARGIN + (100 - 2 * _MARGIN) * (share - self.ticks[0]) / span, 1)


def evaluation_pages(pages: Pages) -> APIRouter:
    """Return the routes."""
    router, measured = page_router(pages), _Reports()

    @router.get("/p/{id}/evaluation")
    def evaluation(request: Request, id: str) -> Response:  # noqa: A002 - the word of the path
        visit = Visit.of(pages, request)
        project = visit.project(id)
        job, found = measured.now(visit, project)
        values: dict[str, Any] = {"report": found.report, "earlier": None, "comparison": None, "incomparable": None}
        if found.report is not None:
            values |= _figures(visit, project, job, found.report)
            if (last := measured.before(visit, project, job)) is not None:
                values["earlier"], older = last
                values |= _compared(older, found.report, values["name"])
            scores = [values[one].interval for one in ("score", "older_score") if one in values]
            values["axis"] = Axis.over(*scores)
        return visit.show("evaluation.html", project=project, job=job, scored=found, step=6, **values)

    @router.get("/p/{id}/report.html")
    def report(request: Request, id: str) -> Response:  # noqa: A002
        visit = Visit.of(pages, request)
        project = visit.project(id)
        _, found = measured.now(visit, project)
        if found.report is None:
            raise Problem("not-found", visit.language.text("No row has a right answer to compare with."))
        name = file_name(project, visit.language.text("report"))
        page = report_page(found.report, locale_of(visit.language.code))  # its words are text, not HTML
        return HTMLResponse(page, headers=attachment(name, "html"))

    return router


class _Reports:
    """The reports of the run that is shown, and of the run before."""

    def __init__(self) -> None:
        self._reports = ScoredRows()

    def now(self, visit: Visit, project: Project) -> tuple[Job, Scored]:
        """Return the job whose answers are shown, with its report.

        Raises:
            Problem: nothing was asked yet, or the server no longer has the task.
        """
        job = job_of(visit, project)
        if job is None:
            raise Problem("not-found", visit.language.text("Nothing was asked yet: try 20 rows first."))
        try:
            return job, self._scored(visit, project, job, job)
        except ConfigurationError as error:
            raise Problem("wrong-state", str(error)) from None

    def before(self, visit: Visit, project: Project, shown: Job) -> tuple[Job, Report] | None:
        """Return the run before the one that is shown, if it is still there and has rows with a right answer."""
        for id_ in reversed(project.earlier):
            job = visit.server.queue.get(id_, visit.owner)
            if job is None or job.id == shown.id:
                continue
            with contextlib.suppress(ConfigurationError):  # its task is no longer served
                if (report := self._scored(visit, project, job, shown).report) is not None:
                    return job, report
        return None

    def _scored(self, visit: Visit, project: Project, job: Job, shown: Job) -> Scored:
        return self._reports.of(visit.server.queue, project, job, visit.server.tasks.of_job(job), shown)


def _figures(visit: Visit, project: Project, job: Job, report: Report) -> dict[str, Any]:
    """Return the figures of the first field: its score, its labels, its confusions."""
    name = report.names[0]
    answers = ShownAnswers.of(visit.server.tasks, project, job, {})
    labels = report.labels(name) if report.kinds.get(name) in {"label", "labels"} else {}
    order = [label for label in answers.labels if label in labels] + [
        one for one in labels if one not in answers.labels
    ]
    shown = order[:_MOST_IN_TABLE]
    return {
        "name": name,
        "score": report.score(name),
        "labels": [labels[label] for label in order],
        "answers": answers,
        "confusion": _confusion(report, name, shown) if labels else [],
        "in_table": shown,
        "failures": report.failures,
    }


def _confusion(report: Report, name: str, labels: list[str]) -> list[tuple[str, list[Cell]]]:
    counts = report.confusion(name)
    most = max(counts.values(), default=1)
    table = list[tuple[str, list[Cell]]]()
    for gold in labels:
        cells = list[Cell]()
        for answer in [*labels, None]:
            rows = counts[gold, answer]
            shade = 0 if not rows else max(1, min(_STEPS, round(_STEPS * (rows / most) ** 0.5)))
            cells.append(Cell(rows=rows, shade=shade, right=gold == answer))
        table.append((gold, cells))
    return table


def _compared(older: Report, newer: Report, name: str) -> dict[str, Any]:
    try:
        comparison: Comparison | None = compare(older, newer, name)
    except ConfigurationError as error:
        return {"comparison": None, "incomparable": str(error)}
    return {"comparison": comparison, "incomparable": None, "older_score": older.score(name)}
