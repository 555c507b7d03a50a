"""One event loop in a thread of its own, for callers that can't await.

It lives as long as the process, so connections are kept between calls, and a notebook or a web server
that has a running loop already is not disturbed.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_portal: Portal | None = None


class Portal:
    """A running event loop behind a thread; `portal()` gives the one of this process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="llmtasker", daemon=True)
        self._thread.start()
        atexit.register(self._stop)

    def _stop(self) -> None:
        """Close what is still open in the loop, then end it; a forked child leaves its parent's alone."""
        if self.pid == os.getpid() and self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self.loop.shutdown_asyncgens(), self.loop).result(timeout=2)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(timeout=2)
            self.loop.close()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and return its result; an interrupt of the caller cancels it first."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("a blocking call was made inside llmtasker's own event loop: await the async form")
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result()
        except BaseException:
            # KeyboardInterrupt, or what the coroutine raised: then it is done and this changes nothing.
            if not future.done():
                future.cancel()
                asyncio.run_coroutine_threadsafe(_settled(), self.loop).result(timeout=5)
            raise


async def _settled() -> None:
    """Give tasks that were just cancelled the turns they need to clean up."""
    for _ in range(10):
        await asyncio.sleep(0)


def portal() -> Portal:
    """Return the portal of this process; a forked child gets one of its own."""
    global _portal  # noqa: PLW0603 - one thread a process is the point
    if _portal is None or _portal.pid != os.getpid():
        with _lock:
            if _portal is None or _portal.pid != os.getpid():
                _portal = Portal()
    return _portal
