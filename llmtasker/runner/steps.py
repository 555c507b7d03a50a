"""Steps: the I/O that a generator requests, and the driver that performs it for a blocking caller.

A generator yields steps (look up, keep, wait, send), receives the result of each, or an error, and returns its own
result. Only the drivers wait or use disk and network, so a policy is written once, for blocking and for awaiting
callers; the driver of the latter is in `awaiting`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from llmtasker.cache.store import CompleteStore
from llmtasker.errors import CallError, CallTimeoutError, ItemError, LLMTaskerError, snippet
from llmtasker.wire.completion import Completion
from llmtasker.wire.echo import without_echo
from llmtasker.wire.request import Request, Transport

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

R = TypeVar("R")

LEASE = 600.0  # seconds; the lease of a process that has ended ends at once


class Look(NamedTuple):
    """Look up keys in the cache; sent back: a Completion or None for each."""

    keys: Sequence[str]


class Keep(NamedTuple):
    """Store completions by key."""

    entries: Sequence[tuple[str, Completion]]


class Lease(NamedTuple):
    """Take the right to ask for keys, before other processes; sent back for each: False if another process has it."""

    keys: Sequence[str]


class Release(NamedTuple):
    """Return the right to ask for keys; Keep does so too."""

    keys: Sequence[str]


class Wait(NamedTuple):
    """Wait for some seconds, or until a future is done; sent back: the future's result.

    `rests` means that other rows need not wait too: they may take the place of this one.
    """

    hold: float | Future[Any]
    rests: bool = False


class Send(NamedTuple):
    """Make a call; sent back: the Completion.

    `places` are those of its inputs among the inputs of the generator; None: it is for all of them.
    """

    request: Request
    places: tuple[int, ...] | None = None


Step = Look | Keep | Lease | Release | Wait | Send
Steps = Generator[Step, Any, R]


class KeyState:
    """What a driver knows of the keys of its generator: its leases, and answers that can't be read."""

    __slots__ = ("_unreadable", "leases")

    def __init__(self) -> None:
        self.leases: set[str] = set()
        self._unreadable: set[str] = set()  # another version wrote these answers: a miss, for leases too

    def read(self, step: Look, texts: Sequence[str | None]) -> list[Completion | None]:
        """Return the completions in what the store has for the keys of a look-up."""
        completions = [None if text is None else read_stored(text) for text in texts]
        found = zip(step.keys, texts, completions, strict=True)
        self._unreadable.update(key for key, text, one in found if text is not None and one is None)
        return completions

    def wanted(self, step: Lease) -> list[str]:
        """Return the keys to lease; they count as held before the call, because an interrupt may follow the grant."""
        wanted = [key for key in step.keys if key not in self._unreadable]
        self.leases.update(wanted)
        return wanted

    def taken(self, step: Lease, wanted: Sequence[str], granted: Sequence[bool]) -> list[bool]:
        """Return for each key of a lease whether the caller may ask."""
        taken = dict(zip(wanted, granted, strict=True))
        self.leases.difference_update(key for key in wanted if not taken[key])
        return [taken.get(key, True) for key in step.keys]


def run_blocking(
    steps: Steps[R], transport: Transport, store: CompleteStore | None, sleep: Callable[[float], object] = time.sleep
) -> R:
    """Run a generator of steps in this thread and return its result; without a store, every key is a miss."""
    known = KeyState()
    advance: Callable[[Any], Step] = steps.send
    reply: Any = None
    try:
        while True:
            step = advance(reply)
            advance, reply = steps.send, None
            if isinstance(step, Send):
                try:
                    reply = transport.send(step.request)
                except Exception as error:  # noqa: BLE001 - the transport may be the user's
                    advance, reply = steps.throw, as_item_error(error, step.request)
            elif isinstance(step, Wait):
                reply = _result(step.hold) if isinstance(step.hold, Future) else sleep(step.hold)
            elif store is None:
                reply = without_store(step)
            elif isinstance(step, Look):
                texts = store.get_many(step.keys)
                reply = texts if texts.count(None) == len(texts) else known.read(step, texts)
            elif isinstance(step, Lease):
                wanted = known.wanted(step)
                reply = known.taken(step, wanted, store.lease_many(wanted, seconds=LEASE))
            elif isinstance(step, Keep):
                store.put_many([(key, completion.to_json()) for key, completion in step.entries])
                known.leases.difference_update(key for key, _ in step.entries)
            elif given_back := known.leases.intersection(step.keys):
                store.release_many(list(given_back))
                known.leases -= given_back
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        steps.close()
        if store is not None and known.leases:
            store.release_many(list(known.leases))


def without_store(step: Step) -> Any:
    """Return the result of a step of the cache, where there is none."""
    if isinstance(step, Lease):
        return [True] * len(step.keys)
    return [None] * len(step.keys) if isinstance(step, Look) else None


at_work: list[AbstractEventLoop] = []
"""The event loop of each active driver."""


def _result(future: Future[Any]) -> Any:
    """Wait for the result of another call, unless this wait may block that call."""
    if not future.done() and at_work and _runs_driver():
        raise RuntimeError(
            "a blocking call has to wait for others that are under way in the event loop of this thread, and would "
            "stop them forever: await the async form (acall, arun, astream)"
        )
    return future.result()


def _runs_driver() -> bool:
    """Return whether an awaiting driver is active in the running event loop of this thread."""
    import asyncio  # loaded then; a process of blocking calls needs no event loop

    try:
        return asyncio.get_running_loop() in at_work
    except RuntimeError:
        return False


def _read(text: str) -> Completion | None:
    try:
        return Completion.from_json(text)
    except ValueError:
        return None  # another version wrote it: a miss, soon overwritten


_SHORT = 4_000  # characters; longer answers are not memoized, because they would fill the memory
_read_again = lru_cache(maxsize=512)(_read)  # equal rows have equal answers


def read_stored(text: str) -> Completion | None:
    """Return the completion in a store's text; None if it can't be read."""
    return _read_again(text) if len(text) <= _SHORT else _read(text)


def as_item_error(error: BaseException, request: Request) -> ItemError:
    """Return an exception of a transport as the error of an item; raise it if it affects more than this row."""
    if isinstance(error, ItemError):
        return error
    if isinstance(error, LLMTaskerError):
        raise error  # wrong configuration, or a wrong test: that affects more than this row
    if isinstance(error, TimeoutError):
        return CallTimeoutError(f"no whole answer came within {request.settings.timeout:g} s")
    words = without_echo(str(error)[:2_000], request)
    return CallError(f"the transport failed: {type(error).__name__}: {snippet(words)}")
