"""WorkQueue: the rows of a run that were read and need a call, shared by its workers."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any


class WorkQueue:
    """Rows as (number, input, the worker's argument for it).

    A group is filled with rows that any worker has read, so that rows which need no call do not make groups smaller;
    only the last group is not full.
    """

    def __init__(self) -> None:
        self.rows: deque[tuple[int, Any, Any]] = deque()
        self._readers = 0
        self._quiet = asyncio.Event()

    def enter(self) -> None:
        """Count a worker that reads rows and may add some."""
        self._readers += 1
        self._quiet.clear()

    def leave(self) -> None:
        """Undo `enter`."""
        self._readers -= 1
        if not self._readers:
            self._quiet.set()

    async def wait_for_readers(self) -> None:
        """Wait until no worker reads: if the inputs have ended, no further row is added."""
        await self._quiet.wait()

    def take(self, most: int) -> list[tuple[int, Any, Any]]:
        """Return up to `most` rows."""
        return [self.rows.popleft() for _ in range(min(most, len(self.rows)))]
