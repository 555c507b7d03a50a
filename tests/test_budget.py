"""Budget: reserved before each call, given back after it, never overshot."""

from __future__ import annotations

import json
from concurrent.futures import Future
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtasker import LLM, Budget, ConfigurationError, InputField, OutputField, Prices, Signature, Task
from llmtasker.errors import BudgetError
from llmtasker.runner.budget import Reservation
from llmtasker.tasks.classification import Classification
from llmtasker.testing import FakeTransport, FaultyServer, Status
from llmtasker.wire.completion import NO_USAGE, Usage


class Triage(Signature):
    """Route a message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


def free(_: Usage) -> float | None:
    return None


def taken(budget: Budget, tokens: int) -> Reservation:
    share = budget.reserve(Usage(input=tokens), free)
    assert isinstance(share, Reservation)
    return share


@pytest.mark.parametrize("limits", [{}, {"tokens": 0}, {"cost": -1.0}, {"calls": 0}])
def test_a_budget_has_a_limit_above_zero(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"above 0|such as Budget\(cost=5"):
        Budget(**limits)


def test_what_is_reserved_cannot_be_reserved_again_and_comes_back() -> None:
    budget = Budget(tokens=100)
    first = taken(budget, 60)
    waiting = budget.reserve(Usage(input=60), free)
    assert isinstance(waiting, Future)
    assert not waiting.done()
    first.settle(Usage(input=20, output=5))
    assert waiting.done()
    assert budget.spent["tokens"] == 25
    taken(budget, 60).cancel()
    assert budget.spent["tokens"] == 25
    assert budget.spent["calls"] == 1


def test_a_call_that_nobody_counted_is_taken_for_spent_whole() -> None:
    budget = Budget(tokens=100)
    taken(budget, 60).settle(None)
    assert budget.spent["tokens"] == 60


def test_a_reservation_ends_once() -> None:
    budget = Budget(calls=1)
    share = taken(budget, 1)
    share.settle(NO_USAGE)
    share.settle(NO_USAGE)
    share.cancel()
    assert budget.spent["calls"] == 1
    with pytest.raises(BudgetError, match="1 call is used up"):
        budget.reserve(NO_USAGE, free)


def test_a_cancelled_waiter_is_passed_over() -> None:
    budget = Budget(calls=1)
    share = taken(budget, 1)
    gone = budget.reserve(NO_USAGE, free)
    assert isinstance(gone, Future)
    gone.cancel()
    share.cancel()
    assert gone.cancelled()


def test_money_needs_prices() -> None:
    with pytest.raises(ConfigurationError, match="prices"):
        Budget(cost=1.0).reserve(NO_USAGE, free)


@given(st.lists(st.tuples(st.integers(1, 80), st.floats(0, 1)), max_size=60), st.integers(1, 300))
def test_no_order_of_calls_overshoots(calls: list[tuple[int, float]], limit: int) -> None:
    budget = Budget(tokens=limit)
    open_shares: list[tuple[Reservation, int]] = []
    for most, share_used in calls:
        try:
            share = budget.reserve(Usage(input=most), free)
        except BudgetError:
            continue
        if isinstance(share, Future):
            if open_shares:
                oldest, used = open_shares.pop(0)
                oldest.settle(Usage(input=used))
            continue
        open_shares.append((share, int(most * share_used)))
        assert budget.spent["tokens"] <= limit
    for share, used in open_shares:
        share.settle(Usage(input=used))
    assert budget.spent["tokens"] <= limit


@pytest.mark.parametrize(
    ("limits", "word"), [({"tokens": 3000}, "tokens"), ({"calls": 20}, "calls"), ({"cost": 0.003}, "cost")]
)
def test_a_run_keeps_to_its_budget_and_can_continue(limits: dict[str, Any], word: str) -> None:
    texts = [f"message {number}" for number in range(60)]
    with FaultyServer() as server:
        llm = LLM("m", base_url=server.base_url, api_key="x", max_tokens=30, prices=Prices(input=1.0, output=2.0))
        task = Task(Triage, llm=llm)
        budget = Budget(**limits)
        results = task.run(texts, budget=budget, concurrency=8)
        assert budget.spent[word] <= limits[word]
        assert budget.spent["calls"] == server.counters.requests == results.counts["ok"]
        assert results.counts["ok"] + results.counts["budget"] == 60
        assert budget.spent["tokens"] == results.usage.total
        assert results[-1].raw is None
        rest = task.run(texts)
        assert rest.counts["ok"] == 60
        assert server.counters.requests == 60
        llm.close()
    assert word in repr(budget)


def test_cached_rows_need_no_budget() -> None:
    task = Task(Triage, llm=LLM(transport=FakeTransport(), cache=True))
    task.run(["a", "b"])
    assert task.run(["a", "b"], budget=Budget(calls=1)).counts == {"ok": 2, "cached": 2}


def test_failed_calls_are_counted_too() -> None:
    with FaultyServer(faults=[Status(503, first=1)]) as server:
        llm = LLM("m", base_url=server.base_url, api_key="x", cache=False, max_tokens=30)
        budget = Budget(calls=2)
        assert Task(Triage, llm=llm).run(["a"], budget=budget).counts == {"ok": 1}
        assert budget.spent["calls"] == 2
        llm.close()


def test_a_budget_in_money_without_prices_stops_the_run() -> None:
    task = Task(Triage, llm=LLM(transport=FakeTransport()))
    with pytest.raises(ConfigurationError, match="Prices"):
        task.run(["a"], budget=Budget(cost=1.0))


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "not counted"])
@pytest.mark.parametrize("size", [1, 5])
def test_answers_that_are_longer_than_thought_do_not_overshoot(counted: bool, size: int) -> None:
    """Each further call may take as much as the longest answer so far."""

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": json.dumps({"team": "billing", "why": "because " * 1500})}
        usage = {"usage": {"prompt_tokens": 100, "completion_tokens": 4000}} if counted else {}
        return {"choices": [{"message": message, "finish_reason": "stop"}], **usage}

    with FaultyServer(answer, latency=0.01) as server:
        llm = LLM("m", base_url=server.base_url, api_key="x", cache=False)
        budget = Budget(tokens=40_000)
        texts = [f"message {number}" for number in range(100)]
        Task(Triage, llm=llm, group_size=size, attempts=2).run(texts, budget=budget)
        assert server.counters.requests >= 4
        assert server.counters.requests * (4100 if counted else 3000) <= 40_000
        assert budget.spent["tokens"] <= 40_000
        llm.close()


def test_without_a_token_limit_one_call_is_made_first_then_twice_as_many_as_were_answered() -> None:
    budget = Budget(tokens=1_000_000)
    most = Usage(input=100, output=100)
    waves: list[int] = []
    for _ in range(5):
        shares: list[Reservation] = []
        while isinstance(share := budget.reserve(most, free, sure=False), Reservation):
            shares.append(share)
        waves.append(len(shares))
        for one in shares:
            one.settle(most)
    assert waves == [1, 2, 6, 18, 54]
    assert isinstance(budget.reserve(most, free), Reservation), "where the limit is sent, nobody waits"


def test_the_built_in_baseline_uses_no_tokens() -> None:
    task = Classification(llm=LLM("offline", cache=False), labels=["a", "b"])
    rows = [f"row {number}" for number in range(50)]
    budget = Budget(tokens=100)
    assert task.run(rows, budget=budget).counts["ok"] == 50
    assert (budget.spent["tokens"], budget.spent["calls"]) == (0, 50)
    found = task.estimate(rows)
    assert (found.calls, found.usage, found.method) == (50, NO_USAGE, "the built-in baseline uses none")
    with pytest.raises(BudgetError, match="the budget of 1 call is used up"):
        raise task.run(rows, budget=Budget(calls=1)).errors[0]
