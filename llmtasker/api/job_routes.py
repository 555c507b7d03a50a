"""Jobs: rows or a file that a task works on by itself; their progress, their items, their results as a file."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile

from llmtasker.api import job_files
from llmtasker.api.api_keys import ApiKey
from llmtasker.api.problem import Problem
from llmtasker.api.request_body import read_model, strict_json
from llmtasker.api.served_tasks import KINDS, Definition
from llmtasker.api.server import Server
from llmtasker.errors import ConfigurationError, describe, snippet
from llmtasker.jobs.job_state import MOVES, Job, JobRow
from llmtasker.jobs.row_work import task_identity
from llmtasker.result_table import free_names
from llmtasker.task import Task

_DAY = 86_400.0
_BLOCK = 1 << 18
_PAGE = 500
_LONGEST_NAME = 200  # characters of the name of a job
_REPEATED = 200  # characters of an Idempotency-Key
_SHOWN = (
    *("id", "task", "name", "state", "reason", "rows", "done", "ok", "failed", "cached", "repaired", "calls", "cost"),
    *("budget", "columns", "outputs", "created", "updated", "expires"),
)
Only = Literal["ok", "failed", "waiting", "repaired", "corrected"]


class RowsOfJob(BaseModel):
    """Rows for a job, as objects with columns or, where the task has one input, as texts."""

    model_config = ConfigDict(extra="forbid")

    rows: list[Any] = Field(min_length=1)
    columns: list[str] = Field(default_factory=list[str], max_length=50, description="field=column, or a column")
    name: str = Field("", max_length=_LONGEST_NAME)
    budget: float | None = Field(None, gt=0, allow_inf_nan=False, description="the most that it may cost")
    definition: dict[str, Any] | None = Field(None, description="for /v1/…/jobs: the task, as for /v1/…")


class Correction(BaseModel):
    """What a person says is right for a row; null takes a correction back."""

    model_config = ConfigDict(extra="forbid")

    output: dict[str, Any] | None


def job_routes(server: Server) -> APIRouter:
    """Return the routes of jobs."""
    router = APIRouter()
    _JobCreation(server).add_to(router)
    _add_control(router, server)
    _add_reading(router, server)
    return router


class _JobCreation:
    """The ways to create a job: rows as JSON, or a file as a form."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def add_to(self, router: APIRouter) -> None:
        """Add a route for each task of the server, and for the tasks of callers."""
        schema = RowsOfJob.model_json_schema()
        properties = {
            "file": {"type": "string", "format": "binary", "description": "CSV, Excel, JSON lines or Parquet"},
            **{name: {"type": "string"} for name in ("column", "name", "budget", "encoding", "delimiter", "sheet")},
        }
        form = {"type": "object", "required": ["file"], "properties": properties}
        content = {"application/json": {"schema": schema}, "multipart/form-data": {"schema": form}}
        extra = {"requestBody": {"required": True, "content": content}}

        def route(path: str, name: str, task: Task[Any] | None) -> None:
            async def create(request: Request) -> JSONResponse:
                return await self._create(request, name, task)

            create.__doc__ = (
                f"Create a job of `{name}`. With the header Idempotency-Key, a repeated request is the same job."
            )
            router.add_api_route(
                path,
                create,
                methods=["POST"],
                status_code=202,
                tags=["jobs"],
                name=f"create_{name}",
                openapi_extra=extra,
            )

        for name, task in self._server.tasks.by_name.items():
            route(f"/tasks/{name}/jobs", name, task)
        for kind in KINDS:
            route(f"/v1/{kind}/jobs", kind, None)

    async def _create(self, request: Request, name: str, task: Task[Any] | None) -> JSONResponse:
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
        return JSONResponse(job_json(job), 202, headers={"Location": f"/jobs/{job.id}"})

    def _task(self, name: str, task: Task[Any] | None, definition: Any) -> tuple[Task[Any], Definition | None]:
        if task is not None:
            if definition is not None:
                raise Problem("invalid", "definition: this task is the server's own, and has one already.")
            return task, None
        try:
            described = KINDS[name].model_validate(definition)
        except ValidationError as error:
            raise Problem("invalid", f"definition: {describe(error)}.") from None
        return self._server.tasks.described(name, described), described

    async def _of_rows(
        self, request: Request, key: ApiKey, name: str, task: Task[Any] | None, repeated: str | None
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
            "name": asked.name or f"{len(rows):,} rows",
            "budget": asked.budget,
        }
        return await asyncio.to_thread(self._store, key, name, found, described, about, rows, repeated, None)

    async def _of_form(
        self, request: Request, key: ApiKey, name: str, task: Task[Any] | None, repeated: str | None
    ) -> Job:
        async with request.form(max_files=1, max_fields=50, max_part_size=1 << 20) as form:
            _check_texts(form)
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise Problem("invalid", "file: send the file of the rows in the field `file`.")
            definition = _text(form, "definition")
            parsed = None if definition is None else strict_json(definition.encode())
            found, described = self._task(name, task, parsed)
            with tempfile.TemporaryDirectory(prefix="llmtasker-") as folder:
                path = Path(folder) / f"upload{job_files.ending_of(file.filename or '')}"
                await asyncio.to_thread(_copy, file, path)
                return await asyncio.to_thread(self._of_file, path, form, file, key, name, found, described, repeated)

    def _of_file(
        self,
        path: Path,
        form: FormData,
        file: UploadFile,
        key: ApiKey,
        name: str,
        task: Task[Any],
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
        return self._store(key, name, task, described, about, table.rows(chosen, most=most), repeated, path)

    def _store(
        self,
        key: ApiKey,
        name: str,
        task: Task[Any],
        described: Definition | None,
        about: Mapping[str, Any],
        rows: Any,
        repeated: str | None,
        upload: Path | None,
    ) -> Job:
        job = {
            **about,
            "owner": key.name,
            "task": name,
            "definition": None if described is None else described.model_dump(mode="json"),
            "identity": task_identity(task),
            "outputs": free_names(task.signature.output_fields, about["header"]),
        }
        keep = self._server.settings.keep_days * _DAY
        return self._server.queue.create(job, rows, keep=keep, repeated=repeated, upload=upload)


def _add_control(router: APIRouter, server: Server) -> None:
    queue = server.queue

    @router.get("/jobs", tags=["jobs"])
    def jobs(request: Request, before: float | None = None, limit: int = Query(50, ge=1, le=_PAGE)) -> dict[str, Any]:
        """List your jobs, the newest first; `before` is the `created` of the last one of the page before."""
        return {"jobs": [job_json(job) for job in queue.jobs(server.caller(request).name, limit=limit, before=before)]}

    @router.get("/jobs/{id}", tags=["jobs"])
    def job(request: Request, id: str) -> dict[str, Any]:  # noqa: A002 - the word of the path
        """Show the state and the progress of a job."""
        return job_json(job_of(server, request, id))

    @router.delete("/jobs/{id}", tags=["jobs"], status_code=204)
    def delete(request: Request, id: str) -> Response:  # noqa: A002
        """Delete a job with its file, its rows and its answers; it stops first."""
        found = job_of(server, request, id)
        queue.move(found.id, "cancel")
        queue.delete(found.id)
        return Response(status_code=204)

    def act(action: str) -> None:
        def do(request: Request, id: str) -> dict[str, Any]:  # noqa: A002
            found = job_of(server, request, id)
            if not queue.move(found.id, action):
                allowed = " or ".join(MOVES[action])
                raise Problem("wrong-state", f"The job is {found.state}; it must be {allowed}.", state=found.state)
            server.wake()
            return job_json(queue.get(found.id) or found)

        hints = {
            "pause": "Let a job wait.",
            "resume": "Let a paused job go on.",
            "cancel": "End a job; its finished rows stay.",
            "retry": "Ask the failed rows of a job again.",
        }
        do.__doc__ = hints[action]
        router.add_api_route(f"/jobs/{{id}}/{action}", do, methods=["POST"], tags=["jobs"], name=f"{action}_job")

    for action in MOVES:
        act(action)


def _add_reading(router: APIRouter, server: Server) -> None:
    queue = server.queue

    @router.get("/jobs/{id}/items", tags=["jobs"])
    def items(
        request: Request,
        id: str,  # noqa: A002
        after: int = Query(0, ge=0, le=1 << 53),
        limit: int = Query(50, ge=1, le=_PAGE),
        only: Only | None = None,
        label: str | None = Query(None, max_length=200),
        search: str | None = Query(None, max_length=500),
    ) -> dict[str, Any]:
        """Show the rows of a job with their items, page by page: `after` is the number of the last row before."""
        found = job_of(server, request, id)
        rows = queue.rows(found.id, after=after, limit=limit, only=only, label=label, search=search)
        return {"items": [row_json(row) for row in rows], "after": rows[-1].number if len(rows) == limit else None}

    @router.get("/jobs/{id}/labels", tags=["jobs"])
    def labels(request: Request, id: str) -> dict[str, Any]:  # noqa: A002
        """Count the rows of each label."""
        return {"labels": queue.labels(job_of(server, request, id).id)}

    @router.patch("/jobs/{id}/items/{number}", tags=["jobs"])
    async def correct(request: Request, id: str, number: int) -> dict[str, Any]:  # noqa: A002
        """Correct the answer of a row: the correction stands in the results, and is what `corrected` finds."""
        found = job_of(server, request, id)
        asked = await read_model(request, Correction)
        there = 0 < number <= found.rows
        if there:
            _check_correction(server, found, asked.output)
        if not there or not await asyncio.to_thread(queue.correct, found.id, number, asked.output):
            raise Problem("not-found", f"The job has no row {number}; it has {found.rows:,}.")
        row = queue.row(found.id, number)
        return {} if row is None else row_json(row)

    @router.get("/jobs/{id}/results", tags=["jobs"], response_class=StreamingResponse)
    async def results(
        request: Request,
        id: str,  # noqa: A002
        format: Literal["csv", "xlsx", "jsonl", "parquet"] = "csv",  # noqa: A002
        formulas: Literal["neutralise", "keep"] = "neutralise",
    ) -> StreamingResponse:
        """Download the rows with their answers, a CSV in the form of the file that came, without live formulas."""
        found = job_of(server, request, id)
        kept = ExitStack()
        file = job_files.results_file(queue, found, format, neutralise=formulas == "neutralise")
        path = await asyncio.to_thread(kept.enter_context, file)
        headers = {
            "Content-Disposition": f'attachment; filename="{found.id}{path.suffix}"',
            "Content-Length": str(path.stat().st_size),
        }
        return StreamingResponse(_sent(path, kept), media_type=job_files.MEDIA[format], headers=headers)


async def _sent(path: Path, kept: ExitStack) -> AsyncGenerator[bytes]:
    with kept, path.open("rb") as file:
        while block := await asyncio.to_thread(file.read, _BLOCK):
            yield block


def job_of(server: Server, request: Request, id_: str) -> Job:
    """Return a job of the caller.

    Raises:
        Problem: there is none with this id that is the caller's: another's looks like one that is not there.
    """
    job = server.queue.get(id_, server.caller(request).name)
    if job is None:
        raise Problem("not-found", "There is no such job of this key; it may have expired.")
    return job


def _check_correction(server: Server, job: Job, output: Mapping[str, Any] | None) -> None:
    if output is None:
        return
    unknown = output.keys() - job.outputs.keys()
    if unknown or not output:
        raise Problem("invalid", f"output: give one of {', '.join(job.outputs)}.")
    try:
        task = server.tasks.of_job(job)
        for name, value in output.items():
            task.signature.__pydantic_validator__.validate_assignment(task.signature.model_construct(), name, value)
    except ConfigurationError as error:
        raise Problem("wrong-state", f"A correction can't be checked: {error}") from None
    except ValidationError as error:
        raise Problem("invalid", f"output: {describe(error)}.") from None


def job_json(job: Job) -> dict[str, Any]:
    """Return a job as a caller sees it."""
    return {name: getattr(job, name) for name in _SHOWN}


def row_json(row: JobRow) -> dict[str, Any]:
    """Return a row as a caller sees it: its cells, its whole item, its correction."""
    return {"number": row.number, "row": row.row, "item": row.item, "correction": row.correction}


def _check_texts(form: FormData) -> None:
    """Refuse a form with a text that can't be stored, or a name that is too long: its charset is the caller's.

    Raises:
        Problem: it has one.
    """
    for field, value in form.multi_items():
        text = value if isinstance(value, str) else value.filename or ""
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise Problem("invalid", "The form has characters that are not Unicode text. Send it in UTF-8.")
        if field == "name" and len(text) > _LONGEST_NAME:
            raise Problem("invalid", f"name: it has {len(text):,} characters; at most {_LONGEST_NAME} are taken.")


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
