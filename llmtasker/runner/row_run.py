"""RowRun: workers take the inputs of a run, a bounded number at a time; each input becomes an Item."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, cast

from llmtasker.errors import InputError, ItemError, LLMTaskerError, snippet
from llmtasker.item import Item
from llmtasker.runner.circuit_breaker import CircuitBreaker
from llmtasker.runner.events import RunEvents
from llmtasker.runner.feed import Feed, WaitingRow

T = TypeVar("T")

READ_AHEAD = 8
"""Rows that a stream reads ahead, per concurrent row."""


RESTING = 8
"""Rows that wait without a place, per concurrent row; further ones keep theirs."""


class Places:
    """The places of a run: rows that are worked on at once. A row that waits before it is asked again lends its own."""

    def __init__(self) -> None:
        self.free = self.spare = 0
        self.waiting: deque[asyncio.Future[None]] = deque()
        self._most = self._resting = 0
        self._start: Callable[[], None] | None = None

    def open(self, count: int, start: Callable[[], None]) -> None:
        """Begin with this number of places and of workers; `start` starts one more worker."""
        self.free, self.spare, self._resting = count, 0, 0
        self.waiting.clear()
        self._most, self._start = RESTING * count, start

    async def rest(self, seconds: float) -> None:
        """Wait in a row that has a place; meanwhile another row has it."""
        if self._start is None or self._resting >= self._most:
            await asyncio.sleep(seconds)
            return
        self._resting += 1
        if self.spare:
            self.spare -= 1  # a worker that was about to end goes on
        else:
            self._start()
        self.give()
        await asyncio.sleep(seconds)
        self._resting -= 1
        self.spare += 1
        await self.take(first=True)

    async def take(self, *, first: bool = False) -> None:
        """Wait for a place, before all others that wait if it is the `first`."""
        if self.free:
            self.free -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if first:
            self.waiting.appendleft(place)
        else:
            self.waiting.append(place)
        await place

    def give(self) -> None:
        """Give a place back, or to the first that waits."""
        while self.waiting:
            place = self.waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.free += 1


class HasSize(Protocol):
    """What works on rows, up to `size` of them together."""

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
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is None:
            self.tasks.discard(task)

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
    """Works on rows, with at most `concurrency` at once; a subclass says how one becomes an item.

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
    places: Places = field(default_factory=Places)

    @abstractmethod
    def items(self, worker: W, rows: list[WaitingRow]) -> Awaitable[list[Item[T]]]:
        """Return an item for each row, in order; an LLMTaskerError is raised only if it concerns all rows."""

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
        self.places.open(count, lambda: output.start(self._work(worker, feed, output)))
        for _ in range(count):
            output.start(self._work(worker, feed, output))
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

    async def _work(self, worker: W, feed: Feed, output: _Output[T]) -> None:
        failed = True
        look = partial(self._look, worker, output)
        places = self.places
        try:
            while rows := await feed.waiting(worker.size, None if worker.size == 1 else look):
                if places.free:
                    places.free -= 1
                else:
                    await places.take()
                for (number, _, _), item in zip(rows, await self._ask(worker, rows), strict=True):
                    self._finish(output, number, item)
                if places.waiting:
                    places.give()
                else:
                    places.free += 1
                if places.spare:
                    places.spare -= 1
                    break
            failed = False
        finally:
            output.workers -= 1
            output.failed = output.failed or failed  # its row has no item, which ends the run
            output.ready.set()

    async def _ask(self, worker: W, rows: list[WaitingRow]) -> list[Item[T]]:
        if self.breaker.open:
            return [Item(input=given, error=self.breaker.error, tags=self.tags) for _, given, _ in rows]
        try:
            return await self.items(worker, rows)
        except LLMTaskerError:
            raise  # wrong configuration, or a test double reports a wrong test: that concerns all rows
        except Exception as error:  # noqa: BLE001 - a bug of ours must not cost the other rows
            fault = ItemError(f"an error inside llmtasker, please report it: {type(error).__name__}: {snippet(error)}")
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
    error = InputError(f"the source of the inputs failed after {rows:,} rows: {reason}")
    return Item(input=None, error=error, tags=tags)
