"""The content of batch files and of the batch API: requests, answers, the state of a batch; pure functions, no I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from llmtasker.errors import BadResponseError, ItemError, NotRunError, snippet
from llmtasker.values.json_values import as_list, is_object, json_text
from llmtasker.wire.completion import Completion
from llmtasker.wire.error_response import error_in_success, hide_keys, read_error
from llmtasker.wire.request import Request
from llmtasker.wire.response import read_completion

ENDED = frozenset({"completed", "expired", "failed", "cancelled"})
"""The statuses of a batch that will get no more answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchInfo:
    """What a provider reports of one batch: its status, how many requests it counts, and the ids of its files.

    `reasons` lists why a whole batch was refused.
    """

    id: str
    status: str
    file: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    output: str | None = None
    errors: str | None = None
    reasons: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether it will get no more answers."""
        return self.status in ENDED

    @property
    def barren(self) -> bool:
        """Whether it has ended and answered nothing."""
        return self.ended and not self.completed and (bool(self.total) or self.output is None)


def read_batch(data: dict[str, Any]) -> BatchInfo:
    """Return what the provider reports of a batch; `data` has its id."""
    counts, problems = data.get("request_counts"), data.get("errors")
    counted: dict[str, Any] = counts if is_object(counts) else {}
    found = problems.get("data") if is_object(problems) else None
    return BatchInfo(
        id=str(data["id"]),
        status=str(data.get("status", "")).lower(),
        file=_name(data, "input_file_id"),
        output=_name(data, "output_file_id"),
        errors=_name(data, "error_file_id"),
        reasons=tuple(map(_reason, filter(is_object, as_list(found or [])[:5]))),
        **{name: int(counted.get(name) or 0) for name in ("total", "completed", "failed")},
    )


def _reason(problem: dict[str, Any]) -> str:
    words = [str(problem[name]) for name in ("code", "message") if problem.get(name)]
    return snippet(hide_keys(": ".join(words)))


def _name(data: dict[str, Any], field: str) -> str | None:
    value = data.get(field)
    return value if isinstance(value, str) and value else None


def request_line(key: str, url: str, content: bytes) -> bytes:
    r"""Return the line of a request; `content` is its wire body, as JSON.

    >>> request_line("k", "/v1/chat/completions", b'{"model":"m"}')
    b'{"custom_id":"k","method":"POST","url":"/v1/chat/completions","body":{"model":"m"}}\n'
    """
    return b'{"custom_id":"%b","method":"POST","url":"%b","body":%b}\n' % (key.encode(), url.encode(), content)


def key_of(line: bytes) -> str | None:
    """Return the key that a line answers; None: it can't be read."""
    data = _object(line)
    key = None if data is None else data.get("custom_id")
    return key if isinstance(key, str) else None


def read_line(line: bytes, request: Request | None = None) -> Completion | ItemError:
    """Return the answer or the error in a line. Nothing is raised.

    A line of a request that was never asked gives a NotRunError.
    """
    data = _object(line)
    if data is None:
        return BadResponseError(f"a line of the batch's files can't be read ({len(line):,} bytes)")
    response, error = data.get("response"), data.get("error")
    if is_object(response) and response.get("body") is not None:
        return _read_response(response, request)
    code = error.get("code") if is_object(error) else None
    if code in ("batch_expired", "batch_cancelled"):
        return NotRunError(
            f"the batch ended before this row was asked ({code}). Submit it again, or run it", provider_code=code
        )
    if error:
        return error_in_success({"error": error}, request)
    return BadResponseError(
        f"the batch has neither an answer nor an error for this row: {snippet(hide_keys(_text(data)))}"
    )


def _read_response(response: dict[str, Any], request: Request | None) -> Completion | ItemError:
    status, body = response.get("status_code", 200), response["body"]
    payload = body if isinstance(body, str) else json_text(body)
    status = status if type(status) is int else 200
    if 200 <= status < 300:
        try:
            return read_completion(payload, request=request, status=status)
        except ItemError as error:
            return error
    return read_error(status, payload, {}, request)


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return data if is_object(data) else None


def _text(data: dict[str, Any]) -> str:
    return json_text({name: value for name, value in data.items() if name not in ("id", "custom_id")})
