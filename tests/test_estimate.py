"""Estimate and TokenMeter: the size and cost of a run, before anything is spent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

import pytest

from llmtasker import LLM, ConfigurationError, InputField, OutputField, Prices, Signature, Task
from llmtasker.llm.costs import TokenMeter
from llmtasker.testing import FakeTransport, FaultyServer
from llmtasker.wire.completion import Usage


class Triage(Signature):
    """Route a message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


def test_rows_distinct_cached_and_unfit_are_counted_and_nothing_is_sent() -> None:
    fake = FakeTransport()
    task = Task(Triage, llm=LLM(transport=fake, cache=True))
    task.run(["a", "b"])
    found = task.estimate(["a", "b", "c", "c", None])
    assert (found.rows, found.unfit, found.distinct, found.cached, found.calls) == (5, 1, 3, 2, 1)
    assert found.cost is None
    assert fake.calls == 2
    assert "1 do not fit" in str(found)
    assert "unknown" in str(found)


def test_an_estimate_is_calibrated_by_what_was_counted() -> None:
    texts = [f"message {number}, where is my parcel?" for number in range(40)]
    with FaultyServer() as server:
        llm = LLM("m", base_url=server.base_url, api_key="x", cache=False, prices=Prices(input=1.0, output=1.0))
        task = Task(Triage, llm=llm)
        assert "rule of thumb" in task.estimate(texts).method
        task.run(texts[:10])
        found = task.estimate(texts[10:])
        results = task.run(texts[10:])
        llm.close()
    assert found.calls == 30
    assert found.usage.total == pytest.approx(results.usage.total, rel=0.1)
    assert results.cost is not None
    assert found.cost == pytest.approx(results.cost, rel=0.1)
    assert "10 calls" in found.method


def test_groups_need_fewer_calls_and_tokens() -> None:
    texts = [f"message {number}, where is my parcel?" for number in range(40)]
    llm = LLM(transport=FakeTransport())
    alone, grouped = (Task(Triage, llm=llm, group_size=size).estimate(texts) for size in (1, 10))
    assert (alone.calls, grouped.calls) == (40, 4)
    assert grouped.usage.input < alone.usage.input


def test_the_heads_and_names_of_groups_are_estimated_too() -> None:
    texts = [f"{number} messages, where is my parcel?" for number in range(80)]
    with FaultyServer() as server:
        task = Task(Triage, llm=LLM("m", base_url=server.base_url, api_key="x", cache=False), group_size=10)
        alone = task.with_(group_size=1).estimate(texts)
        before = task.estimate(texts)
        task.run(texts[:20])
        found, results = task.estimate(texts[20:]), task.run(texts[20:])
    assert before.usage.output > alone.usage.output
    assert found.usage.input == pytest.approx(results.usage.input, rel=0.1)
    assert found.usage.output == pytest.approx(results.usage.output, rel=0.1)


def test_more_rows_than_one_look_into_the_cache() -> None:
    texts = [f"message {number}" for number in range(1200)]
    assert Task(Triage, llm=LLM(transport=FakeTransport(), cache=True)).estimate(iter(texts)).distinct == 1200


def test_what_can_be_read_only_once_and_asynchronously_is_refused() -> None:
    async def source() -> AsyncIterator[str]:
        yield "a"

    with pytest.raises(ConfigurationError, match="list"):
        Task(Triage, llm=LLM(transport=FakeTransport())).estimate(source())


def test_the_most_is_more_than_was_ever_seen() -> None:
    meter = TokenMeter()
    assert meter.at_most(1000, 50).output == 50
    assert meter.at_most(1000, None).output > 1000
    meter.record(400, Usage(input=100, output=20))
    meter.record(400, Usage(input=200, output=10))
    assert meter.expected(400) == Usage(input=150, output=15)
    most = meter.at_most(400, None)
    assert most.input >= 200
    assert most.output >= 20
