"""Many inputs: order, bounds, back-pressure, sources that break, endpoints that refuse, runs that are given up."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import programs
import pytest

from llmtasker import LLM, ConfigurationError, InputField, Item, OutputField, Results, Retry, Signature, Task
from llmtasker.errors import (
    AuthenticationError,
    BadRequestError,
    BadResponseError,
    CallError,
    ContextLengthError,
    InputError,
    ItemError,
    NetworkError,
    NotFoundError,
    NotRunError,
    RateLimitError,
    RejectedError,
    ServerError,
)
from llmtasker.portal import portal
from llmtasker.runner.circuit_breaker import CircuitBreaker
from llmtasker.runner.feed import Feed
from llmtasker.runner.run import Run
from llmtasker.runner.steps import Steps, Wait
from llmtasker.testing import FakeTransport, FaultyServer, Status, last_user_text
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Request


class Echo(Signature):
    """Repeat the text."""

    text: str = InputField()
    echo: str = OutputField()


def echo(request: Request) -> dict[str, Any]:
    return {"echo": last_user_text(request)}


def task_of(transport: Any, **settings: Any) -> Task[Echo]:
    retry = Retry(attempts=2, backoff=0.0, cap=0.0)
    return Task(Echo, llm=LLM(transport=transport, cache=False, retry=retry), **settings)


def echoes(items: Any) -> list[str | None]:
    return [item.output.echo if item.output else None for item in items]


class Jittery(FakeTransport):
    """Answers after a different time each."""

    def __init__(self, most: float = 0.01, **settings: Any) -> None:
        super().__init__(echo, **settings)
        self._most = most
        self._jitter = random.Random(7)

    async def asend(self, request: Request) -> Completion:
        await asyncio.sleep(self._jitter.random() * self._most)
        return await super().asend(request)


class Held(FakeTransport):
    """Holds back every answer until `free` is set."""

    def __init__(self) -> None:
        super().__init__(echo)
        self.free = threading.Event()

    async def asend(self, request: Request) -> Completion:
        while not self.free.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.001)
        return await super().asend(request)


# ── order and bounds ──


@pytest.mark.parametrize("form", ["list", "tuple", "generator", "set of one", "range as texts", "async generator"])
def test_each_output_belongs_to_its_input(form: str) -> None:
    texts = [f"row {number}" for number in range(300)]

    async def later() -> AsyncIterator[str]:
        for text in texts:
            await asyncio.sleep(0)
            yield text

    given: dict[str, Any] = {
        "list": texts,
        "tuple": tuple(texts),
        "generator": (text for text in texts),
        "set of one": {"row 0"},
        "range as texts": map("row {}".format, range(300)),
        "async generator": later(),
    }
    transport = Jittery()
    results = task_of(transport).run(given[form], concurrency=64)
    expected = ["row 0"] if form == "set of one" else texts
    assert isinstance(results, Results)
    assert [item.input for item in results] == echoes(results) == expected
    assert transport.calls == len(expected)


@pytest.mark.parametrize("given", [[], (), iter(()), {}.values()], ids=["list", "tuple", "iterator", "view"])
def test_nothing_in_nothing_out(given: Any) -> None:
    assert len(task_of(FakeTransport(echo)).run(given)) == 0
    assert list(task_of(FakeTransport(echo)).stream(given)) == []


@pytest.mark.parametrize("concurrency", [1, 3, 40])
def test_no_more_than_asked_for_are_in_flight(concurrency: int) -> None:
    transport = FakeTransport(echo, latency=0.002)
    results = task_of(transport).run([f"row {number}" for number in range(80)], concurrency=concurrency)
    assert all(item.ok for item in results)
    assert transport.max_in_flight <= concurrency
    assert concurrency == 1 or transport.max_in_flight > 1


def test_the_bound_of_the_llm_holds_over_threads_and_forms() -> None:
    transport = FakeTransport(echo, latency=0.002)
    task = Task(Echo, llm=LLM(transport=transport, cache=False, max_concurrency=4))
    texts = [[f"{thread} {number}" for number in range(30)] for thread in range(3)]
    came: list[Any] = [None, None, None]

    def blocking(thread: int) -> None:
        came[thread] = [task(text) for text in texts[thread]]

    def running(thread: int) -> None:
        came[thread] = task.run(texts[thread], concurrency=20)

    threads = [
        threading.Thread(target=target, args=(number,)) for number, target in enumerate((blocking, running, running))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [echoes(items) for items in came] == texts
    assert transport.max_in_flight <= 4


@pytest.mark.parametrize("concurrency", [0, -1])
def test_at_least_one_at_a_time(concurrency: int) -> None:
    task = task_of(FakeTransport(echo))
    with pytest.raises(ConfigurationError, match="concurrency"):
        task.run(["a"], concurrency=concurrency)
    with pytest.raises(ConfigurationError, match="concurrency"):
        list(task.stream(["a"], concurrency=concurrency))


def test_equal_rows_are_asked_once() -> None:
    transport = Jittery()
    results = task_of(transport).run([f"row {number % 10}" for number in range(1000)], concurrency=64)
    assert echoes(results) == [f"row {number % 10}" for number in range(1000)]
    # Without a cache, equal rows that come after the answer to the first are asked again; with one, see test_faults.
    assert transport.calls < 1000


# ── streams ──


def test_a_stream_gives_items_as_they_are_done() -> None:
    transport = FakeTransport(echo)
    slow = threading.Event()

    class FirstIsSlow(FakeTransport):
        async def asend(self, request: Request) -> Completion:
            if last_user_text(request) == "row 0":
                while not slow.is_set():  # noqa: ASYNC110 - set by another thread
                    await asyncio.sleep(0.001)
            return await transport.asend(request)

    stream = task_of(FirstIsSlow()).stream([f"row {number}" for number in range(50)], concurrency=4)
    first = [next(stream).input for _ in range(20)]
    assert "row 0" not in first
    slow.set()
    rest = [item.input for item in stream]
    assert sorted(first + rest) == sorted(f"row {number}" for number in range(50))


def test_a_stream_in_order() -> None:
    stream = task_of(Jittery()).stream((f"row {number}" for number in range(300)), concurrency=32, ordered=True)
    assert echoes(stream) == [f"row {number}" for number in range(300)]


@pytest.mark.parametrize("ordered", [False, True])
def test_a_stream_reads_only_so_far_ahead(ordered: bool) -> None:
    read = [0]

    def endless() -> Iterator[str]:
        for number in itertools.count():
            read[0] = number + 1
            yield f"row {number}"

    transport = FakeTransport(echo, keep_requests=False)
    stream = task_of(transport).stream(endless(), concurrency=4, ordered=ordered)
    taken = [next(stream) for _ in range(100)]
    time.sleep(0.1)  # it must not continue in the meantime
    most = 100 + 2 * 8 * 4  # one window that was taken completely, and another one
    assert transport.calls <= most
    assert read[0] <= most + 256
    calls = transport.calls
    time.sleep(0.05)
    assert transport.calls == calls
    assert len({item.input for item in taken}) == 100
    stream.close()


def test_an_async_stream_of_an_endless_async_generator() -> None:
    closed: list[str] = []

    async def endless() -> AsyncIterator[str]:
        try:
            for number in itertools.count():
                yield f"row {number}"
        finally:
            closed.append("closed")

    transport = FakeTransport(echo, keep_requests=False)
    task = task_of(transport)

    async def story() -> list[str]:
        seen: list[str] = []
        stream = task.astream(endless(), concurrency=4, ordered=True)
        async for item in stream:
            seen.append(item.input)
            if len(seen) == 50:
                break
        await stream.aclose()  # type: ignore[attr-defined]
        assert len(asyncio.all_tasks()) == 1, "no task is left behind"
        return seen

    assert asyncio.run(story()) == [f"row {number}" for number in range(50)]
    assert closed == ["closed"]
    assert transport.calls <= 50 + 2 * 8 * 4


def test_a_stream_can_be_the_source_of_another() -> None:
    first, second = task_of(Jittery()), task_of(Jittery())
    for _ in range(7):
        given = (item.output.echo for item in first.stream(f"row {n}" for n in range(40)) if item.output)
        chained = second.stream(given)
        assert {item.input for item in chained} == {f"row {number}" for number in range(40)}


def test_many_streams_with_slow_sources_do_not_starve_each_other() -> None:
    go_on = threading.Event()

    def slow() -> Iterator[str]:
        yield "row"
        go_on.wait(30)

    task = task_of(FakeTransport(echo))
    streams = [task.stream(slow(), concurrency=1) for _ in range(40)]
    waiting = [threading.Thread(target=list, args=(stream,)) for stream in streams]
    for thread in waiting:
        thread.start()
    assert echoes(task.run(iter(["a", "b"]))) == ["a", "b"]
    go_on.set()
    for thread in waiting:
        thread.join(30)


# ── sources that break ──


class OddError(Exception):
    pass


@pytest.mark.parametrize("form", ["generator", "iterator", "async generator"])
@pytest.mark.parametrize("ordered", [False, True])
def test_a_source_that_breaks_costs_nothing_that_came_before(form: str, ordered: bool) -> None:
    def rows() -> Iterator[str]:
        for number in range(500):
            yield f"row {number}"
        raise OddError("the file\nends here")

    async def arows() -> AsyncIterator[str]:
        for text in rows():
            yield text

    class Rows:
        def __init__(self) -> None:
            self._rows = rows()

        def __iter__(self) -> Iterator[str]:
            return self

        def __next__(self) -> str:
            return next(self._rows)

    given: dict[str, Callable[[], Any]] = {"generator": rows, "iterator": Rows, "async generator": arows}
    transport = Jittery()
    items = list(task_of(transport).stream(given[form](), ordered=ordered, concurrency=16))
    assert len(items) == 501
    assert sorted(str(item.input) for item in items[:500]) == sorted(f"row {number}" for number in range(500))
    assert all(item.ok for item in items[:500])
    last = items[-1]
    assert isinstance(last.error, InputError)
    assert "OddError: the file ends here" in last.error.message
    assert "500" in last.error.message
    results = task_of(transport).run(given[form]())
    assert echoes(results) == [*(f"row {number}" for number in range(500)), None]


def test_a_source_that_breaks_at_once() -> None:
    def rows() -> Iterator[str]:
        raise OddError("no file")
        yield ""

    (item,) = task_of(FakeTransport(echo)).run(rows())
    assert isinstance(item.error, InputError)
    assert "after 0 rows" in item.error.message


# ── endpoints that refuse everything ──


@pytest.mark.parametrize(
    ("status", "kind"), [(401, AuthenticationError), (403, AuthenticationError), (404, NotFoundError)]
)
def test_a_run_that_cannot_succeed_is_stopped(status: int, kind: type[ItemError]) -> None:
    with FaultyServer(faults=[Status(status, "The key or model is wrong.")], keep=False) as server:
        llm = LLM(f"{server.base_url}#m", cache=False)
        results = Task(Echo, llm=llm).run((f"row {number}" for number in range(10_000)), concurrency=32)
        assert server.counters.requests <= 20
    codes = [type(item.error) for item in results]
    assert len(codes) == 10_000
    assert set(codes) == {kind, NotRunError}
    assert codes.count(NotRunError) >= 9_980
    assert results[-1].input == "row 9999"
    message = results.errors[-1].message
    assert "The key or model is wrong." in message
    assert results.attempts == server.counters.requests


@pytest.mark.parametrize("status", [400, 402, 405, 407, 410, 415, 418, 422, 451])
@pytest.mark.parametrize("size", [1, 10])
@pytest.mark.parametrize("after", [0, 40])
def test_what_waiting_cannot_cure_stops_a_run(status: int, size: int, after: int) -> None:
    calls = itertools.count()
    faults = [Status(status, "No such request here", when=lambda call: next(calls) >= after)]
    with FaultyServer(faults=faults, keep=False) as server:
        llm = LLM(f"{server.base_url}#m", cache=False)
        texts = [f"{number} is the number of the row" for number in range(2000)]
        results = Task(Echo, llm=llm, group_size=size).run(texts, concurrency=8)
        # A group that is rejected is asked again in smaller ones first: its rows may be the reason.
        most = after + 8 + 20 if size == 1 else after + 8 * 14 + 20
        assert server.counters.requests <= most
    assert results.counts["not_run"] >= 2000 - size * most


@pytest.mark.parametrize("concurrency", [1, 32, 512])
@pytest.mark.parametrize("size", [1, 10])
def test_however_many_are_at_it(concurrency: int, size: int) -> None:
    transport = FakeTransport(AuthenticationError("no such key", status=401), latency=0.005)
    task = task_of(transport, group_size=size)
    items = list(task.stream((f"row {number} here" for number in range(10_000)), concurrency=concurrency))
    assert len({item.input for item in items}) == 10_000
    assert transport.calls <= 20
    assert sum(isinstance(item.error, NotRunError) for item in items) >= 10_000 - 20 * size
    assert all(item.attempts == 0 for item in items if isinstance(item.error, NotRunError))


def test_refusals_that_differ_in_numbers_only_are_equal() -> None:
    number = itertools.count(17_000)

    def refuse(_: Request) -> Exception:
        raise AuthenticationError(f"invalid key (request id: 2026{next(number)}x)", status=401)

    transport = FakeTransport(refuse)
    results = task_of(transport).run([f"row {number}" for number in range(1000)], concurrency=4)
    assert transport.calls <= 20
    assert results.counts["not_run"] >= 980


def test_single_refusals_stop_nothing() -> None:
    def answer(request: Request) -> Any:
        text = last_user_text(request)
        if int(text) % 3:
            raise AuthenticationError("this text is not for you", status=403)
        return {"echo": text}

    results = task_of(FakeTransport(answer)).run([str(number) for number in range(300)], concurrency=1)
    assert results.counts == {"ok": 100, "authentication": 200}


@pytest.mark.parametrize("error", [RateLimitError("slow down", retry_after=0.2), ServerError("no", retry_after=0.2)])
@pytest.mark.parametrize("form", ["run", "stream", "ordered stream"])
@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_row_that_waits_for_its_next_call_lends_its_place(concurrency: int, form: str, error: ItemError) -> None:
    asked: list[str] = []

    def answer(request: Request) -> Any:
        asked.append(last_user_text(request))
        if asked[-1] == "row 13" and asked.count("row 13") == 1:
            raise error
        return echo(request)

    transport = FakeTransport(answer)
    task, rows = task_of(transport), [f"row {number}" for number in range(10, 60)]
    if form == "run":
        items = list(task.run(rows, concurrency=concurrency))
    else:
        items = list(task.stream(rows, concurrency=concurrency, ordered=form != "stream"))
    assert sorted(item.output.echo for item in items if item.output) == rows
    assert transport.max_in_flight <= concurrency
    # A stream reads only so far ahead of a row that is not finished.
    between = [number for number, text in enumerate(asked) if text == "row 13"]
    assert between[1] - between[0] >= (40 if form == "run" else 6 * concurrency)


def test_few_rows_wait_without_a_place() -> None:
    asked: list[str] = []

    def answer(request: Request) -> Any:
        asked.append(last_user_text(request))
        if asked.count(asked[-1]) == 1:
            raise BadResponseError("no", retry_after=0.05)
        return echo(request)

    rows = [f"row {number}" for number in range(100)]
    assert echoes(task_of(FakeTransport(answer)).run(rows, concurrency=2)) == rows
    first = next(number for number, text in enumerate(asked) if text in asked[:number])
    assert first <= 2 + 2 * 8


def test_different_refusals_stop_nothing() -> None:
    def refuse(request: Request) -> Any:
        raise AuthenticationError(f"{last_user_text(request)} is not for you", status=403)

    words = ["".join(letters) for letters in itertools.product("abcde", repeat=3)]
    results = task_of(FakeTransport(refuse)).run(words, concurrency=4)
    assert results.counts == {"authentication": 125}


def test_one_refused_group_is_one_refusal() -> None:
    def answer(request: Request) -> Any:
        if "row 3 " in last_user_text(request):
            raise AuthenticationError("this text is not for you", status=403)
        return None

    server_of = FakeTransport()

    class Grouped(FakeTransport):
        async def asend(self, request: Request) -> Completion:
            answer(request)
            return await server_of.asend(request)

    results = task_of(Grouped(), group_size=10).run([f"row {number} is here" for number in range(100)], concurrency=1)
    assert results.counts == {"ok": 90, "authentication": 10}


def test_what_was_not_run_is_run_the_next_time() -> None:
    class Later(FakeTransport):
        works = False

        async def asend(self, request: Request) -> Completion:
            if not self.works:
                raise AuthenticationError("expired", status=401)
            return await super().asend(request)

    transport = Later(echo)
    task = task_of(transport)
    texts = [f"row {number}" for number in range(100)]
    assert task.run(texts).counts["not_run"] > 50
    transport.works = True
    assert echoes(task.run(texts)) == texts


def refusal(kind: type[CallError], message: str = "no", **details: Any) -> CallError:
    return kind(message, **details)


@pytest.mark.parametrize(
    ("error", "after", "most"),
    [
        pytest.param(refusal(AuthenticationError, status=401), False, 5, id="key"),
        pytest.param(refusal(NotFoundError, status=404), True, 5, id="the model is gone in the middle of a run"),
        pytest.param(refusal(BadRequestError, status=400), False, 16, id="no request is accepted"),
        pytest.param(refusal(BadRequestError, status=407), True, 16, id="proxy"),
        pytest.param(refusal(RejectedError, status=418), False, 16, id="any other rejection"),
        pytest.param(refusal(NetworkError), False, 5, id="nobody is there"),
        pytest.param(refusal(NetworkError), True, None, id="a connection breaks now and then"),
        pytest.param(refusal(BadResponseError), False, 5, id="it is something else"),
        pytest.param(refusal(ContextLengthError, status=413), False, 16, id="all rows are too long"),
        pytest.param(refusal(ContextLengthError, status=413), True, None, id="rows that are too long"),
        pytest.param(refusal(ServerError, status=500), False, None, id="errors that may pass"),
    ],
)
def test_which_failures_open_the_circuit_breaker(error: CallError, after: bool, most: int | None) -> None:
    breaker = CircuitBreaker()
    if after:
        breaker.answered()
    for _ in range((most or 100) - 1):
        breaker.failed(error)
    assert not breaker.open
    breaker.failed(error)
    assert breaker.open == (most is not None)
    assert (breaker.error is not None) == breaker.open


def test_an_answer_or_another_failure_starts_the_count_again() -> None:
    breaker = CircuitBreaker()
    refused, other = refusal(AuthenticationError), refusal(AuthenticationError, "something else")
    for between in (breaker.answered, lambda: breaker.failed(other), breaker.answered):
        for _ in range(4):
            breaker.failed(refused)
        between()
    assert not breaker.open
    for _ in range(5):
        breaker.failed(refused)
    assert breaker.open
    breaker.answered()
    assert breaker.open, "what comes late does not close it"


def test_a_failure_that_lasted_opens_the_circuit_breaker_at_once() -> None:
    breaker = CircuitBreaker()
    breaker.answered()
    breaker.failed(refusal(ServerError, "overloaded"), lasted=True)
    assert breaker.error is not None
    assert "did not recover: overloaded" in breaker.error.message


@pytest.mark.parametrize(
    ("text", "most"),
    [
        pytest.param("Invalid JSON schema: lookaround is not supported", 20, id="a schema refused in every form"),
        pytest.param("Request contains an invalid argument.", 14 + 4 + 2 * 16, id="every request, without a reason"),
    ],
)
def test_a_task_that_is_refused_in_every_form_costs_few_calls(text: str, most: int) -> None:
    with FaultyServer(faults=[Status(400, text)]) as server:
        results = Task(Echo, llm=LLM("m", base_url=server.base_url, cache=False)).run(str(n) for n in range(300))
        assert results.counts["not_run"] > 240
        assert server.counters.requests <= most  # with the calls in flight when the run was given up


def test_a_schema_refused_without_a_reason_costs_no_row() -> None:
    def refuse(request: Request) -> Any:
        if "tools" in request.head.schema:
            raise BadRequestError("refused", status=400, provider_text="Provider returned error")
        return echo(request)

    texts = [f"row {number}" for number in range(100)]
    transport = FakeTransport(refuse, latency=0.001)
    assert echoes(task_of(transport).run(texts)) == texts
    assert transport.calls <= 100 + 14 + 4


# ── endpoints that are down for a while ──


class Down(FakeTransport):
    """Fails for some seconds after its first answers."""

    def __init__(self, error: Exception, seconds: float, answers: int = 20) -> None:
        super().__init__(echo, latency=0.002)
        self._error, self._seconds, self._left = error, seconds, answers
        self._until = 0.0
        self.failed = 0

    async def asend(self, request: Request) -> Completion:
        self._left -= 1
        if self._left == 0:
            self._until = time.monotonic() + self._seconds
        if self._left <= 0 and time.monotonic() < self._until:
            self.failed += 1
            raise self._error
        return await super().asend(request)


@pytest.mark.parametrize("answers", [1, 20], ids=["from the start", "after some answers"])
@pytest.mark.parametrize(
    "error",
    [NetworkError("refused"), ServerError("overloaded", status=503), ServerError("oops", status=500)],
    ids=["refused", "503", "500"],
)
def test_an_outage_loses_no_row(error: Exception, answers: int) -> None:
    transport = Down(error, seconds=1.5, answers=answers)
    retry = Retry(attempts=4, backoff=0.01, cap=0.1)  # a single row would be given up after half a second
    task = Task(Echo, llm=LLM(transport=transport, cache=False, retry=retry))
    texts = [f"row {number}" for number in range(200)]
    results = task.run(texts, concurrency=16)
    assert results.counts == {"ok": 200}
    assert transport.failed <= 2 * 16 + 8, "while it lasts, one call at a time"


def test_an_outage_that_lasts_ends_the_run() -> None:
    transport = Down(NetworkError("refused"), seconds=60)
    retry = Retry(give_up_after=1.2)
    results = Task(Echo, llm=LLM(transport=transport, cache=False, retry=retry)).run(
        [f"row {number}" for number in range(200)], concurrency=16
    )
    assert results.counts["not_run"] >= 140
    assert results.counts["ok"] == 19
    assert "did not recover: refused" in results.errors[-1].message
    assert transport.failed <= 2 * 16 + 4


def test_a_wait_that_is_too_long_ends_the_run() -> None:
    error = RateLimitError("come back in 1157 days", retry_after=99_999_999.0, status=429)
    transport = FakeTransport(error, latency=0.002)
    results = Task(Echo, llm=LLM(transport=transport, cache=False)).run([f"row {number}" for number in range(100)])
    assert transport.calls <= 20
    assert results.counts["not_run"] >= 80
    assert "come back in 1157 days" in results.errors[-1].message


# ── runs that are given up ──


@pytest.mark.parametrize("how", ["close", "forget", "break"])
def test_an_abandoned_stream_closes_everything(how: str) -> None:
    closed = threading.Event()

    def rows() -> Iterator[str]:
        try:
            for number in itertools.count():
                yield f"row {number}"
        finally:
            closed.set()

    transport = FakeTransport(echo, latency=0.001, keep_requests=False)
    task = task_of(transport)
    stream = task.stream(rows(), concurrency=8)
    for _ in stream:
        break
    if how == "close":
        stream.close()
    del stream, _
    gc.collect()
    assert closed.wait(10)
    calls = transport.calls
    time.sleep(0.03)
    assert transport.calls == calls
    assert (task.llm.rate_limiter.in_flight, task.llm.rate_limiter.waiting, transport.in_flight) == (0, 0, 0)
    assert echoes(task.run(["again"])) == ["again"]


def test_a_stream_can_be_abandoned_while_its_source_is_slow() -> None:
    closed, go_on = threading.Event(), threading.Event()

    def rows() -> Iterator[str]:
        try:
            yield "row 0"
            go_on.wait(30)
            yield "row 1"
        finally:
            closed.set()

    stream = task_of(FakeTransport(echo)).stream(rows())
    assert next(stream).input == "row 0"
    stream.close()
    assert not closed.is_set(), "the next row is not waited for"
    go_on.set()
    assert closed.wait(10), "its generator is closed when it gives its next row"


def test_a_stream_may_be_forgotten_in_the_loop_itself() -> None:
    """The garbage collector may run in any thread."""
    closed = threading.Event()

    def rows() -> Iterator[str]:
        try:
            for number in itertools.count():
                yield f"row {number}"
        finally:
            closed.set()

    task = task_of(FakeTransport(echo))
    streams = [task.stream(rows(), concurrency=2)]
    next(streams[0])

    async def forget() -> None:
        streams.clear()

    portal().call(forget())
    assert closed.wait(10)
    assert echoes(task.run(["again"])) == ["again"]


def test_a_cancelled_run_leaves_nothing_behind() -> None:
    transport = FakeTransport(echo, latency=30)
    task = task_of(transport)

    async def story() -> None:
        run = asyncio.create_task(task.arun([f"row {number}" for number in range(100)], concurrency=8))
        for _ in range(2000):
            if transport.in_flight:
                break
            await asyncio.sleep(0.001)
        assert transport.in_flight
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(story())
    assert (task.llm.rate_limiter.in_flight, task.llm.rate_limiter.waiting, transport.in_flight) == (0, 0, 0)


def test_a_run_with_a_deadline_of_its_own() -> None:
    task = task_of(FakeTransport(echo, latency=30))

    async def story() -> None:
        async with asyncio.timeout(0.05):
            await task.arun(["a", "b"])

    with pytest.raises(TimeoutError):
        asyncio.run(story())
    assert task.llm.rate_limiter.in_flight == 0


INTERRUPTED = """
import os, signal, sys, threading, time
from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.testing import FakeTransport

class Echo(Signature):
    "Repeat the text."
    text: str = InputField()
    echo: str = OutputField()

class Slow(FakeTransport):
    async def asend(self, request):
        if self.calls == 40:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        return await super().asend(request)

def rows():
    for number in range(1_000_000):
        if number and number % 200 == 0 and "slow" in sys.argv:
            time.sleep(300)
        yield f"row {number}"

transport = Slow({"echo": "x"}, latency=0.002)
task = Task(Echo, llm=LLM(transport=transport, cache=True))
seen = 0
try:
    if "run" in sys.argv:
        task.run([f"row {number}" for number in range(100_000)])
    else:
        for item in task.stream(rows()):
            seen += 1
except KeyboardInterrupt:
    print("interrupted", transport.in_flight, task.llm.rate_limiter.in_flight)
    print(len(task.run([f"row {number}" for number in range(20)])))
"""


@pytest.mark.parametrize("form", ["run", "slow"])
def test_control_c_ends_a_run_in_order(form: str) -> None:
    done = programs.run("-c", INTERRUPTED, form)  # not even a source that sleeps for minutes is waited for
    assert done.stderr == ""
    assert done.stdout.split() == ["interrupted", "0", "0", "20"]
    assert done.returncode == 0


# ── errors in the set-up, and in llmtasker ──


@pytest.mark.parametrize("ordered", [False, True])
def test_a_worker_that_fails_ends_the_run_at_once(ordered: bool) -> None:
    asked: list[Any] = []

    class Fails:
        size = 1

        def look(self, rows: Sequence[Any]) -> Steps[list[Any]]:
            raise AssertionError("one row is not looked up ahead")

        def steps(self, rows: Sequence[Any]) -> Steps[list[Item[Any]]]:
            yield Wait(0)
            asked.extend(rows)
            if 20 in rows:
                raise ConfigurationError("there is no such model")
            return [Item(input=given, output=given) for given in rows]

    async def story() -> list[Any]:
        came: list[Any] = []
        run: Run[Any] = Run(transport=FakeTransport(), store=None, concurrency=4, window=32, ordered=ordered)
        with pytest.raises(ConfigurationError, match="no such model"):
            await take_all(run, came)
        assert len(asyncio.all_tasks()) == 1
        return came

    async def take_all(run: Run[Any], came: list[Any]) -> None:
        async with asyncio.timeout(20):
            async for batch in run.batches(Fails(), Feed(iter(range(10_000_000)))):
                came += [item.input for item in batch]

    came = asyncio.run(story())
    assert set(range(17)) <= set(came), "what is done is given out first"
    assert 20 not in came
    assert len(asked) < 200


def test_a_set_up_that_is_wrong_is_raised() -> None:
    class Wrong(FakeTransport):
        endpoint = property(lambda self: (_ for _ in ()).throw(ConfigurationError("no key")))  # type: ignore[assignment]

        def __init__(self) -> None:
            pass

    task = Task(Echo, llm=LLM(transport=Wrong(), cache=False))
    with pytest.raises(ConfigurationError, match="no key"):
        task.run(["a", "b"])


def test_a_fault_of_ours_costs_its_row_only() -> None:
    class Faulty(Echo):
        """Repeat the text."""

        @classmethod
        def validate_input(cls, given: Any) -> Any:
            if given == "bad":
                raise KeyError("a fault of ours")
            return super().validate_input(given)

    task = Task(Faulty, llm=LLM(transport=FakeTransport(echo), cache=False))
    results = task.run(["good", "bad", "fine"])
    assert [item.ok for item in results] == [True, False, True]
    assert "please report it: KeyError" in results.errors[0].message
    assert results[1].input == "bad"


def test_a_validator_that_exits_ends_the_run_and_not_the_ones_after_it() -> None:
    class Exits(Echo):
        """Repeat the text."""

        def model_post_init(self, context: Any) -> None:
            if self.text == "exit":
                sys.exit(3)

    task = Task(Exits, llm=LLM(transport=FakeTransport(echo), cache=False))
    for _ in range(2):
        with pytest.raises(SystemExit):
            task.run(["a", "exit", "b"])
        with pytest.raises(SystemExit):
            list(task.stream(["a", "exit", "b"]))
        assert [item.ok for item in task.run(["a", "b"])] == [True, True]


# ── the parts ──


def test_a_feed_gives_numbered_rows_and_remembers_its_end() -> None:
    async def story() -> None:
        feed = Feed(iter("abcde"))
        assert feed.total is None
        assert await feed.take(2) == [(0, "a"), (1, "b")]
        assert await feed.take(9) == [(2, "c"), (3, "d"), (4, "e")]
        assert await feed.take(9) == []
        assert feed.failure is None
        await feed.close()
        assert Feed(["a", "b"]).total == 2

    asyncio.run(story())


def test_a_row_may_be_none() -> None:
    """None is an input like any other: it doesn't fit, and does not end the run."""
    results = task_of(FakeTransport(echo)).run([None, "a", None, "b"])
    assert echoes(results) == [None, "a", None, "b"]
    assert results.counts == {"ok": 2, "input": 2}


def test_without_an_event_loop_of_asyncio_the_awaitable_forms_say_so() -> None:
    task = task_of(FakeTransport(echo))
    for coroutine in (task.acall("a"), task.arun(["a"])):  # neither is awaited: there is no loop
        with pytest.raises(ConfigurationError, match="asyncio event loop"):
            coroutine.send(None)
        coroutine.close()
