"""Promises about whole runs: no empty success, no false saving, no conclusion about all rows from one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest

from llmtasker import LLM, Budget, InputField, Item, OutputField, Prices, Progress, Retry, Signature, Task
from llmtasker.errors import RateLimitError, ServerError, TruncatedError
from llmtasker.testing import Body, FakeTransport, FaultyServer, Status
from llmtasker.wire.completion import Completion, Usage
from llmtasker.wire.request import Request


class Triage(Signature):
    """Route a message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


class Summary(Signature):
    """Summarise the text."""

    text: str = InputField()
    summary: str = OutputField()


AT_ONCE = Retry(backoff=0.0, cap=0.0)


def task(answers: Any = None, *, retry: Retry = AT_ONCE, **options: Any) -> Task[Triage]:
    return Task(Triage, llm=LLM(transport=FakeTransport(answers), retry=retry), **options)


def no_empty_success(items: list[Item[Any]]) -> bool:
    return all((item.output is None) == (item.error is not None) for item in items)


@pytest.mark.parametrize("group_size", [1, 3])
def test_rows_equal_to_one_that_the_budget_left_out_are_left_out_too(group_size: int) -> None:
    rows = ["a", "b", "b", "b", "c", "c"] * 5
    results = task(group_size=group_size).run(rows, budget=Budget(calls=1))
    assert no_empty_success(list(results))
    assert results.counts["budget"] > 0


@pytest.mark.parametrize("concurrency", [1, 8, 64])
def test_rows_equal_to_one_that_was_not_run_are_not_run(concurrency: int) -> None:
    rows = [f"message {number // 2}" for number in range(200)]
    with FaultyServer(faults=[Status(401)]) as server, LLM("m", base_url=server.base_url, cache=False) as llm:
        results = Task(Triage, llm=llm).run(rows, concurrency=concurrency)
    assert no_empty_success(list(results))
    assert not any(item.ok for item in results)


def test_reasoning_before_a_plain_answer_is_not_part_of_it() -> None:
    plain = Task(Summary, llm=LLM(transport=FakeTransport("<think>short…</think>\n\nBonjour")), mode="plain")
    item = plain("a long text")
    assert item.output is not None
    assert item.output.summary == "Bonjour"
    assert item.repaired
    assert "short" in str(item.reasoning)


@pytest.mark.parametrize(
    "answer", ["<think>it never ends", Completion(text="half a sen", finish_reason="abort", usage=Usage())]
)
def test_a_plain_answer_that_is_not_whole_is_an_error(answer: Any) -> None:
    plain = Task(Summary, llm=LLM(transport=FakeTransport(answer)), mode="plain", attempts=1)
    assert isinstance(plain("a long text").error, TruncatedError)


def modes(fake: FakeTransport) -> list[str]:
    return ["tools" if "tools" in request.head.schema else "other" for request in fake.requests]


def test_a_refusal_is_not_a_verdict_on_function_calls() -> None:
    refusal = Completion(refusal="I can't help with that.", finish_reason="stop")
    fake = FakeTransport([refusal, {"team": "billing"}])
    one = Task(Triage, llm=LLM(transport=fake))
    one("a"), one("b")
    assert modes(fake) == ["tools", "tools"]


def test_a_slip_into_text_is_not_a_verdict_where_calls_are_made() -> None:
    fake = FakeTransport([{"team": "billing"}, "I would rather say nothing.", {"team": "billing"}, {"team": "billing"}])
    one = Task(Triage, llm=LLM(transport=fake))
    assert all(one(text).ok for text in "abc")
    assert modes(fake) == ["tools"] * 4


def test_where_only_text_ever_comes_the_schema_is_asked_for_otherwise() -> None:
    fake = FakeTransport(["I don't know any function.", '{"team": "billing"}'])
    assert Task(Triage, llm=LLM(transport=fake))("a").ok
    assert modes(fake) == ["tools", "other"]


def test_refusals_and_failures_have_budgets_of_their_own() -> None:
    answers = [*[RateLimitError("slow down")] * 6, ServerError("oops"), {"team": "billing"}]
    item = task(answers, retry=Retry(attempts=2, backoff=0.0, cap=0.0))("a")
    assert item.ok
    assert item.attempts == 8


def test_what_a_filtered_answer_has_cost_is_counted() -> None:
    with FaultyServer(faults=[Body(FILTERED, "application/json")]) as server:
        llm = LLM("m", base_url=server.base_url, cache=False, prices=Prices(input=1.0, output=1.0))
        budget = Budget(tokens=100_000)
        (item,) = Task(Triage, llm=llm).run(["a"], budget=budget)
        llm.close()
    assert item.error is not None
    assert item.error.code == "filtered"
    assert item.usage.total == budget.spent["tokens"] == 107


FILTERED = (
    '{"choices": [{"finish_reason": "content_filter", "message": {"role": "assistant", "content": null}}],'
    ' "usage": {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}}'
)


def test_the_cost_of_a_row_that_timed_out_is_unknown() -> None:
    priced = LLM(
        transport=FakeTransport(ServerError("oops")), retry=Retry(attempts=1), prices=Prices(input=1.0, output=1.0)
    )
    assert Task(Triage, llm=priced)("a").cost is None


def test_a_call_that_was_cancelled_on_its_way_is_taken_for_spent() -> None:
    budget = Budget(calls=100)
    with FaultyServer(latency=0.2) as server, LLM("m", base_url=server.base_url, cache=False) as llm:
        stream = Task(Triage, llm=llm).stream(map(str, range(50)), concurrency=8, budget=budget)
        next(iter(stream))
        stream.close()  # type: ignore[attr-defined]
        assert budget.spent["calls"] >= server.counters.requests


def test_asking_anew_does_not_join_a_call_that_was_not() -> None:
    fake = FakeTransport({"team": "billing"})
    llm = LLM(transport=fake, cache=True)
    Task(Triage, llm=llm)("a")
    (item,) = Task(Triage, llm=llm).run(["a"], fresh=True)
    assert not item.cached
    assert fake.calls == 2


@pytest.mark.parametrize(
    "faults",
    [
        [Body("<html>the page of the intranet</html>", "text/html")],
        [Status(404)],
        [Status(403)],
    ],
)
def test_a_run_against_the_wrong_place_stops(faults: list[Any]) -> None:
    retry = Retry(attempts=2, backoff=0.0, cap=0.0)
    with FaultyServer(faults=faults) as server, LLM("m", base_url=server.base_url, cache=False, retry=retry) as llm:
        results = Task(Triage, llm=llm).run([f"message {number}" for number in range(500)], concurrency=8)
        assert server.counters.requests <= 60
    assert results.counts["not_run"] > 400


def test_a_callback_that_fails_costs_no_row() -> None:
    def tell(progress: Progress) -> None:
        raise RuntimeError(f"the dashboard is down at {progress.rows}")

    with pytest.warns(UserWarning, match="the dashboard is down"):
        assert task().run(["a", "b"], progress=tell).counts == {"ok": 2}


@pytest.mark.parametrize("fault", [AssertionError("assert x"), KeyError("x"), RuntimeError("x")])
def test_whatever_a_transport_raises_concerns_its_row_only(fault: Exception) -> None:
    def answer(request: Request) -> Any:
        return fault if "bad" in str(request.tail) else {"team": "billing"}

    handler: Callable[[Request], Any] = answer
    results = task(handler).run(["a", "bad", "c"])
    assert results.counts == {"ok": 2, "call": 1}
