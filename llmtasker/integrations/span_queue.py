"""SpanQueue: finished spans that wait to be posted, those of failed rows first."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from llmtasker.integrations.otlp_messages import traces_request

MOST_SPANS = 100_000  # spans that wait to be sent, and
MOST_BYTES = 24_000_000  # their bytes; more are dropped, those of rows without an error first
_BATCH = 2_000  # spans of a post, and
_BATCH_BYTES = 900_000  # their bytes, unless a single one has more: many proxies accept 1 MB


class Spans(NamedTuple):
    """Encoded spans; those of rows with an error are urgent, and are kept longer."""

    spans: Sequence[bytes]
    urgent: bool = False


class SpanBatch(NamedTuple):
    """The spans of a post, and its body."""

    urgent: list[bytes]
    usual: list[bytes]
    body: bytes


class SpanQueue:
    """Two bounded queues of encoded spans of one process."""

    def __init__(self, resource: Mapping[str, Any]) -> None:
        self._resource = {"service.instance.id": str(uuid.uuid4()), **resource}
        self._urgent: deque[bytes] = deque()
        self._usual: deque[bytes] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._urgent) + len(self._usual)

    def add(self, thing: Spans) -> int:
        """Add spans; return how many others were dropped to make room."""
        (self._urgent if thing.urgent else self._usual).extend(thing.spans)
        self._bytes += sum(map(len, thing.spans))
        return self._drop_oldest()

    def take(self) -> SpanBatch:
        """Take out the spans of the next post."""
        urgent, usual = list[bytes](), list[bytes]()
        spans = size = 0
        for queue, part in ((self._urgent, urgent), (self._usual, usual)):
            while queue and spans < _BATCH and (not spans or size + len(queue[0]) <= _BATCH_BYTES):
                spans, size = spans + 1, size + len(queue[0])
                part.append(queue.popleft())
        self._bytes -= size
        return SpanBatch(urgent, usual, traces_request(self._resource, (*urgent, *usual)))

    def give_back(self, batch: SpanBatch, *, again: bool) -> int:
        """Put spans back at the heads of their queues, unless they are refused for good; return how many are lost."""
        if not again:
            return len(batch.urgent) + len(batch.usual)
        self._urgent.extendleft(reversed(batch.urgent))
        self._usual.extendleft(reversed(batch.usual))
        self._bytes += sum(map(len, (*batch.urgent, *batch.usual)))
        return self._drop_oldest()

    def _drop_oldest(self) -> int:
        dropped = 0
        while self._bytes > MOST_BYTES or len(self) > MOST_SPANS:
            self._bytes -= len((self._usual or self._urgent).popleft())
            dropped += 1
        return dropped
