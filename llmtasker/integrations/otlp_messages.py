"""OTLP messages as bytes, made with the classes that OpenTelemetry generates (package `opentelemetry-proto`).

Its SDK is not used: span objects and their encoder took four times the CPU of everything else in tracing. A span is
encoded once, when it is finished, and posts are joined from encoded spans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any, NamedTuple

from llmtasker.errors import ConfigurationError
from llmtasker.values.folding import encodable

SEMCONV = "1.37.0"  # of the attributes
_SCHEMA = f"https://opentelemetry.io/schemas/{SEMCONV}"
_INT64 = range(-(2**63), 2**63)
_type_of: Callable[[object], object] = type

Attributes = dict[str, Any]
"""Texts, numbers, booleans, bytes, and sequences and mappings of these; anything else is sent as text."""


class SpanEvent(NamedTuple):
    """An event within a span."""

    name: str
    when: int
    attributes: Attributes


@dataclass(slots=True, kw_only=True)
class Span:
    """A finished span. Times are in nanoseconds since 1970; `shared` has attributes as `encoded_attributes` wrote them.

    `error` is the error code; `links` are ids of other spans of the same trace.
    """

    name: str
    trace: bytes
    id: bytes
    parent: bytes = b""
    start: int
    end: int
    attributes: Attributes
    shared: bytes = b""
    error: str | None = None
    is_client: bool = False
    events: Sequence[SpanEvent] = ()
    links: Sequence[bytes] = field(default=())


class Sum(NamedTuple):
    """A sum that only grows, for one set of attributes."""

    attributes: Attributes
    value: float


class Histogram(NamedTuple):
    """A distribution, for one set of attributes. `counts` has one number more than there are `bounds`."""

    attributes: Attributes
    total: float
    counts: Sequence[int]
    least: float
    most: float


class OTLPMetric(NamedTuple):
    """A metric with its points, all sums or all histograms."""

    name: str
    unit: str
    description: str
    points: Sequence[Sum | Histogram]
    bounds: Sequence[float] = ()


@cache
def _proto() -> SimpleNamespace:
    """Return the generated classes.

    Raises:
        ConfigurationError: the extra is missing.
    """
    try:
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
        from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
        from opentelemetry.proto.resource.v1.resource_pb2 import Resource
        from opentelemetry.proto.trace.v1 import trace_pb2
    except ModuleNotFoundError:
        raise ConfigurationError('traces need opentelemetry-proto: pip install "llmtasker[otel]"') from None
    return SimpleNamespace(
        Span=trace_pb2.Span,
        ScopeSpans=trace_pb2.ScopeSpans,
        ResourceSpans=trace_pb2.ResourceSpans,
        Scope=InstrumentationScope(name="llmtasker", version=version("llmtasker")),
        Resource=Resource,
        MetricsRequest=ExportMetricsServiceRequest,
        Response=ExportTraceServiceResponse,
    )


def check_installed() -> None:
    """Load the generated classes now.

    Raises:
        ConfigurationError: the extra is missing.
    """
    _proto()


def span_bytes(span: Span) -> bytes:
    """Return a span in the form of a post."""
    message = _proto().Span(
        name=encodable(span.name),
        trace_id=span.trace,
        span_id=span.id,
        parent_span_id=span.parent,
        start_time_unix_nano=span.start,
        end_time_unix_nano=span.end,
        kind=3 if span.is_client else 1,
        flags=0x101,  # sampled; the parent is of this process
    )
    _add(message.attributes, span.attributes)
    if span.error is not None:
        message.status.code, message.status.message = 2, encodable(span.error)
    for event in span.events:
        _add(message.events.add(name=event.name, time_unix_nano=event.when).attributes, event.attributes)
    for link in span.links:
        message.links.add(trace_id=span.trace, span_id=link)
    # The bytes of two messages in a row have the fields of both, so shared attributes are encoded once.
    return _field(2, message.SerializeToString() + span.shared)


def encoded_attributes(attributes: Mapping[str, Any]) -> bytes:
    """Return attributes that many spans share."""
    message = _proto().Span()
    _add(message.attributes, attributes)
    encoded: bytes = message.SerializeToString()
    return encoded


def traces_request(resource: Mapping[str, Any], spans: Iterable[bytes]) -> bytes:
    """Return the body of a post of spans."""
    proto = _proto()
    scope = proto.ScopeSpans(scope=proto.Scope, schema_url=_SCHEMA).SerializeToString()
    about = proto.ResourceSpans()
    _add(about.resource.attributes, resource)
    return _field(1, about.SerializeToString() + _field(2, b"".join((scope, *spans))))


def metrics_request(
    resource: Mapping[str, Any], metrics: Iterable[OTLPMetric], start: int, now: int, *, delta: bool
) -> bytes:
    """Return the body of a post of metrics, whose points were counted from `start` to `now`."""
    proto = _proto()
    request = proto.MetricsRequest()
    all_of = request.resource_metrics.add()
    _add(all_of.resource.attributes, resource)
    scope = all_of.scope_metrics.add(scope=proto.Scope, schema_url=_SCHEMA)
    for metric in metrics:
        message = scope.metrics.add(name=metric.name, unit=metric.unit, description=metric.description)
        for point in metric.points:
            times = {"start_time_unix_nano": start, "time_unix_nano": now}
            if isinstance(point, Sum):
                message.sum.aggregation_temporality, message.sum.is_monotonic = 1 if delta else 2, True
                made = message.sum.data_points.add(**times)
                if isinstance(point.value, int):
                    made.as_int = point.value
                else:
                    made.as_double = point.value
            else:
                message.histogram.aggregation_temporality = 1 if delta else 2
                counted = {"count": sum(point.counts), "sum": point.total, "min": point.least, "max": point.most}
                if not delta:
                    del counted["min"], counted["max"]  # over all time they mean little
                made = message.histogram.data_points.add(
                    **times, **counted, bucket_counts=point.counts, explicit_bounds=metric.bounds
                )
            _add(made.attributes, point.attributes)
    body: bytes = request.SerializeToString()
    return body


def rejected(response: bytes) -> tuple[int, str]:
    """Return how many spans (or points) a receiver refused while it accepted the others, and its reason."""
    try:
        partial = _proto().Response.FromString(response).partial_success
    except Exception:  # noqa: BLE001 - protobuf's DecodeError; some receivers answer with a text without meaning
        return 0, ""
    return max(0, int(partial.rejected_spans)), str(partial.error_message)


def _field(number: int, message: bytes) -> bytes:
    """Return a message as a field of another: its tag, its length in groups of 7 bits, its bytes."""
    length, size = bytearray((number << 3 | 2,)), len(message)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    length.append(size)
    return bytes(length) + message


def _add(attributes: Any, given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        added = attributes.add()
        kind = _type_of(value)
        try:
            added.key = name
            # The most frequent type comes first: this runs for each attribute of each span.
            if kind is int:
                added.value.int_value = value
            elif kind is str:
                added.value.string_value = value
            else:
                _set(added.value, value)
        except ValueError:  # a lone surrogate, or a number that is too large
            added.key = encodable(name)
            _set(added.value, value)


def _set(message: Any, value: Any) -> None:
    """Write a value into an AnyValue, by its type."""
    kind = _type_of(value)
    if kind is str:
        message.string_value = encodable(value)
    elif kind is bool:
        message.bool_value = value
    elif kind is int and value in _INT64:
        message.int_value = value
    elif kind is float:
        message.double_value = value
    elif kind is bytes:
        message.bytes_value = value
    elif kind is list or kind is tuple:
        message.array_value.SetInParent()
        for one in value:
            _set(message.array_value.values.add(), one)
    elif kind is dict:
        message.kvlist_value.SetInParent()
        _add(message.kvlist_value.values, {str(name): one for name, one in value.items()})
    elif value is not None:
        message.string_value = encodable(str(value))
