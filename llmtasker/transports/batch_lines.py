"""The lines of batch files: a request to be written, an answer or error that was read; pure functions, no I/O."""

from __future__ import annotations

import json
from typing import Any

from llmtasker.completion import Completion
from llmtasker.errors import BadResponseError, ItemError, NotRunError, snippet
from llmtasker.transports.failures import error_in_200, hide_keys, read_error
from llmtasker.transports.values import is_object, json_text
from llmtasker.transports.wire import read_completion

_NOT_ASKED = frozenset({"batch_expired", "batch_cancelled"})


def request_line(key: str, url: str, content: bytes) -> bytes:
    r"""Return the line of a request; `content` is its wire body, as JSON.

    >>> request_line("k", "/v1/chat/completions", b'{"model":"m"}')
    b'{"custom_id":"k","method":"POST","url":"/v1/chat/completions","body":{"model":"m"}}\n'
    """
    return b'{"custom_id":"%b","method":"POST","url":"%b","body":%b}\n' % (key.encode(), url.encode(), content)


def key_of(line: bytes) -> str | None:
    """Return the key that a line answers, None where it can't be read."""
    data = _object(line)
    key = None if data is None else data.get("custom_id")
    return key if isinstance(key, str) else None


def read_line(line: bytes) -> Completion | ItemError:
    """Return what a line says: the answer, or why there is none. Nothing is raised.

    A line of a request that was never asked gives a NotRunError.
    """
    data = _object(line)
    if data is None:
        return BadResponseError(f"a line of the batch's files can't be read ({len(line):,} bytes)")
    response, error = data.get("response"), data.get("error")
    if is_object(response) and response.get("body") is not None:
        return _read_response(response)
    if is_object(error) and error.get("code") in _NOT_ASKED:
        return NotRunError(
            f"the batch ended before this row was asked ({error['code']}). Submit the rows again, or run them",
            provider_code=error["code"],
        )
    if error:
        return error_in_200({"error": error})
    return BadResponseError(f"the batch has neither an answer nor an error for this row: {snippet(hide_keys(_text(data)))}")


def _read_response(response: dict[str, Any]) -> Completion | ItemError:
    status, body = response.get("status_code", 200), response["body"]
    payload = body if isinstance(body, str) else json_text(body)
    if not (type(status) is int and status != 200):
        try:
            return read_completion(payload)
        except ItemError as error:
            return error
    return read_error(status, payload, {})


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return data if is_object(data) else None


def _text(data: dict[str, Any]) -> str:
    return json_text({name: value for name, value in data.items() if name not in ("id", "custom_id")})
