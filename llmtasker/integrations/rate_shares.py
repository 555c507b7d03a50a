"""RateShares: one rate limit, shared out over the workers of several machines.

Each worker renews its share while it has rows, and never gets more than the others leave; a share that is not renewed
(its worker ended, or was killed) goes to the others. So the shares never add up to more than the limit.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Protocol, Self

from llmtasker.llm.limits import RateLimit
from llmtasker.llm.rate_limiter import RateLimiter

LEASE = 3.0  # seconds after which a share that was not renewed is given to others
BEAT = 1.0  # seconds between two renewals
LONGEST_WAIT = 30.0  # seconds that rows wait for a share
IDLE_BEATS = 2  # a worker without rows keeps its share for so many renewals: the next rows are mostly on their way


class RateShares:
    """Shares out a limit, as parts of 1, over those who ask; one object for all workers.

    >>> shares = RateShares(clock=lambda: 0.0)
    >>> shares.renew("a")           # alone
    1.0
    >>> shares.renew("b")           # "a" still has it all …
    0.0
    >>> shares.renew("a"), shares.renew("b")
    (0.5, 0.5)
    >>> shares.leave("a")
    >>> shares.renew("b")
    1.0
    """

    def __init__(self, lease: float = LEASE, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease = lease
        self._clock = clock
        self._held: dict[str, tuple[float, float]] = {}  # the share of each worker, and when it ends

    def renew(self, worker: str) -> float:
        """Return the share of a worker from now on; 0: the others have to renew theirs first."""
        now = self._clock()
        others = {name: held for name, held in self._held.items() if name != worker and held[1] > now}
        share = min(1 / (len(others) + 1), max(0.0, 1.0 - sum(held[0] for held in others.values())))
        self._held = {**others, worker: (share, now + self._lease)}
        return share

    def leave(self, worker: str) -> None:
        """Give the share of a worker back."""
        self._held.pop(worker, None)


class Shares(Protocol):
    """How a worker reaches the `RateShares` of its run; a call may fail with any error."""

    def renew(self) -> float:
        """Renew the share of this worker and return it."""
        ...

    def leave(self) -> None:
        """Give it back."""
        ...


class RateShare:
    """The share that one worker holds while it has rows: a context for each part of the rows, in any thread.

    Args:
        limit: the limit that is shared out.
        limiter: gets the share as its limit.
        shares: where the share is renewed.
    """

    def __init__(
        self, limit: RateLimit, limiter: RateLimiter, shares: Shares, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._limit = limit
        self._limiter = limiter
        self._shares = shares
        self._sleep = sleep
        self._lock = threading.Lock()
        self._parts = 0  # parts of the rows that are worked on
        self._idle = 0
        self._renewing = False
        self._granted = threading.Event()

    def __enter__(self) -> Self:
        """Wait until this worker has a share, at most `LONGEST_WAIT`."""
        with self._lock:
            self._parts += 1
            start, self._renewing = not self._renewing, True
        if start:
            threading.Thread(target=self._renew, name="llmtasker rate share", daemon=True).start()
        self._granted.wait(LONGEST_WAIT)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._parts -= 1

    def _renew(self) -> None:
        while self.beat():
            # One without a share asks more often: the others are about to renew theirs.
            self._sleep(BEAT if self._granted.is_set() else BEAT / 5)

    def beat(self) -> bool:
        """Renew the share, or give it back if there were no rows for a while; return whether to go on."""
        with self._lock:
            self._idle = 0 if self._parts else self._idle + 1
            if self._idle > IDLE_BEATS:
                self._renewing = False
                self._granted.clear()
                with contextlib.suppress(Exception):  # out of reach: it ends with its lease
                    self._shares.leave()
                return False
        try:
            share = self._shares.renew()
        except Exception:  # noqa: BLE001 - out of reach: the share of before is kept, so that rows do not wait for ever
            self._granted.set()
            return True
        if share > 0:
            self._limiter.change(part_of(self._limit, share))
            self._granted.set()
        return True


def part_of(limit: RateLimit, share: float) -> RateLimit:
    """Return a part of a limit; `share` is above 0 and at most 1."""
    requests, tokens = limit.requests, limit.tokens
    return RateLimit(
        requests=None if requests is None else requests * share, tokens=None if tokens is None else tokens * share
    )
