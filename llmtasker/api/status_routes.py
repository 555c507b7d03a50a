"""Health, readiness, metrics, and the documentation of the API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from llmtasker.api.openapi_schema import api_schema
from llmtasker.api.problem import Problem
from llmtasker.api.reference_page import STYLE, reference_page
from llmtasker.api.server import Server

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def add_status_routes(app: FastAPI, server: Server) -> None:
    """Add the routes that report the state of the server."""
    router = APIRouter(tags=["status"])

    @router.get("/healthz")
    def health() -> dict[str, str]:
        """Answer as long as the process works."""
        return {"status": "ok"}

    @router.get("/readyz")
    def ready() -> dict[str, str]:
        """Answer 200 while requests are accepted and the file of jobs can be read; else 503."""
        if server.stopping:
            raise Problem("stopping", "Send requests to another process.")
        server.queue.states()
        return {"status": "ok"}

    @router.get("/metrics", response_class=PlainTextResponse)
    def metrics(request: Request) -> Response:
        """Counts for Prometheus: requests, rows, tokens, jobs. They contain no texts and no keys."""
        server.caller(request)
        return Response("\n".join(_metrics(server)) + "\n", media_type=_PROMETHEUS)

    app.include_router(router)

    @app.get("/openapi.json", include_in_schema=False)
    def openapi(request: Request) -> JSONResponse:
        root = request.scope.get("root_path", "")
        return JSONResponse(api_schema(app) | ({"servers": [{"url": root}]} if root else {}))

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(reference_page(api_schema(app)))

    @app.get("/docs.css", include_in_schema=False)
    def style() -> Response:
        return Response(STYLE, media_type="text/css")


def _metrics(server: Server) -> Iterable[str]:
    names = {"requests": ("route", "status"), "rows": ("outcome",), "tokens": ("kind",)}
    counts = sorted(server.counts.copy().items())  # requests keep counting in other threads
    for metric, labels in names.items():
        yield f"# TYPE llmtasker_{metric}_total counter"
        for (kind, *values), count in counts:
            if kind == metric:
                yield f"llmtasker_{metric}_total{_labels(labels, values)} {count}"
    yield "# TYPE llmtasker_jobs gauge"
    for state, count in sorted(server.queue.states().items()):
        yield f'llmtasker_jobs{{state="{state}"}} {count}'
    yield "# TYPE llmtasker_job_rows gauge"
    for outcome, count in server.queue.outcomes().items():
        yield f'llmtasker_job_rows{{outcome="{outcome}"}} {count}'


def _labels(names: Iterable[str], values: Iterable[Any]) -> str:
    pairs = ",".join(f'{name}="{value}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}"
