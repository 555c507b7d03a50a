"""Steps 2 and 3: labels or output fields, examples and instructions, beside the exact prompt and its price."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from starlette.datastructures import FormData, UploadFile

from llmtasker.api import job_files
from llmtasker.api.problem import Problem
from llmtasker.errors import ConfigurationError
from llmtasker.jobs.project_store import Project
from llmtasker.task import Task
from llmtasker.ui.page_route import page_router
from llmtasker.ui.project_task import columns_of, form_of, price, sent, start, table_of, task_of
from llmtasker.ui.table_facts import NAMES_OF_LABELS
from llmtasker.ui.task_form import FIELD_KINDS, FieldForm, LabelForm, TaskForm
from llmtasker.ui.visit import Pages, Visit
from llmtasker.values.folding import caseless

_MOST_LABELS = 1_000


def task_pages(pages: Pages) -> APIRouter:
    """Return the routes."""
    router = page_router(pages)

    @router.get("/p/{id}/task")
    def task(request: Request, id: str, line: int = Query(0, ge=0, le=1 << 20)) -> Response:  # noqa: A002
        visit = Visit.of(pages, request)
        return _shown(visit, visit.project(id), line=line)

    @router.post("/p/{id}/prompt")
    async def prompt(request: Request, id: str, line: int = Query(0, ge=0, le=1 << 20)) -> Response:  # noqa: A002
        visit, project, form = await Visit.of_form(pages, request, id)
        project = await asyncio.to_thread(_kept, visit, project, form)
        return await asyncio.to_thread(_shown, visit, project, line=line, template="_prompt.html")

    @router.post("/p/{id}/task")
    async def act(request: Request, id: str) -> Response:  # noqa: A002
        visit, project, form = await Visit.of_form(pages, request, id)
        action = str(form.get("do", "save"))
        try:
            project = await asyncio.to_thread(_acted, visit, project, form, action)
        except Problem as problem:
            project = await asyncio.to_thread(visit.project, id)
            return await asyncio.to_thread(_shown, visit, project, problem=problem)
        return visit.go(f"/p/{id}/run" if action in {"try", "run"} else f"/p/{id}/task{_anchor(action)}")

    return router


def _anchor(action: str) -> str:
    return "#examples" if action == "add_example" else "#labels" if action.startswith("add") else ""


def _shown(
    visit: Visit, project: Project, *, line: int = 0, problem: Problem | None = None, template: str | None = None
) -> Response:
    form = form_of(visit, project)
    values: dict[str, Any] = {"sent": None, "price": None, "unready": None, "task_fields": [], "columns": {}}
    try:
        task, _ = task_of(visit, project)
        sample = visit.pages.projects.sample(project.id)
        values["pipeline"] = not isinstance(task, Task)
        values["task_fields"] = list(task.signature.input_fields)  # each can be chosen, also where one has no column
        values["columns"] = columns_of(project, task)
        values |= {"sent": sent(project, task, sample, line), "price": price(visit, project, task, sample)}
    except (Problem, ConfigurationError) as error:
        values["unready"] = error.detail if isinstance(error, Problem) else str(error)
    kind = "labels" if isinstance(form, LabelForm) else "fields" if isinstance(form, FieldForm) else "served"
    return visit.show(
        template or f"{kind}.html",
        200 if problem is None else problem.status,
        project=project,
        form=form,
        line=line,
        problem=problem,
        models=visit.server.settings.models,
        field_kinds=FIELD_KINDS,
        own=_own_texts(form),
        step=2,
        **values,
    )


def _own_texts(form: TaskForm | None) -> list[str]:
    """Return the user's own words, which are marked in the prompt."""
    if form is None:
        return []
    texts = [text for pair in form.examples for text in pair] + [form.rules.strip().replace("\r\n", "\n")]
    if isinstance(form, LabelForm):
        texts += [f"- {name}: {meaning}" if meaning else f"- {name}" for name, meaning in form.labels]
    return [text for text in texts if text]


def _kept(visit: Visit, project: Project, form: FormData) -> Project:
    """Store the submitted form, complete or not."""
    before = form_of(visit, project)
    if before is None:
        fields = {str(name)[7:]: str(value) for name, value in form.multi_items() if name.startswith("column_")}
        columns = {name: value for name, value in fields.items() if value in project.header}
        return visit.pages.projects.change(project, columns={**project.columns, **columns}) if columns else project
    after = LabelForm.sent(form, before) if isinstance(before, LabelForm) else FieldForm.sent(form, before)
    return visit.pages.projects.change(project, definition={**project.definition, **after.kept()})


def _acted(visit: Visit, project: Project, form: FormData, action: str) -> Project:
    project = _kept(visit, project, form)
    kept = form_of(visit, project)
    if action in {"try", "run"}:
        return start(visit, project, trial=action == "try")
    if isinstance(kept, LabelForm):
        if action == "from_column":
            return _with_labels(visit, project, kept, _of_column(visit, project, str(form.get("source", ""))))
        file = form.get("label_file")
        if action == "from_file":
            if not isinstance(file, UploadFile) or not file.filename:
                raise Problem("invalid", visit.language.text("Choose a file first."))
            return _with_labels(visit, project, kept, _of_file(visit, file))
    return project


def _with_labels(visit: Visit, project: Project, form: LabelForm, found: list[tuple[str, str]]) -> Project:
    if not found:
        raise Problem("invalid", visit.language.text("It contains no labels."))
    known = dict(form.labels)
    added = [(name, meaning) for name, meaning in found if name not in known]
    changed = replace(form, labels=(*form.labels, *added)[:_MOST_LABELS])
    return visit.pages.projects.change(project, definition={**project.definition, **changed.kept()})


def _of_column(visit: Visit, project: Project, name: str) -> list[tuple[str, str]]:
    for facts in project.facts:
        if facts.name == name and facts.values:
            return [(value.strip(), "") for value in facts.values if value.strip()]
    raise Problem("invalid", visit.language.text("This column has too many values to be labels."))


def _of_file(visit: Visit, file: UploadFile) -> list[tuple[str, str]]:
    """Return labels and meanings: the first two columns of a table, or the lines of a text."""
    with tempfile.TemporaryDirectory(prefix="llmtasker-") as folder:
        ending = job_files.ending_of(file.filename or "")
        path = Path(folder) / f"labels{ending}"
        content = file.file.read(4 << 20)
        if ending == ".txt":
            try:
                lines = content.decode("utf-8-sig").splitlines()
            except UnicodeError:
                lines = content.decode("cp1252", "replace").splitlines()
            return [(line.strip(), "") for line in lines if line.strip()][:_MOST_LABELS]
        path.write_bytes(content)
        table = table_of(visit, path, {})
        rows = [list(row.values()) for row, _, _ in table.rows({}, most=_MOST_LABELS)]
        if caseless(table.header[0]) not in NAMES_OF_LABELS:  # its first line is also a label
            rows.insert(0, list(table.header))
        texts = [[str(cell or "").strip() for cell in [*row, ""][:2]] for row in rows]
        return [(name, meaning) for name, meaning in texts if name]
