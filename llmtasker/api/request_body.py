"""Read a body, and parse it as strict JSON or a form."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData
from starlette.requests import ClientDisconnect

from llmtasker.api.problem import Problem
from llmtasker.errors import describe, snippet
from llmtasker.values.json_values import NotStrictError, parse_json

M = TypeVar("M", bound=BaseModel)


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
