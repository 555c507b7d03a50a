"""OpenTelemetry: an observer that sends runs, rows and calls as spans over OTLP (extra `[otel]`).

The attributes follow the semantic conventions for generative AI, version 1.37 (opentelemetry.io/docs/specs/semconv/),
with `llmtasker.*` for what they do not have.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from llmtasker.errors import ConfigurationError, check_choice, snippet
from llmtasker.integrations.span_sender import END_SECONDS, Attributes, SpanData, SpanSender
from llmtasker.item import Item
from llmtasker.runner.events import Event

Content = Literal["none", "hash", "text"]
"""What is sent of prompts and answers."""


_ROWS = 20_000  # rows whose calls are kept until the row is done


def traces(
    endpoint: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    sample: float = 1.0,
    content: Content = "none",
    service_name: str = "llmtasker",
) -> Tracer:
    """Return an observer that sends spans of runs, rows and calls to an OTLP receiver: `Task(…, observers=[traces()])`.

    Args:
        endpoint: the receiver, such as "http://collector:4318"; None: OTEL_EXPORTER_OTLP_ENDPOINT. There is no default.
        headers: HTTP headers of each post; None: OTEL_EXPORTER_OTLP_HEADERS.
        sample: the share of rows that are sent, from 0 to 1; rows with an error are always sent.
        content: whether prompts and answers are sent: "none", as "hash", or as "text".
        service_name: the name under which the spans appear.

    Raises:
        ConfigurationError: no endpoint is given, an argument is wrong, or the extra `[otel]` is missing.
    """
    endpoint = endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not endpoint:
        raise ConfigurationError("traces need a receiver: give endpoint=…, or set OTEL_EXPORTER_OTLP_ENDPOINT.")
    return Tracer(
        f"{checked_url(endpoint).rstrip('/')}/v1/traces",
        headers=headers,
        sample=sample,
        content=content,
        service_name=service_name,
    )


def checked_url(url: str) -> str:
    """Return a URL of a receiver.

    Raises:
        ConfigurationError: it is not one of HTTP.
    """
    if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
        raise ConfigurationError("the receiver of traces must be a URL that begins with http:// or https://.")
    return url


@dataclass(slots=True)
class _CallSoFar:
    """A call, until one of its rows is sent: that row's span becomes its parent."""

    span: SpanData
    rows: int
    is_sent: bool = False


@dataclass(slots=True)
class _RowSoFar:
    """The calls of a row that is not done."""

    start: int
    calls: list[_CallSoFar] = field(default_factory=list[_CallSoFar])


class Tracer:
    """An observer that makes spans of events and sends them from a thread of its own.

    `trace_per` "row" makes a trace of each row, "run" one of the whole run. `extra` adds attributes to each span. A
    receiver that fails or hangs costs no row and no time: spans wait, `dropped` counts those that found no place, and
    the log reports it.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        sample: float = 1.0,
        content: Content = "none",
        service_name: str = "llmtasker",
        trace_per: Literal["run", "row"] = "run",
        extra: Callable[[Event], Attributes] | None = None,
    ) -> None:
        if type(sample) not in (int, float) or not 0 <= sample <= 1:
            raise ConfigurationError(f"sample must be a number from 0 to 1, not {snippet(repr(sample), 40)}.")
        check_choice("content", content, get_args(Content))
        self.sample, self.content = sample, content
        self._trace_per, self._extra = trace_per, extra
        self._url, self._service_name = url, service_name
        self._rows: OrderedDict[tuple[str, int], _RowSoFar] = OrderedDict()
        self._sender = SpanSender(url, headers, service_name)

    def __reduce__(self) -> tuple[Any, ...]:
        # Without headers, which may hold a key: the other process has its own in its environment.
        options: dict[str, Any] = {"sample": self.sample, "content": self.content, "service_name": self._service_name}
        return partial(traces, self._url.removesuffix("/v1/traces"), **options), ()

    @property
    def dropped(self) -> int:
        """Spans that could not be sent."""
        return self._sender.dropped

    def close(self) -> None:
        """End the sending; spans that wait are given up, so call `flush` before."""
        self._sender.close()

    def flush(self, seconds: float = END_SECONDS) -> bool:
        """Wait for the spans to be sent, up to some seconds; return whether all were. The end of the process does."""
        return self._sender.flush(seconds)

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if event.what == "call_ended":
            self._take_call(event)
        elif event.what == "item_done" and event.item is not None:
            self._take_item(event, event.item)
        elif event.what == "run_ended":
            attributes = {"llmtasker.run": event.run, **_tags(event)}
            if self.dropped:
                attributes["llmtasker.dropped_spans"] = self.dropped
            start = event.when - (event.seconds or 0.0)
            self._sender.put(
                SpanData("run", _id(16, event.run), _id(8, event.run), None, _ns(start), _ns(event.when), attributes)
            )

    def _take_call(self, event: Event) -> None:
        rows = event.rows or (0,)
        start = _ns(event.when - (event.seconds or 0.0))
        attributes = {**self._call_attributes(event), **(self._extra(event) if self._extra else {})}
        span = SpanData(
            f"chat {attributes.get('gen_ai.request.model', '')}".strip(),
            0,
            _id(8, event.run, rows[0], event.call),
            None,
            start,
            _ns(event.when),
            attributes,
            None if event.error is None else event.error.code,
            is_client=True,
        )
        call = _CallSoFar(span, len(rows))
        for row in rows:
            self._rows.setdefault((event.run, row), _RowSoFar(start)).calls.append(call)
        while len(self._rows) > _ROWS:
            _, oldest = self._rows.popitem(last=False)
            self._give_up(oldest)

    def _give_up(self, so_far: _RowSoFar) -> None:
        for call in so_far.calls:
            call.rows -= 1
            if not call.rows and not call.is_sent:
                self._sender.count_dropped(1)

    def _take_item(self, event: Event, item: Item[Any]) -> None:
        row = event.row or 0
        so_far = self._rows.pop((event.run, row), None) or _RowSoFar(_ns(event.when))
        failed = item.error is not None
        if not failed and _id(8, event.run, row) >= self.sample * 2**64:
            return
        attributes = {**self._item_attributes(event, item), **(self._extra(event) if self._extra else {})}
        parent = _id(8, event.run) if self._trace_per == "run" else None
        span = SpanData(
            "row",
            self._trace(event.run, row),
            _id(8, event.run, row),
            parent,
            so_far.start,
            _ns(event.when),
            attributes,
            None if item.error is None else item.error.code,
        )
        for call in so_far.calls:
            if not call.is_sent:
                call.is_sent = True
                self._sender.put(call.span._replace(trace=span.trace, parent=span.id), urgent=failed)
        self._sender.put(span, urgent=failed)

    def _trace(self, run: str, row: int) -> int:
        return _id(16, run) if self._trace_per == "run" else _id(16, run, row)

    def _call_attributes(self, event: Event) -> Attributes:
        made: Attributes = {"gen_ai.operation.name": "chat", "llmtasker.run": event.run, **_tags(event)}
        made["llmtasker.rows"] = list(event.rows)
        if event.call is not None:
            made["llmtasker.call"] = event.call
        if (request := event.request) is not None:
            body = request.settings.body
            place = urlsplit(request.settings.endpoint)
            made["gen_ai.provider.name"] = _provider(place.hostname or request.settings.endpoint)
            made |= {"server.address": place.hostname} if place.hostname else {}
            named = {"model": "model", "temperature": "temperature", "top_p": "top_p", "seed": "seed"}
            made |= {f"gen_ai.request.{other}": body[name] for name, other in named.items() if name in body}
            made |= self._shown("gen_ai.input.messages", request.messages)
        if (completion := event.completion) is not None:
            if completion.model:
                made["gen_ai.response.model"] = completion.model
            if completion.finish_reason:
                made["gen_ai.response.finish_reasons"] = [completion.finish_reason]
            if completion.usage is not None:
                made["gen_ai.usage.input_tokens"] = completion.usage.input
                made["gen_ai.usage.output_tokens"] = completion.usage.output
            made |= self._shown("gen_ai.output.messages", [{"role": "assistant", "content": completion.raw}])
        if event.error is not None:
            made["error.type"] = event.error.code
            if event.error.status is not None:
                made["http.response.status_code"] = event.error.status
        return made

    def _item_attributes(self, event: Event, item: Item[Any]) -> Attributes:
        made: Attributes = {
            "llmtasker.run": event.run,
            "llmtasker.row": event.row or 0,
            "llmtasker.cached": item.cached,
            "llmtasker.attempts": item.attempts,
            "llmtasker.retries": max(0, item.attempts - 1),
            "gen_ai.usage.input_tokens": item.usage.input,
            "gen_ai.usage.output_tokens": item.usage.output,
            **_tags(event),
        }
        if item.cost is not None:
            made["llmtasker.cost"] = item.cost
        if item.repairs:
            made["llmtasker.repairs"] = len(item.repairs)
        if item.error is not None:
            made["error.type"] = item.error.code
        if self.content != "none":
            made |= self._shown("llmtasker.output", item.to_dict()["output"])
        return made

    def _shown(self, name: str, value: Any) -> Attributes:
        if self.content == "none":
            return {}
        text = json.dumps(value, ensure_ascii=False, default=str)
        if self.content == "hash":
            return {f"{name}.hash": blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()}
        return {name: text.encode("utf-8", "replace").decode()}


def _tags(event: Event) -> Attributes:
    return {
        f"llmtasker.tag.{name}": value if isinstance(value, str | int | float | bool) else str(value)
        for name, value in event.tags.items()
    }


def _provider(host: str) -> str:
    """Return the well-known name of a provider, as the conventions list them; else the host."""
    known = {"openai.azure.com": "azure.ai.openai", "openai.com": "openai", "mistral.ai": "mistral_ai"}
    return next((name for ending, name in known.items() if host.endswith(ending)), host)


def _id(size: int, *parts: object) -> int:
    """Return the id of a span or trace: the same for the same run, row and call, and never 0."""
    digest = blake2b("\0".join(map(str, parts)).encode(), digest_size=size).digest()
    return int.from_bytes(digest) or 1


def trace_id(run: str, row: int) -> str:
    """Return the id of a row's own trace, as 32 hexadecimal digits."""
    return f"{_id(16, run, row):032x}"


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
