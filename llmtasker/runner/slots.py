"""Slots: how many rows of a run are processed at once; a row that waits before a retry lends its slot to another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Rest = Callable[[float], Awaitable[None]]
"""Waits for some seconds."""

RESTING = 8
"""Rows that wait without a slot, per slot; further ones keep theirs."""


@dataclass(slots=True, kw_only=True)
class Slots:
    """The slots of a run: `most` in total, of which some are `free`; `start` starts one more worker.

    `spare` is the number of workers to end, because waiting rows are back.
    """

    most: int
    free: int
    start: Callable[[], None]
    spare: int = 0
    resting: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque[asyncio.Future[None]])

    async def rest(self, seconds: float) -> None:
        """Wait in a row that has a slot; in the meantime another row has it."""
        if self.resting >= RESTING * self.most:
            await asyncio.sleep(seconds)
            return
        self.resting += 1
        if self.spare:
            self.spare -= 1  # a worker that was about to end continues
        else:
            self.start()
        self.release()
        try:
            await asyncio.sleep(seconds)
        finally:
            self.resting -= 1
        self.spare += 1
        await self.acquire(first=True)

    async def acquire(self, *, first: bool = False) -> None:
        """Wait for a slot, before all other waiting rows if it is the `first`."""
        if self.free:
            self.free -= 1
            return
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if first:
            self.waiting.appendleft(slot)
        else:
            self.waiting.append(slot)
        try:
            await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled():
                self.release()  # it was given at the moment of the cancellation
            raise

    def release(self) -> None:
        """Give a slot back, or to the first that waits."""
        while self.waiting:
            slot = self.waiting.popleft()
            if not slot.done():
                slot.set_result(None)
                return
        self.free += 1
