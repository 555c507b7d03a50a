"""HTTPClient and ResponseReader: no call gets the answer to another one, whatever arrives on a connection."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import threading
import zlib
from collections.abc import Awaitable, Callable, Iterable
from itertools import count
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from peer import Reply, Seen, http, peer

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.errors import BadResponseError, ConfigurationError, NetworkError
from llmtasker.llm.transports.blocking_client import BlockingClient
from llmtasker.llm.transports.http_client import HTTPClient, RequestTemplate
from llmtasker.llm.transports.http_response import ResponseError, ResponseReader, TooLargeError
from llmtasker.llm.transports.openai import OpenAITransport, connect
from llmtasker.portal import portal
from llmtasker.testing import FaultyServer
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Head, Request, Settings


class Echoed(Signature):
    """Choose the label."""

    text: str = InputField()
    label: Literal["only"] = OutputField()


OK = b"HTTP/1.1 200 OK\r\n"


# ── another row's answer ──


def answer(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode()


def own(seen: Seen) -> bytes:
    return http(answer(seen.json["messages"][0]["content"]))


def chunked(body: bytes) -> bytes:
    return OK + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


SENDERS: dict[str, Callable[[OpenAITransport, Request], Completion]] = {
    "blocking": lambda transport, request: transport.send(request),
    "awaiting": lambda transport, request: portal().call(transport.asend(request)),
}
TWICE: dict[str, Callable[[Seen], Reply]] = {
    "twice at once": lambda seen: own(seen) * 2,
    "a line too much": lambda seen: own(seen) + b"\r\n",
    "a body that is longer than its length": lambda seen: own(seen) + b'{"more": 1}',
    "an error behind the answer": lambda seen: own(seen) + http(b"{}", 408),
    "chunked, twice": lambda seen: chunked(answer(seen.json["messages"][0]["content"])) * 2,
    "a length and chunks": lambda seen: chunked(answer(seen.json["messages"][0]["content"])).replace(
        b"\r\n\r\n", b"\r\ncontent-length: 5\r\n\r\n", 1
    ),
}


@pytest.mark.parametrize("send", SENDERS.values(), ids=SENDERS)
def test_a_response_that_is_sent_again_later_is_not_the_next_answer(
    send: Callable[[OpenAITransport, Request], Completion],
) -> None:
    sent = threading.Event()

    def twice_later(seen: Seen) -> Iterable[bytes]:
        yield own(seen)
        yield own(seen)
        sent.set()

    with peer(twice_later) as server:
        transport = connect(server.url, "k", None)
        for number in range(8):
            request = Request(
                Head({}), [{"role": "user", "content": str(number)}], Settings(endpoint="e", body={"model": "m"})
            )
            assert send(transport, request).text == str(number)
            assert sent.wait(30)
            sent.clear()
        transport.close()


@pytest.mark.parametrize("send", SENDERS.values(), ids=SENDERS)
@pytest.mark.parametrize(
    ("id_of", "calls"),
    [(lambda number: f"chatcmpl-{number}", 15), (lambda _: "same", 9)],
    ids=["ids", "one id for all"],
)
def test_a_copy_that_comes_with_the_next_request_is_not_its_answer(
    send: Callable[[OpenAITransport, Request], Completion], id_of: Callable[[int], str], calls: int
) -> None:
    """A server whose answers are all equal is asked once more, and then its answers are accepted."""
    served = count()
    before = threading.local()  # each connection has a thread

    def late(seen: Seen) -> bytes:
        id_ = id_of(next(served))
        text = seen.json["messages"][0]["content"] if id_ != "same" else "same"
        reply = http(b'{"id": "%b", %b' % (id_.encode(), answer(text)[1:]))
        copy, before.reply = getattr(before, "reply", b""), reply
        return reply if id_ == "same" else copy + reply

    with peer(late) as server:
        transport = connect(server.url, "k", None)
        for number in range(8):
            request = Request(
                Head({}), [{"role": "user", "content": str(number)}], Settings(endpoint="e", body={"model": "m"})
            )
            assert send(transport, request).text == ("same" if calls == 9 else str(number))
        transport.close()
        assert len(server.seen) == calls


@pytest.mark.parametrize("reply", TWICE.values(), ids=TWICE)
def test_each_call_takes_its_own_answer(reply: Callable[[Seen], Reply]) -> None:
    def ask(text: str) -> Request:
        return Request(Head({}), [{"role": "user", "content": text}], Settings(endpoint="e", body={"model": "m"}))

    with peer(reply) as server:
        transport = connect(server.url, "k", None)
        assert [transport.send(ask(str(n))).text for n in range(8)] == [str(n) for n in range(8)]

        async def crowd() -> list[str | None]:
            found = [await asyncio.gather(*(transport.asend(ask(f"{k}.{n}")) for n in range(8))) for k in range(3)]
            await transport.aclose()
            return [completion.text for wave in found for completion in wave]

        assert asyncio.run(crowd()) == [f"{k}.{n}" for k in range(3) for n in range(8)]
        transport.close()


def test_a_connection_whose_bytes_are_all_read_is_used_again() -> None:
    async def ask(url: str) -> None:
        client = HTTPClient(None)
        for _ in range(5):
            assert (await client.post("k", template(url), b"{}")).status == 200
        await client.close()

    with peer() as server:
        asyncio.run(ask(server.url))
    assert (server.connections, len(server.seen)) == (1, 5)


def template(url: str, **headers: str) -> Callable[[], Awaitable[RequestTemplate]]:
    async def made() -> RequestTemplate:
        return RequestTemplate(url=url, headers=list(headers.items()), server_name=None, timeout=5.0)

    return made


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop is not made for Windows")
def test_calls_work_in_another_event_loop() -> None:
    """uvicorn takes uvloop where it is installed."""
    import uvloop

    async def ask(url: str) -> object:
        task = Task(Echoed, llm=LLM(f"{url}#m", api_key="none", cache=False))
        items = await task.arun(["a", "b"], progress=False)
        return [item.error or item.output.label for item in items]

    with FaultyServer() as server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(asyncio.wait_for(ask(server.base_url), 20)) == ["only", "only"]


def test_a_header_with_a_line_break_is_not_sent() -> None:
    async def ask() -> None:
        await HTTPClient(None).post("k", template("http://127.0.0.1:1/v1", x="a\r\ny: b"), b"")

    with pytest.raises(ConfigurationError, match="line break"):
        asyncio.run(ask())


# ── sizes ──


def post(reply: Reply, largest: int = 1000) -> object:
    async def ask(url: str) -> object:
        client = HTTPClient(None, largest)
        try:
            return await client.post("k", template(url), b"{}")
        finally:
            await client.close()

    with peer(lambda _: reply) as server:
        return asyncio.run(ask(server.url))


def post_blocking(reply: Reply, largest: int = 1000) -> object:
    with peer(lambda _: reply) as server:
        made, client = asyncio.run(template(server.url)()), BlockingClient(None, largest)
        try:
            return client.post("k", lambda: made, b"{}", 5.0)
        finally:
            client.close()


@pytest.mark.parametrize("way", [post, post_blocking])
@pytest.mark.parametrize(
    "reply",
    [
        http(b"x" * 1001),
        chunked(b"x" * 1001),
        OK + b"\r\n" + b"x" * 1001,
        http(gzip.compress(b"x" * 1001), content_encoding="gzip"),
        http(zlib.compress(b"x" * 100_000), content_encoding="deflate"),
        OK + b"content-length: 99999999999\r\n\r\n",
    ],
)
def test_a_response_that_is_too_large_is_not_read_further(reply: bytes, way: Callable[[Reply], object]) -> None:
    with pytest.raises(BadResponseError, match="sent more than"):
        way(reply)


def test_the_usual_limit_is_64_mb_inflated() -> None:
    bomb = gzip.compress(b"x" * (65 << 20), 1)
    reader = ResponseReader()
    with pytest.raises(TooLargeError, match="more than 64 MB"):
        reader.feed(OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb) + bomb)
    assert len(bomb) < 1 << 20


@pytest.mark.parametrize(
    ("reply", "body"),
    [
        (http(b"x" * 1000), b"x" * 1000),
        (http(gzip.compress(b"y" * 1000), content_encoding="gzip"), b"y" * 1000),
        (http(zlib.compress(b"z"), content_encoding="deflate"), b"z"),
        (http(zlib.compress(b"z")[2:-4], content_encoding="deflate"), b"z"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + http(b"a"), b"a"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (http(gzip.compress(b"a" * 50) + gzip.compress(b"b"), content_encoding="gzip"), b"a" * 50 + b"b"),
        (http(gzip.compress(b"a") + bytes(8), content_encoding="gzip"), b"a"),
        (http(gzip.compress(b"a"), content_encoding="identity, GZIP"), b"a"),
        (http(b"a", content_encoding="utf-8"), b"a"),
        (http(b"a", content_encoding="none"), b"a"),
        (http(b"a", transfer_encoding="identity"), b"a"),
        (chunked(b"a").replace(b"chunked", b"chunked\r\nTransfer-Encoding: Chunked", 1), b"a"),
        (chunked(b"a").replace(b"\r\n1\r\n", b"\r\n0001 ; a=b\r\n").replace(b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n"), b"a"),
        (http(b"a\r\n\r\nb").replace(b"\r\n", b"\n", 4), b"a\r\n\r\nb"),
        (http(b"a", x_long="1\r\n  2\r\n\t3"), b"a"),
    ],
)
def test_bodies_are_read_whole(reply: bytes, body: bytes) -> None:
    reader = ResponseReader(1000)
    whole = reader.feed(reply) or reader.end()
    assert whole
    assert reader.response().body == body


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b"content-length: 1, 2\r\n\r\n{}",
        OK + b"content-length: -1\r\n\r\n",
        OK + b"transfer-encoding: gzip\r\n\r\n",
        OK + b"content-encoding: br\r\ncontent-length: 1\r\n\r\nx",
        OK + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n1\r\nabc",
        OK + b"content-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope",
        OK + b"content-encoding: gzip, gzip\r\ncontent-length: 1\r\n\r\nx",
        OK + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n",
        b"HTTP/1.1 099 Early\r\n\r\n",
    ],
)
def test_what_is_not_a_response_is_an_error(reply: bytes) -> None:
    with pytest.raises(ResponseError):
        ResponseReader().feed(reply)
    for way in (post, post_blocking):
        with pytest.raises(NetworkError, match="the connection failed"):
            way(reply)


@example(body=b"x", form="chunked", cuts=[51], more=b"")  # the line end of the chunk arrives in two parts
@given(
    body=st.binary(max_size=300),
    form=st.sampled_from(["length", "chunked", "gzip", "members", "deflate", "lines"]),
    cuts=st.lists(st.integers(0, 600), max_size=8),
    more=st.binary(max_size=3),
)
def test_however_the_bytes_arrive_the_response_is_the_same(
    body: bytes, form: str, cuts: list[int], more: bytes
) -> None:
    sent = {
        "length": http(body),
        "chunked": chunked(body) if body else OK + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "gzip": http(gzip.compress(body), content_encoding="gzip"),
        "members": http(gzip.compress(body[:9]) + gzip.compress(body[9:]), content_encoding="gzip"),
        "deflate": http(zlib.compress(body)[2:-4], content_encoding="deflate"),
        "lines": http(b"").replace(b"\r\n", b"\n").replace(b"length: 0", b"length: %d" % len(body)) + body,
    }[form] + more
    reader, at, whole = ResponseReader(), 0, False
    for cut in [*sorted(min(cut, len(sent)) for cut in cuts), len(sent)]:
        if cut > at and not whole:
            whole = reader.feed(sent[at:cut])
            at = cut
    assert whole
    assert reader.response().body == body
    assert reader.keeps_alive == (at == len(sent) - len(more))
