"""What a stand-in for an LLM reads from a request: the text to answer and the schema of the answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from llmtasker.wire.request import Request

_DECODER = json.JSONDecoder()

# instructor's Markdown mode ends each conversation with this user message: it is no input to answer.
_NOT_AN_INPUT = "Return the correct JSON response within a ```json codeblock"


def body_of(request: Request | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the wire body of a request, or the body itself."""
    return request.body if isinstance(request, Request) else request


def last_user_text(request: Request | Mapping[str, Any]) -> str:
    """Return the text of the last user message of a request or of a wire body; "" where there is none.

    >>> last_user_text({"messages": [{"role": "user", "content": "Bonjour"}]})
    'Bonjour'
    """
    for message in reversed(body_of(request).get("messages", ())):
        if message.get("role") == "user":
            text = message_text(message)
            if not text.startswith(_NOT_AN_INPUT):
                return text
    return ""


def message_text(message: Mapping[str, Any]) -> str:
    """Return the text of one chat message; its text parts joined where the content is a list of parts."""
    content: object = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    parts = [cast("Mapping[str, Any]", part) for part in cast("Sequence[object]", content) if isinstance(part, Mapping)]
    return "\n".join(str(part.get("text") or "") for part in parts)


def offered_tools(request: Request | Mapping[str, Any]) -> list[str]:
    """Return the names of the functions that a request offers."""
    return [tool.get("function", {}).get("name", "") for tool in body_of(request).get("tools") or ()]


def request_schema(request: Request | Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the JSON schema that the answer shall fit, or None where the request asks for plain text.

    Looked for in this order: the first tool's parameters, the response format, the last schema
    that is written out as JSON in the system messages (in JSON mode: in any message).

    >>> request_schema({"messages": [], "response_format": {"type": "json_schema", "json_schema": {"schema": {}}}})
    {}
    """
    body = body_of(request)
    if tools := body.get("tools"):
        return cast("dict[str, Any]", tools[0].get("function", {}).get("parameters") or {})
    response_format: dict[str, Any] = body.get("response_format") or {}
    if declared := response_format.get("json_schema"):
        return cast("dict[str, Any]", declared.get("schema") or {})
    roles = {"system", "developer", "user"} if response_format else {"system", "developer"}
    for message in reversed(body.get("messages", ())):
        if message.get("role") in roles and (schema := _schema_in(message_text(message))) is not None:
            return schema
    return None


@lru_cache(maxsize=64)
def _schema_in(text: str) -> dict[str, Any] | None:
    """Return the last JSON schema of an object that is written out in a text."""
    found: dict[str, Any] | None = None
    start = text.find("{")
    while start >= 0:
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            if "properties" in value:
                found = value
        start = text.find("{", end)
    return found
