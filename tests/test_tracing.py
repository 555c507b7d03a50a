"""Traces: the spans that an independent OTLP receiver gets, even if it is slow, down or frozen."""

from __future__ import annotations

import pickle
import ssl
import time
from pathlib import Path
from typing import Any, Literal

import programs
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from otlp import Receiver
from peer import http, peer

from llmtasker import LLM, CallSettings, InputField, Item, OutputField, Prices, Signature, Task
from llmtasker.errors import ConfigurationError, InputError
from llmtasker.integrations import langfuse, opentelemetry, span_queue
from llmtasker.integrations import tracer as tracer_module
from llmtasker.runner.events import Event
from llmtasker.testing import FakeTransport, FaultyServer, Status
from llmtasker.wire.request import Request
from llmtasker.wire.request_reader import last_user_text


class Triage(Signature):
    """Route a customer message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


def sent(tracer: opentelemetry.Tracer, receiver: Receiver, rows: int) -> None:
    """Wait until the receiver has this many rows: the events of a single call come shortly after its item."""
    until = time.monotonic() + 20
    while len(receiver.named("row")) < rows:
        assert time.monotonic() < until, receiver.spans
        tracer.flush(0.05)
        time.sleep(0.01)


def fake(**options: Any) -> LLM:
    def answer(request: Request) -> Any:
        return "nonsense" if "bad" in last_user_text(request) else {"team": "billing"}

    return LLM(transport=FakeTransport(answer), cache=False, prices=Prices(input=1.0, output=1.0), **options)


# ── what a receiver gets ──


def test_a_run_can_be_read_from_its_trace(receiver: Receiver) -> None:
    tracer = opentelemetry.traces(receiver.url)
    with FaultyServer(faults=[Status(500, first=1), Status(400, when="bad")]) as server:
        llm = LLM(f"{server.base_url}#some-model", temperature=0, cache=False, api_key="sk-secret")
        task = Task(Triage, llm=llm, observers=[tracer])
        settings = CallSettings(tags={"customer": "gold"})
        results = task.run(["a", "bad", "c"], settings=settings, progress=False, concurrency=1)
    assert tracer.flush()
    (run,) = receiver.named("run")
    rows = {row["llmtasker.row"]: row for row in receiver.named("row")}
    calls = receiver.named("chat")
    assert len(rows) == 3
    assert {span["trace"] for span in receiver.spans} == {run["trace"]}
    assert {row["parent"] for row in rows.values()} == {run["id"]}
    assert {call["parent"] for call in calls} == {row["id"] for row in rows.values()}
    assert sum(row["llmtasker.retries"] for row in rows.values()) == 1
    failed = rows[1]
    assert (failed["status"], failed["error.type"]) == (2, "bad_request")
    assert results[1].error is not None
    assert [call["http.response.status_code"] for call in calls if "http.response.status_code" in call].count(500) == 1
    good = next(call for call in calls if "gen_ai.usage.input_tokens" in call)
    assert good["name"] == "chat some-model"
    assert good["gen_ai.operation.name"] == "chat"
    assert good["gen_ai.provider.name"] == good["server.address"] == "127.0.0.1"
    assert (good["gen_ai.request.model"], good["gen_ai.request.temperature"]) == ("some-model", 0)
    assert good["kind"] == 3
    assert "gen_ai.system" not in good
    assert {span["llmtasker.tag.customer"] for span in receiver.spans} == {"gold"}
    assert "sk-secret" not in str(receiver.spans)


@pytest.mark.parametrize(("content", "there"), [("none", False), ("hash", False), ("text", True)])
def test_texts_are_sent_only_on_request(receiver: Receiver, content: Any, there: bool) -> None:
    tracer = opentelemetry.traces(receiver.url, content=content)
    Task(Triage, llm=fake(), observers=[tracer])("a very private text")
    sent(tracer, receiver, 1)
    assert ("a very private text" in str(receiver.spans)) is there
    assert any("gen_ai.input.messages.hash" in span for span in receiver.spans) is (content == "hash")


def test_rows_are_sampled_and_errors_always_sent(receiver: Receiver) -> None:
    tracer = opentelemetry.traces(receiver.url, sample=0.1)
    rows = [f"{'bad' if number % 50 == 0 else 'row'} {number}" for number in range(500)]
    Task(Triage, llm=fake(), observers=[tracer], attempts=1).run(rows, progress=False)
    assert tracer.flush()
    sent = receiver.named("row")
    failed = [row for row in sent if "error.type" in row]
    assert len(failed) == 10
    assert 20 <= len(sent) - len(failed) <= 90


def test_a_cached_row_is_distinguished_from_one_that_was_asked(receiver: Receiver, tmp_path: Any) -> None:
    tracer = opentelemetry.traces(receiver.url)
    task = Task(Triage, llm=LLM(transport=FakeTransport({"team": "billing"}), cache=tmp_path), observers=[tracer])
    task("a")
    task("a")
    sent(tracer, receiver, 2)
    assert [row["llmtasker.cached"] for row in receiver.named("row")] == [False, True]
    assert len(receiver.named("chat")) == 1


# ── a receiver that is slow, down or frozen ──


def test_a_slow_receiver_loses_nothing(receiver: Receiver) -> None:
    receiver.delay = 0.05
    tracer = opentelemetry.traces(receiver.url)
    Task(Triage, llm=fake(), observers=[tracer]).run([f"row {number}" for number in range(3000)], progress=False)
    assert tracer.flush(30)
    assert tracer.dropped == 0
    assert len(receiver.named("row")) == 3000


@pytest.mark.parametrize("way", ["down", "frozen"])
def test_a_receiver_that_does_not_answer_costs_no_row(receiver: Receiver, way: str) -> None:
    if way == "down":
        receiver.close()
    receiver.delay = -1
    tracer = opentelemetry.traces(receiver.url)
    results = Task(Triage, llm=fake(), observers=[tracer]).run([f"row {n}" for n in range(500)], progress=False)
    assert all(item.ok for item in results)
    started = time.monotonic()
    assert not tracer.flush(0.5)
    assert time.monotonic() - started < 5


def test_spans_that_find_no_place_are_counted_and_those_of_failed_rows_stay_first(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_queue, "MOST_SPANS", 1000)
    receiver.status = 503
    tracer = opentelemetry.traces(receiver.url)
    for row in range(1100):  # a row without calls is one span
        item: Item[Any] = Item(input={}, error=InputError("no") if row < 100 else None)
        tracer(Event(what="item_done", run="r", when=3.0, rows=(row,), item=item))
    assert not tracer.flush(0.5)  # a post that failed puts them back
    receiver.status = 200
    assert tracer.flush(10)
    assert tracer.dropped == 100
    rows = [span["llmtasker.row"] for span in receiver.spans]
    assert rows == [*range(100), *range(200, 1100)]


def test_spans_that_wait_are_bounded_by_their_bytes_too(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span_queue, "MOST_BYTES", 100_000)
    receiver.status = 503
    tracer = opentelemetry.traces(receiver.url, content="text")
    for row in range(100):
        tracer(Event(what="item_done", run="r", when=3.0, rows=(row,), item=Item(input={}, output="x" * 10_000)))
    receiver.wait_for(lambda: tracer.dropped >= 90)
    assert tracer.dropped <= 92


@pytest.mark.parametrize(("status", "again"), [(503, True), (429, True), (401, False), (400, False), (413, False)])
def test_what_a_receiver_refuses_is_sent_again_only_where_that_can_help(
    receiver: Receiver, status: int, again: bool, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = status
    tracer = opentelemetry.traces(receiver.url)
    tracer(Event(what="item_done", run="r", when=3.0, rows=(0,), item=Item(input={})))
    assert tracer.flush(0.3) is not again
    receiver.status = 200
    assert tracer.flush(10)
    assert (len(receiver.spans), tracer.dropped) == ((1, 0) if again else (0, 1))
    assert f"status {status}" in caplog.text


def test_what_a_receiver_takes_in_part_is_reported(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    partial = ExportTracePartialSuccess(rejected_spans=1, error_message="too old")
    receiver.response = ExportTraceServiceResponse(partial_success=partial).SerializeToString()
    tracer = opentelemetry.traces(receiver.url)
    tracer(Event(what="item_done", run="r", when=3.0, rows=(0,), item=Item(input={})))
    assert tracer.flush()
    assert tracer.dropped == 1
    assert "too old" in caplog.text


def test_calls_of_rows_that_never_end_are_counted_when_they_are_dropped(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracer_module, "_ROWS", 10)
    tracer = opentelemetry.traces(receiver.url)
    for row in range(13):
        tracer(Event(what="call_ended", run="r", when=1.0, rows=(row,)))
    assert tracer.dropped == 3


@pytest.mark.parametrize("failed", [0, 2])
def test_a_failed_row_of_a_group_comes_with_its_call(receiver: Receiver, failed: int) -> None:
    tracer = opentelemetry.traces(receiver.url, sample=0.0)
    tracer(Event(what="call_ended", run="r", when=2.0, seconds=1.0, rows=(0, 1, 2), call=0))
    for row in range(3):
        item: Item[Any] = Item(input={}, error=InputError("no") if row == failed else None)
        tracer(Event(what="item_done", run="r", when=3.0, rows=(row,), item=item))
    assert tracer.flush()
    (call,), (row_sent,) = receiver.named("chat"), receiver.named("row")
    assert (call["parent"], call["llmtasker.rows"]) == (row_sent["id"], [0, 1, 2])
    assert row_sent["llmtasker.row"] == failed


def test_the_call_of_a_group_is_sent_once(receiver: Receiver) -> None:
    tracer = opentelemetry.traces(receiver.url)
    tracer(Event(what="call_ended", run="r", when=2.0, rows=(0, 1), call=0))
    for row in range(2):
        tracer(Event(what="item_done", run="r", when=3.0, rows=(row,), item=Item(input={})))
    assert tracer.flush()
    assert (len(receiver.named("chat")), len(receiver.named("row"))) == (1, 2)


def test_a_pickled_tracer_has_no_key(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-here")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-here")
    for tracer in (
        langfuse.traces(receiver.url, secret_key="sk-secret"),
        opentelemetry.traces(receiver.url, headers={"Authorization": "sk-secret"}, sample=0.5),
    ):
        data = pickle.dumps(tracer)
        assert b"secret" not in data
        assert pickle.loads(data).sample == tracer.sample


# ── set-up ──


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (opentelemetry.traces, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (lambda: opentelemetry.traces("collector:4318"), "the endpoint must be a URL that begins with http://"),
        (lambda: opentelemetry.traces("http://x", sample=2), "sample"),
        (lambda: opentelemetry.traces("http://x", sample=True), "sample"),
        (lambda: opentelemetry.traces("http://x", content="all"), "content"),  # type: ignore[arg-type]
        (langfuse.traces, "LLMTASKER_LANGFUSE"),
        (lambda: langfuse.traces("http://x"), "LANGFUSE_PUBLIC_KEY"),
        (lambda: langfuse.traces("ftp://x", public_key="a", secret_key="b"), "http://"),
    ],
)
def test_a_wrong_set_up(make: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "LLMTASKER_LANGFUSE", "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match=words):
        make()


PEM = str(Path(__file__).parent / "localhost.pem")
SIGNALS = pytest.mark.parametrize("make", [opentelemetry.traces, opentelemetry.metrics])
_OTLP = "OTEL_EXPORTER_OTLP_"


@SIGNALS
@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"CERTIFICATE": "/no/such.pem"}, "^{}CERTIFICATE names '/no/such.pem', .* No such file"),
        ({"CERTIFICATE": __file__}, "^{}CERTIFICATE names .*: it has no certificates"),
        ({"CERTIFICATE": str(Path(__file__).parent)}, "^{}CERTIFICATE names .*directory"),
        ({"CERTIFICATE": PEM, "CLIENT_CERTIFICATE": "/no/such.pem"}, "^{}CLIENT_CERTIFICATE names '/no/such.pem'"),
        ({"CLIENT_CERTIFICATE": __file__}, "^{}CLIENT_CERTIFICATE names .*not a certificate with its key"),
        ({"CLIENT_CERTIFICATE": PEM, "CLIENT_KEY": "/no/key"}, "^{}CLIENT_KEY names '/no/key', .* No such file"),
        ({"CLIENT_CERTIFICATE": PEM, "CLIENT_KEY": __file__}, "not a certificate with its key .* in {}CLIENT_KEY"),
        ({"CLIENT_CERTIFICATE": PEM, "CLIENT_KEY": "-----BEGIN SECRET"}, "^{}CLIENT_KEY names a text instead"),
    ],
)
def test_a_certificate_that_cannot_be_used(
    make: Any, files: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for prefix in (_OTLP, f"{_OTLP}{make.__name__.upper()}_"):
        with monkeypatch.context() as patched:
            for name, path in files.items():
                patched.setenv(f"{prefix}{name}", path)
            with pytest.raises(ConfigurationError, match=words.format(prefix)) as caught:
                make("https://collector:4318")
            assert "SECRET" not in str(caught.value)
            make("http://collector:4318").close()  # there, no bodies are read


def test_spans_are_sent_over_tls_with_the_certificates_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(PEM)
    tls.load_verify_locations(PEM)
    tls.verify_mode = ssl.CERT_REQUIRED
    for name in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"):
        monkeypatch.setenv(f"{_OTLP}{name}", PEM)
    with peer(lambda _: http(b""), context=tls) as server:
        tracer = opentelemetry.traces(server.url)
        tracer(Event(what="item_done", run="r", when=3.0, rows=(0,), item=Item(input={})))
        assert tracer.flush(10)
        tracer.close()
        assert [seen.target for seen in server.seen] == ["/v1/v1/traces"]


@pytest.mark.parametrize("command", [("run", "a.py:task"), ("evaluate", "a.py:task"), ("evaluate", "a.py:chain")])
def test_the_command_line_is_traced(receiver: Receiver, tmp_path: Any, command: tuple[str, ...]) -> None:
    code = (
        "from llmtasker import Classification, pipeline\n"
        "task = Classification(llm='offline', labels={'cat': 'meows', 'dog': 'barks'})\n"
        "@pipeline\n"
        "async def chain(text: str) -> str:\n"
        "    return (await task.acall(text)).value\n"
    )
    (tmp_path / "a.py").write_text(code, encoding="utf-8")
    (tmp_path / "in.csv").write_text("text,label,output\nit barks,dog,dog\nit meows,cat,cat\n", encoding="utf-8")
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "HOME": str(tmp_path), "PATH": "/usr/bin"}
    ended = programs.run("-m", "llmtasker", *command, "in.csv", cwd=tmp_path, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert len(receiver.named("row")) == 2
    assert len(receiver.named("run")) == 1


def test_the_receiver_of_the_environment(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    tracer = opentelemetry.traces()
    Task(Triage, llm=fake(), observers=[tracer])("a")
    sent(tracer, receiver, 1)
