"""Door: the way from event loops to a store: one thread does the disk work, in batches."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llmtasker.cache.store import LEASE, CacheWarning, Guard, Store

_Kind = Literal["get", "put", "lease", "release"]
_KINDS: tuple[_Kind, ...] = ("get", "put", "lease", "release")
_MOST = 1000  # requests in a batch: a transaction must not hold the lock for long


@dataclass(frozen=True, slots=True)
class _Call:
    kind: _Kind
    key: str
    value: Any
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class Door:
    """Awaitable access to a store from any event loop, without blocking it and without a thread hop per row.

    What is asked while the thread is busy becomes its next batch: one look-up, one transaction, one wake-up of each
    loop. The thread starts when it is needed and ends after `idle` seconds without work. A store may have `get` and
    `put` only; whatever it raises is said once, as a CacheWarning, and taken for a miss.
    """

    def __init__(self, store: Store, *, idle: float = 5.0) -> None:
        self.store = store
        self.idle = idle
        self.guard = Guard(store)
        self._start()
        _doors.add(self)

    def _start(self) -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running = self._closing = False

    async def get(self, key: str) -> str | None:
        """Return the text, or None when there is none."""
        text: str | None = await self._ask("get", key)
        return text

    async def put(self, key: str, text: str) -> None:
        """Keep a text; it is written when this returns."""
        await self._ask("put", key, text)

    async def lease(self, key: str, *, seconds: float = LEASE) -> bool:
        """Return whether the caller may ask; True as well when the store knows no leases."""
        taken: bool = await self._ask("lease", key, seconds)
        return taken

    async def release(self, key: str) -> None:
        """End a lease."""
        await self._ask("release", key)

    def let_go(self, key: str) -> None:
        """End a lease without waiting for it, for a caller that is being cancelled."""
        self._ask("release", key)

    def close(self) -> None:
        """Let the thread end when it has done what was asked; the store stays open. The next use starts another."""
        with self._lock:
            if self._running:
                self._closing = True
                self._calls.put(None)

    def after_fork(self) -> None:
        """Start anew in a forked child: the thread, and those who wait for it, are in its parent."""
        self._start()

    def _ask(self, kind: _Kind, key: str, value: Any = None) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._calls.put(_Call(kind, key, value, loop, future))
        # After the put: a thread that ends looks into the queue under this lock.
        with self._lock:
            if not self._running:
                threading.Thread(target=self._work, name="llmtasker-cache", daemon=True).start()
                self._running = True
        return future

    def _work(self) -> None:
        while batch := self._collect():
            self._do(batch)

    def _collect(self) -> list[_Call]:
        """Return what was asked since the last batch; nothing when the thread has to end."""
        first = None
        while first is None:
            with contextlib.suppress(queue.Empty):
                first = self._calls.get(timeout=0 if self._closing else self.idle)
            if first is None:
                with self._lock:
                    if self._calls.empty():
                        self._running = self._closing = False
                        return []
        batch = [first]
        with contextlib.suppress(queue.Empty):
            while len(batch) < _MOST:
                call = self._calls.get_nowait()
                if call is not None:
                    batch.append(call)
        return batch

    def _do(self, batch: list[_Call]) -> None:
        done: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
        for kind in _KINDS:
            calls = [call for call in batch if call.kind == kind]
            if not calls:
                continue
            for call, answer in zip(calls, self._safely(kind, calls), strict=True):
                done.setdefault(call.loop, []).append((call.future, answer))
        for loop, answered in done.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(_resolve, answered)

    def _safely(self, kind: _Kind, calls: Sequence[_Call]) -> Sequence[Any]:
        try:
            try:
                return self._answers(kind, calls)
            except CacheWarning:
                raise
            except BaseException as error:  # noqa: BLE001  without this thread, all who wait would wait for ever
                self.guard.report(error)
                return [True if kind == "lease" else None] * len(calls)
        except CacheWarning as warning:
            # Somebody made errors of warnings: they get here what a call without the thread would raise.
            return [warning] * len(calls)

    def _answers(self, kind: _Kind, calls: Sequence[_Call]) -> Sequence[Any]:
        keys = [call.key for call in calls]
        if kind == "get":
            return self.guard.get_many(keys)
        if kind == "lease":
            return self.guard.lease_many(keys, seconds=max(call.value for call in calls))
        if kind == "put":
            self.guard.put_many([(call.key, call.value) for call in calls])
        else:
            self.guard.release_many(keys)
        return [None] * len(calls)


def _resolve(answered: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, answer in answered:
        if future.done():
            continue  # whoever waited was cancelled
        if isinstance(answer, CacheWarning):
            future.set_exception(answer)
        else:
            future.set_result(answer)


_doors: weakref.WeakSet[Door] = weakref.WeakSet()
# By id: a store need be neither hashable nor comparable. A door keeps its store, so the id stays taken.
_by_store: weakref.WeakValueDictionary[int, Door] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def door(store: Store | Door) -> Door:
    """Return the one door of a store (a door is its own); keep it as long as it is used."""
    if isinstance(store, Door):
        return store
    with _lock:
        found = _by_store.get(id(store))
        if found is None:
            found = _by_store[id(store)] = Door(store)
        return found


def _after_fork() -> None:
    global _lock  # noqa: PLW0603  a thread that is not there in the child may hold the old one
    _lock = threading.Lock()
    for each in list(_doors):
        each.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
