"""FaultyServer over real loopback connections, in a thread and as a process."""

import gzip
import http.client
import io
import json
import logging
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stdout
from typing import Any
from urllib.parse import urlsplit

import programs
import pytest

from llmtasker import LLM
from llmtasker.tasks.instruction import Instruction
from llmtasker.testing import (
    Body,
    Call,
    Cut,
    Drip,
    FaultyServer,
    Hang,
    Limit,
    Malformed,
    Reply,
    Reset,
    SentTwice,
    Status,
    last_user_text,
)
from llmtasker.testing.server import build_parser, faults_of, main

SCHEMA = {"type": "object", "properties": {"team": {"enum": ["billing", "delivery"]}}}
TOOL = {"type": "function", "function": {"name": "Triage", "parameters": SCHEMA}}


def body(text: str = "Where is my parcel?", **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


class Client:
    """One kept-alive connection."""

    def __init__(self, base_url: str) -> None:
        self.path = urlsplit(base_url).path
        self.connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=5)

    def request(self, method: str, path: str, data: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
        self.connection.request(method, path, data, {"Authorization": "Bearer test"})
        response = self.connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()

    def ask(self, asked: dict[str, Any] | None = None) -> tuple[int, dict[str, str], bytes]:
        return self.request(
            "POST", self.path + "/chat/completions", json.dumps(body() if asked is None else asked).encode()
        )

    def answer(self, asked: dict[str, Any] | None = None) -> dict[str, Any]:
        status, _, content = self.ask(asked)
        assert status == 200
        message: dict[str, Any] = json.loads(content)["choices"][0]["message"]
        return message

    def close(self) -> None:
        self.connection.close()


@contextmanager
def client_of(server: FaultyServer) -> Iterator[Client]:
    with closing(Client(server.base_url)) as client:
        yield client


def test_answers_come_in_the_form_asked_for_on_one_connection() -> None:
    with FaultyServer() as server, client_of(server) as client:
        called = client.answer(body(tools=[TOOL]))["tool_calls"][0]["function"]
        shaped = client.answer(body(response_format={"type": "json_schema", "json_schema": {"schema": SCHEMA}}))
        system = {"role": "system", "content": f"Answer with JSON like {json.dumps(SCHEMA)}"}
        told = client.answer({"model": "m", "messages": [system, *body()["messages"]]})
        assert called == {"name": "Triage", "arguments": '{"team": "delivery"}'}
        assert shaped["content"] == told["content"] == called["arguments"]
        assert client.answer()["content"] == "answer: Where is my parcel?"

        counters = server.counters
        assert (counters.requests, counters.ok, counters.connections, counters.in_flight) == (4, 4, 1, 0)
        assert counters.by_status == {200: 4}
        assert counters.output_tokens > 0
        assert server.bodies[0] == body(tools=[TOOL])
        assert server.headers[0]["authorization"] == "Bearer test"


def test_other_paths() -> None:
    with FaultyServer() as server, client_of(server) as client:
        assert json.loads(client.request("GET", "/v1/models")[2])["data"][0]["id"] == "faulty"
        assert client.request("GET", "/v1/nothing")[0] == 404
        assert client.request("POST", "/openai/deployments/d/chat/completions?api-version=1", b"{}")[0] == 200
        told = json.loads(client.request("GET", "/counters")[2])
        assert (told["requests"], told["in_flight"], told["by_status"]) == (1, 0, {"200": 1})
        assert client.request("POST", "/reset")[0] == 200
        assert (server.counters.requests, server.counters.connections) == (0, 1)
        assert client.ask(body(stream=True))[0] == 400


def test_own_answers_and_what_they_raise() -> None:
    def answer(asked: dict[str, Any]) -> Any:
        return {"length": len(asked["messages"][0]["content"])} if asked["messages"][0]["content"] else 1 / 0

    with FaultyServer(answer) as server, client_of(server) as client:
        assert client.answer(body("four"))["content"] == '{"length": 4}'
        status, _, content = client.ask(body(""))
        assert status == 500
        assert b"ZeroDivisionError" in content
        assert client.request("POST", "/v1/chat/completions", b"{no json")[0] == 500
        assert [type(error) for error in server.errors] == [ZeroDivisionError, json.JSONDecodeError]
    with FaultyServer({"team": "billing"}) as server, client_of(server) as client:
        assert client.answer(body("any"))["content"] == '{"team": "billing"}'


def test_faults_and_limits_reach_the_client() -> None:
    faults = [Status(503, "overloaded", first=1), Limit(requests=0.001, burst=1, tell=True), Cut()]
    with FaultyServer(faults=faults) as server, client_of(server) as client:
        assert client.ask()[0] == 503
        status, headers, content = client.ask()
        assert (status, headers["x-ratelimit-remaining-requests"]) == (200, "0")
        assert json.loads(content)["choices"][0]["finish_reason"] == "length"
        status, headers, content = client.ask()
        assert (status, headers["retry-after"]) == (429, "1000")
        assert server.counters.by_status == {503: 1, 200: 1, 429: 1}
        assert (server.counters.refused, server.counters.ok) == (1, 1)
        server.reset()
        assert [client.ask()[0] for _ in range(2)] == [503, 200]


def test_html_and_nothing() -> None:
    with FaultyServer(faults=[Body(first=1), Body("", "application/json")]) as server, client_of(server) as client:
        status, headers, content = client.ask()
        assert (status, headers["content-type"]) == (200, "text/html")
        assert b"<html>" in content
        assert client.ask()[2] == b""


def test_a_response_that_is_sent_twice_and_a_packed_body() -> None:
    asked = json.dumps(body()).encode()
    request = b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(asked), asked)
    with FaultyServer(lambda _: "fine", faults=[SentTwice()]) as server:
        assert raw(server, request, answers=2).count(b"HTTP/1.1 200 OK") == 2
        assert server.counters.ok == 1
    packed = gzip.compress(b" " * 1_000_000)
    faults = [Body(packed, "application/json", headers={"content-encoding": "gzip"})]
    with FaultyServer(faults=faults) as server, client_of(server) as client:
        status, headers, content = client.ask()
        assert (status, headers["content-encoding"], content) == (200, "gzip", packed)


def test_rows_keep_their_own_answers_where_responses_are_sent_twice() -> None:
    with FaultyServer(last_user_text, faults=[SentTwice()]) as server:
        task = Instruction(
            instructions="Repeat it.", llm=LLM("m", base_url=server.base_url, api_key="none", cache=False)
        )
        rows = [f"row {number}" for number in range(8)]
        assert [item.output for item in task.run(rows, concurrency=1)] == rows


@pytest.mark.parametrize(
    ("at", "error"),
    [("before_headers", ConnectionResetError), ("after_headers", (ConnectionResetError, http.client.IncompleteRead))],
)
def test_resets(at: Any, error: Any) -> None:
    with FaultyServer(faults=[Reset(at, first=1)]) as server, client_of(server) as client:
        with pytest.raises(error):
            client.ask()
        client.close()
        assert client.ask()[0] == 200
        assert (server.counters.aborted, server.counters.in_flight, server.counters.connections) == (1, 0, 2)


def test_a_hang_sends_nothing_and_a_client_that_goes_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    with FaultyServer(faults=[Hang(first=1)], latency=lambda call: 5.0 if "slow" in call.text else 0.0) as server:
        for text in ("hangs", "slow"):
            with client_of(server) as client:
                client.connection.timeout = 0.1
                with pytest.raises(TimeoutError):
                    client.ask(body(text))
        with client_of(server) as client:
            # When this is answered, the two disconnected clients have been noticed.
            assert client.ask()[0] == 200
            assert (server.counters.aborted, server.counters.in_flight, server.counters.max_in_flight) == (2, 0, 1)
    assert caplog.records == []


def test_a_drip_is_slow_but_whole(caplog: pytest.LogCaptureFixture) -> None:
    with (
        FaultyServer(lambda _: "x" * 200, faults=[Drip(20_000.0, when="quick"), Drip(10.0, when="slow")]) as server,
        client_of(server) as client,
    ):
        assert client.answer(body("quick"))["content"] == "x" * 200
        client.connection.sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.ask(body("slow"))
        client.close()
    assert caplog.records == []


def test_latency_holds_answers_back_together() -> None:
    with FaultyServer(latency=(0.15, 0.2)) as server:

        def ask() -> None:
            with client_of(server) as client:
                client.answer()

        threads = [threading.Thread(target=ask) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (server.counters.max_in_flight, server.counters.in_flight, server.counters.ok) == (5, 0, 5)


def raw(server: FaultyServer, *pieces: bytes, answers: int = 1) -> bytes:
    """Send pieces of bytes, and return the bytes received until this many responses are there or the server closes."""
    url = urlsplit(server.base_url)
    received = b""
    with socket.create_connection((url.hostname, url.port), timeout=5) as connection:
        for piece in pieces:
            connection.sendall(piece)
        while received.count(b"content-length") < answers and (data := connection.recv(65536)):
            received += data
    return received


def test_requests_in_pieces_together_and_unusual_ones() -> None:
    content = json.dumps(body()).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n" % len(content)
    with FaultyServer() as server:
        assert b"200 OK" in raw(server, head[:9], head[9:] + b"\r\n" + content[:7], content[7:])
        assert raw(server, (head + b"\r\n" + content) * 3, answers=3).count(b"200 OK") == 3
        assert raw(server, head + b"Expect: 100-continue\r\n\r\n", answers=0) == b""
        assert b"411 Length Required" in raw(server, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        assert b"411 Length Required" in raw(server, b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n")
        assert server.counters.in_flight == 0


def test_a_client_that_waits_for_continue_is_reported_once() -> None:
    content = json.dumps(body()).encode()
    with FaultyServer() as server:
        url = urlsplit(server.base_url)
        with socket.create_connection((url.hostname, url.port), timeout=5) as connection:
            head = b"POST /v1/chat/completions HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
            connection.sendall(head % len(content))
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(content[:5])
            connection.sendall(content[5:])
            assert connection.recv(100).startswith(b"HTTP/1.1 200 OK")


def test_stop_ends_the_thread_and_frees_the_port() -> None:
    before = threading.active_count()
    server = FaultyServer(faults=[Hang()])
    server.start()
    with client_of(server) as client:
        client.connection.connect()
        server.stop()
        server.stop()
        assert threading.active_count() == before
        with pytest.raises(OSError, match=r"."):
            client.ask()
    with FaultyServer(port=urlsplit(server.base_url).port or 0) as again:
        assert again.base_url == server.base_url
        second = FaultyServer(port=urlsplit(again.base_url).port or 0)
        with pytest.raises(OSError, match="in use"):
            second.start()
        second.stop()
        with pytest.raises(OverflowError):
            FaultyServer(port=70_000).start()
        with pytest.raises(RuntimeError, match="runs already"):
            again.start()
    assert threading.active_count() == before


def test_nothing_is_kept_when_told_so_and_functions_are_faults() -> None:
    def shout(call: Call, reply: Reply) -> None:
        reply.text = reply.text.upper()

    with FaultyServer(faults=[shout], keep=False) as server, client_of(server) as client:
        assert client.answer()["content"] == "ANSWER: WHERE IS MY PARCEL?"
        assert (server.bodies, server.headers) == ([], [])
    server.reset()
    assert server.counters.requests == 0


def test_the_same_seed_gives_the_same_faults() -> None:
    def run(seed: int) -> list[int]:
        with FaultyServer(faults=[Status(500, share=0.5)], seed=seed) as server, client_of(server) as client:
            return [client.ask()[0] for _ in range(20)]

    assert run(1) == run(1) != run(2)


def test_a_process_prints_its_url_and_ends_on_a_signal() -> None:
    command = [
        "-W",
        "error",
        "-m",
        "llmtasker.testing.server",
        "--status",
        "503:1",
        "--latency",
        "0:0.01",
    ]
    for number in (signal.SIGTERM, signal.SIGINT):
        with programs.started(*command, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            with closing(Client(json.loads(process.stdout.readline())["base_url"])) as client:
                assert client.ask()[0] == 503
                assert json.loads(client.request("GET", "/counters")[2])["by_status"] == {"503": 1}
                process.send_signal(number)
                assert process.wait(10) == 0
            assert process.stderr.read() == ""


class EndAtFlush(io.StringIO):
    """A standard output that sends this process a signal when it is flushed."""

    def flush(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def test_main_serves_until_a_signal() -> None:
    before, threads = signal.getsignal(signal.SIGTERM), threading.active_count()
    try:
        with redirect_stdout(EndAtFlush()) as printed:
            main(["--latency", "0.5"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert json.loads(printed.getvalue())["base_url"].startswith("http://127.0.0.1:")
    assert threading.active_count() == threads


def test_flags_become_faults_in_order() -> None:
    line = (
        "--requests 20 --burst 5 --tokens 1000 --token-burst 50 --window 2 --retry-after none --tell --storm 10:2 "
        "--context-limit 100 --status 500:0.1 --status 401:1 --rejects tools=no --reset 0.1 --hang 0.2 --cut 0.3 "
        "--drip 10:0.4 --malformed fences:0.5 --group any:0.6"
    )
    faults = faults_of(build_parser().parse_args(line.split()))
    kinds = "Rejects ContextLimit Storm Limit Limit Status Status Reset Hang Cut Malformed BadGroup Drip"
    assert [type(fault).__name__ for fault in faults] == kinds.split()
    assert [fault.share for fault in faults] == [1, 1, 1, 1, 1, 0.1, 1, 0.1, 0.2, 0.3, 0.5, 0.6, 0.4]
    assert faults[3] == Limit(requests=20, burst=5, window=2, retry_after=None, tell=True)
    assert faults[4] == Limit(tokens=1000, burst=50, window=2, retry_after=None, tell=True)
    assert faults[10] == Malformed("fences", share=0.5)
    assert faults_of(build_parser().parse_args([])) == []


@pytest.mark.parametrize(
    "flags", ["--storm 10", "--malformed typo:1", "--status x:1", "--latency x", "--rejects tools"]
)
def test_wrong_flags_are_explained(flags: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(flags.split())
    assert "error:" in capsys.readouterr().err


def test_nothing_is_logged_by_default(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="llmtasker")
    with FaultyServer() as server, client_of(server) as client:
        client.answer()
    assert [record for record in caplog.records if record.name.startswith("llmtasker")] == []
