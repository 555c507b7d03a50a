"""Langfuse: traces with the attributes of its SDK, its client, and corrections as scores."""

from __future__ import annotations

import json
import logging
import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import programs
import pytest
from otlp import Receiver

from llmtasker import LLM, CallSettings, InputField, OutputField, Prices, Signature, Task
from llmtasker.errors import BadRequestError, ConfigurationError
from llmtasker.integrations import langfuse
from llmtasker.runner.corrected_row import CorrectedRow
from llmtasker.runner.events import Event
from llmtasker.testing import FakeTransport
from llmtasker.values.json_values import is_array, is_object
from llmtasker.wire.completion import Completion, Usage
from llmtasker.wire.request import Request
from llmtasker.wire.request_reader import last_user_text


class Triage(Signature):
    """Route a customer message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


SDK = Path(__file__).with_name("langfuse_sdk.json")
RECORDED: dict[str, Any] = json.loads(SDK.read_text(encoding="utf-8"))


def answer(request: Request) -> Any:
    if "failing" in last_user_text(request):
        return BadRequestError("no")
    return Completion(text='{"team": "billing"}', usage=Usage(input=9, output=3, input_cached=2), model="m")


def fake() -> LLM:
    settings: dict[str, Any] = {"model": "m", "temperature": 0}
    return LLM(transport=FakeTransport(answer), cache=False, prices=Prices(input=1.0, output=1.0), **settings)


def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk")


def form(value: Any) -> Any:
    """The form of a value: its type, and in a JSON text the types of its parts."""
    if isinstance(value, str):
        try:
            return "JSON", form(json.loads(value))
        except ValueError:
            return "text"
    if is_object(value):
        return {name: form(one) for name, one in value.items()}
    return [form(value[0])] if is_array(value) else type(value).__name__


@pytest.mark.parametrize("kind", list(RECORDED["spans"]))
def test_spans_have_the_attributes_of_the_sdk(receiver: Receiver, kind: str) -> None:
    tracer = langfuse.traces(receiver.url, public_key="pk", secret_key="sk", environment="test", content="text")
    task = Task(Triage, llm=fake(), observers=[tracer], attempts=1)
    text = "failing" if kind.startswith("failed") else "a"
    task.run([text], progress=False, settings=CallSettings(tags={"team": "x"}))
    assert tracer.flush()
    (span,) = receiver.named("row" if kind.endswith("row") else "chat")
    own = {
        name: value for name, value in span.items() if name.startswith("langfuse.") or name in {"session.id", "status"}
    }
    recorded = RECORDED["spans"][kind]
    assert own.keys() == recorded.keys()
    free = {"langfuse.observation.input", "langfuse.observation.usage_details", "session.id"}
    assert {name: form(value) for name, value in own.items() if name not in free} == {
        name: form(value) for name, value in recorded.items() if name not in free
    }
    same = ("langfuse.observation.type", "langfuse.observation.level", "langfuse.trace.tags", "langfuse.environment")
    assert [own.get(name) for name in same] == [recorded.get(name) for name in same]
    if kind == "call":
        assert json.loads(own["langfuse.observation.usage_details"]) == {
            "input": 7,
            "output": 3,
            "input_cached_tokens": 2,
        }
        assert json.loads(own["langfuse.observation.input"])[-1]["role"] == "user"
    headers = {name.lower(): value for name, value in receiver.headers[0].items()}
    assert {name: headers[name] for name in RECORDED["headers"]} == RECORDED["headers"]


@pytest.mark.others
def test_the_sdk_still_sends_what_was_recorded() -> None:
    script, python = str(Path(__file__).with_name("langfuse_sdk.py")), os.environ["PYTHON_OF_OTHERS"]
    done = programs.run(script, program=python, env={"PATH": os.environ["PATH"]}, timeout=100)
    assert json.loads(done.stdout) == RECORDED, done.stderr


def test_each_row_is_a_trace_and_the_run_a_session(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    keys(monkeypatch)
    events: list[Event] = []
    tracer = langfuse.traces(receiver.url)
    Task(Triage, llm=fake(), observers=[tracer, events.append]).run(["a", "b"], progress=False)
    assert tracer.flush()
    rows = receiver.named("row")
    assert len({row["trace"] for row in rows}) == 2
    assert {row["parent"] for row in rows} == {""}
    assert {row["session.id"] for row in rows} == {events[0].run}
    assert not [name for span in receiver.spans for name in span if name.endswith((".input", ".output"))]
    tracer.score(events[0].run, 1, "right", 1.0, comment="looked at")
    (score,) = receiver.scores
    (recorded, _) = RECORDED["scores"]
    assert score.keys() == {*recorded, "comment"} - {"environment"}
    trace = langfuse.trace_id(events[0].run, 1)
    assert (score["traceId"], score["value"], score["comment"]) == (trace, 1.0, "looked at")
    assert trace in {row["trace"] for row in rows}


def test_a_correction_becomes_scores(receiver: Receiver) -> None:
    tracer = langfuse.traces(receiver.url, public_key="pk", secret_key="sk")
    said = {"team": "billing", "urgent": False}
    tracer.score_correction("r", 0, said, {"team": "billing"})
    tracer.score_correction("r", 1, said, {"team": "delivery", "urgent": True})
    assert [(score["name"], score["value"], score["dataType"]) for score in receiver.scores] == [
        ("correct", 1.0, "NUMERIC"),
        ("correct", 0.0, "NUMERIC"),
        ("corrected team", "delivery", "CATEGORICAL"),
        ("corrected urgent", "true", "CATEGORICAL"),
    ]
    assert [score["traceId"] for score in receiver.scores[1:]] == [langfuse.trace_id("r", 1)] * 3


# ── corrections of rows of a job ──

OUTPUTS = frozenset({"team", "note"})


def corrected(correction: Any, before: Any = None, *, failed: bool = False) -> CorrectedRow:
    answered = {} if failed else {"team": "billing", "note": "a secret"}
    return CorrectedRow(
        job="j", number=1, answer=answered, failed=failed, correction=correction, before=before, outputs=OUTPUTS,
        closed=frozenset({"team"}),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "row", "sent", "withdrawn"),
    [
        ("none", corrected({"team": "billing"}), {"correct": 1.0}, 0),
        ("none", corrected({"team": "delivery"}), {"correct": 0.0, "corrected team": "delivery"}, 0),
        ("none", corrected({"note": "another"}), {"correct": 0.0}, 0),
        ("text", corrected({"note": "another"}), {"correct": 0.0, "corrected note": "another"}, 0),
        ("none", corrected({"team": "delivery"}, failed=True), {"correct": 0.0, "corrected team": "delivery"}, 0),
        ("none", corrected(None, {"team": "delivery"}), {}, 2),
        ("none", corrected({"team": "billing"}, {"team": "delivery"}), {"correct": 1.0}, 1),
        ("none", corrected(None), {}, 0),
    ],
)
def test_a_correction_of_a_job(
    receiver: Receiver, content: Any, row: CorrectedRow, sent: dict[str, Any], withdrawn: int
) -> None:
    tracer = langfuse.traces(receiver.url, public_key="pk", secret_key="sk", content=content)
    tracer.take_correction(row)
    assert tracer.flush()
    assert {score["name"]: score["value"] for score in receiver.scores} == sent
    assert len(receiver.withdrawn) == withdrawn


def test_a_correction_that_is_changed_replaces_its_scores(receiver: Receiver) -> None:
    tracer = langfuse.traces(receiver.url, public_key="pk", secret_key="sk")
    tracer.take_correction(corrected({"team": "delivery"}))
    tracer.take_correction(corrected(None, {"team": "delivery"}))
    assert tracer.flush()
    assert [score["id"] for score in receiver.scores] == receiver.withdrawn
    assert len(set(receiver.withdrawn)) == 2


def test_a_row_whose_trace_was_not_sent_is_scored_in_its_session(receiver: Receiver) -> None:
    tracer = langfuse.traces(receiver.url, public_key="pk", secret_key="sk", sample=0.0)
    tracer.take_correction(corrected({"team": "billing"}))
    tracer.take_correction(corrected({"team": "billing"}, failed=True))
    assert tracer.flush()
    assert [(score.get("sessionId"), "traceId" in score) for score in receiver.scores] == [
        ("j", False),
        *[(None, True)] * 2,
    ]


@pytest.mark.parametrize(("status", "arrives"), [(503, True), (401, False)])
def test_scores_that_do_not_arrive_are_reported_once(
    receiver: Receiver, status: int, arrives: bool, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = status
    tracer = langfuse.traces(receiver.url, public_key="pk", secret_key="sk")
    for _ in range(3):
        tracer.take_correction(corrected({"team": "billing"}))
    assert tracer.flush(1.0) is not arrives
    receiver.status = 200
    assert tracer.flush(10)
    assert len(receiver.scores) == (3 if arrives else 0)
    assert caplog.text.count("scores: 127.0.0.1:") == 1


# ── a client of the SDK ──


def client_of(receiver: Receiver, **more: Any) -> Any:
    """What is read of a client of the SDK, as its majors 2 to 5 have it."""
    headers = {"Authorization": "Basic cGs6c2s=", "X-Langfuse-Public-Key": "pk"}
    wrapper = SimpleNamespace(get_base_url=lambda: receiver.url, get_headers=lambda: headers)
    return SimpleNamespace(**{"api": SimpleNamespace(_client_wrapper=wrapper), "_environment": "staging", **more})


def test_a_client_is_used_as_it_was_made(receiver: Receiver) -> None:
    def hidden(data: Any) -> Any:
        return json.loads(json.dumps(data).replace("Ann", "***"))

    tracer = langfuse.traces(client=client_of(receiver, _mask=hidden), content="text")
    Task(Triage, llm=fake(), observers=[tracer]).run(["Ann waits"], progress=False)
    assert tracer.flush()
    tracer.score("r", 0, "right", 1.0)
    assert {headers["authorization"] for headers in lower(receiver)} == {"Basic cGs6c2s="}
    assert {span["langfuse.environment"] for span in receiver.spans} == {"staging"}
    assert receiver.scores[0]["environment"] == "staging"
    assert "Ann" not in str(receiver.spans)
    assert "*** waits" in str(receiver.spans)


def lower(receiver: Receiver) -> list[dict[str, str]]:
    return [{name.lower(): value for name, value in headers.items()} for headers in receiver.headers]


def test_a_mask_that_fails_hides_all(receiver: Receiver) -> None:
    def broken(data: Any) -> Any:
        raise KeyError("Ann")

    tracer = langfuse.traces(client=client_of(receiver, _mask=broken), content="text")
    Task(Triage, llm=fake(), observers=[tracer]).run(["Ann waits"], progress=False)
    assert tracer.flush()
    assert "Ann" not in str(receiver.spans)


def test_a_client_with_tracing_switched_off_sends_nothing(receiver: Receiver) -> None:
    tracer = langfuse.traces(client=client_of(receiver, _tracing_enabled=False))
    Task(Triage, llm=fake(), observers=[tracer]).run(["a"], progress=False)
    tracer.take_correction(corrected({"team": "billing"}))
    assert tracer.flush()
    assert not receiver.headers


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"client": object()}, "client is object"),
        ({"client": SimpleNamespace(api=None, client=None)}, "the URL and keys of Langfuse can't be read"),
        ({"client": object(), "base_url": "http://x"}, "leave out base_url"),
    ],
)
def test_a_client_that_cannot_be_used(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        langfuse.traces(**options)


def test_a_client_that_masks_spans_is_refused(receiver: Receiver) -> None:
    client = client_of(receiver, _resources=SimpleNamespace(mask_otel_spans=print))
    with pytest.raises(ConfigurationError, match="mask_otel_spans"):
        langfuse.traces(client=client)


@pytest.mark.others
def test_the_client_of_the_sdk_is_one(tmp_path: Path) -> None:
    code = (
        "from langfuse import Langfuse\n"
        "from llmtasker.integrations.langfuse_client import LangfuseProject\n"
        "client = Langfuse(base_url='http://127.0.0.1:9', public_key='pk', secret_key='sk', environment='e')\n"
        "found = LangfuseProject.of_client(client)\n"
        "print(found.base_url, found.headers['Authorization'], found.environment, type(found.http).__name__)\n"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1])}
    done = programs.run("-c", code, program=os.environ["PYTHON_OF_OTHERS"], cwd=tmp_path, env=environment, timeout=100)
    assert done.stdout.split() == ["http://127.0.0.1:9", "Basic", "cGs6c2s=", "e", "Client"], done.stderr


def test_no_key_is_pickled_shown_or_logged(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keys(monkeypatch)
    receiver.status = 401
    with caplog.at_level(logging.DEBUG, "llmtasker"):
        tracer = langfuse.traces(receiver.url, secret_key="sk-secret")
        tracer.take_correction(corrected({"team": "billing"}))
        tracer.flush()
    assert b"secret" not in pickle.dumps(tracer)
    assert not [word for word in ("secret", "Basic") if word in f"{tracer!r} {vars(tracer)} {caplog.text}"]
