"""AsyncStore: gives event loops access to a store; one thread does the disk work, in batches."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple

from llmtasker.cache.process import reset_in_child
from llmtasker.cache.shared import Shared
from llmtasker.cache.store import LEASE, CompleteStore, MemoryCache

_Operation = Literal["get", "put", "lease", "release"]
_OPERATIONS: tuple[_Operation, ...] = ("get", "put", "lease", "release")
_MOST = 1000  # requests per batch: a transaction must not hold the lock for long
_IN_A_ROW = 32  # look-ups in the event loop itself before it yields to other tasks: some milliseconds


class _StoreCall(NamedTuple):
    kind: _Operation
    keys: Sequence[str]
    value: Any
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class AsyncStore:
    """Awaitable access to a store from any event loop, without blocking it and without a thread hop per row.

    A look-up that does not block runs in the event loop. A thread does everything else: requests that arrive while it
    is busy become its next batch, with one look-up, one transaction, and one wake-up of each loop. The thread starts
    on demand and ends after `idle` seconds without work.
    """

    def __init__(self, store: CompleteStore, *, idle: float = 5.0) -> None:
        self.store = store
        self.idle = idle
        self._in_a_row = 0
        self._instant = type(store) is MemoryCache  # which does not need a thread
        self.after_fork()
        reset_in_child(self)

    def after_fork(self) -> None:
        """Reset in a forked child: the thread and its waiters stay with the parent."""
        self._calls: queue.SimpleQueue[_StoreCall | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running = False

    async def get_many(self, keys: Sequence[str]) -> Sequence[str | None]:
        """Return the text of each key, or None if there is none."""
        if len(keys) == 1:
            self._in_a_row = (self._in_a_row + 1) % _IN_A_ROW
            if not self._in_a_row:
                await asyncio.sleep(0)
            with contextlib.suppress(BlockingIOError):
                return [self.store.get_at_once(keys[0])]
        texts: Sequence[str | None] = await self._ask("get", keys)
        return texts

    def put_many(self, entries: Sequence[tuple[str, str]]) -> asyncio.Future[Any]:
        """Store texts by key; they are written when the future is done."""
        return self._ask("put", [key for key, _ in entries], entries)

    def lease_many(self, keys: Sequence[str], *, seconds: float = LEASE) -> asyncio.Future[Sequence[bool]]:
        """Return for each key whether the caller may ask; also True if the store has no leases."""
        return self._ask("lease", keys, seconds)

    def release_many(self, keys: Sequence[str]) -> asyncio.Future[Any]:
        """End leases."""
        return self._ask("release", keys)

    def close(self) -> None:
        """End the thread after its pending work; the store stays open. The next use starts another thread."""
        with self._lock:
            if self._running:
                self._calls.put(None)

    def _ask(self, kind: _Operation, keys: Sequence[str], value: Any = None) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        call = _StoreCall(kind, keys, value, loop, future)
        if self._instant:
            _resolve([(future, self._safely(kind, [call])[0])])
            return future
        self._calls.put(call)
        # After the put: a thread that ends looks at the queue under this lock.
        with self._lock:
            if not self._running:
                threading.Thread(target=self._work, name="llmtasker-cache", daemon=True).start()
                self._running = True
        return future

    def _work(self) -> None:
        calls = self._calls  # the queue of this process: a forked child has its own
        while True:
            taken: list[_StoreCall | None] = []
            with contextlib.suppress(queue.Empty):
                taken.append(calls.get(timeout=self.idle))
                while len(taken) < _MOST:
                    taken.append(calls.get_nowait())
            if batch := [call for call in taken if call is not None]:
                self._do(batch)
            if len(batch) == len(taken) and batch:
                continue
            with self._lock:
                if calls.empty():
                    self._running = False
                    return

    def _do(self, batch: list[_StoreCall]) -> None:
        done: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
        for kind in _OPERATIONS:
            calls = [call for call in batch if call.kind == kind]
            if not calls:
                continue
            for call, answer in zip(calls, self._safely(kind, calls), strict=True):
                done.setdefault(call.loop, []).append((call.future, answer))
        for loop, answered in done.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed: there is no waiter
                loop.call_soon_threadsafe(_resolve, answered)

    def _safely(self, kind: _Operation, calls: Sequence[_StoreCall]) -> Sequence[Any]:
        try:
            return self._answers(kind, calls)
        except BaseException as error:  # noqa: BLE001  if this thread died, all callers would wait forever
            # Usually a warning that a filter turned into an error; callers get it as if they had no thread between.
            return [_Raised(error)] * len(calls)

    def _answers(self, kind: _Operation, calls: Sequence[_StoreCall]) -> Sequence[Any]:
        keys = [key for call in calls for key in call.keys]
        answers: Sequence[Any]
        if kind == "get":
            answers = self.store.get_many(keys)
        elif kind == "lease":
            answers = self.store.lease_many(keys, seconds=max(call.value for call in calls))
        elif kind == "put":
            self.store.put_many([entry for call in calls for entry in call.value])
            return [None] * len(calls)
        else:
            self.store.release_many(keys)
            return [None] * len(calls)
        given = iter(answers)
        return [list(islice(given, len(call.keys))) for call in calls]


class _Raised(NamedTuple):
    error: BaseException


def _resolve(answered: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, answer in answered:
        if future.done():
            continue  # the waiter was cancelled
        if isinstance(answer, _Raised):
            future.set_exception(answer.error)
        else:
            future.set_result(answer)


_by_store: Shared[AsyncStore] = Shared()


def async_store(store: CompleteStore) -> AsyncStore:
    """Return the only AsyncStore of a store; keep a reference as long as it is used."""
    return _by_store.get(id(store), lambda: AsyncStore(store))
