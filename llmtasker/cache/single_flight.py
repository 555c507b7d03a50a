"""Single flight: concurrent equal calls are made once."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """The keys that are being asked for now, shared by threads and event loops.

    The first caller to `enter` a key leads and must `finish` it; the others get a future of the outcome.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[Future[T | None]]] = {}
        self._lock = threading.Lock()

    def enter(self, key: str) -> Future[T | None] | None:
        """Return None to the leader, and a future of the outcome to the others."""
        with self._lock:
            waiting = self._waiting.get(key)
            if waiting is None:
                self._waiting[key] = []
                return None
            future: Future[T | None] = Future()
            waiting.append(future)
            return future

    def finish(self, key: str, outcome: T | None) -> None:
        """Give the outcome to all waiters; None: the leader gave up, and one of them must lead."""
        with self._lock:
            waiting = self._waiting.pop(key, [])
        for future in waiting:
            # A waiter may have been cancelled since.
            if future.set_running_or_notify_cancel():
                future.set_result(outcome)
