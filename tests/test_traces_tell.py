"""The traces of a run with faults show what happened: each row is found by the attributes of its spans."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal

import pytest
from otlp import Receiver

from llmtasker import LLM, Budget, InputField, OutputField, Prices, Signature, Task, pipeline
from llmtasker.integrations import langfuse, opentelemetry
from llmtasker.integrations.gen_ai_messages import input_messages, output_messages
from llmtasker.runner.events import Event
from llmtasker.testing import FakeTransport, Fault, FaultyServer, Malformed, Status
from llmtasker.wire.completion import Completion, ToolCall
from llmtasker.wire.request import Request


class Triage(Signature):
    """Route a customer message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


def faults() -> list[Fault]:
    """The faults once more, with new counts of the calls that they affect."""
    return [
        Status(429, first=1, when="limited", wait=1.0),
        Status(500, first=1, when="shaky"),
        Malformed("trailing_comma", when="mended"),
        Malformed("not_json", first=1, when="again"),
        Malformed("not_json", when=lambda call: "hopeless" in str(call.body["messages"])),
        Status(400, when="refused"),
    ]


TOLD: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    # the attributes of the row's span, and those of its calls
    "plain": ({"status": 0, "llmtasker.cached": False, "llmtasker.repairs": None}, [{"llmtasker.cause": None}]),
    "known": ({"status": 0, "llmtasker.cached": True, "llmtasker.attempts": 0}, []),
    "limited": (
        {"status": 0, "llmtasker.retries": 1},
        [
            {"error.type": "rate_limit", "http.response.status_code": 429, "llmtasker.retry_after": 1.0},
            {"error.type": None, "llmtasker.cause": "retry", "llmtasker.attempt": 2},
        ],
    ),
    "shaky": (
        {"status": 0, "llmtasker.retries": 1},
        [{"error.type": "server", "http.response.status_code": 500, "status": 2}, {"llmtasker.cause": "retry"}],
    ),
    "mended": ({"status": 0, "llmtasker.repairs": 1}, [{"llmtasker.rejected": None}]),
    "again": (
        {"status": 0, "llmtasker.retries": 1},
        [{"status": 0, "llmtasker.rejected": True}, {"llmtasker.cause": "asked_again", "llmtasker.rejected": None}],
    ),
    "hopeless": (
        {"status": 2, "error.type": "invalid"},
        [{"llmtasker.rejected": True}, {"llmtasker.rejected": True, "llmtasker.cause": "asked_again"}],
    ),
    "refused": ({"status": 2, "error.type": "bad_request"}, [{"http.response.status_code": 400, "status": 2}]),
    "": ({"status": 2, "error.type": "input", "llmtasker.attempts": 0}, []),  # a text must not be empty
}


def says(span: dict[str, Any], told: dict[str, Any]) -> bool:
    return all(span.get(name) == value for name, value in told.items())


@pytest.fixture
def spans(receiver: Receiver, tmp_path: Path) -> list[dict[str, Any]]:
    tracer = opentelemetry.traces(receiver.url)
    with FaultyServer(faults=faults()) as server:
        llm = LLM(f"{server.base_url}#m", cache=tmp_path, api_key="none", prices=Prices(input=1.0, output=2.0))
        task = Task(Triage, llm=llm, attempts=2)
        task("known")
        task.with_(observers=[tracer]).run(list(TOLD), progress=False, concurrency=1)
    assert tracer.flush()
    return sorted(receiver.spans, key=lambda span: span["start"])


def test_each_row_is_reported(spans: list[dict[str, Any]]) -> None:
    rows = {span["llmtasker.row"]: span for span in spans if span["name"] == "row"}
    assert len(rows) == len(TOLD)
    for number, (of_row, of_calls) in enumerate(TOLD.values()):
        row = rows[number]
        calls = [span for span in spans if span["parent"] == row["id"]]
        assert says(row, of_row), row
        assert len(calls) == len(of_calls), calls
        assert all(map(says, calls, of_calls)), calls
        assert row["llmtasker.attempts"] == len(calls)
        known = [call["llmtasker.cost"] for call in calls if "llmtasker.cost" in call]
        assert known == ([row["llmtasker.cost"]] if len(calls) == 1 and row["status"] == 0 else [])
    assert [name for name, _ in rows[list(TOLD).index("limited")]["events"]] == ["waiting"]


def test_the_run_says_what_its_rows_add_up_to(spans: list[dict[str, Any]]) -> None:
    (run,) = [span for span in spans if span["name"] == "run"]
    rows = [span for span in spans if span["name"] == "row"]
    assert {row["parent"] for row in rows} == {run["id"]}
    assert run["parent"] == ""
    totals = {"rows": 9, "failed": 3, "cached": 1, "repaired": 1, "calls": 11}
    assert {name: run[f"llmtasker.total.{name}"] for name in totals} == totals
    for name in ("input_tokens", "output_tokens"):
        assert run[f"llmtasker.total.{name}"] == sum(row[f"gen_ai.usage.{name}"] for row in rows)


def test_no_text_is_reported(spans: list[dict[str, Any]]) -> None:
    assert not [word for word in ("hopeless", "billing", "delivery", "trailing", "none of") if word in str(spans)]


def test_a_group_is_reported(receiver: Receiver) -> None:
    tracer = opentelemetry.traces(receiver.url)
    with FaultyServer() as server:
        llm = LLM(f"{server.base_url}#m", cache=False, api_key="none")
        Task(Triage, llm=llm, observers=[tracer], group_size=3).run(["a", "b", "c"], progress=False)
    assert tracer.flush()
    (call,), rows = receiver.named("chat"), receiver.named("row")
    assert call["llmtasker.rows"] == [0, 1, 2]
    assert {call["parent"], *call["links"]} == {row["id"] for row in rows}
    assert [row["llmtasker.calls"] for row in rows] == [pytest.approx(1 / 3)] * 3


def test_a_row_that_spoils_its_group_is_distinguished_from_the_others(receiver: Receiver) -> None:
    """The group is asked again in smaller groups, then alone: each call shows for which rows, and why."""
    tracer = opentelemetry.traces(receiver.url)
    with FaultyServer(faults=[Malformed("not_json", when=lambda call: "hopeless" in str(call.body))]) as server:
        llm = LLM(f"{server.base_url}#m", cache=False, api_key="none")
        task = Task(Triage, llm=llm, observers=[tracer], group_size=3, attempts=2)
        task.run(["a", "hopeless", "c"], progress=False)
    assert tracer.flush()
    rows = {row["llmtasker.row"]: row for row in receiver.named("row")}
    calls = sorted(receiver.named("chat"), key=lambda call: call["start"])
    assert [row["status"] for _, row in sorted(rows.items())] == [0, 2, 0]
    assert calls[0]["llmtasker.rows"] == [0, 1, 2]
    alone = {number: [call for call in calls[1:] if call["parent"] == row["id"]] for number, row in rows.items()}
    assert not [call for call in calls[1:] if "llmtasker.rows" in call]
    assert [len(alone[number]) for number in range(3)] == [1, 2, 1]
    assert {call["llmtasker.cause"] for call in calls[1:]} == {"asked_again"}
    assert [call.get("llmtasker.rejected") for call in alone[1]] == [True, True]


@pytest.mark.parametrize("of", ["run", "row"])
def test_rows_in_flight_when_a_run_is_given_up_are_reported(receiver: Receiver, of: str) -> None:
    tracer: Any = opentelemetry.traces(receiver.url)
    if of == "row":
        tracer = langfuse.traces(receiver.url, public_key="pk", secret_key="sk")
    asked = asyncio.Event()

    async def answer(request: Request) -> Any:
        if "slow" in str(request.messages):
            asked.set()
            await asyncio.sleep(60)
        return {"team": "billing"}

    async def first() -> None:
        task = Task(Triage, llm=LLM(transport=FakeTransport(answer), cache=False), observers=[tracer])
        rows = asyncio.ensure_future(task.arun(["a", "slow", "never"], progress=False, concurrency=1))
        await asyncio.wait_for(asked.wait(), 20)
        rows.cancel()
        await asyncio.wait([rows])

    asyncio.run(first())
    receiver.wait_for(lambda: tracer.flush(1) and bool(receiver.named("run")))
    rows = {row["llmtasker.row"]: row for row in receiver.named("row")}
    calls = {call["parent"]: call for call in receiver.named("chat")}
    (run,) = receiver.named("run")
    assert {number: row.get("llmtasker.given_up") for number, row in rows.items()} == {0: None, 1: True}
    assert calls[rows[1]["id"]]["llmtasker.given_up"]
    assert (run["llmtasker.total.rows"], run["llmtasker.total.given_up"]) == (1, 1)


def test_what_was_not_asked_for_want_of_a_budget_is_reported(receiver: Receiver) -> None:
    tracer = opentelemetry.traces(receiver.url)
    task = Task(Triage, llm=LLM(transport=FakeTransport({"team": "billing"}), cache=False), observers=[tracer])
    task.run(["a", "b", "c"], progress=False, concurrency=1, budget=Budget(calls=1))
    assert tracer.flush()
    rows = sorted(receiver.named("row"), key=lambda row: int(row["llmtasker.row"]))
    told = [(row.get("error.type"), row["llmtasker.attempts"]) for row in rows]
    assert told == [(None, 1), ("budget", 0), ("budget", 0)]
    assert len(receiver.named("chat")) == 1


def test_a_single_call_is_a_trace_of_its_own(receiver: Receiver) -> None:
    tracer = opentelemetry.traces(receiver.url)
    task = Task(Triage, llm=LLM(transport=FakeTransport({"team": "billing"}), cache=False), observers=[tracer])
    for _ in range(2):
        task("a")
    while len(receiver.named("row")) < 2:
        tracer.flush()
    rows = receiver.named("row")
    assert [row["parent"] for row in rows] == ["", ""]
    assert len({row["trace"] for row in rows}) == 2
    assert {call["parent"] for call in receiver.named("chat")} == {row["id"] for row in rows}


def test_the_steps_of_a_pipeline_are_reported(receiver: Receiver) -> None:
    def answer(request: Request) -> Any:
        return "nonsense" if "bad" in str(request.messages) else {"team": "billing"}

    tracer = opentelemetry.traces(receiver.url)
    first = Task(Triage, llm=LLM(transport=FakeTransport(answer), cache=False), attempts=2)

    @pipeline(observers=[tracer])
    async def twice(message: str) -> str:
        await first.acall(message)
        return str((await first.acall(f"{message} bad")).error)

    twice.run(["a"], progress=False)
    assert tracer.flush()
    (row,) = receiver.named("row")
    steps = [said for name, said in row["events"] if name == "step_done"]
    assert [step.get("error.type") for step in steps] == [None, "invalid"]
    assert [call.get("llmtasker.cause") for call in receiver.named("chat")] == [None, None, "asked_again"]


def test_messages_have_the_form_of_the_conventions() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "Triage", "arguments": '{"team": 1}'}}
    messages = [
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "no"},
    ]
    assert input_messages(messages) == [
        {"role": "user", "parts": [{"type": "text", "content": "Where?"}]},
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c1", "name": "Triage", "arguments": '{"team": 1}'}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "no"}]},
    ]
    completion = Completion(text="So", tool_calls=(ToolCall(name="f", arguments="{}"),), finish_reason="stop")
    parts = [{"type": "text", "content": "So"}, {"type": "tool_call", "id": None, "name": "f", "arguments": "{}"}]
    event = Event(what="call_ended", run="r", when=1.0, completion=completion)
    assert output_messages(event) == [{"role": "assistant", "parts": parts, "finish_reason": "stop"}]
