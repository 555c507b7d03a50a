"""A simulated endpoint, clock and crowd of workers: real RateLimiter and Retry objects, no waiting.

`Crowd.run` is a small discrete event simulation. Each worker takes row after row and drives
one `Permit` per call, as the drivers of the policy do.
`python tests/rate_limit_simulation.py` prints the table of all scenarios.
"""

from __future__ import annotations

import heapq
import itertools
import math
import sys
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from random import Random

from llmtasker.errors import RateLimitError
from llmtasker.llm.limits import RateLimit, Retry
from llmtasker.llm.rate_limiter import RateLimiter

CLIENT_CPU = 0.00046
"""Seconds of one core per call: the 2183 calls/s that raw aiohttp reaches, and no client exceeds."""


class Clock:
    """Virtual time, with the events to come."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()

    def __call__(self) -> float:
        return self.now

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + max(0.0, seconds), next(self._number), action))

    def run(self, until: float = 1e7) -> None:
        while self._events:
            self.now, _, action = heapq.heappop(self._events)
            if self.now > until:
                raise AssertionError(f"not finished after {until} virtual seconds")
            action()


class Server:
    """An endpoint that admits everything. Subclasses refuse."""

    def __init__(self, *, retry_after: bool = True, headers: bool = False) -> None:
        self.retry_after = retry_after
        self.headers = headers

    def admit(self, now: float, tokens: int) -> float | None:
        """Return None if a call is admitted, or else the seconds until one would be."""
        return None

    def answered(self) -> None:
        """A call that was admitted has ended."""

    def limits(self, now: float) -> dict[str, str] | None:
        return None


class Scattered(Server):
    """Refuses a share of the calls, for a reason that the client can't know."""

    def __init__(self, share: float, seed: int, **options: bool) -> None:
        super().__init__(**options)
        self._share, self._random = share, Random(seed)

    def admit(self, now: float, tokens: int) -> float | None:
        return 1.0 if self._random.random() < self._share else None


class Places(Server):
    """Processes a number of calls at once, and refuses others."""

    def __init__(self, count: int, **options: bool) -> None:
        super().__init__(**options)
        self.free = count

    def admit(self, now: float, tokens: int) -> float | None:
        if not self.free:
            return 1.0
        self.free -= 1
        return None

    def answered(self) -> None:
        self.free += 1


class Bucket(Server):
    """`rate` units a second, up to `burst` saved; a call costs one unit, or its tokens."""

    def __init__(self, rate: float, burst: float, *, count_tokens: bool = False, **options: bool) -> None:
        super().__init__(**options)
        self.rate, self.burst, self.level, self.at = rate, burst, burst, 0.0
        self.count_tokens = count_tokens

    def admit(self, now: float, tokens: int) -> float | None:
        self.level = min(self.burst, self.level + self.rate * (now - self.at))
        self.at = now
        cost = tokens if self.count_tokens else 1
        if self.level < cost - 1e-9:
            return (cost - self.level) / self.rate
        self.level -= cost
        return None

    def limits(self, now: float) -> dict[str, str] | None:
        if not self.headers:
            return None
        unit = "tokens" if self.count_tokens else "requests"
        return {
            f"x-ratelimit-limit-{unit}": f"{self.rate * 60:.0f}",
            f"x-ratelimit-remaining-{unit}": f"{self.level:.0f}",
            f"x-ratelimit-reset-{unit}": f"{(self.burst - self.level) / self.rate * 1000:.0f}ms",
        }


class Windows(Server):
    """`count` calls in each window of `seconds`, whenever in it."""

    def __init__(self, count: int, seconds: float, **options: bool) -> None:
        super().__init__(**options)
        self.count, self.seconds, self.used = count, seconds, {0: 0}

    def admit(self, now: float, tokens: int) -> float | None:
        window = math.floor(now / self.seconds)
        if self.used.get(window, 0) >= self.count:
            return (window + 1) * self.seconds - now
        self.used[window] = self.used.get(window, 0) + 1
        return None


class Storm(Server):
    """Refuses all calls between two times, then asks the server behind it."""

    def __init__(self, behind: Server, start: float, end: float) -> None:
        super().__init__(retry_after=behind.retry_after)
        self.behind, self.start, self.end = behind, start, end

    def admit(self, now: float, tokens: int) -> float | None:
        if self.start <= now < self.end:
            return 1.0
        return self.behind.admit(now, tokens)


@dataclass
class Outcome:
    """The result of a simulated run; times are in virtual seconds."""

    wall: float = 0.0
    finished: int = 0
    lost: int = 0
    refused: int = 0
    most_in_flight: int = 0
    sent: list[float] = field(default_factory=list[float])


Hold = Generator["float | Future[None]", None, None]
Sizes = Callable[[Random], tuple[int, int]]


def unsized(random: Random) -> tuple[int, int]:
    """Calls whose tokens are not counted."""
    return 0, 0


@dataclass(kw_only=True)
class Crowd:
    """Workers that share one pace; `tokens` draws an estimate and the real number for each row.

    `latency` is that of an answer, plus or minus the share `jitter`; a refusal takes as long, or 2 ms with
    `fast_refusal`. `cpu` is the time of a call on the only core of the client. `learned` is from another process.
    """

    server: Server
    latency: float = 0.05
    jitter: float = 0.1
    fast_refusal: bool = False
    tokens: Sizes = unsized
    limit: RateLimit | None = None
    retry: Retry = field(default_factory=Retry)
    cpu: float = 0.0
    seed: int = 0
    paced: bool = True
    learned: dict[str, float] | None = None

    def run(self, rows: int, workers: int) -> Outcome:
        """Return the result of `rows` calls by `workers`."""
        self._clock = Clock()
        self._random = Random(self.seed)
        self._pace = RateLimiter(self.limit, clock=self._clock)
        if self.learned is not None:
            self._pace.restore(self.learned)
        self._outcome = Outcome()
        self._queue = iter(range(rows))
        self._core_free_at = 0.0
        self._in_flight = 0
        for _ in range(workers):
            self._resume(self._work())
        self._clock.run()
        assert self._pace.in_flight == self._pace.waiting == 0
        return self._outcome

    def _resume(self, worker: Hold) -> None:
        hold = next(worker, None)
        if isinstance(hold, Future):
            hold.add_done_callback(lambda _: self._clock.after(0.0, lambda: self._resume(worker)))
        elif hold is not None:
            # A timer is late by up to a millisecond.
            self._clock.after(hold + self._random.uniform(0.0, 0.001), lambda: self._resume(worker))

    def _work(self) -> Hold:
        for _ in self._queue:
            sizes = self.tokens(self._random)
            for failures in itertools.count(1):
                refused = yield from self._call(*sizes)
                if refused is None:
                    self._outcome.finished += 1
                    break
                delay = self.retry.delay(refused, failures, self._random, stalled=self._pace.stalled)
                if delay is None:
                    self._outcome.lost += 1
                    break
                yield delay
            self._outcome.wall = self._clock.now

    def _call(self, estimate: int, real: int) -> Generator[float | Future[None], None, RateLimitError | None]:
        ticket = self._pace.permit(estimate)
        while self.paced and (hold := ticket.poll()) is not None:
            yield hold
        if self.cpu:
            self._core_free_at = max(self._core_free_at, self._clock.now) + self.cpu
            yield self._core_free_at - self._clock.now
        self._in_flight += 1
        self._outcome.most_in_flight = max(self._outcome.most_in_flight, self._in_flight)
        self._outcome.sent.append(self._clock.now)
        whole = self.latency * self._random.uniform(1 - self.jitter, 1 + self.jitter)
        there = min(0.002, whole / 2)
        yield there
        refusal = self.server.admit(self._clock.now, real)
        limits = self.server.limits(self._clock.now)
        yield there if refusal is not None and self.fast_refusal else whole - there
        self._in_flight -= 1
        if refusal is None:
            self.server.answered()
            ticket.done(real, limits)
            return None
        self._outcome.refused += 1
        asked = float(math.ceil(refusal)) if self.server.retry_after else None
        ticket.refused(asked)
        return RateLimitError("slow down", retry_after=asked)


@dataclass(frozen=True)
class Scenario:
    """A run, the seconds that it would take with perfect knowledge, and its bounds."""

    name: str
    server: Callable[[], Server]
    rows: int
    ideal: float
    latency: float = 0.05
    jitter: float = 0.1
    workers: tuple[int, ...] = (32, 128)
    limit: RateLimit | None = None
    tokens: Sizes = unsized
    wall: float = 1.15
    """Most seconds, as a multiple of `ideal`."""
    refused: float = 0.12
    """Most refused calls, as a share of the rows; most are those of the first seconds, from which a limit is seen."""

    def run(self, workers: int, *, seed: int = 0, fast_refusal: bool = False) -> Outcome:
        crowd = Crowd(
            server=self.server(), latency=self.latency, jitter=self.jitter, tokens=self.tokens, limit=self.limit,
            seed=seed, fast_refusal=fast_refusal,
        )  # fmt: skip
        return crowd.run(self.rows, workers)


def sized(share: float) -> Sizes:
    """Calls of 200–600 tokens whose estimate is off by the factor `share`."""

    def draw(random: Random) -> tuple[int, int]:
        real = random.randint(200, 600)
        return round(real * share), real

    return draw


def scenarios() -> list[Scenario]:
    """Return runs against all kinds of endpoints."""
    return [
        *(scenario for told in (True, False) for scenario in unknown_limits(told, "Retry-After" if told else "bare")),
        *known_limits(),
    ]


def unknown_limits(told: bool, word: str) -> Iterator[Scenario]:
    """Yield endpoints that only refuse, with or without a time to wait."""

    def bucket(rate: float = 20, burst: float = 20) -> Bucket:
        return Bucket(rate, burst, retry_after=told)

    for latency, jitter in ((0.05, 0.1), (0.005, 0.1), (0.3, 0.3)):
        name = f"bucket 20/s, {latency * 1000:g} ms, {word}"
        yield Scenario(name, bucket, 300, 14 + latency, latency, jitter)
    # With a Retry-After in whole seconds each refusal costs a whole period.
    wall = 1.2 if told else 1.15
    yield Scenario(f"20 in each 1 s, {word}", lambda: Windows(20, 1, retry_after=told), 300, 14.05, wall=wall)
    # All 128 in flight may be refused at the end of a large allowance.
    yield Scenario(f"600 in each 60 s, {word}", lambda: Windows(600, 60, retry_after=told), 900, 60.1, refused=0.2)
    yield Scenario(f"burst 100, {word}", lambda: bucket(20, 100), 600, 25.05, refused=0.25)
    # The first guess, from a burst that is short for the rate, is far too low.
    yield Scenario(f"burst 5, {word}", lambda: bucket(20, 5), 300, 14.8, wall=1.5)
    yield Scenario(f"bucket 200/s, burst 20, {word}", lambda: bucket(200, 20), 3000, 14.95, wall=1.75)
    yield Scenario(f"bucket 5/s, burst 5, {word}", lambda: bucket(5, 5), 300, 59.05)
    free = 3.05 + 300 / 32 * 0.05
    yield Scenario(f"storm of 3 s, {word}", lambda: Storm(Server(retry_after=told), 0, 3), 300, free, workers=(32,))
    yield Scenario(f"storm of 3 s, then bucket, {word}", lambda: Storm(bucket(), 0, 3), 300, 17.05)
    yield Scenario(f"storm in the middle, {word}", lambda: Storm(bucket(), 5, 8), 300, 16.05)
    yield Scenario(
        f"bucket of tokens, {word}",
        lambda: Bucket(8000, 8000, count_tokens=True, retry_after=told), 300, 14.05, tokens=sized(1.5),
    )  # fmt: skip


def known_limits() -> Iterator[Scenario]:
    """Yield endpoints whose limit is given, or reported in headers."""

    def tokens(*, headers: bool = False) -> Bucket:
        return Bucket(8000, 8000, count_tokens=True, headers=headers)

    yield Scenario("headers, requests", lambda: Bucket(20, 20, headers=True), 300, 14.05)
    yield Scenario("headers, tokens", lambda: tokens(headers=True), 300, 14.05, tokens=sized(1.0))
    requests = RateLimit(requests=1200)
    yield Scenario("given, bucket", lambda: Bucket(20, 20), 300, 14.05, limit=requests, refused=0)
    yield Scenario("given, 20 in each 1 s", lambda: Windows(20, 1), 300, 14.05, limit=requests, refused=0)
    minute = RateLimit(requests=600)
    yield Scenario("given, 600 in each 60 s", lambda: Windows(600, 60), 900, 90, limit=minute, refused=0)
    for share in (0.5, 1.0, 1.5):
        yield Scenario(
            f"given, tokens, estimate × {share}", tokens, 300, 14.05,
            limit=RateLimit(tokens=480_000), tokens=sized(share), refused=0,
        )  # fmt: skip


def main() -> None:
    """Print all figures; `<<<` marks a run of more than 1.15 × ideal, over 10 % refused calls, or a lost row."""
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    print(f"{'scenario':40} {'workers':>7} {'refusal':>7} {'wall/ideal':>10} {'refused %':>9} {'lost':>4}")
    for scenario, fast in itertools.product(scenarios(), (False, True)):
        for workers in scenario.workers if only in scenario.name else ():
            runs = [scenario.run(workers, seed=seed, fast_refusal=fast) for seed in range(5)]
            wall = max(run.wall for run in runs) / scenario.ideal
            refused = max(run.refused for run in runs) / scenario.rows
            lost = sum(run.lost for run in runs)
            mark = "<<<" if wall > 1.15 or refused > 0.1 or lost else ""
            speed = "fast" if fast else "slow"
            print(f"{scenario.name:40} {workers:7} {speed:>7} {wall:10.3f} {100 * refused:9.1f} {lost:4} {mark}")
    for workers, latency in itertools.product((32, 128, 512), (0.005, 0.05, 3.0)):
        free = Crowd(server=Server(), latency=latency, cpu=CLIENT_CPU, paced=False).run(2000, workers)
        paced = Crowd(server=Server(), latency=latency, cpu=CLIENT_CPU).run(2000, workers)
        print(f"{f'unlimited, {latency * 1000:g} ms':40} {workers:7} {'':7} {paced.wall / free.wall:10.3f}")


if __name__ == "__main__":
    main()
