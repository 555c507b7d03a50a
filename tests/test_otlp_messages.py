"""The bytes of posts, read by the messages that OpenTelemetry generates."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from otlp import attributes_of

from llmtasker.integrations.otlp_messages import (
    Histogram,
    OTLPMetric,
    Span,
    SpanEvent,
    Sum,
    encoded_attributes,
    metrics_request,
    rejected,
    span_bytes,
    traces_request,
)
from llmtasker.values.json_values import is_array, is_object

NANOSECONDS = st.integers(0, 2**63 - 1)
NAMES = st.text(max_size=20)
PLAIN = st.text() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.binary()
VALUES = st.recursive(
    PLAIN | st.none(), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4)
)
ATTRIBUTES = st.dictionaries(NAMES, VALUES, max_size=8)
SPANS = st.builds(
    Span,
    name=NAMES,
    trace=st.binary(min_size=16, max_size=16),
    id=st.binary(min_size=8, max_size=8),
    parent=st.sampled_from([b"", b"\1" * 8]),
    start=NANOSECONDS,
    end=NANOSECONDS,
    attributes=ATTRIBUTES,
    error=st.none() | NAMES,
    is_client=st.booleans(),
    events=st.lists(st.builds(SpanEvent, NAMES, NANOSECONDS, ATTRIBUTES), max_size=2),
    links=st.lists(st.binary(min_size=8, max_size=8), max_size=3),
)


def sent(value: Any) -> Any:
    """Return a value as it arrives: integers of more than 64 bits are texts, lone surrogates are replaced."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case int() if not -(2**63) <= value < 2**63:
            return str(value)
        case _ if is_array(value):
            return [sent(one) for one in value]
        case _ if is_object(value):
            return {sent(name): sent(one) for name, one in value.items()}
        case _:
            return value


@given(resource=ATTRIBUTES, spans=st.lists(SPANS, max_size=4), shared=st.dictionaries(NAMES, VALUES, max_size=3))
def test_spans_are_what_opentelemetry_reads(
    resource: dict[str, Any], spans: list[Span], shared: dict[str, Any]
) -> None:
    for span in spans:
        span.shared = encoded_attributes(shared)
    body = traces_request(resource, map(span_bytes, spans))
    (all_of,) = ExportTraceServiceRequest.FromString(body).resource_spans
    (scope,) = all_of.scope_spans
    assert attributes_of(all_of.resource.attributes) == sent(resource)
    assert (scope.scope.name, scope.schema_url) == ("llmtasker", "https://opentelemetry.io/schemas/1.37.0")
    assert len(scope.spans) == len(spans)
    for read, span in zip(scope.spans, spans, strict=True):
        assert (read.name, read.trace_id, read.span_id) == (sent(span.name), span.trace, span.id)
        assert (read.parent_span_id, read.kind) == (span.parent, 3 if span.is_client else 1)
        assert (read.start_time_unix_nano, read.end_time_unix_nano) == (span.start, span.end)
        assert attributes_of(read.attributes) == {**sent(span.attributes), **sent(shared)}
        assert (read.status.code, read.status.message) == (0 if span.error is None else 2, sent(span.error or ""))
        assert [event.name for event in read.events] == [sent(event.name) for event in span.events]
        assert [attributes_of(event.attributes) for event in read.events] == [
            sent(one.attributes) for one in span.events
        ]
        assert [(link.trace_id, link.span_id) for link in read.links] == [(span.trace, link) for link in span.links]


@pytest.mark.parametrize("delta", [True, False])
def test_metrics_are_what_opentelemetry_reads(delta: bool) -> None:
    metrics = [
        OTLPMetric("rows", "{row}", "Rows.", [Sum({"a": 1}, 3), Sum({"a": 2}, 0.5)]),
        OTLPMetric("time", "s", "Time.", [Histogram({"b": "x"}, 4.5, (1, 2, 0), 0.5, 3.0)], bounds=(1.0, 10.0)),
    ]
    (all_of,) = ExportMetricsServiceRequest.FromString(
        metrics_request({"service.name": "s"}, metrics, 5, 9, delta=delta)
    ).resource_metrics
    rows, time = all_of.scope_metrics[0].metrics
    assert [(rows.name, rows.unit, rows.sum.is_monotonic), (time.name, time.unit)] == [
        ("rows", "{row}", True),
        ("time", "s"),
    ]
    assert rows.sum.aggregation_temporality == time.histogram.aggregation_temporality == (1 if delta else 2)
    assert [(point.as_int, point.as_double) for point in rows.sum.data_points] == [(3, 0), (0, 0.5)]
    (point,) = time.histogram.data_points
    assert (point.count, point.sum, list(point.bucket_counts), list(point.explicit_bounds)) == (
        3,
        4.5,
        [1, 2, 0],
        [1, 10],
    )
    assert point.HasField("max") is delta
    assert (point.start_time_unix_nano, point.time_unix_nano) == (5, 9)


@given(body=st.binary(max_size=40))
@example(body=b"OK")
@example(body=b"{}")
def test_whatever_a_receiver_answers_is_read(body: bytes) -> None:
    lost, _ = rejected(body)
    assert lost >= 0


def test_what_was_not_taken_is_read() -> None:
    partial = ExportTracePartialSuccess(rejected_spans=3, error_message="late")
    assert rejected(ExportTraceServiceResponse(partial_success=partial).SerializeToString()) == (3, "late")
