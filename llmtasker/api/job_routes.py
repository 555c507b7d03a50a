"""Jobs: rows or a file that a task processes in the background; their progress, items, and results as a file."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from llmtasker.api.correction import Correction, checked_correction
from llmtasker.api.job_creation import JobCreation
from llmtasker.api.job_json import job_json, row_json
from llmtasker.api.job_results import MEDIA, ResultKind, results_response
from llmtasker.api.problem import Problem
from llmtasker.api.query import check_query
from llmtasker.api.request_body import read_model
from llmtasker.api.server import Server
from llmtasker.jobs.job_state import MOVES, Job

_PAGE = 500
_RESULTS: dict[int | str, dict[str, Any]] = {200: {"content": {media: {} for media in MEDIA.values()}}}
Only = Literal["ok", "failed", "waiting", "repaired", "corrected", "unsure", "abstained"]


def job_routes(server: Server) -> APIRouter:
    """Return the routes of jobs."""
    router = APIRouter(dependencies=[Depends(check_query)])
    JobCreation(server).add_to(router)
    _add_control(router, server)
    _add_reading(router, server)
    _add_correction(router, server)
    return router


def _add_control(router: APIRouter, server: Server) -> None:
    queue = server.queue

    @router.get("/jobs", tags=["jobs"])
    def jobs(request: Request, before: float | None = None, limit: int = Query(50, ge=1, le=_PAGE)) -> dict[str, Any]:
        """List your jobs, newest first; for the next page, pass the `created` of the last one as `before`."""
        return {"jobs": [job_json(job) for job in queue.jobs(server.caller(request).name, limit=limit, before=before)]}

    @router.get("/jobs/{id}", tags=["jobs"])
    def job(request: Request, id: str) -> dict[str, Any]:  # noqa: A002 - the word of the path
        """Show the state and the progress of a job."""
        return job_json(job_of(server, request, id))

    @router.delete("/jobs/{id}", tags=["jobs"], status_code=204)
    def delete(request: Request, id: str) -> Response:  # noqa: A002
        """Stop a job, and delete it with its file, rows and answers."""
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
            "pause": "Pause a job.",
            "resume": "Resume a paused job.",
            "cancel": "Stop a job for good; its finished rows stay.",
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
        """Show the rows of a job with their items, page by page: `after` is the number of the previous page's last
        row."""
        found = job_of(server, request, id)
        rows = queue.rows(found.id, after=after, limit=limit, only=only, label=label, search=search)
        return {"items": [row_json(row) for row in rows], "after": rows[-1].number if len(rows) == limit else None}

    @router.get("/jobs/{id}/labels", tags=["jobs"])
    def labels(request: Request, id: str) -> dict[str, Any]:  # noqa: A002
        """Count the rows of each label."""
        return {"labels": queue.labels(job_of(server, request, id).id)}

    @router.get("/jobs/{id}/results", tags=["jobs"], response_class=StreamingResponse, responses=_RESULTS)
    async def results(
        request: Request,
        id: str,  # noqa: A002
        format: ResultKind = "csv",  # noqa: A002
        formulas: Literal["neutralise", "keep"] = "neutralise",
    ) -> StreamingResponse:
        """Download the rows with their answers; a CSV has the format of the uploaded file, with formulas
        neutralised."""
        found = await asyncio.to_thread(job_of, server, request, id)
        typed = await asyncio.to_thread(server.tasks.typed_answers, found)
        return await results_response(queue, found, format, typed, neutralise=formulas == "neutralise")


def _add_correction(router: APIRouter, server: Server) -> None:
    queue = server.queue
    body = {"required": True, "content": {"application/json": {"schema": Correction.model_json_schema()}}}

    @router.patch("/jobs/{id}/items/{number}", tags=["jobs"], openapi_extra={"requestBody": body})
    async def correct(request: Request, id: str, number: int) -> dict[str, Any]:  # noqa: A002
        """Correct the answer of a row; the results contain the correction, and `corrected` finds it."""
        found = await asyncio.to_thread(job_of, server, request, id)
        asked = await read_model(request, Correction)
        row = await asyncio.to_thread(queue.row, found.id, number) if 0 < number <= found.rows else None
        output = asked.output
        if row is not None and output is not None:
            output = await asyncio.to_thread(checked_correction, server, found, row, output)
        if row is None or not await asyncio.to_thread(queue.correct, found.id, number, output):
            raise Problem("not-found", f"The job has no row {number}; it has {found.rows:,}.")
        row = await asyncio.to_thread(queue.row, found.id, number)
        return {} if row is None else row_json(row)


def job_of(server: Server, request: Request, id_: str) -> Job:
    """Return a job of the caller.

    Raises:
        Problem: the caller has no job with this id; another caller's job looks like one that does not exist.
    """
    job = server.queue.get(id_, server.caller(request).name)
    if job is None:
        raise Problem("not-found", "This key has no such job; it may have expired.")
    return job
