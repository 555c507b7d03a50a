"""run_awaiting: the driver that performs the steps of a generator in an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from llmtasker.cache.async_store import AsyncStore
from llmtasker.errors import ItemError
from llmtasker.runner.slots import Rest
from llmtasker.runner.steps import (
    LEASE,
    Keep,
    KeyState,
    Lease,
    Look,
    Send,
    Step,
    Steps,
    Wait,
    as_item_error,
    at_work,
    without_store,
)
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Request, Transport

R = TypeVar("R")


async def run_awaiting(
    steps: Steps[R],
    transport: Transport,
    store: AsyncStore | None,
    rest: Rest = asyncio.sleep,
) -> R:
    """Run a generator of steps in the running event loop and return its result; `rest` waits before a retry."""
    known = KeyState()
    advance: Callable[[Any], Step] = steps.send
    reply: Any = None
    loop = asyncio.get_running_loop()
    at_work.append(loop)
    try:
        while True:
            step = advance(reply)
            advance, reply = steps.send, None
            if isinstance(step, Send):
                try:
                    reply = await _send(transport, step.request)
                except ItemError as error:
                    advance, reply = steps.throw, error
            elif isinstance(step, Wait):
                reply = await _wait(step, rest)
            elif store is None:
                reply = without_store(step)
            elif isinstance(step, Look):
                texts = await store.get_many(step.keys)
                reply = texts if texts.count(None) == len(texts) else known.read(step, texts)
            elif isinstance(step, Lease):
                wanted = known.wanted(step)
                reply = known.taken(step, wanted, await store.lease_many(wanted, seconds=LEASE))
            elif isinstance(step, Keep):
                await store.put_many([(key, completion.to_json()) for key, completion in step.entries])
                known.leases.difference_update(key for key, _ in step.entries)
            elif given_back := known.leases.intersection(step.keys):
                await store.release_many(list(given_back))
                known.leases -= given_back
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        steps.close()
        if store is not None and known.leases:
            store.release_many(list(known.leases))  # not awaited: the caller may be being cancelled
        at_work.remove(loop)


async def _wait(step: Wait, rest: Rest) -> Any:
    if isinstance(step.hold, Future):
        return await asyncio.wrap_future(step.hold)
    return await (rest if step.rests else asyncio.sleep)(step.hold)


async def _send(transport: Transport, request: Request) -> Completion:
    try:
        async with asyncio.timeout(request.settings.timeout):
            return await transport.asend(request)
    except asyncio.CancelledError as error:
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise
        # This task was not cancelled: the transport failed in this way.
        raise as_item_error(error, request) from error
    except Exception as error:  # noqa: BLE001 - the transport may be the user's
        raise as_item_error(error, request) from None
