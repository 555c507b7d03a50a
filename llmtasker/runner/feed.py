"""Feed: the inputs of a run, one by one, from any iterable."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Sequence
from typing import Any, TypeVar

from llmtasker.runner.inputs import InputRows, rows_in

T = TypeVar("T")

_PULL_ROWS = 256  # rows that one hop to a thread reads from an iterator
_PULL_SECONDS = 0.005  # … or those that arrive in this time, so that rows do not wait for a slow source


class Feed:
    """Returns the inputs one by one, numbered; a blocking iterator is read in a thread, a few rows at a time."""

    def __init__(self, inputs: InputRows) -> None:
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
        """Return up to `most` numbered inputs; none at the end, when `failure` holds the source's error, if any."""
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
            self._rows.extend(rows_in(await anext(self._source)))
        except StopAsyncIteration:
            self._ended = True
        except Exception as error:  # noqa: BLE001 - the caller's iterator may raise anything
            self._ended, self.failure = True, error

    def _pull(self, source: Iterator[Any]) -> None:
        until = time.monotonic() + _PULL_SECONDS
        with self._reading:
            try:
                for _ in range(_PULL_ROWS):
                    self._rows.extend(rows_in(next(source)))
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
