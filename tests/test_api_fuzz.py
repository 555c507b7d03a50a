"""The REST API under malformed requests: each gets an answer below 500, in time, that shows nothing of the server."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import pytest

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.api import ServerSettings, create_app
from llmtasker.api.api_keys import key_hash
from llmtasker.testing import FakeTransport

REQUESTS = 2_000
KEY = b"ann-has-this-very-key"
MARK = "private-words-of-a-customer"
TEXTS = [
    *("", " ", "a", "\x00", "\ud800", "\u202egnp.exe", "<script>alert(1)</script>", "../../etc/passwd", "=1+1"),
    *("'; DROP TABLE jobs; --", "{message}", "{", "%s%n", "é\u0301" * 50, "\U0001f4a9", "NaN", "null", "x" * 70_000),
    *("\r\nX-Evil: 1", "C:\\con", "-1", "1e999", "9" * 30, "٣", MARK, "billing", "file:///etc/passwd", "__class__"),
]
VALUES: list[Any] = [None, True, 0, -1, 1.5, 1e308, 1 << 63, 10**30, [], {}, [[]], [None], {"": None}, {"a": {"b": []}}]
KINDS = [
    *(
        "application/json",
        "application/x-ndjson",
        "multipart/form-data",
        "multipart/form-data; boundary=xx",
        "text/csv",
    ),
    *("multipart/form-data; boundary=xx; charset=klingon", "multipart/form-data; boundary=xx; charset=utf-7"),
    *("multipart/form-data; boundary=", "application/json; charset=utf-16", "", "é/\xff", ";;;=", "application/+json"),
]
NAMES = [
    *(
        "message",
        "labels",
        "inputs",
        "instructions",
        "output",
        "examples",
        "model",
        "rows",
        "columns",
        "name",
        "budget",
    ),
    *("definition", "text", "label", "language", "multi_label", "base_url", "team"),
]
FILES = [
    *(
        b"message\nhello\n",
        b"",
        b"\xff\xfe",
        b"\x00" * 50,
        b'message\n"open',
        b"PK\x03\x04 not a zip",
        b"PAR1 and more",
    ),
    *(b"message,message\na,b\n", b'{"message": 1}\n{', b"[" * 5_000, b"\xef\xbb\xbfmessage\r\r\n\x80\n", b";" * 500),
    *("message\n\u202e\n".encode("utf-16"), b"<xml/>", b"message\n" + b"a\n" * 200),
]


class Triage(Signature):
    """Route a customer message to a team."""

    message: str = InputField(max_length=200)
    team: Literal["billing", "delivery"] = OutputField()


class Malformed:
    """Seeded requests: valid ones of each route with something wrong in one part or in several."""

    def __init__(self, seed: int, routes: list[tuple[str, str]], jobs: list[str]) -> None:
        self._random = random.Random(seed)
        self._routes, self._jobs = routes, jobs

    def next(self) -> tuple[dict[str, Any], bytes]:
        """Return the scope of a request, and its body."""
        chance = self._random
        method, path = chance.choice(self._routes)
        if chance.random() < 0.05:
            method = chance.choice(["HEAD", "OPTIONS", "TRACE", "PUT", "é", ""])
        if method != "POST" or "jobs/{" not in path or chance.random() < 0.5:
            path = path.replace("{id}", chance.choice([*self._jobs * 9, *TEXTS[:20]]))
        path = path.replace("{number}", chance.choice(["1", "0", *TEXTS, "9223372036854775807", "9223372036854775808"]))
        if chance.random() < 0.05:
            path += "/" + chance.choice(TEXTS)
        kind = chance.choice(KINDS)
        body = self._body(path, kind)
        headers = [(b"content-type", kind.encode("latin-1"))] * chance.choice([1, 1, 1, 0, 2])
        if chance.random() < 0.95:
            headers.append((b"x-api-key", KEY))
        for name in (b"x-api-key", b"authorization", b"content-length", b"idempotency-key", b"accept", b"cookie"):
            if chance.random() < 0.04:
                headers.append((name, self._bytes()[:300]))
        query = "&".join(f"{name}={self._quoted()}" for name in self._query())
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": path.encode("utf-8", "replace").decode(),
            "raw_path": quote(path.encode("utf-8", "replace")).encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
        }
        return scope, body

    def _query(self) -> list[str]:
        names = ["after", "limit", "only", "label", "search", "format", "formulas", "before", "other"]
        return self._random.sample(names, self._random.choice([0, 0, 1, 1, 2, 3]))

    def _quoted(self) -> str:
        chance = self._random
        fine = [
            "ok",
            "csv",
            "xlsx",
            "jsonl",
            "parquet",
            "keep",
            "corrected",
            "failed",
            "1",
            "%FF%FE",
            "%ED%A0%80",
            "nan",
        ]
        return chance.choice([*fine, *(quote(text.encode("utf-8", "replace")[:600]) for text in TEXTS)])

    def _bytes(self) -> bytes:
        chance = self._random
        return chance.choice([chance.randbytes(20), chance.choice(TEXTS).encode("utf-8", "surrogatepass"), b"7", b"-5"])

    def _body(self, path: str, kind: str) -> bytes:
        chance = self._random
        if kind.startswith("multipart") and chance.random() < 0.9:
            return self._form()
        body = json.dumps(self._fitting(path), ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
        match chance.randrange(8):
            case 0:
                return body[: chance.randrange(len(body) + 1)]
            case 1:
                at = chance.randrange(len(body) + 1)
                return body[:at] + self._bytes() + body[at:]
            case 2:
                return chance.choice([b"[", b'{"a":']) * chance.choice([90, 900, 90_000])
            case _:
                return body

    def _fitting(self, path: str) -> Any:
        """Return a body for a path, perhaps with one wrong member."""
        text, labels = self._random.choice(TEXTS), ["billing", "delivery"]
        if path.startswith("/v1/classification"):
            body: dict[str, Any] = {"labels": labels, "inputs": [text]}
        elif path.startswith("/v1/instruction"):
            body = {"instructions": "Summarise.", "inputs": [text], "output": {self._random.choice(TEXTS): "text"}}
        elif "items" in path:
            body = {"output": {"team": self._value(1)}}
        else:
            body = {"message": text}
        if path.endswith("/jobs"):
            body = {"rows": [text, {"message": text, self._random.choice(TEXTS): self._value(2)}], "definition": body}
            if path.startswith("/tasks"):
                del body["definition"]
            else:
                body["definition"].pop("inputs", None)
        elif path.endswith("/stream"):
            return [body, text, self._value(1)]
        if self._random.random() < 0.6:
            body[self._random.choice([*body, *NAMES])] = self._value(3)
        return body

    def _value(self, depth: int) -> Any:
        chance = self._random
        if depth and chance.random() < 0.4:
            names = chance.sample([*NAMES, *TEXTS], 2)
            return chance.choice([[self._value(depth - 1)] * 2, {name: self._value(depth - 1) for name in names}])
        return chance.choice([*VALUES, *TEXTS])

    def _form(self) -> bytes:
        chance = self._random
        parts = list[bytes]()
        for _ in range(chance.choice([0, 1, 2, 3, 60])):
            name = chance.choice(["column", "name", "budget", "encoding", "delimiter", "sheet", "definition", "file"])
            parts.append(b'Content-Disposition: form-data; name="%s"\r\n\r\n' % name.encode() + self._bytes())
        ending = chance.choice([".csv", ".xlsx", ".jsonl", ".json", ".parquet", ".txt", ".exe", ""])
        file_name = (chance.choice(TEXTS) + ending).encode("utf-8", "surrogatepass")
        head = b'Content-Disposition: form-data; name="file"; filename="%s"\r\n' % file_name
        kind = chance.choice([b"Content-Type: text/csv\r\n\r\n", b"\r\n", b"Content-Type: \xff\r\n\r\n", b""])
        parts.append(head + kind + chance.choice(FILES))
        body = b"".join(b"--xx\r\n%s\r\n" % part for part in parts) + b"--xx--\r\n"
        return body if chance.random() < 0.9 else body[: chance.randrange(len(body))]


async def sent(app: Any, scope: dict[str, Any], body: bytes) -> tuple[int, bytes]:
    """Return the status and the body of the answer to a request, whose body comes in two parts."""
    half = len(body) // 2
    messages = [
        {"type": "http.request", "body": body[:half], "more_body": True},
        {"type": "http.request", "body": body[half:], "more_body": False},
    ]
    status, parts = 0, list[bytes]()

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)
        parts.append(message.get("body", b""))

    await asyncio.wait_for(app(scope, receive, send), 20)
    return status, b"".join(parts)


FORM = b'--xx\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n--xx--\r\n'
ESCAPED = b"multipart/form-data; boundary=xx; charset=unicode_escape"
JSON = b"application/json"
CORRECTION = b'{"output": {"team": "billing"}}'


def requested(method: str, path: str, kind: bytes = JSON, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    scope, _ = Malformed(0, [(method, path)], []).next()
    more = {"method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
    return {**scope, **more, "headers": [(b"content-type", kind), (b"x-api-key", KEY), *headers]}


@pytest.mark.parametrize(
    ("scope", "body", "status"),
    [
        (requested("PATCH", f"/jobs/{{id}}/items/{10**30}"), CORRECTION, 404),
        (requested("PATCH", "/jobs/{id}/items/1"), CORRECTION, 409),
        (requested("POST", "/v1/classification/jobs", ESCAPED), FORM % (b"name", b"\\ud800"), 422),
        (requested("POST", "/v1/classification/jobs", ESCAPED), FORM % (b"name", b"n" * 201), 422),
    ],
)
def test_what_once_broke_the_server(tmp_path: Path, scope: dict[str, Any], body: bytes, status: int) -> None:
    app = create_app({}, ServerSettings(jobs=tmp_path / "jobs.db", keys={"ann": KEY.decode()}))
    queue = app.state.server.queue
    try:  # the job of a task that the server no longer has
        job = queue.create({"owner": "ann", "task": "gone", "outputs": {"team": "team"}}, [({}, {}, None)], keep=9)
        path = scope["path"].replace("{id}", job.id)
        assert asyncio.run(sent(app, {**scope, "path": path, "raw_path": path.encode()}, body))[0] == status
    finally:
        queue.close()


@pytest.mark.parametrize(("pause", "size", "status"), [(0.02, 1, 408), (0.0, 600, 413)])
def test_a_body_that_drips_or_hides_its_length_is_refused(tmp_path: Path, pause: float, size: int, status: int) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps([{"name": "ann", "sha256": key_hash(KEY.decode()), "bytes": 1_000}]))
    app = create_app({}, ServerSettings(jobs=tmp_path / "jobs.db", keys=keys, body_seconds=0.1))
    answers, came = list[MutableMapping[str, Any]](), 0

    async def receive() -> dict[str, Any]:
        nonlocal came
        came += size
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": b" " * size, "more_body": True}

    async def send(message: MutableMapping[str, Any]) -> None:
        answers.append(message)

    try:
        asyncio.run(asyncio.wait_for(app(requested("POST", "/v1/classification"), receive, send), 20))
    finally:
        app.state.server.queue.close()
    assert answers[0]["status"] == status
    assert came <= 1_200


def test_malformed_requests_get_an_answer_below_500(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    llm = LLM(transport=FakeTransport(lambda _: {"team": "billing"}), cache=False)
    limits: dict[str, Any] = {"max_bytes": 300_000, "max_rows": 150, "max_sync_rows": 20, "max_columns": 50}
    settings = ServerSettings(jobs=tmp_path / "jobs.db", keys={"ann": KEY.decode()}, **limits)
    app = create_app({"triage": Task(Triage, llm=llm, attempts=1)}, settings)
    paths = app.openapi()["paths"]
    routes = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    caplog.set_level(logging.INFO)

    async def attack() -> list[tuple[Any, ...]]:
        created = app.state.server.queue
        jobs = list[str]()
        broken = list[tuple[Any, ...]]()
        malformed = Malformed(7, routes, jobs)
        for number in range(REQUESTS):
            if number % 50 == 0:  # some are deleted or cancelled on the way
                jobs[:] = [job.id for job in created.jobs("ann", limit=20)] or ["none"]
            scope, body = malformed.next()
            status, answer = await sent(app, scope, body)
            if not 200 <= status < 500 or (status >= 400 and not json.loads(answer)["type"].startswith("urn:")):
                broken.append((status, scope["method"], scope["path"][:80], scope["query_string"][:80], body[:200]))
        return broken

    try:
        broken = asyncio.run(attack())
    finally:
        app.state.server.queue.close()
    assert not broken, "\n".join(map(str, broken))
    assert MARK not in caplog.text
    assert KEY.decode() not in caplog.text
