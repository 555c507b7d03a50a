"""One rate limit for the workers of several machines: shared, returned, and never exceeded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest
from clock import Clock
from hypothesis import given
from hypothesis import strategies as st

from llmtasker import RateLimit
from llmtasker.integrations.rate_shares import (
    ANSWER,
    BEAT,
    HEADROOM,
    IDLE_BEATS,
    LEASE,
    LONGEST_WAIT,
    NONE,
    RateShare,
    RateShares,
    part_of,
)
from llmtasker.llm.rate_limiter import Permit, RateLimiter

LIMIT = RateLimit(requests=1200, tokens=60_000)


@pytest.fixture
def clock() -> Clock:
    return Clock(0.0)


def rounds(shares: RateShares, wants: dict[str, float], count: int = 2) -> list[float]:
    """Let each worker renew this often; return the last shares."""
    return [[shares.renew(worker, wanted) for worker, wanted in wants.items()] for _ in range(count)][-1]


ALL = 1.0  # what a worker that uses up its share wants


@pytest.mark.parametrize("workers", ["a", "ab", "abc", "abcdefgh"])
def test_all_get_the_same_after_two_renewals(workers: str, clock: Clock) -> None:
    found = rounds(RateShares(clock=clock), dict.fromkeys(workers, ALL))
    assert found == pytest.approx([1 / len(workers)] * len(workers))


@pytest.mark.parametrize(
    ("wants", "shares"),
    [
        ([0.0, ALL], [0.05, 0.95]),  # it starts: a tenth of an equal share, so that it can begin
        ([0.2, ALL], [0.2, 0.8]),
        ([0.2, ALL, ALL], [0.2, 0.4, 0.4]),
        ([0.2, 0.3, ALL], [0.2, 0.3, 0.5]),
        ([0.6, ALL], [0.5, 0.5]),
        ([0.2, 0.4], [0.4, 0.6]),  # the unused rest is divided too: either may need more soon
        ([0.0], [1.0]),
    ],
)
def test_what_one_cannot_use_is_lent_to_the_others(wants: list[float], shares: list[float], clock: Clock) -> None:
    found = rounds(RateShares(clock=clock), {str(place): wanted for place, wanted in enumerate(wants)}, 3)
    assert found == pytest.approx(shares)


def test_what_one_uses_is_not_given_away_before_it_knows(clock: Clock) -> None:
    """The answer that takes half of it may be lost: then it uses all, until its lease ends."""
    shares = RateShares(clock=clock)
    assert shares.renew("a", ALL) == 1.0
    assert shares.renew("b", ALL) == 0.0
    assert shares.renew("a", ALL, using=1.0) == 0.5
    assert shares.renew("b", ALL) == 0.0
    assert shares.renew("a", ALL, using=0.5) == 0.5
    assert shares.renew("b", ALL) == 0.5


def test_a_loan_is_given_back_at_the_next_renewal(clock: Clock) -> None:
    shares = RateShares(clock=clock)
    rounds(shares, {"a": 0.2, "b": ALL})
    assert shares.renew("a", ALL) == pytest.approx(0.2), "b still has the rest …"
    assert shares.renew("b", ALL) == 0.5
    assert shares.renew("a", ALL) == 0.5


def test_the_share_of_one_that_ends_goes_to_the_others_at_once(clock: Clock) -> None:
    shares = RateShares(clock=clock)
    rounds(shares, dict.fromkeys("abc", ALL))
    shares.leave("b")
    assert rounds(shares, dict.fromkeys("ac", ALL)) == [0.5, 0.5]


def test_the_share_of_one_that_is_killed_goes_to_the_others_after_its_lease(clock: Clock) -> None:
    shares = RateShares(clock=clock)
    rounds(shares, dict.fromkeys("ab", ALL))
    clock.now = LEASE - BEAT
    assert shares.renew("a", ALL) == 0.5
    clock.now = LEASE
    assert shares.renew("a", ALL) == 1.0
    assert shares.renew("b", ALL) == 0.0, "it comes back, and waits until the other has renewed"
    assert rounds(shares, dict.fromkeys("ab", ALL)) == [0.5, 0.5]


STEP = st.one_of(st.just("leave"), st.just("wait"), st.floats(0, 2))  # a number: renew, wanting so much


@given(st.lists(st.tuples(st.sampled_from("abcde"), STEP), max_size=60))
def test_they_never_add_up_to_more_than_the_limit(steps: list[tuple[str, str | float]]) -> None:
    clock = Clock(0.0)
    shares = RateShares(clock=clock)
    held: dict[str, tuple[float, float]] = {}
    for worker, step in steps:
        if step == "leave":
            shares.leave(worker)
            held.pop(worker, None)
        elif isinstance(step, float):
            held[worker] = (shares.renew(worker, step), clock.now + LEASE)
        else:
            clock.now += 1.0
        in_use = sum(share for share, ends in held.values() if ends > clock.now)
        assert in_use <= 1.0 + 1e-9


class Answers:
    """The shares that a worker gets, one after the other; an exception is raised."""

    def __init__(self, *answers: float | Exception) -> None:
        self.answers = list(answers)
        self.wanted: list[float] = []
        self.used: list[float] = []
        self.left = 0

    def renew(self, wanted: float, using: float) -> float:
        self.used.append(using)
        self.wanted.append(wanted)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def leave(self) -> None:
        self.left += 1
        raise ConnectionError("even if it can't be reached")


def share_of(answers: Answers, clock: Clock, sleep: Callable[[float], object] = lambda _: None) -> RateShare:
    return RateShare(LIMIT, RateLimiter(part_of(LIMIT, 0.25), clock=clock), answers, 0.25, sleep=sleep, clock=clock)


@contextmanager
def with_rows(limiter: RateLimiter, answers: Answers, clock: Clock) -> Generator[RateShare]:
    """The share of a worker that has rows: it was renewed once; from then on, only the test renews it."""
    ended = threading.Event()
    with RateShare(LIMIT, limiter, answers, 0.25, sleep=lambda _: ended.wait(10), clock=clock) as share:
        try:
            yield share
        finally:
            ended.set()


GONE = ConnectionError("gone")


@pytest.mark.parametrize(
    ("answers", "rates"),
    [  # 0.97 × 20 calls a second are the whole limit
        ([0.5, 1.0], [9.7, 19.4]),
        ([0.5, GONE, GONE, 1.0], [9.7, 9.7, 9.7, 19.4]),  # cut off for a moment, within the lease
        ([0.5, GONE, GONE, GONE, GONE, 1.0], [9.7, 9.7, 9.7, 0.0, 0.0, 19.4]),  # others may have it already
        ([0.5, 0.0, 0.25], [9.7, 0.0, 4.85]),  # it was lost, such as to a pause of the machine
        ([GONE, 0.0, 0.5], [0.0, 0.0, 9.7]),  # there is none at first
    ],
)
def test_a_worker_uses_its_share_while_it_lasts(
    answers: list[float | Exception], rates: list[float], clock: Clock
) -> None:
    limiter = RateLimiter(part_of(LIMIT, 0.25), clock=clock)
    share = RateShare(LIMIT, limiter, Answers(*answers), 0.25, clock=clock)
    share._parts = 1  # it has rows
    used: list[float] = []
    for _ in answers:
        share.beat()
        used.append(limiter.rate or 0.0)
        clock.now += BEAT
    assert used == pytest.approx(rates, abs=1e-3)


def test_after_a_long_wait_an_equal_part_is_used_until_there_is_a_share(clock: Clock) -> None:
    """Otherwise no more rows would be asked after the process that shares the limit has died."""
    limiter = RateLimiter(part_of(LIMIT, 0.25), clock=clock)
    share = RateShare(LIMIT, limiter, Answers(0.5, *[GONE] * 4, 0.5), 0.25, clock=clock)
    share._parts = 1  # it has rows
    used: list[float] = []
    for now in (0.0, 0.5, 2.0, LONGEST_WAIT + 1.9, LONGEST_WAIT + 2.0, LONGEST_WAIT + 2.5):
        clock.now = now
        share.beat()
        used.append(limiter.rate or 0.0)
    assert used == pytest.approx([9.7, 9.7, 0.0, 0.0, 4.85, 9.7], abs=1e-3)


class Line:
    """The connection of a worker to the shares, which can be cut; each call takes some time."""

    def __init__(self, shares: RateShares, name: str, clock: Clock) -> None:
        self.shares, self.name, self.clock = shares, name, clock
        self.is_cut = False
        self.seconds = 0.0

    def renew(self, wanted: float, using: float) -> float:
        share = 0.0 if self.is_cut else self.shares.renew(self.name, wanted, using)
        if self.is_cut or self.seconds >= ANSWER:
            raise TimeoutError(self.name)
        return share

    def leave(self) -> None:
        raise TimeoutError(self.name)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.floats(0, ANSWER)), max_size=80))
def test_shares_in_use_never_add_up_to_more_than_the_limit(steps: list[tuple[int, bool, float]]) -> None:
    """Workers that are cut off in between: each beats in time, as its thread does."""
    clock = Clock(0.0)
    shares = RateShares(clock=clock)
    lines = [Line(shares, name, clock) for name in "abc"]
    limiters = [RateLimiter(part_of(LIMIT, NONE), clock=clock) for _ in lines]
    workers = [
        RateShare(LIMIT, limiter, line, 0.0001, clock=clock) for line, limiter in zip(lines, limiters, strict=True)
    ]
    for worker in workers:
        worker._parts = 1  # it has rows
    for number, cut, seconds in steps:
        lines[number].is_cut = cut
        lines[number].seconds = seconds
        for worker in workers:
            worker.beat()
            used = sum((limiter.limit.requests or 0.0) for limiter in limiters if limiter.limit is not None)
            assert used <= 1200 * (1 + 1e-3)
        clock.now += BEAT + max(line.seconds for line in lines)


def test_rows_come_and_go_while_a_share_is_given_back(clock: Clock) -> None:
    """The message that returns it takes long; rows that come in the meantime get a new share."""
    did: list[str] = []

    def work() -> None:
        did.append("began")
        with share:
            did.append("worked")

    rows = threading.Thread(target=work, daemon=True)

    class Slow(Answers):
        def leave(self) -> None:
            rows.start()
            until = time.monotonic() + 10
            while not share._parts:
                assert time.monotonic() < until, "rows wait for the message"
                time.sleep(0.001)

    share = share_of(Slow(*[0.5] * (IDLE_BEATS + 1)), clock)
    share._renewing = True  # the test takes the place of the thread that renews it
    assert [share.beat() for _ in range(IDLE_BEATS + 2)] == [True] * (IDLE_BEATS + 2)
    rows.join(10)
    assert did == ["began", "worked"]


@pytest.mark.parametrize(
    ("calls", "wanted"), [(0, 0.0), (1, HEADROOM * 1 / 20), (5, HEADROOM * 5 / 20), (10, 1.0), (50, 1.0)]
)
def test_a_worker_says_what_it_can_use(calls: int, wanted: float, clock: Clock) -> None:
    """Half of `LIMIT` is 10 calls a second."""
    limiter = RateLimiter(LIMIT, clock=clock)
    answers = Answers(0.5, 0.5)
    with with_rows(limiter, answers, clock) as share:
        waiting: list[Permit] = []
        for _ in range(10):
            for _ in range(calls):
                clock.now += 1 / calls
                waiting.append(limiter.permit())
                waiting = [permit for permit in waiting if permit.poll() is not None]
            clock.now += 0 if calls else 1
        share.beat()
    assert answers.wanted[:2] == [0.0, pytest.approx(wanted, rel=0.05, abs=0.01)]


def test_refusals_do_not_hold_back_a_share_that_grows(clock: Clock) -> None:
    limiter = RateLimiter(RateLimit(requests=60), clock=clock)
    first = limiter.permit()
    assert first.poll() is None
    first.refused(retry_after=1.0)
    clock.now += 1.5
    assert limiter.permit().poll() is None
    limiter.change(RateLimit(requests=1200))
    assert limiter.rate == pytest.approx(19.4)


def test_a_worker_waits_for_its_share_and_gives_it_back(clock: Clock) -> None:
    answers = Answers(0.0, 0.0, 0.5, *[0.5] * IDLE_BEATS)
    waits: list[float] = []
    share = share_of(answers, clock, waits.append)
    with share:  # the thread that renews it ends by itself, because no time passes and the rows are done
        assert waits[:2] == [BEAT / 5, BEAT / 5]


def test_an_idle_worker_gives_its_share_back(clock: Clock) -> None:
    answers = Answers(*[0.5] * IDLE_BEATS)
    share = share_of(answers, clock)
    assert [share.beat() for _ in range(IDLE_BEATS + 1)] == [True] * IDLE_BEATS + [False]
    assert answers.left == 1


# ── the limiter takes another limit while calls wait ──


def test_a_limit_changes_for_the_calls_that_wait(clock: Clock) -> None:
    limiter = RateLimiter(RateLimit(requests=60), clock=clock)
    first, second = limiter.permit(), limiter.permit()
    assert first.poll() is None
    assert second.poll() == 0.5
    limiter.change(RateLimit(requests=60_000))
    assert limiter.rate == pytest.approx(970)
    clock.now += 0.01
    assert second.poll() is None
    first.done()
    second.done()


def test_what_calls_have_taken_stays_taken(clock: Clock) -> None:
    limiter = RateLimiter(RateLimit(requests=6000), clock=clock)
    permits = [limiter.permit() for _ in range(10)]
    assert permits[0].poll() is None
    for _ in range(100):  # a change does not let calls leave sooner
        limiter.change(RateLimit(requests=6000))
    assert permits[1].poll() is not None
    limiter.change(RateLimit(tokens=600))
    assert permits[1].poll() is None, "requests are not limited any more"
    for permit in permits:
        permit.cancel()
