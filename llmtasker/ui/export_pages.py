"""Step 7: the answers as a file, the task as JSON or as Python code."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from llmtasker.api.attachment import attachment
from llmtasker.api.job_files import format_of
from llmtasker.api.job_results import ResultKind, results_response
from llmtasker.api.problem import Problem
from llmtasker.errors import ConfigurationError
from llmtasker.files import Format
from llmtasker.files.csv_output import WIDE
from llmtasker.jobs.project_store import Project
from llmtasker.task import Task
from llmtasker.ui.page_route import page_router
from llmtasker.ui.project_task import form_of, task_of
from llmtasker.ui.run_pages import job_of
from llmtasker.ui.task_code import task_code
from llmtasker.ui.visit import Pages, Visit

_LONGEST = 80
"""Characters of a project's name in the name of a download; what it contains stays readable."""


def export_pages(pages: Pages) -> APIRouter:
    """Return the routes."""
    router = page_router(pages)

    @router.get("/p/{id}/results.{ending}")
    async def results(
        request: Request,
        id: str,  # noqa: A002 - the word of the path
        ending: ResultKind,
    ) -> StreamingResponse:
        visit = Visit.of(pages, request)
        project = visit.project(id)
        job = job_of(visit, project)
        if job is None:
            raise Problem("not-found", visit.language.text("Nothing was asked yet: try 20 rows first."))
        name = file_name(project, visit.language.text("answers"))
        typed = await asyncio.to_thread(visit.server.tasks.typed_answers, job)
        like = csv_format(visit, project)
        return await results_response(visit.server.queue, job, ending, typed, name=name, like=like)

    @router.get("/p/{id}/task.json")
    def as_json(request: Request, id: str) -> Response:  # noqa: A002
        visit = Visit.of(pages, request)
        project = visit.project(id)
        task, _ = task_of(visit, project)
        if not isinstance(task, Task):
            raise Problem("not-found", visit.language.text("This task is already written in Python on this server."))
        return Response(
            _saved(task),
            media_type="application/json",
            headers=attachment(file_name(project, visit.language.text("task")), "json"),
        )

    @router.get("/p/{id}/task.py")
    def as_python(request: Request, id: str) -> Response:  # noqa: A002
        visit = Visit.of(pages, request)
        project = visit.project(id)
        form = form_of(visit, project)
        if form is None:
            raise Problem("not-found", visit.language.text("This task is already written in Python on this server."))
        code = task_code(form.definition(), project)
        return PlainTextResponse(
            code, media_type="text/x-python", headers=attachment(file_name(project, visit.language.text("task")), "py")
        )

    return router


def _saved(task: Task[Any]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="llmtasker-") as folder:
        path = Path(folder) / "task.json"
        try:
            task.save(path)
        except ConfigurationError as error:
            raise Problem("wrong-state", str(error).replace(str(path), "the file")) from None
        return path.read_bytes()


def csv_format(visit: Visit, project: Project) -> Format:
    """Return the format of the CSV that a project came from, else the one that spreadsheets of the language open."""
    came = format_of(project.format)
    if came is not None and came.kind == "csv":
        return came
    french = visit.language.code == "fr"
    return Format(encoding=WIDE, newline="\r\n", delimiter=";" if french else ",", decimal="," if french else ".")


def file_name(project: Project, content: str) -> str:
    """Return the name of a download: the name of the project, and what the file contains.

    So it doesn't replace the file that the project was made from, whose suffix is left out.
    """
    name = Path(project.name).stem if project.name == project.file else project.name
    return f"{name[:_LONGEST].strip()} - {content}"
