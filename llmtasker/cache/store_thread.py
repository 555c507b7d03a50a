"""StoreThread: a daemon thread that does jobs in order; it starts with the first job and ends when idle."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable


class StoreThread:
    """A thread for jobs that may block; a job must not raise. `idle` is how many seconds it waits for the next job."""

    def __init__(self, name: str, *, idle: float = 5.0) -> None:
        self._name = name
        self._idle = idle
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running = False

    def submit(self, job: Callable[[], object]) -> None:
        """Queue a job after those submitted before."""
        self._jobs.put(job)
        # After the put: a thread that ends checks the queue under this lock.
        with self._lock:
            if not self._running:
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
                self._running = True

    def end(self) -> None:
        """End the thread after the submitted jobs; the next job starts another."""
        with self._lock:
            if self._running:
                self._jobs.put(None)

    def _work(self) -> None:
        while True:
            job = None
            with contextlib.suppress(queue.Empty):
                job = self._jobs.get(timeout=self._idle)
            if job is None:
                with self._lock:
                    if self._jobs.empty():
                        self._running = False
                        return
            else:
                job()
