"""The two drivers: whatever the endpoint and the cache do, both return the same item in the same case."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Literal

import pytest

from llmtasker import LLM, InputField, Item, OutputField, Retry, Signature
from llmtasker.cache import CacheWarning, DiskCache, MemoryCache, Store, open_cache
from llmtasker.cache.async_store import AsyncStore, async_store
from llmtasker.compiler.program import compile_program
from llmtasker.errors import (
    AuthenticationError,
    CallError,
    CallTimeoutError,
    InvalidOutputError,
    ItemError,
    NetworkError,
    RefusedError,
    TruncatedError,
)
from llmtasker.runner.awaiting import run_awaiting
from llmtasker.runner.policy import Policy
from llmtasker.runner.steps import Keep, Lease, Look, Release, Send, Step, Steps, Wait, run_blocking
from llmtasker.testing import Answer, FakeTransport
from llmtasker.wire.completion import Completion, ToolCall, Usage
from llmtasker.wire.request import Head, Request, Settings


class Mood(Signature):
    """Say how the customer feels."""

    text: str = InputField()
    mood: Literal["glad", "angry"] = OutputField()


TEXT = "Merci, parfait !"
GLAD = Completion(
    tool_calls=(ToolCall(name="Mood", arguments='{"mood": "glad"}', id="1"),),
    finish_reason="tool_calls",
    usage=Usage(input=7, output=3),
)
BAD = replace(GLAD, tool_calls=(ToolCall(name="Mood", arguments='{"mood": "blue"}', id="1"),))
NO_WAIT = Retry(attempts=3, backoff=0.0, cap=0.0)


def llm_of(transport: Any, **settings: Any) -> LLM:
    return LLM(transport=transport, cache=False, retry=NO_WAIT, **settings)


def executor_of(llm: LLM) -> Policy[Mood, Mood]:
    return Policy(program=compile_program(Mood), llm=llm, present=lambda record: record)


Driver = Callable[[Any, Any, Store | None], Any]


def blocking(steps: Any, transport: Any, store: Store | None) -> Any:
    return run_blocking(steps, transport, None if store is None else open_cache(store))


def awaiting(steps: Any, transport: Any, store: Store | None) -> Any:
    return asyncio.run(run_awaiting(steps, transport, awaited(store)))


def awaited(store: Store | None) -> AsyncStore | None:
    complete = None if store is None else open_cache(store)
    return None if complete is None else async_store(complete)


BOTH = pytest.mark.parametrize("drive", [blocking, awaiting])


class WordlessError(Exception):
    def __str__(self) -> str:
        return ""


# ── one table through both ──

STORIES: dict[str, tuple[Sequence[Answer], type[ItemError] | None, int]] = {
    "an answer": ([GLAD], None, 1),
    "a misfit, then an answer": ([BAD, GLAD], None, 2),
    "misfits only": ([BAD] * 3, InvalidOutputError, 3),
    "a broken connection, then an answer": ([NetworkError("reset"), GLAD], None, 2),
    "broken connections only": ([NetworkError("reset")] * 3, NetworkError, 3),
    "no such key": ([AuthenticationError("no", status=401)], AuthenticationError, 1),
    "refused": ([Completion(refusal="No.")], RefusedError, 1),
    "cut": ([Completion(text="{", finish_reason="length")], TruncatedError, 1),
    "a transport that raises ValueError": ([ValueError("odd\nthing")], CallError, 1),
    "a transport that raises RuntimeError": ([RuntimeError("session is closed")], CallError, 1),
    "a transport that raises an error without words": ([WordlessError()], CallError, 1),
    "a transport that raises OSError": ([ConnectionResetError(104, "reset")], CallError, 1),
    "a transport that raises StopIteration": ([StopIteration(1)], CallError, 1),
    "a transport that raises TimeoutError": (
        [TimeoutError(), TimeoutError("late"), TimeoutError()],
        CallTimeoutError,
        3,
    ),
    "a transport that times out once": ([TimeoutError(), GLAD], None, 2),
    "a transport that fails as a group": ([ExceptionGroup("many", [ValueError()])], CallError, 1),
}


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("cached", [False, True], ids=["no cache", "cache"])
def test_both_drivers_give_the_same_item(story: str, cached: bool) -> None:
    answers, error, calls = STORIES[story]
    items: list[Item[Mood]] = []
    for drive in (blocking, awaiting):
        transport = FakeTransport(list(answers))
        store = MemoryCache() if cached else None
        item: Item[Mood] = drive(executor_of(llm_of(transport)).ask(TEXT), transport, store)
        assert type(item.error) is (error or type(None)), item.error
        assert transport.calls == item.attempts == calls
        if store is not None:
            assert repr(store) == f"MemoryCache({'1 entry' if item.ok else '0 entries'})", "only what succeeded is kept"
            assert store.lease("0" * 64)
            assert item.request is not None
            assert store.lease(item.request.key) is not item.ok, "no lease is left"
        items.append(replace(item, latency=0.0, error=None))
    assert items[0] == items[1]


def test_both_drivers_say_the_same_of_an_odd_error() -> None:
    said = set[str]()
    for drive in (blocking, awaiting):
        transport = FakeTransport(ValueError("odd\nthing " + "x" * 9999))
        item: Item[Mood] = drive(executor_of(llm_of(transport)).ask(TEXT), transport, None)
        assert item.error is not None
        said.add(item.error.message)
    (message,) = said
    assert message.startswith("the transport failed: ValueError: odd thing")
    assert len(message) < 300


def test_both_drivers_share_what_is_kept() -> None:
    store = MemoryCache()
    transport = FakeTransport([GLAD])
    policy = executor_of(llm_of(transport))
    first = run_blocking(policy.ask(TEXT), transport, store)
    second = asyncio.run(run_awaiting(policy.ask(TEXT), transport, awaited(store)))
    assert (first.cached, second.cached, transport.calls) == (False, True, 1)
    assert first.output == second.output


# ── single steps ──


def script(*steps: Step, came: list[Any]) -> Steps[str]:
    for step in steps:
        answer = yield step
        came.append(answer)
    return "end"


@BOTH
def test_the_result_is_what_the_generator_returns(drive: Driver) -> None:
    def none() -> Steps[int]:
        return 7
        yield

    assert drive(none(), FakeTransport(), None) == 7


@BOTH
def test_without_a_cache_everything_is_a_miss_and_every_lease_is_free(drive: Driver) -> None:
    came: list[Any] = []
    key = "a" * 64
    assert (
        drive(
            script(Look([key]), Keep([(key, GLAD)]), Look([key]), Lease([key, key]), Release([key]), came=came),
            None,
            None,
        )
        == "end"
    )
    assert came == [[None], None, [None], [True, True], None]


@BOTH
def test_with_a_cache(drive: Driver) -> None:
    came: list[Any] = []
    key, other = "a" * 64, "b" * 64
    store = MemoryCache()
    store.lease(other)
    steps = (
        Look([key, other]),
        Lease([key]),
        Lease([key, other]),
        Keep([(key, GLAD)]),
        Look([key, other]),
        Lease([key]),
        Lease([other]),
        Release([other]),
    )
    drive(script(*steps, came=came), None, store)
    assert came == [[None, None], [True], [False, False], None, [GLAD, None], [False], [False], None]
    assert not store.lease(other), "a lease of somebody else is not given back"


@BOTH
def test_a_wait_gives_the_result_of_its_future(drive: Driver) -> None:
    future: Future[str] = Future()
    threading.Timer(0.01, lambda: future.set_result("done")).start()
    came: list[Any] = []
    began = time.monotonic()
    drive(script(Wait(future), Wait(0.01), came=came), None, None)
    assert came == ["done", None]
    assert time.monotonic() - began > 0.01


@BOTH
@pytest.mark.parametrize("text", ["", "null", "{", '{"odd": 1}', "[]", '{"usage": 3}', "not JSON"])
def test_what_somebody_else_wrote_under_a_key_is_a_miss(drive: Driver, text: str) -> None:
    store = MemoryCache()
    store.put("a" * 64, text)
    came: list[Any] = []
    drive(script(Look(["a" * 64]), came=came), None, store)
    assert came == [[None]]


@BOTH
@pytest.mark.parametrize("make", [MemoryCache, DiskCache], ids=lambda make: make.__name__)
@pytest.mark.parametrize("text", ["not JSON", '{"odd": 1}', '{"version": 99, "text": "oui"}'])
def test_an_answer_that_this_version_cannot_read_is_a_miss_for_the_lease_too(
    drive: Driver, make: Callable[[], MemoryCache | DiskCache], text: str
) -> None:
    store = make()
    transport = FakeTransport([GLAD])
    policy = executor_of(llm_of(transport))
    (key,) = [item.request.key for item in [drive(policy.ask(TEXT), FakeTransport([GLAD]), None)] if item.request]
    store.put(key, text)
    items: list[Item[Mood]] = [drive(policy.ask(TEXT), transport, store) for _ in range(2)]
    assert [(item.ok, item.cached) for item in items] == [(True, False), (True, True)]
    assert transport.calls == 1
    store.close()


@BOTH
def test_a_store_whose_answers_nobody_can_read_or_replace_is_asked_past(drive: Driver) -> None:
    class Stuck(Minimal):
        """Has an answer for every key, and grants no lease."""

        def get(self, key: str) -> str | None:
            return "written by version 99"

        def lease(self, key: str, *, seconds: float) -> bool:
            return False

    store: Any = Stuck()
    transport = FakeTransport(GLAD)
    items = [drive(executor_of(llm_of(transport)).ask(TEXT), transport, store) for _ in range(2)]
    assert [item.ok for item in items] == [True, True]
    assert transport.calls == 2


@BOTH
@pytest.mark.parametrize("failure", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_passes_and_gives_the_leases_back(drive: Driver, failure: type[BaseException]) -> None:
    store = MemoryCache()
    key = "a" * 64
    closed: list[str] = []

    def interrupted() -> Steps[None]:
        try:
            yield Lease([key])
            raise failure
        finally:
            closed.append("closed")

    with pytest.raises(failure):
        drive(interrupted(), None, store)
    assert closed == ["closed"]
    deadline = time.monotonic() + 5
    while not store.lease(key):  # an event loop that ends does not wait for it
        assert time.monotonic() < deadline
        time.sleep(0.001)


@BOTH
def test_an_error_of_the_generator_itself_passes(drive: Driver) -> None:
    def wrong() -> Generator[Step, Any, None]:
        yield Wait(0.0)
        raise ZeroDivisionError("a fault of ours")

    with pytest.raises(ZeroDivisionError):
        drive(wrong(), None, None)


# ── the deadline ──


class Deaf(FakeTransport):
    """Never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.began = asyncio.Event()

    async def asend(self, request: Request) -> Completion:
        self.requests.append(request)
        self.began.set()
        await asyncio.sleep(3600)
        raise AssertionError("nobody waits an hour")


def test_a_call_that_does_not_end_is_given_up() -> None:
    transport = Deaf()
    llm = LLM(transport=transport, cache=False, timeout=0.02, retry=Retry(attempts=2, backoff=0.0))
    item = asyncio.run(run_awaiting(executor_of(llm).ask(TEXT), transport, None))
    assert isinstance(item.error, CallTimeoutError)
    assert "0.02 s" in item.error.message
    assert item.attempts == len(transport.requests) == 2
    assert llm.rate_limiter.in_flight == 0


@BOTH
def test_the_deadline_is_for_the_call_not_for_the_wait_before_it(drive: Driver) -> None:
    transport = FakeTransport([GLAD])
    request = Request(Head({}), [{"role": "user", "content": "?"}], Settings(endpoint="fake", timeout=0.02))
    came: list[Any] = []
    assert drive(script(Wait(0.05), Send(request), came=came), transport, None) == "end"
    assert came == [None, GLAD]


# ── cancellation ──


def test_who_is_cancelled_leaves_nothing_behind() -> None:
    transport = Deaf()
    llm = llm_of(transport)
    store = MemoryCache()

    async def story() -> None:
        task = asyncio.create_task(run_awaiting(executor_of(llm).ask(TEXT), transport, awaited(store)))
        await transport.began.wait()
        assert llm.rate_limiter.in_flight == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        key = transport.requests[0].key
        assert llm.rate_limiter.in_flight == 0
        assert llm.single_flight.enter(key) is None
        for _ in range(5000):
            if store.lease(key):
                return
            await asyncio.sleep(0.001)
        raise AssertionError("the lease was kept")

    asyncio.run(story())


def test_who_is_cancelled_while_waiting_for_another_does_not_disturb_it() -> None:
    transport = FakeTransport(GLAD, latency=0.05)
    policy = executor_of(llm_of(transport))

    async def story() -> list[Any]:
        tasks = [asyncio.create_task(run_awaiting(policy.ask(TEXT), transport, None)) for _ in range(3)]
        await asyncio.sleep(0.01)
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third = asyncio.run(story())
    assert isinstance(second, asyncio.CancelledError)
    assert first.ok
    assert third.ok
    assert transport.calls == 1


def test_when_the_one_who_asks_is_cancelled_another_takes_over() -> None:
    transport = FakeTransport(GLAD, latency=0.05)
    policy = executor_of(llm_of(transport))

    async def story() -> list[Any]:
        stores = [awaited(MemoryCache()) for _ in range(3)]
        tasks = [asyncio.create_task(run_awaiting(policy.ask(TEXT), transport, store)) for store in stores]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    _, second, third = asyncio.run(story())
    assert second.ok
    assert third.ok
    assert transport.calls == 2


class Cancelling(FakeTransport):
    """Raises an exception that only the event loop should raise, as some network libraries do when they fail."""

    async def asend(self, request: Request) -> Completion:
        raise asyncio.CancelledError


def test_a_transport_that_cancels_itself_costs_its_row_only() -> None:
    transport = Cancelling()
    item = asyncio.run(run_awaiting(executor_of(llm_of(transport)).ask(TEXT), transport, None))
    assert isinstance(item.error, CallError)


# ── stores of the user ──


class Broken:
    """A store that raises in every method."""

    def get(self, key: str) -> str | None:
        raise OSError(5, "Input/output error")

    def put(self, key: str, text: str) -> None:
        raise MemoryError

    def lease(self, key: str, *, seconds: float) -> bool:
        raise RuntimeError("no leases today")

    def release(self, key: str) -> None:
        raise RuntimeError("no leases today")


class Minimal:
    """A store with only the required methods."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        return self.texts.get(key)

    def put(self, key: str, text: str) -> None:
        self.texts[key] = text


@BOTH
@pytest.mark.parametrize("answer", [GLAD, BAD], ids=["kept", "not kept"])
def test_a_store_that_raises_is_reported_once_and_costs_nothing(drive: Driver, answer: Completion) -> None:
    transport = FakeTransport(answer)
    store: Any = Broken()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        item: Item[Mood] = drive(executor_of(llm_of(transport)).ask(TEXT), transport, store)
    assert item.ok is (answer is GLAD)
    assert [type(warning.message) for warning in said] == [CacheWarning]
    assert item.attempts == (1 if item.ok else 3)


@BOTH
def test_a_store_with_get_and_put_will_do(drive: Driver) -> None:
    store: Any = Minimal()
    transport = FakeTransport([GLAD])
    policy = executor_of(llm_of(transport))
    items = [drive(policy.ask(TEXT), transport, store) for _ in range(2)]
    assert [item.cached for item in items] == [False, True]
    assert [json.loads(text)["finish_reason"] for text in store.texts.values()] == ["tool_calls"]
