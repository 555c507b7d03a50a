"""SchemaTrials: refused schemas whose changed form is not yet proved to work; one call at a time tries it.

    answered ◀── an answer ── on trial ──▶ refused again: the next rung of the ladder, still on trial
                                 │
                                 └──▶ any other failure that is the row's own: not on trial

A long run has many calls in flight. Without this, each of them would be refused once for every rung of the ladder.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future


class SchemaProbe:
    """The right of one call to try the changed form of a schema; `leave` passes it on."""

    __slots__ = ("_schema", "_trials")

    def __init__(self, trials: SchemaTrials, schema: str) -> None:
        self._trials, self._schema = trials, schema

    def leave(self) -> None:
        """End the probe, whatever the result; the waiting calls check again."""
        self._trials.leave(self._schema)


class SchemaTrials:
    """The schemas on trial, by fingerprint; shared by threads and event loops.

    >>> trials = SchemaTrials()
    >>> trials.begin("schema")
    >>> probe = trials.probe("schema")
    >>> waiting = trials.probe("schema")
    >>> probe.leave()
    >>> waiting.done()
    True
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.waiting: dict[str, list[Future[None]]] = {}
        """The calls that wait for a probe, by schema; empty: no schema is on trial."""
        self._taken = set[str]()

    def after_fork(self) -> None:
        """Forget the probes of calls that don't exist in a forked child."""
        self._lock = threading.Lock()
        self.waiting, self._taken = {schema: [] for schema in self.waiting}, set[str]()

    def begin(self, schema: str) -> None:
        """Put a schema on trial."""
        with self._lock:
            self.waiting.setdefault(schema, [])

    def probe(self, schema: str) -> SchemaProbe | Future[None] | None:
        """Return a probe, a future to wait for before asking again, or None: the schema is not on trial."""
        with self._lock:
            if schema not in self.waiting:
                return None
            if schema not in self._taken:
                self._taken.add(schema)
                return SchemaProbe(self, schema)
            future = Future[None]()
            self.waiting[schema].append(future)
            return future

    def leave(self, schema: str) -> None:
        """End the probe for a schema."""
        with self._lock:
            self._taken.discard(schema)
            woken = self.waiting.get(schema, [])
            if woken:
                self.waiting[schema] = []
        _wake(woken)

    def end(self, schema: str) -> None:
        """End the trial of a schema, because its form was answered or is not the reason for a failure."""
        with self._lock:
            self._taken.discard(schema)
            woken = self.waiting.pop(schema, [])
        _wake(woken)


def _wake(futures: list[Future[None]]) -> None:
    # All of them: the one that takes the next probe may be cancelled before it does.
    for future in futures:
        if future.set_running_or_notify_cancel():
            future.set_result(None)
