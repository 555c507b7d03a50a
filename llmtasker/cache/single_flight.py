"""Single flight: equal calls that are under way at the same time are made once."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """The keys that somebody is asking for now, shared by threads and event loops.

    The first to `board` a key leads and must `land` it; the others are given a future of its outcome.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[Future[T | None]]] = {}
        self._lock = threading.Lock()

    def board(self, key: str) -> Future[T | None] | None:
        """Return None to the one who leads, and to the others a future of what came of it."""
        with self._lock:
            waiting = self._waiting.get(key)
            if waiting is None:
                self._waiting[key] = []
                return None
            future: Future[T | None] = Future()
            waiting.append(future)
            return future

    def land(self, key: str, outcome: T | None) -> None:
        """Give the outcome to all who wait; None: the leader gave up, and one of them must lead."""
        with self._lock:
            waiting = self._waiting.pop(key, [])
        for future in waiting:
            # A waiter that was cancelled meanwhile wants no outcome.
            if future.set_running_or_notify_cancel():
                future.set_result(outcome)
