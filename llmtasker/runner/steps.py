"""Steps: what a generator without I/O asks for, and the two drivers that do it.

The generator yields steps (look up, keep, wait, send), is sent what came of each or thrown an error, and
returns its result. Only the drivers wait or touch disk and network, so a policy is written once, and
blocking and awaiting callers cannot drift apart.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from llmtasker.cache.async_store import AsyncStore
from llmtasker.cache.store import CompleteStore
from llmtasker.errors import CallError, CallTimeoutError, ItemError, LLMTaskerError, snippet
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Request, Transport

R = TypeVar("R")

LEASE = 600.0  # seconds; of a process that is gone, a lease ends at once


class Look(NamedTuple):
    """Ask the cache for a key; sent back: a Completion or None."""

    key: str


class Keep(NamedTuple):
    """Store a completion."""

    key: str
    completion: Completion


class Lease(NamedTuple):
    """Take the right to ask for a key, before other processes; sent back: False if another has it."""

    key: str


class Release(NamedTuple):
    """Give the right to ask for a key back; Keep does so as well."""

    key: str


class Wait(NamedTuple):
    """Wait for some seconds, or until a future is done; sent back: the future's result."""

    hold: float | Future[Any]


class Send(NamedTuple):
    """Make a call; sent back: the Completion."""

    request: Request


Step = Look | Keep | Lease | Release | Wait | Send
Steps = Generator[Step, Any, R]


CacheStep = Look | Keep | Lease | Release


class _Cache:
    """Does the steps that concern a store, in this thread; without a store, everything is a miss."""

    def __init__(self, store: CompleteStore | None) -> None:
        self._store = store
        self._held: set[str] = set()
        self._unreadable: set[str] = set()

    def do(self, step: CacheStep) -> Any:
        store = self._store
        if store is None:
            return True if isinstance(step, Lease) else None
        if isinstance(step, Look):
            return self._found(step.key, store.get(step.key))
        if isinstance(step, Lease):
            if step.key in self._unreadable:
                return True
            self._held.add(step.key)
            return self._taken(step.key, store.lease_many([step.key], seconds=LEASE)[0])
        if isinstance(step, Keep):
            self._held.discard(step.key)
            store.put(step.key, step.completion.to_json())
        elif step.key in self._held:
            self._held.discard(step.key)
            store.release_many([step.key])
        return None

    def _found(self, key: str, text: str | None) -> Completion | None:
        completion = _completion(text)
        if completion is None and text is not None:
            # The store has an answer that another version wrote: to the lease that is a miss as well.
            self._unreadable.add(key)
        return completion

    def _taken(self, key: str, taken: bool) -> bool:
        if not taken:
            self._held.discard(key)
        return taken

    def leave(self) -> None:
        """Give back what a generator that was left in the middle still holds."""
        if self._store is not None and self._held:
            self._store.release_many(list(self._held))


class _AwaitedCache(_Cache):
    """Does the steps that concern a store without blocking the event loop."""

    def __init__(self, store: AsyncStore | None) -> None:
        super().__init__(None)
        self._awaited = store

    async def ado(self, step: CacheStep) -> Any:
        store = self._awaited
        if store is None:
            return True if isinstance(step, Lease) else None
        if isinstance(step, Look):
            return self._found(step.key, await store.get(step.key))
        if isinstance(step, Lease):
            if step.key in self._unreadable:
                return True
            # Held from here on: who is cancelled while it waits has perhaps got it, and must give it back.
            self._held.add(step.key)
            return self._taken(step.key, await store.lease(step.key, seconds=LEASE))
        if isinstance(step, Keep):
            self._held.discard(step.key)
            await store.put(step.key, step.completion.to_json())
        elif step.key in self._held:
            self._held.discard(step.key)
            await store.release(step.key)
        return None

    def leave(self) -> None:
        """Give back what is still held, without waiting for it."""
        if self._awaited is not None:
            for key in self._held:
                self._awaited.release_later(key)


def run_blocking(
    steps: Steps[R], transport: Transport, store: CompleteStore | None, sleep: Callable[[float], object] = time.sleep
) -> R:
    """Drive a generator of steps in this thread and return its result."""
    cache = _Cache(store)
    advance: Callable[[Any], Step] = steps.send
    came: Any = None
    try:
        while True:
            step = advance(came)
            advance = steps.send
            if isinstance(step, Send):
                try:
                    came = transport.send(step.request)
                except Exception as error:  # noqa: BLE001 - a transport may be anybody's
                    advance, came = steps.throw, _as_item_error(error, step.request)
            elif isinstance(step, Wait):
                came = _result(step.hold) if isinstance(step.hold, Future) else sleep(step.hold)
            else:
                came = cache.do(step)
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        steps.close()
        cache.leave()


_at_work: dict[asyncio.AbstractEventLoop, int] = {}
"""How many drivers are under way in each event loop."""


def _result(future: Future[Any]) -> Any:
    """Wait for what another call gives, unless that one may be standing still because of this wait."""
    if not future.done() and _at_work and _running_loop() in _at_work:
        raise RuntimeError(
            "a blocking call has to wait for others that are under way in the event loop of this thread, and would "
            "stop them for ever: await the async form (acall, arun, astream)"
        )
    return future.result()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def run_awaiting(steps: Steps[R], transport: Transport, store: AsyncStore | None) -> R:
    """Drive a generator of steps in the running event loop and return its result."""
    cache = _AwaitedCache(store)
    advance: Callable[[Any], Step] = steps.send
    came: Any = None
    loop = asyncio.get_running_loop()
    _at_work[loop] = _at_work.get(loop, 0) + 1
    try:
        while True:
            step = advance(came)
            advance = steps.send
            if isinstance(step, Send):
                try:
                    async with asyncio.timeout(step.request.settings.timeout):
                        came = await transport.asend(step.request)
                except asyncio.CancelledError as error:
                    if (task := asyncio.current_task()) is None or task.cancelling():
                        raise
                    # Nobody cancelled this task: it is how the transport failed.
                    advance, came = steps.throw, _as_item_error(error, step.request)
                except Exception as error:  # noqa: BLE001 - a transport may be anybody's
                    advance, came = steps.throw, _as_item_error(error, step.request)
            elif isinstance(step, Wait):
                hold = step.hold
                came = await (asyncio.wrap_future(hold) if isinstance(hold, Future) else asyncio.sleep(hold))
            else:
                came = await cache.ado(step)
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        steps.close()
        cache.leave()
        _at_work[loop] -= 1
        if not _at_work[loop]:
            del _at_work[loop]


def _completion(text: str | None) -> Completion | None:
    if text is None:
        return None
    return _read_again(text) if len(text) <= _SHORT else _read(text)


def _read(text: str) -> Completion | None:
    try:
        return Completion.from_json(text)
    except ValueError:
        return None  # another version wrote it: a miss, and soon written again


_SHORT = 4_000  # characters of what is remembered: long answers would stay in memory for little
_read_again = lru_cache(maxsize=512)(_read)  # equal rows have equal answers


def _as_item_error(error: BaseException, request: Request) -> ItemError:
    if isinstance(error, ItemError):
        return error
    if isinstance(error, LLMTaskerError):
        raise error  # the set-up is wrong, or a test: that is no matter of this row
    if isinstance(error, TimeoutError):
        return CallTimeoutError(f"no whole answer came within {request.settings.timeout:g} s")
    return CallError(f"the transport failed: {type(error).__name__}: {snippet(error)}")
