"""Run: workers ask for many inputs, by steps that are passed to the transport and the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from llmtasker.cache.async_store import AsyncStore
from llmtasker.item import Item
from llmtasker.runner.awaiting import run_awaiting
from llmtasker.runner.feed import WaitingRow
from llmtasker.runner.row_run import RowRun
from llmtasker.runner.slots import Rest
from llmtasker.runner.steps import Steps
from llmtasker.wire.request import Transport

R = TypeVar("R")
T = TypeVar("T")


class Worker(Protocol[T]):
    """Asks for up to `size` inputs together: a policy asks for one, a group for several."""

    @property
    def size(self) -> int:
        """The most inputs that `steps` accepts now."""
        ...

    def look(self, rows: Sequence[Any]) -> Steps[list[Any]]:
        """Yield the steps to the item of each input that needs no call, and to the argument of `steps` for others."""
        ...

    def steps(self, rows: Sequence[Any]) -> Steps[list[Item[T]]]:
        """Yield the steps to an item for each input, in order; errors of the input or the endpoint are not raised."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(RowRun[T, Worker[T]]):
    """Passes the steps of a worker to the transport and the store, with at most `concurrency` calls at once."""

    transport: Transport
    store: AsyncStore | None

    def drive(self, steps: Steps[R], rest: Rest = asyncio.sleep) -> Coroutine[Any, Any, R]:
        """Run the steps of a generator in the running event loop, and return its result."""
        return run_awaiting(steps, self.transport, self.store, rest)

    async def known(self, worker: Worker[T], givens: list[Any]) -> list[Any]:
        """Return the item of each input that needs no call, and the argument of `items` for others."""
        return await self.drive(worker.look(givens))

    def items(self, worker: Worker[T], rows: list[WaitingRow], rest: Rest) -> Awaitable[list[Item[T]]]:
        """Return an item for each row, in order."""
        steps = worker.steps([ready for _, _, ready in rows])
        if self.events is not None:
            steps = self.events.watch(steps, [number for number, _, _ in rows])
        return self.drive(steps, rest)
