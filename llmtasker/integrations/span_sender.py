"""SpanSender: sends finished spans over OTLP from a thread of its own; a receiver that fails or hangs costs nothing."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from llmtasker.errors import ConfigurationError

_SEMCONV = "1.37.0"  # of the attributes
_SCHEMA = f"https://opentelemetry.io/schemas/{_SEMCONV}"
_BATCH = 512  # spans of a post
MOST_SPANS = 20_000  # spans that wait to be sent; more are dropped, those of rows without an error first
_POST = 5.0  # seconds that a post may take
_LATER = 0.5  # seconds that spans may wait for others
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds that a receiver is left alone after a failure
END_SECONDS = 4.0  # seconds that the end of the process waits for the last spans
_LOG = logging.getLogger("llmtasker")

Attributes = dict[str, Any]


class SpanData(NamedTuple):
    """A finished span: what is sent of it. Times are in nanoseconds since 1970."""

    name: str
    trace: int
    id: int
    parent: int | None
    start: int
    end: int
    attributes: Attributes
    error: str | None = None
    is_client: bool = False


class SpanSender:
    """Two bounded queues (rows with an error are kept longer) and the thread that posts them."""

    def __init__(self, url: str, headers: Mapping[str, str] | None, service_name: str) -> None:
        self._exporter, self._make = _exporter(url, headers, service_name)
        self._place = urlsplit(url).hostname
        self.dropped = 0
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._urgent: deque[SpanData] = deque()
        self._usual: deque[SpanData] = deque()
        self._changed = threading.Condition()
        self._running = self._posting = self._hurry = False
        self._pause = 0.0

    def put(self, span: SpanData, *, urgent: bool = False) -> None:
        if self._process != os.getpid():
            self._reset()  # the thread stayed in the parent of this fork
        with self._changed:
            if self._closed:
                return
            (self._urgent if urgent else self._usual).append(span)
            self._drop_oldest()
            if not self._running:
                self._running = True
                threading.Thread(target=self._work, name="llmtasker-traces", daemon=True).start()
            if len(self._urgent) + len(self._usual) >= _BATCH:
                self._changed.notify_all()

    def count_dropped(self, spans: int) -> None:
        """Count spans that were given up before they reached the queue."""
        with self._changed:
            self.dropped += spans

    def close(self) -> None:
        """Give up what waits, and end the thread as soon as its post has ended."""
        with self._changed:
            self._closed = True
            self._urgent.clear()
            self._usual.clear()
            self._changed.notify_all()
        self._exporter.shutdown()

    def flush(self, seconds: float) -> bool:
        """Wait for the queues to be empty; return whether they are."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: not (self._urgent or self._usual or self._posting), seconds)
            self._hurry = False
            left = len(self._urgent) + len(self._usual)
        if self.dropped or not done:
            _LOG.warning("traces: %d spans were dropped, %d are not sent yet to %s", self.dropped, left, self._place)
        return done

    def _work(self) -> None:
        while True:
            with self._changed:
                self._posting = False
                self._changed.notify_all()
                wait = self._pause or _LATER
                self._changed.wait_for(lambda: self._hurry or len(self._urgent) + len(self._usual) >= _BATCH, wait)
                if not (self._urgent or self._usual):
                    more = self._changed.wait_for(
                        lambda: bool(self._urgent or self._usual) or self._closed, _LONGEST_PAUSE
                    )
                    if more and not self._closed:
                        continue
                    self._running = False
                    return
                urgent = [self._urgent.popleft() for _ in range(min(_BATCH, len(self._urgent)))]
                usual = [self._usual.popleft() for _ in range(min(_BATCH - len(urgent), len(self._usual)))]
                self._posting = True
            self._post(urgent, usual)

    def _drop_oldest(self) -> None:
        while len(self._urgent) + len(self._usual) > MOST_SPANS:
            (self._usual or self._urgent).popleft()
            self.dropped += 1

    def _post(self, urgent: Sequence[SpanData], usual: Sequence[SpanData]) -> None:
        try:
            sent = self._exporter.export([self._make(span) for span in (*urgent, *usual)]).name == "SUCCESS"
        except Exception:  # noqa: BLE001 - whatever a receiver does must not end the thread
            sent = False
        if sent:
            self._pause = 0.0
            return
        # Left alone for a while that grows; each span goes back to the head of its own queue, so that those
        # of failed rows stay first, and the oldest others make room.
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
        with self._changed:
            if self._closed:
                return
            self._urgent.extendleft(reversed(urgent))
            self._usual.extendleft(reversed(usual))
            self._drop_oldest()
            self._changed.wait(self._pause if not self._hurry else 0.2)


def _exporter(url: str, headers: Mapping[str, str] | None, service_name: str) -> tuple[Any, Callable[[SpanData], Any]]:
    """Return the SDK's exporter, and what makes its spans."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
    except ModuleNotFoundError:
        raise ConfigurationError('traces need the SDK of OpenTelemetry: pip install "llmtasker[otel]"') from None
    resource = Resource.create({"service.name": service_name})
    scope = InstrumentationScope("llmtasker", schema_url=_SCHEMA)
    sampled = TraceFlags(TraceFlags.SAMPLED)

    def context(trace: int, span: int) -> Any:
        return SpanContext(trace, span, is_remote=False, trace_flags=sampled)

    def make(span: SpanData) -> Any:
        return ReadableSpan(
            name=span.name,
            context=context(span.trace, span.id),
            parent=None if span.parent is None else context(span.trace, span.parent),
            resource=resource,
            attributes=span.attributes,
            kind=SpanKind.CLIENT if span.is_client else SpanKind.INTERNAL,
            status=Status(StatusCode.OK if span.error is None else StatusCode.ERROR, span.error),
            start_time=span.start,
            end_time=span.end,
            instrumentation_scope=scope,
        )

    logging.getLogger("opentelemetry.exporter.otlp.proto.http").setLevel(logging.CRITICAL)  # `flush` reports instead
    return OTLPSpanExporter(endpoint=url, headers=dict(headers) if headers else None, timeout=_POST), make
