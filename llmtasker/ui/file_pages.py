"""Step 1: how the file is read, which columns have the texts and the right answers, and what to do with them."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.datastructures import FormData

from llmtasker.api.problem import Problem
from llmtasker.api.served_tasks import KINDS
from llmtasker.jobs.project_store import Project
from llmtasker.ui.begin_pages import LONGEST_NAME, project_name, read_about
from llmtasker.ui.page_route import page_router
from llmtasker.ui.project_task import uploaded
from llmtasker.ui.table_facts import FIRST, typed_row
from llmtasker.ui.visit import Pages, Visit

ENCODINGS = ("utf-8", "cp1252", "iso-8859-15", "utf-16", "mac_roman", "cp850")
DELIMITERS = (";", ",", "\t", "|")


def file_pages(pages: Pages) -> APIRouter:
    """Return the routes."""
    router = page_router(pages)

    @router.get("/p/{id}/file")
    def file(request: Request, id: str) -> Response:  # noqa: A002 - the word of the path
        visit = Visit.of(pages, request)
        return _shown(visit, visit.project(id))

    @router.post("/p/{id}/file")
    async def chosen(request: Request, id: str) -> Response:  # noqa: A002
        visit, project, form = await Visit.of_form(pages, request, id)
        try:
            await asyncio.to_thread(_changed, visit, project, form)
        except Problem as problem:
            return await asyncio.to_thread(_shown, visit, project, problem)
        return visit.go(f"/p/{id}/{'file' if 'read' in form else 'task'}")

    @router.post("/p/{id}/delete")
    async def delete(request: Request, id: str) -> Response:  # noqa: A002
        visit, project, _ = await Visit.of_form(pages, request, id)
        await asyncio.to_thread(_delete, visit, project)
        return visit.go("/")

    @router.get("/p/{id}/delete")
    def sure(request: Request, id: str) -> Response:  # noqa: A002
        visit = Visit.of(pages, request)
        return visit.show("delete.html", project=visit.project(id))

    return router


def _shown(visit: Visit, project: Project, problem: Problem | None = None) -> Response:
    first = [typed_row(row) for row in visit.pages.projects.sample(project.id)[:FIRST]]
    header = (project.format or {}).get("header", 1)
    lines = {header: ""} | {number: line for number, line in enumerate(project.lines, start=1) if line}
    return visit.show(
        "file.html",
        200 if problem is None else problem.status,
        project=project,
        first=first,
        lines=sorted(lines.items()),
        encodings=ENCODINGS,
        delimiters=DELIMITERS,
        served=list(visit.server.tasks.by_name),
        problem=problem,
        longest_name=LONGEST_NAME,
        step=1,
    )


def _changed(visit: Visit, project: Project, form: FormData) -> Project:
    """Store the choices; read the file again if it is to be read in another way."""
    store = visit.pages.projects
    kind = str(form.get("kind", project.kind))
    if kind not in KINDS:
        visit.server.tasks.named(kind)
    name = project_name(str(form.get("name") or "").strip() or project.name)
    read = _reading(project, form)
    if read != {option: (project.format or {}).get(option) for option in read}:
        with uploaded(visit, replace(project, format={**(project.format or {}), **read})) as table:
            values = read_about(visit, table.path, {**(project.format or {}), **read})
        sample = values.pop("sample")
        earlier = (*project.earlier, project.run) if project.run else project.earlier
        values |= {"trial": None, "run": None, "earlier": earlier}
        project = store.change(project, sample=sample, name=name, kind=kind, **values)
    if "read" not in form and project.broken_rows == project.rows:
        raise Problem(
            "file",
            visit.language.text("No row can be read: check the line with the column names, and the separator."),
        )
    text, gold = str(form.get("text", "")), str(form.get("gold", ""))
    there = set(project.header)
    columns = {"text": text} if text in there else dict(project.columns)
    return store.change(project, name=name, kind=kind, columns=columns, gold=gold if gold in there else None)


def _reading(project: Project, form: FormData) -> dict[str, Any]:
    """Return the submitted reading options."""
    read: dict[str, Any] = {
        option: str(form[option]) for option in ("encoding", "delimiter", "sheet") if form.get(option)
    }
    header = str(form.get("header", ""))
    if re.fullmatch(r"[1-9][0-9]{0,3}", header):
        read["header"] = int(header)
    known = project.format or {}
    if read.get("encoding") not in {*ENCODINGS, known.get("encoding")}:
        read.pop("encoding", None)
    if read.get("header", known.get("header")) != known.get("header") and read.get("delimiter") == known.get(
        "delimiter"
    ):
        read["delimiter"] = ""  # detected again: a title has not the delimiter of the names below it
    return {option: value for option, value in read.items() if option in known}


def _delete(visit: Visit, project: Project) -> None:
    queue = visit.server.queue
    for job in project.jobs:
        if queue.get(job, visit.owner) is not None:
            queue.move(job, "cancel")
            queue.delete(job)
    visit.pages.projects.delete(project.id)
