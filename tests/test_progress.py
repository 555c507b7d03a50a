"""The progress of a run: counted, reported from time to time, and shown as a bar."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import programs
import pytest
from clock import Clock

from llmtasker import ConfigurationError, Item, Progress
from llmtasker.errors import InputError
from llmtasker.llm.rate_limiter import RateLimiter
from llmtasker.runner.progress import Bar, Heartbeat, Reporter, wants_bar
from llmtasker.wire.completion import Usage

OK = Item(input="a", output="x", usage=Usage(input=5, output=1), cost=0.5, attempts=1)
UNPRICED = Item(input="a", output="x", usage=Usage(input=5), cost=None, attempts=1)
CACHED = Item(input="c", output="z", cached=True, usage=Usage(input=100), cost=7.0)
WRONG = Item(input=None, error=InputError("no text"))


def reporting(total=None, **options):
    told, clock = [], Clock(100.0)
    return Reporter(told.append, RateLimiter(), total, clock=clock, **options), told, clock


def test_items_are_counted():
    reporter, told, clock = reporting(total=4)
    for item in (OK, CACHED, WRONG):
        reporter.count(item)
    clock.now += 2
    reporter.report()
    assert told == [
        Progress(total=4, rows=3, ok=2, failed=1, cached=1, usage=Usage(input=5, output=1), cost=0.5, seconds=2.0)
    ]


def test_a_cost_that_is_unknown_stays_unknown():
    reporter, told, _ = reporting()
    for item in (OK, UNPRICED, OK):
        reporter.count(item)
    reporter.report()
    assert told[-1].cost is None
    assert told[-1].usage == Usage(input=15, output=2)


def test_it_is_reported_once_an_interval():
    reporter, told, clock = reporting(interval=1.0)
    for _ in range(40):
        clock.now += 0.125
        reporter.count(OK)
    assert [progress.rows for progress in told] == [8, 16, 24, 32, 40]
    assert [progress.seconds for progress in told] == [1, 2, 3, 4, 5]


def test_calls_in_flight_and_waiting_are_those_of_the_pace():
    told, pace = [], RateLimiter(max_concurrency=1)
    first, second = pace.permit(), pace.permit()
    assert first.poll() is None
    assert second.poll() is not None
    reporter = Reporter(told.append, pace, None)
    reporter.report()
    assert (told[0].in_flight, told[0].waiting) == (1, 1)
    second.cancel()
    first.done(0, None)
    reporter.report()
    assert (told[1].in_flight, told[1].waiting) == (0, 0)


@pytest.mark.parametrize(
    ("progress", "rate", "left"),
    [
        (Progress(total=100, rows=20, seconds=10), 2.0, 40.0),
        (Progress(total=None, rows=20, seconds=10), 2.0, None),
        (Progress(total=100, rows=0, seconds=10), 0.0, None),
        (Progress(total=100), 0.0, None),
        (Progress(total=20, rows=20, seconds=10), 2.0, 0.0),
    ],
)
def test_rate_and_time_left(progress, rate, left):
    assert (progress.rate, progress.seconds_left) == (rate, left)


@pytest.mark.parametrize(
    ("progress", "words", "none_of"),
    [
        (
            Progress(
                total=9, rows=4, ok=3, failed=1, cached=2, in_flight=5, waiting=6, usage=Usage(input=7), cost=0.25
            ),
            ["4/9", "ok=3", "failed=1", "cached=2", "in flight=5", "waiting=6", "tokens=7", "$=0.2500"],
            [],
        ),
        (Progress(held=7, reason="no route"), ["paused=7 s, no route"], []),
        (Progress(total=9, rows=9, ok=9, cost=None), ["9/9", "ok=9"], ["waiting", "tokens", "$"]),
        (Progress(rows=3, ok=3), ["3row", "ok=3"], ["/9"]),
    ],
)
def test_a_bar_shows_it(capsys, progress, words, none_of):
    bar = Bar(progress.total)
    bar(progress)
    bar.close()
    shown = capsys.readouterr().err
    for word in words:
        assert word in shown
    for word in none_of:
        assert word not in shown


def test_a_bar_goes_where_somebody_watches(monkeypatch):
    assert wants_bar(True) is True
    assert wants_bar(False) is False
    assert wants_bar(None) is False

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    assert wants_bar(None) is True
    monkeypatch.setattr(sys, "stderr", None)  # as under pythonw
    assert wants_bar(None) is False


def test_a_bar_without_tqdm_says_what_to_install():
    program = """
import sys
sys.modules["tqdm"] = sys.modules["tqdm.auto"] = None
from llmtasker.runner.progress import Bar
try:
    Bar(3)
except Exception as error:
    print(type(error).__name__, error)
"""
    result = programs.run("-c", program, check=True)
    assert result.stdout.startswith(ConfigurationError.__name__)
    assert 'pip install "llmtasker[progress]"' in result.stdout


# ── stalled runs ──


class Timer:
    """An event loop's `call_later`, with the time of a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, seconds: float, action: Callable[[], None]) -> Timer:
        self.due.append((self.now + seconds, action))
        return self

    def cancel(self) -> None:
        self.due.clear()

    def pass_until(self, when: float) -> None:
        while self.due and self.due[0][0] <= when:
            self.now, action = self.due.pop(0)
            action()
        self.now = when


@pytest.mark.parametrize("down", [True, False], ids=["outage", "rate limit"])
def test_a_run_that_stands_still_is_reported_and_logged(down: bool, caplog: pytest.LogCaptureFixture) -> None:
    timer = Timer()
    limiter = RateLimiter(clock=lambda: timer.now)
    told: list[Progress] = []
    reporter = Reporter(told.append, limiter, 10, clock=lambda: timer.now)
    heartbeat = Heartbeat(limiter, reporter, timer)  # type: ignore[arg-type]
    timer.pass_until(3.0)
    assert len(told) == 3
    assert told[-1].held == 0
    for _ in range(2 if down else 1):
        permit = limiter.permit()
        assert permit.poll() is None
        if down:
            permit.failed(overload=True, sure=True, reason="no route to llm.intern")
        else:
            permit.refused(500.0, "the quota of 5 per minute")
    timer.pass_until(200.0)
    assert len(told) == 200
    assert told[3].held > 0 or down
    lines = [record.getMessage() for record in caplog.records]
    assert 3 <= len(lines) <= 5
    assert ("fails every call" if down else "refuses every call") in lines[0]
    reason = "no route to llm.intern" if down else "the quota of 5 per minute"
    assert (told[150].reason, reason in lines[0]) == (reason, True)
    heartbeat.stop()
    timer.pass_until(300.0)
    assert len(told) == 200
