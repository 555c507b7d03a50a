"""The REST API and hostile or careless callers: what they can't reach, read, block or fill up."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import tracemalloc
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any, Literal

import pytest
from served import ANN, KEYS, Served

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.api import ServerSettings, create_app
from llmtasker.api.task_routes import AnswerResponse
from llmtasker.api.trusted_host import TrustedHost
from llmtasker.files import read_rows
from llmtasker.testing import FakeTransport
from llmtasker.ui import add_pages

SECRET = "the-words-of-a-customer"


class Triage(Signature):
    """Route a customer message to a team."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


def app(folder: Path, **settings: Any) -> Any:
    llm = LLM(transport=FakeTransport(lambda _: {"team": "billing", "label": "a"}), cache=False)
    return create_app({"triage": Task(Triage, llm=llm)}, ServerSettings(jobs=folder / "jobs.db", keys=KEYS, **settings))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    running = Served(app(tmp_path, max_bytes=20_000_000))
    yield running
    running.close()


class Listening:
    """A port on loopback that counts connections."""

    def __init__(self) -> None:
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()

    def close(self) -> None:
        self._socket.close()


def test_no_field_makes_the_server_connect(served: Served) -> None:
    elsewhere = Listening()
    url = elsewhere.url
    labels: dict[str, Any] = {"labels": ["a", "b"], "inputs": ["x"]}
    bodies: list[tuple[str, Any]] = [
        *(("/v1/classification", {**labels, field: url}) for field in ("model", "base_url", "llm", "cache", "api_key")),
        ("/v1/classification", {**labels, "model": f"{url}#m"}),
        ("/v1/classification", {"labels": [url, "b"], "inputs": [url], "instructions": url}),
        ("/v1/instruction", {"instructions": url, "inputs": [url], "output": {"a": [url]}}),
        ("/v1/classification/jobs", {"rows": [url], "definition": {"labels": ["a", url], "model": url}}),
        ("/tasks/triage", {"message": url}),
        ("/tasks/triage", {"message": "x", "base_url": url}),
        ("/tasks/triage/jobs", {"rows": [{"message": url}], "columns": ["message=message"], "name": url}),
        ("/tasks/triage/jobs", {"rows": ["x"], "columns": [url]}),
    ]
    for path, body in bodies:
        assert served.client.post(path, json=body, headers=ANN).status_code < 500
    form = {"column": url, "encoding": url, "sheet": url, "delimiter": url}
    served.client.post("/tasks/triage/jobs", data=form, files={"file": (url + ".csv", b"message\nx\n")}, headers=ANN)
    elsewhere.close()
    assert elsewhere.connections == 0


def test_texts_and_keys_are_in_no_log_and_no_other_file(
    served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = served.client
    client.post("/tasks/triage", json={"message": SECRET}, headers=ANN)
    client.post("/tasks/triage", json={"message": [SECRET]}, headers=ANN)
    client.post(f"/tasks/{SECRET}", content=b"{", headers=ANN)
    job = client.post("/tasks/triage/jobs", json={"rows": [SECRET], "name": SECRET}, headers=ANN).json()
    served.done(job["id"])
    client.get(f"/jobs/{job['id']}/items?search={SECRET}", headers=ANN)
    client.get(f"/jobs/{job['id']}/results", headers=ANN)
    assert SECRET not in "".join(line for line in caplog.text.splitlines() if "httpx2" not in line)
    assert KEYS["ann"] not in caplog.text
    others = [path for path in tmp_path.rglob("*") if path.is_file() and not path.name.startswith("jobs.db")]
    assert not [path for path in others if SECRET.encode() in path.read_bytes()]
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("jobs.db*"))
    assert SECRET.encode() in kept
    assert KEYS["ann"].encode() not in kept
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.glob("jobs.db*"))


def test_what_is_deleted_is_in_no_file(tmp_path: Path) -> None:
    running = Served(app(tmp_path))
    files = {"file": ("a.csv", f"message\n{SECRET}\n".encode())}
    id_ = running.client.post("/tasks/triage/jobs", files=files, headers=ANN).json()["id"]
    running.done(id_)
    assert running.client.delete(f"/jobs/{id_}", headers=ANN).status_code == 204
    running.close()  # the log of SQLite is written back
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in tmp_path.glob("jobs.db*"))


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "\t=1", "<script>alert(1)</script>", "\u202egnp.exe"])
@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_a_spreadsheet_runs_nothing(served: Served, tmp_path: Path, text: str, kind: str) -> None:
    body = {"rows": [{"message": text, text: "x"}]}
    id_ = served.client.post("/tasks/triage/jobs", json=body, headers=ANN).json()["id"]
    served.done(id_)
    path = tmp_path / f"results.{kind}"
    path.write_bytes(served.client.get(f"/jobs/{id_}/results?format={kind}", headers=ANN).content)
    if kind == "csv":
        assert not any(cell.lstrip('"').startswith(("=", "@", "\t")) for cell in path.read_text("utf-8").split(","))
        assert next(read_rows(path, neutralised=True))["message"] == text
    else:
        import openpyxl

        sheet = openpyxl.load_workbook(path).active
        assert sheet is not None
        assert {cell.data_type for row in sheet.iter_rows() for cell in row if cell.value is not None} == {"s"}


def scope(path: str, length: int) -> dict[str, Any]:
    kind = b"multipart/form-data; boundary=xx"
    headers = [(b"x-api-key", KEYS["ann"].encode()), (b"content-type", kind), (b"content-length", b"%d" % length)]
    more = {"method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}
    return {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", **more}


def test_a_body_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    made, status = app(tmp_path), list[int]()

    async def receive() -> dict[str, Any]:
        assert status, "it was read before the answer"
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        status.append(message.get("status", 0))

    try:
        asyncio.run(made(scope("/tasks/triage/jobs", 100_000_001), receive, send))
    finally:
        made.state.server.queue.close()
    assert status[0] == 413


def test_an_upload_takes_no_memory(tmp_path: Path) -> None:
    made, answers = app(tmp_path), list[MutableMapping[str, Any]]()
    head = b'--xx\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\nmessage\n'
    line = b"x" * 20_000 + b"\n"
    parts = [head, *[line] * 1_000, b"\r\n--xx--\r\n"]  # 20 MB
    size = sum(map(len, parts))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: MutableMapping[str, Any]) -> None:
        answers.append(message)

    tracemalloc.start()
    try:
        asyncio.run(made(scope("/tasks/triage/jobs", size), receive, send))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        made.state.server.queue.close()
    assert (answers[0]["status"], json.loads(answers[1]["body"])["rows"]) == (202, 1_000)
    assert peak < 60_000_000  # most of it are the 500 rows that are written at a time


@pytest.mark.parametrize(
    ("hosts", "host", "status"),
    [
        (None, b"127.0.0.1:8000", 200),
        (None, b"LOCALHOST", 200),
        (None, b"[::1]:8000", 200),
        (None, b"evil.example", 403),
        (None, b"evil.example:127.0.0.1", 403),
        (None, b"127.0.0.1.evil.example", 403),
        (None, b"LOCALHOST:8000", 200),
        (None, b"127.0.0.1:", 200),
        (None, b"[::1]evil.example", 403),
        (None, b"127.0.0.1:80@evil.example", 403),
        (None, b"[::1", 403),
        (None, b"localhost:80:80", 403),
        (None, b"\xff\x00", 403),
        (None, b"", 403),
        (None, None, 403),
        (("llm.intra",), b"llm.intra", 200),
        (("llm.intra",), b"127.0.0.1", 403),
        (("*",), b"evil.example", 200),
    ],
)
def test_an_open_server_answers_to_its_own_names(
    tmp_path: Path, hosts: tuple[str, ...] | None, host: bytes | None, status: int
) -> None:
    """Also with the web page: another site can't point its own name at this machine."""
    given: Any = {} if hosts is None else {"hosts": hosts}
    made = create_app({}, ServerSettings(jobs=tmp_path / "jobs.db", open=True, llm="offline", **given))
    add_pages(made)
    try:
        for path in ("/", "/jobs", "/healthz"):
            asked = {**scope(path, 0), "method": "GET", "headers": [] if host is None else [(b"host", host)]}
            answers = asyncio.run(answered(made, asked))
            assert answers[0]["status"] in ((403,) if status == 403 else (200, 303))
            if status == 403:
                assert json.loads(answers[1]["body"])["type"] == "urn:llmtasker:forbidden"
        asked = {**scope("/", 0), "type": "websocket", "headers": [] if host is None else [(b"host", host)]}
        refused = asyncio.run(answered(TrustedHost(open_door, names=hosts or ServerSettings().hosts), asked))
        assert [one["type"] for one in refused] == ["websocket.close" if status == 403 else "websocket.accept"]
    finally:
        made.state.server.queue.close()


async def open_door(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})


async def answered(app: Any, asked: dict[str, Any]) -> list[MutableMapping[str, Any]]:
    answers = list[MutableMapping[str, Any]]()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        answers.append(message)

    await app(asked, receive, send)
    return answers


def test_a_client_that_takes_nothing_is_left(tmp_path: Path) -> None:
    made, started = app(tmp_path, body_seconds=0.05), list[MutableMapping[str, Any]]()

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        started.append(message)
        await asyncio.Event().wait()

    try:
        asyncio.run(asyncio.wait_for(made({**scope("/docs", 0), "method": "GET"}, receive, send), 20))
    finally:
        made.state.server.queue.close()
    assert len(started) == 1


@pytest.mark.parametrize("text", ["é", "\ud800 alone", "\x00", "</script>", "\u202e", "😀", ""])
def test_any_text_can_be_answered(text: str) -> None:
    body = AnswerResponse({"output": {text or "name": text}, "cost": 2e-05}).body
    assert json.loads(bytes(body)) == {"output": {text or "name": text}, "cost": 2e-05}


def test_no_other_telemetry_has_what_happens_in_a_request(tmp_path: Path) -> None:
    """FastAPI has one of its own, with the messages of exceptions; its options are kept where it knows none."""
    made = app(tmp_path)
    found = getattr(made, "_telemetry", None) or made.extra["telemetry"]
    assert not any(found[what] for what in ("tracing", "metrics", "logs", "auto_configure"))
