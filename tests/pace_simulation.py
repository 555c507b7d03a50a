"""A simulated endpoint, clock and crowd of workers: real Pace and Retry objects, no waiting.

`simulate` is a small discrete event simulation. Each worker takes row after row and drives
one `Ticket` per call, as the drivers of the executor do.
`python tests/pace_simulation.py` prints the table of all scenarios.
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
from llmtasker.pace import Pace, RateLimit
from llmtasker.retry import Retry

CLIENT_CPU = 0.00046
"""Seconds of one core per call: the 2183 calls/s that raw aiohttp reaches, and no client exceeds."""


class Clock:
    """Virtual time, and what is to happen when."""

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
        """Return None, or for a refused call the seconds until one would be admitted."""
        return None

    def limits(self, now: float) -> dict[str, str] | None:
        return None


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
    """What a simulated run did; times in virtual seconds."""

    wall: float = 0.0
    finished: int = 0
    lost: int = 0
    refused: int = 0
    most_in_flight: int = 0
    sent: list[float] = field(default_factory=list[float])
    refused_at: list[float] = field(default_factory=list[float])


Step = Generator["float | Future[None]", None, None]


def simulate(  # noqa: PLR0913
    server: Server,
    rows: int,
    workers: int,
    *,
    latency: float = 0.05,
    jitter: float = 0.1,
    fast_refusal: bool = False,
    tokens: Callable[[Random], tuple[int, int]] = lambda random: (0, 0),
    limit: RateLimit | None = None,
    pace: Pace | None = None,
    clock: Clock | None = None,
    retry: Retry | None = None,
    cpu: float = 0.0,
    seed: int = 0,
    paced: bool = True,
) -> Outcome:
    """Return what came of `rows` calls by `workers`; `tokens` gives an estimate and the real number."""
    clock = clock or Clock()
    random = Random(seed)
    pace = pace or Pace(limit, max_concurrency=workers, clock=clock)
    retry = retry or Retry()
    outcome = Outcome()
    queue = iter(range(rows))
    busy_until = 0.0
    in_flight = 0

    def computing() -> float:
        nonlocal busy_until
        busy_until = max(busy_until, clock.now) + cpu
        return busy_until - clock.now

    def call() -> Generator[float | Future[None], None, bool]:
        nonlocal in_flight
        estimate, real = tokens(random)
        for failures in itertools.count(1):
            ticket = pace.ticket(estimate)
            while paced and (hold := ticket.poll()) is not None:
                yield hold
            if cpu:
                yield computing()
            in_flight += 1
            outcome.most_in_flight = max(outcome.most_in_flight, in_flight)
            outcome.sent.append(clock.now)
            whole = latency * random.uniform(1 - jitter, 1 + jitter)
            yield min(0.002, whole / 2)
            refusal = server.admit(clock.now, real)
            limits = server.limits(clock.now)
            yield min(0.002, whole / 2) if refusal is not None and fast_refusal else whole - min(0.002, whole / 2)
            in_flight -= 1
            if refusal is None:
                ticket.done(real, limits)
                return True
            outcome.refused += 1
            outcome.refused_at.append(clock.now)
            asked = float(math.ceil(refusal)) if server.retry_after else None
            ticket.refused(asked)
            delay = retry.delay(RateLimitError("slow down", retry_after=asked), failures, random, stalled=pace.stalled)
            if delay is None:
                return False
            yield delay
        raise AssertionError

    def work() -> Step:
        for _ in queue:
            if (yield from call()):
                outcome.finished += 1
            else:
                outcome.lost += 1
            outcome.wall = clock.now

    def resume(worker: Iterator[float | Future[None]]) -> None:
        hold = next(worker, None)
        if isinstance(hold, Future):
            hold.add_done_callback(lambda _: clock.after(0.0, lambda: resume(worker)))
        elif hold is not None:
            # A timer is late by up to a millisecond.
            clock.after(hold + random.uniform(0.0, 0.001), lambda: resume(worker))

    for _ in range(workers):
        worker = work()
        clock.after(0.0, lambda worker=worker: resume(worker))
    clock.run()
    return outcome


@dataclass(frozen=True)
class Scenario:
    name: str
    server: Callable[[], Server]
    rows: int
    ideal: float
    latency: float = 0.05
    jitter: float = 0.1
    workers: tuple[int, ...] = (32, 128)
    limit: RateLimit | None = None
    tokens: Callable[[Random], tuple[int, int]] = lambda random: (0, 0)

    def run(self, workers: int, *, seed: int = 0, fast_refusal: bool = False) -> Outcome:
        return simulate(
            self.server(), self.rows, workers, latency=self.latency, jitter=self.jitter,
            tokens=self.tokens, limit=self.limit, seed=seed, fast_refusal=fast_refusal,
        )  # fmt: skip


def sized(share: float) -> Callable[[Random], tuple[int, int]]:
    """Calls of 200–600 tokens whose estimate is off by the factor `share`."""

    def draw(random: Random) -> tuple[int, int]:
        real = random.randint(200, 600)
        return round(real * share), real

    return draw


def scenarios() -> list[Scenario]:
    """Return what an endpoint may do, with the time that a run knowing everything would need."""
    found: list[Scenario] = []
    for told in (True, False):
        word = "Retry-After" if told else "bare"
        for latency, jitter in ((0.05, 0.1), (0.005, 0.1), (0.3, 0.3)):
            found.append(Scenario(
                f"bucket 20/s, {latency * 1000:g} ms, {word}", lambda told=told: Bucket(20, 20, retry_after=told),
                300, 14 + latency, latency, jitter,
            ))  # fmt: skip
        found += [
            Scenario(f"windows 20 in 1 s, {word}", lambda told=told: Windows(20, 1, retry_after=told), 300, 14.05),
            Scenario(f"windows 600 in 60 s, {word}", lambda told=told: Windows(600, 60, retry_after=told), 900, 60.1),
            Scenario(f"storm 3 s, then free, {word}",
                     lambda told=told: Storm(Server(retry_after=told), 0, 3), 300, 3.05 + 300 / 32 * 0.05, workers=(32,)),
            Scenario(f"storm 3 s, then bucket, {word}",
                     lambda told=told: Storm(Bucket(20, 20, retry_after=told), 0, 3), 300, 17.05),
            Scenario(f"bucket 20/s, storm at 5–8 s, {word}",
                     lambda told=told: Storm(Bucket(20, 20, retry_after=told), 5, 8), 300, 16.05),
        ]  # fmt: skip
        found += [
            Scenario(f"bucket 8000 tokens/s, estimate × {share}, {word}",
                     lambda told=told: Bucket(8000, 8000, count_tokens=True, retry_after=told), 300, 14.05,
                     tokens=sized(share))
            for share in (0.5, 1.0, 1.5)
        ]  # fmt: skip
    found += [
        Scenario("bucket 200/s burst 20, bare", lambda: Bucket(200, 20, retry_after=False), 3000, 14.95),
        Scenario("bucket 5/s burst 5, Retry-After", lambda: Bucket(5, 5), 300, 59.05),
        Scenario("bucket 20/s burst 100, Retry-After", lambda: Bucket(20, 100), 600, 25.05),
        Scenario("bucket 20/s, headers", lambda: Bucket(20, 20, headers=True), 300, 14.05),
        Scenario("bucket 8000 tokens/s, headers", lambda: Bucket(8000, 8000, count_tokens=True, headers=True), 300, 14.05,
                 tokens=sized(1.0)),
        Scenario("given 1200 requests, bucket", lambda: Bucket(20, 20), 300, 14.05, limit=RateLimit(requests=1200)),
        Scenario("given 1200 requests, windows of 1 s", lambda: Windows(20, 1), 300, 14.05,
                 limit=RateLimit(requests=1200)),
        Scenario("given 600 requests, windows of 60 s", lambda: Windows(600, 60), 900, 90.0,
                 limit=RateLimit(requests=600)),
        *(
            Scenario(f"given 480000 tokens, estimate × {share}", lambda: Bucket(8000, 8000, count_tokens=True), 300, 14.05,
                     limit=RateLimit(tokens=480_000), tokens=sized(share))
            for share in (0.5, 1.0, 1.5)
        ),
    ]  # fmt: skip
    return found


def main() -> None:
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    print(f"{'scenario':44} {'workers':>7} {'refusal':>7} {'wall/ideal':>10} {'refused %':>9} {'lost':>4}")
    for scenario in scenarios():
        if only not in scenario.name:
            continue
        for workers in scenario.workers:
            for fast in (False, True):
                runs = [scenario.run(workers, seed=seed, fast_refusal=fast) for seed in range(5)]
                wall = max(run.wall for run in runs) / scenario.ideal
                refused = 100 * max(run.refused for run in runs) / scenario.rows
                mark = "" if wall <= 1.15 and refused <= 10 and not any(run.lost for run in runs) else "  <<<"
                print(f"{scenario.name:44} {workers:7} {'fast' if fast else 'slow':>7} {wall:10.3f} {refused:9.1f}"
                      f" {sum(run.lost for run in runs):4}{mark}")  # fmt: skip
    for workers in (32, 128, 512):
        for latency in (0.005, 0.05):
            free = simulate(Server(), 2000, workers, latency=latency, cpu=CLIENT_CPU, paced=False)
            paced = simulate(Server(), 2000, workers, latency=latency, cpu=CLIENT_CPU)
            print(f"{f'unlimited, {latency * 1000:g} ms':44} {workers:7} {'':7} {paced.wall / free.wall:10.3f}")


if __name__ == "__main__":
    main()
