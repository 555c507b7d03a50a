"""SpanSender: posts finished spans from a thread of its own; a receiver that fails or hangs costs nothing."""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from llmtasker.integrations.otlp_messages import rejected, traces_request
from llmtasker.integrations.otlp_receiver import OTLPReceiver

MOST_SPANS = 100_000  # spans that wait to be sent, and
MOST_BYTES = 24_000_000  # their bytes; more are dropped, those of rows without an error first
_BATCH = 2_000  # spans of a post, and
_BATCH_BYTES = 900_000  # their bytes, unless one alone has more: many a proxy takes 1 MB
_HURRY = 500  # spans that are worth a post at once
_LATER = 0.5  # seconds that fewer spans may wait for others
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds that a receiver is left alone after a failure
END_SECONDS = 4.0  # seconds that the end of the process waits for the last spans
_LOG = logging.getLogger("llmtasker")


class SpanSender:
    """Two bounded queues of encoded spans (those of rows with an error are kept longer) and the thread that posts them.

    Without a receiver, nothing is taken.
    """

    def __init__(self, receiver: OTLPReceiver | None, resource: Mapping[str, Any]) -> None:
        self._receiver, self._resource = receiver, resource
        self.dropped = 0
        self.closed = receiver is None
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._instance = str(uuid.uuid4())
        self._urgent: deque[bytes] = deque()
        self._usual: deque[bytes] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._running = self._posting = self._hurry = False
        self._pause = 0.0
        self._reason: str | None = None  # why the latest post failed
        self._client: Any = None

    def put(self, spans: Sequence[bytes], *, urgent: bool = False) -> None:
        """Queue spans; never waits for a post."""
        if self._process != os.getpid():
            self._reset()  # the thread stayed in the parent of this fork
        with self._changed:
            if self.closed:
                return
            (self._urgent if urgent else self._usual).extend(spans)
            self._bytes += sum(map(len, spans))
            if self._bytes > MOST_BYTES or len(self._urgent) + len(self._usual) > MOST_SPANS:
                self._drop_oldest()
            if not self._running:
                self._running = True
                threading.Thread(target=self._work, name="llmtasker-traces", daemon=True).start()
            elif not self._posting and len(self._urgent) + len(self._usual) >= _HURRY:
                self._changed.notify_all()

    def count_dropped(self, spans: int) -> None:
        """Count spans that were given up before they reached the queue."""
        with self._changed:
            self.dropped += spans

    def close(self) -> None:
        """Give up what waits, and end the thread as soon as its post has ended."""
        with self._changed:
            self.closed = True
            self._urgent.clear()
            self._usual.clear()
            self._bytes = 0
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait for the queues to be empty; return whether they are."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: not (self._urgent or self._usual or self._posting), seconds)
            self._hurry = False
            left = len(self._urgent) + len(self._usual)
            reason = f" ({self._reason})" if self._reason else ""
        if self._receiver is not None and (self.dropped or not done):
            place = self._receiver.place
            _LOG.warning(
                "traces: %d spans were dropped, %d are not sent yet to %s%s", self.dropped, left, place, reason
            )
        return done

    def _work(self) -> None:
        while True:
            with self._changed:
                self._posting = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._hurry or self.closed or self._waiting() >= _HURRY, _LATER)
                if not self._waiting():
                    more = self._changed.wait_for(lambda: self._waiting() > 0 or self.closed, _LONGEST_PAUSE)
                    if more and not self.closed:
                        continue
                    self._running = False
                    break
                urgent, usual = self._next()
                self._posting = True
            self._post(urgent, usual)
        client, self._client = self._client, None
        if client is not None and self._receiver is not None and client is not self._receiver.http:
            client.close()

    def _waiting(self) -> int:
        return len(self._urgent) + len(self._usual)

    def _next(self) -> tuple[list[bytes], list[bytes]]:
        """Take the spans of the next post out of the queues, those of failed rows first."""
        taken: tuple[list[bytes], list[bytes]] = [], []
        spans = size = 0
        for queue, part in ((self._urgent, taken[0]), (self._usual, taken[1])):
            while queue and spans < _BATCH and (not spans or size + len(queue[0]) <= _BATCH_BYTES):
                spans, size = spans + 1, size + len(queue[0])
                part.append(queue.popleft())
        self._bytes -= size
        return taken

    def _drop_oldest(self) -> None:
        while self._bytes > MOST_BYTES or self._waiting() > MOST_SPANS:
            self._bytes -= len((self._usual or self._urgent).popleft())
            self.dropped += 1

    def _post(self, urgent: Sequence[bytes], usual: Sequence[bytes]) -> None:
        receiver = self._receiver
        if receiver is None:
            return
        resource = {"service.instance.id": self._instance, **self._resource}
        self._client, result = receiver.post(self._client, traces_request(resource, (*urgent, *usual)))
        lost, reason = rejected(result.response) if result.taken else (0, result.reason)
        with self._changed:
            if reason and reason != self._reason and not (result.again and self._hurry):
                _LOG.warning("traces: %s does not take spans: %s", receiver.place, reason)
            self._reason = reason or None
            if result.taken:
                self._pause = 0.0
                self.dropped += lost
                return
            # Left alone for a while that grows. What may be sent again goes back to the head of its own queue, so that
            # spans of failed rows stay first, and the oldest others make room.
            self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
            if self.closed:
                return
            if result.again:
                self._urgent.extendleft(reversed(urgent))
                self._usual.extendleft(reversed(usual))
                self._bytes += sum(map(len, urgent)) + sum(map(len, usual))
                self._drop_oldest()
            else:
                self.dropped += len(urgent) + len(usual)
            pause = self._pause if result.wait is None else min(result.wait, _LONGEST_PAUSE)
            if self._hurry:
                self._changed.wait(min(pause, 0.2))
            else:
                self._changed.wait_for(lambda: self._hurry or self.closed, pause)
