"""Traces: what an independent OTLP receiver gets, also when it is slow, down or frozen."""

from __future__ import annotations

import gzip
import json
import pickle
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import programs
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from llmtasker import LLM, CallSettings, InputField, Item, OutputField, Prices, Signature, Task
from llmtasker.errors import ConfigurationError, InputError
from llmtasker.integrations import langfuse, opentelemetry, span_sender
from llmtasker.runner.events import Event
from llmtasker.testing import FakeTransport, FaultyServer, Status
from llmtasker.wire.request import Request
from llmtasker.wire.request_reader import last_user_text


class Triage(Signature):
    """Route a customer message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


class Receiver:
    """An OTLP receiver: 40 lines of http.server with the protobuf of OpenTelemetry."""

    def __init__(self, port: int = 0) -> None:
        self.spans: list[dict[str, Any]] = []
        self.scores: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.delay = 0.0
        self.frozen = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.frozen.wait() if receiver.delay < 0 else time.sleep(receiver.delay)
                receiver.headers.append(dict(self.headers))
                if self.path.endswith("/scores"):
                    receiver.scores.append(json.loads(body))
                else:
                    packed = self.headers.get("Content-Encoding") == "gzip"
                    receiver.take(gzip.decompress(body) if packed else body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    attributes = {one.key: _value(one.value) for one in span.attributes}
                    self.spans.append(
                        {
                            "name": span.name, "trace": span.trace_id.hex(), "id": span.span_id.hex(),
                            "parent": span.parent_span_id.hex(), "status": span.status.code, "kind": span.kind,
                            "seconds": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9, **attributes,
                        }
                    )  # fmt: skip

    def named(self, name: str) -> list[dict[str, Any]]:
        return [span for span in self.spans if span["name"].split()[0] == name]

    def close(self) -> None:
        self.frozen.set()
        self._server.shutdown()
        self._server.server_close()


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


def sent(tracer: opentelemetry.Tracer, receiver: Receiver, rows: int) -> None:
    """Wait until the receiver has so many rows: the events of a single call come a moment after its item."""
    until = time.monotonic() + 20
    while len(receiver.named("row")) < rows:
        assert time.monotonic() < until, receiver.spans
        tracer.flush(0.05)
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close what a test has opened: a thread that goes on would disturb other tests."""
    opened: list[span_sender.SpanSender] = []
    begin = span_sender.SpanSender.__init__

    def recorded(sender: span_sender.SpanSender, *arguments: Any) -> None:
        begin(sender, *arguments)
        opened.append(sender)

    monkeypatch.setattr(span_sender.SpanSender, "__init__", recorded)
    yield
    for sender in opened:
        sender.close()


def fake(**options: Any) -> LLM:
    def answer(request: Request) -> Any:
        return "nonsense" if "bad" in last_user_text(request) else {"team": "billing"}

    return LLM(transport=FakeTransport(answer), cache=False, prices=Prices(input=1.0, output=1.0), **options)


# ── what a receiver gets ──


def test_a_run_is_told_from_its_trace(receiver: Receiver) -> None:
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


def test_a_cached_row_is_told_from_one_that_was_asked(receiver: Receiver, tmp_path: Any) -> None:
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


def test_spans_that_find_no_place_are_counted_and_errors_kept_longest() -> None:
    tracer = opentelemetry.traces("http://127.0.0.1:9")
    sender = tracer._sender
    sender._running = True  # no thread: the queue is looked at
    for number in range(span_sender.MOST_SPANS + 50):
        span = span_sender.SpanData("row", 1, number + 1, None, 0, 1, {})
        sender.put(span, urgent=number < 100)
    assert tracer.dropped == 50
    assert len(sender._urgent) == 100


def test_errors_stay_first_after_a_post_that_failed() -> None:
    class Refusing:
        def export(self, spans: list[Any]) -> Any:
            raise ConnectionError

        def shutdown(self) -> None:
            pass

    sender = opentelemetry.traces("http://127.0.0.1:9")._sender
    sender._running = True  # no thread: the queue is looked at
    sender._hurry = True  # a short pause
    sender._exporter = Refusing()
    made = [span_sender.SpanData("row", 1, number + 1, None, 0, 1, {}) for number in range(span_sender.MOST_SPANS)]
    for span in made:
        sender.put(span)
    failed, usual = ([span._replace(id=first + n) for n in range(10)] for first in (50_000, 60_000))
    sender._post(failed, usual)
    assert list(sender._urgent) == failed
    assert list(sender._usual) == made[10:]
    assert sender.dropped == 20


def test_calls_of_rows_that_never_end_are_counted_when_they_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opentelemetry, "_ROWS", 10)
    tracer = opentelemetry.traces("http://127.0.0.1:9")
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


# ── Langfuse ──


def test_langfuse_gets_a_trace_for_each_row(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-1")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-1")
    events: list[Event] = []
    tracer = langfuse.traces(receiver.url, environment="test", content="text")
    task = Task(Triage, llm=fake(), observers=[tracer, events.append])
    task.run(["a", "b"], progress=False, settings=CallSettings(tags={"team": "x"}))
    assert tracer.flush()
    rows = receiver.named("row")
    assert len({row["trace"] for row in rows}) == 2
    assert {row["parent"] for row in rows} == {""}
    assert {row["langfuse.session.id"] for row in receiver.named("row")} == {events[0].run}
    call = receiver.named("chat")[0]
    assert call["langfuse.observation.type"] == "generation"
    assert json.loads(call["langfuse.observation.output"]) == {"team": "billing"}
    assert json.loads(call["langfuse.observation.input"])[0]["role"] == "system"
    assert call["langfuse.environment"] == "test"
    assert call["langfuse.trace.tags"] == ["team=x"]
    assert {headers.get("authorization") or headers.get("Authorization") for headers in receiver.headers} == {
        "Basic cGstMTpzay0x"
    }
    tracer.score(events[0].run, 1, "right", 1.0, comment="looked at")
    assert receiver.scores[0] == {
        "traceId": langfuse.trace_id(events[0].run, 1), "name": "right", "value": 1.0, "comment": "looked at",
        "dataType": "NUMERIC",
    }  # fmt: skip
    assert receiver.scores[0]["traceId"] in {row["trace"] for row in rows}


def test_a_correction_becomes_scores(receiver: Receiver) -> None:
    tracer = langfuse.traces(receiver.url, public_key="pk", secret_key="sk")
    answer = {"team": "billing", "urgent": False}
    tracer.score_correction("r", 0, answer, {"team": "billing"})
    tracer.score_correction("r", 1, answer, {"team": "delivery", "urgent": True})
    assert [(score["name"], score["value"], score["dataType"]) for score in receiver.scores] == [
        ("correct", 1.0, "NUMERIC"),
        ("correct", 0.0, "NUMERIC"),
        ("corrected team", "delivery", "CATEGORICAL"),
        ("corrected urgent", "true", "CATEGORICAL"),
    ]
    assert [score["traceId"] for score in receiver.scores[1:]] == [langfuse.trace_id("r", 1)] * 3


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
        (lambda: opentelemetry.traces("collector:4318"), "http://"),
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


def test_the_command_line_is_traced(receiver: Receiver, tmp_path: Any) -> None:
    code = (
        "from llmtasker import Classification\n"
        "task = Classification(llm='offline', labels={'cat': 'meows', 'dog': 'barks'})\n"
    )
    (tmp_path / "a.py").write_text(code, encoding="utf-8")
    (tmp_path / "in.csv").write_text("text\nit barks\nit meows\n", encoding="utf-8")
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "HOME": str(tmp_path), "PATH": "/usr/bin"}
    ended = programs.run("-m", "llmtasker", "run", "a.py:task", "in.csv", cwd=tmp_path, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert len(receiver.named("row")) == 2
    assert len(receiver.named("run")) == 1


def test_the_receiver_of_the_environment(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    tracer = opentelemetry.traces()
    Task(Triage, llm=fake(), observers=[tracer])("a")
    sent(tracer, receiver, 1)
