"""OutputBuffer: finished items, from the workers of a run to its caller."""

from __future__ import annotations

import asyncio
from typing import Any, Generic, TypeVar

from llmtasker.item import Item

T = TypeVar("T")


class OutputBuffer(Generic[T]):
    """Finished items by row number; `first` is the number of the first row.

    With a `window`, the buffer is full while the caller has not taken the items of that many rows already read.
    """

    def __init__(self, window: int | None, first: int, workers: int) -> None:
        self.window = window
        self.done: dict[int, Item[Any]] = {}
        self.read = first
        self.workers = workers
        self.failed = False
        self.ready = asyncio.Event()
        self.space = asyncio.Event()
        self._taken = first

    @property
    def full(self) -> bool:
        """Whether reading must pause."""
        return self.window is not None and self.read - self._taken >= self.window

    async def wait_for_space(self) -> None:
        """Wait while the buffer is full, until the caller takes items."""
        while self.full:
            self.space.clear()
            await self.space.wait()

    def worker_ended(self, *, failed: bool) -> None:
        """Count a worker that has ended; a failed one ends the run, because its row has no item."""
        self.workers -= 1
        self.failed = self.failed or failed
        self.ready.set()

    def take(self, *, ordered: bool) -> list[Item[T]]:
        """Return the finished items; if `ordered`, only those without a gap before them."""
        if ordered:
            batch: list[Item[T]] = []
            while self._taken + len(batch) in self.done:
                batch.append(self.done.pop(self._taken + len(batch)))
        else:
            batch = list(self.done.values())
            self.done.clear()
        self._taken += len(batch)
        self.space.set()
        return batch
