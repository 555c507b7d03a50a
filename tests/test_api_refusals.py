"""The REST API and unread bodies: the response arrives, and reading on has a limit."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tracemalloc
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from served import KEYS, Served

from llmtasker import LLM, Classification
from llmtasker.api import ServerSettings, create_app
from llmtasker.api.bounded_exchange import BoundedExchange
from llmtasker.testing import FakeTransport
from llmtasker.ui import add_pages

KEY = f"X-API-Key: {KEYS['ann']}"
JSON = "Content-Type: application/json"
PART = b"x" * 65_536
SIZES = [100_000, 1_000_000, 20_000_000]
REFUSALS = [
    ("keys", 401, "POST /tasks/triage", JSON),
    ("keys", 401, "POST /tasks/triage", f"{JSON}\r\nX-API-Key: wrong"),
    ("keys", 401, "POST /tasks/triage/jobs", "Content-Type: multipart/form-data; boundary=xx"),
    ("open", 403, "POST /tasks/triage", f"{JSON}\r\nSec-Fetch-Site: cross-site"),
    ("open", 403, "POST /tasks/triage", f"{JSON}\r\nHost: evil.example"),
    ("keys", 404, "POST /nothing", KEY),
    ("keys", 404, "POST /tasks/absent", f"{JSON}\r\n{KEY}"),
    ("keys", 405, "PUT /tasks/triage", KEY),
    ("keys", 405, "POST /healthz", KEY),
    ("keys", 413, "POST /tasks/triage", f"{JSON}\r\n{KEY}"),
    ("keys", 413, "POST /tasks/triage/jobs", f"{JSON}\r\n{KEY}"),
    ("keys", 415, "POST /tasks/triage", f"Content-Type: text/html\r\n{KEY}"),
]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    folder, llm = tmp_path_factory.mktemp("api"), LLM(transport=FakeTransport(lambda _: {"label": "a"}), cache=False)
    running = dict[str, Served]()
    for name, more in {"keys": {"keys": KEYS, "max_bytes": 50_000}, "open": {"open": True}}.items():
        settings: dict[str, Any] = {"jobs": folder / f"{name}.db", **more}
        app = create_app({"triage": Classification(llm=llm, labels=["a", "b"])}, ServerSettings(**settings))
        add_pages(app)
        running[name] = Served(app)
    yield running
    for server in running.values():
        server.close()


def head(begin: str, headers: str, length: str) -> bytes:
    host = "" if "Host:" in headers else "Host: localhost\r\n"
    return f"{begin} HTTP/1.1\r\n{host}{headers}\r\n{length}\r\n\r\n".encode()


def body(size: int, chunked: bool) -> Iterator[bytes]:
    for at in range(0, size, len(PART)):
        part = PART[: size - at]
        yield b"%x\r\n%s\r\n" % (len(part), part) if chunked else part
    if chunked:
        yield b"0\r\n\r\n"


def answer(client: socket.socket) -> tuple[int, str, dict[str, Any]]:
    """Return the status, type and JSON of an answer."""
    with client.makefile("rb") as file:
        status, fields = int(file.readline().split()[1]), dict[str, str]()
        while line := file.readline().strip().decode():
            name, _, value = line.partition(": ")
            fields[name.lower()] = value
        return status, fields["content-type"], json.loads(file.read(int(fields["content-length"])))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("server", "status", "begin", "headers"), REFUSALS)
def test_a_refusal_reaches_a_client_that_is_still_sending(
    servers: dict[str, Served],
    server: str,
    status: int,
    begin: str,
    headers: str,
    chunked: bool,
    close: bool,
    size: int,
) -> None:
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    with servers[server].connect() as client:
        client.sendall(head(begin, f"{headers}\r\nConnection: close" if close else headers, length))
        for part in body(size, chunked):  # all of it, before the response is read
            client.sendall(part)
        found, kind, problem = answer(client)
    assert (found, kind, problem["status"]) == (status, "application/problem+json", status)


def test_a_connection_is_kept_after_a_small_body(servers: dict[str, Served]) -> None:
    with servers["keys"].connect() as client:
        for _ in range(2):
            client.sendall(head("POST /nothing", KEY, "Content-Length: 100000"))
            client.sendall(b"".join(body(100_000, chunked=False)))
            assert answer(client)[0] == 404


def test_a_refusal_comes_before_the_body(servers: dict[str, Served]) -> None:
    with servers["keys"].connect() as client:
        client.sendall(head("POST /tasks/triage", f"{JSON}\r\n{KEY}", "Content-Length: 101000000"))
        assert answer(client)[0] == 413
        tracemalloc.start()
        try:
            with contextlib.suppress(OSError):  # it disconnects a client that continues
                for part in body(101_000_000, chunked=False):
                    client.sendall(part)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("silent", [False, True])
def test_reading_on_has_an_end(silent: bool) -> None:
    read, sent = list[int](), list[MutableMapping[str, Any]]()

    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})

    async def receive() -> dict[str, Any]:
        if silent:
            await asyncio.Event().wait()
        read.append(1_000_000)
        return {"type": "http.request", "body": b"x" * 1_000_000, "more_body": True}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [(b"content-length", b"101000000")]}

    async def serve() -> None:
        exchange = BoundedExchange(scope, receive, send, id_="1", max_bytes=200_000_000, seconds=20)
        await refuse(scope, exchange.receive, exchange.send)
        await exchange.end(silence=0.01)

    asyncio.run(asyncio.wait_for(serve(), 20))
    assert [one.get("more_body", False) for one in sent] == [False, True, False]
    assert (b"connection", b"close") in sent[0]["headers"]
    assert sum(read) <= 40_000_000
