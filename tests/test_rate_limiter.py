"""RateLimiter, LearnedLimit, TokenBucket, RateLimit, Retry: with a virtual clock, without waiting."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rate_limit_simulation import (
    CLIENT_CPU,
    Bucket,
    Clock,
    Crowd,
    Places,
    Scattered,
    Scenario,
    Server,
    Storm,
    Windows,
    scenarios,
    sized,
)

from llmtasker.errors import ConfigurationError, NetworkError, RateLimitError, ServerError, TransientError
from llmtasker.llm.learned_limit import LearnedLimit
from llmtasker.llm.limit_evidence import LimitEvidence
from llmtasker.llm.limits import RateLimit, Retry, limit_in_headers
from llmtasker.llm.rate_limiter import Permit, RateLimiter


def pace_at(clock: Clock, limit: RateLimit | None = None, most: int | None = None) -> RateLimiter:
    return RateLimiter(limit, max_concurrency=most, clock=clock)


def leave(pace: RateLimiter, tokens: int = 0) -> Permit:
    ticket = pace.permit(tokens)
    assert ticket.poll() is None
    return ticket


def wait_of(ticket: Permit, clock: Clock) -> float:
    """Return the seconds until the permit may leave, polling as a driver does."""
    start = clock.now
    while (hold := ticket.poll()) is not None:
        assert isinstance(hold, float)
        clock.now += hold
    return clock.now - start


# ── runs against a simulated endpoint ──


@pytest.mark.parametrize("fast_refusal", [False, True], ids=["slow", "fast"])
@pytest.mark.parametrize("scenario", scenarios(), ids=lambda scenario: scenario.name)
def test_a_run_loses_nothing_and_is_near_the_ideal(scenario: Scenario, fast_refusal: bool) -> None:
    for workers in scenario.workers:
        run = scenario.run(workers, seed=7, fast_refusal=fast_refusal)
        assert (run.lost, run.finished) == (0, scenario.rows)
        assert run.wall <= scenario.wall * scenario.ideal
        assert run.refused <= scenario.refused * scenario.rows
        assert run.most_in_flight <= workers


@pytest.mark.parametrize("latency", [0.005, 0.05])
@pytest.mark.parametrize("workers", [32, 128, 512])
def test_an_unlimited_endpoint_is_not_slowed_down(workers: int, latency: float) -> None:
    free = Crowd(server=Server(), latency=latency, cpu=CLIENT_CPU, paced=False).run(2000, workers)
    paced = Crowd(server=Server(), latency=latency, cpu=CLIENT_CPU).run(2000, workers)
    assert paced.wall <= 1.1 * free.wall
    assert paced.most_in_flight <= workers


def test_what_was_learned_is_kept_for_another_process() -> None:
    assert pace_at(Clock()).learned() == {}
    crowd = Crowd(server=Bucket(20, 20))
    crowd.run(200, 32)
    learned = crowd._pace.learned()
    assert learned["base"] > 0
    other = pace_at(Clock())
    other.restore(learned)
    assert other.rate == pytest.approx(learned["base"])
    wrong_values = {"base": [-1, 10**400], "span": ["x"], "refill": [float("inf")], "burst": [-5, float("inf")]}
    for wrong in ({}, *({**learned, name: value} for name, values in wrong_values.items() for value in values)):
        fresh = pace_at(Clock())
        fresh.restore(wrong)
        assert fresh.rate is None
    given = pace_at(Clock(), RateLimit(requests=60))
    given.restore(learned)
    assert (given.rate, given.learned()) == (pytest.approx(0.97), {})


def test_slow_answers_do_not_keep_the_window_small() -> None:
    paced = Crowd(server=Server(), latency=5.0, jitter=0.0).run(512, 128)
    # Four rounds of 5 s, and less than one more for opening.
    assert paced.wall < 25.0


@pytest.mark.parametrize("retry_after", [True, False])
def test_refused_for_ever_ends(retry_after: bool) -> None:
    server = Storm(Server(retry_after=retry_after), 0, 1e9)
    run = Crowd(server=server, retry=Retry(refusals=4, give_up_after=60)).run(3, 3)
    assert (run.finished, run.lost) == (0, 3)
    assert 3 <= len(run.sent) == run.refused <= 12


def test_out_of_patience_a_row_is_given_up_at_its_next_refusal() -> None:
    run = Crowd(server=Storm(Server(), 0, 1e9), retry=Retry(refusals=10**9, give_up_after=600)).run(5, 5)
    assert run.lost == 5
    assert 600 <= run.wall <= 1200
    # A storm is probed by one call at a time, ever more rarely.
    assert run.refused <= 100


def test_one_row_refused_for_ever_does_not_cost_the_others() -> None:
    class Grudge(Server):
        def admit(self, now: float, tokens: int) -> float | None:
            return 1.0 if tokens == 13 else None

    sizes = iter([*range(40)] * 2)
    run = Crowd(server=Grudge(), tokens=lambda random: (0, next(sizes)), retry=Retry(refusals=4)).run(40, 8)
    assert (run.finished, run.lost, run.refused) == (39, 1, 4)


@settings(deadline=None)
@given(
    rate=st.floats(0.5, 300),
    seconds_saved=st.floats(0.05, 5),
    latency=st.floats(0.002, 2),
    jitter=st.floats(0, 0.9),
    workers=st.integers(1, 64),
    told=st.booleans(),
    fast=st.booleans(),
    seed=st.integers(0, 9),
)
def test_whatever_the_endpoint_no_row_is_lost_or_stuck(
    rate: float, seconds_saved: float, latency: float, jitter: float, workers: int, told: bool, fast: bool, seed: int
) -> None:
    server = Bucket(rate, max(1.0, rate * seconds_saved), retry_after=told)
    crowd = Crowd(server=server, latency=latency, jitter=jitter, fast_refusal=fast, seed=seed)
    run = crowd.run(60, workers)
    assert (run.finished, run.lost) == (60, 0)
    assert run.most_in_flight <= workers
    assert len(run.sent) == 60 + run.refused


@pytest.mark.parametrize("seconds", [1, 60])
@pytest.mark.parametrize("requests", [30, 600, 1200, 30_000])
def test_a_given_limit_is_kept_in_every_window(requests: int, seconds: int) -> None:
    crowd = Crowd(server=Server(), limit=RateLimit(requests=requests), latency=0.2)
    sent = crowd.run(min(2000, requests + 50), 256).sent
    allowed = max(1, requests * seconds // 60)
    assert all(later - sent[i] >= seconds - 1e-6 for i, later in enumerate(sent[allowed:]))


def test_a_given_token_limit_is_kept_although_estimates_are_far_off() -> None:
    for share in (0.2, 1.0, 4.0):
        run = Crowd(server=Server(), limit=RateLimit(tokens=480_000), tokens=sized(share)).run(300, 32)
        # 300 calls of 400 tokens are 120 000: 15 s.
        assert 13.8 < run.wall < 17


# ── one permit after the other ──


def test_calls_leave_at_once_when_nothing_limits_them() -> None:
    pace = pace_at(Clock())
    assert leave(pace).poll() is None
    assert (pace.in_flight, pace.waiting, pace.rate, pace.held, pace.stalled) == (1, 0, None, 0, 0)


@pytest.mark.parametrize("ending", ["done", "refused", "failed", "cancel"])
def test_an_ending_counts_once_and_frees_the_place(ending: str) -> None:
    clock = Clock()
    pace = pace_at(clock, most=2)
    ticket, other = leave(pace), leave(pace)
    for _ in range(3):
        getattr(ticket, ending)()
        other.cancel()
    assert pace.in_flight == pace.waiting == 0
    with pytest.raises(RuntimeError, match="take a new permit"):
        ticket.poll()
    clock.now = 10.0
    leave(pace)


def test_the_first_to_come_is_the_first_to_leave() -> None:
    pace = pace_at(Clock(), most=1)
    current = leave(pace)
    queue = [pace.permit() for _ in range(4)]
    futures = [ticket.poll() for ticket in queue]
    assert [ticket.poll() for ticket in queue] == futures
    assert (pace.in_flight, pace.waiting) == (1, 4)
    for ticket, future in zip(queue, futures, strict=True):
        assert isinstance(future, Future)
        assert not future.done()
        current.done()
        assert future.result(timeout=0) is None
        assert pace.in_flight == 1
        assert ticket.poll() is None
        current = ticket


def test_who_leaves_the_queue_passes_his_turn_on() -> None:
    clock = Clock()
    pace = pace_at(clock, RateLimit(requests=60))
    leave(pace)
    first, second, third = (pace.permit() for _ in range(3))
    assert first.poll() == 0.5  # not longer, because the rate may change
    waiting = [second.poll(), third.poll()]
    assert all(isinstance(future, Future) and not future.done() for future in waiting)
    second.cancel()
    first.cancel()
    assert [future.done() for future in waiting if isinstance(future, Future)] == [False, True]
    assert pace.waiting == 1
    assert wait_of(third, clock) == pytest.approx(1 / 0.97)


def test_an_abandoned_future_is_replaced() -> None:
    pace = pace_at(Clock(), most=1)
    current, ticket = leave(pace), pace.permit()
    future = ticket.poll()
    assert isinstance(future, Future)
    assert future.cancel()
    again = ticket.poll()
    assert isinstance(again, Future)
    assert again is not future
    again.cancel()
    current.done()
    assert ticket.poll() is None
    assert pace.in_flight == 1


def test_a_granted_call_that_is_cancelled_before_it_left_frees_its_place() -> None:
    pace = pace_at(Clock(), most=1)
    current, granted, last = leave(pace), pace.permit(), pace.permit()
    granted.poll()
    last.poll()
    current.done()
    granted.cancel()
    assert last.poll() is None
    assert pace.in_flight == 1


def test_after_a_refusal_everybody_waits_on_one_clock() -> None:
    clock = Clock()
    pace = pace_at(clock)
    tickets = [leave(pace) for _ in range(5)]
    tickets[0].refused(300.0)
    tickets[1].refused(2.0)
    assert pace.held == 300.0
    assert pace.stalled == 0.0
    assert wait_of(pace.permit(), clock) == pytest.approx(300.0)
    assert pace.stalled == pytest.approx(300.0)


def test_refusals_of_one_burst_count_once() -> None:
    def after(refusals: int) -> tuple[int, float]:
        throttle = LearnedLimit(0.0)
        for _ in range(14):
            throttle.sent(0.0)
        for number in range(1, refusals + 1):
            throttle.refused(0.1, epoch=0, number=number, sent_at=0.0, retry_after=1.0)
        return throttle.epoch, throttle.window

    assert after(6) == after(10) == (1, pytest.approx(0.7 * 14))
    assert after(5) == (0, 14), "a few may be refused for other reasons than a limit"


def test_overload_makes_the_window_smaller_once_for_all_under_way() -> None:
    def left(*, overload: bool, failures: int) -> int:
        pace = pace_at(Clock())
        for ticket in [leave(pace) for _ in range(failures)]:
            ticket.failed(overload=overload)
        count = 0
        while pace.permit().poll() is None:
            count += 1
        return count

    assert left(overload=False, failures=5) == 14
    assert left(overload=True, failures=5) == left(overload=True, failures=1) == 11


def test_tokens_are_reserved_and_settled() -> None:
    clock = Clock()
    pace = pace_at(clock, RateLimit(tokens=60_000))  # 970 a second are used
    first = leave(pace, 970)
    waiting = pace.permit(970)
    assert waiting.poll() == 0.5
    first.done(97)
    assert wait_of(waiting, clock) == pytest.approx(0.1)


def test_a_refused_call_used_no_tokens_and_a_failed_one_may_have() -> None:
    clock = Clock()
    pace = pace_at(clock, RateLimit(tokens=60_000))
    leave(pace, 970).refused(0.0)
    leave(pace, 970).failed()
    assert wait_of(pace.permit(970), clock) == pytest.approx(1.0)


def test_a_learned_estimate_is_corrected() -> None:
    clock = Clock()
    pace = pace_at(clock, RateLimit(tokens=60_000))
    for _ in range(200):
        ticket = pace.permit(970)
        wait_of(ticket, clock)
        ticket.done(97)
    assert wait_of(pace.permit(970), clock) < 0.2
    assert wait_of(pace.permit(970), clock) == pytest.approx(0.1, rel=0.2)


def test_limits_are_learned_from_headers_unless_one_is_given() -> None:
    told = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-limit-tokens": "60000",
        "x-ratelimit-remaining-tokens": "30000",
    }
    clock = Clock()
    pace = pace_at(clock)
    leave(pace).done(10, told)
    assert pace.rate == pytest.approx(0.97)
    leave(pace, 40_000)
    assert wait_of(pace.permit(), clock) == pytest.approx(10_000 / 970)
    given = pace_at(clock, RateLimit(tokens=1_000_000))
    leave(given).done(10, told)
    assert given.rate is None


def test_a_refused_call_of_low_latency_does_not_stop_an_endpoint_that_names_no_time() -> None:
    clock = Clock()
    pace = pace_at(clock)
    leave(pace).refused()
    assert wait_of(pace.permit(), clock) == pytest.approx(1.0)


def test_a_probe_that_fails_otherwise_lets_the_next_one_go() -> None:
    clock = Clock()
    pace = pace_at(clock)
    leave(pace).refused(1.0)
    probe, following = pace.permit(), pace.permit()
    wait_of(probe, clock)
    assert isinstance(following.poll(), Future)
    probe.failed(overload=True)
    assert following.poll() is None


def test_threads_share_one_pace() -> None:
    pace = RateLimiter(max_concurrency=3)
    lock, barrier = threading.Lock(), threading.Barrier(8)
    now, seen, ends = 0, Counter[int](), 0

    def work() -> None:
        nonlocal now, ends
        barrier.wait(timeout=10)
        for _ in range(200):
            ticket = pace.permit()
            while (hold := ticket.poll()) is not None:
                assert isinstance(hold, Future)
                hold.result(timeout=10)
            with lock:
                now += 1
                seen[now] += 1
                seen[pace.in_flight] += 0
            with lock:
                now -= 1
                ends += 1
            ticket.done()

    with ThreadPoolExecutor(8) as threads:
        for future in [threads.submit(work) for _ in range(8)]:
            future.result(timeout=30)
    assert ends == 1600
    assert max(seen) <= 3
    assert pace.in_flight == pace.waiting == 0


# ── limits ──


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), "60", True])
def test_a_limit_is_a_number_above_0(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="requests per minute"):
        RateLimit(requests=value)
    with pytest.raises(ConfigurationError, match="tokens per minute"):
        RateLimit(tokens=value)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8"])
def test_at_least_one_call_at_a_time(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_concurrency"):
        RateLimiter(max_concurrency=value)


@pytest.mark.parametrize(
    ("limit", "remaining", "reset", "rate"),
    [
        ("600", "599", "100ms", 10.0),
        ("600", "0", "1m0s", 10.0),
        ("600", "0", None, 10.0),
        ("600", "0", "soon", 10.0),
        ("14400", "14370", "2m59.56s", None),  # per day
        ("0", "0", "1s", None),
        ("many", "few", "1s", None),
        ("600", "-1", "1s", None),
        ("nan", "5", "1s", None),
        (None, "5", "1s", None),
        ("600", None, "1s", None),
    ],
)
def test_told_limits(limit: str | None, remaining: str | None, reset: str | None, rate: float | None) -> None:
    for unit in ("requests", "tokens"):
        named = {"limit": limit, "remaining": remaining, "reset": reset}
        headers = {f"x-ratelimit-{name}-{unit}": text for name, text in named.items() if text is not None}
        told = limit_in_headers(unit, headers)
        assert (told and told.rate) == rate


# ── retry ──


@pytest.mark.parametrize(
    ("error", "failures", "low", "high"),
    [
        (ServerError("x"), 1, 0.25, 0.5),
        (ServerError("x"), 4, 2.0, 4.0),
        (ServerError("x", retry_after=10.0), 1, 10.0, 10.0),
        (RateLimitError("x", retry_after=181.0), 1, 181.0, 181.0),
        (RateLimitError("x", retry_after=0.1), 1, 0.25, 0.5),
        (RateLimitError("x"), 11, 15.0, 30.0),
        (NetworkError("x"), 5, 4.0, 8.0),
    ],
)
def test_delay(error: TransientError, failures: int, low: float, high: float) -> None:
    for seed in range(20):
        wait = Retry().delay(error, failures, Random(seed))
        assert wait is not None
        assert low <= wait <= high


@pytest.mark.parametrize(
    ("error", "failures", "stalled"),
    [
        (ServerError("x"), 6, 0.0),
        (RateLimitError("x"), 12, 0.0),
        (RateLimitError("x", retry_after=5.0), 1, 600.0),
    ],
)
def test_no_delay_is_giving_up(error: TransientError, failures: int, stalled: float) -> None:
    assert Retry().delay(error, failures, Random(0), stalled=stalled) is None


def test_patience_is_for_rate_limits_only() -> None:
    assert Retry().delay(ServerError("x"), 1, Random(0), stalled=1e6) is not None


@given(failures=st.integers(1, 10_000))
def test_backoff_is_capped(failures: int) -> None:
    wait = Retry(attempts=10**9, jitter=0).delay(NetworkError("x"), failures, Random(0))
    assert wait == min(30.0, 0.5 * 2.0 ** min(failures - 1, 60))


@pytest.mark.parametrize(
    "settings",
    [
        {"attempts": 0},
        {"attempts": True},
        {"attempts": 2.5},
        {"refusals": 0},
        {"backoff": -1},
        {"backoff": 9, "cap": 3},
        {"give_up_after": -1},
        {"give_up_after": float("nan")},
        {"jitter": 1.5},
        {"jitter": "0.5"},
    ],
)
def test_nonsense_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=list(settings)[-1]):
        Retry(**settings)


# ── refusals that are scattered among answers ──


@pytest.mark.parametrize("fast_refusal", [False, True], ids=["slow", "fast"])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("latency", [0.05, 1.0])
def test_scattered_refusals_slow_nothing_down(latency: float, seed: int, fast_refusal: bool) -> None:
    retry = Retry(backoff=0.05)
    wall = {
        share: Crowd(
            server=Scattered(share, seed, retry_after=False), latency=latency, seed=seed, fast_refusal=fast_refusal,
            retry=retry,
        ).run(4000, 128).wall
        for share in (0.0, 0.01, 0.02, 0.05)
    }  # fmt: skip
    # The last row may be refused more than once.
    assert all(wall[share] <= wall[0.0] / 0.8 + 3 * latency for share in wall)


@pytest.mark.parametrize("share", [0.01, 0.02, 0.05])
def test_a_rate_that_refusals_do_not_follow_is_left(share: float) -> None:
    learned = {"base": 20.0, "refill": 20.0, "burst": 20.0, "span": 64.0, "window": 14.0}
    crowd = Crowd(server=Scattered(share, 1, retry_after=False), latency=0.05, learned=learned)
    assert crowd.run(8000, 128).wall < 20  # 400 s at the learned rate, 3.2 s without


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize(
    ("server", "rows"),
    [
        pytest.param(partial(Bucket, 20, 20), 1500, id="bucket"),
        pytest.param(partial(Windows, 600, 60), 4200, id="windows of a minute"),
        pytest.param(partial(Places, 8), 1500, id="calls at once"),
    ],
)
def test_a_limit_costs_few_refused_calls(server: Callable[..., Server], rows: int, told: bool) -> None:
    for seed, workers, fast, latency in itertools.product(range(2), (32, 128), (False, True), (0.05, 0.3)):
        crowd = Crowd(server=server(retry_after=told), latency=latency, seed=seed, fast_refusal=fast)
        run = crowd.run(rows, workers)
        assert (run.lost, run.finished) == (0, rows)
        assert run.refused <= 0.1 * rows


@pytest.mark.parametrize(
    ("refused", "limit"),
    [
        pytest.param(range(1, 6), False, id="five in a row"),
        pytest.param(range(1, 7), True, id="six in a row at the start"),
        pytest.param(range(100, 107), False, id="seven in a row later"),
        pytest.param(range(100, 108), True, id="eight in a row later"),
        pytest.param(reversed(range(100, 108)), True, id="that arrive in another order"),
        pytest.param(range(1, 4000, 20), False, id="one in twenty"),
        pytest.param(range(1, 200, 5), True, id="one in five"),
    ],
)
def test_which_refusals_show_a_limit(refused: Iterable[int], limit: bool) -> None:
    evidence = LimitEvidence()
    shown = [evidence.shows_limit(number) for number in refused]
    assert any(shown) == limit


@pytest.mark.parametrize(
    ("refused", "answered", "counts", "acquitted"),
    [
        pytest.param([11, 12, 13], [], True, False, id="refused"),
        pytest.param([11, 13], [12, 14], False, False, id="undecided"),
        pytest.param([12], [11, 13, 14], False, False, id="answered once"),
        pytest.param([3, 16, 17, 18], [], False, False, id="other calls"),
    ],
)
def test_a_test_of_a_learned_rate(refused: list[int], answered: list[int], counts: bool, acquitted: bool) -> None:
    evidence = LimitEvidence()
    evidence.distrust()
    assert evidence.counts(9, 10) is None
    counted = [evidence.counts(number, 20) for number in refused]
    acquits = [evidence.acquits(number) for number in answered]
    assert (any(counted), any(acquits)) == (counts, acquitted)


def test_a_test_whose_calls_fail_is_made_again() -> None:
    evidence = LimitEvidence()
    evidence.distrust()
    assert [evidence.counts(number, number + 1) for number in (9, 20, 30, 31)] == [None, False, False, None]


def test_two_acquittals_end_a_learned_rate() -> None:
    evidence = LimitEvidence()
    evidence.distrust()
    results = [(evidence.counts(at, at), [evidence.acquits(at + n) for n in (1, 2, 3)]) for at in (10, 50)]
    assert results == [(None, [False, False, False]), (None, [False, False, True])]


def test_a_given_concurrency_is_used_at_once() -> None:
    pace = pace_at(Clock(), most=500)
    for _ in range(500):
        leave(pace)
    assert isinstance(pace.permit().poll(), Future)


# ── outages ──


def failing(pace: RateLimiter, calls: int, **failure: Any) -> None:
    for _ in range(calls):
        permit = pace.permit()
        assert permit.poll() is None
        permit.failed(overload=True, **failure)


@pytest.mark.parametrize(
    ("failure", "calls"),
    [
        pytest.param({"new_row": True}, 4, id="of different rows"),
        pytest.param({"sure": True}, 2, id="where no row is the reason"),
        pytest.param({"new_row": True, "sure": True}, 2, id="both"),
        pytest.param({}, None, id="of one row, again and again"),
    ],
)
def test_how_many_failures_make_an_outage(failure: dict[str, bool], calls: int | None) -> None:
    pace = RateLimiter(clock=lambda: 0.0)
    failing(pace, (calls or 50) - 1, **failure)
    assert not pace.down
    failing(pace, 1, **failure)
    assert pace.down == (calls is not None)


@pytest.mark.parametrize("ending", ["done", "refused", "failed"])
def test_whatever_the_endpoint_answers_ends_an_outage(ending: str) -> None:
    clock = Clock()
    pace = RateLimiter(clock=clock)
    for _ in range(3):
        failing(pace, 1, sure=True)
        answered = pace.permit()
        assert answered.poll() is None
        answered.done()
    assert not pace.down, "what is answered between shows that it is not one"
    failing(pace, 2, sure=True)
    assert (pace.down, pace.held) == (True, 1.0)
    clock.now += 1.0
    probe, other = pace.permit(), pace.permit()
    assert probe.poll() is None
    assert isinstance(other.poll(), Future), "one at a time"
    getattr(probe, ending)()
    assert not pace.down
    assert pace.stalled == 0.0 or ending == "refused"


def test_an_outage_of_ten_minutes_takes_no_more_than_twenty_calls() -> None:
    clock = Clock()
    pace = RateLimiter(clock=clock)
    failing(pace, 2, sure=True)
    calls = 0
    while pace.stalled < 600:
        permit = pace.permit()
        while (hold := permit.poll()) is not None:
            assert isinstance(hold, float)
            clock.now += hold
        calls += 1
        permit.failed(overload=True, sure=True)
    assert 10 < calls <= 20


def test_what_was_sent_before_the_endpoint_came_back_starts_no_outage() -> None:
    clock = Clock()
    pace = RateLimiter(clock=clock)
    early = [pace.permit() for _ in range(5)]
    assert all(permit.poll() is None for permit in early)
    failing(pace, 2, sure=True)
    clock.now += 1.0
    probe = pace.permit()
    assert probe.poll() is None
    probe.done()
    for permit in early:
        permit.failed(overload=True, sure=True, new_row=True)
    assert not pace.down


def test_a_wait_that_is_longer_than_a_run_is_given_is_not_taken() -> None:
    retry = Retry(give_up_after=60.0, jitter=0.0)
    assert retry.delay(RateLimitError("slow down", retry_after=99_999_999.0), 1, Random(0)) == 0.5
    assert retry.delay(RateLimitError("slow down", retry_after=59.0), 1, Random(0)) == 59.0
    assert retry.wait_asked_by(RateLimitError("slow down", retry_after=61.0)) is None
