"""Faults of an endpoint: errors, limits, broken connections; each a small object that changes a Reply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from math import ceil
from typing import Any, Literal, cast

from llmtasker.testing.exchange import Call, Reply

RetryAfter = Literal["seconds", "date", "ms"]
"""The form of a wait: whole seconds, an HTTP date, or milliseconds in `retry-after-ms`."""


class Bucket:
    """The remaining allowance at `rate` per second."""

    def __init__(self, *, rate: float, size: float | None = None, window: float | None = None) -> None:
        self.rate = rate
        self.window = window
        self.size = rate * window if window else max(1.0, rate) if size is None else size
        self.level = self.size
        self._since: float | None = None

    def wait_for(self, cost: float, now: float) -> float:
        """Return the seconds until `cost` is available; a cost above the capacity waits for a full bucket."""
        since = now if self._since is None else self._since
        if self.window:
            started = since + (now - since) // self.window * self.window
            if started > since:
                self.level = self.size
            self._since = started
        else:
            self.level = min(self.size, self.level + (now - since) * self.rate)
            self._since = now
        missing = min(cost, self.size) - self.level
        # A millionth is rounding, not a missing request.
        if missing <= 1e-6:
            return 0.0
        return self._since + self.window - now if self.window else missing / self.rate


@dataclass(kw_only=True)
class Fault:
    """A fault and the calls that it affects: all, or those that `when`, `first` and `share` select, in this order.

    `when` is a predicate of the Call, or a text that the last user message must contain. `first=n` affects n calls and
    then no more; with `per_input=True`, n calls of each different last user message.
    `share` is a probability, drawn from the server's seeded generator. `hits` counts the replies changed.

    Faults are applied in the order given, and only while the reply is still a whole answer.
    Subclasses define `apply`; a plain function `(call, reply) -> None` is a fault too.
    """

    first: int | None = None
    share: float = 1.0
    when: str | Callable[[Call], bool] | None = None
    per_input: bool = False
    hits: int = field(default=0, init=False)
    _hits_of: Counter[str] = field(default_factory=Counter[str], init=False, repr=False)

    def __call__(self, call: Call, reply: Reply) -> None:
        place = call.text if self.per_input else ""
        if reply.is_answer and self._chosen(call, place) and self.apply(call, reply):
            self.hits += 1
            if self.first is not None:
                self._hits_of[place] += 1

    def _chosen(self, call: Call, place: str) -> bool:
        if self.when is not None:
            chosen = self.when in call.text if isinstance(self.when, str) else self.when(call)
            if not chosen:
                return False
        if self.first is not None and self._hits_of[place] >= self.first:
            return False
        return self.share >= 1 or call.random.random() < self.share

    def apply(self, call: Call, reply: Reply) -> bool:
        """Change the reply and return True, or leave it unchanged and return False."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget all hits."""
        self.hits = 0
        self._hits_of.clear()


@dataclass
class Status(Fault):
    """An HTTP error with a message; `wait` seconds are sent in the form `retry_after`."""

    status: int
    message: str = "injected error"
    code: str | None = None
    wait: float | None = None
    retry_after: RetryAfter = "seconds"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def apply(self, call: Call, reply: Reply) -> bool:
        reply.fail(self.status, self.message, code=self.code)
        reply.headers.update(self.headers)
        if self.wait is not None:
            reply.headers.update(retry_headers(self.wait, self.retry_after))
        return True


@dataclass
class Limit(Fault):
    """A limit on requests and tokens per second; calls above it get a 429 and are not counted.

    A bucket of `burst` (default: one second's worth, at least 1) that fills evenly; with `window` seconds, a fixed
    window with `window` seconds' worth, which then starts again.
    `retry_after=None` does not send a wait.
    `tell=True` adds `x-ratelimit-*` headers (limits per minute) to answers and refusals.
    Tokens are those of request and answer.
    """

    requests: float | None = None
    tokens: float | None = None
    burst: float | None = None
    window: float | None = None
    retry_after: RetryAfter | None = "seconds"
    tell: bool = False
    _buckets: dict[str, Bucket] = field(default_factory=dict[str, Bucket], init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        super().reset()
        rates = {"requests": self.requests, "tokens": self.tokens}
        self._buckets = {
            name: Bucket(rate=rate, size=self.burst, window=self.window) for name, rate in rates.items() if rate
        }

    def apply(self, call: Call, reply: Reply) -> bool:
        costs = {name: reply.tokens if name == "tokens" else 1 for name in self._buckets}
        waits = {name: bucket.wait_for(costs[name], call.now) for name, bucket in self._buckets.items()}
        worst = max(waits, key=lambda name: waits[name], default=None)
        refused = worst is not None and waits[worst] > 0
        if worst is not None and refused:
            message = f"Rate limit reached for {worst}. Please try again in {waits[worst]:.3f}s."
            reply.fail(429, message, code="rate_limit_exceeded", kind=worst)
            if self.retry_after is not None:
                reply.headers.update(retry_headers(waits[worst], self.retry_after))
        else:
            for name, bucket in self._buckets.items():
                bucket.level -= costs[name]
        if self.tell:
            for name, bucket in self._buckets.items():
                reply.headers[f"x-ratelimit-limit-{name}"] = str(round(bucket.rate * 60))
                reply.headers[f"x-ratelimit-remaining-{name}"] = str(max(0, int(bucket.level)))
                reply.headers[f"x-ratelimit-reset-{name}"] = f"{bucket.wait_for(bucket.size, call.now) * 1000:.0f}ms"
        return refused


@dataclass
class Storm(Fault):
    """Every `every` seconds, for `lasts` seconds, each call gets a 429 (or another `status`)."""

    every: float
    lasts: float
    status: int = 429
    retry_after: RetryAfter | None = None
    _started: float | None = field(default=None, init=False, repr=False)

    def apply(self, call: Call, reply: Reply) -> bool:
        if self._started is None:
            self._started = call.now
        # The storm is at the end of each period, so the first calls pass.
        left = self.every - (call.now - self._started) % self.every
        if left > self.lasts:
            return False
        reply.fail(self.status, "The engine is currently overloaded, please try again later.", kind="requests")
        if self.retry_after is not None:
            reply.headers.update(retry_headers(left, self.retry_after))
        return True

    def reset(self) -> None:
        super().reset()
        self._started = None


@dataclass
class Outage(Fault):
    """The endpoint is down once, for `lasts` seconds, from `starts` seconds after the first call on.

    Each call gets `status`, or with `status=None` a connection that is reset.
    """

    lasts: float
    starts: float = 0.0
    status: int | None = 503
    _first: float | None = field(default=None, init=False, repr=False)

    def apply(self, call: Call, reply: Reply) -> bool:
        if self._first is None:
            self._first = call.now
        if not self.starts <= call.now - self._first < self.starts + self.lasts:
            return False
        if self.status is None:
            reply.breaks = "before_headers"
        else:
            reply.fail(self.status, "The service is down for maintenance.", kind="server_error")
        return True

    def reset(self) -> None:
        super().reset()
        self._first = None


@dataclass
class RepeatsInput(Fault):
    """An error whose message repeats the input, in place of `{input}`."""

    message: str = "invalid request: {input}"
    status: int = 400

    def apply(self, call: Call, reply: Reply) -> bool:
        reply.fail(self.status, self.message.replace("{input}", call.text))
        return True


@dataclass
class SentTwice(Fault):
    """The response is sent twice, so that a second one waits, unread, on a connection that is kept open."""

    def apply(self, call: Call, reply: Reply) -> bool:
        reply.times = 2
        return True


@dataclass
class Reset(Fault):
    """The connection is reset, before the response's headers or after them."""

    at: Literal["before_headers", "after_headers"] = "before_headers"

    def apply(self, call: Call, reply: Reply) -> bool:
        reply.breaks = self.at
        return True


@dataclass
class Hang(Fault):
    """Nothing is ever sent."""

    def apply(self, call: Call, reply: Reply) -> bool:
        reply.breaks = "hang"
        return True


@dataclass
class Delay(Fault):
    """The answer comes `seconds` later than the server's latency."""

    seconds: float

    def apply(self, call: Call, reply: Reply) -> bool:
        reply.delay += self.seconds
        return True


@dataclass
class Drip(Fault):
    """The answer's body is sent at this many bytes per second."""

    bytes_per_second: float = 10.0

    def apply(self, call: Call, reply: Reply) -> bool:
        reply.bytes_per_second = self.bytes_per_second
        return True


@dataclass
class Body(Fault):
    """Another body with status 200: a proxy's HTML, nothing at all, an error inside a 200, compressed megabytes."""

    body: str | bytes = "<html><body><h1>Please log in</h1></body></html>"
    content_type: str = "text/html"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def apply(self, call: Call, reply: Reply) -> bool:
        reply.raw = self.body if isinstance(self.body, bytes) else self.body.encode("utf-8", "surrogatepass")
        reply.content_type = self.content_type
        reply.headers.update(self.headers)
        return True


@dataclass
class Rejects(Fault):
    """A 400 with the given message if the request has the field, at any depth except in messages and schemas.

    `Rejects({"tools": "tools are not supported", "strict": "unknown field: strict"})`
    """

    features: Mapping[str, str]

    def apply(self, call: Call, reply: Reply) -> bool:
        present = _names(call.body)
        for name, message in self.features.items():
            if name in present:
                reply.fail(400, message, code="unsupported_parameter")
                return True
        return False


@dataclass
class ContextLimit(Fault):
    """A 400 `context_length_exceeded` above this many input tokens (a quarter of the body's characters)."""

    tokens: int

    def apply(self, call: Call, reply: Reply) -> bool:
        if call.input_tokens > self.tokens:
            message = (
                f"This model's maximum context length is {self.tokens} tokens. "
                f"However, your messages resulted in {call.input_tokens} tokens."
            )
            reply.fail(400, message, code="context_length_exceeded")
            return True
        return False


def retry_headers(wait: float, form: RetryAfter) -> dict[str, str]:
    """Return the header that asks for a wait in seconds.

    >>> retry_headers(0.25, "ms"), retry_headers(0.25, "seconds")
    ({'retry-after-ms': '250'}, {'retry-after': '1'})
    """
    if form == "ms":
        return {"retry-after-ms": str(ceil(wait * 1000))}
    if form == "date":
        # A date has whole seconds and drops the fraction, so one second is added, to never ask for too little.
        when = datetime.now(UTC) + timedelta(seconds=wait + 1)
        return {"retry-after": format_datetime(when.replace(microsecond=0), usegmt=True)}
    return {"retry-after": str(ceil(wait))}


def _names(value: Any) -> set[str]:
    """Return the names of all fields of a request, except those from the user's texts and types."""
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        inner = (member for name, member in members.items() if name not in {"messages", "parameters", "schema"})
        return set(members).union(*map(_names, inner))
    if isinstance(value, list):
        return set[str]().union(*map(_names, cast("list[object]", value)))
    return set()
