"""A task as a Runnable of LangChain."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Literal

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.tracers.context import collect_runs

from llmtasker import LLM, InputField, OutputField, Signature, Task, pipeline
from llmtasker.errors import ConfigurationError, InputError, InvalidOutputError, PipelineError
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


def test_it_is_in_a_chain(runnable: TaskRunnable) -> None:
    chain = RunnableLambda(str.strip) | runnable | RunnableLambda(lambda record: record.team)
    assert chain.invoke("  I was charged ") == "billing"
    assert chain.batch(["charged", "late"]) == ["billing", "delivery"]
    assert list(chain.stream("late")) == ["delivery"]


def test_a_prompt_piped_into_it_is_named(runnable: TaskRunnable) -> None:
    """A prompt before a task is a habit of chains; the task has its own."""
    with pytest.raises(InputError, match=r"message: Input should be a valid string \(got a ChatPromptValue\)"):
        (ChatPromptTemplate.from_template("{x}") | runnable).invoke({"x": "late"})


def test_it_awaits(runnable: TaskRunnable) -> None:
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
    assert [record.team for record in runnable.batch(inputs)] == ["delivery"] * len(inputs)
    assert [record.team for record in asyncio.run(runnable.abatch(inputs))] == ["delivery"] * len(inputs)


def test_it_streams_without_blocking(runnable: TaskRunnable) -> None:
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


Combine = Callable[[TaskRunnable], Runnable[Any, Any]]
COMBINED: dict[str, tuple[Combine, list[Any]]] = {
    "after another": (lambda made: RunnableLambda(str.strip) | made | TEAM, ["billing", "delivery"]),
    "beside others": (
        lambda made: RunnableParallel(team=made | TEAM, text=RunnablePassthrough()),
        [{"team": "billing", "text": "charged"}, {"team": "delivery", "text": "late"}],
    ),
    "into a mapping": (
        lambda made: (lambda text: {"message": text, "id": 7}) | RunnablePassthrough.assign(out=made) | ID_AND_TEAM,
        [(7, "billing"), (7, "delivery")],
    ),
    "with fallbacks": (lambda made: FAILING.with_fallbacks([made | TEAM]), ["billing", "delivery"]),
    "with retry": (lambda made: made.with_retry(stop_after_attempt=2) | TEAM, ["billing", "delivery"]),
    "with config": (lambda made: made.with_config(tags=["a"], run_name="b") | TEAM, ["billing", "delivery"]),
    "with types": (lambda made: made.with_types(input_type=str) | TEAM, ["billing", "delivery"]),
    "of a list": (lambda made: (lambda text: [text]) | (made | TEAM).map(), [["billing"], ["delivery"]]),
}
TEAM = RunnableLambda(lambda record: record.team)
ID_AND_TEAM = RunnableLambda(lambda given: (given["id"], given["out"].team))
FAILING: Runnable[Any, Any] = RunnableLambda(int)


@pytest.mark.parametrize("name", COMBINED)
def test_it_combines_with_other_runnables_in_every_way_to_call(name: str, runnable: TaskRunnable) -> None:
    combine, expected = COMBINED[name]
    combined, inputs = combine(runnable), ["charged", "late"]

    async def awaited() -> list[list[Any]]:
        return [
            [await combined.ainvoke(text) for text in inputs],
            await combined.abatch(inputs),
            [[part async for part in combined.astream(text)][-1] for text in inputs],
            combined.batch(inputs),  # blocking, within a loop
        ]

    found = [[combined.invoke(text) for text in inputs], combined.batch(inputs), *asyncio.run(awaited())]
    if name == "beside others":  # it streams its parts one by one
        del found[4]
    assert found == [expected] * len(found)


def test_only_the_rows_that_failed_get_the_fallback_or_another_try() -> None:
    asked: list[str] = []

    def at_the_second_time(request: Request) -> Any:
        text = last_user_text(request)
        asked.append(text)
        return "nonsense" if "bad" in text and asked.count(text) == 1 else {"team": "billing"}

    def fresh() -> TaskRunnable:
        asked.clear()
        return as_runnable(Task(Triage, llm=LLM(transport=FakeTransport(at_the_second_time), cache=False), attempts=1))

    inputs = ["charged", "bad 1", "bad 2"]
    other = RunnableLambda(lambda text: text.upper())
    with_fallback = fresh().with_fallbacks([other]).batch(inputs)
    assert [getattr(found, "team", found) for found in with_fallback] == ["billing", "BAD 1", "BAD 2"]
    assert len(asked) == 3
    again = fresh().with_retry(stop_after_attempt=2, wait_exponential_jitter=False).batch(inputs)
    assert [found.team for found in again] == ["billing"] * 3
    assert sorted(asked) == ["bad 1", "bad 1", "bad 2", "bad 2", "charged"]


@pytest.mark.parametrize("returned", [False, True])
def test_callbacks_see_the_error_of_its_own_row(returned: bool, runnable: TaskRunnable) -> None:
    with collect_runs() as seen, contextlib.suppress(InvalidOutputError):
        runnable.batch(["charged", "bad", "late"], return_exceptions=returned)
    assert [bool(run.error) for run in seen.traced_runs] == [False, True, False]


def test_its_schemas_are_those_of_the_signature(runnable: TaskRunnable) -> None:
    assert set(runnable.get_input_schema().model_fields) == {"message"}
    assert set(runnable.get_output_schema().model_fields) == {"team"}
    assert runnable.get_name() == "Triage"


def test_an_argument_without_meaning_is_refused(runnable: TaskRunnable) -> None:
    with pytest.raises(ConfigurationError, match="stop"):
        runnable.invoke("late", stop=["x"])


def test_a_pipeline_is_a_runnable_too(events: list[Event]) -> None:
    @pipeline(explode=True, observers=[events.append])
    async def letters(word: str) -> list[str]:
        assert word.isalpha()
        return list(word)

    chain = as_runnable(letters)
    assert chain.invoke("ab", {"tags": ["one"]}) == ["a", "b"]
    found = chain.batch(["ab", "1", "c"], return_exceptions=True)
    assert [found[0], type(found[1]), found[2]] == [["a", "b"], PipelineError, ["c"]]
    assert events[0].tags["langchain"] == ["one"]
    assert list(chain.get_input_schema().model_fields) == ["word"]


def test_what_is_neither_is_refused(runnable: TaskRunnable) -> None:
    with pytest.raises(ConfigurationError, match="not of <llmtasker"):
        as_runnable(runnable)  # type: ignore[arg-type]
