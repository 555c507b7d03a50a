"""What is believed about an endpoint that does not say what it allows: how many calls at a time, how many a second.

The rate. Between two refusals an endpoint's allowance goes from empty to empty, so the calls that it
admitted in between, divided by that time, are the rate at which it is refilled, whatever the burst
that it saves up. Calls then leave evenly at a little less. While nothing is refused the rate rises with the
cube of the time (as in CUBIC, RFC 9438): flat around what is known, ever faster where that was wrong.

The window (calls in flight). It starts small, so that a small burst allowance costs few refused calls,
and opens within a few round trips once more calls were answered than a small allowance has.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MARGIN = 0.97
"""Share of a rate that is used. With `SLACK`, no second holds more calls than the rate allows (1.03 × 0.97 < 1)."""
SLACK = 0.03
"""Seconds by which a late timer may be made up for."""
START = 14
"""Calls in flight at first. All calls in flight may be refused when the allowance ends."""
SURE = 27
"""Calls answered before the window opens: more than a small allowance (20) and what is refilled meanwhile."""
OPENING = 0.3
"""Seconds: the shorter a round trip is against this, the more the window opens in each."""
FIRST_STEPS = 2.5
"""How much more it opens with the first step."""
PAUSE = 1.0
"""Seconds without a call after a first refusal that names no time."""
PROBE = 0.5, 0.125, 30.0
"""Between single calls to an endpoint that refuses all: seconds at least, share of the time it has lasted, at most."""
LONG_HOLD = 3.0
"""Seconds of waiting from which on a saved up burst is used: a shorter counting period could not hold both."""
POWER = 5
"""With which power of the time the rate rises."""
ROUNDS = 5
SPANS = 4.0, 64.0
"""Seconds in which the rate doubles if nothing is refused: when it is only guessed, and when it was confirmed often."""


class Meter:
    """A level that rises by `rate` a second and is taken from; calls may leave while it is not below 0."""

    __slots__ = ("at", "level", "rate")

    def __init__(self, rate: float, now: float, *, level: float = 0.0) -> None:
        self.rate = rate * MARGIN
        self.level = level
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
        over = self.level - top
        if over <= 0.0:
            return 0.0
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
        """Believe what the endpoint itself says that is left, and how fast it is refilled."""
        self.rate = rate * MARGIN
        self.level = level
        self.at = now


class Throttle:
    """How fast an endpoint is asked, learned from what it answers; not thread-safe, and without a clock of its own.

    `most` is the number of calls in flight that is never exceeded. `epoch` counts the refusals
    that said something new: those of calls sent before the last one was known say nothing more.
    """

    def __init__(self, now: float, *, most: float = math.inf) -> None:
        self.epoch = 0
        self.hold_until = now
        self.refusing_since: float | None = None
        self.window = min(float(START), most)
        self._most = most
        self._latency = 0.0
        self._clean = 0
        self._sent = 0
        self._sent_in_epoch = 0
        self._shrunk_at = 0
        self._probing = False
        # A stretch begins with a call (its number, and when it left) and ends with a refused one.
        # From the second on it begins with a refused one, too: from empty to empty.
        self._begin: tuple[int, float] | None = None
        self._end: tuple[int, float] | None = None
        self._refused_in_it = 0
        self._refused_after = 0
        self._resumed = now
        self._burst = 0
        self._guess: tuple[int, float] | None = None
        self._meter: Meter | None = None
        self._base = 0.0
        self._slowest = 0.0
        self._since = now
        self._span = SPANS[0]

    def rate(self, now: float) -> float | None:
        """Return the calls per second that leave now; None: as many as the window lets."""
        if self._meter is None:
            return None
        return self._base * (1.0 + (max(0.0, now - self._since) / self._span) ** POWER)

    def wait(self, now: float, in_flight: int) -> float | None:
        """Return the seconds until a call may leave; None: not before another one is finished."""
        if now < self.hold_until:
            return self.hold_until - now
        if self._end is not None:
            self._estimate(now)
        if in_flight + 1 > self.window or (self._probing and self._sent_in_epoch):
            return None
        if self._meter is None:
            return 0.0
        self._meter.rate = self.rate(now) or self._base
        # A rate that is not used is not confirmed either.
        self._since += self._meter.refill(now)
        return self._meter.wait(now)

    def sent(self, now: float) -> int:
        """Count a call that leaves; return its number."""
        if self._begin is None:
            self._begin = self._sent, now
        if self._meter is not None:
            self._meter.take(1.0)
        self._sent += 1
        self._sent_in_epoch += 1
        return self._sent

    def ended(self, epoch: int) -> None:
        """A call sent in `epoch` is finished, however."""
        if epoch == self.epoch:
            self._sent_in_epoch -= 1

    def succeeded(self, now: float, *, epoch: int, sent_at: float, in_flight: int) -> None:
        """A call was answered; `in_flight` counts it too."""
        self._latency += (now - sent_at - self._latency) * (0.1 if self._latency else 1.0)
        if epoch != self.epoch:
            return
        if self.refusing_since is not None:
            self._resume(now)
        self._clean += 1
        if self._clean < SURE or in_flight * 2 < self.window or self.window >= self._most:
            return
        step = min(16.0, max(1.0, OPENING / max(self._latency, 1e-3)))
        if self._clean == SURE and self._meter is None:
            step *= step * FIRST_STEPS
        self.window = min(self._most, self.window + step)

    def overloaded(self, number: int) -> None:
        """A call timed out, or the endpoint failed: fewer at a time, once for all that were under way."""
        if number > self._shrunk_at:
            self._shrink(0.8)

    def refused(self, now: float, *, epoch: int, number: int, sent_at: float, retry_after: float | None) -> None:
        """A call was refused: everybody waits."""
        if epoch != self.epoch:
            self._count(number)
            self.hold_until = max(self.hold_until, now + (retry_after or 0.0))
            return
        self.epoch += 1
        self._sent_in_epoch = 0
        self._clean = 0
        if self.refusing_since is not None:
            # Nothing was admitted since the last refusal: one call at a time finds out when that ends.
            self._count(number)
            self._probing = True
            self.window = min(self.window, START / 2)
            least, share, most = PROBE
            pause = min(most, max(least, share * (now - self.refusing_since)))
        else:
            self.refusing_since = now
            self._shrink(0.7)
            # What comes of the calls still in flight is known after the wait; the estimate is made then.
            self._end = number, sent_at
            self._count(number)
            pause = PAUSE if self._meter is None else min(PAUSE, max(0.25, 4.0 / self._base))
            if retry_after is not None:
                pause = 0.0
        self.hold_until = now + max(pause, retry_after or 0.0)

    def _count(self, number: int) -> None:
        if self._end is not None and number > self._end[0]:
            self._refused_after += 1
        else:
            self._refused_in_it += 1

    def _shrink(self, share: float) -> None:
        self._shrunk_at = self._sent
        self.window = min(self._most, max(float(START), self.window * share))

    def _estimate(self, now: float) -> None:
        """Learn the rate from the stretch that a refusal ended; calls leave again from `now` on."""
        assert self._begin is not None
        assert self._end is not None
        admitted = self._end[0] - self._begin[0] - self._refused_in_it
        if self._meter is None:
            self._burst = admitted
            self._guess = admitted, self._end[1]
            self._set_guess(now)
            share = 0.0
        else:
            share = self._measure(admitted, self._end[1] - self._begin[1], self._end[1] - self._resumed)
        self._restart(now, waited=now - self._end[1], share=share)
        self._begin, self._end = self._end, None
        self._refused_in_it, self._refused_after = self._refused_after, 0

    def _measure(self, admitted: int, whole: float, sending: float) -> float:
        """Take the rate from a stretch from empty to empty, of which `sending` seconds followed the wait.

        Return it as a share of the rate that was refused.
        """
        rate = self._base * (1.0 + (max(0.0, self._resumed + sending - self._since) / self._span) ** POWER)
        self._guess = None
        if admitted < 8 or sending <= 0.0 or whole <= 0.0:
            self._base *= 0.75
            self._span = SPANS[0] + ROUNDS * self._latency
            return 0.0
        # What is refilled during the wait counts for an endpoint that saves it up; for one that
        # counts in periods only the time of sending does.
        share = min(1.0, sending / whole / 0.7)
        measured = MARGIN * min(rate, admitted / whole * (1 - share) + admitted / sending * share)
        confirmed = abs(measured - self._base) < 0.25 * self._base
        self._span = min(SPANS[1], self._span * 8) if confirmed else (SPANS[0] + ROUNDS * self._latency)
        self._slowest = admitted / whole
        self._base = measured
        return admitted / whole / rate

    def _set_guess(self, now: float) -> None:
        """Guess a rate after the first refusal: what was admitted until then, in the time until calls leave again."""
        assert self._guess is not None
        admitted, since = self._guess
        if admitted < 1 or now <= since:
            self._probing = True
            return
        self._span = SPANS[0] + ROUNDS * self._latency
        self._base = self._slowest = MARGIN * admitted / (now - since)
        if self._meter is None:
            self._meter = Meter(self._base, now)

    def _resume(self, now: float) -> None:
        """The endpoint answers again."""
        assert self.refusing_since is not None
        waited = now - self.refusing_since
        self.refusing_since = None
        if not self._probing:
            return
        self._probing = False
        if self._meter is None:
            # Nothing was ever admitted: as at the very beginning.
            self._begin = self._sent - 1, now
            self._refused_in_it = 0
            return
        if self._guess is not None:
            self._set_guess(now)
        self._restart(now, waited=waited)

    def _restart(self, now: float, *, waited: float, share: float = 0.0) -> None:
        """Begin anew at the base rate, with what an endpoint saved up or left unused meanwhile.

        One that counts in short periods admits the more at the end of the next one, the more
        slowly (`share`) the last one was used up; after a long wait there is a new period.
        """
        self._resumed = now
        if self._meter is not None:
            self._since = now
            self._meter.at = now
            self._meter.rate = self._base
            saved = min(self._slowest * waited, self._burst)
            self._meter.level = 0.8 * saved * (1.0 if waited >= LONG_HOLD else share)


@dataclass(frozen=True, slots=True)
class Learned:
    """A limit as the headers of a response tell it: calls or tokens per second, and what is left."""

    rate: float
    remaining: float


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _seconds(text: str) -> float | None:
    """Return the seconds that `6m0s`, `12ms` or `1.5` means; None: no duration.

    >>> _seconds("6m0.5s"), _seconds("12ms"), _seconds("2"), _seconds("soon")
    (360.5, 0.012, 2.0, None)
    """
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        return None
    return sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)


def limits_from_headers(headers: Mapping[str, str]) -> dict[str, Learned]:
    """Return the limits of "requests" and "tokens" that `x-ratelimit-*` headers tell.

    They count per minute (OpenAI, Azure). An endpoint whose allowance is refilled faster than that
    is believed; one that takes longer than a minute to refill it (a limit per day) sets no rate.

    >>> limits_from_headers({"x-ratelimit-limit-requests": "600", "x-ratelimit-remaining-requests": "599"})
    {'requests': Learned(rate=10.0, remaining=599.0)}
    """
    found: dict[str, Learned] = {}
    for unit in ("requests", "tokens"):
        try:
            limit = float(headers[f"x-ratelimit-limit-{unit}"])
            remaining = float(headers[f"x-ratelimit-remaining-{unit}"])
        except (KeyError, ValueError):
            continue
        if not (0 < limit < math.inf and 0 <= remaining < math.inf):
            continue
        if (_seconds(headers.get(f"x-ratelimit-reset-{unit}", "")) or 0.0) <= 61.0:
            found[unit] = Learned(limit / 60.0, remaining)
    return found
