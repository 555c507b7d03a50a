"""Progress: the progress of a run, as a bar (tqdm) or for a callback."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.item import Item
from llmtasker.wire.completion import NO_USAGE, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of a run.

    `rows` are done, of `total` (None: unknown): `ok`, `failed`, and `cached` among both. `in_flight` calls have been
    sent and `waiting` calls wait for the rate limit; while the endpoint refuses or fails everything, the next call is
    made in `held` seconds, and `reason` is its last error. `cost` is in US dollars, None if unknown; `seconds` is the
    time since the start.
    """

    total: int | None = None
    rows: int = 0
    ok: int = 0
    failed: int = 0
    cached: int = 0
    in_flight: int = 0
    waiting: int = 0
    held: float = 0.0
    reason: str = ""
    usage: Usage = NO_USAGE
    cost: float | None = 0.0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the end at this rate; None: unknown."""
        return None if self.total is None or not self.rate else (self.total - self.rows) / self.rate


_BEAT = 1.0  # seconds between the reports of a stalled run
_FIRST_LOG, _NEXT_LOG = 5.0, 60.0  # seconds of stalling until it is logged, and logged again
_LOG = logging.getLogger("llmtasker")

OnProgress = Callable[[Progress], object]


class Limiter(Protocol):
    """What limits the calls of a run; see RateLimiter."""

    @property
    def in_flight(self) -> int:
        """Calls that were sent and have not ended."""
        ...

    @property
    def waiting(self) -> int:
        """Calls that wait for a permit."""
        ...

    @property
    def held(self) -> float:
        """Seconds until the next call may start, while everything is refused or fails."""
        ...

    @property
    def stalled(self) -> float:
        """Seconds for which everything has been refused or has failed."""
        ...

    @property
    def down(self) -> bool:
        """Whether the endpoint fails, rather than refuses."""
        ...

    @property
    def reason(self) -> str:
        """The last error while everything is refused or fails."""
        ...


class Reporter:
    """Counts the items of a run and reports them, at most every `interval` seconds and at the end."""

    def __init__(
        self,
        callback: OnProgress,
        limiter: Limiter,
        total: int | None,
        *,
        interval: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._callback = callback
        self._limiter = limiter
        self._clock = clock
        self._interval = interval
        self._started = self._reported = clock()
        self._now = Progress(total=total)
        self._rows = self._ok = self._cached = 0
        self._usage = NO_USAGE
        self._cost: float | None = 0.0

    def count(self, item: Item[Any]) -> None:
        """Count an item."""
        self._rows += 1
        self._ok += item.ok
        self._cached += item.cached
        if item.attempts:
            self._usage += item.usage
            self._cost = None if self._cost is None or item.cost is None else self._cost + item.cost
        if self._clock() - self._reported >= self._interval:
            self.report()

    def report(self) -> None:
        """Report the current progress."""
        self._reported = self._clock()
        self._now = replace(
            self._now,
            rows=self._rows,
            ok=self._ok,
            failed=self._rows - self._ok,
            cached=self._cached,
            in_flight=self._limiter.in_flight,
            waiting=self._limiter.waiting,
            held=self._limiter.held,
            reason=self._limiter.reason,
            usage=self._usage,
            cost=self._cost,
            seconds=self._reported - self._started,
        )
        try:
            self._callback(self._now)
        except Exception as error:  # noqa: BLE001 - the callback is user code, and must not cost the rows
            self._callback = _do_nothing
            warnings.warn(
                f"on_progress failed, and is not called again: {type(error).__name__}: {snippet(error)}", stacklevel=2
            )


def _do_nothing(_: Progress) -> None:
    """Replace a callback that failed."""


class Heartbeat:
    """Reports a stalled run: progress every second, and the reason in the log from time to time."""

    def __init__(self, limiter: Limiter, reporter: Reporter | None, loop: asyncio.AbstractEventLoop) -> None:
        self._limiter = limiter
        self._reporter = reporter
        self._loop = loop
        self._log_at = _FIRST_LOG
        self._timer = loop.call_later(_BEAT, self._beat)

    def _beat(self) -> None:
        self._timer = self._loop.call_later(_BEAT, self._beat)
        stalled, held = self._limiter.stalled, self._limiter.held
        if self._reporter is not None:
            self._reporter.report()
        if max(stalled, held) < _FIRST_LOG:
            self._log_at = _FIRST_LOG
        elif stalled >= self._log_at or self._log_at == _FIRST_LOG:
            self._log_at = stalled + _NEXT_LOG
            what = "fails" if self._limiter.down else "refuses"
            _LOG.warning(
                "the endpoint %s every call, for %.0f s now: it is asked again in %.0f s; calls that wait: %d; "
                "the last error: %s",
                what, stalled, held, self._limiter.waiting, self._limiter.reason or "unknown",
            )  # fmt: skip

    def stop(self) -> None:
        """Stop the reports."""
        self._timer.cancel()


class Bar:
    """A tqdm bar on stderr, in a terminal or a notebook."""

    def __init__(self, total: int | None) -> None:
        tqdm = _tqdm()
        self._bar = tqdm(total=total, unit="row", file=sys.stderr, dynamic_ncols=True, leave=True)

    def __call__(self, progress: Progress) -> None:
        """Show the progress of a run."""
        shown: dict[str, object] = {
            "ok": progress.ok,
            "failed": progress.failed,
            "cached": progress.cached,
            "in flight": progress.in_flight,
        }
        if progress.waiting:
            shown["waiting"] = progress.waiting
        if progress.held >= 1:
            shown["paused"] = f"{progress.held:.0f} s" + (f", {progress.reason}" if progress.reason else "")
        if progress.usage.total:
            shown["tokens"] = progress.usage.total
        if progress.cost:
            shown["$"] = f"{progress.cost:.4f}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(progress.rows - self._bar.n)

    def close(self) -> None:
        """Close the bar and leave it on the screen."""
        self._bar.close()


def _tqdm() -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ConfigurationError('a progress bar needs tqdm: pip install "llmtasker[progress]"') from None
    return tqdm


def wants_bar(progress: bool | None) -> bool:
    """Return whether to show a bar: always for True; for None, in a terminal or notebook, if tqdm is installed."""
    if progress is None:
        from importlib.util import find_spec

        # A process without a console has no stderr.
        watched = (sys.stderr is not None and sys.stderr.isatty()) or _in_notebook()
        return watched and find_spec("tqdm") is not None
    return progress


def _in_notebook() -> bool:
    python = sys.modules.get("IPython")
    return python is not None and hasattr(python.get_ipython(), "kernel")


@contextmanager
def reporting(progress: bool | OnProgress | None, limiter: Limiter, total: int | None) -> Generator[Reporter | None]:
    """Yield the reporter for `progress`, with a bar or a callback; None: only that the run stalls is logged."""
    bar = Bar(total) if not callable(progress) and wants_bar(progress) else None
    callback = progress if callable(progress) else bar
    reporter = None if callback is None else Reporter(callback, limiter, total)
    heartbeat = Heartbeat(limiter, reporter, asyncio.get_running_loop())
    try:
        yield reporter
    finally:
        heartbeat.stop()
        if reporter is not None:
            reporter.report()
        if bar is not None:
            bar.close()
