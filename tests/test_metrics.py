"""Metrics: the tokens, durations, cost, retries and cache hits that a receiver of OTLP gets, and when."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import programs
import pytest
from otlp import Receiver

from llmtasker import LLM, InputField, OutputField, Prices, Signature, Task
from llmtasker.cli.tracing import observers
from llmtasker.errors import ConfigurationError
from llmtasker.integrations import langfuse, meter, opentelemetry
from llmtasker.integrations.meter import Meter
from llmtasker.integrations.tracer import Tracer
from llmtasker.runner.events import Event
from llmtasker.testing import FakeTransport, FaultyServer, Malformed, Status
from llmtasker.wire.request import Head, Request, Settings


class Triage(Signature):
    """Route a customer message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


def call(model: str = "m", seconds: float = 0.1, run: str = "r") -> Event:
    request = Request(Head({}), [{"role": "user", "content": "a"}], Settings(endpoint="fake", body={"model": model}))
    return Event(what="call_ended", run=run, when=1.0, seconds=seconds, rows=(0,), request=request)


def test_a_run_is_counted(receiver: Receiver, tmp_path: Path) -> None:
    counted = opentelemetry.metrics(receiver.url)
    faults = [Status(500, first=1, when="shaky"), Malformed("not_json", first=1, when="again"), Status(400, when="bad")]
    with FaultyServer(faults=faults) as server:
        llm = LLM(f"{server.base_url}#m", cache=tmp_path, api_key="none", prices=Prices(input=1.0, output=2.0))
        task = Task(Triage, llm=llm, observers=[counted])
        results = task.run(["shaky", "again", "bad", "plain", "plain"], progress=False, concurrency=1)
    assert counted.flush(10)
    usage = [item.usage for item in results]
    token = "gen_ai.client.token.usage"
    assert receiver.counted(token, gen_ai_token_type="input") == sum(one.input for one in usage)
    assert receiver.counted(token, gen_ai_token_type="output") == sum(one.output for one in usage)
    duration = [point for point in receiver.points if point["metric"] == "gen_ai.client.operation.duration"]
    assert sum(point["count"] for point in duration) == sum(item.attempts for item in results) == 6
    assert {point.get("error.type"): point["count"] for point in duration} == {None: 4, "server": 1, "bad_request": 1}
    assert receiver.counted("llmtasker.rows") == 5
    assert receiver.counted("llmtasker.rows", llmtasker_cached=True) == 1
    assert receiver.counted("llmtasker.rows", error_type="bad_request") == 1
    assert receiver.counted("llmtasker.retries") == 2
    assert receiver.counted("llmtasker.cost") == pytest.approx(sum(item.cost or 0.0 for item in results))
    assert {point["gen_ai.request.model"] for point in receiver.points} == {"m"}
    assert {point["gen_ai.provider.name"] for point in receiver.points} == {"127.0.0.1"}
    first = receiver.points[0]
    assert (first["unit"], first["bounds"][:3], first["bounds"][-1]) == ("{token}", [1, 4, 16], 67_108_864)
    assert (duration[0]["bounds"][0], duration[0]["bounds"][-1]) == (0.01, 81.92)
    assert {point["temporality"] for point in receiver.points} == {2}


@pytest.mark.parametrize(("preference", "wanted"), [("cumulative", [3, 5]), ("delta", [3, 2]), ("lowmemory", [3, 2])])
def test_sums_are_cumulative_or_deltas(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, preference: str, wanted: list[int]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", preference)
    counted = opentelemetry.metrics(receiver.url)
    for calls in (3, 2):
        for _ in range(calls):
            counted(call())
        assert counted.flush(10)
    assert [point["count"] for point in receiver.points] == wanted
    first, second = receiver.points
    assert second["start"] == (first["start"] if preference == "cumulative" else first["end"])


@pytest.mark.parametrize("of", [opentelemetry.metrics, opentelemetry.traces])
def test_a_client_that_cannot_be_made_does_not_end_the_sending(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, of: Callable[[str], Any]
) -> None:
    monkeypatch.setenv("ALL_PROXY", "foo://bad")
    sent = of(receiver.url)
    task = Task(Triage, llm=LLM(transport=FakeTransport({"team": "billing"}), cache=False), observers=[sent])
    assert task.run(["a"], progress=False)[0].ok
    assert not sent.flush(0.5)
    monkeypatch.delenv("ALL_PROXY")
    assert sent.flush(10)
    sent.close()


@pytest.mark.parametrize("preference", ["cumulative", "delta"])
def test_a_post_that_fails_loses_nothing(receiver: Receiver, monkeypatch: pytest.MonkeyPatch, preference: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", preference)
    receiver.status = 503
    counted = opentelemetry.metrics(receiver.url)
    counted(call(seconds=0.5))
    assert not counted.flush(0.3)
    counted(call(seconds=2.0))
    receiver.status = 200
    assert counted.flush(10)
    assert sum(point["count"] for point in receiver.points[-1:]) == 2
    assert receiver.points[-1]["value"] == pytest.approx(2.5)


def test_they_are_posted_at_an_interval(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
    counted = opentelemetry.metrics(receiver.url)
    counted(call())
    receiver.wait_for(lambda: bool(receiver.points))


def test_sets_of_attributes_are_bounded(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "_SETS", 10)
    counted = opentelemetry.metrics(receiver.url)
    for number in range(50):
        counted(call(f"model {number}"))
    assert counted.flush(10)
    duration = [point for point in receiver.points if point["metric"] == "gen_ai.client.operation.duration"]
    assert len(duration) == 11
    assert [point["count"] for point in duration if point.get("otel.metric.overflow")] == [40]


def test_a_receiver_that_does_not_take_them_is_reported_once(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = 404
    counted = opentelemetry.metrics(receiver.url)
    for _ in range(3):
        counted(call())
        assert not counted.flush(0.3)
    assert caplog.text.count("does not take them: status 404") == 1


# ── the environment ──


@pytest.mark.parametrize(
    ("variables", "kinds"),
    [
        ({}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "URL"}, [Tracer, Meter]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "URL/x"}, [Tracer]),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "URL/x"}, [Meter]),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "URL", "OTEL_METRICS_EXPORTER": "none"}, [Tracer]),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "URL", "OTEL_TRACES_EXPORTER": "none"}, [Meter]),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "URL", "OTEL_TRACES_EXPORTER": "console, otlp"}, [Tracer, Meter]),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "URL", "OTEL_SDK_DISABLED": "TRUE"}, []),
    ],
)
def test_the_environment_chooses_the_observers(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], kinds: list[type]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace("URL", receiver.url))
    found = observers()
    assert len(found) == len(kinds)
    assert all(map(isinstance, found, kinds))


def test_variables_of_opentelemetry_are_followed(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"{receiver.url}/base/",
        "OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20b, x-tenant=all",
        "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "x-tenant=metrics",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{receiver.url}/own/metrics",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=caf%C3%A9,service.name=other",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for observer in observers():
        observer(call())
        observer(Event(what="run_ended", run="r", when=2.0))
        assert observer.flush(10)
    seen = [{name.lower(): value for name, value in headers.items()} for headers in receiver.headers]
    assert receiver.paths == ["/base/v1/traces", "/own/metrics"]
    assert [headers.get("api-key") for headers in seen] == ["a b", None]
    assert [headers["x-tenant"] for headers in seen] == ["all", "metrics"]
    assert {headers["content-encoding"] for headers in seen} == {"gzip"}
    assert {resource["deployment.environment.name"] for resource in receiver.resources} == {"café"}
    assert {resource["service.name"] for resource in receiver.resources} == {"other"}
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    for made, name in ((opentelemetry.traces(), "mine"), (opentelemetry.traces(service_name="given"), "given")):
        made(Event(what="run_ended", run="r", when=2.0))
        assert made.flush()
        assert receiver.resources[-1]["service.name"] == name


def test_what_is_switched_off_takes_nothing(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    off: list[Any] = [opentelemetry.traces(receiver.url), opentelemetry.metrics(), opentelemetry.traces()]
    off.append(langfuse.traces(receiver.url, public_key="pk", secret_key="sk"))
    Task(Triage, llm=LLM(transport=FakeTransport(), cache=False), observers=off).run(["a"], progress=False)
    assert all(observer.flush(10) for observer in off)
    assert not receiver.headers


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/json"}, "http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "sk-secret"}, "part 1 is not name=value"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "a=1,b"}, "part 2"),
        ({"OTEL_METRIC_EXPORT_INTERVAL": "1m"}, "milliseconds"),
        ({"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "both"}, "cumulative"),
        (
            {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "collector:4318"},
            "_METRICS_ENDPOINT must be a URL",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:port"}, "OTEL_EXPORTER_OTLP_ENDPOINT must be a URL"),
    ],
)
def test_a_variable_that_is_wrong(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=words) as caught:
        opentelemetry.metrics()
    assert "secret" not in str(caught.value)


def test_a_command_posts_both_at_its_end(receiver: Receiver, tmp_path: Path) -> None:
    code = (
        "from llmtasker import Classification\n"
        "task = Classification(llm='offline', labels={'cat': 'meows', 'dog': 'barks'})\n"
    )
    (tmp_path / "a.py").write_text(code, encoding="utf-8")
    (tmp_path / "in.csv").write_text("text\nit barks\nit meows\n", encoding="utf-8")
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    ended = programs.run("-m", "llmtasker", "run", "a.py:task", "in.csv", cwd=tmp_path, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert receiver.counted("llmtasker.rows") == len(receiver.named("row")) == 2


def test_a_command_ends_in_time_where_nobody_listens(tmp_path: Path) -> None:
    code = "import time\nfrom llmtasker.integrations import opentelemetry\n"
    code += "from llmtasker import Classification\n"
    code += "both = [opentelemetry.traces(), opentelemetry.metrics()]\n"
    code += "task = Classification(llm='offline', labels={'cat': 'meows', 'dog': 'barks'}, observers=both)\n"
    code += "task.run(['it barks'], progress=False)\nprint(time.time())\n"
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "HOME": str(tmp_path), "PATH": "/usr/bin"}
    ended = programs.run("-c", code, cwd=tmp_path, env=environment)
    assert time.time() - float(ended.stdout) < 30, ended.stderr  # 4.9 s at the end, and however busy the machine is
