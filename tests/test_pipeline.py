"""Pipelines: an async function over tasks is called, run, measured and compared like one task."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from effort import calls_of
from pydantic import BaseModel

from llmtasker import (
    LLM,
    Budget,
    CallSettings,
    ConfigurationError,
    InputField,
    Item,
    OutputField,
    Prices,
    Retry,
    Signature,
    Task,
    pipeline,
)
from llmtasker.errors import AuthenticationError, InputError, ServerError
from llmtasker.evaluation import compare, evaluate
from llmtasker.files import BrokenRow
from llmtasker.pipelines.pipeline import Pipeline
from llmtasker.runner.events import Event
from llmtasker.testing import FakeTransport, last_user_text
from llmtasker.wire.request import Request


class Ticket(BaseModel):
    text: str
    channel: str = "mail"


class Extract(Signature):
    """Extract the facts."""

    text: str = InputField()
    facts: list[str] = OutputField()


class Reply(Signature):
    """Write a reply."""

    text: str = InputField()
    facts: list[str] = InputField()
    reply: str = OutputField()


class Team(Signature):
    """Route the message."""

    text: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


def respond(request: Request) -> Any:
    """The words of the text as facts; a reply of their number; a text with "break" breaks the second step."""
    text = last_user_text(request)
    if "<facts>" not in text:
        return {"facts": text.split()}
    return "nonsense" if "break" in text else {"reply": f"{text.count(',') + 1} facts"}


def llm_of(answer: Any = respond, **options: Any) -> LLM:
    options = {"cache": False, "prices": Prices(input=1.0, output=2.0), "retry": Retry(attempts=1), **options}
    return LLM(transport=FakeTransport(answer), **options)


extract = Task(Extract, llm=llm_of(), attempts=1)
reply = Task(Reply, llm=llm_of(), attempts=1)


@pipeline
async def answer(ticket: Ticket) -> Reply:
    """Answer a ticket by its facts."""
    facts = await extract.acall(text=ticket.text)
    return (await reply.acall(text=ticket.text, facts=facts.value.facts)).value


TICKETS = [Ticket(text=f"ticket number {number}") for number in range(20)]


def test_a_pipeline_is_called_like_a_task() -> None:
    for item in (
        answer(TICKETS[0]),
        answer({"text": "ticket number 0"}),
        answer(text="ticket number 0"),
        answer(ticket=TICKETS[0]),
    ):
        assert item.value.reply == "3 facts"
        assert isinstance(item.output, Reply)


def test_steps_stand_on_the_item_and_what_they_cost_adds_up() -> None:
    results = answer.run(TICKETS, concurrency=4, progress=False)
    assert [item.value.text for item in results] == [ticket.text for ticket in TICKETS]
    for item in results:
        facts, written = item.steps
        assert facts.output.facts[:2] == ["ticket", "number"]
        assert written.output == item.output
        assert item.usage == facts.usage + written.usage
        assert item.answer_usage == item.usage
        assert item.cost == pytest.approx(facts.cost + written.cost)
        assert (item.attempts, item.cached) == (2, False)
    assert results.attempts == 40
    assert results.usage.total == sum(step.usage.total for item in results for step in item.steps)


def test_the_failure_of_a_row_stays_its_own() -> None:
    results = answer.run([{"text": "fine"}, {"text": "break it"}, {"txt": "?"}, {"text": "fine too"}], progress=False)
    assert [item.ok for item in results] == [True, False, False, True]
    broken, unfit = results[1], results[2]
    assert (broken.error.code, len(broken.steps)) == ("invalid", 2)
    assert (broken.error.message, broken.steps[1].error.details) == (broken.steps[1].error.message, {})
    assert broken.error.details == {"step": 2, "task": "reply"}
    assert results.to_dicts()[1]["error"].startswith("step 2 (reply): ")
    assert broken.cost > 0
    assert (unfit.error.code, unfit.steps) == ("input", ())
    with pytest.raises(type(broken.error)):
        _ = broken.value


twin = reply.with_(instructions="Write another reply.")


@pipeline
async def nested(text: str) -> Reply:
    return (await answer.acall(text=text)).value


@pipeline
async def grouped(text: str) -> list[str]:
    facts = (await extract.acall(text=text)).value.facts
    async with asyncio.TaskGroup() as group:
        replies = [group.create_task(reply.acall(text=text, facts=facts)) for _ in range(2)]

        async def read() -> str:
            return (await replies[0]).value.reply

        group.create_task(read())
    return [one.result().value.reply for one in replies]


@pipeline
async def caught(text: str) -> Reply:
    facts = ["one", "two"]
    first = await reply.acall(text=text, facts=facts)
    assert not first.ok
    return (await twin.acall(text=text, facts=facts)).value


@pipeline
async def many(text: str) -> str:
    return (await reply.arun([{"text": text, "facts": ["one"]}]))[0].value.reply


@pipeline
async def another(text: str) -> str:
    found = await Task(Team, llm=llm_of(lambda _: "nonsense"), attempts=1).acall(text)
    return found.value.team


FAILED: dict[str, tuple[Pipeline[Any, Any], int, str]] = {
    "the step of a step": (nested, 1, "answer: reply"),
    "in a group of asyncio": (grouped, 2, "reply"),
    "the same error, of which the first was handled": (caught, 2, "twin"),
    "a run as a step": (many, 1, "reply"),
    "a task that the code does not name": (another, 1, "Team"),
}
"""A pipeline, and the number and the name of the step that fails it."""


@pytest.mark.parametrize("case", FAILED)
def test_an_error_names_its_step(case: str) -> None:
    failing, step, task = FAILED[case]
    item = failing(text="break it")
    assert item.error is not None
    assert (item.error.code, item.error.details) == ("invalid", {"step": step, "task": task})
    assert str(item.error) == f"step {step} ({task}): {item.error.message}"
    assert Item[Any].from_dict(item.to_dict()).error == pickle.loads(pickle.dumps(item)).error == item.error


def test_a_misspelt_keyword_is_refused() -> None:
    for given in (answer, nested):
        with pytest.raises(TypeError, match=r"there is no input field 'txt'\. Did you mean 'text'"):
            given(text="x", txt="y")


def test_an_error_of_the_function_names_its_line() -> None:
    @pipeline
    async def divides(number: int) -> float:
        await extract.acall(text="some text")
        return 1 / number

    item = divides(0)
    line = divides.__wrapped__.__code__.co_firstlineno + 3
    assert str(item.error) == f"divides, line {line}: ZeroDivisionError: division by zero"
    assert (item.error.code, len(item.steps)) == ("pipeline", 1)
    assert item.error.__context__ is None  # else the frames of the function would stay in memory
    assert divides("4").output == 0.25


@pytest.mark.parametrize("raised", [SystemExit(3), asyncio.CancelledError(), TimeoutError(), KeyError("x")])
def test_whatever_a_function_raises_costs_its_row_only(raised: BaseException) -> None:
    @pipeline
    async def fragile(number: int) -> int:
        if number == 2:
            raise raised
        return number

    results = fragile.run(range(5), progress=False)
    assert results.outputs == [0, 1, None, 3, 4]
    assert type(raised).__name__ in str(results[2].error)


def test_a_row_that_does_not_end_is_given_up() -> None:
    @pipeline(timeout=0.05)
    async def waits(number: int) -> int:
        await asyncio.Event().wait()
        return number

    assert str(waits(1).error) == "waits did not end within 0.05 s"


def test_a_result_of_another_type_is_an_error_of_the_row() -> None:
    @pipeline
    async def wrong(text: str) -> int:
        return text  # type: ignore[return-value]

    assert "what wrong returned does not fit its type" in str(wrong("a text").error)
    assert wrong("3").output == 3


def test_a_wrong_set_up_concerns_all_rows() -> None:
    @pipeline
    async def blocks(text: str) -> Any:
        return extract(text=text).output

    @pipeline
    async def groups(text: str) -> Any:
        async def blocking() -> Any:
            return extract(text=text).output

        async with asyncio.TaskGroup() as group:
            group.create_task(reply.acall(text=text, facts=[]))
            group.create_task(blocking())

    for wrong in (blocks, groups):
        with pytest.raises(ConfigurationError, match=r"await task\.acall"):
            wrong("a text")
        with pytest.raises(ConfigurationError, match=r"await task\.acall"):
            wrong.run(["a text"] * 5, progress=False)


def test_steps_at_once_stand_in_the_order_of_their_calls() -> None:
    async def slow_first(request: Request) -> Any:
        text = last_user_text(request)
        await asyncio.sleep(0.03 if text == "one" else 0)
        return {"facts": [text]}

    task = Task(Extract, llm=llm_of(slow_first))

    @pipeline
    async def both(texts: list[str]) -> list[str]:
        items = await asyncio.gather(*(task.acall(text=text) for text in texts))
        more = await task.arun(["three", "four"], concurrency=2, progress=False)
        return [item.value.facts[0] for item in [*items, *more]]

    item = both(["one", "two"])
    assert item.output == ["one", "two", "three", "four"] == [step.output.facts[0] for step in item.steps]


def test_the_budget_covers_all_steps() -> None:
    results = answer.run(TICKETS, budget=Budget(calls=15), concurrency=4, progress=False)
    assert results.attempts == 15
    assert results.counts["budget"] >= 12

    @pipeline
    async def greedy(text: str) -> Any:
        return await extract.arun([text], budget=Budget(calls=9), progress=False)

    with pytest.raises(ConfigurationError, match="its steps can't have others"):
        greedy.run(["a"], budget=Budget(calls=5), progress=False)


def test_cache_and_resume_work_step_by_step(tmp_path: Path) -> None:
    down = [True]

    def second_is_down(request: Request) -> Any:
        if "<facts>" in last_user_text(request) and down[0]:
            raise ServerError("down", status=500)
        return respond(request)

    llm = llm_of(second_is_down, cache=str(tmp_path), retry=Retry(attempts=1, backoff=0, cap=0))
    first, second = extract.with_(llm=llm), reply.with_(llm=llm)

    @pipeline
    async def kept(text: str) -> str:
        facts = (await first.acall(text=text)).value.facts
        return (await second.acall(text=text, facts=facts)).value.reply

    texts = [f"text {number}" for number in range(4)]
    assert kept.run(texts, progress=False).counts == {"server": 4}
    down[0] = False
    again = kept.run(texts, progress=False)
    assert (again.counts, again.attempts) == ({"ok": 4}, 4)
    third = kept.run(texts, progress=False)
    assert (third.counts, third.attempts, third.cost) == ({"ok": 4, "cached": 4}, 0, 0.0)
    assert third[0].answer_usage == again[0].answer_usage
    assert kept.answer_cost(third[0]) == pytest.approx(Prices(input=1.0, output=2.0).cost(third[0].answer_usage))
    fresh = kept.run(texts, fresh=True, progress=False)
    assert fresh.attempts == 8


def test_a_wrong_key_stops_the_run_after_a_few_calls() -> None:
    transport = FakeTransport(AuthenticationError("wrong key", status=401))
    task = Task(Extract, llm=LLM(transport=transport, cache=False))

    @pipeline
    async def refused(text: str) -> Extract:
        return (await task.acall(text=text)).value

    results = refused.run([f"text {number}" for number in range(500)], concurrency=4, progress=False)
    assert transport.calls <= 10
    assert results.counts["not_run"] >= 490


def test_events_of_steps_are_events_of_the_row() -> None:
    events, own, is_whole = list[Event](), list[Event](), threading.Event()

    def take(event: Event) -> None:  # the end of the run waits for the observers of the pipeline only
        own.append(event)
        if len(own) == 18:
            is_whole.set()

    watched = extract.with_(observers=[take])

    @pipeline(observers=[events.append])
    async def seen(text: str) -> str:
        facts = (await watched.acall(text=text)).value.facts
        return (await reply.acall(text=text, facts=facts)).value.reply

    texts = [f"text {number}" for number in range(6)]
    results = seen.run(texts, concurrency=3, progress=False, settings=CallSettings(tags={"day": 1}))
    assert Counter(event.what for event in events) == Counter(
        run_started=1, call_started=12, call_ended=12, step_done=12, item_done=6, run_ended=1
    )
    assert {event.run for event in events} == {events[0].run}
    assert {event.call for event in events if event.what == "call_ended"} == set(range(12))
    for event in events:
        if event.what == "item_done":
            assert event.item == results[event.row or 0]
        elif event.what == "step_done":
            assert event.item in results[event.row or 0].steps
        elif event.what == "call_started":
            assert texts[event.row or 0] in last_user_text(event.request)
    assert results[0].tags == {"day": 1}
    assert is_whole.wait(20)
    assert Counter(event.what for event in own) == Counter(call_started=6, call_ended=6, item_done=6)


def test_one_to_many() -> None:
    @pipeline(explode=True)
    async def split(text: str) -> list[str]:
        return (await extract.acall(text=text)).value.facts if text != "?" else []

    whole = split("a b")
    assert (whole.output, len(whole.steps)) == (["a", "b"], 1)
    results = split.run(["a b", "?", "c"], progress=False)
    assert [(item.input, item.output) for item in results] == [("a b", "a"), ("a b", "b"), ("?", None), ("c", "c")]
    assert [len(item.steps) for item in results] == [1, 0, 0, 1]
    assert results.attempts == 2
    assert results.cost == pytest.approx(whole.cost + split("c").cost)
    assert results.to_dicts()[1] == {"input": "a b", "output": "b", "error": None}
    assert [item.output for item in split.stream(["a b", "c"], ordered=True)] == ["a", "b", "c"]
    with pytest.raises(ConfigurationError, match="returns a list"):

        @pipeline(explode=True)
        async def bare(text: str) -> str:  # type: ignore[arg-type]
            return text


def test_a_pipeline_in_a_pipeline() -> None:
    events = list[Event]()

    @pipeline(observers=[events.append])
    async def outer(text: str) -> str:
        inner = await answer.acall(text=text)
        return f"{inner.value.reply}!"

    results = outer.run(["a b", "c"], progress=False, budget=Budget(calls=4))
    assert results.outputs == ["2 facts!", "1 facts!"]
    (step,) = results[0].steps
    assert len(step.steps) == 2
    assert results[0].usage == step.usage
    assert Counter(event.what for event in events)["call_ended"] == 4


def test_rows_are_read_from_any_source_with_bounded_memory() -> None:
    taken = [0]

    def source() -> Iterator[dict[str, str]]:
        for number in range(10_000):
            taken[0] = number
            yield {"message": f"text {number}"}

    @pipeline
    async def echo(text: str) -> str:
        await asyncio.sleep(0)
        return text

    stream = echo.stream(source(), columns={"text": "message"}, concurrency=4, ordered=True, progress=False)
    for number, item in zip(range(100), stream, strict=False):
        assert item.output == f"text {number}"
    assert taken[0] < 1_000
    stream.close()  # type: ignore[attr-defined]

    async def arrive() -> AsyncIterator[str]:
        for text in ("a", "b"):
            yield text

    async def collect() -> list[Any]:
        return [item.output async for item in echo.astream(arrive(), progress=False)]

    assert sorted(asyncio.run(collect())) == ["a", "b"]


def test_no_more_rows_at_once_than_asked_for() -> None:
    now, most = [0], [0]

    @pipeline
    async def counts(number: int) -> int:
        now[0] += 1
        most[0] = max(most[0], now[0])
        await asyncio.sleep(0.001)
        now[0] -= 1
        return number

    assert counts.run(range(200), concurrency=7, progress=False).outputs == list(range(200))
    assert most[0] == 7


def test_parameters_of_their_own() -> None:
    @pipeline
    async def join(left: str, right: str = "?", *, times: int = 1) -> str:
        return (left + right) * times

    assert join(left="a", right="b").output == "ab"
    assert join.run([{"left": "a", "times": "2"}, {"LEFT": "x"}], progress=False).outputs == ["a?a?", None]
    assert join.run([{"l": "a"}], columns={"left": "l"}, progress=False).outputs == ["a?"]
    assert "give a mapping or keywords" in str(join("a").error)
    with pytest.raises(ConfigurationError, match="no row fits: the input has no 'left'; it has message"):
        join.run([{"message": "a"}] * 3, progress=False)
    broken = BrokenRow({"message": "a", "left": "b"}, error=InputError("line 2 has 3 cells"))
    items = join.run([broken, {"left": "a"}], progress=False)
    assert [item.error and str(item.error) for item in items] == ["line 2 has 3 cells", None]
    with pytest.raises(ConfigurationError, match="no row fits: the input has no 'left'; it has message"):
        join.run([broken, {"message": "a"}], progress=False)
    with pytest.raises(TypeError, match="not both"):
        join("a", left="b")


def test_what_cannot_be_a_pipeline() -> None:
    def plain(text: str) -> str:
        return text

    async def nothing() -> str:
        return ""

    async def many(*texts: str) -> str:
        return ""

    for function, reason in ((plain, "an async function"), (nothing, "takes no input"), (many, "given by name")):
        with pytest.raises(ConfigurationError, match=reason):
            pipeline(function)  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="above 0"):
        pipeline(timeout=0)(answer.__wrapped__)
    with pytest.raises(ConfigurationError, match="tags and sample only"):
        answer.run(TICKETS, settings=CallSettings(variables={"a": 1}))
    with pytest.raises(ConfigurationError, match="no field 'txt'"):
        answer.run(TICKETS, columns={"txt": "text"})
    with pytest.raises(ConfigurationError, match="no argument 'concurency'"):
        answer.run(TICKETS, concurency=3)  # type: ignore[call-arg]


def test_results_are_a_table_with_the_columns_of_input_and_output() -> None:
    rows = answer.run(TICKETS[:1], progress=False).to_dicts()
    assert rows == [{"text": "ticket number 0", "channel": "mail", "reply": "3 facts", "error": None}]


def test_items_with_steps_are_stored_and_pipelines_pickled() -> None:
    item = answer(TICKETS[0])
    again: Item[Any] = Item.from_json(item.to_json(), Reply)
    assert [step.output for step in again.steps] == [step.to_dict()["output"] for step in item.steps]
    assert again.usage == item.usage
    assert pickle.loads(pickle.dumps(answer)) is answer
    assert repr(answer) == "pipeline(answer)"
    assert "steps" in item._repr_html_()


def test_progress_counts_the_rows() -> None:
    seen = list[Any]()
    answer.run(TICKETS, progress=seen.append, concurrency=2)
    assert (seen[-1].rows, seen[-1].ok, seen[-1].total) == (20, 20, 20)
    assert seen[-1].usage.total > 0


def test_a_pipeline_costs_little_more_than_its_steps() -> None:
    """For rows that ask nothing."""

    @pipeline
    async def nothing(number: int) -> int:
        return number

    async def run() -> None:
        await nothing.arun(range(2_000), progress=False)

    assert len(calls_of(lambda: asyncio.run(run()))) < 2_000 * 250


@pipeline
async def route(ticket: Ticket) -> Literal["billing", "delivery"]:
    """Route a ticket by its facts."""
    facts = (await extract.acall(text=ticket.text)).value.facts
    return "billing" if "charged" in facts else "delivery"


def test_a_pipeline_is_measured_and_compared_like_a_task(tmp_path: Path) -> None:
    @pipeline
    async def always(ticket: Ticket) -> Literal["billing", "delivery"]:
        return "billing"

    gold = [{"text": f"charged {number}", "output": "billing"} for number in range(6)]
    gold += [{"text": f"late {number}", "output": "delivery"} for number in range(6)]
    report = evaluate(route, gold, progress=False)
    assert (report.score("output").right, report.asked) == (12, 12)
    assert report.cost > 0
    found = compare(evaluate(always, gold, progress=False), report)
    assert (found.better, len(found.gained)) == (True, 6)
    file = tmp_path / "gold.jsonl"
    file.write_text('{"message": "charged", "team": "delivery"}\n{"message": "?", "team": ""}\n')
    named = evaluate(route, file, columns={"text": "message", "output": "team"}, progress=False)
    assert (named.score("output").wrong, named.without_gold) == (1, 1)
    with pytest.raises(ConfigurationError, match="gold row 1 does not fit route"):
        evaluate(route, [{"text": "a", "output": "sales"}])


def test_a_record_that_repeats_an_input_is_measured_by_its_outputs(tmp_path: Path) -> None:
    class Kept(BaseModel):
        text: str
        words: int

    cached = extract.with_(llm=llm_of(cache=str(tmp_path)))

    @pipeline
    async def count(text: str) -> Kept:
        return Kept(text=text, words=len((await cached.acall(text=text)).value.facts))

    assert list(count.signature.output_fields) == ["llm_text", "words"]
    gold = [{"text": "a b", "words": 2}, {"text": "c", "words": 3}]
    first, second = (evaluate(count, gold, progress=False) for _ in range(2))
    assert (second.score("words").right, second.asked) == (1, 0)
    assert first.cost == pytest.approx(second.cost)
    assert first.cost > 0
    with pytest.raises(ConfigurationError, match="several outputs for an input"):
        evaluate(pipeline(explode=True)(_listed), gold)
    with pytest.raises(ConfigurationError, match="a task or a pipeline can be measured"):
        evaluate(_listed, gold)  # type: ignore[arg-type]


async def _listed(text: str) -> list[str]:
    return [text]
