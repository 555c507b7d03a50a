"""A correction over the API or on the page becomes scores of the row's trace; a failure of that has no effect."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from otlp import Receiver
from served import ANN, KEYS, Served
from test_ui import LABELS, Page, french_csv

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.api import ServerSettings, create_app
from llmtasker.errors import ConfigurationError
from llmtasker.integrations import langfuse
from llmtasker.integrations.langfuse import LangfuseTracer
from llmtasker.integrations.langfuse_client import LangfuseProject
from llmtasker.integrations.langfuse_scores import ScoreReceiver, TraceScore
from llmtasker.runner.corrected_row import CorrectedRow
from llmtasker.runner.events import Event
from llmtasker.testing import FakeTransport


class Triage(Signature):
    """Route a customer message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()
    reply: str = OutputField(min_length=0)


class Broken:
    """An observer that fails at corrections."""

    def __call__(self, event: Event) -> None:
        pass

    def take_correction(self, row: CorrectedRow) -> None:
        raise OSError("a secret")


@pytest.fixture
def tracer(receiver: Receiver) -> LangfuseTracer:
    return langfuse.traces(receiver.url, public_key="pk", secret_key="sk")


@pytest.fixture
def served(tmp_path: Path, tracer: LangfuseTracer) -> Iterator[Served]:
    llm = LLM(transport=FakeTransport({"team": "billing", "reply": "Soon."}), cache=False)
    task = Task(Triage, llm=llm, observers=[Broken(), tracer])
    app = Served(create_app({"triage": task}, ServerSettings(jobs=tmp_path / "jobs.db", keys=KEYS)))
    yield app
    app.close()


def correct(served: Served, id_: str, output: Any) -> int:
    return served.client.patch(f"/jobs/{id_}/items/2", json={"output": output}, headers=ANN).status_code


def test_by_a_call(
    served: Served, tracer: LangfuseTracer, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    rows = {"rows": ["a", "b"]}
    id_ = served.client.post("/tasks/triage/jobs", json=rows, headers=ANN).json()["id"]
    served.done(id_)
    assert correct(served, id_, {"team": "delivery", "reply": "Tomorrow."}) == 200
    assert correct(served, id_, None) == 200
    assert correct(served, id_, {"team": "elsewhere"}) == 422
    assert tracer.flush(20)
    receiver.wait_for(lambda: len(receiver.named("row")) == 2)
    (trace,) = {row["trace"] for row in receiver.named("row") if row["llmtasker.job.row"] == 2}
    assert {row["session.id"] for row in receiver.named("row")} == {id_}
    assert [(score["traceId"], score["name"], score["value"]) for score in receiver.scores] == [
        (trace, "correct", 0.0),
        (trace, "corrected team", "delivery"),  # there is no score for the reply, because it is a text
    ]
    assert receiver.withdrawn == [score["id"] for score in receiver.scores]
    assert caplog.text.count("a correction was stored, but an observer failed: Broken: OSError") == 1
    assert "secret" not in caplog.text


def test_langfuse_that_is_down_costs_no_correction(
    served: Served, tracer: LangfuseTracer, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    id_ = served.client.post("/tasks/triage/jobs", json={"rows": ["a", "b"]}, headers=ANN).json()["id"]
    served.done(id_)
    tracer.flush(20)
    receiver.delay = -1  # it hangs
    started = time.monotonic()
    for team in ("delivery", "billing", "delivery"):
        assert correct(served, id_, {"team": team}) == 200
    assert time.monotonic() - started < 4  # a call alone may take 5
    assert not tracer.flush(0.1)


def test_on_the_page(tmp_path: Path, tracer: LangfuseTracer, receiver: Receiver) -> None:
    with Page(tmp_path, observers=[tracer]) as page:
        ann = page.browser()
        project = ann.upload(french_csv())
        ann.send(
            f"{project}/file", see=f"{project}/file", text="message", gold="", kind="classification", name="Octobre"
        )
        ann.run(project, "run", rules="", label=list(LABELS), meaning=list(LABELS.values()))
        ann.send(f"{project}/rows/2", see=f"{project}/results", label="facturation")
    assert tracer.flush(20)
    receiver.wait_for(lambda: len(receiver.named("row")) == 5)
    row = next(row for row in receiver.named("row") if row["llmtasker.job.row"] == 2)
    assert {score["traceId"] for score in receiver.scores} == {row["trace"]}
    assert {score["name"]: score["value"] for score in receiver.scores}["correct"] == 0.0


def test_a_wrong_proxy_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "foo://bad")
    project = LangfuseProject(base_url="http://127.0.0.1:9", headers={})
    with pytest.raises(ConfigurationError, match="refused the score: ValueError"):
        ScoreReceiver(project, None).send(TraceScore(trace="0" * 32, name="right", value=1.0))
