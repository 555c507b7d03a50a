"""An independent OTLP receiver: http.server, and the messages of OpenTelemetry."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Receiver:
    """Receives spans, metrics and Langfuse's scores; `delay` is in seconds (negative: it hangs)."""

    def __init__(self, port: int = 0) -> None:
        self.spans: list[dict[str, Any]] = []
        self.points: list[dict[str, Any]] = []
        self.resources: list[dict[str, Any]] = []
        self.scores: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.withdrawn: list[str] = []
        self.bodies: list[bytes] = []
        self.status = 200
        self.response = b""
        self.headers: list[dict[str, str]] = []
        self.delay = 0.0
        self.frozen = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.frozen.wait() if receiver.delay < 0 else time.sleep(receiver.delay)
                receiver.headers.append(dict(self.headers))
                receiver.paths.append(self.path)
                packed = self.headers.get("Content-Encoding") == "gzip"
                if receiver.status < 300:
                    receiver.take(self.path, gzip.decompress(body) if packed else body)
                self.send_response(receiver.status)
                self.send_header("Content-Length", str(len(receiver.response)))
                self.end_headers()
                self.wfile.write(receiver.response)

            def do_DELETE(self) -> None:
                receiver.withdrawn.append(self.path.rpartition("/")[2])
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, path: str, body: bytes) -> None:
        if path.endswith("/scores"):
            self.scores.append(json.loads(body))
            return
        self.bodies.append(body)
        if path.endswith("/metrics"):
            self._take_metrics(ExportMetricsServiceRequest.FromString(body))
            return
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(attributes_of(resource.resource.attributes))
            for scope in resource.scope_spans:
                for span in scope.spans:
                    events = [(event.name, attributes_of(event.attributes)) for event in span.events]
                    self.spans.append(
                        {
                            "name": span.name, "trace": span.trace_id.hex(), "id": span.span_id.hex(),
                            "parent": span.parent_span_id.hex(), "status": span.status.code, "kind": span.kind,
                            "seconds": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9, "events": events,
                            "start": span.start_time_unix_nano, "links": [link.span_id.hex() for link in span.links],
                            **attributes_of(span.attributes),
                        }
                    )  # fmt: skip

    def _take_metrics(self, request: ExportMetricsServiceRequest) -> None:
        for resource in request.resource_metrics:
            self.resources.append(attributes_of(resource.resource.attributes))
            for metric in [metric for scope in resource.scope_metrics for metric in scope.metrics]:
                kind = "histogram" if metric.HasField("histogram") else "sum"
                for point in getattr(metric, kind).data_points:
                    value = point.sum if kind == "histogram" else point.as_int or point.as_double
                    self.points.append(
                        {
                            "metric": metric.name, "unit": metric.unit, "value": value, "post": len(self.bodies),
                            "start": point.start_time_unix_nano, "end": point.time_unix_nano,
                            "temporality": getattr(metric, kind).aggregation_temporality,
                            "count": getattr(point, "count", None),
                            "bounds": list(getattr(point, "explicit_bounds", ())),
                            "buckets": list(getattr(point, "bucket_counts", ())), **attributes_of(point.attributes),
                        }
                    )  # fmt: skip

    def counted(self, metric: str, **said: Any) -> float:
        """The sum of the points of a metric in the latest post that has it, with these attributes (`_` for a dot)."""
        there = [point for point in self.points if point["metric"] == metric]
        last = max((point["post"] for point in there), default=0)
        named = [{name.replace(".", "_"): value for name, value in one.items()} for one in there if one["post"] == last]
        return sum(one["value"] for one in named if all(one.get(name) == value for name, value in said.items()))

    def named(self, name: str) -> list[dict[str, Any]]:
        return [span for span in self.spans if span["name"].split()[0] == name]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition is true."""
        until = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < until, self.spans
            time.sleep(0.01)

    def close(self) -> None:
        self.frozen.set()
        self._server.shutdown()
        self._server.server_close()


def attributes_of(attributes: Any) -> dict[str, Any]:
    """The attributes of a message as Python has them."""
    return {one.key: _value(one.value) for one in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    if kind == "kvlist_value":
        return attributes_of(value.kvlist_value.values)
    return getattr(value, kind)
