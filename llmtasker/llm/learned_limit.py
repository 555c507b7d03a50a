"""LearnedLimit: learns the rate limit of an endpoint that does not state it.

    ┌───────────┐  refusals    ┌──────────┐  the wait is over,  ┌─────────┐  a refusal    ┌──────────┐
    │   OPEN    ├─────────────▶│ HOLDING  ├────────────────────▶│  PACED  ├──────────────▶│ HOLDING  │
    │ no rate   │              │ nobody   │  a rate is guessed  │ a rate, │  the rate is  │ and so   │
    │ is known  │              │ leaves   │                     │ rising  │  measured     │ on       │
    └───────────┘              └────┬─────┘                     └─────────┘               └──────────┘
                                    │ refused again, with nothing admitted between
                                    ▼
                               ┌──────────┐  an answer: back to OPEN or PACED
                               │ PROBING  ├──────────────────────────────────▶
                               │ one call │  a refusal: a longer wait
                               └──────────┘

The rate. From one refusal to the next an allowance goes from empty to empty: the calls admitted in between,
divided by that time, are the rate at which it is refilled, whatever burst it allows. Calls then leave evenly,
slightly slower. While nothing is refused the rate rises with a power of the time, as CUBIC's window does
(RFC 9438): flat around the known rate, and ever faster if that is wrong. Refusals that do not follow the rate
(`LimitEvidence`) end it: back to OPEN.

The window (calls in flight). It starts small, so that a small allowance costs few refused calls, and
opens within a few round trips once more calls were answered than a small allowance permits.
"""

from __future__ import annotations

import math
from typing import Any

from llmtasker.llm.downtime import Downtime
from llmtasker.llm.limit_evidence import TESTS, LimitEvidence
from llmtasker.llm.limits import TokenBucket

START = 14
"""Initial calls in flight: when the first allowance ends, all calls in flight may be refused."""
SURE = 27
"""Calls answered before the window opens: more than a small allowance (20) and its refill in that time."""
OPENING = 0.3
"""Seconds: the shorter a round trip is than this, the more the window opens with each answer."""
FEW = 64
"""Calls in flight up to which growth is limited: the window at most doubles in a round trip."""
QUIET = 0.75
"""Seconds without an answer or a refusal after which a full window is opened further."""
FEW_ADMITTED = 8
"""The fewest calls admitted between two refusals from which a rate is measured."""
PAUSE = 1.0
"""Seconds without a call after a first refusal without a `Retry-After`."""
PROBE_LEAST, PROBE_SHARE, PROBE_MOST = 0.5, 0.125, 30.0
"""Seconds between single calls to an endpoint that refuses all: a share of the time since it began."""
LONG_WAIT = 3.0
"""Seconds of waiting after which the saved allowance is used: after less, a counting period may not be over."""
MEASURED = 0.985
"""The share of a measured rate that is used."""
POWER = 4
"""The exponent of the time with which the rate rises."""
SPAN_GUESSED, SPAN_FACTOR, SPAN_MOST, SPAN_RESTORED = 3.0, 16.0, 64.0, 10.0
"""Seconds in which a guessed rate doubles if nothing is refused; how many times slower a measured one rises; and the
most for one of another process, in which the endpoint may have been slower for a while."""


class LearnedLimit:
    """How fast an endpoint may be called, learned from its responses; not thread-safe, and without a clock.

    `most` limits the calls in flight. `epoch` counts the refusals that contained new information:
    refusals of calls sent before the last one was known contain none.
    """

    def __init__(self, now: float, *, most: float = math.inf) -> None:
        self.epoch: int = 0
        self.hold_until = now
        self.refusing_since: float | None = None
        # A limit set by the user is trusted.
        self.window = float(START) if math.isinf(most) else most
        self._most = most
        self._latency = 0.0
        self._clean = self._sent = self._open_in_epoch = self._shrunk_at = 0
        self._heard_at = now
        self._probing = False
        self.downtime = Downtime(now)
        self.answered = False
        self._evidence = LimitEvidence()
        # A stretch ends with a refusal; from the second on it also starts with one: from empty to empty.
        self._begin = 0, now
        self._end: float | None = None
        self._refused = 0
        self._resumed = self._since = now
        self._pause = 0.0
        # The first stretch gives only a guess: how many were admitted, and in what time.
        self._guess: tuple[int, float] | None = None
        self._burst = 0
        self._bucket: TokenBucket | None = None
        self._base = self._refill = 0.0
        self._span = SPAN_GUESSED
        self._too_much = 1

    def rate(self, now: float) -> float | None:
        """Return the current rate in calls per second; None: limited only by the window."""
        return None if self._bucket is None else self._rate(now)

    def _rate(self, now: float) -> float:
        return float(self._base * (1.0 + (max(0.0, now - self._since) / self._span) ** POWER))

    def wait(self, now: float, in_flight: int) -> float | None:
        """Return the seconds until a call may leave; None: not before another call ends."""
        if self.downtime.since is not None:
            return self.downtime.wait(now)
        if now < self.hold_until:
            return self.hold_until - now
        if self._end is not None:
            self._learn(now, self._end)
        if self._probing and self._open_in_epoch:
            return None
        if in_flight + 1 > self.window and (quiet := self._quiet(now)) != 0.0:
            return quiet
        if self._bucket is None:
            return 0.0
        self._bucket.rate = self._rate(now)
        # A rate that is not used is not confirmed.
        self._since += self._bucket.refill(now)
        return self._bucket.wait(now)

    def pause(self, now: float) -> float:
        """Return the seconds for which all calls wait, after a refusal or while the endpoint is down."""
        return max(0.0, self.hold_until - now) if self.downtime.since is None else self.downtime.pause(now)

    def _quiet(self, now: float) -> float | None:
        """Open a full window after a time without answers or refusals; return the seconds until then.

        Refusals arrive at once, but answers may take minutes: waiting for them would open the window too slowly.
        Only if answers are known to be fast, or the window is fully open, is a finished call worth waiting for.
        """
        fast = 0.0 < self._latency < QUIET
        if fast or self.refusing_since is not None or self.window >= self._most:
            return None
        wait = self._heard_at + QUIET - now
        if wait > 1e-6:
            # The first in the queue sleeps on this timer and blocks the others: an answer must not wait long for it.
            return min(wait, 0.02 if self._latency else 0.005)
        self._heard_at = now
        self.window = min(self._most, self.window * 2)
        return 0.0

    def sent(self, now: float) -> int:
        """Count a call that leaves; return its number."""
        if not self._sent:
            self._begin = 0, now
            self._heard_at = now
        if self._bucket is not None:
            self._bucket.take(1.0)
        self._sent += 1
        self._open_in_epoch += 1
        if self.downtime.since is not None:
            self.downtime.sent(self._sent)
        return self._sent

    def ended(self, now: float, epoch: int, number: int) -> None:
        """The call with a `number`, sent in `epoch`, has ended, with any result."""
        if self.downtime.since is not None:
            self.downtime.ended(now, number)
        if epoch == self.epoch:
            self._open_in_epoch -= 1

    def succeeded(self, now: float, *, epoch: int, number: int, sent_at: float, in_flight: int) -> None:
        """A call was answered; `in_flight` counts it too."""
        self._heard_at = now
        self.answered = True
        self.alive()
        self._latency += (now - sent_at - self._latency) * (0.1 if self._latency else 1.0)
        if epoch != self.epoch:
            return
        if self.refusing_since is not None:
            self._resume(now, self.refusing_since)
        self._clean += 1
        if self._bucket is not None and self._evidence.acquits(number):
            self._forget_rate()
        # A window that is not used is not tested.
        sure = self._clean >= SURE or self._bucket is not None
        if not sure or in_flight * 2 < self.window or self.window >= self._most:
            return
        step = 1.0
        if self._most > FEW:
            step = min(16.0, max(1.0, OPENING / max(self._latency, 1e-3)))
            if self._clean == SURE and self._bucket is None:
                step *= 2.5 * step
        self.window = min(self._most, self.window + step)

    def alive(self) -> None:
        """The endpoint responded to a call: it is not down, or no longer."""
        if self.downtime.suspected and self.downtime.answered(self._sent):
            self.window = min(self._most, max(START, self.window / 2))

    def overloaded(self, now: float, number: int, *, new_row: bool, sure: bool) -> None:
        """A call timed out, or the endpoint failed: shrink the window, once for all calls then in flight.

        `new_row`: it was the first call for its row; `sure`: the row can't be the reason. Both are False if the
        caller does not want to wait.
        """
        self._heard_at = now
        if not self.downtime.failed(now, number, new_row=new_row, sure=sure) and number > self._shrunk_at:
            self._shrink(0.8)

    def _shrink(self, share: float) -> None:
        self._shrunk_at = self._sent
        self.window = min(self._most, max(START / 2, self.window * share))

    def refused(self, now: float, *, epoch: int, number: int, sent_at: float, retry_after: float | None) -> None:
        """A call was refused: all calls wait."""
        self._refused += 1
        self._heard_at = now
        self.alive()
        if epoch == self.epoch and self.refusing_since is None and self._is_scattered(now, number):
            return
        if epoch != self.epoch:
            self.hold_until = max(self.hold_until, now + (retry_after or 0.0))
            return
        self.epoch += 1
        self._evidence.restart()
        self._open_in_epoch = 0
        self._clean = 0
        if self.refusing_since is not None:
            # Nothing was admitted since the last refusal: one call at a time probes when that ends.
            self._probing = True
            self.window = min(self.window, START / 2)
            lasted = now - self.refusing_since
            pause = min(PROBE_MOST, max(PROBE_LEAST, PROBE_SHARE * lasted, retry_after or 0.0))
            self.hold_until = now + max(pause, retry_after or 0.0)
            return
        self.refusing_since = now
        self._shrink(0.7)
        if retry_after is None:
            retry_after = self._default_pause()
        self._pause = retry_after
        self.hold_until = now + retry_after
        # The outcome of the calls in flight is known only after the wait: learn from it then.
        self._end = sent_at

    def _is_scattered(self, now: float, number: int) -> bool:
        """Count a refusal; return whether it may be one among many answers: due to a busy endpoint, not to a limit."""
        if self._bucket is None:
            # Too few calls have left to know before the first seven, unless one was answered.
            return (self.answered or self._sent >= START // 2) and not self._evidence.shows_limit(number)
        counts = self._evidence.counts(number, self._sent)
        if counts is None:
            self._bucket.set(TESTS - 1.0, self._rate(now), now)
        return not counts

    def _forget_rate(self) -> None:
        """Return to OPEN: refusals do not depend on the learned rate."""
        self._bucket = self._guess = None
        self._clean = SURE
        self._evidence.restart()

    def _default_pause(self) -> float:
        if self._bucket is None:
            return PAUSE
        # Time for the refill of some calls: at least one if calls are rare, otherwise at most a pause.
        return max(min(PAUSE, max(0.25, 4.0 / self._base)), min(PROBE_MOST, 1.0 / self._base))

    def _learn(self, now: float, end: float) -> None:
        """Learn the rate from the stretch that a refusal ended; calls leave again from `now` on."""
        number, began = self._begin
        admitted = self._sent - number - self._refused
        if self._bucket is not None:
            self._measure(admitted, end - began, end)
        elif self._base:
            self._bucket, self._span = TokenBucket(self._base, now), self._shortest_span  # there is a limit after all
            self._evidence.trust_more()
        else:
            self._burst = admitted
            self._guess = admitted, end - began
            self._guess_rate(now, admitted, end - began + self._pause)
            self._probing = self._bucket is None
        self._begin, self._end, self._refused = (self._sent, end), None, 0
        self._restart(now, waited=now - end)

    def _guess_rate(self, now: float, admitted: int, took: float) -> None:
        """Guess a rate after the first refusal: the calls admitted until then, over that time and the wait."""
        if admitted < 1 or took <= 0.0:
            return
        self._base = self._refill = admitted / took
        self._span = self._shortest_span
        if self._bucket is None:
            self._bucket = TokenBucket(self._base, now)

    @property
    def _shortest_span(self) -> float:
        # The longer a refusal takes to arrive, the more calls follow it; and the rate must show in several calls.
        return max(SPAN_GUESSED + 5 * self._latency, FEW_ADMITTED / self._base)

    def _measure(self, admitted: int, whole: float, end: float) -> None:
        """Take the rate from a stretch of `whole` seconds from empty to empty."""
        self._guess = None
        rate, sending = self._rate(end), end - self._resumed
        if admitted < FEW_ADMITTED or sending <= 0.0 or whole <= 0.0:
            # Too few to measure: slow down, but at most by half, and not below the admitted rate.
            average = admitted / sending if sending > 0.0 else 0.0
            slower = self._base * min(0.8, max(0.5, average / self._base))
            self._base = max(slower, 0.9 * max(1, admitted) / whole) if whole > 0.0 else slower
            self._span = self._shortest_span
            return
        # The refill during the wait counts if the allowance is saved up; if calls are counted in
        # periods, only the time of sending counts.
        share = min(1.0, sending / whole / 0.85)
        average = admitted * ((1.0 - share) / whole + share / sending)
        measured = MEASURED * min(rate, max(average, self._sustained(end - self._since)))
        if rate < 1.05 * self._base:
            # The rate assumed to be safe was too high.
            measured = min(measured, (1.0 - 0.03 * self._too_much) * self._base)
            self._too_much = min(8, self._too_much * 2)
        else:
            self._too_much = 1
        confirmed = sending > 1.0 and admitted >= 20
        self._base, self._refill = measured, admitted / whole
        self._span = min(SPAN_MOST, self._span * SPAN_FACTOR) if confirmed else self._shortest_span

    def _sustained(self, end: float) -> float:
        """Return the rate above which the accelerating calls of the last `end` seconds used up the burst.

        While calls leave more slowly than the allowance is refilled, it stays full, and their average
        contains no information. Once they leave faster, it is drained by the difference.
        """
        base, span, n = self._base, self._span, POWER + 1

        def sent(seconds: float) -> float:
            return float(base * (seconds + span / n * (seconds / span) ** n))

        end = max(0.0, end)
        low, high = base, base * (1.0 + (end / span) ** POWER)
        for _ in range(20):
            rate = (low + high) / 2
            start = span * (rate / base - 1.0) ** (1 / POWER)
            if sent(end) - sent(start) - rate * (end - start) > self._burst:
                low = rate
            else:
                high = rate
        return low

    def _resume(self, now: float, since: float) -> None:
        """The endpoint, which refused all calls since `since`, answers again."""
        self.refusing_since = None
        if not self._probing:
            return
        self._probing = False
        if self._guess is not None:
            admitted, took = self._guess
            self._guess_rate(now, admitted, took + now - since)
        if self._bucket is None:
            # Nothing was ever admitted before: start from the initial state.
            self._begin, self._refused = (self._sent - 1, now), 0
        self._restart(now, waited=now - since)

    def _restart(self, now: float, *, waited: float) -> None:
        """Start again at the base rate, after a long wait with the allowance saved up in that time."""
        self._resumed = self._since = now
        if self._bucket is not None:
            saved = 0.8 * min(self._refill * waited, self._burst) if waited >= LONG_WAIT else 0.0
            # One call may already leave at level 0.
            self._bucket.set(max(0.0, saved - 1.0), self._base, now)

    def forget(self, now: float) -> None:
        """The limit has changed: what was learned about its rate no longer counts; a wait continues."""
        self._bucket = self._guess = self._end = None
        self._begin, self._refused = (self._sent, now), 0

    def to_dict(self) -> dict[str, float]:
        """Return what was learned, for another process; empty if no rate is known."""
        if self._bucket is None:
            return {}
        known = {"base": self._base, "refill": self._refill, "burst": self._burst, "span": self._span}
        return {**known, "window": min(self.window, 1e6)}

    def restore(self, data: dict[str, Any], now: float) -> None:
        """Start with what another process has learned.

        Raises:
            KeyError, TypeError, ValueError, OverflowError: it is not a result of `to_dict`.
        """
        known = {name: float(data[name]) for name in ("base", "refill", "burst", "span", "window")}
        if not all(0 < value < math.inf for name, value in known.items() if name != "burst") or not (
            0 <= known["burst"] < math.inf
        ):
            raise ValueError("not a learned limit")
        self._base, self._refill, self._burst = known["base"], known["refill"], int(known["burst"])
        self._span = min(known["span"], SPAN_RESTORED)
        self._bucket = TokenBucket(self._base, now)
        self.window = max(self.window, min(self._most, known["window"]))
        self._resumed = self._since = now
        self._evidence.distrust()
