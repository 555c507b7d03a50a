"""Run: workers ask for many inputs, a bounded number at a time; each input becomes an Item."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, cast

from llmtasker.cache.async_store import AsyncStore
from llmtasker.errors import InputError, ItemError, LLMTaskerError, snippet
from llmtasker.item import Item
from llmtasker.runner.circuit_breaker import CircuitBreaker
from llmtasker.runner.events import RunEvents
from llmtasker.runner.feed import Feed
from llmtasker.runner.output_buffer import OutputBuffer
from llmtasker.runner.steps import Steps, run_awaiting
from llmtasker.runner.work_queue import WorkQueue
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
class Run(Generic[T]):
    """Passes the steps of a worker to the transport and the store, with at most `concurrency` calls at once.

    When the `breaker` opens, no further call is made. With a `window`, at most that many rows are read ahead of those
    that the caller has taken, so that memory is constant for any number of inputs. `events` report to observers, if
    there are any.
    """

    transport: Transport
    store: AsyncStore | None
    concurrency: int
    window: int | None = None
    ordered: bool = True
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    tags: Mapping[str, Any] = field(default_factory=dict[str, Any])
    events: RunEvents | None = None

    def drive(self, steps: Steps[R]) -> Coroutine[Any, Any, R]:
        """Run the steps of a generator in the running event loop, and return its result."""
        return run_awaiting(steps, self.transport, self.store)

    async def batches(self, worker: Worker[T], feed: Feed) -> AsyncGenerator[list[Item[T]]]:
        """Yield the items finished since the last batch; in the order of the inputs if `ordered`.

        The feed stays open: another worker may continue with it.
        """
        count = self.concurrency if feed.total is None else min(self.concurrency, feed.total)
        buffer: OutputBuffer[T] = OutputBuffer(self.window, feed.given_out, count)
        queue = WorkQueue()
        tasks = [asyncio.create_task(self._work(worker, feed, queue, buffer)) for _ in range(count)]
        try:
            over = False
            while not over:
                over = buffer.failed or not buffer.workers
                if buffer.done and (batch := buffer.take(ordered=self.ordered)):
                    over = False
                    yield batch
                elif not over:
                    buffer.ready.clear()
                    await buffer.ready.wait()
            for task in tasks:
                if task.done():
                    task.result()
            if feed.failure is not None:
                yield [_broken(feed.failure, feed.given_out, self.tags)]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, worker: Worker[T], feed: Feed, queue: WorkQueue, buffer: OutputBuffer[T]) -> None:
        failed = True
        try:
            while rows := await self._take(worker, feed, queue, buffer):
                items: list[Item[T]]
                if self.breaker.open:
                    items = [Item(input=given, error=self.breaker.error, tags=self.tags) for _, given, _ in rows]
                else:
                    items = await self._items(worker, rows)
                for (number, _, _), item in zip(rows, items, strict=True):
                    self._finish(buffer, number, item)
            failed = False
        finally:
            buffer.worker_ended(failed=failed)

    def _finish(self, buffer: OutputBuffer[T], number: int, item: Item[T]) -> None:
        buffer.done[number] = item
        buffer.ready.set()
        if self.events is not None:
            self.events.done(number, item)

    async def _items(self, worker: Worker[T], rows: list[tuple[int, Any, Any]]) -> list[Item[T]]:
        steps = worker.steps([ready for _, _, ready in rows])
        if self.events is not None:
            steps = self.events.watch(steps, [number for number, _, _ in rows])
        try:
            items: list[Item[T]] = await self.drive(steps)
        except LLMTaskerError:
            raise  # wrong configuration, or a test double reports a wrong test: that concerns all rows
        except Exception as error:  # noqa: BLE001 - a bug of ours must not cost the other rows
            fault = ItemError(f"an error inside llmtasker, please report it: {type(error).__name__}: {snippet(error)}")
            return [Item(input=given, error=fault, tags=self.tags) for _, given, _ in rows]
        return items

    async def _take(
        self, worker: Worker[T], feed: Feed, queue: WorkQueue, buffer: OutputBuffer[T]
    ) -> list[tuple[int, Any, Any]]:
        """Return the next rows: number, input, and the worker's argument for it; none at the end."""
        size = worker.size
        while len(queue.rows) < size and not (queue.rows and buffer.full):
            if buffer.window is not None:
                await buffer.wait_for_space()
            queue.enter()
            try:
                taken = await feed.take(size)
                if taken:
                    buffer.read += len(taken)
                    await self._look(worker, taken, queue, buffer)
            finally:
                queue.leave()
            if not taken:
                await queue.wait_for_readers()
                break
        return queue.take(size)

    async def _look(
        self, worker: Worker[T], taken: list[tuple[int, Any]], queue: WorkQueue, buffer: OutputBuffer[T]
    ) -> None:
        """Finish the rows that need no call, so that they take no place in a group, and queue the others."""
        givens = [given for _, given in taken]
        known = givens if worker.size == 1 or self.breaker.open else await self.drive(worker.look(givens))
        for (number, given), found in zip(taken, known, strict=True):
            if isinstance(found, Item):
                self._finish(buffer, number, cast("Item[T]", found))
            else:
                queue.rows.append((number, given, found))


def _broken(failure: Exception, rows: int, tags: Mapping[str, Any]) -> Item[Any]:
    reason = f"{type(failure).__name__}: {snippet(failure)}"
    error = InputError(f"the source of the inputs failed after {rows:,} rows: {reason}")
    return Item(input=None, error=error, tags=tags)
