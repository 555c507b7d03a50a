"""ScoreSender: scores over Langfuse's API, at once or from a thread of its own."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from llmtasker.errors import ConfigurationError
from llmtasker.integrations.langfuse_client import LangfuseProject

_SECONDS = 5.0  # that a call may take
_MOST = 10_000  # scores that wait to be sent; more are dropped, the oldest first
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds that Langfuse is left alone after a failure
_IDLE = 5.0  # seconds without a score after which the thread ends
_LATER = frozenset({408, 429, 500, 502, 503, 504})  # statuses after which the same may be sent again
_LOG = logging.getLogger("llmtasker")


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceScore:
    """A score of a trace, or of a session; None as value takes it back. One of the same name replaces it."""

    trace: str
    name: str
    value: float | str | None
    session: str | None = None
    comment: str | None = None

    @property
    def id(self) -> str:
        """The id: the same for the same trace and name."""
        return blake2b(f"{self.trace}\0{self.name}".encode("utf-8", "replace"), digest_size=16).hexdigest()

    def withdrawn(self) -> TraceScore:
        """Return what takes this score back."""
        return replace(self, value=None)

    def body(self, environment: str | None) -> dict[str, Any]:
        """Return the score as the API takes it."""
        place = {"traceId": self.trace} if self.session is None else {"sessionId": self.session}
        kind = "CATEGORICAL" if isinstance(self.value, str) else "NUMERIC"
        body = {"id": self.id, **place, "name": self.name, "value": self.value, "dataType": kind}
        more = {"comment": self.comment, "environment": environment}
        return body | {name: value for name, value in more.items() if value is not None}


class ScoreSender:
    """Sends scores: `send` at once, `put` from a thread, in order; a failure is logged once until one succeeds."""

    def __init__(self, project: LangfuseProject, environment: str | None) -> None:
        self._project, self._environment = project, environment
        self.dropped = 0
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._queue: deque[TraceScore] = deque()
        self._changed = threading.Condition()
        self._running = self._busy = self._hurry = False
        self._failed = False

    def put(self, scores: Sequence[TraceScore]) -> None:
        """Queue scores; never waits for Langfuse."""
        if self._process != os.getpid():
            self._reset()  # the thread stayed in the parent of this fork
        with self._changed:
            if self._closed or not self._project.enabled:
                return
            self._queue.extend(scores)
            while len(self._queue) > _MOST:
                self._queue.popleft()
                self.dropped += 1
            if self._queue and not self._running:
                self._running = True
                threading.Thread(target=self._work, name="llmtasker-scores", daemon=True).start()
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait for the queue to be empty; return whether it is."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: not (self._queue or self._busy), seconds)
            self._hurry = False
            if self.dropped or not done:
                _LOG.warning("Langfuse: %d scores were dropped, %d are not sent yet", self.dropped, len(self._queue))
        return done

    def close(self) -> None:
        """Give up what waits, and end the thread as soon as its call has ended."""
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._changed.notify_all()

    def send(self, score: TraceScore) -> None:
        """Send a score now.

        Raises:
            ConfigurationError: Langfuse does not take it, or can't be reached within 5 seconds.
        """
        reason, _ = self._ask(score)
        if reason is not None:
            raise ConfigurationError(f"Langfuse did not take the score: {reason}.")

    def _work(self) -> None:
        pause = 0.0
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                if pause:
                    self._changed.wait_for(lambda: self._closed or self._hurry, pause)
                if not self._changed.wait_for(lambda: self._closed or bool(self._queue), _IDLE) or self._closed:
                    self._running = False
                    return
                score, self._busy = self._queue.popleft(), True
            reason, again = self._ask(score)
            with self._changed:
                if reason is not None and not self._failed:
                    _LOG.warning("corrections do not arrive at Langfuse as scores: %s", reason)
                self._failed = reason is not None
                if reason is None:
                    pause = 0.0
                elif again and not self._closed:
                    self._queue.appendleft(score)
                    pause = 0.2 if self._hurry else min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)
                else:
                    self.dropped += 1

    def _ask(self, score: TraceScore) -> tuple[str | None, bool]:
        """Return why Langfuse did not take a score, None if it did, and whether it may later."""
        import httpx2

        place, headers = f"{self._project.base_url}/api/public/scores", self._project.api_headers
        own: Any = None
        try:
            if self._project.http is None:
                own = httpx2.Client()  # a wrong proxy of the environment is an error already here
            client: Any = own or self._project.http
            if score.value is None:
                response = client.delete(f"{place}/{score.id}", headers=headers, timeout=_SECONDS)
            else:
                body = json.dumps(score.body(self._environment)).encode()
                response = client.post(place, content=body, headers=headers, timeout=_SECONDS)
            status = int(response.status_code)
        except Exception as error:  # noqa: BLE001 - whatever Langfuse does must not end the thread
            return type(error).__name__, True
        finally:
            if own is not None:
                own.close()
        if 200 <= status < 300 or (score.value is None and status == 404):
            return None, False
        return f"status {status}", status in _LATER
