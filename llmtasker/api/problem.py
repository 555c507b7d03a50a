"""Problem: the response to a call that can't be served, as application/problem+json (RFC 9457)."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from fastapi.responses import Response

MEDIA_TYPE = "application/problem+json"

TYPES: dict[str, tuple[int, str]] = {
    "not-json": (400, "The body is not JSON"),
    "bad-request": (400, "The request can't be read"),
    "no-key": (401, "A key is needed"),
    "unknown-key": (401, "The key is not known"),
    "forbidden": (403, "The key does not allow this"),
    "not-found": (404, "Not found"),
    "method": (405, "This path does not have this method"),
    "slow-body": (408, "The body did not arrive in time"),
    "wrong-state": (409, "The state of the job does not allow this"),
    "too-large": (413, "The body is too large"),
    "media-type": (415, "The media type is not supported"),
    "invalid": (422, "The request has a wrong value"),
    "input": (422, "The input does not fit the task"),
    "file": (422, "The file can't be used"),
    "too-many-rows": (422, "There are too many rows"),
    "rate-limit": (429, "There were too many requests"),
    "spending-limit": (429, "The key has reached its spending limit for today"),
    "internal": (500, "Something went wrong in the server"),
    "stopping": (503, "The server is stopping"),
}
"""Each type with its status and title; the URN of a type never changes its meaning."""


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """A call that can't be served: one of `TYPES`, which value was wrong, and what to try.

    `more` are members of the response, such as `row` and `column`; `headers` are added to it.
    """

    def __init__(self, kind: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail if detail.endswith((".", "…")) else f"{detail}."
        self.status, self.title = TYPES[kind]
        self.headers = headers or {}
        self.more = more

    def response(self) -> Response:
        """Return the response."""
        body = {
            "type": f"urn:llmtasker:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }
        return Response(json.dumps(body), self.status, headers=self.headers, media_type=MEDIA_TYPE)


def of_status(status: int) -> Problem:
    """Return the problem for a status that the framework sets itself."""
    kinds = {404: "not-found", 405: "method", 413: "too-large", 415: "media-type"}
    kind = kinds.get(status, "bad-request" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "internal")
    hints = {"not-found": "Nothing is served at this path; /docs lists all paths.", "method": "See /docs."}
    return Problem(kind, hints.get(kind, "See /docs for the form of a request."))
