"""SafeStore: a user's store that raises or hangs hardly delays a run, and is tried again after growing pauses."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import warnings

import pytest
from cache_warnings import one_warning
from clock import Clock

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.cache import MemoryCache
from llmtasker.cache.backoff import Backoff
from llmtasker.cache.open_cache import open_cache
from llmtasker.cache.safe_store import SafeStore
from llmtasker.testing import FakeTransport

KEY, OTHER = "a" * 64, "b" * 64


class Flaky:
    """A store that fails on request, and counts its calls."""

    def __init__(self) -> None:
        self.down = True
        self.calls = 0

    def get(self, key: str) -> str | None:
        self.calls += 1
        if self.down:
            raise ConnectionError("refused")
        return "{}"

    def put(self, key: str, text: str) -> None:
        self.get(key)


class Hanging:
    """A store whose look-ups block until they are released."""

    def __init__(self) -> None:
        self.calls = 0
        self.go = threading.Event()

    def get(self, key: str) -> str | None:
        self.calls += 1
        self.go.wait(30)
        return "{}"

    def put(self, key: str, text: str) -> None:
        self.get(key)


def test_a_pause_is_twice_as_long_each_time_up_to_ten_minutes() -> None:
    clock = Clock(1000.0)
    backoff = Backoff("The cache", clock=clock)
    lasted = []
    for _ in range(9):
        backoff.failed()
        began = clock.now
        while backoff.lasts:
            clock.now += 5
        lasted.append(clock.now - began)
    assert lasted == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    backoff.worked()
    backoff.failed()
    clock.now += 10
    assert not backoff.lasts


def test_a_store_that_fails_is_left_alone_for_a_while_that_grows() -> None:
    clock, store = Clock(1000.0), Flaky()
    safe = SafeStore(store, clock=clock)
    with one_warning("Flaky failed: ConnectionError: refused"):
        for _ in range(100):
            assert safe.get(KEY) is None
        assert store.calls == 3
        clock.now += 11
        safe.put_many([(KEY, "{}")] * 10)
        assert store.calls == 4
        clock.now += 11
        assert safe.get(KEY) is None
        assert store.calls == 4
        store.down = False
        clock.now += 10
        assert safe.get_many([KEY, OTHER]) == ["{}", "{}"]
        assert store.calls == 6


def test_a_store_that_hangs_is_waited_for_once() -> None:
    clock, store = Clock(1000.0), Hanging()
    safe = SafeStore(store, patience=0.05, clock=clock)
    with one_warning("get has not answered for 0.05 s"):
        for _ in range(50):
            assert safe.get(KEY) is None
            safe.put(KEY, "{}")
            assert safe.lease_many([KEY]) == [True]
    assert store.calls == 1
    store.go.set()
    clock.now += 11
    assert safe.get(KEY) == "{}"


@pytest.mark.parametrize("method", ["get", "get_many", "put_many", "lease_many", "lease", "release_many", "release"])
def test_whatever_hangs_there_is_an_answer(method: str) -> None:
    go = threading.Event()

    class Stuck(MemoryCache):
        def __getattribute__(self, name: str) -> object:
            if name == method:
                go.wait(30)
            return super().__getattribute__(name)

    safe = SafeStore(Stuck(), patience=0.05)
    with one_warning("has not answered"):
        assert safe.get_many([KEY]) == [None]
        safe.put_many([(KEY, "{}")])
        assert safe.lease_many([OTHER]) == [True]
        safe.release_many([OTHER])
        safe.get(KEY)
    go.set()


class Thanks(Signature):
    """Say whether a note is a thank-you."""

    note: str = InputField()
    thanks: bool = OutputField()


@pytest.mark.parametrize("awaited", [False, True])
def test_a_run_over_a_store_that_hangs_comes_to_its_end(awaited: bool) -> None:
    store = Hanging()
    safe = open_cache(store)
    assert isinstance(safe, SafeStore)
    safe.patience = 0.05
    transport = FakeTransport({"thanks": True})
    task = Task(Thanks, llm=LLM(transport=transport, cache=store))
    notes = [f"note {number}" for number in range(20)]
    with one_warning("Hanging failed: get has not answered"):
        items = list(asyncio.run(task.arun(notes))) if awaited else [task(note) for note in notes]
    assert all(item.ok for item in items)
    assert transport.calls == 20
    store.go.set()


def test_a_store_of_the_user_is_completed_once() -> None:
    store = Flaky()
    safe = open_cache(store)
    assert open_cache(store) is safe
    assert safe is not None
    assert open_cache(safe) is safe
    assert repr(safe) == "SafeStore(Flaky)"
    with pytest.raises(BlockingIOError):
        safe.get_at_once(KEY)


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_forked_child_has_threads_of_its_own() -> None:
    store = Flaky()
    store.down = False
    safe = SafeStore(store)
    assert safe.get(KEY) == "{}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os._exit(0 if safe.get(KEY) == "{}" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
