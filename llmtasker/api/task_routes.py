"""Inputs that wait for their answers: one, or many as JSON lines; for the server's tasks, or a caller's own."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field
from pydantic_core import to_json

from llmtasker.api.api_keys import ApiKey
from llmtasker.api.problem import Problem
from llmtasker.api.query import check_query
from llmtasker.api.request_body import read_body, read_json, read_model, strict_json
from llmtasker.api.served_tasks import ClassificationDefinition, InstructionDefinition
from llmtasker.api.server import Server
from llmtasker.errors import InputError, snippet
from llmtasker.jobs.job_runner import NumberedInput
from llmtasker.jobs.pipeline_work import TaskLike
from llmtasker.values.json_values import is_array, is_object

_LINES = "application/x-ndjson"
_LONGEST_TEXT = 1_000_000


class ClassificationRequest(ClassificationDefinition):
    """Texts to classify, and how."""

    inputs: list[str] = Field(min_length=1)


class InstructionRequest(InstructionDefinition):
    """Texts, and what to do with each."""

    inputs: list[str] = Field(min_length=1)


class AnswerResponse(JSONResponse):
    """JSON values as a body, written fast; a lone surrogate, which can't be sent, is written as its escape."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        try:
            return to_json(content)
        except ValueError:
            return json.dumps(content, allow_nan=False).encode()


def task_routes(server: Server) -> APIRouter:
    """Return the routes of inputs that wait for their answers."""
    router = APIRouter(dependencies=[Depends(check_query)])
    for name, task in server.tasks.by_name.items():
        _add_task(router, server, name, task)

    async def classify(request: Request) -> JSONResponse:
        """Classify texts with the labels in the request."""
        key = server.caller(request)
        asked = await read_model(request, ClassificationRequest)
        definition = ClassificationDefinition.model_validate(asked.model_dump(exclude={"inputs"}))
        return await _answered(server, key, server.tasks.described("classification", definition), asked.inputs)

    async def instruct(request: Request) -> JSONResponse:
        """Follow the instruction in the request for each text."""
        key = server.caller(request)
        asked = await read_model(request, InstructionRequest)
        definition = InstructionDefinition.model_validate(asked.model_dump(exclude={"inputs"}))
        return await _answered(server, key, server.tasks.described("instruction", definition), asked.inputs)

    for path, endpoint, model in (
        ("/v1/classification", classify, ClassificationRequest),
        ("/v1/instruction", instruct, InstructionRequest),
    ):
        body = {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}
        router.add_api_route(path, endpoint, methods=["POST"], tags=["own tasks"], openapi_extra={"requestBody": body})
    return router


def unknown_task(server: Server, request: Request) -> Problem:
    """Return the problem for an unknown path below /tasks: it lists the paths, for callers with a key."""
    try:
        server.caller(request)
    except Problem as refused:
        return refused
    name, _, more = request.url.path.partition("/tasks/")[2].partition("/")
    if name in server.tasks.by_name:
        there = "; ".join(f"/tasks/{name}{end}" for end in ("", "/stream", "/jobs"))
        return Problem("not-found", f"A task has nothing at /{snippet(more, 60)}; POST to {there}.")
    known = ", ".join(server.tasks.by_name) or "none: only /v1/classification and /v1/instruction"
    return Problem("not-found", f"There is no task {snippet(repr(name), 60)}; the server has {known}.")


def _add_task(router: APIRouter, server: Server, name: str, task: TaskLike) -> None:
    schema = task.signature.input_model.model_json_schema()

    async def ask(request: Request) -> JSONResponse:
        key = server.caller(request)
        server.check_spending(key)
        given = await read_json(request)
        _check_input(task, given)
        item = await task.acall(given)
        if isinstance(item.error, InputError) and not item.steps:  # a step refuses what an earlier one gave it
            many = f" A list of inputs goes to /tasks/{name}/stream or /tasks/{name}/jobs." if is_array(given) else ""
            raise Problem("input", f"{item.error.message}.{many}")
        return AnswerResponse(server.served(key, task, item))

    async def ask_many(request: Request) -> StreamingResponse:
        key = server.caller(request)
        server.check_spending(key)
        rows = await _read_rows(request)
        server.check_rows(key, len(rows), server.settings.max_sync_rows)
        inputs = [_numbered(task, row, number) for number, row in enumerate(rows, start=1)]
        return StreamingResponse(_lines(server, key, task, inputs), media_type=_LINES)

    ask.__doc__ = f"Ask `{name}` for one input.\n\n{task.signature.instructions.splitlines()[0]}"
    ask_many.__doc__ = f"Ask `{name}` for many inputs: one JSON line each, as it finishes, with its `index` from 0."
    one = {"required": True, "content": {"application/json": {"schema": schema}}}
    rows = {
        "application/json": {"schema": {"type": "array", "items": schema}},
        _LINES: {"schema": {"type": "string", "description": "one input per line, as JSON"}},
    }
    router.add_api_route(
        f"/tasks/{name}", ask, methods=["POST"], tags=[name], name=f"ask_{name}", openapi_extra={"requestBody": one}
    )
    router.add_api_route(
        f"/tasks/{name}/stream",
        ask_many,
        methods=["POST"],
        tags=[name],
        name=f"stream_{name}",
        response_class=StreamingResponse,
        responses={200: {"content": {_LINES: {}}}},
        openapi_extra={"requestBody": {"required": True, "content": rows}},
    )


def _check_input(task: TaskLike, given: Any) -> None:
    """Refuse an input with fields that the task does not have: a misspelt one would go unnoticed.

    Raises:
        Problem: it has such a field.
    """
    if is_object(given) and (unknown := given.keys() - task.signature.input_fields.keys()):
        known = ", ".join(task.signature.input_fields)
        raise Problem("input", f"There is no input field {min(unknown)[:60]!r}; the fields are {known}.")


def _numbered(task: TaskLike, row: Any, number: int) -> NumberedInput:
    _check_input(task, row)
    if is_object(row):
        return NumberedInput(row, number)
    fields = list(task.signature.input_fields)
    if len(fields) > 1:
        raise Problem("input", f"Input {number} must be an object with {', '.join(fields)}.", row=number)
    return NumberedInput({fields[0]: row}, number)


async def _read_rows(request: Request) -> list[Any]:
    if request.headers.get("content-type", "").startswith(_LINES):
        body = await read_body(request)
        rows = [strict_json(line) for line in body.split(b"\n") if line.strip()]
    else:
        rows = await read_json(request)
    if not is_array(rows) or not rows:
        raise Problem("invalid", "The body must be a list of inputs, at least one.")
    return rows


async def _lines(server: Server, key: ApiKey, task: TaskLike, inputs: Sequence[NumberedInput]) -> AsyncGenerator[str]:
    async for item in task.astream(inputs, concurrency=server.settings.concurrency, progress=False):
        line = {"index": item.input.number - 1, **server.served(key, task, item)}
        yield json.dumps(line, ensure_ascii=False) + "\n"


async def _answered(server: Server, key: ApiKey, task: TaskLike, texts: Sequence[str]) -> JSONResponse:
    server.check_spending(key)
    server.check_rows(key, len(texts), server.settings.max_sync_rows)
    results = await task.arun(list(texts), concurrency=server.settings.concurrency, progress=False)
    return AnswerResponse({"items": [server.served(key, task, item) for item in results]})
