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
from dataclasses import dataclass
from typing import Any, TypeVar

from llmtasker.completion import Completion, Request, Transport
from llmtasker.door import door
from llmtasker.errors import CallError, CallTimeoutError, ItemError, snippet
from llmtasker.store import Guard, Store

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Look:
    """Ask the cache for a key; sent back: a Completion or None."""

    key: str


@dataclass(frozen=True, slots=True)
class Keep:
    """Store a completion."""

    key: str
    completion: Completion


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for some seconds, or until a future is done; sent back: the future's result."""

    hold: float | Future[Any]


@dataclass(frozen=True, slots=True)
class Send:
    """Make a call; sent back: the Completion."""

    request: Request


Step = Look | Keep | Wait | Send
Steps = Generator[Step, Any, R]


def run_blocking(
    steps: Steps[R], transport: Transport, store: Store | None, sleep: Callable[[float], object] = time.sleep
) -> R:
    """Drive a generator of steps in this thread and return its result."""
    guard = None if store is None else Guard(store)
    advance: Callable[[Any], Step] = steps.send
    came: Any = None
    try:
        while True:
            step = advance(came)
            advance = steps.send
            if type(step) is Send:
                try:
                    came = transport.send(step.request)
                except Exception as error:  # noqa: BLE001 - a transport may be anybody's
                    advance, came = steps.throw, _as_item_error(error)
            elif type(step) is Wait:
                came = step.hold.result() if isinstance(step.hold, Future) else sleep(step.hold)
            elif type(step) is Look:
                came = _completion(guard.get(step.key)) if guard else None
            elif type(step) is Keep:
                came = None
                if guard:
                    guard.put(step.key, step.completion.to_json())
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        steps.close()


async def run_awaiting(steps: Steps[R], transport: Transport, store: Store | None) -> R:
    """Drive a generator of steps in the running event loop and return its result."""
    disk = None if store is None else door(store)
    advance: Callable[[Any], Step] = steps.send
    came: Any = None
    try:
        while True:
            step = advance(came)
            advance = steps.send
            if type(step) is Send:
                try:
                    async with asyncio.timeout(step.request.settings.timeout):
                        came = await transport.asend(step.request)
                except TimeoutError:
                    late = CallTimeoutError(f"no whole answer came within {step.request.settings.timeout:g} s")
                    advance, came = steps.throw, late
                except Exception as error:  # noqa: BLE001 - a transport may be anybody's
                    advance, came = steps.throw, _as_item_error(error)
            elif type(step) is Wait:
                waiting = (
                    asyncio.sleep(step.hold) if isinstance(step.hold, float | int) else asyncio.wrap_future(step.hold)
                )
                came = await waiting
            elif type(step) is Look:
                came = _completion(await disk.get(step.key)) if disk else None
            elif type(step) is Keep:
                came = None
                if disk:
                    await disk.put(step.key, step.completion.to_json())
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        steps.close()


def _completion(text: str | None) -> Completion | None:
    try:
        return None if text is None else Completion.from_json(text)
    except ValueError:
        return None  # written by something else: a miss, and soon written anew


def _as_item_error(error: Exception) -> ItemError:
    if isinstance(error, ItemError):
        return error
    return CallError(f"the transport failed: {type(error).__name__}: {snippet(error)}")
