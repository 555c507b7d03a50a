"""One rate limit for the workers of several machines: shared out, given back, never more than the whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtasker import RateLimit
from llmtasker.integrations.rate_shares import BEAT, IDLE_BEATS, LEASE, RateShare, RateShares, part_of
from llmtasker.llm.rate_limiter import RateLimiter

LIMIT = RateLimit(requests=1200, tokens=60_000)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def rounds(shares: RateShares, workers: str, count: int = 2) -> list[float]:
    """Each worker renews so often; return the last shares."""
    return [[shares.renew(worker) for worker in workers] for _ in range(count)][-1]


@pytest.mark.parametrize("workers", ["a", "ab", "abc", "abcdefgh"])
def test_all_get_the_same_after_two_renewals(workers: str, clock: Clock) -> None:
    assert rounds(RateShares(clock=clock), workers) == pytest.approx([1 / len(workers)] * len(workers))


def test_the_share_of_one_that_ends_goes_to_the_others_at_once(clock: Clock) -> None:
    shares = RateShares(clock=clock)
    rounds(shares, "abc")
    shares.leave("b")
    assert rounds(shares, "ac") == [0.5, 0.5]


def test_the_share_of_one_that_is_killed_goes_to_the_others_after_its_lease(clock: Clock) -> None:
    shares = RateShares(clock=clock)
    rounds(shares, "ab")
    clock.now = LEASE - BEAT
    assert shares.renew("a") == 0.5
    clock.now = LEASE
    assert shares.renew("a") == 1.0
    assert shares.renew("b") == 0.0, "it comes back, and waits until the other has renewed"
    assert rounds(shares, "ab") == [0.5, 0.5]


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from(["renew", "leave", "wait"])), max_size=60))
def test_they_never_add_up_to_more_than_the_limit(steps: list[tuple[str, str]]) -> None:
    clock = Clock()
    shares = RateShares(clock=clock)
    held: dict[str, tuple[float, float]] = {}
    for worker, step in steps:
        if step == "leave":
            shares.leave(worker)
            held.pop(worker, None)
        elif step == "renew":
            held[worker] = (shares.renew(worker), clock.now + LEASE)
        else:
            clock.now += 1.0
        in_use = sum(share for share, ends in held.values() if ends > clock.now)
        assert in_use <= 1.0 + 1e-9


class Answers:
    """The shares that a worker is given, one after the other; an exception is raised."""

    def __init__(self, *answers: float | Exception) -> None:
        self.answers = list(answers)
        self.left = 0

    def renew(self) -> float:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def leave(self) -> None:
        self.left += 1
        raise ConnectionError("even if it can't be reached")


def share_of(answers: Answers, clock: Clock, sleep: Callable[[float], object] = lambda _: None) -> RateShare:
    return RateShare(LIMIT, RateLimiter(part_of(LIMIT, 0.25), clock=clock), answers, sleep)


def test_a_worker_uses_its_share(clock: Clock) -> None:
    limiter = RateLimiter(part_of(LIMIT, 0.25), clock=clock)
    share = RateShare(LIMIT, limiter, Answers(0.5, 0.0, ConnectionError("gone"), 1.0))
    share._parts = 1  # it has rows; entering it would start its thread
    used: list[float | None] = []
    for _ in range(4):
        share.beat()
        used.append(limiter.rate)
    assert used == pytest.approx([9.7, 9.7, 9.7, 19.4]), "0.97 × 20 a second; without an answer, as before"


def test_a_worker_waits_for_its_share_and_gives_it_back(clock: Clock) -> None:
    answers = Answers(0.0, 0.0, 0.5, *[0.5] * IDLE_BEATS)
    waits: list[float] = []
    share = share_of(answers, clock, waits.append)
    with share:  # the thread that renews it ends by itself, as no time passes and the rows are done
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
