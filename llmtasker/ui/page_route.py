"""PageRoute: a route whose errors are pages; visitors who are not signed in are asked to sign in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from llmtasker.api.problem import Problem, of_status
from llmtasker.ui.page_language import LANGUAGES
from llmtasker.ui.visit import LANGUAGE, Pages, SignInNeededError, Visit, begin_session
from llmtasker.values.lazy_pattern import lazy_pattern

_PROJECT = lazy_pattern(r"/p/[0-9a-f]{16}(?=/)")
_WHOLE = {"progress": "/run", "rows": "/results", "prompt": "/task"}
_PARTS = lazy_pattern(r"/(progress|rows|prompt)(?:/[0-9]+)?$")
"""Parts of pages, and pages that expect a form; after a new sign-in, the whole page is shown instead."""


def page_router(pages: Pages) -> APIRouter:
    """Return a router of pages, which the documentation of the API does not list."""

    class PageRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
            handle = super().get_route_handler()

            async def page(request: Request) -> Response:
                code = request.query_params.get("lang")
                if code is not None and code in LANGUAGES and request.method == "GET":
                    return chosen_language(pages, request, code)
                try:
                    return await handle(request)
                except SignInNeededError:
                    return sign_in(Visit.of(pages, request, signed_in=False))
                except RequestValidationError as error:
                    where = ".".join(str(part) for part in error.errors()[0]["loc"][1:])
                    return problem_page(pages, request, Problem("invalid", f"the address has a wrong {where!r}"))
                except HTTPException as error:
                    return problem_page(pages, request, of_status(error.status_code))
                except Problem as problem:
                    return problem_page(pages, request, problem)
                finally:
                    await request.close()  # its form, with the uploaded file

            return page

    return APIRouter(route_class=PageRoute, include_in_schema=False)


def sign_in(visit: Visit) -> Response:
    """Ask for a key; on loopback without keys, begin a session and show the page."""
    request = visit.request
    then = _PARTS.sub(lambda part: _WHOLE[part[1]], request.url.path.removeprefix(visit.root))
    if request.method == "GET" and request.url.query:
        then += f"?{request.url.query}"
    if not visit.server.settings.open:
        return visit.go(f"/sign-in?then={quote(then, safe='/')}")
    response = visit.go(then)
    begin_session(visit, response)
    return response


def problem_page(pages: Pages, request: Request, problem: Problem) -> Response:
    """Return an error as a page; for a part of a page, as one line."""
    visit = Visit.of(pages, request, signed_in=False)
    part = bool(request.headers.get("hx-request"))
    project = _PROJECT.match(request.url.path.removeprefix(visit.root))
    back = f"{project[0]}/task" if project is not None and problem.status != HTTPStatus.NOT_FOUND else "/"
    return visit.show("_problem.html" if part else "problem.html", problem.status, problem=problem, back=back)


def chosen_language(pages: Pages, request: Request, code: str) -> Response:
    """Keep a language, and redirect to the same page without it in the address."""
    visit = Visit.of(pages, request, signed_in=False)
    query = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "lang"])
    response = visit.go(request.url.path.removeprefix(visit.root) + (f"?{query}" if query else ""))
    visit.keep(response, LANGUAGE, code)
    return response
