"""Events: what observers receive, and that no observer can cost a row."""

from __future__ import annotations

import gc
import logging
import pickle
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from llmtasker import LLM, ConfigurationError, InputField, OutputField, Retry, Signature, Task
from llmtasker.errors import RateLimitError
from llmtasker.runner.events import Event, LogObserver
from llmtasker.runner.observers import Observers  # pyright: ignore[reportPrivateUsage]
from llmtasker.testing import FakeTransport, last_user_text
from llmtasker.wire.request import Request


class Echo(Signature):
    """Repeat the text."""

    text: str = InputField()
    echo: str = OutputField()


def echo(request: Request) -> dict[str, Any]:
    return {"echo": last_user_text(request)}


def task_of(answer: Any, *observers: Callable[[Event], object], **settings: Any) -> Task[Echo]:
    llm = LLM(transport=FakeTransport(answer), cache=False, retry=Retry(attempts=3, backoff=0.0, cap=0.0))
    return Task(Echo, llm=llm, observers=observers, **settings)


TEXTS = [f"private text {number}" for number in range(20)]


def test_a_run_is_reported_from_its_start_to_its_end() -> None:
    events: list[Event] = []
    results = task_of(echo, events.append).run(TEXTS, concurrency=4)
    assert [events[0].what, events[-1].what] == ["run_started", "run_ended"]
    assert Counter(event.what for event in events) == Counter(
        {"run_started": 1, "call_started": 20, "call_ended": 20, "item_done": 20, "run_ended": 1}
    )
    assert len({event.run for event in events}) == 1
    done = {event.row: event.item for event in events if event.what == "item_done"}
    assert [done[row] for row in range(20)] == list(results)
    calls = [event for event in events if event.what == "call_ended"]
    assert {event.call for event in calls} == set(range(20))
    assert all(
        event.completion and event.request and event.error is None and event.seconds is not None for event in calls
    )
    assert all(last_user_text(event.request) == TEXTS[event.row or 0] for event in calls if event.request)


def test_a_call_that_fails_and_one_that_is_made_again() -> None:
    events: list[Event] = []
    failed = iter([RateLimitError("slow down", status=429)])

    def answer(request: Request) -> Any:
        for error in failed:
            raise error
        return echo(request)

    item = task_of(answer, observer := events.append)("hello")
    assert item.ok
    del observer
    wait_until(lambda: any(event.what == "item_done" for event in events))
    assert [event.what for event in events] == ["call_started", "call_ended", "call_started", "call_ended", "item_done"]
    assert [type(event.error) for event in events if event.what == "call_ended"] == [RateLimitError, type(None)]
    assert events[-1].item == item


def test_the_calls_of_a_group_name_its_rows() -> None:
    events: list[Event] = []
    texts = [f"{word} is the first word" for word in ("one", "two", "three", "four", "five", "six")]
    task_of(None, events.append, group_size=3).run(texts, concurrency=1)
    rows = [event.rows for event in events if event.what == "call_ended"]
    assert rows == [(0, 1, 2), (3, 4, 5)]
    assert sorted(event.rows for event in events if event.what == "item_done") == [(row,) for row in range(6)]
    assert all(event.row is None for event in events if event.what == "call_ended")


def test_an_observer_that_raises_costs_no_row_and_is_reported_once() -> None:
    def raises(event: Event) -> None:
        raise OSError("the tracer is down")

    events: list[Event] = []
    task = task_of(echo, raises, events.append)
    with pytest.warns(UserWarning, match=r"raises failed: OSError: the tracer is down\. No row was lost") as caught:
        assert all(item.ok for item in task.run(TEXTS))
    assert len(caught) == 1
    assert len(events) == 62, "others are not disturbed"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(item.ok for item in task.run(TEXTS))


def test_an_observer_that_blocks_stalls_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtasker.runner.observers._MOST", 50)
    free = threading.Event()

    def blocks(event: Event) -> None:
        free.wait(60)

    task = task_of(echo, blocks)
    try:
        with pytest.warns(
            UserWarning, match=r"blocks has not taken (50|49) events yet.* 1[12] events were dropped"
        ) as caught:
            assert all(item.ok for item in task.run(TEXTS))
        assert len(caught) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert all(item.ok for item in task.run(TEXTS)), "nobody waits for it again"
    finally:
        free.set()


def test_events_are_delivered_together_or_as_soon_as_somebody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtasker.runner.observers._LATER", 3600.0)
    monkeypatch.setattr("llmtasker.runner.observers._ENOUGH", 10)
    events = list[Event]()
    observers = Observers([events.append])
    for number in range(10):
        observers.publish(Event(what="call_started", when=number, run="run"))
    wait_until(lambda: len(events) == 10)
    observers.publish(Event(what="call_ended", when=10, run="run"))
    observers.flush(20)
    assert [event.when for event in events] == list(range(11))


def test_where_warnings_are_errors_no_row_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    def raises(event: Event) -> None:
        raise SystemExit(3)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(task_of(echo, raises).run(TEXTS)) == 20
    assert "raises failed: SystemExit" in caplog.text


def test_where_nobody_listens_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("an event was made")

    monkeypatch.setattr("llmtasker.runner.events.Event.__init__", never)
    task = task_of(echo)
    assert all(item.ok for item in task.run(TEXTS))
    assert task("hello").ok
    assert not [
        thread for thread in threading.enumerate() if thread.name == "llmtasker-observer" and thread.is_alive()
    ] or (
        task._observers.begin() is None  # pyright: ignore[reportPrivateUsage]
    )


@pytest.mark.parametrize("texts", [False, True])
def test_the_log_has_no_texts_unless_asked_for(caplog: pytest.LogCaptureFixture, texts: bool) -> None:
    caplog.set_level(logging.DEBUG)
    logger = logging.getLogger("own")

    def answer(request: Request) -> Any:
        return "private answer"

    task_of(answer, LogObserver(texts=texts, logger=logger)).run(TEXTS[:2])
    lines = [record.getMessage() for record in caplog.records if record.name == "own"]
    assert any("run_started" in line for line in lines)
    assert any("invalid" in line for line in lines)
    assert any("private" in line for line in lines) == texts


def test_the_logger_of_the_package_at_debug_listens_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    task = task_of(echo)
    with caplog.at_level(logging.DEBUG, logger="llmtasker"):
        task.run(TEXTS)
    lines = [record.getMessage() for record in caplog.records if record.name == "llmtasker"]
    assert sum("call_ended" in line for line in lines) == 20
    assert not [line for line in lines if "private" in line]
    caplog.clear()
    task.run(["quiet"])
    assert not caplog.records


@pytest.mark.parametrize("observer", [3, "log", None])
def test_what_is_not_an_observer(observer: Any) -> None:
    with pytest.raises(ConfigurationError, match="a plain function that takes an Event"):
        task_of(echo, observer)

    async def later(event: Event) -> None: ...

    class Later:
        async def __call__(self, event: Event) -> None: ...

        async def later(self, event: Event) -> None: ...

    for one in (later, Later(), Later().later, partial(later)):
        with pytest.raises(ConfigurationError, match="a plain function"):
            task_of(echo, one)
    with pytest.warns(UserWarning, match="returned a coroutine, which is not awaited"):
        assert all(item.ok for item in task_of(echo, lambda event: later(event) if event else None).run(TEXTS))


def test_an_event_shows_no_text() -> None:
    events: list[Event] = []
    task_of(echo, events.append).run(TEXTS[:2])
    assert "private" not in repr(events)


def test_observers_travel_with_what_can_be_pickled() -> None:
    observers = pickle.loads(pickle.dumps(Observers([LogObserver()])))
    assert observers.begin() is not None
    gc.collect()


def wait_until(done: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(2000):
        if done():
            return
        waiting.wait(0.005)
    raise AssertionError("it did not happen")
