"""Endpoints and machines: refused schemas, dropped tools, proxies, certificates."""

from __future__ import annotations

import socket
from decimal import Decimal
from typing import Any, Literal

import openai
import pytest
from peer import peer

from llmtasker import LLM, ConfigurationError, InputField, OutputField, Retry, Signature, Task
from llmtasker.llm.transports.network import proxy_for
from llmtasker.testing import FaultyServer, Status


class Bill(Signature):
    """Read the bill."""

    text: str = InputField()
    total: Decimal = OutputField()


class Equipe(Signature):
    """Trouve l'équipe."""

    texte: str = InputField()
    équipe: Literal["facture", "colis"] = OutputField()  # noqa: PLC2401


class Route(Signature):
    """Route the message."""

    text: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


def refuse(what: str, words: str) -> Any:
    def fault(call: Any, reply: Any) -> None:
        sent = str({name: call.body.get(name) for name in ("tools", "response_format")})
        if what in sent:
            reply.fail(400, words)

    return fault


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("strict", "Invalid schema for function 'Bill': 'additionalProperties' is required"),
        (
            "'pattern'",
            "Invalid schema for function 'Bill': In context=('properties', 'total'), 'pattern' is not permitted.",
        ),
        ("'pattern'", "The provided JSON schema contains features not supported by xgrammar."),
        ("'pattern'", "regex look-around, including look-ahead and look-behind, is not supported"),
        ("anyOf", "Failed to convert JSON schema to grammar"),
        ("total", "The specified schema produces a constraint that has too many states for serving."),
    ],
)
def test_a_schema_that_is_refused_is_asked_for_in_another_form(what: str, words: str) -> None:
    with FaultyServer(faults=[refuse(what, words)]) as server:
        llm = LLM("m", base_url=server.base_url, cache=False)
        task, other = Task(Bill, llm=llm, attempts=1), Task(Route, llm=llm)
        task("a")
        assert server.counters.ok == 1, "it was answered; the server's own answer may be no number"
        before = server.counters.requests
        task("b")
        assert server.counters.requests == before + 1, "learned once"
        assert "tools" in other.preview("a").request.head.schema, "what one schema taught holds for that schema"


def test_names_with_accents_are_sent_in_ascii_where_they_are_refused() -> None:
    words = "Property keys should match pattern '^[a-zA-Z0-9_.-]{1,64}$'"
    with FaultyServer(faults=[refuse("équipe", words)]) as server:
        task = Task(
            Equipe, llm=LLM("m", base_url=server.base_url, cache=False), examples=[Equipe(texte="x", équipe="colis")]
        )
        item = task("Où est mon colis ?")
        assert item.raise_for_error().output.équipe in {"facture", "colis"}
        assert "équipe" in str(item.raw)


@pytest.mark.parametrize("ending", ["stop", "tool_calls", None])
def test_tools_that_are_dropped_without_a_word_are_noticed(ending: str | None) -> None:
    def drop(call: Any, reply: Any) -> None:
        if "tools" in call.body:
            reply.message.pop("tool_calls", None)
            reply.message["content"] = "This customer is unhappy."
            reply.choice["finish_reason"] = ending

    with FaultyServer(faults=[drop]) as server:
        results = Task(Route, llm=LLM("m", base_url=server.base_url, cache=False)).run([str(n) for n in range(40)])
        assert results.counts == {"ok": 40}
        assert server.counters.requests <= 80


def test_one_empty_answer_teaches_nothing() -> None:
    def empty(call: Any, reply: Any) -> None:
        if call.number == 1:
            reply.message.pop("tool_calls", None)
            reply.message["content"] = ""

    with FaultyServer(faults=[empty]) as server:
        task = Task(Route, llm=LLM("m", base_url=server.base_url, cache=False))
        assert task("a").ok
        assert task.llm.capabilities.facts == ()


@pytest.mark.parametrize(
    "row", ["insufficient credit", "my card: insufficient credit, what now?", "temperature is not supported"]
)
def test_a_row_that_is_repeated_in_an_error_is_not_evidence(row: str) -> None:
    fault = Status(400, f"could not read the message: {row}", when=lambda call: row in call.text)
    with FaultyServer(faults=[fault]) as server:
        task = Task(Route, llm=LLM("m", base_url=server.base_url, cache=False, temperature=0.5))
        results = task.run([row, *[str(n) for n in range(30)]])
        assert results.counts == {"bad_request": 1, "ok": 30}
        assert task.llm.capabilities.facts == ()
        assert "insufficient" not in str(results[0].error)


def test_tools_that_a_server_drops_are_named_where_the_mode_is_fixed() -> None:
    def prose(_: Any, reply: Any) -> None:
        reply.message.pop("tool_calls", None)
        reply.message["content"] = "It is about the invoice, I think."

    with FaultyServer(faults=[prose]) as server:
        item = Task(Route, llm=LLM("m", base_url=server.base_url, cache=False), mode="tools", attempts=2)("a")
        assert item.error is not None
        assert 'mode="json_schema"' in str(item.error)
        assert server.counters.requests == 2


# ── a machine in a company ──


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, "http://llm.intern/v1", None),
        ({"http_proxy": "http://p:3128"}, "http://llm.intern/v1", "http://p:3128"),
        ({"http_proxy": "p:3128"}, "http://llm.intern/v1", "http://p:3128"),
        ({"https_proxy": "http://p:3128"}, "http://llm.intern/v1", None),
        ({"all_proxy": "http://p:3128"}, "https://llm.intern/v1", "http://p:3128"),
        ({"http_proxy": "http://p:3128", "no_proxy": ".intern"}, "http://llm.intern/v1", None),
        ({"http_proxy": "http://p", "no_proxy": "10.0.0.0/8"}, "http://10.1.2.3:8000/v1", None),
        ({"http_proxy": "http://p", "no_proxy": "fd07:b51a:cc66:f0::/64"}, "http://[fd07:b51a:cc66:f0::1]/v1", None),
        ({"all_proxy": "socks5://p:9", "no_proxy": "llm.intern"}, "http://llm.intern/v1", None),
    ],
)
def test_proxies_are_read_in_one_place(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, proxy: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


@pytest.mark.parametrize(
    ("variables", "url", "words"),
    [
        ({"http_proxy": "ftp://p"}, "http://llm.intern/v1", "http_proxy"),
        (
            {"SSL_CERT_FILE": "/nonexistent/ca.pem"},
            "https://llm.intern/v1",
            "SSL_CERT_FILE names '/nonexistent/ca.pem'",
        ),
        ({"SSL_CERT_FILE": "/dev/null"}, "https://llm.intern/v1", "SSL_CERT_FILE"),
        ({"SSL_CERT_DIR": "/nonexistent/certificates"}, "https://llm.intern/v1", "SSL_CERT_DIR"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, words: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=words):
        _ = LLM("m", base_url=url, cache=False).transport
    other = {"http": "https", "https": "http"}[url.partition(":")[0]]
    assert LLM("m", base_url=url.replace(url.partition(":")[0], other, 1), cache=False).transport


NO_PASSWORD = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


@pytest.mark.parametrize("make", [None, openai.OpenAI, openai.AsyncOpenAI], ids=["named", "client", "async client"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password_is_named_and_stops_a_run(
    monkeypatch: pytest.MonkeyPatch, scheme: str, make: Any
) -> None:
    with peer(lambda _: NO_PASSWORD) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", f"http://127.0.0.1:{proxy.port}")
        url = f"{scheme}://llm.example/v1"
        client = None if make is None else make(base_url=url, api_key="k")
        llm = LLM("m", base_url=url, cache=False) if client is None else LLM.of(client, model="m", cache=False)
        results = Task(Route, llm=llm).run((str(n) for n in range(100)), concurrency=8)
        llm.close()
        calls = len(proxy.seen)
    assert set(results.counts) == {"authentication", "not_run"}
    assert "proxy" in str(results[0].error)
    assert "NO_PROXY" in str(results[0].error)
    assert calls <= 8 + 5


@pytest.mark.parametrize(
    ("variable", "url", "words"),
    [
        ("http_proxy", "http://llm.example/v1", "names a proxy"),
        ("https_proxy", "https://llm.example/v1", "names a proxy"),
    ],
)
def test_a_dead_proxy_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, variable: str, url: str, words: str
) -> None:
    monkeypatch.setenv(variable, f"http://user:geheim@127.0.0.1:{unused_port()}")
    item = Task(Route, llm=LLM("m", base_url=url, cache=False, retry=Retry(attempts=1)))("x")
    assert item.error is not None
    assert item.error.code == "network"
    assert words in str(item.error)
    assert "geheim" not in repr(item)


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [
        ("127.0.0.1", "http://127.0.0.1:11434/v1"),
        ("gpu", "http://gpu:11434/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),  # noqa: S104
        ("0.0.0.0:8080", "http://127.0.0.1:8080/v1"),
        ("[::1]", "http://[::1]:11434/v1"),
        ("http://gpu", "http://gpu/v1"),
        ("https://gpu/ollama/", "https://gpu/ollama/v1"),
        ('"gpu:1"', "http://gpu:1/v1"),
        ("::1", "http://[::1]:11434/v1"),
        ("http://::1", "http://[::1]/v1"),
        ("fe80::1/ollama", "http://[fe80::1]:11434/ollama/v1"),
        (":8080", "http://localhost:8080/v1"),
        ("gpu:", "http://gpu:11434/v1"),
        ("me:secret@gpu:1", "http://gpu:1/v1"),
    ],
)
def test_the_host_of_ollama(monkeypatch: pytest.MonkeyPatch, host: str, endpoint: str) -> None:
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert LLM("ollama/qwen3", cache=False).transport.endpoint == endpoint


@pytest.mark.parametrize(
    "host",
    ["99999", "11434", "gpu:99999", "gpu:0", "gpu:-1", "gpu:x", "[::1", "[]", "tcp://gpu:1", "a b", "gpu?x=1", "gpu#x"],
)
def test_what_is_not_a_host_of_ollama_is_an_error_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", host)
    with pytest.raises(ConfigurationError, match=r"OLLAMA_HOST is .* which is not a host"):
        LLM("ollama/qwen3", cache=False)
    monkeypatch.setenv("OLLAMA_HOST", f"me:secret@{host}")
    with pytest.raises(ConfigurationError) as raised:
        LLM("ollama/qwen3", cache=False)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("host", "named", "direct"),
    [
        ("llm.intern", "llm.intern:8000", True),
        ("llm.intern", "llm.intern:9000", False),
        ("llm.intern", ".intern", True),
        ("llm.intern", "*.INTERN", True),
        ("llm.intern", "llm.*", True),
        ("llm.intern", "other llm.intern", True),
        ("llm.intern", "ern", False),
        ("llm.intern", "", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "192.168.0.0/16", False),
        ("10.1.2.3", "10.1.*", True),
        ("[fd00::1]", "fd00::/8", True),
        ("[fd00::1]", "[fd00::1]:8000", True),
    ],
)
def test_which_hosts_no_proxy_names(host: str, named: str, direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.intern:3128")
    monkeypatch.setenv("NO_PROXY", named)
    assert (proxy_for(f"http://{host}:8000/v1") is None) == direct
