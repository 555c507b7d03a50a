"""What an endpoint allows, where it is known: given by the user, or told in the headers of a response."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

MARGIN = 0.97
"""Share of a known rate that is used. With `SLACK` no second gets more than the rate: 1.03 × 0.97 < 1."""
SLACK = 0.03
"""Seconds by which a timer that was late is made up for."""

Unit = Literal["requests", "tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """What an endpoint allows per minute; None: not limited, or not known.

    Calls leave evenly spread, 3 % below the limit: an endpoint that counts per second
    instead of per minute has nothing to refuse either.

    >>> RateLimit(requests=1200, tokens=200_000)
    RateLimit(requests=1200, tokens=200000)
    """

    requests: float | None = None
    tokens: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("requests", self.requests), ("tokens", self.tokens)):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} per minute must be a number above 0, not {value!r}")


class Meter:
    """A level that rises by `rate` a second and is taken from; calls may leave while it is not below 0.

    One call may take it below 0, whatever it costs; the next ones wait for it. That is GCRA (ITU-T I.371)
    with a tolerance of `SLACK` seconds, and works for calls that cost more than is ever saved up.
    """

    __slots__ = ("at", "level", "rate")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.level = 0.0
        self.at = now

    def refill(self, now: float) -> float:
        """Bring the level up to now; return the seconds of refill that found no room."""
        passed = now - self.at
        if passed <= 0.0:
            return 0.0
        self.at = now
        top = self.rate * SLACK
        if self.level >= top:
            return passed
        self.level += self.rate * passed
        if self.level <= top:
            return 0.0
        over = self.level - top
        self.level = top
        return over / self.rate

    def wait(self, now: float) -> float:
        """Return the seconds until a call may leave."""
        self.refill(now)
        # Not 0 sharp: a wait too short to move the clock would be waited for again and again.
        return 0.0 if self.level >= -1e-6 else -self.level / self.rate

    def take(self, amount: float) -> None:
        """Take `amount`, or give it back if it is negative."""
        self.level -= amount

    def set(self, level: float, rate: float, now: float) -> None:
        """Begin anew with this level and rate."""
        self.level, self.rate, self.at = level, rate, now


@dataclass(frozen=True, slots=True)
class ToldLimit:
    """A limit as a response tells it: calls or tokens per second, and how many are left."""

    rate: float
    remaining: float


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _duration(text: str) -> float | None:
    """Return the seconds of `6m0s`, `12ms` or `1.5`; None: no duration.

    >>> _duration("6m0.5s"), _duration("12ms"), _duration("2"), _duration("soon")
    (360.5, 0.012, 2.0, None)
    """
    parts: list[tuple[str, str]] = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def told_limit(unit: Unit, headers: Mapping[str, str]) -> ToldLimit | None:
    """Return the limit that the `x-ratelimit-*` headers (names in lower case) tell for a unit; None: none.

    The limit counts per minute (OpenAI, Azure). Where it takes longer than that until all of it is
    back, it is a limit per hour or day, and says nothing of the pace.

    >>> told_limit("requests", {"x-ratelimit-limit-requests": "600", "x-ratelimit-remaining-requests": "599"})
    ToldLimit(rate=10.0, remaining=599.0)
    """
    try:
        limit = float(headers[f"x-ratelimit-limit-{unit}"])
        remaining = float(headers[f"x-ratelimit-remaining-{unit}"])
    except (KeyError, ValueError):
        return None
    reset = _duration(headers.get(f"x-ratelimit-reset-{unit}", "")) or 0.0
    if not (0 < limit < math.inf and 0 <= remaining < math.inf) or reset > 61.0:
        return None
    return ToldLimit(limit / 60.0, remaining)
