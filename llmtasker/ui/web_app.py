"""add_pages: the web page in the app of a server."""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from llmtasker.api.problem import Problem
from llmtasker.api.server import Server
from llmtasker.ui.begin_pages import begin_pages
from llmtasker.ui.evaluation_pages import evaluation_pages
from llmtasker.ui.export_pages import export_pages
from llmtasker.ui.file_pages import file_pages
from llmtasker.ui.page_route import page_router
from llmtasker.ui.results_pages import results_pages
from llmtasker.ui.run_pages import run_pages
from llmtasker.ui.task_pages import task_pages
from llmtasker.ui.visit import Pages

STATIC = {
    "style.css": "text/css",
    "page.js": "text/javascript",
    "htmx.js": "text/javascript",
    "icons.svg": "image/svg+xml",
}
"""The files that a page needs, which all come from this server."""

_STEPS = (
    begin_pages, file_pages, task_pages, run_pages, results_pages, evaluation_pages, export_pages,
)  # fmt: skip


def add_pages(app: FastAPI) -> None:
    """Add the web page to an app that `create_app` made."""
    server: Server = app.state.server
    pages = Pages(server)
    router = page_router(pages)

    @router.get("/static/{name}")
    def static(request: Request, name: str) -> Response:
        if name not in STATIC:
            raise Problem("not-found", "There is no such file.")
        content = files("llmtasker.ui").joinpath("static", name).read_bytes()
        tag = f'"{sha256(content).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=STATIC[name], headers=headers)

    app.include_router(router)
    for step in _STEPS:
        app.include_router(step(pages))
    app.include_router(_unknown(pages))


def _unknown(pages: Pages) -> APIRouter:
    """Return the route for unknown addresses, which answers with a page; it comes after all others."""
    router = page_router(pages)

    @router.get("/p/{rest:path}")
    def unknown(rest: str) -> Response:
        raise Problem("not-found", "There is no such page.")

    return router
