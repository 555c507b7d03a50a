"""RateShares: one rate limit, shared among the workers of several machines.

Each worker renews its share while it has rows, reports how much it can use, and never gets more than the others leave.
A share that is not renewed before its lease ends goes to the others (its worker ended, or was killed); a worker that is
cut off stops using its share before that. So the shares in use never add up to more than the limit, and others borrow
what a worker can't use, for example while it starts. Only a worker that gets no share for a long time uses an equal
part, because then the limit is most likely no longer shared.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol, Self

from llmtasker.llm.limits import RateLimit
from llmtasker.llm.rate_limiter import RateLimiter

LEASE = 3.0  # seconds after which a share that was not renewed is given to others
BEAT = 0.5  # seconds between two renewals
ANSWER = 1.0  # seconds that a renewal may take; a share is not used when its lease could end before the answer
LONGEST_WAIT = 30.0  # seconds that rows wait for a share; then they use an equal part of the limit
IDLE_BEATS = (
    4  # a worker without rows keeps its share for this many renewals, because the next rows are usually on their way
)
SPARE = 0.1  # a worker that leaves less than this part of its share unused may be able to use more
HEADROOM = 1.25  # × what a worker uses; its share grows as soon as it uses more
NONE = 1e-6  # of the limit: no call in practice
LEAST = 0.1  # of an equal share is left to each worker, so that a new one can begin


class RateShares:
    """Shares a limit, as parts of 1, among the workers that ask; one object for all workers.

    >>> shares = RateShares(clock=lambda: 0.0)
    >>> shares.renew("a", 1.0)            # alone
    1.0
    >>> shares.renew("b", 1.0)            # "a" still has it all …
    0.0
    >>> shares.renew("a", 1.0), shares.renew("b", 1.0)
    (0.5, 0.5)
    >>> shares.renew("a", 0.25), shares.renew("b", 1.0)
    (0.25, 0.75)
    >>> shares.leave("a")
    >>> shares.renew("b", 1.0)
    1.0
    """

    def __init__(self, lease: float = LEASE, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease = lease
        self._clock = clock
        self._held: dict[str, _Held] = {}

    def renew(self, worker: str, wanted: float, using: float = 0.0) -> float:
        """Return the share of a worker that can use `wanted` from now on; 0: the others have to renew theirs first.

        `using` is the share that it uses if this answer does not reach it; the others get none of that before the next
        renewal.
        """
        now = self._clock()
        others = {name: held for name, held in self._held.items() if name != worker and held.ends > now}
        fair = _fair(wanted, [held.wanted for held in others.values()])
        share = min(fair, max(0.0, 1.0 - sum(held.share for held in others.values())))
        self._held = {**others, worker: _Held(max(share, using), wanted, now + self._lease)}
        return share

    def leave(self, worker: str) -> None:
        """Return the share of a worker."""
        self._held.pop(worker, None)


class _Held(NamedTuple):
    share: float  # that it may use until then
    wanted: float
    ends: float  # when it goes to the others


def _fair(wanted: float, others: list[float]) -> float:
    """Return the share of one of several workers: what it wants and a part of the rest, or else an equal part."""
    count = len(others) + 1
    mine, *rest = [max(part, LEAST / count) for part in (wanted, *others)]
    spare = 1.0 - mine - sum(rest)
    if spare >= 0:
        return mine + spare / count
    left = 1.0
    for place, other in enumerate(sorted(rest)):
        equal = left / (count - place)
        if other >= min(mine, equal):
            return min(mine, equal)
        left -= other  # it wants less than an equal part
    return min(mine, left)


class Shares(Protocol):
    """The connection of a worker to the `RateShares` of its run; a call may fail with any error."""

    def renew(self, wanted: float, using: float) -> float:
        """Return the share."""
        ...

    def leave(self) -> None:
        """Give it back."""
        ...


class RateShare:
    """The share of one worker while it has rows: a context for each part of the rows, in any thread.

    Args:
        limit: the shared limit.
        limiter: the rate limiter whose limit is set to the share.
        shares: renews the share.
        equal: the part of the limit that is used after `LONGEST_WAIT` seconds without a share.
    """

    def __init__(
        self,
        limit: RateLimit,
        limiter: RateLimiter,
        shares: Shares,
        equal: float,
        *,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._limiter = limiter
        self._shares = shares
        self._equal = equal
        self._sleep = sleep
        self._clock = clock
        self._lock = threading.Lock()
        self._parts = 0  # parts of the rows in progress
        self._idle = 0
        self._renewing = False
        self._granted = threading.Event()
        self._share = 0.0
        self._ends = 0.0  # when the lease of the share ends, at the earliest
        self._since: float | None = None  # since when rows wait for a share

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
            # A worker without a share asks more often, because the others are about to renew theirs.
            self._sleep(BEAT if self._share else BEAT / 5)

    def beat(self) -> bool:
        """Renew the share, or return it if there were no rows for a while; return whether to go on."""
        with self._lock:
            self._idle = 0 if self._parts else self._idle + 1
        if self._idle > IDLE_BEATS:
            return self._leave()
        asked, wanted = self._clock(), self._wanted()
        if asked + ANSWER + BEAT >= self._ends:  # before the next beat
            self._use(0.0)
        share = 0.0
        with contextlib.suppress(Exception):  # unreachable: the previous share is used until its lease ends
            share = self._shares.renew(wanted, self._share)
            if share <= 0:
                self._use(0.0)  # it was lost
        if share > 0:
            self._ends = asked + LEASE  # for the sharer, the lease began later
            self._use(share)
        return True

    def _leave(self) -> bool:
        """Return the share; return whether rows have come since, which begin without one."""
        self._share, self._ends, self._since = 0.0, 0.0, None
        self._granted.clear()
        with contextlib.suppress(Exception):  # unreachable: it ends with its lease
            self._shares.leave()  # not under the lock, because it may take long while rows come and go
        with self._lock:
            self._renewing = self._parts > 0
            return self._renewing

    def _use(self, share: float) -> None:
        """Use a share from now on; 0: none, and after a long wait an equal part."""
        self._share = share
        if share > 0:
            self._since = None
        else:
            now = self._clock()
            self._since = now if self._since is None else self._since
            share = self._equal if now - self._since >= LONGEST_WAIT else NONE
        self._limiter.change(part_of(self._limit, share))
        if share > NONE:
            self._granted.set()
        else:
            self._granted.clear()

    def _wanted(self) -> float:
        """Return what this worker can use: somewhat more than it used, or everything if it used up its share."""
        used = self._limiter.used
        return 1.0 if used > 1 - SPARE else HEADROOM * used * self._share


def part_of(limit: RateLimit, share: float) -> RateLimit:
    """Return a part of a limit; `share` is above 0 and at most 1."""
    requests, tokens = limit.requests, limit.tokens
    return RateLimit(
        requests=None if requests is None else requests * share, tokens=None if tokens is None else tokens * share
    )
