from __future__ import annotations

import asyncio
import gc
import gzip
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import programs
import pytest
from peer import ANSWER, Peer, Seen, http, peer

from llmtasker.errors import (
    AuthenticationError,
    BadRequestError,
    BadResponseError,
    CallTimeoutError,
    NetworkError,
    NotFoundError,
    RateLimitError,
    ServerError,
)
from llmtasker.llm.transports.openai import OpenAITransport, connect, connect_azure
from llmtasker.llm.transports.openai_clients import endpoint_of
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Head, Request, Settings

KEY = "sk-sentinel-0123456789"
PEM = Path(__file__).parent / "localhost.pem"


def ask(text: str = "Bonjour", *, timeout: float = 5.0, model: str = "m") -> Request:
    return Request(
        Head({}), [{"role": "user", "content": text}], Settings(endpoint="e", body={"model": model}, timeout=timeout)
    )


def send_once(transport: OpenAITransport, request: Request | None = None) -> Completion:
    """Send in an event loop that ends with the call."""

    async def once() -> Completion:
        async with asyncio.timeout(5):
            return await transport.asend(request or ask())

    return asyncio.run(once())


SENDERS: dict[str, Callable[..., Completion]] = {
    "blocking": lambda transport, request=None: transport.send(request or ask()),
    "awaiting": send_once,
}


@pytest.fixture(params=SENDERS)
def send(request: pytest.FixtureRequest) -> Callable[..., Completion]:
    return SENDERS[request.param]


def any_client(url: str, **settings: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=url, api_key=KEY, **settings)


# ── the same on the wire as the SDK ──

Make = Callable[[str], Any]
TYPES: dict[str, Make] = {
    "sync": lambda url: openai.OpenAI(base_url=url, api_key=KEY),
    "async": lambda url: openai.AsyncOpenAI(base_url=url, api_key=KEY),
    "organisation": lambda url: openai.OpenAI(base_url=url, api_key=KEY, organization="org", project="proj"),
    "headers": lambda url: openai.AsyncOpenAI(
        base_url=url,
        api_key=KEY,
        default_headers={"X-Team": "a b", "User-Agent": "mine", "Accept-Encoding": "identity"},
    ),
    "no such header": lambda url: openai.AsyncOpenAI(
        base_url=url,
        api_key=KEY,
        default_headers={"X-Stainless-Lang": openai.omit},  # type: ignore[dict-item]
    ),
    "host": lambda url: openai.AsyncOpenAI(base_url=url, api_key=KEY, default_headers={"Host": "llm.example"}),
    "query": lambda url: openai.OpenAI(base_url=url, api_key=KEY, default_query={"tenant": "é t", "n": 1}),
    "query in the URL": lambda url: openai.OpenAI(base_url=f"{url}?tenant=1", api_key=KEY),
    "password": lambda url: openai.AsyncOpenAI(base_url=url.replace("://", "://anna:se%40cret@"), api_key=KEY),
    "key provider": lambda url: openai.OpenAI(base_url=url, api_key=lambda: KEY),
    "azure": lambda url: openai.AzureOpenAI(azure_endpoint=url, api_key=KEY, api_version="2024-10-21"),
    "azure async": lambda url: openai.AsyncAzureOpenAI(azure_endpoint=url, api_key=KEY, api_version="2024-10-21"),
    "azure deployment": lambda url: openai.AzureOpenAI(
        azure_endpoint=url, azure_deployment="mine", api_key=KEY, api_version="2024-10-21"
    ),
    "azure async deployment": lambda url: openai.AsyncAzureOpenAI(
        azure_endpoint=url, azure_deployment="mine", api_key=KEY, api_version="2024-10-21"
    ),
    "azure token": lambda url: openai.AzureOpenAI(azure_endpoint=url, azure_ad_token=KEY, api_version="2024-10-21"),
    "azure tokens": lambda url: openai.AzureOpenAI(
        azure_endpoint=url, azure_ad_token_provider=lambda: KEY, api_version="2024-10-21"
    ),
    "azure async tokens": lambda url: openai.AsyncAzureOpenAI(
        azure_endpoint=url, azure_ad_token_provider=lambda: KEY, api_version="2024-10-21"
    ),
}

# Headers about the HTTP client, and those of the SDK about sync and async clients and the timeout.
INCIDENTAL = {"accept-encoding", "connection", "x-stainless-async", "x-stainless-read-timeout"}


def create(client: Any) -> None:
    ask_for: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Bonjour"}]}
    if isinstance(client, openai.OpenAI):
        with client:
            client.chat.completions.create(**ask_for)
        return

    async def acreate() -> None:
        async with client:
            await client.chat.completions.create(**ask_for)

    asyncio.run(acreate())


@pytest.mark.parametrize("kind", TYPES)
def test_the_wire_is_that_of_the_sdk(kind: str) -> None:
    with peer() as server:
        create(TYPES[kind](server.url))
        transport = OpenAITransport(TYPES[kind](server.url))
        assert transport.send(ask()).text == "oui"
        transport.close()
    theirs, ours = server.seen
    assert ours.method == "POST"
    assert ours.target == theirs.target
    assert ours.json == theirs.json
    headers = [{name: value for name, value in seen.headers.items() if name not in INCIDENTAL} for seen in server.seen]
    for each in headers:  # sync clients have another name
        each["user-agent"] = each["user-agent"].removeprefix("Async")
    assert headers[1] == headers[0]
    assert KEY in " ".join(ours.headers.values()) or kind == "password"
    if kind == "headers":
        assert ours.headers["accept-encoding"] == "identity"


def test_the_body_is_sent_byte_for_byte() -> None:
    request = ask("<é \ud800 \x00 {}" + "x" * 2_000_000)  # longer than one write of aiohttp
    with peer() as server:
        transport = OpenAITransport(any_client(server.url))
        transport.send(request)
        transport.close()
    assert server.seen[0].body == request.content


def test_a_compressed_answer_is_read(send: Callable[..., Completion]) -> None:
    with peer(lambda _: http(gzip.compress(ANSWER), content_encoding="gzip")) as server:
        transport = OpenAITransport(any_client(server.url))
        assert send(transport).text == "oui"
        transport.close()


def test_rate_limits_come_with_the_completion() -> None:
    with peer(lambda _: http(x_ratelimit_remaining_requests="7", set_cookie="backend=3")) as server:
        transport = OpenAITransport(any_client(server.url))
        assert [transport.send(ask()).limits for _ in range(2)] == [{"x-ratelimit-remaining-requests": "7"}] * 2
        transport.close()
    assert "cookie" not in server.seen[1].headers


def test_deployments_and_timeouts_go_with_their_calls() -> None:
    with peer() as server:
        transport = connect_azure(f"http://127.0.0.1:{server.port}", KEY, "2024-10-21", {"X-Team": "a"})
        for model, timeout in (("one", 5.0), ("two/é", 5.0), ("one", 7.0), ("one", 5.0)):
            transport.send(ask(model=model, timeout=timeout))
        transport.close()
    assert [seen.target for seen in server.seen] == [
        f"/openai/deployments/{name}/chat/completions?api-version=2024-10-21"
        for name in ("one", "two%2F%C3%A9", "one", "one")
    ]
    assert [seen.headers["x-stainless-read-timeout"] for seen in server.seen] == ["5.0", "5.0", "7.0", "5.0"]
    assert {seen.headers["x-team"] for seen in server.seen} == {"a"}
    assert server.connections == 1


def test_many_timeouts_do_not_pile_up() -> None:
    with peer() as server:
        transport = connect(server.url, KEY, None)
        for number in range(70):
            transport.send(ask(timeout=5.0 + number))
        transport.close()
    assert (len(server.seen), server.connections) == (70, 1)


# ── credentials that change ──


def test_a_new_key_on_the_client_is_used(send: Callable[..., Completion]) -> None:
    with peer() as server:
        client = any_client(server.url)
        transport = OpenAITransport(client)
        send(transport)
        client.api_key = "sk-new"
        send(transport)
        transport.close()
    assert [seen.headers["authorization"] for seen in server.seen] == [f"Bearer {KEY}", "Bearer sk-new"]


def numbered() -> Callable[[], str]:
    numbers = iter(range(1, 100))
    return lambda: f"key-{next(numbers)}"


def anumbered() -> Callable[[], Any]:
    provider = numbered()

    async def key() -> str:
        return provider()

    return key


@pytest.mark.parametrize(
    "make",
    [
        lambda url: openai.OpenAI(base_url=url, api_key=numbered()),
        lambda url: openai.AsyncOpenAI(base_url=url, api_key=anumbered()),
        lambda url: openai.AzureOpenAI(azure_endpoint=url, azure_ad_token_provider=numbered(), api_version="v"),
        lambda url: openai.AsyncAzureOpenAI(azure_endpoint=url, azure_ad_token_provider=anumbered(), api_version="v"),
    ],
)
def test_a_provider_is_asked_for_each_call(make: Make, send: Callable[..., Completion]) -> None:
    with peer() as server:
        transport = OpenAITransport(make(server.url))
        for _ in range(3):
            send(transport)
        transport.close()
    assert [seen.headers["authorization"] for seen in server.seen] == ["Bearer key-1", "Bearer key-2", "Bearer key-3"]


def test_a_slow_key_provider_does_not_block_the_loop() -> None:
    ticks = 0

    async def beside(transport: OpenAITransport) -> None:
        nonlocal ticks

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.005)

        ticking = asyncio.create_task(tick())
        await transport.asend(ask())
        ticking.cancel()
        await transport.aclose()

    def slow() -> str:
        time.sleep(0.2)
        return KEY

    with peer() as server:
        asyncio.run(beside(OpenAITransport(openai.OpenAI(base_url=server.url, api_key=slow))))
    assert ticks > 10


# ── what the endpoint does ──

# With a key provider, calls go through the SDK; otherwise they are direct. Both must report the same.
WAYS: dict[str, Make] = {
    "straight": lambda url: openai.OpenAI(base_url=url, api_key=KEY),
    "sdk": lambda url: openai.OpenAI(base_url=url, api_key=lambda: KEY),
    "own http": lambda url: openai.OpenAI(base_url=url, api_key=KEY, http_client=httpx2.Client()),
    "own async http": lambda url: openai.AsyncOpenAI(base_url=url, api_key=KEY, http_client=httpx2.AsyncClient()),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Iterator[Make]:
    clients: list[Any] = []

    def make(url: str) -> OpenAITransport:
        clients.append(WAYS[request.param](url))
        return OpenAITransport(clients[-1])

    yield make
    for client in clients:
        if isinstance(client, openai.OpenAI):
            client.close()
        else:
            from llmtasker.portal import portal

            portal().call(client.close())


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (http(b'{"error": {"message": "slow down"}}', 429, retry_after="3"), RateLimitError),
        (http(b'{"error": {"message": "temperature?", "param": "temperature"}}', 400), BadRequestError),
        (http(b'{"error": {"message": "Incorrect API key provided"}}', 401), AuthenticationError),
        (http(b"", 503), ServerError),
        (http(b"<html>oops</html>", 502), ServerError),
        (http(b"<html>welcome</html>"), BadResponseError),
        (http(b""), BadResponseError),
        (b"", NetworkError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{", NetworkError),
        (b"nonsense\r\n\r\n", NetworkError),
    ],
)
def test_failures_are_named(reply: bytes, error: type[Exception], way: Make) -> None:
    def replies(seen: Seen) -> Iterable[bytes]:
        yield reply
        if reply.startswith((b"HTTP/1.1 200 OK\r\ncontent-length: 50", b"nonsense")):
            raise ConnectionResetError

    with peer(replies) as server:
        transport = way(server.url)
        with pytest.raises(error) as caught:
            transport.send(ask())
        transport.close()
    assert type(caught.value) is error
    assert len(server.seen) == 1
    told = str(caught.value) + repr(caught.value) + json.dumps(caught.value.to_dict())  # type: ignore[attr-defined]
    assert KEY not in told
    assert str(server.port) not in told
    if error is RateLimitError:
        assert caught.value.details["retry_after"] == 3.0  # type: ignore[attr-defined]


def test_a_closed_port_is_a_network_error(way: Make) -> None:
    with peer() as server:
        url = server.url
    transport = way(url)
    with pytest.raises(NetworkError, match="the connection failed"):
        transport.send(ask())
    transport.close()


def test_no_redirect_is_followed(send: Callable[..., Completion]) -> None:
    with peer() as other:
        for make in (WAYS["straight"], WAYS["sdk"]):
            for status in (301, 302, 307, 308):
                moved = http(b"", status, location=f"{other.url}/chat/completions")
                with peer(lambda _, moved=moved: moved) as server:
                    transport = OpenAITransport(make(server.url))
                    with pytest.raises(NotFoundError):
                        send(transport)
                    transport.close()
    assert other.seen == []


def dripped(whole: bytes, server: list[Peer]) -> Iterator[bytes]:
    for place in range(len(whole)):
        server[0].pause(0.03)
        yield whole[place : place + 1]


SLOW: dict[str, Callable[[list[Peer]], Iterable[bytes]]] = {
    "silence": lambda server: (server[0].pause(5), http())[1:],  # type: ignore[func-returns-value]
    "headers": lambda server: dripped(http(), server),
    "body": lambda server: (part for parts in ([http()[:-40]], dripped(http()[-40:], server)) for part in parts),
}


@pytest.mark.parametrize("kind", SLOW)
@pytest.mark.parametrize("make", WAYS.values(), ids=WAYS)
def test_the_deadline_is_for_the_whole_call(kind: str, make: Make) -> None:
    """A server that sends a byte now and then does not make a call wait forever."""
    server: list[Peer] = []
    with peer(lambda _: SLOW[kind](server)) as opened:
        server.append(opened)
        client = make(opened.url)
        transport = OpenAITransport(client)
        with pytest.raises(CallTimeoutError):
            transport.send(ask(timeout=0.3))
        transport.close()
        if isinstance(client, openai.AsyncOpenAI):
            from llmtasker.portal import portal

            portal().call(client.close())


def test_silence_ends_also_where_the_caller_sets_no_deadline() -> None:
    server: list[Peer] = []
    for make in (WAYS["straight"], WAYS["sdk"]):
        with peer(lambda _: SLOW["silence"](server)) as opened:
            server[:] = [opened]
            transport = OpenAITransport(make(opened.url))
            with pytest.raises(CallTimeoutError):
                send_once(transport, ask(timeout=0.2))


def test_a_cancelled_call_frees_its_connection() -> None:
    server: list[Peer] = []

    async def cancelled(transport: OpenAITransport) -> str | None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(transport.asend(ask("slow")), 0.1)
        text = (await transport.asend(ask())).text
        await transport.aclose()
        return text

    with peer(lambda seen: SLOW["silence"](server) if b"slow" in seen.body else http()) as opened:
        server.append(opened)
        assert asyncio.run(cancelled(connect(opened.url, KEY, None))) == "oui"


# ── TLS and proxies ──


@pytest.fixture
def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    return context


@pytest.mark.parametrize("make", [WAYS["straight"], WAYS["sdk"]])
def test_certificates_are_checked_against_those_of_the_environment(
    make: Make, tls: ssl.SSLContext, send: Callable[..., Completion], monkeypatch: pytest.MonkeyPatch
) -> None:
    with peer(context=tls) as server:
        stranger = OpenAITransport(make(server.url))
        with pytest.raises(NetworkError, match=r"(?i)certificate"):
            send(stranger)
        stranger.close()
        assert server.seen == []
        monkeypatch.setenv("SSL_CERT_FILE", str(PEM))
        friend = OpenAITransport(make(server.url))
        assert send(friend).text == "oui"
        friend.close()


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_the_proxy_of_the_environment_is_used(
    variable: str, send: Callable[..., Completion], monkeypatch: pytest.MonkeyPatch
) -> None:
    with peer() as proxy:
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
        transport = OpenAITransport(any_client("http://llm.example/v1"))
        assert send(transport).text == "oui"
        transport.close()
    assert [seen.target for seen in proxy.seen] == ["http://llm.example/v1/chat/completions"]


def test_what_needs_no_proxy_goes_without(send: Callable[..., Completion], monkeypatch: pytest.MonkeyPatch) -> None:
    with peer() as proxy, peer() as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
        transport = OpenAITransport(any_client(server.url))
        assert send(transport).text == "oui"
        transport.close()
    assert (len(proxy.seen), len(server.seen)) == (0, 1)


# ── customized clients ──


def test_an_http_client_of_the_callers_own_is_used_and_stays_open() -> None:
    sent: list[httpx2.Request] = []

    def reply(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(200, content=ANSWER)

    http_client = httpx2.Client(transport=httpx2.MockTransport(reply))
    with openai.OpenAI(base_url="http://llm.example/v1", api_key=KEY, http_client=http_client) as client:
        transport = OpenAITransport(client)
        assert [transport.send(ask()).text, send_once(transport).text] == ["oui", "oui"]
        transport.close()
        transport.close()
        assert not http_client.is_closed
        assert send_once(transport).text == "oui"
        transport.close()
    assert [str(request.url) for request in sent] == ["http://llm.example/v1/chat/completions"] * 3


def test_an_async_http_client_of_the_callers_own_stays_open() -> None:
    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, content=ANSWER)))

    async def both() -> None:
        async with openai.AsyncOpenAI(base_url="http://llm.example/v1", api_key=KEY, http_client=http_client) as client:
            transport = OpenAITransport(client)
            assert (await transport.asend(ask())).text == "oui"
            await transport.aclose()
            assert not http_client.is_closed

    asyncio.run(both())


class Signing(openai.OpenAI):
    """A client that changes each request."""

    def _prepare_request(self, request: httpx2.Request) -> None:
        request.headers["x-signature"] = str(len(request.content))


def test_a_subclass_keeps_its_ways(send: Callable[..., Completion]) -> None:
    with peer() as server, Signing(base_url=server.url, api_key=KEY) as client:
        transport = OpenAITransport(client)
        send(transport)
        transport.close()
    assert server.seen[0].headers["x-signature"] == str(len(server.seen[0].body))


# ── connections, loops, threads, processes ──


def test_connections_are_kept() -> None:
    async def several(transport: OpenAITransport) -> None:
        for _ in range(5):
            await transport.asend(ask())
        await transport.aclose()

    for make in (WAYS["straight"], WAYS["sdk"]):
        with peer() as server:
            transport = OpenAITransport(make(server.url))
            for _ in range(5):
                transport.send(ask())
            assert server.connections == 1
            asyncio.run(several(transport))
            assert server.connections == 2
            transport.close()


def test_it_can_be_used_after_it_was_closed(send: Callable[..., Completion]) -> None:
    with peer() as server:
        transport = connect(server.url, KEY, None)
        for _ in range(2):
            assert send(transport).text == "oui"
            transport.close()
        transport.close()


def test_a_blocking_call_works_inside_a_running_loop() -> None:
    async def notebook(transport: OpenAITransport) -> str | None:
        return transport.send(ask()).text

    with peer() as server:
        transport = connect(server.url, KEY, None)
        assert asyncio.run(notebook(transport)) == "oui"
        transport.close()


def test_threads_and_loops_may_share_a_transport() -> None:
    with peer() as server:
        transport = connect(server.url, KEY, None)
        with ThreadPoolExecutor(8) as threads:
            texts = [*threads.map(lambda n: SENDERS["blocking" if n % 2 else "awaiting"](transport).text, range(32))]
        transport.close()
    assert texts == ["oui"] * 32
    assert len(server.seen) == 32


def test_many_calls_may_begin_at_once() -> None:
    async def crowd(transport: OpenAITransport) -> list[str | None]:
        answers = await asyncio.gather(*(transport.asend(ask(str(number))) for number in range(50)))
        await transport.aclose()
        return [answer.text for answer in answers]

    with peer() as server:
        assert asyncio.run(crowd(connect(server.url, KEY, None))) == ["oui"] * 50
    assert sorted(int(seen.json["messages"][0]["content"]) for seen in server.seen) == [*range(50)]


def test_dropped_transports_close_their_connections() -> None:
    with peer() as server:
        for _ in range(20):
            connect(server.url, KEY, None).send(ask())
        gc.collect()
        until = time.monotonic() + 5
        while alive(server) and time.monotonic() < until:
            time.sleep(0.01)
        assert alive(server) == 0


def alive(server: Peer) -> int:
    return sum(thread.is_alive() for thread in server._threads[1:])


CARELESS = """
import asyncio, sys
import loopback; loopback.guard()
import logging; logging.getLogger("asyncio").setLevel(logging.ERROR)  # not how slow this machine is
import openai
from llmtasker.wire.request import Head, Request, Settings
from llmtasker.llm.transports.openai import OpenAITransport

def request():
    return Request(Head({}), [{"role": "user", "content": "x"}], Settings(endpoint="e", body={"model": "m"}))

def transport(kind, key):
    return OpenAITransport(kind(base_url=sys.argv[1], api_key=key))

async def careless(one):
    await asyncio.gather(*(one.asend(request()) for _ in range(3)))

async def key():
    return "k"

kept = []
for kind, keys in ((openai.OpenAI, ("k", lambda: "k")), (openai.AsyncOpenAI, ("k", key))):
    for each in keys:
        one = transport(kind, each)
        one.send(request())
        asyncio.run(careless(one))
        asyncio.run(careless(one))
        kept.append(one)
        for _ in range(3):
            transport(kind, each).send(request())
            asyncio.run(careless(transport(kind, each)))
print("done")
"""


def run_program(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return programs.run("-X", "dev", "-W", "error", "-c", program, *arguments, cwd=Path(__file__).parent)


def test_nothing_is_left_open_and_nothing_is_reported_about_it() -> None:
    with peer() as server:
        done = run_program(CARELESS, server.url)
    assert done.stderr == ""
    assert done.stdout == "done\n"


FORKING = """
import gc, os, sys, warnings
import loopback; loopback.guard()
import logging; logging.getLogger("asyncio").setLevel(logging.ERROR)  # not how slow this machine is
warnings.simplefilter("ignore", DeprecationWarning)  # this process has threads; that is the point
from llmtasker.wire.request import Head, Request, Settings
from llmtasker.llm.transports.openai import connect

def say(text):
    settings = Settings(endpoint="e", body={"model": "m"}, timeout=10)
    assert one.send(Request(Head({}), [{"role": "user", "content": text}], settings)).text == "oui"

one = connect(sys.argv[1], "k", None)
say("parent")
child = os.fork()
if not child:
    if sys.argv[2] == "uses it":
        say("child")
        one.close()
        del one
        gc.collect()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
say("parent again")
one.close()
print("done")
"""


@pytest.mark.parametrize("child", ["uses it", "only ends"])
def test_a_forked_child_leaves_its_parents_connections_alone(child: str) -> None:
    with peer() as server:
        done = run_program(FORKING, server.url, child)
    assert done.stderr == ""
    assert done.stdout == "done\n"
    asked = [seen.json["messages"][0]["content"] for seen in server.seen]
    assert asked == ["parent", *(["child"] if child == "uses it" else []), "parent again"]
    assert server.connections == len(asked) - 1  # the parent kept its connection


# ── the list of models ──

MODELS = json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in "ab"]}).encode()


def test_the_models_of_an_endpoint_are_listed(way: Make) -> None:
    with peer(lambda _: http(MODELS)) as server:
        transport = way(server.url)
        assert transport.models() == ["a", "b"]
        transport.close()
    assert [(seen.method, seen.target) for seen in server.seen] == [("GET", "/v1/models")]


@pytest.mark.parametrize(
    ("reply", "error"),
    [(http(b"{}", 404), NotFoundError), (http(b'{"data": null}'), NetworkError), (b"", NetworkError)],
)
def test_an_endpoint_without_a_list_is_reported(reply: bytes, error: type[Exception], way: Make) -> None:
    with peer(lambda _: reply) as server:
        transport = way(server.url)
        with pytest.raises(error):
            transport.models()
        transport.close()


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("https://anna:secret@llm.example/v1/?key=1", "https://llm.example/v1"),
        ("https://llm.example:443/v1", "https://llm.example/v1"),
    ],
)
def test_the_endpoint_holds_no_credential(url: str, endpoint: str) -> None:
    assert endpoint_of(any_client(url)) == endpoint


def test_no_error_or_repr_shows_the_key(way: Make) -> None:
    with peer() as server:
        transport = way(server.url)
        transport.send(ask())
        lines = [value for value in vars(transport).values() if hasattr(value, "_open")]
        assert KEY not in repr(transport) + repr(lines) + repr([vars(line) for line in lines])
        transport.close()


def own_http(reply: Callable[[httpx2.Request], httpx2.Response]) -> openai.OpenAI:
    http_client = httpx2.Client(transport=httpx2.MockTransport(reply))
    return openai.OpenAI(base_url="http://llm.example/v1", api_key=KEY, http_client=http_client)


def sending() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "llmtasker-send"]


def test_calls_that_were_given_up_take_no_place_of_others_and_end_when_they_can(
    send: Callable[..., Completion],
) -> None:
    ending = threading.Event()

    def reply(request: httpx2.Request) -> httpx2.Response:
        if b"hang" in request.content:
            ending.wait(30)
        return httpx2.Response(200, content=ANSWER)

    async def give_up(transport: OpenAITransport) -> None:
        calls = [asyncio.wait_for(transport.asend(ask("hang")), 0.1) for _ in range(300)]
        assert {type(came) for came in await asyncio.gather(*calls, return_exceptions=True)} == {TimeoutError}

    with own_http(reply) as client:
        transport = OpenAITransport(client)
        try:
            asyncio.run(give_up(transport))
            with pytest.raises(CallTimeoutError, match=r"within 0\.1 s"):
                transport.send(ask("hang", timeout=0.1))
            left = sending()
            assert len(left) == 301
            assert all(thread.daemon for thread in left)  # the process waits for none of them
            assert send(transport).text == "oui"
            transport.close()
        finally:
            ending.set()
            for thread in sending():
                thread.join(5)
        assert not sending()


def test_a_list_of_models_that_drips_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtasker.llm.transports.openai._LISTING", 0.2)
    server: list[Peer] = []
    with peer(lambda _: dripped(http(MODELS), server)) as opened:
        server.append(opened)
        with WAYS["own http"](opened.url) as client, pytest.raises(CallTimeoutError, match="list of models"):
            OpenAITransport(client).models()
