"""create_app: an ASGI app that serves tasks, to run or to mount in another app."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from itertools import count
from typing import Any

from llmtasker.api.server_settings import ServerSettings
from llmtasker.errors import ConfigurationError, snippet
from llmtasker.jobs.correction_reports import report_corrections

try:
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import Response
    from fastapi.routing import APIRoute
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
    from starlette.types import ASGIApp, Receive, Scope, Send
except ModuleNotFoundError:
    raise ConfigurationError('the REST API needs fastapi: pip install "llmtasker[api]"') from None

from llmtasker.api.bounded_exchange import BoundedExchange
from llmtasker.api.job_routes import job_routes
from llmtasker.api.problem import Problem, of_status
from llmtasker.api.server import Server
from llmtasker.api.status_routes import add_status_routes
from llmtasker.api.task_routes import task_routes, unknown_task
from llmtasker.api.trusted_host import TrustedHost
from llmtasker.jobs.error_trace import error_trace
from llmtasker.jobs.pipeline_work import TaskLike

_LOG = logging.getLogger("llmtasker.server")
_LEFT = 499  # in log and metrics: the caller disconnected
# Newer versions of FastAPI report exceptions to OpenTelemetry with their messages, which may contain users' texts.
_OPTIONS: dict[str, Any] = {"telemetry": {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}}


def create_app(tasks: Mapping[str, TaskLike], settings: ServerSettings | None = None) -> FastAPI:
    """Return an app that serves tasks by name: one input, many inputs, jobs, and tasks that callers describe.

    Jobs run while the app is served (its lifespan). `app.state.server` is what requests share.

    Raises:
        ConfigurationError: there are no keys and the server is not open, the file of jobs can't be used, or the extra
            `[api]` is missing.
    """
    settings = settings or ServerSettings()
    server = Server(tasks, settings)
    own: dict[str, Any] = {"docs_url": None, "redoc_url": None, "openapi_url": None}
    app = FastAPI(title="llmtasker", lifespan=server.lifespan, **own, **_OPTIONS)
    app.state.server = server
    report_corrections(server.queue, server.tasks.of_job)
    router = task_routes(server)
    app.include_router(router)
    app.include_router(job_routes(server))
    add_status_routes(app, server)
    _answer_problems(app, server)
    app.add_middleware(_DirectCalls, routes=[route for route in router.routes if isinstance(route, APIRoute)])
    if settings.open:
        app.add_middleware(TrustedHost, names=settings.hosts)
    app.add_middleware(_RequestFrame, server=server)
    return app


class _DirectCalls:
    """Calls of functions that take the request and return the response, by path.

    What FastAPI adds around such a function takes as long as the rest of its work. Other calls, such as those with
    another method, go on to FastAPI.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[APIRoute]) -> None:
        self._app = app
        self._routes = {route.path: route for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope["type"] == "http" and scope["method"] == "POST" and not scope["query_string"]
        route = self._routes.get(scope["path"].removeprefix(scope.get("root_path", ""))) if asked else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route  # as FastAPI does: log and metrics name it
        try:
            response = await route.endpoint(Request(scope, receive))
        except Problem as problem:
            response = problem.response()
        await response(scope, receive, send)


def _answer_problems(app: FastAPI, server: Server) -> None:
    async def problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)  # noqa: S101 - it is registered for nothing else
        return error.response()

    async def of_framework(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        if error.status_code == HTTPStatus.NOT_FOUND and "/tasks/" in request.url.path:
            return unknown_task(server, request).response()
        found = of_status(error.status_code)
        found.headers = dict(error.headers or {})
        return found.response()

    async def of_parameters(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return Problem("invalid", f"{where}: {first['msg']} (got {snippet(repr(first['input']), 60)}).").response()

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(HTTPException, of_framework)
    app.add_exception_handler(RequestValidationError, of_parameters)


class _RequestIds:
    """Ids of requests; they begin with a prefix that each process, also a forked one, draws for itself."""

    def __init__(self) -> None:
        self._process = 0

    def next(self) -> str:
        if self._process != os.getpid():
            self._process, self._begin, self._numbers = os.getpid(), secrets.token_hex(4), count(1)
        return f"{self._begin}{next(self._numbers):08x}"


class _RequestFrame:
    """Wraps each request: an exchange with an id, a count, a log line without texts; an exception becomes a 500."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self._app, self._server = app, server
        self._ids = _RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id_, started, method = self._ids.next(), time.perf_counter(), scope["method"]
        if method == "HEAD":  # the answer to GET, whose body is not sent
            scope = {**scope, "method": "GET"}
        settings = self._server.settings
        exchange = BoundedExchange(
            scope, receive, send, id_=id_, max_bytes=settings.max_bytes, seconds=settings.body_seconds
        )
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = exchange.status or _LEFT
        except Exception as error:  # noqa: BLE001 - the last place that can answer
            _LOG.error("request %s failed: %s", id_, error_trace(error))
            if exchange.status:  # it is too late for another response; the server's own log gets no text either
                raise ConnectionAbortedError(f"request {id_} was aborted") from None
            problem = Problem("internal", f"See request {id_} in the log of the server.")
            with contextlib.suppress(ClientDisconnect):
                await problem.response()(scope, exchange.receive, exchange.send)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._server.counts["requests", route, str(exchange.status)] += 1
            if _LOG.isEnabledFor(logging.INFO):
                took = round(1000 * (time.perf_counter() - started), 1)
                line = {"request": id_, "method": method, "route": route, "status": exchange.status, "ms": took}
                _LOG.info(json.dumps(line))
        await exchange.end()
