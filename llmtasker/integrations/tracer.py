"""Tracer: an observer that makes spans of events: one for a run, one for each row, one for each call.

::

    run ──▶ row ──▶ chat (retry) ──▶ chat (asked_again)
        └─▶ row ──▶ chat ◀┈ link ┈ row           one call for several rows belongs to the first that is sent
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import partial
from hashlib import blake2b
from typing import Any, Literal

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.integrations.background_sender import BackgroundSender
from llmtasker.integrations.call_attempt import attempts_of
from llmtasker.integrations.otlp_messages import (
    Attributes,
    Span,
    SpanEvent,
    check_installed,
    encoded_attributes,
    span_bytes,
)
from llmtasker.integrations.otlp_receiver import OTLPReceiver, resource_of
from llmtasker.integrations.span_attributes import SpanAttributes
from llmtasker.integrations.span_queue import SpanBatch, SpanQueue, Spans
from llmtasker.item import Item
from llmtasker.runner.events import Event
from llmtasker.runner.numbered_input import NumberedInput

END_SECONDS = 4.0  # seconds that the end of the process waits for the last spans
_LATER, _ENOUGH = 0.5, 2_000  # seconds that few spans wait for more, and the number of spans that is posted at once
_GIVEN_UP = "llmtasker.given_up"  # of a call in flight when its run was cancelled, and of its row
_ROWS = 20_000  # rows whose calls are kept until the row is finished
_RUNS = 1_000  # runs that are tracked at a time
_LINKS = 100  # rows that a call is linked to


@dataclass(slots=True)
class _CallSoFar:
    """A call, until one of its rows is sent: that row's span becomes its parent."""

    event: Event
    rows: int
    is_sent: bool = False


@dataclass(slots=True)
class _RowSoFar:
    """The events of a row that is not finished."""

    start: float
    calls: list[_CallSoFar] = field(default_factory=list[_CallSoFar])
    events: list[SpanEvent] = field(default_factory=list[SpanEvent])


@dataclass(slots=True)
class _Totals:
    """The totals of a run, sent or not."""

    rows: int = 0
    failed: int = 0
    cached: int = 0
    repaired: int = 0
    calls: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0

    def add(self, item: Item[Any]) -> None:
        self.rows += 1
        self.failed += item.error is not None
        self.cached += item.cached
        self.repaired += bool(item.repairs)
        self.calls += item.attempts if item.calls is None else item.calls
        self.input_tokens += item.usage.input
        self.output_tokens += item.usage.output
        self.cost += item.cost or 0.0


@dataclass(slots=True)
class _RunSoFar:
    """The shared attributes of a run's spans, and the totals of its rows."""

    trace: bytes
    is_single: bool = True
    shared: bytes | None = None
    of_settings: dict[int, tuple[object, str, bytes]] = field(default_factory=dict[int, tuple[object, str, bytes]])
    totals: _Totals = field(default_factory=_Totals)


class Tracer:
    """An observer that sends spans of runs, rows and calls from its own thread.

    `trace_per` "row" makes one trace per row, "run" one trace of the whole run. A receiver that fails or hangs does not
    affect or delay any row: spans wait, `dropped` counts those that did not fit, and the log reports it.

    Raises:
        ConfigurationError: `sample` is not from 0 to 1, or the extra is missing.
    """

    def __init__(
        self,
        receiver: OTLPReceiver | None,
        attributes: SpanAttributes,
        *,
        sample: float = 1.0,
        service_name: str | None = None,
        trace_per: Literal["run", "row"] = "run",
    ) -> None:
        if type(sample) not in (int, float) or not 0 <= sample <= 1:
            raise ConfigurationError(f"sample must be a number from 0 to 1, not {snippet(repr(sample), 40)}.")
        check_installed()
        self.sample = sample
        self._attributes, self._trace_per = attributes, trace_per
        self._rows: dict[tuple[str, int], _RowSoFar] = {}
        self._runs: dict[str, _RunSoFar] = {}
        queue = partial(SpanQueue, resource_of(service_name))
        self._sender = BackgroundSender[Spans, SpanBatch]("traces", queue, receiver, interval=_LATER, enough=_ENOUGH)

    @property
    def dropped(self) -> int:
        """Spans that could not be sent."""
        return self._sender.dropped

    def close(self) -> None:
        """Stop sending; waiting spans are dropped, so call `flush` first."""
        self._sender.close()

    def flush(self, seconds: float = END_SECONDS) -> bool:
        """Wait until the spans are sent, up to some seconds; return whether all were. The end of the process does
        so."""
        return self._sender.flush(seconds)

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if self._sender.closed:
            return
        match event.what:
            case "call_ended":
                self._take_call(event)
            case "item_done" if event.item is not None:
                self._take_item(event, event.item)
            case "waiting" | "step_done":
                self._take_moment(event)
            case "run_started":
                self._run(event).is_single = False
            case "run_ended":
                self._take_end(event)
            case _:
                pass

    def samples(self, trace: bytes) -> bool:
        """Return whether a row without an error is sent, by the id of its trace."""
        return int.from_bytes(trace[:8]) < self.sample * 2**64

    def _run(self, event: Event) -> _RunSoFar:
        run = self._runs.get(event.run)
        if run is None:
            run = self._runs[event.run] = _RunSoFar(_digest(16, event.run))
            if len(self._runs) > _RUNS:
                self._runs.pop(next(iter(self._runs)), None)
        return run

    def _row(self, event: Event, row: int, start: float) -> _RowSoFar:
        so_far = self._rows.get((event.run, row))
        if so_far is None:
            so_far = self._rows[event.run, row] = _RowSoFar(start)
            if len(self._rows) > _ROWS:
                self._give_up(self._rows.pop(next(iter(self._rows)), None))
        return so_far

    def _take_call(self, event: Event) -> None:
        rows = event.rows or (0,)
        call = _CallSoFar(event, len(rows))
        for row in rows:
            self._row(event, row, event.when - (event.seconds or 0.0)).calls.append(call)

    def _take_moment(self, event: Event) -> None:
        """Take an event without its own span: a wait, a step of a pipeline."""
        attributes: Attributes = {} if event.seconds is None else {"llmtasker.seconds": event.seconds}
        if (item := event.item) is not None:
            attributes = {"llmtasker.cached": item.cached, "llmtasker.attempts": item.attempts}
            attributes |= {} if item.error is None else {"error.type": item.error.code}
        moment = SpanEvent(event.what, _ns(event.when), attributes)
        for row in event.rows or (0,):
            self._row(event, row, event.when).events.append(moment)

    def _give_up(self, so_far: _RowSoFar | None) -> None:
        for call in () if so_far is None else so_far.calls:
            call.rows -= 1
            if not call.rows and not call.is_sent:
                self._sender.count_dropped(1)

    def _take_item(self, event: Event, item: Item[Any]) -> None:
        run, row = self._run(event), event.row or 0
        if run.is_single:
            self._runs.pop(event.run, None)
        else:
            run.totals.add(item)
        so_far = self._rows.pop((event.run, row), None) or _RowSoFar(event.when)
        trace, span = _ids_of_row(event.run, row)
        job = item.input.job if isinstance(item.input, NumberedInput) else None
        if job is not None:
            trace = trace_of_job_row(job, item.input.number)
        failed = item.error is not None
        if not failed and not self.samples(trace):
            return
        if run.shared is None:
            run.shared = encoded_attributes(self._attributes.of_run(event.run, event.tags, job))
        by_run = self._trace_per == "run"
        made = Span(
            name="row",
            trace=run.trace if by_run else trace,
            id=span,
            parent=run.trace[:8] if by_run and not run.is_single else b"",
            start=_ns(so_far.start),
            end=_ns(event.when),
            attributes=self._attributes.of_row(row, item),
            shared=run.shared,
            error=None if item.error is None else item.error.code,
            events=so_far.events,
        )
        calls = self._calls(run, made, so_far.calls, item)
        self._sender.put(Spans([*calls, span_bytes(made)], failed))

    def _calls(self, run: _RunSoFar, parent: Span, calls: list[_CallSoFar], item: Item[Any]) -> list[bytes]:
        """Return the calls of a row that are not sent yet."""
        encoded: list[bytes] = []
        for call, attempt in zip(calls, attempts_of([call.event for call in calls], item), strict=True):
            event = call.event
            if call.is_sent:
                continue
            call.is_sent = True
            name, shared = self._of_settings(run, event)
            given_up = event.error is None and event.completion is None
            attributes = self._attributes.of_call(event, attempt) | ({_GIVEN_UP: True} if given_up else {})
            span = Span(
                name=name,
                trace=parent.trace,
                id=_digest(8, event.run, "call", event.call),
                parent=parent.id,
                start=_ns(event.when - (event.seconds or 0.0)),
                end=_ns(event.when),
                attributes=attributes,
                shared=shared,
                error=None if event.error is None else event.error.code,
                is_client=True,
            )
            if len(event.rows) > 1 and self._trace_per == "run":
                others = [_ids_of_row(event.run, row)[1] for row in event.rows[:_LINKS]]
                span.links = [other for other in others if other != parent.id]
            encoded.append(span_bytes(span))
        return encoded

    def _of_settings(self, run: _RunSoFar, event: Event) -> tuple[str, bytes]:
        """Return the name of a call, and the attributes that it shares with other calls of its run and settings."""
        settings = None if event.request is None else event.request.settings
        found = run.of_settings.get(id(settings))
        if found is None or found[0] is not settings:
            attributes = self._attributes.of_settings(event)
            name = f"chat {attributes.get('gen_ai.request.model', '')}".strip()
            found = settings, name, (run.shared or b"") + encoded_attributes(attributes)
            run.of_settings[id(settings)] = found
        return found[1:]

    def _take_end(self, event: Event) -> None:
        run = self._run(event)
        self._runs.pop(event.run, None)
        if run.shared is None:
            run.shared = encoded_attributes(self._attributes.of_run(event.run, event.tags, None))
        given_up = [row for of, row in self._rows if of == event.run]
        for row in given_up:
            self._take_given_up(event, run, row)
        attributes: Attributes = {
            f"llmtasker.total.{one.name}": getattr(run.totals, one.name) for one in fields(run.totals)
        }
        if given_up:
            attributes["llmtasker.total.given_up"] = len(given_up)
        if self.dropped:
            attributes["llmtasker.dropped_spans"] = self.dropped
        span = Span(
            name="run",
            trace=run.trace,
            id=run.trace[:8],
            start=_ns(event.when - (event.seconds or 0.0)),
            end=_ns(event.when),
            attributes=attributes,
            shared=run.shared,
        )
        self._sender.put(Spans([span_bytes(span)], urgent=True))

    def _take_given_up(self, event: Event, run: _RunSoFar, row: int) -> None:
        """Send a row whose call was in flight when its run was cancelled, because that call may have cost something."""
        so_far = self._rows.pop((event.run, row))
        trace, span = _ids_of_row(event.run, row)
        by_run = self._trace_per == "run"
        made = Span(
            name="row",
            trace=run.trace if by_run else trace,
            id=span,
            parent=run.trace[:8] if by_run else b"",
            start=_ns(so_far.start),
            end=_ns(event.when),
            attributes={"llmtasker.row": row, _GIVEN_UP: True},
            shared=run.shared or b"",
            error="given_up",
            events=so_far.events,
        )
        calls = self._calls(run, made, so_far.calls, Item(input=None))
        self._sender.put(Spans([*calls, span_bytes(made)], urgent=True))


def trace_of_job_row(job: str, number: int) -> bytes:
    """Return the id of the trace of a row of a job, if each row has a trace; it is the same in every run of that
    row."""
    return _digest(16, "job", job, number)


def trace_of_row(run: str, row: int) -> bytes:
    """Return the id of the trace of a row, if each row has a trace; `run` and `row` are those of its events."""
    return _ids_of_row(run, row)[0]


def _ids_of_row(run: str, row: int) -> tuple[bytes, bytes]:
    digest = _digest(24, run, row)
    return digest[:16], digest[16:]


def _digest(size: int, *parts: object) -> bytes:
    """Return the id of a span or trace: the same for the same run, row and call."""
    return blake2b("\0".join(map(str, parts)).encode(), digest_size=size).digest()


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
