"""Create a job: from rows as JSON, or from a file as a form."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile

from llmtasker.api import job_files
from llmtasker.api.api_keys import ApiKey
from llmtasker.api.job_json import job_json
from llmtasker.api.problem import Problem
from llmtasker.api.request_body import read_form, read_model, strict_json
from llmtasker.api.served_tasks import KINDS, Definition
from llmtasker.api.server import Server
from llmtasker.errors import describe, snippet
from llmtasker.jobs.job_rows import NewRow
from llmtasker.jobs.job_state import Job
from llmtasker.jobs.pipeline_work import TaskLike, work_on
from llmtasker.result_table import free_names

_DAY = 86_400.0
_BLOCK = 1 << 18
_LONGEST_NAME = 200  # characters of the name of a job
_REPEATED = 200  # characters of an Idempotency-Key


class RowsOfJob(BaseModel):
    """Rows for a job, as objects with columns or, if the task has one input, as texts."""

    model_config = ConfigDict(extra="forbid")

    rows: list[Any] = Field(min_length=1)
    columns: list[str] = Field(default_factory=list[str], max_length=50, description="field=column, or a column")
    name: str = Field("", max_length=_LONGEST_NAME)
    budget: float | None = Field(None, gt=0, allow_inf_nan=False, description="the most that the job may cost")
    definition: dict[str, Any] | None = Field(None, description="for /v1/…/jobs: the task, as for /v1/…")


_IDEMPOTENT = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "a repeated request with the same key returns the same job",
    "schema": {"type": "string", "minLength": 1, "maxLength": _REPEATED, "pattern": "^[!-~]+$"},
}


def _described(kind: str | None) -> dict[str, Any]:
    """Return the body and the header of a request for a job; `kind` is that of a task that the caller describes."""
    rows = RowsOfJob.model_json_schema()
    properties: dict[str, Any] = {
        "file": {"type": "string", "format": "binary", "description": "CSV, Excel, JSON lines or Parquet"},
        "column": {"type": "array", "items": {"type": "string"}, "description": "field=column, or a column"},
        **{name: {"type": "string"} for name in ("name", "budget", "encoding", "delimiter", "sheet")},
    }
    form = {"type": "object", "required": ["file"], "properties": properties}
    if kind is None:
        del rows["properties"]["definition"]
    else:
        rows["properties"]["definition"] = KINDS[kind].model_json_schema()
        properties["definition"] = {"type": "string", "description": "the task as JSON, as in the other form"}
        for schema in (rows, form):
            schema["required"] = [*schema["required"], "definition"]
    content = {"application/json": {"schema": rows}, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}, "parameters": [_IDEMPOTENT]}


class JobCreation:
    """The routes that create a job: from rows as JSON, or from a file as a form."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def add_to(self, router: APIRouter) -> None:
        """Add a route for each task of the server, and for the tasks of callers."""

        def route(path: str, name: str, task: TaskLike | None) -> None:
            async def create(request: Request) -> JSONResponse:
                return await self._create(request, name, task)

            create.__doc__ = (
                f"Create a job of `{name}`. With the header Idempotency-Key, a repeated request returns the same job."
            )
            router.add_api_route(
                path,
                create,
                methods=["POST"],
                status_code=202,
                tags=["jobs"],
                name=f"create_{name}",
                openapi_extra=_described(name if task is None else None),
            )

        for name, task in self._server.tasks.by_name.items():
            route(f"/tasks/{name}/jobs", name, task)
        for kind in KINDS:
            route(f"/v1/{kind}/jobs", kind, None)

    async def _create(self, request: Request, name: str, task: TaskLike | None) -> JSONResponse:
        server = self._server
        key = server.caller(request)
        server.check_spending(key)
        if server.stopping:
            raise Problem("stopping", "Send the job again in a minute.", headers={"Retry-After": "60"})
        repeated = request.headers.get("idempotency-key")
        if repeated is not None and not 0 < len(repeated) <= _REPEATED:
            raise Problem("invalid", f"Idempotency-Key has at most {_REPEATED} characters.")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            job = await self._of_form(request, key, name, task, repeated)
        else:
            job = await self._of_rows(request, key, name, task, repeated)
        server.wake()
        return JSONResponse(
            job_json(job), 202, headers={"Location": f"{request.scope.get('root_path', '')}/jobs/{job.id}"}
        )

    def _task(self, name: str, task: TaskLike | None, definition: Any) -> tuple[TaskLike, Definition | None]:
        if task is not None:
            if definition is not None:
                raise Problem("invalid", "definition: the server defines this task, so leave definition out.")
            return task, None
        try:
            described = KINDS[name].model_validate(definition)
        except ValidationError as error:
            raise Problem("invalid", f"definition: {describe(error)}.") from None
        return self._server.tasks.described(name, described), described

    async def _of_rows(
        self, request: Request, key: ApiKey, name: str, task: TaskLike | None, repeated: str | None
    ) -> Job:
        server = self._server
        asked = await read_model(request, RowsOfJob)
        server.check_rows(key, len(asked.rows), server.settings.max_rows)
        found, described = self._task(name, task, asked.definition)
        header, chosen, rows = job_files.given_rows(
            found, asked.rows, asked.columns, max_columns=server.settings.max_columns
        )
        about = {
            "columns": chosen,
            "header": header,
            "name": asked.name or f"{len(rows):,} {'row' if len(rows) == 1 else 'rows'}",
            "budget": asked.budget,
        }
        return await asyncio.to_thread(new_job, server, key, name, found, described, about, rows, repeated=repeated)

    async def _of_form(
        self, request: Request, key: ApiKey, name: str, task: TaskLike | None, repeated: str | None
    ) -> Job:
        form = await read_form(request, max_fields=50, max_part_size=1 << 20)
        try:
            _check_texts(form)
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise Problem("invalid", "file: send the file with the rows in the field `file`.")
            definition = _text(form, "definition")
            parsed = None if definition is None else strict_json(definition.encode())
            found, described = self._task(name, task, parsed)
            with tempfile.TemporaryDirectory(prefix="llmtasker-") as folder:
                path = Path(folder) / f"upload{job_files.ending_of(file.filename or '')}"
                await asyncio.to_thread(_copy, file, path)
                return await asyncio.to_thread(self._of_file, path, form, file, key, name, found, described, repeated)
        finally:
            await form.close()

    def _of_file(
        self,
        path: Path,
        form: FormData,
        file: UploadFile,
        key: ApiKey,
        name: str,
        task: TaskLike,
        described: Definition | None,
        repeated: str | None,
    ) -> Job:
        settings = self._server.settings
        given = {option: value for option in ("encoding", "delimiter", "sheet") if (value := _text(form, option))}
        table = job_files.TableFile(path, max_bytes=settings.max_bytes, max_columns=settings.max_columns, **given)
        columns = [value for value in form.getlist("column") if isinstance(value, str) and value]
        chosen = table.chosen(task, columns)
        most = settings.max_rows if key.rows is None else min(key.rows, settings.max_rows)
        about = {
            "columns": chosen,
            "header": table.header,
            "name": _text(form, "name") or snippet(Path((file.filename or "").replace("\\", "/")).name, _LONGEST_NAME),
            "budget": _budget(_text(form, "budget")),
            "format": job_files.stored_format(table.format),
        }
        rows = table.rows(chosen, most=most, task=task)
        return new_job(self._server, key, name, task, described, about, rows, repeated=repeated, upload=path)


def new_job(
    server: Server,
    key: ApiKey,
    name: str,
    task: TaskLike,
    definition: Definition | None,
    about: Mapping[str, Any],
    rows: Iterable[NewRow],
    *,
    repeated: str | None = None,
    upload: Path | None = None,
) -> Job:
    """Store a job of a task for a key and return it: `about` has its columns, its header, its name and its format."""
    job = {
        **about,
        "owner": key.name,
        "task": name,
        "definition": None if definition is None else definition.model_dump(mode="json"),
        "identity": work_on(task).whole,
        "outputs": free_names(task.signature.output_fields, about["header"]),
    }
    keep = server.settings.keep_days * _DAY
    return server.queue.create(job, rows, keep=keep, repeated=repeated, upload=upload)


def _check_texts(form: FormData) -> None:
    """Refuse a form with a text that can't be stored, or with a name that is too long; the caller sets its charset.

    Raises:
        Problem: a text can't be stored, or the name is too long.
    """
    for field, value in form.multi_items():
        text = value if isinstance(value, str) else value.filename or ""
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise Problem("invalid", "The form has characters that are not Unicode text. Send it in UTF-8.")
        if field == "name" and len(text) > _LONGEST_NAME:
            raise Problem("invalid", f"name: it has {len(text):,} characters; the limit is {_LONGEST_NAME}.")


def _text(form: FormData, name: str) -> str | None:
    value = form.get(name)
    return value if isinstance(value, str) and value else None


def _budget(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise Problem("invalid", f"budget: {snippet(text, 40)!r} is not a number above 0.")
    return value


def _copy(file: UploadFile, path: Path) -> None:
    with path.open("wb") as target:
        shutil.copyfileobj(file.file, target, _BLOCK)
