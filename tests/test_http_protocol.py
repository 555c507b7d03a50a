"""HTTP as the server reads it: invalid, endless or slow requests are refused before a key is checked."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from served import Served

from llmtasker.api.http_protocol import HTTPProtocol

POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "a path": (b"GET /", b"a" * 10_000),
    "a name": (b"GET / HTTP/1.1\r\n", b"a" * 10_000),
    "a value": (b"GET / HTTP/1.1\r\nX-Long: ", b"a" * 10_000),
    "headers": (b"GET / HTTP/1.1\r\n", b"X-One: 1\r\n" * 1_000),
    "what a chunk has beside its size": (CHUNKED + b"1;", b"a" * 10_000),
    "a trailer": (CHUNKED + b"0\r\nX-Long: ", b"a" * 10_000),
    "trailers": (CHUNKED + b"0\r\n", b"X-One: 1\r\n" * 1_000),
}
NO_HTTP = [
    *(b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nHost\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"),
    *(b"KLINGON / HTTP/1.1\r\n\r\n", b"GET \xff HTTP/1.1\r\n\r\n", b"GET http:// HTTP/1.1\r\n\r\n", b"\r\n\r\n \r\n"),
    *(b"CONNECT a:80 HTTP/1.1\r\n\r\n", b"CONNECT / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    *(b"GET / HTTP/1.1\r\nA: \x00\r\n\r\n", b"GET / HTTP/1.1\r\nA : b\r\n\r\n", b"GET / HTTP/1.1\nA: b\n\n"),
    *(POST + b"Content-Length: -1\r\n\r\n", POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    *(POST + b"Transfer-Encoding: gzip\r\n\r\n", CHUNKED + b"x\r\n"),
    *(b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
]
WHOLE = CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n"
READ = {  # what is sent, in parts; the body that the app reads
    "a trailer, which is no header": ([CHUNKED + b"3\r\nabc\r\n0\r\nX-Late: 1\r\n\r\n"], b"abc"),
    "a header": ([POST + b"X-Late: 1\r\nContent-Length: 3\r\n\r\nabc"], b"abc, and x-late"),
    "no HTTP after a request": ([WHOLE + b"KLINGON\r\n\r\n"], b"abc"),
    "another protocol is offered": ([POST + OFFER + b"Content-Length: 3\r\n\r\nabc"], b"abc"),
    "it is offered in chunks": (
        [POST + OFFER + b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"],
        b"abc",
    ),
    "it is offered in parts": ([POST + OFFER[:50], OFFER[50:] + b"Content-Length: 3\r\n", b"\r\nab", b"c"], b"abc"),
}
HIDDEN = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"  # a request in the body of another one
IN_CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
AT_ONCE = b"Content-Length: %d\r\n\r\n%s" % (len(HIDDEN), HIDDEN)
SMUGGLED = {  # what is sent, before a request; the bodies that the app reads
    "after no body": (POST + OFFER + b"Content-Length: 0\r\n\r\n" + HIDDEN, [b"", b""]),
    "in a body": (POST + OFFER + AT_ONCE, [HIDDEN]),
    "in two bodies": ((POST + OFFER + AT_ONCE) * 2, [HIDDEN, HIDDEN]),
    "in chunks": (POST + OFFER + IN_CHUNKS, [HIDDEN]),
}


class App:
    """Answers with what it read, and counts its requests."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        self.asked += 1
        body, message = b"", dict[str, Any](more_body=True)
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
        body += b", and x-late" if b"x-late" in dict(scope["headers"]) else b""
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})


class Impatient(HTTPProtocol):
    head_seconds = 0.05


class Counting(HTTPProtocol):
    """Keeps the parts that are written."""

    written: ClassVar[list[bytes]] = []

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.transport = CountedTransport(transport)  # type: ignore[assignment]


class CountedTransport:
    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        Counting.written.append(data)
        self._transport.write(data)


@pytest.fixture(params=[HTTPProtocol], scope="module")
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    running = Served(App(), request.param)
    yield running
    running.close()


def sent(served: Served, data: bytes) -> tuple[int, bytes]:
    """Return the status and the body of the response to some bytes, after which the server disconnects."""
    with served.connect() as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        return answered(client)


def answered(client: socket.socket) -> tuple[int, bytes]:
    head, _, body = b"".join(iter(lambda: client.recv(65_536), b"")).partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, body


@pytest.mark.parametrize("what", ENDLESS)
def test_what_never_ends_is_refused(served: Served, what: str) -> None:
    begin, part = ENDLESS[what]
    taken = 0
    with served.connect() as client:
        try:
            client.sendall(begin)
            while taken < 50_000_000:
                client.sendall(part)
                taken += len(part)
        except OSError:  # it disconnects a client that continues
            assert taken < 50_000_000
            return
    raise AssertionError("all of it was taken")


@pytest.mark.parametrize("data", NO_HTTP)
def test_what_is_not_http_is_a_problem(served: Served, data: bytes) -> None:
    status, body = sent(served, data)
    problem = json.loads(body)
    assert (status, problem["status"], problem["type"]) == (400, 400, "urn:llmtasker:bad-request")
    assert served.client.get("/").status_code == 200


@pytest.mark.parametrize("what", READ)
def test_a_request_is_read_whole(served: Served, what: str) -> None:
    parts, body = READ[what]
    with served.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            client.sendall(part)
        client.shutdown(socket.SHUT_WR)
        assert answered(client) == (200, body)


@pytest.mark.parametrize("size", [10_000, 37, 1], ids=["at once", "in parts", "byte by byte"])
@pytest.mark.parametrize("where", SMUGGLED)
def test_a_body_is_never_the_next_request(served: Served, where: str, size: int) -> None:
    data, bodies = SMUGGLED[where]
    data += HIDDEN.replace(b"Host", b"Connection: close\r\nHost")
    with served.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(data), size):
            client.sendall(data[at : at + size])
        answers = b"".join(iter(lambda: client.recv(65_536), b"")).split(b"HTTP/1.1 200 OK\r\n")
    assert [answer.partition(b"\r\n\r\n")[2] for answer in answers[1:]] == [*bodies, b""]


@pytest.mark.parametrize("headers", [b"", b"Host: a\r\n", b"Connection: keep-alive\r\n"])
def test_a_request_of_old_is_served(served: Served, headers: bytes) -> None:
    assert sent(served, b"GET / HTTP/1.0\r\n" + headers + b"\r\n") == (200, b"")


async def lines(scope: Any, receive: Any, send: Any) -> None:
    """Sends two lines without their length, and fails between them if the path says so."""
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"1\n", "more_body": True})
    if scope["path"] == "/broken":
        raise ConnectionAbortedError
    await send({"type": "http.response.body", "body": b"2\n"})


@pytest.mark.parametrize("headers", [b"", b"Connection: keep-alive\r\n"])
def test_a_client_of_old_gets_no_chunks(headers: bytes) -> None:
    running = Served(lines)
    try:
        with running.connect() as client:
            client.sendall(b"GET / HTTP/1.0\r\n" + headers + b"\r\n")
            answer = b"".join(iter(lambda: client.recv(65_536), b""))
        with running.connect() as client:  # the end of the connection would be the end of the body
            client.sendall(b"GET /broken HTTP/1.0\r\n" + headers + b"\r\n")
            with pytest.raises(ConnectionResetError):
                b"".join(iter(lambda: client.recv(65_536), b""))
    finally:
        running.close()
    head, _, body = answer.lower().partition(b"\r\n\r\n")
    assert body == b"1\n2\n"
    assert b"connection: close" in head
    assert b"transfer-encoding" not in head


def test_seeded_bytes_get_no_error_of_the_server(served: Served) -> None:
    chance, whole = (
        random.Random(7),
        [CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", POST + b"Content-Length: 3\r\n\r\nabc", *NO_HTTP],
    )
    for _ in range(300):
        data = bytearray(b"".join(chance.choices(whole, k=2)))
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(data))
            data[at : at + chance.randrange(3)] = chance.choice([b"", b"\r\n", b"\x00", b"9" * 30, chance.randbytes(2)])
        assert sent(served, bytes(data))[0] in {0, 200, 400}, data


def test_few_requests_wait_for_the_answer_to_another(served: Served) -> None:
    one, before = POST + b"Content-Length: 1\r\n\r\na", served.app.asked
    with served.connect() as client:
        client.sendall(one * 10)
        answers = b""
        while answers.count(b"200 OK") < 10:
            answers += (part := client.recv(65_536))
            assert part
    with served.connect() as client:
        client.sendall(one * 1_000)
        assert b"".join(iter(lambda: client.recv(65_536), b"")).count(b"200 OK") < 30
    assert served.app.asked <= before + 30


@pytest.mark.parametrize("served", [Impatient], indirect=True)
@pytest.mark.parametrize("begin", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nA: b\r\n", CHUNKED + b"0\r\n\r\nGET / HT"])
def test_a_head_has_its_time(served: Served, begin: bytes) -> None:
    with served.connect() as client:
        client.sendall(begin)
        assert answered(client)[0] == (200 if b"0" in begin else 0)


@pytest.mark.parametrize("served", [Impatient], indirect=True)
def test_an_empty_line_does_not_keep_a_connection(served: Served) -> None:
    with served.connect() as client:
        client.sendall(POST + b"Content-Length: 0\r\n\r\n")
        assert client.recv(65_536).startswith(b"HTTP/1.1 200 OK")
        client.sendall(b"\r\n")
        assert client.recv(65_536) == b""


@pytest.mark.parametrize("served", [Impatient], indirect=True)
def test_a_body_may_take_longer_than_a_head(served: Served) -> None:
    with served.connect() as client, served.connect() as other:
        client.sendall(CHUNKED + b"1")
        assert answered(other)[0] == 0  # that took as long as a head may
        client.sendall(b"\r\na\r\n0\r\n\r\n")
        assert client.recv(65_536).startswith(b"HTTP/1.1 200 OK")


class Parts:
    """Answers with the parts of a body, of known length or not; HEAD without them."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await receive()
        headers = [] if scope["path"] == "/stream" else [(b"content-length", b"6")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await send({"type": "http.response.body", "body": b"def"})


@pytest.mark.parametrize(
    ("request_line", "written"),
    [
        (b"GET / HTTP/1.1", [b"\r\n\r\nabc", b"def"]),
        (b"GET / HTTP/1.0", [b"\r\n\r\nabc", b"def"]),
        (b"HEAD / HTTP/1.1", [b"\r\n\r\n"]),
        (b"GET /stream HTTP/1.1", [b"\r\n\r\n", b"3\r\nabc\r\n", b"3\r\ndef\r\n0\r\n\r\n"]),
    ],
)
def test_a_head_of_known_length_is_written_with_the_body(request_line: bytes, written: list[bytes]) -> None:
    running = Served(Parts(), Counting)
    Counting.written.clear()
    try:
        sent(running, request_line + b"\r\nHost: a\r\n\r\n")
    finally:
        running.close()
    assert len(Counting.written) == len(written)
    assert all(part.endswith(end) for part, end in zip(Counting.written, written, strict=True))
