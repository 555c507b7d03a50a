"""The pages before a task: sign-in, and the list of tasks with the field for a new file."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from dataclasses import replace
from importlib.resources import as_file, files
from itertools import takewhile
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.datastructures import UploadFile

from llmtasker.api import job_files
from llmtasker.api.problem import Problem
from llmtasker.errors import snippet
from llmtasker.files import first_lines
from llmtasker.jobs.project_store import Project
from llmtasker.ui.named_table import named_table
from llmtasker.ui.page_route import page_router
from llmtasker.ui.project_task import table_of
from llmtasker.ui.table_facts import gold_column, table_facts, text_column
from llmtasker.ui.visit import SESSION, THEME, Pages, Visit, begin_session
from llmtasker.values.folding import encodable

_DAY = 86_400.0
_LINES, _LONGEST_LINE = 30, 70  # lines that may name the columns, and their characters that are shown
LONGEST_NAME = 120
"""Characters of the name of a task."""


def begin_pages(pages: Pages) -> APIRouter:
    """Return the routes."""
    router = page_router(pages)
    _add_signing_in(router, pages)

    @router.get("/")
    def begin(request: Request) -> Response:
        visit = Visit.of(pages, request)
        found = pages.projects.projects(visit.owner)
        jobs = {one.id: visit.server.queue.get(one.job, visit.owner) if one.job else None for one in found}
        return visit.show("begin.html", projects=found, jobs=jobs, most=visit.server.settings.max_bytes)

    @router.post("/projects")
    async def create(request: Request) -> Response:
        visit = await asyncio.to_thread(Visit.of, pages, request)
        form = await visit.form()
        file, lines = form.get("file"), form.get("lines")
        if isinstance(file, UploadFile) and file.filename:
            project = await asyncio.to_thread(_of_upload, visit, file)
        elif "sample" in form:
            project = await asyncio.to_thread(_of_sample, visit)
        elif isinstance(lines, str) and lines.strip():
            project = await asyncio.to_thread(_of_lines, visit, lines)
        else:
            raise Problem("invalid", visit.language.text("Choose a file, or paste at least one line."))
        return visit.go(f"/p/{project.id}/file")

    @router.get("/projects")
    def back(request: Request) -> Response:  # the language was changed after a refused form
        return Visit.of(pages, request).go("/")

    return router


def _add_signing_in(router: APIRouter, pages: Pages) -> None:
    @router.get("/sign-in")
    def sign_in(request: Request, then: str = "/") -> Response:
        visit = Visit.of(pages, request, signed_in=False)
        return visit.show("sign_in.html", then=_own(then), refused=False)

    @router.post("/sign-in")
    async def signed_in(request: Request) -> Response:
        visit = await asyncio.to_thread(Visit.of, pages, request, signed_in=False)
        form = await visit.form()
        sent, then = form.get("key"), form.get("then")
        key = visit.server.keys.find(sent.strip()) if isinstance(sent, str) else None
        there = _own(then) if isinstance(then, str) else "/"
        if key is None:
            return visit.show("sign_in.html", 401, then=there, refused=True)
        response = visit.go(there)
        await asyncio.to_thread(begin_session, visit, response, key.sha256)
        return response

    @router.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        visit = await asyncio.to_thread(Visit.of, pages, request)
        await visit.form()
        await asyncio.to_thread(pages.sessions.end, visit.session)
        response = visit.go("/sign-in")
        response.delete_cookie(SESSION, path=visit.root or "/")
        return response

    @router.post("/theme")
    async def theme(request: Request) -> Response:
        visit = await asyncio.to_thread(Visit.of, pages, request, signed_in=False)
        form = await visit.form()
        response = visit.go(_own(str(form.get("then") or "/")))
        visit.keep(response, THEME, "dark" if form.get("theme") == "dark" else "light")
        return response


def _own(path: str) -> str:
    """Return a path of this server; anything else becomes the first page."""
    plain = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if plain and len(path) < 2_000 else "/"


def _of_upload(visit: Visit, file: UploadFile) -> Project:
    name = Path((file.filename or "").replace("\\", "/")).name
    with tempfile.TemporaryDirectory(prefix="llmtasker-") as folder:
        path = Path(folder) / f"upload{job_files.ending_of(name)}"
        with path.open("wb") as target:
            shutil.copyfileobj(file.file, target, 1 << 20)
        return create_project(visit, path, project_name(name), file=project_name(name))


def _of_lines(visit: Visit, lines: str) -> Project:
    texts = [line.strip() for line in lines.splitlines() if line.strip()]
    with tempfile.TemporaryDirectory(prefix="llmtasker-") as folder:
        path = Path(folder) / "upload.jsonl"
        rows = (json.dumps({"text": encodable(text)}) for text in texts)
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        return create_project(
            visit, path, str(visit.language.text("Pasted, {rows}", rows=visit.language.rows(len(texts))))
        )


def _of_sample(visit: Visit) -> Project:
    with as_file(files("llmtasker.ui").joinpath("sample.csv")) as path:
        return create_project(visit, path, str(visit.language.text("Example: customer messages")), file="sample.csv")


def create_project(visit: Visit, path: Path, name: str, file: str | None = None) -> Project:
    """Return a new project for a file.

    Raises:
        Problem: the file can't be used.
    """
    values = read_about(visit, path, {})
    sample = values.pop("sample")
    settings = visit.server.settings
    return visit.pages.projects.create(
        visit.owner,
        name,
        path,
        keep=settings.keep_days * _DAY,
        sample=sample,
        file=file,
        size=path.stat().st_size,
        **values,
    )


def read_about(visit: Visit, path: Path, form: dict[str, Any]) -> dict[str, Any]:
    """Return a project's facts about its file, read with the settings of the form, with a guess of its columns.

    Raises:
        Problem: the file can't be read, or has too many rows or none.
    """
    settings, key = visit.server.settings, visit.key
    most = settings.max_rows if key is None or key.rows is None else min(key.rows, settings.max_rows)
    table = table_of(visit, path, form) if form else named_table(lambda line: table_of(visit, path, {"header": line}))
    if not table.header:
        raise Problem("file", visit.language.text("The file has no columns."))
    try:
        facts = table_facts(table.header, (row for row, _, _ in table.rows({}, most=most)))
    except UnicodeError:
        raise Problem("file", visit.language.text("The file can't be read in this encoding.")) from None
    text = text_column(facts.columns)
    lines = first_lines(path, table.format, _LINES)
    empty = len(list(takewhile(lambda line: not line, lines[table.format.header - 1 :])))  # which are skipped
    return {
        "format": job_files.stored_format(replace(table.format, header=table.format.header + empty)),
        "header": table.header,
        "lines": tuple(encodable(snippet(line, _LONGEST_LINE)) for line in lines),
        "facts": facts.columns,
        "rows": facts.rows,
        "broken": facts.broken,
        "broken_rows": facts.broken_rows,
        "columns": {"text": text},
        "gold": gold_column(facts.columns, text),
        "sample": facts.sample,
    }


def project_name(text: str) -> str:
    """Return a text as the name of a task: on one line, and within the maximum length."""
    return snippet(encodable(text), LONGEST_NAME)
