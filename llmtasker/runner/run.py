"""Many inputs: a bounded number in flight, each an Item, in order or as they are done."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
import threading
import time
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Sequence,
)
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from llmtasker.errors import (
    AuthenticationError,
    BadResponseError,
    InputError,
    NetworkError,
    NotFoundError,
    NotRunError,
    OutputError,
    snippet,
)
from llmtasker.item import Item
from llmtasker.runner.inputs import Inputs

T = TypeVar("T")

_PULL_ROWS = 256  # rows that one hop to a thread brings from an iterator
_PULL_SECONDS = 0.005  # … or as many as come in this time, so that a slow source is not waited for
_REJECTIONS = 5  # equal refusals in a row, with nothing answered between, that stop a run


class Feed:
    """Gives the inputs one by one, numbered; a blocking iterator is read in a thread, a few rows at a time."""

    def __init__(self, inputs: Inputs) -> None:
        self.total = len(inputs) if isinstance(inputs, Sequence) else None
        self.failure: Exception | None = None
        self.given_out = 0
        self._rows: deque[Any] = deque()
        self._ended = False
        self._lock = asyncio.Lock()
        self._reading = threading.Lock()
        self._closed = False
        self._ready: Iterator[Any] | None = None
        self._source: Iterator[Any] | AsyncIterator[Any]
        if isinstance(inputs, AsyncIterable):
            self._source = aiter(inputs)
        else:
            self._source = iter(inputs)
            if isinstance(inputs, list | tuple):
                self._ready = self._source

    async def take(self, most: int) -> list[tuple[int, Any]]:
        """Return up to `most` numbered inputs; none at the end, when `failure` says if the source broke."""
        rows: list[tuple[int, Any]] = []
        while len(rows) < most and (row := await self._next()) is not None:
            rows.append(row)
        return rows

    async def _next(self) -> tuple[int, Any] | None:
        if self._ready is not None:
            row = next(self._ready, _END)
        else:
            while not self._rows and not self._ended:
                async with self._lock:
                    if not self._rows and not self._ended:
                        await self._fill()
            row = self._rows.popleft() if self._rows else _END
        if row is _END:
            return None
        number, self.given_out = self.given_out, self.given_out + 1
        return number, row

    async def _fill(self) -> None:
        if not isinstance(self._source, AsyncIterator):
            await _aside(self._pull, self._source)
            return
        try:
            self._rows.append(await anext(self._source))
        except StopAsyncIteration:
            self._ended = True
        except Exception as error:  # noqa: BLE001 - the caller's iterator may raise anything
            self._ended, self.failure = True, error

    def _pull(self, source: Iterator[Any]) -> None:
        until = time.monotonic() + _PULL_SECONDS
        with self._reading:
            try:
                for _ in range(_PULL_ROWS):
                    self._rows.append(next(source))
                    if self._closed or time.monotonic() > until:
                        break
            except StopIteration:
                self._ended = True
            except Exception as error:  # noqa: BLE001 - the caller's iterator may raise anything
                self._ended, self.failure = True, error
        if self._closed and inspect.isgenerator(source):
            self._shut(source)

    async def close(self) -> None:
        """Let a generator that was not read to its end clean up; one that is slow to give its next row does so then."""
        self._closed = True
        source: Any = self._source
        if inspect.isasyncgen(source):
            await source.aclose()
        elif inspect.isgenerator(source):
            await _aside(self._shut, source)

    def _shut(self, source: Any) -> None:
        if self._reading.acquire(blocking=False):
            try:
                source.close()
            finally:
                self._reading.release()


_END = object()


async def _aside(action: Callable[[T], None], argument: T) -> None:
    """Await an action in a thread; one that never ends does not keep the process from ending, nor others waiting."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def end(error: BaseException | None) -> None:
        if ended.done():
            return  # whoever waited was cancelled
        if error is None:
            ended.set_result(None)
        else:
            ended.set_exception(error)

    def act() -> None:
        failure: BaseException | None = None
        try:
            action(argument)
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(end, failure)

    threading.Thread(target=act, name="llmtasker-inputs", daemon=True).start()
    await ended


class Fuse:
    """Stops a run that can't succeed: the key is wrong, the model does not exist, or nothing answers at that place."""

    def __init__(self) -> None:
        self._last = ""
        self._count = 0
        self._answered = False

    @property
    def blown(self) -> bool:
        """Whether enough equal rejections came in a row."""
        return self._count >= _REJECTIONS

    def saw(self, items: Sequence[Item[Any]]) -> None:
        """Take note of what came of rows that were asked together."""
        asked = [item.error for item in items if item.attempts]
        self._answered = self._answered or None in asked or any(isinstance(error, OutputError) for error in asked)
        # What is repeated already before it counts as failed says nothing of the set-up once anything was answered.
        fatal = (AuthenticationError, NotFoundError, *(() if self._answered else (BadResponseError, NetworkError)))
        rejections = [error for error in asked if isinstance(error, fatal)]
        if asked and len(rejections) == len(asked):
            alike = _gist(rejections[0].message) == _gist(self._last)
            self._count = self._count + 1 if alike else 1
            self._last = rejections[0].message
        elif asked and not self.blown:
            self._count = 0

    @property
    def error(self) -> NotRunError | None:
        """The error of what is not asked any more; None while the fuse has not blown."""
        if not self.blown:
            return None
        return NotRunError(f"not asked: {self._count} calls in a row failed alike: {self._last}")


def _gist(message: str) -> str:
    """Return what is the same in each refusal: many endpoints put a time or the number of the request in."""
    return re.sub(r"\S*\d\S*", "", message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Generic[T]):
    """A run over many inputs: `work` makes Items of up to `size` inputs, and never raises what these or the LLM did.

    At most `concurrency` are worked on at once, and none any more when the `fuse` has blown. With a `window`, at
    most so many are read ahead of what the caller has taken, so that memory stays constant however many inputs
    there are.
    `look` gives the item of an input that needs no work, or what `work` shall be given for it: so `size` counts
    those that do.
    """

    work: Callable[[list[Any]], Awaitable[list[Item[T]]]]
    concurrency: int
    look: Callable[[list[Any]], Awaitable[list[Any]]] | None = None
    size: int = 1
    window: int | None = None
    ordered: bool = True
    fuse: Fuse = field(default_factory=Fuse)

    async def batches(self, inputs: Inputs | Feed) -> AsyncGenerator[list[Item[T]]]:
        """Yield the items that are done since the last time; in order of the inputs if `ordered`."""
        feed = inputs if isinstance(inputs, Feed) else Feed(inputs)
        desk: _Desk[T] = _Desk(self.window, feed.given_out)
        workers = self.concurrency if feed.total is None else min(self.concurrency, feed.total)
        tasks = [asyncio.create_task(self._worker(feed, desk)) for _ in range(workers)]
        desk.workers = len(tasks)
        for task in tasks:
            task.add_done_callback(desk.left)
        try:
            over = False
            while not over:
                over = desk.failed or not desk.workers
                if batch := desk.take(ordered=self.ordered):
                    over = False
                    yield batch
                elif not over:
                    desk.wake.clear()
                    await desk.wake.wait()
            for task in tasks:
                if task.done():
                    task.result()
            if feed.failure is not None:
                yield [_broken(feed.failure, feed.given_out)]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await feed.close()

    async def _worker(self, feed: Feed, desk: _Desk[T]) -> None:
        while True:
            rows = await self._take(feed, desk)
            if not rows:
                return
            items: list[Item[T]]
            if self.fuse.blown:
                items = [Item(input=given, error=self.fuse.error) for _, given, _ in rows]
            else:
                items = await self.work([ready for _, _, ready in rows])
                self.fuse.saw(items)
            for (number, _, _), item in zip(rows, items, strict=True):
                desk.done[number] = item
            desk.wake.set()

    async def _take(self, feed: Feed, desk: _Desk[T]) -> list[tuple[int, Any, Any]]:
        """Return up to `size` rows to work on: number, input, and what `work` is given for it."""
        rows: list[tuple[int, Any, Any]] = []
        while len(rows) < self.size and not (rows and desk.full):
            while desk.full:
                desk.room.clear()
                await desk.room.wait()
            taken = await feed.take(self.size - len(rows))
            if not taken:
                break
            desk.given_out += len(taken)
            givens = [given for _, given in taken]
            known = givens if self.look is None or self.fuse.blown else await self.look(givens)
            for (number, given), came in zip(taken, known, strict=True):
                if isinstance(came, Item):
                    desk.done[number] = came
                else:
                    rows.append((number, given, came))
            desk.wake.set()
        return rows


class _Desk(Generic[T]):
    """Where workers lay down what is done, and the caller takes it up."""

    def __init__(self, window: int | None, first: int) -> None:
        self.window = window
        self.done: dict[int, Item[T]] = {}
        self.given_out = first
        self.taken = first
        self.workers = 0
        self.failed = False
        self.wake = asyncio.Event()
        self.room = asyncio.Event()

    @property
    def full(self) -> bool:
        return self.window is not None and self.given_out - self.taken >= self.window

    def left(self, worker: asyncio.Task[None]) -> None:
        """Note that a worker is done; one that failed ends the run, for the row that it had is missing."""
        self.workers -= 1
        self.failed = self.failed or worker.cancelled() or worker.exception() is not None
        self.wake.set()

    def take(self, *, ordered: bool) -> list[Item[T]]:
        if ordered:
            batch: list[Item[T]] = []
            while self.taken + len(batch) in self.done:
                batch.append(self.done.pop(self.taken + len(batch)))
        else:
            batch = list(self.done.values())
            self.done.clear()
        self.taken += len(batch)
        self.room.set()
        return batch


def _broken(failure: Exception, rows: int) -> Item[Any]:
    said = f"{type(failure).__name__}: {snippet(failure)}"
    return Item(input=None, error=InputError(f"the source of the inputs failed after {rows:,} rows: {said}"))
