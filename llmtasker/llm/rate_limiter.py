"""RateLimiter: when the next call may leave, shared by everything that uses one LLM."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from llmtasker.errors import ConfigurationError
from llmtasker.llm.learned_limit import LearnedLimit
from llmtasker.llm.limits import MARGIN, RateLimit, TokenBucket, limit_in_headers
from llmtasker.values.argument_checks import is_count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LONGEST_TIMER = 0.5
"""Seconds after which the first in the queue checks again: the rate may have changed while it slept."""

# The states of a permit, in order.
_NEW, _QUEUED, _LEFT, _ENDED = range(4)


class RateLimiter:
    """Decides when the next call may leave: one queue, first come first served, for all threads and event loops.

    Without a `limit` it is learned: from `x-ratelimit-*` headers, or else from refusals (429). Nothing here
    waits or does I/O: a `Permit` returns how long to wait. `clock` returns seconds and is monotonic.

    >>> limiter = RateLimiter(RateLimit(requests=60), clock=lambda: 0.0)
    >>> first, second = limiter.permit(), limiter.permit()
    >>> first.poll() is None        # it may leave
    True
    >>> second.poll()               # 0.5 s at most, then ask again
    0.5
    >>> first.done()
    """

    def __init__(
        self,
        limit: RateLimit | None = None,
        *,
        max_concurrency: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_concurrency is not None and not is_count(max_concurrency):
            raise ConfigurationError(
                f"max_concurrency (a number of calls) must be a whole number of at least 1, not {max_concurrency!r}."
            )
        self.limit = limit
        self.max_concurrency = max_concurrency
        self._clock = clock
        now = clock()
        self._learned = LearnedLimit(now, most=math.inf if max_concurrency is None else max_concurrency)
        self._learns = limit is None
        self._requests = _changed(None, limit.requests if limit else None, now)
        self._tokens = _changed(None, limit.tokens if limit else None, now)
        self._tokens_reserved = 0.0
        self._token_ratio = 1.0
        self._lock = threading.Lock()
        self._queue: deque[Permit] = deque()
        self._waiting = 0
        self._in_flight = 0
        self._last_error = ""
        # Whether the first in the queue sleeps on a timer: only the first does, the others wait for a future.
        self._timed = False

    @property
    def in_flight(self) -> int:
        """Calls that have left and have not ended."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn: for the limit, or for a call in flight to end."""
        return self._waiting

    @property
    def rate(self) -> float | None:
        """The most calls per second that leave; None: no request limit is known."""
        with self._lock:
            now = self._clock()
            rates = [self._learned.rate(now), self._requests.rate if self._requests else None]
        return min((rate for rate in rates if rate is not None), default=None)

    @property
    def held(self) -> float:
        """Seconds until the endpoint may be called again after a refusal or a failure; 0: now."""
        return self._learned.pause(self._clock())

    @property
    def stalled(self) -> float:
        """Seconds since the endpoint began to refuse everything, or to fail; 0: it answered last."""
        learned = self._learned
        since = learned.refusing_since if learned.downtime.since is None else learned.downtime.since
        return 0.0 if since is None else self._clock() - since

    @property
    def down(self) -> bool:
        """Whether the endpoint fails for all rows, so that one call at a time probes when that ends."""
        return self._learned.downtime.since is not None

    @property
    def reason(self) -> str:
        """The last error of an endpoint that refuses or fails everything; empty: it answered last."""
        return self._last_error if self.stalled else ""

    @property
    def answered(self) -> bool:
        """Whether the endpoint has answered any call so far."""
        return self._learned.answered

    def learned(self) -> dict[str, float]:
        """Return what was learned about the limits of the endpoint, for another process; empty if they were given."""
        with self._lock:
            return self._learned.to_dict() if self._learns else {}

    def restore(self, learned: dict[str, Any]) -> None:
        """Start with what `learned` returned in another process; anything else is ignored."""
        with self._lock, contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
            if self._learns and not self._in_flight:
                self._learned.restore(learned, self._clock())

    @property
    def used(self) -> float:
        """The part of its limit that was used since it was given or changed, from 0 to 1."""
        with self._lock:
            now = self._clock()
            return max((bucket.used(now) for bucket in (self._requests, self._tokens) if bucket), default=0.0)

    def change(self, limit: RateLimit) -> None:
        """Use another limit from now on, such as another share of it; calls in flight and what is owed still count."""
        with self._lock:
            now = self._clock()
            if _is_other(self.limit, limit):
                self._learned.forget(now)
            self.limit, self._learns = limit, False
            self._requests = _changed(self._requests, limit.requests, now)
            self._tokens = _changed(self._tokens, limit.tokens, now)
            woken = self._pump(now)[0] if self._waiting else []
        _wake(woken)

    def permit(self, tokens: int = 0) -> Permit:
        """Return the permit of one call that will use about `tokens`, input and output together."""
        return Permit(self, tokens)

    # Everything below runs under the lock. Futures are set after it is released, because callbacks are foreign code.

    def _wait(self, now: float) -> float | None:
        """Return the seconds until a call may leave; None: not before another call ends."""
        wait = self._learned.wait(now, self._in_flight)
        if wait is not None:
            if self._requests is not None:
                wait = max(wait, self._requests.wait(now))
            if self._tokens is not None:
                wait = max(wait, self._tokens.wait(now))
        return wait

    def _leave(self, permit: Permit, now: float, number: int) -> None:
        permit.state = _LEFT
        permit.sent_at = now
        permit.epoch = self._learned.epoch
        permit.number = number
        self._in_flight += 1
        if self._requests is not None:
            self._requests.take(1.0)
        if self._tokens is not None:
            permit.reserved = permit.tokens * self._token_ratio
            self._tokens.take(permit.reserved)
            self._tokens_reserved += permit.reserved

    def _pump(self, now: float, asking: Permit | None = None) -> tuple[list[Future[None]], float | None]:
        """Let all calls leave that may; return the futures to wake, and the wait of the first that may not."""
        woken: list[Future[None]] = []
        wait: float | None = None
        while self._queue:
            head = self._queue[0]
            if head.state != _QUEUED:
                self._queue.popleft()
                continue
            if self._timed and head is not asking:
                break
            self._timed = False
            wait = self._wait(now)
            if wait is None:
                break
            if wait > 0.0:
                self._timed = True
                # It waited for its turn; now it has to poll again to get the timer.
                if head.future is not None:
                    woken.append(head.future)
                    head.future = None
                break
            self._queue.popleft()
            self._waiting -= 1
            self._leave(head, now, self._learned.sent(now))
            if head.future is not None:
                woken.append(head.future)
                head.future = None
        return woken, wait

    def poll(self, permit: Permit) -> float | Future[None] | None:
        woken: list[Future[None]] = []
        answer: float | Future[None] | None = None
        with self._lock:
            now = self._clock()
            if permit.state == _NEW:
                if not self._waiting and self._wait(now) == 0.0:
                    self._leave(permit, now, self._learned.sent(now))
                else:
                    permit.state = _QUEUED
                    self._queue.append(permit)
                    self._waiting += 1
            if permit.state == _QUEUED:
                woken, wait = self._pump(now, permit)
                if permit.state == _QUEUED:
                    if self._timed and self._queue[0] is permit and wait is not None:
                        answer = min(wait, LONGEST_TIMER)
                    else:
                        if permit.future is None or permit.future.cancelled():
                            permit.future = Future()
                        answer = permit.future
            elif permit.state == _ENDED:
                raise RuntimeError("this call is finished: take a new permit for the next one")
        _wake(woken)
        return answer

    def _end(self, permit: Permit, now: float) -> bool:
        """Remove a permit from the queue or the calls in flight; return whether its call had left."""
        state, permit.state = permit.state, _ENDED
        if state == _LEFT:
            self._in_flight -= 1
            self._tokens_reserved -= permit.reserved
            self._learned.ended(now, permit.epoch, permit.number)
            return True
        if state == _QUEUED:
            self._waiting -= 1
            if self._queue[0] is permit:
                self._timed = False
        return False

    def done(self, permit: Permit, used: int | None, limits: Mapping[str, str] | None) -> None:
        """Record that a call was answered (`Permit.done`)."""
        with self._lock:
            now = self._clock()
            if self._end(permit, now):
                self._learned.succeeded(
                    now,
                    epoch=permit.epoch,
                    number=permit.number,
                    sent_at=permit.sent_at,
                    in_flight=self._in_flight + 1,
                )
                if used is not None:
                    self._settle(permit, used)
                if limits and self._learns:
                    self._learn(limits, now)
            woken = self._pump(now)[0] if self._waiting else []
        _wake(woken)

    def refused(self, permit: Permit, retry_after: float | None, reason: str) -> None:
        """Record that the endpoint refused a call (`Permit.refused`)."""
        with self._lock:
            self._last_error = reason
            now = self._clock()
            if self._end(permit, now):
                if self._tokens is not None:
                    self._tokens.take(-permit.reserved)
                self._learned.refused(
                    now, epoch=permit.epoch, number=permit.number, sent_at=permit.sent_at, retry_after=retry_after
                )
            woken = self._pump(now)[0] if self._waiting else []
        _wake(woken)

    def failed(
        self, permit: Permit, *, overload: bool | None, new_row: bool = False, sure: bool = False, reason: str = ""
    ) -> None:
        """Record that a call failed, or was cancelled (`overload` is None); see `Permit.failed`, `Permit.cancel`."""
        with self._lock:
            now = self._clock()
            if self._end(permit, now) and overload is not None:
                if overload:
                    self._last_error = reason
                    self._learned.overloaded(now, permit.number, new_row=new_row, sure=sure)
                else:
                    self._learned.alive()
            woken = self._pump(now)[0] if self._waiting else []
        _wake(woken)

    def _settle(self, permit: Permit, used: int) -> None:
        """Return the tokens that were reserved but not used, and learn the error of the estimates."""
        if self._tokens is not None:
            self._tokens.take(used - permit.reserved)
        if permit.tokens > 0:
            self._token_ratio += 0.1 * (used / permit.tokens - self._token_ratio)

    def _learn(self, headers: Mapping[str, str], now: float) -> None:
        """Use the remaining limit that a response states; it may or may not include the calls in flight."""
        if (stated := limit_in_headers("requests", headers)) is not None:
            self._requests = self._requests or TokenBucket(stated.rate, now)
            self._requests.set(stated.remaining - self._in_flight, MARGIN * stated.rate, now)
        if (stated := limit_in_headers("tokens", headers)) is not None:
            self._tokens = self._tokens or TokenBucket(stated.rate, now)
            self._tokens.set(stated.remaining - self._tokens_reserved, MARGIN * stated.rate, now)


class Permit:
    """One call's permission to leave; any method that ends it frees its place, and only the first one counts.

    Drive it with `while (hold := permit.poll()) is not None:` and wait for its result.
    """

    __slots__ = ("_limiter", "epoch", "future", "number", "reserved", "sent_at", "state", "tokens")

    def __init__(self, limiter: RateLimiter, tokens: int) -> None:
        self._limiter = limiter
        self.tokens = tokens
        self.reserved = 0.0
        self.state = _NEW
        self.future: Future[None] | None = None
        self.sent_at = 0.0
        self.epoch = 0
        self.number = 0

    def poll(self) -> float | Future[None] | None:
        """Return None: leave now (the call counts as in flight); seconds to wait; or a future to wait for.

        After the wait, poll again. A future may be cancelled: the next poll returns another one.

        Raises:
            RuntimeError: the permit was used up by `done`, `refused`, `failed` or `cancel`.
        """
        return self._limiter.poll(self)

    def done(self, usage_tokens: int | None = None, limits: Mapping[str, str] | None = None) -> None:
        """The call was answered: settle its tokens, and learn from its `x-ratelimit-*` headers."""
        self._limiter.done(self, usage_tokens, limits)

    def refused(self, retry_after: float | None = None, reason: str = "") -> None:
        """The endpoint responded 429, perhaps with the seconds to wait: all calls wait; `reason` is shown then."""
        self._limiter.refused(self, retry_after, reason)

    def failed(self, *, overload: bool = False, new_row: bool = False, sure: bool = False, reason: str = "") -> None:
        """The call failed otherwise; `overload`: with a timeout, a broken connection, or an endpoint error (5xx).

        Then `new_row` means that it was the first call for its row, and `sure` that the row can't be the reason: after
        several such failures without an answer, all calls wait for the endpoint.
        """
        self._limiter.failed(self, overload=overload, new_row=new_row, sure=sure, reason=reason)

    def cancel(self) -> None:
        """The call was cancelled, before or after it left."""
        self._limiter.failed(self, overload=None)


def _is_other(before: RateLimit | None, limit: RateLimit) -> bool:
    """Return whether a limit differs so much from the previous one that earlier refusals teach nothing about it."""
    if before is None:
        return True
    pairs = (before.requests, limit.requests), (before.tokens, limit.tokens)
    return any(not 0.9 * new < (old or 0.0) < 1.1 * new for old, new in pairs if new is not None)


def _changed(bucket: TokenBucket | None, per_minute: float | None, now: float) -> TokenBucket | None:
    """Return the bucket of a limit; what calls have taken from the previous one stays taken."""
    if not per_minute:
        return None
    changed = TokenBucket(MARGIN * per_minute / 60, now)
    if bucket is not None:
        bucket.refill(now)
        changed.level = bucket.level
    return changed


def _wake(futures: list[Future[None]]) -> None:
    for future in futures:
        # False: its waiter has been cancelled since.
        if future.set_running_or_notify_cancel():
            future.set_result(None)
