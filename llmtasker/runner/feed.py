"""Feed: hands the inputs of a run, from any iterable, to its workers."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

from llmtasker.runner.inputs import InputRows, rows_in

T = TypeVar("T")

_PULL_ROWS = 256  # rows that one hop to a thread reads from an iterator
_PULL_SECONDS = 0.005  # … or those that arrive in this time, so that rows do not wait for a slow source


WaitingRow = tuple[int, Any, Any]
"""A row that needs a call: its number, its input, and the argument of the worker for it."""

LookAhead = Callable[[list[tuple[int, Any]]], Awaitable[list[WaitingRow]]]
"""A function that returns those of some rows that need a call, and finishes the others."""


class Feed:
    """Returns the inputs, numbered; a blocking iterator is read in a thread, a few rows at a time.

    A group is filled with rows that any worker has read, so that rows which need no call do not make groups smaller;
    only the last group is not full. `bare` is that of `rows_in`.
    """

    def __init__(self, inputs: InputRows, *, bare: bool = True) -> None:
        self.total = len(inputs) if isinstance(inputs, Sequence) else None
        self.failure: Exception | None = None
        self._bare = bare
        self.given_out = 0
        self._rows: deque[Any] = deque()
        self._ended = False
        self._lock = asyncio.Lock()
        self._reading = threading.Lock()
        self._closed = False
        self._limit = math.inf
        self._space = asyncio.Event()
        self._waiting: deque[WaitingRow] = deque()
        self._readers = 0
        self._quiet = asyncio.Event()  # no worker reads: if the inputs have ended, no further row will wait
        self._ready: Iterator[Any] | None = None
        self._source: Iterator[Any] | AsyncIterator[Any]
        if isinstance(inputs, AsyncIterable):
            self._source = aiter(inputs)
        else:
            self._source = iter(inputs)
            if isinstance(inputs, list | tuple):
                self._ready = self._source

    def read_up_to(self, limit: int) -> None:
        """Let `waiting` read the inputs below a number; without a limit, it reads all of them."""
        self._limit = limit
        self._space.set()

    async def waiting(self, size: int, look: LookAhead | None) -> list[WaitingRow]:
        """Return up to `size` rows that need a call; none at the end. Without `look`, all rows need one."""
        rows = self._waiting
        while len(rows) < size and not (rows and self.given_out >= self._limit):
            while self.given_out >= self._limit:
                self._space.clear()
                await self._space.wait()
            self._readers += 1
            self._quiet.clear()
            try:
                taken = await self.take(size)
                rows.extend([(*row, row[1]) for row in taken] if look is None else await look(taken))
            finally:
                self._readers -= 1
                if not self._readers:
                    self._quiet.set()
            if not taken:
                await self._quiet.wait()
                break
        return [rows.popleft() for _ in range(min(size, len(rows)))]

    async def take(self, most: int) -> list[tuple[int, Any]]:
        """Return up to `most` numbered inputs; none at the end, when `failure` has the source's error, if any."""
        rows: list[tuple[int, Any]] = []
        while len(rows) < most and (row := await self._next()) is not _END:
            rows.append((self.given_out, row))
            self.given_out += 1
        return rows

    async def _next(self) -> Any:
        if self._ready is not None:
            return next(self._ready, _END)
        while not self._rows and not self._ended:
            async with self._lock:
                if not self._rows and not self._ended:
                    await self._fill()
        return self._rows.popleft() if self._rows else _END

    async def _fill(self) -> None:
        if not isinstance(self._source, AsyncIterator):
            await _aside(self._pull, self._source)
            return
        try:
            self._rows.extend(rows_in(await anext(self._source), bare=self._bare))
        except StopAsyncIteration:
            self._ended = True
        except Exception as error:  # noqa: BLE001 - the caller's iterator may raise anything
            self._ended, self.failure = True, error

    def _pull(self, source: Iterator[Any]) -> None:
        until = time.monotonic() + _PULL_SECONDS
        with self._reading:
            try:
                for _ in range(_PULL_ROWS):
                    self._rows.extend(rows_in(next(source), bare=self._bare))
                    if self._closed or time.monotonic() > until:
                        break
            except StopIteration:
                self._ended = True
            except Exception as error:  # noqa: BLE001 - the caller's iterator may raise anything
                self._ended, self.failure = True, error
        if self._closed and inspect.isgenerator(source):
            self._shut(source)

    async def close(self) -> None:
        """Let a generator that was not read to its end clean up; if it is busy with a row, it does so afterwards."""
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
    """Await an action in a thread; one that never ends delays neither the end of the process nor other actions."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def end(error: BaseException | None) -> None:
        if ended.done():
            return  # the waiter was cancelled
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
        with contextlib.suppress(RuntimeError):  # the loop is closed: there is no waiter
            loop.call_soon_threadsafe(end, failure)

    threading.Thread(target=act, name="llmtasker-inputs", daemon=True).start()
    await ended
