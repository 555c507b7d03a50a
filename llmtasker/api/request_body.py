"""Read a body: refuse it early if it is too large or too slow, and parse it as strict JSON; never wait for a client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmtasker.api.in_time import in_time
from llmtasker.api.problem import Problem
from llmtasker.errors import describe, snippet
from llmtasker.values.json_values import NotStrictError, parse_json

M = TypeVar("M", bound=BaseModel)

_OF_KEY = "llmtasker.max_bytes"  # in the scope of a request: the limit of its key
_SLOWEST = 1_000  # bytes per second
_END = 100  # bytes at the end of a form that contain its last boundary


class BodyLimit:
    """Answers 413 to a body that is too large, before reading it if its length is declared, and 408 to one that stalls.

    A client that reads nothing of its response for that long is disconnected.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, seconds: float) -> None:
        self._app, self._most, self._seconds = app, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen, end, answering, loop = 0, b"", False, asyncio.get_running_loop()
        started = loop.time()

        async def limited() -> Message:
            nonlocal seen, end
            if seen < 0:  # the body is there: this is the wait for the end of the connection
                return await receive()
            most = min(self._most, scope.get(_OF_KEY, self._most))
            if not answering:  # a page reports it as a page
                if _declared_length(scope) > most:
                    raise _too_large(most)
                _check_encoding(scope)
            try:
                # A body that arrives a few bytes at a time counts as one that stalls.
                due = min(loop.time(), started + seen / _SLOWEST) + self._seconds
                message = await in_time(receive(), due)
            except TimeoutError:
                raise Problem("slow-body", f"Too little arrived in {self._seconds:g} seconds.") from None
            if message["type"] == "http.request":
                body = message.get("body", b"")
                seen, end = seen + len(body), (end + body[-_END:])[-_END:]
                if seen > most:
                    raise _too_large(most)
                if not message.get("more_body", False):
                    seen = -1
                    _check_end(scope, end)
            return message

        async def patient(message: Message) -> None:
            nonlocal answering
            answering = True
            try:
                await in_time(send(message), loop.time() + self._seconds)
            except TimeoutError:
                raise ClientDisconnect from None

        await self._app(scope, limited, patient)


def limit_body(request: Request, most: int) -> None:
    """Limit the body of a request, before it is read, to what its key allows.

    Raises:
        Problem: its declared length is larger.
    """
    request.scope[_OF_KEY] = most
    if _declared_length(request.scope) > most:
        raise _too_large(most)


def _declared_length(scope: MutableMapping[str, Any]) -> int:
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(length[:20]) if length.isdigit() else 0


def _check_encoding(scope: Scope) -> None:
    for name, value in scope["headers"]:
        if name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
            kind = snippet(value.decode("latin-1"), 20)
            detail = f"The body is encoded as {kind}; send it without Content-Encoding."
            raise Problem("media-type", detail, headers={"Accept-Encoding": "identity"})


def _check_end(scope: Scope, end: bytes) -> None:
    """Refuse a form that is cut: starlette would leave its last file out, without closing it."""
    is_form = any(
        name == b"content-type" and b"multipart/form-data" in value.lower() for name, value in scope["headers"]
    )
    if is_form and not end.rstrip().endswith(b"--"):
        raise Problem("bad-request", "The form is cut: its last boundary is missing.")


def _too_large(most: int) -> Problem:
    return Problem("too-large", f"A body has at most {most:,} bytes. Send the rows in several jobs.")


async def read_json(request: Request) -> Any:
    """Return the JSON value of a body.

    Raises:
        Problem: it is not JSON, or has NaN, duplicate keys, lone surrogates or thousands of levels.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem("media-type", f"The body is {snippet(kind, 60)}; send application/json.")
    return strict_json(await read_body(request))


async def read_body(request: Request) -> bytes:
    """Return a body, as `request.body()` does in twice the time.

    Raises:
        ClientDisconnect: the caller disconnected.
    """
    parts: list[bytes] = []
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def read_form(request: Request, *, max_fields: int, max_part_size: int) -> FormData:
    """Return a form with one file at most.

    Raises:
        Problem: it can't be read.
    """
    try:
        return await request.form(max_files=1, max_fields=max_fields, max_part_size=max_part_size)
    except ValueError as error:  # of python-multipart: only a newer starlette makes a 400 of it
        raise Problem("bad-request", f"The form can't be read: {snippet(error, 100)}.") from None


def strict_json(body: bytes) -> Any:
    """Return the JSON value of a text in UTF-8; raises what `read_json` raises."""
    try:
        value = parse_json(body.decode("utf-8"))
        if b"\\ud" in body.lower():  # a lone surrogate can be written so, but nothing can store or send it
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        raise Problem("not-json", "The body has characters that are not Unicode text.") from None
    except NotStrictError as error:
        raise Problem("not-json", f"The JSON is ambiguous: {error}.") from None
    except RecursionError:
        raise Problem("not-json", "The JSON is nested too deep.") from None
    except ValueError as error:
        raise Problem("not-json", f"{snippet(error, 100)}. Send a JSON value in UTF-8.") from None
    return value


async def read_model(request: Request, model: type[M]) -> M:
    """Return the body as an object of a Pydantic model.

    Raises:
        Problem: it is not JSON, or does not fit.
    """
    value = await read_json(request)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Problem("invalid", f"{describe(error)}.") from None
    except RecursionError:
        raise Problem("not-json", "The JSON is nested too deep.") from None
