"""BatchDesk: the files and batches of a FaultyServer, for clients of the provider's batch API."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.message import Message
from typing import Any, Literal

from llmtasker.testing.http_server import HttpRequest, HttpResponse

Ending = Literal["completed", "expired", "cancelled", "failed"]

LONGEST_ID = 64
_BROKEN: Literal["after_headers"] = "after_headers"
_LEFT = {"expired": "batch_expired", "cancelled": "batch_cancelled"}


@dataclass
class _SubmittedBatch:
    """A batch, and how many times its client has polled it."""

    id: str
    endpoint: str
    file: str
    metadata: Mapping[str, str]
    status: str = "validating"
    asked: int = 0
    problems: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    counts: dict[str, int] = field(default_factory=lambda: {"total": 0, "completed": 0, "failed": 0})
    output: str | None = None
    errors: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": {"object": "list", "data": self.problems} if self.problems else None,
            "input_file_id": self.file,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": self.output,
            "error_file_id": self.errors,
            "created_at": 0,
            "request_counts": self.counts,
            "metadata": self.metadata,
        }


class BatchDesk:
    """Accepts files and batches of requests, and answers their lines as the server would answer the calls.

    A batch ends when its client has polled it more than `polls` times: with `ending`, after `share` of its lines. The
    other lines are in the error file, as `batch_expired` or `batch_cancelled`; a batch that `failed` has no files.
    `spoil` changes the bytes of a file of answers before it is stored. Files are checked as a strict provider does: a
    batch fails if its file has a duplicate or long `custom_id`, a wrong `url`, or more than `most` lines.

    `fails` has pairs of a request ("POST batches", "GET files/id/content" …) and a status. That status is returned
    once, after the work was done, as if the response was lost on the way. 0 breaks the connection in the middle.

    `files` has the bytes by file id, `batches` counts created batches, `asked_lines` counts answered lines.
    """

    def __init__(self, answer: Callable[[HttpRequest], tuple[int, bytes]], url: str = "/v1/chat/completions") -> None:
        self._answer = answer
        self.url = url
        self.polls = 0
        self.ending: Ending = "completed"
        self.share = 1.0
        self.most = 50_000
        self.spoil: Callable[[bytes], bytes] = bytes
        self.fails: list[tuple[str, int]] = []
        self.reset()

    def reset(self) -> None:
        """Forget files, batches and counts; the settings for how batches end stay."""
        self.files: dict[str, bytes] = {}
        self.uploads = 0
        self.asked_lines = 0
        self._batches: dict[str, _SubmittedBatch] = {}

    @property
    def batches(self) -> int:
        """The number of batches that were created."""
        return len(self._batches)

    def respond(self, request: HttpRequest) -> HttpResponse | None:
        """Return the response to a request for files or batches; None: the request is for something else."""
        path = request.path.partition("?")[0]
        found = re.search(r"/(files|batches)(?:/([^/]+))?(?:/(content|cancel))?$", path)
        if found is None:
            return None
        place, name = _place(request.method, *found.groups())
        response = self._do(place, name, request)
        for planned in self.fails:
            if planned[0] == place:
                self.fails.remove(planned)
                status = planned[1]
                return _refused(status, "a planned failure", "planned") if status else replace(response, breaks=_BROKEN)
        return response

    def _do(self, place: str, name: str, request: HttpRequest) -> HttpResponse:
        if place == "POST files":
            return self._upload(request)
        if place == "POST batches":
            return self._create(json.loads(request.body))
        if place == "GET batches":
            return _json({"object": "list", "data": [b.to_dict() for b in self._batches.values()], "has_more": False})
        if place == "GET files/id/content" and name in self.files:
            return HttpResponse(body=self.files[name], content_type="application/octet-stream")
        if place == "DELETE files/id" and self.files.pop(name, None) is not None:
            return _json({"id": name, "object": "file", "deleted": True})
        if place == "GET batches/id" and name in self._batches:
            return self._look(self._batches[name], request)
        if place == "POST batches/id/cancel" and name in self._batches:
            return self._cancel(self._batches[name], request)
        return _refused(404, f"no such path: {request.path}", "not_found")

    def _upload(self, request: HttpRequest) -> HttpResponse:
        form = _form(request)
        if form.get("purpose") != b"batch" or "file" not in form:
            return _refused(400, "expected a file with the purpose 'batch'", "invalid_file")
        self.uploads += 1
        name = self._keep(form["file"])
        return _json({"id": name, "object": "file", "bytes": len(form["file"]), "purpose": "batch"})

    def _keep(self, content: bytes) -> str:
        name = f"file-{self.uploads}-{len(self.files) + 1}"
        self.files[name] = content
        return name

    def _create(self, asked: dict[str, Any]) -> HttpResponse:
        if asked.get("input_file_id") not in self.files:
            return _refused(400, "no such input file", "invalid_file")
        if asked.get("completion_window") != "24h" or asked.get("endpoint") != self.url:
            return _refused(400, f"the endpoint must be {self.url} and the window 24h", "invalid_request")
        batch = _SubmittedBatch(
            id=f"batch_{len(self._batches) + 1}",
            endpoint=self.url,
            file=asked["input_file_id"],
            metadata=asked.get("metadata") or {},
        )
        self._batches[batch.id] = batch
        return _json(batch.to_dict())

    def _look(self, batch: _SubmittedBatch, request: HttpRequest) -> HttpResponse:
        batch.asked += 1
        if batch.status in ("validating", "in_progress"):
            lines = self._checked(batch)
            batch.status = "in_progress"
            if batch.problems:
                batch.status = "failed"
            elif batch.asked > self.polls:
                self._end(batch, self.ending, lines, request)
        return _json(batch.to_dict())

    def _cancel(self, batch: _SubmittedBatch, request: HttpRequest) -> HttpResponse:
        if batch.status not in ("validating", "in_progress"):
            return _refused(409, f"a batch that is {batch.status} can't be cancelled", "invalid_request")
        self._end(batch, "cancelled", self._checked(batch), request)
        return _json(batch.to_dict())

    def _checked(self, batch: _SubmittedBatch) -> list[dict[str, Any]]:
        """Return the lines of a batch; mistakes in them become its problems."""
        lines = [json.loads(line) for line in self.files[batch.file].splitlines()]
        names = [line.get("custom_id") for line in lines]
        checks = {
            "duplicate_custom_id": len(set(names)) < len(names),
            "invalid_custom_id": not all(isinstance(name, str) and 0 < len(name) <= LONGEST_ID for name in names),
            "mismatched_url": any((line.get("method"), line.get("url")) != ("POST", self.url) for line in lines),
            "too_many_lines": len(lines) > self.most,
            "empty_file": not lines,
        }
        batch.problems = [
            {"code": code, "message": f"the file has this fault: {code}", "line": None, "param": None}
            for code, wrong in checks.items()
            if wrong
        ]
        batch.counts["total"] = len(lines)
        return lines

    def _end(self, batch: _SubmittedBatch, ending: Ending, lines: list[dict[str, Any]], request: HttpRequest) -> None:
        batch.status = ending
        if ending == "failed":
            batch.problems = [{"code": "token_limit_exceeded", "message": "too many tokens are enqueued"}]
            return
        asked = len(lines) if ending == "completed" else round(len(lines) * self.share)
        good, bad = list[bytes](), list[bytes]()
        for number, line in enumerate(lines):
            if number < asked:
                status, body = self._ask(line, request)
                (good if status == 200 else bad).append(_line(number, line["custom_id"], status, body))
            else:
                bad.append(_line_left(number, line["custom_id"], _LEFT[ending]))
        batch.counts |= {"completed": len(good), "failed": len(bad)}
        # In no order, as from a provider.
        batch.output = self._keep(self.spoil(b"".join(reversed(good)))) if good else None
        batch.errors = self._keep(self.spoil(b"".join(bad))) if bad else None

    def _ask(self, line: dict[str, Any], request: HttpRequest) -> tuple[int, bytes]:
        self.asked_lines += 1
        # Compact, as a client writes it: the server counts tokens by the length.
        body = json.dumps(line["body"], separators=(",", ":")).encode("ascii")
        return self._answer(HttpRequest("POST", str(line["url"]), request.headers, body))


def _place(method: str, kind: str, name: str | None, action: str | None) -> tuple[str, str]:
    return f"{method} {kind}{'/id' if name else ''}{f'/{action}' if action else ''}", name or ""


def _form(request: HttpRequest) -> dict[str, bytes]:
    """Return the fields of a multipart form."""
    kind = Message()
    kind["content-type"] = request.headers.get("content-type", "")
    boundary = kind.get_param("boundary")
    fields: dict[str, bytes] = {}
    if not isinstance(boundary, str):
        return fields
    for part in request.body.split(b"--" + boundary.encode("latin-1"))[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        if name := re.search(rb'\bname="([^"]*)"', head):
            fields[name[1].decode("latin-1")] = content.removesuffix(b"\r\n")
    return fields


def _line(number: int, custom_id: str, status: int, body: bytes) -> bytes:
    try:
        content = json.loads(body)
    except ValueError:
        content = body.decode("utf-8", "replace")
    response = {"status_code": status, "request_id": f"req_{number}", "body": content}
    return _bytes({"id": f"batch_req_{number}", "custom_id": custom_id, "response": response, "error": None})


def _line_left(number: int, custom_id: str, code: str) -> bytes:
    error = {"code": code, "message": "This request was not executed."}
    return _bytes({"id": f"batch_req_{number}", "custom_id": custom_id, "response": None, "error": error})


def _bytes(value: Any) -> bytes:
    return json.dumps(value).encode("ascii") + b"\n"


def _json(value: Any, status: int = 200) -> HttpResponse:
    return HttpResponse(status=status, body=json.dumps(value).encode("ascii"))


def _refused(status: int, message: str, code: str) -> HttpResponse:
    return _json({"error": {"message": message, "type": "invalid_request_error", "code": code}}, status)
