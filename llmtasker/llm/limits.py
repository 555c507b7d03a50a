"""Limits known before a call is made, and how a failed call is retried."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from llmtasker.errors import ConfigurationError, RateLimitError, TransientError
from llmtasker.llm.argument_places import OF_RUNS
from llmtasker.values.argument_checks import by_name, is_count, is_number

MARGIN = 0.97
"""The share of a known rate that is used. With `SLACK`, no second gets more than the rate: 1.03 × 0.97 < 1."""
SLACK = 0.03
"""Seconds of a late timer that are made up for."""

Unit = Literal["requests", "tokens"]

# Where arguments belong that these do not take; several are those of other libraries.
_OF_LLMS = {name: f'it belongs in LLM("…", {name}=…)' for name in ("max_concurrency", "timeout")}
_OF_RATES = {
    **_OF_LLMS,
    **dict.fromkeys(("requests_per_minute", "rpm"), "write requests=…"),
    **dict.fromkeys(("tokens_per_minute", "tpm"), "write tokens=…"),
    **OF_RUNS,
}
_OF_RETRIES = {
    **_OF_LLMS,
    **dict.fromkeys(("max_attempts", "max_retries", "num_retries", "retries"), "write attempts=…"),
    **dict.fromkeys(("max_backoff", "max_wait"), "write cap=…"),
}


@by_name(lambda: _OF_RATES)
@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """What an endpoint allows per minute; None: not limited, or not known.

    Calls leave evenly spread, 3 % below the limit, so that an endpoint that counts per second
    instead of per minute does not refuse any either.

    Raises:
        ConfigurationError: a limit is not a number above 0.

    >>> RateLimit(requests=1200, tokens=200_000)
    RateLimit(requests=1200, tokens=200000)
    """

    requests: float | None = None
    tokens: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("requests", self.requests), ("tokens", self.tokens)):
            if value is not None and not (is_number(value) and 0 < value < math.inf):
                raise ConfigurationError(f"RateLimit: {name} per minute must be a number above 0, not {value!r}.")


@by_name(lambda: _OF_RETRIES)
@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How a call that failed with a `TransientError` is retried; times in seconds.

    `attempts` limits the total calls for timeouts, broken connections and errors of the endpoint, and `refusals` the
    total calls for rate limits, because on a busy endpoint a refusal is not a failure. The waits start at `backoff` and
    double each time up to `cap`; each is reduced by a random share of up to `jitter`, and never shorter than the
    endpoint requests (`Retry-After`).

    While an endpoint fails for all rows of a run, or refuses all of them, the run is paused, and one call at a time
    probes when that ends; these calls are not counted. After `give_up_after` seconds the run is abandoned. No wait is
    longer: an endpoint that requests a longer wait is called sooner.

    Raises:
        ConfigurationError: a value is out of range.

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
    give_up_after: float = 600.0

    def __post_init__(self) -> None:
        for name in ("attempts", "refusals"):
            value = getattr(self, name)
            if not is_count(value):
                raise ConfigurationError(
                    f"Retry: {name} (a number of calls) must be a whole number of at least 1, not {value!r}."
                )
        for name in ("backoff", "cap", "jitter", "give_up_after"):
            value = getattr(self, name)
            most = math.inf if name == "give_up_after" else sys.float_info.max  # a run may never be given up
            if not is_number(value) or not 0 <= value <= most:
                raise ConfigurationError(f"Retry: {name} must be a number of at least 0, not {value!r}.")
        if self.cap < self.backoff:
            raise ConfigurationError(f"Retry: cap ({self.cap}) must not be below backoff ({self.backoff}).")
        if self.jitter > 1:
            raise ConfigurationError(f"Retry: jitter is a share of the wait, from 0 to 1, not {self.jitter}.")

    def delay(self, error: TransientError, failures: int, random: Random, *, stalled: float = 0.0) -> float | None:
        """Return the seconds to wait before the next call; None: give up.

        `failures` counts the failed calls so far, including this one, from 1. `stalled` is `RateLimiter.stalled`:
        the seconds in which the endpoint admitted nothing.
        """
        refused = isinstance(error, RateLimitError)
        if failures >= (self.refusals if refused else self.attempts):
            return None
        # Only the time already lost counts, not the wait that the endpoint requests now.
        if refused and stalled >= self.give_up_after:
            return None
        asked = self.wait_asked_by(error) or 0.0
        wait = min(self.cap, self.backoff * 2.0 ** min(failures - 1, 60))
        return max(asked, wait * (1.0 - self.jitter * random.random()))

    def wait_asked_by(self, error: TransientError) -> float | None:
        """Return the wait in seconds that the endpoint requests; None: none, or longer than the longest wait."""
        asked = error.retry_after
        return None if asked is None or asked > self.give_up_after else asked


class TokenBucket:
    """A level that rises by `rate` per second and from which calls take; they may leave while it is not below 0.

    One call may take the level below 0, by any amount, and the next calls wait. This is GCRA (ITU-T I.371)
    with a tolerance of `SLACK` seconds, and works for calls that cost more than the bucket's size.
    """

    __slots__ = ("at", "level", "made_at", "rate", "unused")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.level = 0.0
        self.at = self.made_at = now
        self.unused = 0.0  # seconds of refill that did not fit so far

    def refill(self, now: float) -> float:
        """Update the level to now; return the seconds of refill that did not fit."""
        passed = now - self.at
        if passed <= 0.0:
            return 0.0
        self.at = now
        top = self.rate * SLACK
        if self.level >= top:
            self.unused += passed
            return passed
        self.level += self.rate * passed
        if self.level <= top:
            return 0.0
        over = (self.level - top) / self.rate
        self.level = top
        self.unused += over
        return over

    def used(self, now: float) -> float:
        """Return the part of the rate that was used so far, from 0 to 1."""
        self.refill(now)
        return 1.0 - self.unused / (now - self.made_at) if now > self.made_at else 0.0

    def wait(self, now: float) -> float:
        """Return the seconds until a call may leave."""
        self.refill(now)
        # Not exactly 0: a wait too short to advance the clock would be repeated endlessly.
        return 0.0 if self.level >= -1e-6 else -self.level / self.rate

    def take(self, amount: float) -> None:
        """Take `amount`, or give it back if it is negative."""
        self.level -= amount

    def set(self, level: float, rate: float, now: float) -> None:
        """Restart with this level and rate."""
        self.level, self.rate, self.at = level, rate, now


@dataclass(frozen=True, slots=True)
class HeaderLimit:
    """A limit stated in the headers of a response: calls or tokens per second, and how many are left."""

    rate: float
    remaining: float


def limit_in_headers(unit: Unit, headers: Mapping[str, str]) -> HeaderLimit | None:
    """Return the limit of a unit in `x-ratelimit-*` headers (names in lower case); None: there is none.

    The limit counts per minute (OpenAI, Azure). If it takes longer than a minute to refill, it is a
    limit per hour or day, which does not determine how fast calls may leave.

    >>> limit_in_headers("requests", {"x-ratelimit-limit-requests": "600", "x-ratelimit-remaining-requests": "599"})
    HeaderLimit(rate=10.0, remaining=599.0)
    """
    from llmtasker.wire.error_response import seconds_until  # loaded with the first response

    try:
        limit = float(headers[f"x-ratelimit-limit-{unit}"])
        remaining = float(headers[f"x-ratelimit-remaining-{unit}"])
    except (KeyError, ValueError):
        return None
    reset = seconds_until(headers.get(f"x-ratelimit-reset-{unit}", ""), 0.0) or 0.0
    if not (0 < limit < math.inf and 0 <= remaining < math.inf) or reset > 61.0:
        return None
    return HeaderLimit(limit / 60.0, remaining)
