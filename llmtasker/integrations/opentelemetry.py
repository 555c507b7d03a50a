"""OpenTelemetry: observers that send runs, rows and calls as spans, and their counts as metrics (extra `[otel]`).

The attributes follow the semantic conventions for generative AI, version 1.37 (opentelemetry.io/docs/specs/semconv/),
with `llmtasker.*` for everything else. Both are sent as OTLP over HTTP, in protobuf.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtasker.errors import ConfigurationError
from llmtasker.integrations.meter import Meter
from llmtasker.integrations.otlp_receiver import OTLPReceiver, Signal, is_disabled, is_off
from llmtasker.integrations.span_attributes import Content, SpanAttributes
from llmtasker.integrations.tracer import Tracer


def traces(
    endpoint: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    sample: float = 1.0,
    content: Content = "none",
    service_name: str | None = None,
) -> Tracer:
    """Return an observer that sends spans of runs, rows and calls to an OTLP receiver: `Task(…, observers=[traces()])`.

    Args:
        endpoint: the receiver, such as "http://collector:4318"; None: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, or
            OTEL_EXPORTER_OTLP_ENDPOINT; without either, an error.
        headers: HTTP headers of each post; None: OTEL_EXPORTER_OTLP_HEADERS.
        sample: the share of rows that are sent, from 0 to 1; rows with an error are always sent.
        content: whether prompts and answers are sent: "none", as "hash", or as "text".
        service_name: the name under which the spans appear; None: OTEL_SERVICE_NAME, else "llmtasker".

    With OTEL_SDK_DISABLED=true, or OTEL_TRACES_EXPORTER=none and no `endpoint`, it sends nothing.

    Raises:
        ConfigurationError: no endpoint is given, an argument is wrong, or the extra `[otel]` is missing.
    """
    receiver = _receiver("traces", endpoint, headers)
    return _SpansOverOTLP(receiver, sample=sample, content=content, service_name=service_name)


def metrics(
    endpoint: str | None = None, *, headers: Mapping[str, str] | None = None, service_name: str | None = None
) -> Meter:
    """Return an observer that posts metrics each minute, and at the end: `Task(…, observers=[metrics()])`.

    They are `gen_ai.client.token.usage` and `gen_ai.client.operation.duration` of the conventions, by provider and
    model, and `llmtasker.rows` (with `llmtasker.cached` and `error.type`), `llmtasker.retries` and `llmtasker.cost` (US
    dollars). They are cumulative, unless OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta.

    Args:
        endpoint: the receiver, such as "http://collector:4318"; None: OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, or
            OTEL_EXPORTER_OTLP_ENDPOINT; without either, an error.
        headers: HTTP headers of each post; None: OTEL_EXPORTER_OTLP_HEADERS.
        service_name: the name under which they appear; None: OTEL_SERVICE_NAME, else "llmtasker".

    With OTEL_SDK_DISABLED=true, or OTEL_METRICS_EXPORTER=none and no `endpoint`, it sends nothing.

    Raises:
        ConfigurationError: no endpoint is given, a variable is wrong, or the extra `[otel]` is missing.
    """
    return _MetricsOverOTLP(_receiver("metrics", endpoint, headers), service_name=service_name)


class _MetricsOverOTLP(Meter):
    """A Meter that can be rebuilt in another process."""

    def __init__(self, receiver: OTLPReceiver | None, *, service_name: str | None) -> None:
        super().__init__(receiver, service_name=service_name)
        self._again = _meter_again, (None if receiver is None else receiver.url, service_name)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._again


def _meter_again(url: str | None, service_name: str | None) -> Meter:
    receiver = None if url is None else OTLPReceiver.at(url, "metrics")
    return _MetricsOverOTLP(receiver, service_name=service_name)


class _SpansOverOTLP(Tracer):
    """A Tracer that can be rebuilt in another process."""

    def __init__(
        self, receiver: OTLPReceiver | None, *, sample: float, content: Content, service_name: str | None
    ) -> None:
        super().__init__(receiver, SpanAttributes(content), sample=sample, service_name=service_name)
        self._again = _again, (None if receiver is None else receiver.url, sample, content, service_name)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._again


def _again(url: str | None, sample: float, content: Content, service_name: str | None) -> Tracer:
    """Return a tracer as in another process, except for the headers, which may contain a key and come from here."""
    receiver = None if url is None else OTLPReceiver.at(url, "traces")
    return _SpansOverOTLP(receiver, sample=sample, content=content, service_name=service_name)


def _receiver(signal: Signal, endpoint: str | None, headers: Mapping[str, str] | None) -> OTLPReceiver | None:
    """Return the receiver of a signal; None: the environment switches it off.

    Raises:
        ConfigurationError: no receiver is configured, or a variable is wrong.
    """
    if is_disabled() or (not endpoint and is_off(signal)):
        return None
    receiver = OTLPReceiver.of(signal, endpoint, headers)
    if receiver is None:
        raise ConfigurationError(f"{signal} need a receiver: give endpoint=…, or set OTEL_EXPORTER_OTLP_ENDPOINT.")
    return receiver


def from_environment() -> list[Any]:
    """Return the observers for which OpenTelemetry's variables name a receiver, unless they are switched off.

    Raises:
        ConfigurationError: a variable is wrong, or the extra `[otel]` is missing.
    """
    found: list[Any] = []
    if not is_off("traces") and OTLPReceiver.of("traces") is not None:
        found.append(traces())
    if not is_off("metrics") and OTLPReceiver.of("metrics") is not None:
        found.append(metrics())
    return found
