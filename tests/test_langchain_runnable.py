"""A task as a Runnable of LangChain."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.errors import ConfigurationError, InvalidOutputError
from llmtasker.integrations.langchain import TaskRunnable, as_runnable
from llmtasker.runner.events import Event
from llmtasker.testing import FakeTransport
from llmtasker.wire.request import Request
from llmtasker.wire.request_reader import last_user_text


class Triage(Signature):
    """Route a customer message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


def answer(request: Request) -> Any:
    text = last_user_text(request)
    return "nonsense" if "bad" in text else {"team": "billing" if "charged" in text else "delivery"}


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def runnable(events: list[Event]) -> TaskRunnable:
    llm = LLM(transport=FakeTransport(answer), cache=False)
    return as_runnable(Task(Triage, llm=llm, attempts=1, observers=[events.append]))


def test_it_stands_in_a_chain(runnable: TaskRunnable) -> None:
    chain = RunnableLambda(str.strip) | runnable | RunnableLambda(lambda record: record.team)
    assert chain.invoke("  I was charged ") == "billing"
    assert chain.batch(["charged", "late"]) == ["billing", "delivery"]
    assert list(chain.stream("late")) == ["delivery"]


def test_it_awaits(runnable: TaskRunnable) -> None:
    import asyncio

    async def both() -> tuple[Any, list[Any]]:
        return await runnable.ainvoke("charged"), await runnable.abatch(["charged", "late"])

    one, many = asyncio.run(both())
    assert one.team == "billing"
    assert [record.team for record in many] == ["billing", "delivery"]


def test_an_error_is_raised_or_returned_in_its_place(runnable: TaskRunnable) -> None:
    with pytest.raises(InvalidOutputError):
        runnable.invoke("bad")
    with pytest.raises(InvalidOutputError):
        runnable.batch(["charged", "bad"])
    good, bad = runnable.batch(["charged", "bad"], return_exceptions=True)
    assert good.team == "billing"
    assert isinstance(bad, InvalidOutputError)


def test_a_batch_is_one_run(runnable: TaskRunnable, events: list[Event]) -> None:
    runnable.batch([f"row {number}" for number in range(50)])
    assert len({event.run for event in events}) == 1


def test_tags_and_metadata_reach_the_events(runnable: TaskRunnable, events: list[Event]) -> None:
    runnable.batch(["late"], config={"metadata": {"customer": "gold"}, "tags": ["night"]})
    assert {event.what: dict(event.tags) for event in events}["item_done"] == {
        "customer": "gold",
        "langchain": ["night"],
    }


def test_each_input_of_a_batch_may_have_its_own_config(runnable: TaskRunnable, events: list[Event]) -> None:
    configs: list[Any] = [{"metadata": {"customer": name}} for name in ("a", "b", "a")]
    outputs = runnable.batch(["charged 1", "late 2", "late 3"], config=configs)
    assert [record.team for record in outputs] == ["billing", "delivery", "delivery"]
    done = [(event.item.input, event.tags["customer"]) for event in events if event.what == "item_done"]
    assert sorted(done) == [("charged 1", "a"), ("late 2", "b"), ("late 3", "a")]
    assert len({event.run for event in events}) == 2, "one run for each config, not for each input"


@pytest.mark.parametrize("inputs", [[], ["late"]])
def test_a_batch_of_any_size(inputs: list[str], runnable: TaskRunnable) -> None:
    import asyncio

    assert [record.team for record in runnable.batch(inputs)] == ["delivery"] * len(inputs)
    assert [record.team for record in asyncio.run(runnable.abatch(inputs))] == ["delivery"] * len(inputs)


def test_it_streams_without_blocking(runnable: TaskRunnable) -> None:
    import asyncio

    async def chunks() -> list[Any]:
        return [chunk async for chunk in runnable.astream("late", config={"tags": ["night"]})]

    assert [record.team for record in asyncio.run(chunks())] == ["delivery"]


def test_a_config_that_is_bound_is_passed_on(runnable: TaskRunnable, events: list[Event]) -> None:
    runnable.with_config(tags=["bound"], metadata={"customer": "gold"}).batch(["late"])
    assert dict(events[-1].tags) == {"customer": "gold", "langchain": ["bound"]}


def test_callbacks_see_each_call(runnable: TaskRunnable) -> None:
    seen: list[str] = []

    class Handler(BaseCallbackHandler):
        def on_chain_start(self, serialized: Any, inputs: Any, **_: Any) -> None:
            seen.append(f"start {inputs}")

        def on_chain_end(self, outputs: Any, **_: Any) -> None:
            seen.append(f"end {outputs.team}")

    runnable.invoke("late", config={"callbacks": [Handler()]})
    runnable.batch(["charged", "late"], config={"callbacks": [Handler()]})
    assert seen == ["start late", "end delivery", "start charged", "start late", "end billing", "end delivery"]


def test_its_schemas_are_those_of_the_signature(runnable: TaskRunnable) -> None:
    assert set(runnable.get_input_schema().model_fields) == {"message"}
    assert set(runnable.get_output_schema().model_fields) == {"team"}
    assert runnable.get_name() == "Triage"


def test_an_argument_without_meaning_is_refused(runnable: TaskRunnable) -> None:
    with pytest.raises(ConfigurationError, match="stop"):
        runnable.invoke("late", stop=["x"])
