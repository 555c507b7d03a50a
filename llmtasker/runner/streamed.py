"""streamed, astreamed: the items of a run one by one, for callers that iterate."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import TypeVar

from llmtasker.item import Item

T = TypeVar("T")


def streamed(batches: AsyncGenerator[list[Item[T]]]) -> Iterator[Item[T]]:
    """Yield the items of a run that continues in the event loop of another thread."""
    from llmtasker.portal import portal

    door = portal()
    try:
        while (batch := door.call(_next(batches))) is not None:
            yield from batch
    finally:
        door.clean_up(batches.aclose)


async def astreamed(batches: AsyncGenerator[list[Item[T]]]) -> AsyncIterator[Item[T]]:
    """Yield the items of a run in the running event loop."""
    async with aclosing(batches):
        async for batch in batches:
            for item in batch:
                yield item


async def _next(batches: AsyncGenerator[list[Item[T]]]) -> list[Item[T]] | None:
    return await anext(batches, None)
