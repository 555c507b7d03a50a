"""RowRun: workers take the inputs of a run, a bounded number at a time; each input becomes an Item."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, cast

from llmtasker.errors import InputError, ItemError, LLMTaskerError, counted, snippet
from llmtasker.item import Item
from llmtasker.runner.circuit_breaker import CircuitBreaker
from llmtasker.runner.events import RunEvents
from llmtasker.runner.feed import Feed, WaitingRow
from llmtasker.runner.slots import Rest, Slots

T = TypeVar("T")

READ_AHEAD = 8
"""Rows that a stream reads ahead, per concurrent row."""


class HasSize(Protocol):
    """Works on rows, up to `size` of them together."""

    @property
    def size(self) -> int:
        """The most rows that it takes now."""
        ...


W = TypeVar("W", bound=HasSize)


@dataclass(slots=True, kw_only=True)
class _Output(Generic[T]):
    """Finished items, by row number, from the workers to the caller, who has taken those below `first`."""

    first: int
    workers: int = 0
    failed: bool = False
    tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    done: dict[int, Item[T]] = field(default_factory=dict[int, Item[T]])
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a worker."""
        self.workers += 1
        self.tasks.add(asyncio.create_task(work))

    def check(self) -> None:
        """Raise what a worker raised."""
        for task in self.tasks:
            if task.done():
                task.result()

    async def stop(self) -> None:
        """Cancel the workers, and wait until they have ended."""
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.gather(*self.tasks, return_exceptions=True)

    def take(self, *, ordered: bool) -> list[Item[T]]:
        """Return the finished items; if `ordered`, only those without a gap before them."""
        batch: list[Item[T]] = []
        if ordered:
            while (item := self.done.pop(self.first + len(batch), None)) is not None:
                batch.append(item)
        else:
            batch = list(self.done.values())
            self.done.clear()
        self.first += len(batch)
        return batch


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRun(ABC, Generic[T, W]):
    """Works on rows, with at most `concurrency` at once; a subclass defines how one becomes an item.

    When the `breaker` opens, no further row is worked on. With a `window`, at most that many rows are read ahead of
    those that the caller has taken, so that memory is constant for any number of inputs. `events` report to observers,
    if there are any.
    """

    concurrency: int
    window: int | None = None
    ordered: bool = True
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    tags: Mapping[str, Any] = field(default_factory=dict[str, Any])
    events: RunEvents | None = None

    @abstractmethod
    def items(self, worker: W, rows: list[WaitingRow], rest: Rest) -> Awaitable[list[Item[T]]]:
        """Return an item for each row, in order; `rest` waits before a retry, and lends the row's slot to another.

        An LLMTaskerError is raised only if it affects all rows.
        """

    async def known(self, worker: W, givens: list[Any]) -> list[Any]:
        """Return the item of each input that needs no call, and the argument of `items` for others."""
        return givens

    async def batches(self, worker: W, feed: Feed) -> AsyncGenerator[list[Item[T]]]:
        """Yield the items finished since the last batch; in the order of the inputs if `ordered`.

        The feed stays open: another worker may continue with it.
        """
        count = self.concurrency if feed.total is None else min(self.concurrency, feed.total)
        output: _Output[T] = _Output(first=feed.given_out)
        if self.window is not None:
            feed.read_up_to(output.first + self.window)
        slots = Slots(most=count, free=count, start=lambda: output.start(self._work(worker, feed, output, slots)))
        for _ in range(count):
            output.start(self._work(worker, feed, output, slots))
        try:
            over = False
            while not over:
                over = output.failed or not output.workers
                if output.done and (batch := output.take(ordered=self.ordered)):
                    if self.window is not None:
                        feed.read_up_to(output.first + self.window)
                    over = False
                    yield batch
                elif not over:
                    output.ready.clear()
                    await output.ready.wait()
            output.check()
            if feed.failure is not None:
                yield [_broken(feed.failure, feed.given_out, self.tags)]
        finally:
            await output.stop()

    async def _work(self, worker: W, feed: Feed, output: _Output[T], slots: Slots) -> None:
        failed = True
        look = partial(self._look, worker, output)
        try:
            while rows := await feed.waiting(worker.size, None if worker.size == 1 else look):
                if slots.free:
                    slots.free -= 1
                else:
                    await slots.acquire()
                for (number, _, _), item in zip(rows, await self._ask(worker, rows, slots.rest), strict=True):
                    self._finish(output, number, item)
                if slots.waiting:
                    slots.release()
                else:
                    slots.free += 1
                if slots.spare:
                    slots.spare -= 1
                    break
            failed = False
        finally:
            output.workers -= 1
            output.failed = output.failed or failed  # its row has no item, which ends the run
            if not failed and (task := asyncio.current_task()) is not None:
                output.tasks.discard(task)  # a row that rests starts a worker: they must not add up
            output.ready.set()

    async def _ask(self, worker: W, rows: list[WaitingRow], rest: Rest) -> list[Item[T]]:
        if self.breaker.open:
            return [Item(input=given, error=self.breaker.error, tags=self.tags) for _, given, _ in rows]
        try:
            return await self.items(worker, rows, rest)
        except LLMTaskerError:
            raise  # wrong configuration, or a test double reports a wrong test: that affects all rows
        except Exception as error:  # noqa: BLE001 - a bug of ours must not cost the other rows
            fault = ItemError(f"an error inside llmtasker; please report it: {type(error).__name__}: {snippet(error)}")
            return [Item(input=given, error=fault, tags=self.tags) for _, given, _ in rows]

    def _finish(self, output: _Output[T], number: int, item: Item[T]) -> None:
        output.done[number] = item
        output.ready.set()
        if self.events is not None:
            self.events.done(number, item)

    async def _look(self, worker: W, output: _Output[T], taken: list[tuple[int, Any]]) -> list[WaitingRow]:
        """Finish the rows that need no call, so that they take no place in a group, and return the others."""
        givens = [given for _, given in taken]
        waiting: list[WaitingRow] = []
        known = givens if self.breaker.open or not givens else await self.known(worker, givens)
        for (number, given), found in zip(taken, known, strict=True):
            if isinstance(found, Item):
                self._finish(output, number, cast("Item[T]", found))
            else:
                waiting.append((number, given, found))
        return waiting


def _broken(failure: Exception, rows: int, tags: Mapping[str, Any]) -> Item[Any]:
    reason = f"{type(failure).__name__}: {snippet(failure)}"
    error = InputError(f"the source of the inputs failed after {counted(rows, 'row')}: {reason}")
    return Item(input=None, error=error, tags=tags)
