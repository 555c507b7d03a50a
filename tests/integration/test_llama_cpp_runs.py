"""Runs against llama.cpp's own server: limits, cache, many calls at once, and a server that refuses or dies."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import openai
import pytest
from conftest import MakeLLM
from llama_server import CONTEXT, SLOTS, LlamaServer
from pydantic import model_validator
from triage import HELD, Counted, Triage, asking, check_order, counting, spent

from llmtasker import LLM, Item, Results, Retry, Task
from llmtasker.errors import (
    AuthenticationError,
    ContextLengthError,
    NetworkError,
    NotFoundError,
    NotRunError,
    TruncatedError,
)
from llmtasker.wire.completion import Usage


def in_time(work: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Return the result of `work`; fail instead of hanging."""
    came: list[Any] = []
    thread = threading.Thread(target=lambda: came.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert came, f"no end after {seconds:g} s"
    return came[0]


# ── limits ──


@pytest.mark.parametrize("mode", HELD)
def test_only_cut_rows_are_asked_again_with_more_tokens(
    server: LlamaServer, make_llm: MakeLLM, tmp_path: Path, mode: Any
) -> None:
    rows = asking(4)

    def run(inputs: list[str], max_tokens: int) -> Results[Triage]:
        return Task(Triage, llm=make_llm(server, cache=tmp_path, max_tokens=max_tokens), mode=mode).run(inputs)

    assert all(item.ok for item in run(rows[:2], 400))
    cut = run(rows, 3)
    assert [item.cached for item in cut] == [True, True, False, False]
    for item in cut[2:]:
        assert isinstance(item.error, TruncatedError)
        assert (item.attempts, item.usage.output) == (1, 3)
    since = counting(server)
    whole = run(rows, 400)
    assert all(item.ok for item in whole)
    assert [item.attempts for item in whole] == [0, 0, 1, 1]
    assert since() == spent(whole)


def test_a_call_that_is_cut_in_its_arguments_is_not_an_answer(server: LlamaServer, make_llm: MakeLLM) -> None:
    whole = Task(Triage, llm=make_llm(server), mode="tools")("Hello")
    assert whole.ok
    # The last token ends the turn; the one before it closes the call.
    for max_tokens in range(1, whole.usage.output - 1, 4):
        item = Task(Triage, llm=make_llm(server, max_tokens=max_tokens), mode="tools")("Hello")
        assert isinstance(item.error, TruncatedError)
        assert (item.attempts, item.usage.output) == (1, max_tokens)


def test_an_input_longer_than_the_context_fails_alone_in_one_call(counted: Counted) -> None:
    items = Task(Triage, llm=LLM("tiny-random", transport=counted, cache=False)).run(["before", "x" * CONTEXT, "after"])
    assert [item.ok for item in items] == [True, False, True]
    error = items[1].error
    assert isinstance(error, ContextLengthError)
    assert error.status == 400
    assert (items[1].attempts, items[1].usage) == (1, Usage())
    assert len(counted.requests) == 3


# ── cache ──


def test_the_second_run_asks_nothing(server: LlamaServer, make_llm: MakeLLM, tmp_path: Path) -> None:
    rows = asking(6)
    since = counting(server)
    first = Task(Triage, llm=make_llm(server, cache=tmp_path)).run(rows)
    asked = since()
    assert asked == spent(first) != (0, 0)
    second = Task(Triage, llm=make_llm(server, cache=tmp_path)).run(rows)
    single = Task(Triage, llm=make_llm(server, cache=tmp_path))(rows[0])
    assert since() == asked
    assert [item.output for item in second] == [item.output for item in first]
    assert [item.raw for item in second] == [item.raw for item in first]
    assert all(item.cached and item.attempts == 0 for item in [*second, single])


def test_equal_rows_are_asked_once(server: LlamaServer, make_llm: MakeLLM) -> None:
    since = counting(server)
    items = Task(Triage, llm=make_llm(server)).run(asking(3) * 5, concurrency=15)
    assert sum(item.attempts for item in items) == 3
    assert since() == spent(items)


# ── many at once ──


def test_more_in_flight_than_slots_are_all_answered_in_order(server: LlamaServer, make_llm: MakeLLM) -> None:
    rows = asking(40)
    since = counting(server)
    items = Task(Triage, llm=make_llm(server)).run(rows, concurrency=6 * SLOTS)
    check_order(items, rows)
    assert sum(item.attempts for item in items) == len(rows)
    assert since() == spent(items)


def test_loops_and_threads_share_an_llm(server: LlamaServer, make_llm: MakeLLM) -> None:
    task = Task(Triage, llm=make_llm(server))
    rows = {name: [f"{name} {row}" for row in asking(8)] for name in ("thread", "loop", "again")}
    came: dict[str, Results[Triage]] = {}

    def in_thread() -> None:
        came["thread"] = task.run(rows["thread"], concurrency=8)

    thread = threading.Thread(target=in_thread)
    thread.start()
    for name in ("loop", "again"):
        came[name] = asyncio.run(task.arun(rows[name], concurrency=8))
    thread.join(20)
    assert came.keys() == rows.keys()
    for name, items in came.items():
        check_order(items, rows[name])


def test_run_works_inside_a_running_loop(server: LlamaServer, make_llm: MakeLLM) -> None:
    task = Task(Triage, llm=make_llm(server))

    async def cell() -> tuple[Item[Triage], Results[Triage]]:
        return await task.acall("Hello"), task.run(asking(3))

    item, items = asyncio.run(cell())
    assert item.ok
    check_order(items, asking(3))


# ── ways to name the endpoint ──


@pytest.mark.parametrize("kind", [openai.OpenAI, openai.AsyncOpenAI])
def test_a_client_finds_the_one_model_that_is_served(server: LlamaServer, kind: Any) -> None:
    with LLM.of(kind(base_url=server.base_url, api_key="none"), temperature=0, cache=False) as llm:
        assert llm.model == "tiny-random"
        assert Task(Triage, llm=llm)("Hello").raise_for_error().output


def test_a_url_with_a_model_names_the_endpoint(server: LlamaServer) -> None:
    with LLM(f"{server.base_url}#tiny-random", temperature=0, cache=False) as llm:
        assert Task(Triage, llm=llm)("Hello").raise_for_error().output


# ── failures ──


def test_a_wrong_key_stops_the_run(model: Path, make_llm: MakeLLM) -> None:
    with LlamaServer(model, api_key="the-right-key") as server:
        since = counting(server)
        items = Task(Triage, llm=make_llm(server, api_key="a-wrong-key")).run(asking(60), concurrency=4)
        assert {type(item.error) for item in items} == {AuthenticationError, NotRunError}
        assert sum(item.attempts for item in items) <= 20
        assert "wrong-key" not in "".join(str(item.error) for item in items)
        assert since() == (0, 0)
        assert Task(Triage, llm=make_llm(server, api_key="the-right-key"))("Hello").ok


def test_a_wrong_path_is_not_found(server: LlamaServer) -> None:
    with LLM("tiny-random", base_url=f"{server.url}/v2", cache=False) as llm:
        item = Task(Triage, llm=llm)("Hello")
    assert isinstance(item.error, NotFoundError)
    assert item.attempts == 1


def test_a_server_that_dies_costs_only_what_was_not_answered(model: Path, make_llm: MakeLLM, tmp_path: Path) -> None:
    rows = asking(40)
    answers_until_death = [5]
    servers: list[LlamaServer] = []

    class Deadly(Triage):
        @model_validator(mode="after")
        def counts(self) -> Self:
            answers_until_death[0] -= 1
            if not answers_until_death[0]:
                servers[0].kill()
            return self

    def run(server: LlamaServer) -> Results[Triage]:
        servers.append(server)
        retry = Retry(attempts=2, backoff=0.01, cap=0.01, give_up_after=0.5)
        return Task(Deadly, llm=make_llm(server, cache=tmp_path, retry=retry)).run(rows, concurrency=2 * SLOTS)

    with LlamaServer(model) as server:
        items = in_time(lambda: run(server))
    assert [item.input for item in items] == rows
    answered = sum(item.ok for item in items)
    assert 1 <= answered <= 5 + 2 * SLOTS
    for item in items:
        assert item.ok or (isinstance(item.error, NetworkError | NotRunError) and item.attempts <= 2)
    with LlamaServer(model, port=server.port) as again:
        resumed = in_time(lambda: run(again))
    assert all(item.ok for item in resumed)
    assert sum(item.cached for item in resumed) == answered
