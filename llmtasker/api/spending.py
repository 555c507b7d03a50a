"""Spending: what callers spend in a day with requests that wait for their answers; jobs count their own."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import defaultdict

from llmtasker.jobs.error_trace import error_trace
from llmtasker.jobs.job_queue import JobQueue

_LOG = logging.getLogger("llmtasker.server")
_DELAY = 0.5  # seconds until the cost of a call is written
_LONGEST_DELAY = 60.0  # after writes that failed


class Spending:
    """Amounts by caller, in US dollars, added up in memory and written to the file of jobs at intervals.

    So requests never wait for a disk. A killed process loses what it has not written yet: half a second of spending.
    """

    def __init__(self, queue: JobQueue, *, delay: float = _DELAY) -> None:
        self._queue = queue
        self._delay = delay
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._added = defaultdict[str, float](float)
        self._in_writing: dict[str, float] = {}
        self._writer: asyncio.Task[None] | None = None

    def add(self, owner: str, cost: float | None) -> None:
        """Count the cost of a call; call it in the event loop."""
        if self._process != os.getpid():  # a forked process: its parent writes what it has counted
            self._begin()
        if cost:
            self._added[owner] += cost
            if self._writer is None:
                self._writer = asyncio.create_task(self._write_later())

    def spent(self, owner: str) -> float:
        """Return what an owner has spent today (UTC), jobs included."""
        return self._queue.spent(owner) + self._added.get(owner, 0.0) + self._in_writing.get(owner, 0.0)

    async def _write_later(self) -> None:
        delay = self._delay
        try:
            while self._added:
                await asyncio.sleep(delay)
                delay = self._delay if await self._write() else min(2 * delay, _LONGEST_DELAY)
        finally:
            self._writer = None

    async def _write(self) -> bool:
        self._in_writing = dict(self._added)
        self._added.clear()
        try:
            await asyncio.to_thread(self._queue.spend, self._in_writing)
        except Exception as error:  # noqa: BLE001 - a full disk must not fail requests
            for owner, cost in self._in_writing.items():
                self._added[owner] += cost
            _LOG.error("the spending could not be written yet: %s", error_trace(error))
            return False
        finally:
            self._in_writing = {}
        return True

    async def close(self) -> None:
        """Write the rest."""
        if self._process != os.getpid():
            self._begin()
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])
        if self._added:
            await self._write()
