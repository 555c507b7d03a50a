"""Retry: how often, and after how long, a call that failed for now is made again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmtasker.errors import RateLimitError, TransientError

if TYPE_CHECKING:
    from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How a call that failed for now (a `TransientError`) is repeated; times in seconds.

    `attempts` counts the calls in all for timeouts, broken connections and errors of the endpoint.
    Rate limits have a budget of their own, for on a throttled endpoint they are no sign of trouble:
    `refusals` calls in all, and `patience` seconds in which the endpoint admitted nothing at all.
    The waits are `backoff`, then twice as long each time up to `cap`, each less a random share of
    up to `jitter` of it, and never shorter than what the endpoint asks for (`Retry-After`).

    >>> from random import Random
    >>> from llmtasker.errors import RateLimitError, ServerError
    >>> Retry(attempts=2).delay(RateLimitError("slow down", retry_after=180.0), 1, Random(0))
    180.0
    >>> Retry(attempts=2).delay(ServerError("oops"), 2, Random(0)) is None
    True
    """

    attempts: int = 6
    backoff: float = 0.5
    cap: float = 30.0
    jitter: float = 0.5
    refusals: int = 12
    patience: float = 600.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.refusals < 1:
            raise ValueError(f"attempts and refusals count calls, so at least 1: {self.attempts}, {self.refusals}")
        if self.backoff < 0 or self.cap < self.backoff or self.patience < 0:
            raise ValueError(f"need 0 <= backoff <= cap and patience >= 0: {self.backoff}, {self.cap}, {self.patience}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter is a share of the wait, from 0 to 1: {self.jitter}")

    def delay(self, error: TransientError, failures: int, random: Random, *, stalled: float = 0.0) -> float | None:
        """Return the seconds to wait before the next call; None: give up.

        `failures` counts the failed calls so far, this one included, from 1. `stalled` is `RateLimiter.stalled`:
        the seconds in which the endpoint admitted nothing.
        """
        refused = isinstance(error, RateLimitError)
        if failures >= (self.refusals if refused else self.attempts):
            return None
        asked = error.retry_after or 0.0
        # A wait that the endpoint itself asks for is not impatience: only the time already lost counts.
        if refused and stalled >= self.patience:
            return None
        wait = min(self.cap, self.backoff * 2.0 ** min(failures - 1, 60))
        return max(asked, wait * (1.0 - self.jitter * random.random()))
