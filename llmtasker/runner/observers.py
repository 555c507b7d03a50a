"""Observers: delivers events to observers, each with its own bounded queue and thread."""

from __future__ import annotations

import atexit
import inspect
import logging
import os
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.runner.row_scope import current_row

if TYPE_CHECKING:  # loaded only if there are observers
    from llmtasker.runner.events import Event, Observer, RunEvents

_logger = logging.getLogger("llmtasker")
_MOST = 10_000  # events queued for one observer; further ones are dropped and counted
_IDLE = 5.0  # seconds without an event after which a thread ends
_ENOUGH, _LATER = 300, 0.02  # events that are delivered at once, and seconds that fewer wait for more
_PATIENCE = 2.0  # seconds that the end of a run waits for its last events to be delivered


class Observers:
    """The observers of a task. An observer can neither cost a row nor delay another observer.

    Raises:
        ConfigurationError: an observer is not a plain function.
    """

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._outlets = [_Outlet(observer) for observer in observers]
        _known.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return Observers, ([outlet.observer for outlet in self._outlets],)

    @property
    def given(self) -> list[Observer]:
        """The observers. One with a method `flush` is flushed at the end of the process, after its last event."""
        return [outlet.observer for outlet in self._outlets]

    def begin(self, tags: Mapping[str, Any] | None = None, of: object = None) -> RunEvents | None:
        """Return the events of a new run with these tags; None if nobody observes it.

        `of` is what runs, for the row of a pipeline: a signature, or the name of a pipeline.
        """
        observed = bool(self._outlets) or _logger.isEnabledFor(logging.DEBUG)
        if (scope := current_row.get()) is not None:
            return scope.begin(self if observed else None, tags, of)
        if not observed:
            return None
        from llmtasker.runner.events import RunEvents

        return RunEvents(self, tags=tags)

    def publish(self, event: Event) -> None:
        """Queue an event for each observer."""
        for outlet in self._all():
            outlet.put(event)

    def flush(self, seconds: float = _PATIENCE) -> None:
        """Wait up to `seconds` for the events to be delivered, and warn once about observers that failed or block."""
        until = time.monotonic() + seconds
        for outlet in self._all():
            outlet.flush(max(0.0, until - time.monotonic()))
            if (report := outlet.report()) is not None:
                _warn(report)

    def _all(self) -> list[_Outlet]:
        return [*self._outlets, _log()] if _logger.isEnabledFor(logging.DEBUG) else self._outlets


class _Outlet:
    """Delivers events to one observer, in order, in a thread that starts on demand."""

    def __init__(self, observer: Observer) -> None:
        call = getattr(type(observer), "__call__", None)  # noqa: B004 - an object may have an async one
        if not callable(observer) or inspect.iscoroutinefunction(observer) or inspect.iscoroutinefunction(call):
            raise ConfigurationError(f"an observer is a plain function that takes an Event, not {observer!r}.")
        self.observer = observer
        self._reported = False
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._queue: deque[Event] = deque()
        self._changed = threading.Condition()
        self._running = self._busy = self._stuck = False
        self._hurried = 0  # callers that wait for the delivery
        self._dropped = 0
        self._failure: str | None = None

    def put(self, event: Event) -> None:
        if self._process != os.getpid():
            self._reset()  # in a forked child, the thread stayed with the parent
        with self._changed:
            if len(self._queue) >= _MOST:
                self._dropped += 1
                return
            self._queue.append(event)
            if not self._running:
                self._running = True
                threading.Thread(target=self._work, name="llmtasker-observer", daemon=True).start()
            if len(self._queue) in {1, _ENOUGH}:  # to change threads takes longer than most observers do
                self._changed.notify_all()

    def _work(self) -> None:
        while self._wait():
            while self._queue:
                self._deliver(self._queue.popleft())

    def _wait(self) -> bool:
        """Wait for events, and a little longer for more; return whether there are some, or else the thread ends."""
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._running = self._busy = self._changed.wait_for(lambda: len(self._queue) > 0, _IDLE)
            if self._busy:
                self._changed.wait_for(lambda: self._hurried or len(self._queue) >= _ENOUGH, _LATER)
            return self._busy

    def _deliver(self, event: Event) -> None:
        try:
            returned: object = self.observer(event)
        except BaseException as error:  # noqa: BLE001 - the observer is user code, and may even exit
            self._failure = self._failure or f"failed: {type(error).__name__}: {snippet(error)}"
        else:
            if inspect.iscoroutine(returned):
                returned.close()
                self._failure = self._failure or "returned a coroutine, which is not awaited: make it a plain function"
        self._stuck = False

    def flush(self, seconds: float) -> None:
        """Wait until everything is delivered, unless the observer timed out before and has not progressed since."""
        if self._stuck or self._process != os.getpid():
            return
        with self._changed:
            self._hurried += 1
            self._changed.notify_all()
            self._stuck = not self._changed.wait_for(lambda: not (self._queue or self._busy), seconds)
            self._hurried -= 1

    def report(self) -> str | None:
        """Return what is wrong with the observer, once; None otherwise."""
        if self._reported:
            return None
        problems = [self._failure] if self._failure else []
        if self._stuck:
            problems.append(f"has not taken {len(self._queue):,} events yet, and is no longer waited for")
        if self._dropped:
            problems.append(f"is too slow: {self._dropped:,} events were dropped")
        if not problems:
            return None
        self._reported = True
        name = getattr(self.observer, "__qualname__", type(self.observer).__qualname__)
        return f"the observer {name} {'; it '.join(problems)}. No row was lost; this is reported once."


@cache
def _log() -> _Outlet:
    from llmtasker.runner.events import LogObserver

    return _Outlet(LogObserver())


_known: weakref.WeakSet[Observers] = weakref.WeakSet()


@atexit.register
def _flush_all() -> None:
    known = list(_known)
    for observers in known:
        observers.flush(_PATIENCE / 2)
    for observer in {id(one): one for observers in known for one in observers.given}.values():
        if callable(flush := getattr(observer, "flush", None)):
            flush()


def _warn(report: str) -> None:
    try:
        warnings.warn(report, stacklevel=3)
    except UserWarning:
        # If warnings are errors, this one must not cost the rows of the run.
        _logger.warning(report)
