"""An event loop in its own thread, for callers that can't await.

It lives as long as the process, so connections are reused between calls, and it does not interfere with the running
loop of a notebook or a web server.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")

_CLEANING_UP = 5.0  # seconds that an interrupted call has to clean up

_lock = threading.Lock()
_portal: Portal | None = None


class Portal:
    """An event loop running in a thread; `portal()` returns the one of this process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self._stopped = False
        self._cleaning: set[asyncio.Task[object]] = set()
        self._thread = threading.Thread(target=self._run, name="llmtasker", daemon=True)
        self._thread.start()
        atexit.register(self._stop)

    def _run(self) -> None:
        while not self._stopped:
            # A task that exits (say, its validator calls sys.exit) stops the loop; its caller receives the exception.
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                self.loop.run_forever()

    def _stop(self) -> None:
        """Close whatever is still open in the loop, then end it; a forked child does not touch its parent's loop."""
        if self.pid == os.getpid() and self._thread.is_alive():
            with contextlib.suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(self._wind_up(), self.loop).result(timeout=2)
            self._stopped = True
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(timeout=2)
            self.loop.close()

    async def _wind_up(self) -> None:
        # Let running closes finish: closing an async generator twice at once is an error.
        busy = asyncio.all_tasks() - {asyncio.current_task()}
        if busy:
            await asyncio.wait(busy, timeout=1)
        await self.loop.shutdown_asyncgens()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and return its result; an interrupt of the caller cancels it first."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("a blocking call was made inside llmtasker's own event loop: await the async form")
        outcome: Future[T] = Future()
        started: list[asyncio.Task[T]] = []

        def start() -> None:
            task = self.loop.create_task(coroutine)
            started.append(task)
            task.add_done_callback(lambda task: _pass_on(task, outcome))

        self.loop.call_soon_threadsafe(start)
        try:
            return outcome.result()
        except BaseException:
            if not outcome.done():  # the caller was interrupted; otherwise the coroutine raised this, and has ended
                self.loop.call_soon_threadsafe(lambda: started[0].cancel())  # noqa: PLW0108 - empty until then
                wait([outcome], _CLEANING_UP)
            raise

    def clean_up(self, close: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Close something in the loop, and wait for it if possible.

        It is not possible in the loop's own thread, where the garbage collector may run. In a forked child, where the
        loop does not run, nothing is closed: it belongs to the parent.
        """
        if self.pid != os.getpid():
            return
        coroutine = close()
        if threading.current_thread() is self._thread:
            task = self.loop.create_task(coroutine)
            self._cleaning.add(task)
            task.add_done_callback(self._cleaning.discard)
        else:
            self.call(coroutine)


def _pass_on(task: asyncio.Task[T], outcome: Future[T]) -> None:
    if task.cancelled():
        outcome.cancel()
        outcome.set_running_or_notify_cancel()
    elif (error := task.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())


def portal() -> Portal:
    """Return the portal of this process; a forked child gets its own."""
    global _portal  # noqa: PLW0603 - one thread per process is the point
    if _portal is None or _portal.pid != os.getpid():
        with _lock:
            if _portal is None or _portal.pid != os.getpid():
                _portal = Portal()
    return _portal


class Closable(Protocol):
    """An object with an async `close`."""

    async def close(self) -> None:
        """Close it."""
        ...


C = TypeVar("C", bound=Closable)


class PerLoop(Generic[C]):
    """One object per event loop, closed in its loop when the loop shuts down or the object is no longer needed."""

    def __init__(self) -> None:
        self.opened: dict[asyncio.AbstractEventLoop, C] = {}
        self._keepers: dict[asyncio.AbstractEventLoop, AsyncGenerator[None]] = {}

    async def add(self, loop: asyncio.AbstractEventLoop, opened: C) -> C:
        """Keep an object for the running loop, and return it."""
        self.opened[loop] = opened
        self._keepers[loop] = keeper = self._keep(loop, opened)
        await anext(keeper)
        return opened

    async def _keep(self, loop: asyncio.AbstractEventLoop, opened: C) -> AsyncGenerator[None]:
        # asyncio ends every open async generator before it closes a loop, so this one can close in time.
        try:
            yield
        finally:
            self.opened.pop(loop, None)
            self._keepers.pop(loop, None)
            await opened.close()

    async def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close the object of the running loop."""
        if loop in self._keepers:
            await self._keepers[loop].aclose()

    def drop(self) -> None:
        """Close all objects, each in its own loop."""
        for loop, keeper in list(self._keepers.items()):
            if not loop.is_closed():
                asyncio.run_coroutine_threadsafe(keeper.aclose(), loop)
