"""Visit: a request for a page: who asks, in which language and theme, and the values of the page."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.datastructures import FormData

from llmtasker.api.api_keys import ApiKey
from llmtasker.api.problem import Problem
from llmtasker.api.request_body import read_form
from llmtasker.api.server import Server
from llmtasker.jobs.project_store import Project, ProjectStore
from llmtasker.ui.error_words import explained, reason
from llmtasker.ui.page_language import LANGUAGES, PageLanguage, preferred
from llmtasker.ui.sessions import Sessions, form_token, is_form_token
from llmtasker.ui.shown_answers import shown, written
from llmtasker.values.error_causes import CAUSES

SESSION, LANGUAGE, THEME = "llmtasker_session", "llmtasker_language", "llmtasker_theme"
_YEAR = 365 * 86_400
_ANYBODY = "anybody"
_MARKED = 5_000  # characters to show of a message


class SignInNeededError(Exception):
    """The page requires a sign-in."""


class Pages:
    """What all pages of a server share: its tasks and jobs, the projects, the sessions, the templates."""

    def __init__(self, server: Server, clock: Callable[[], float] = time.time) -> None:
        self.server = server
        self.clock = clock
        self.starting = threading.Lock()
        self.projects = ProjectStore(server.queue.file)
        self.sessions = Sessions(server.queue.file)
        self.environment = Environment(
            loader=PackageLoader("llmtasker.ui"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )


@dataclass(frozen=True, slots=True)
class Visit:
    """A request for a page. `session` is the number of its session; `key` is who asks, None before signing in."""

    pages: Pages
    request: Request
    language: PageLanguage
    session: str
    key: ApiKey | None

    @classmethod
    def of(cls, pages: Pages, request: Request, *, signed_in: bool = True) -> Visit:
        """Return the visit of a request; may be called from any thread.

        Raises:
            SignInNeededError: nobody is signed in, and `signed_in` requires it.
        """
        session = request.cookies.get(SESSION, "")
        key = _key(pages, session)
        if key is None and signed_in:
            raise SignInNeededError
        asked = request.cookies.get(LANGUAGE, "")
        code = asked if asked in LANGUAGES else preferred(request.headers.get("accept-language", ""))
        return cls(pages, request, LANGUAGES[code], session, key)

    @classmethod
    async def of_form(cls, pages: Pages, request: Request, id_: str) -> tuple[Visit, Project, FormData]:
        """Return the visit of a submitted form of a project, with the project and the form.

        Raises:
            SignInNeededError: nobody is signed in.
            Problem: the signed-in key has no such project, or the form comes from another site.
        """
        visit = await asyncio.to_thread(cls.of, pages, request)
        project = await asyncio.to_thread(visit.project, id_)
        return visit, project, await visit.form()

    @property
    def server(self) -> Server:
        """The server of the page."""
        return self.pages.server

    @property
    def owner(self) -> str:
        """The key whose projects and jobs are shown.

        Raises:
            SignInNeededError: nobody is signed in.
        """
        if self.key is None:
            raise SignInNeededError
        return self.key.name

    def project(self, id_: str) -> Project:
        """Return a project of the signed-in key.

        Raises:
            Problem: there is none; another key's project looks like one that does not exist.
        """
        found = self.pages.projects.get(id_, self.owner)
        if found is None:
            raise Problem("not-found", self.language.text("There is no such task here; it may have expired."))
        return found

    async def form(self) -> FormData:
        """Return the form of a request, if it comes from a page of this session.

        Raises:
            Problem: it comes from another site.
        """
        origin = urlsplit(self.request.headers.get("origin", "")).netloc
        elsewhere = self.request.headers.get("sec-fetch-site") in {"cross-site", "same-site"}
        form = await read_form(self.request, max_fields=20_000, max_part_size=8 << 20)
        texts = (text for name, value in form.multi_items() for text in (name, value) if isinstance(text, str))
        if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
            raise Problem("invalid", self.language.text("The form has characters that are not Unicode text."))
        token = form.get("csrf")
        foreign = elsewhere or (origin not in {"", self.request.headers.get("host", "")})
        if foreign or not isinstance(token, str) or not is_form_token(self.session, token):
            raise Problem(
                "forbidden", self.language.text("This form does not belong to your session. Load the page again.")
            )
        return form

    @property
    def root(self) -> str:
        """The path under which the app is mounted."""
        return str(self.request.scope.get("root_path", "")).rstrip("/")

    def go(self, path: str) -> Response:
        """Return a redirection to another page."""
        if self.request.headers.get("hx-request"):
            return Response(status_code=200, headers={"HX-Redirect": self.root + path})
        return RedirectResponse(self.root + path, 303)

    def show(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """Return a page, or a part of one."""
        words, settings = self.language, self.server.settings

        def cause(code: str) -> Markup:
            return words.text(CAUSES.get(code, CAUSES["call"]))

        def money(cost: float | None) -> str:
            return words.money(0.0 if baseline else cost)

        llm = self.server.tasks.own_llm
        baseline = llm is None or llm.settings.endpoint == "offline"
        text = self.pages.environment.get_template(template).render(
            _=words.text,
            words=words,
            money=money,
            root=self.root,
            theme=self.request.cookies.get(THEME, ""),
            here=self.request.url.path,
            key=self.key,
            open=settings.open,
            csrf=form_token(self.session),
            baseline=baseline,
            llm="" if llm is None else str(llm.settings.body.get("model", "")),
            keep_days=settings.keep_days,
            version=version("llmtasker"),
            now=self.pages.clock(),
            cause=cause,
            problem_text=partial(worded, words=words),
            explained=partial(explained, words=words),
            mark=marked,
            value_of=shown,
            written=written,
            part=template.startswith("_"),
            **values,
        )
        return HTMLResponse(text, status)

    def keep(self, response: Response, name: str, value: str, *, private: bool = False) -> None:
        """Keep a value in a cookie: the session until the browser is closed, values that are not private for a year."""
        response.set_cookie(
            name,
            value,
            max_age=None if private else _YEAR,
            path=self.root or "/",
            httponly=True,
            samesite="strict" if private else "lax",
            secure=self.request.url.scheme == "https",
        )


def _key(pages: Pages, session: str) -> ApiKey | None:
    if not session:
        return None
    digest = pages.sessions.key_of(session)
    if digest is None:
        return None
    if pages.server.settings.open:
        return ApiKey(name=_ANYBODY) if digest == _ANYBODY else None
    return pages.server.keys.of_hash(digest)


def begin_session(visit: Visit, response: Response, key_hash: str = _ANYBODY) -> None:
    """Sign a user in: the cookie of the response has the number of a new session."""
    visit.keep(response, SESSION, visit.pages.sessions.begin(key_hash), private=True)


def worded(message: str, words: PageLanguage) -> str:
    """Return a message in the language of the page; one without a translation stays English, after an introduction.

    The page's own text is `Markup`, and already in its language.
    """
    if isinstance(message, Markup):
        return message
    found = reason(message, words)
    if found is None and words.code == "fr":
        return words.text("This can't be done. Message in English: {message}", message=message)
    return found or message


def marked(text: str, own: Iterable[str], given: Iterable[object]) -> Markup:
    """Return a message with the user's own words, and the text of the row, marked."""
    if len(text) > _MARKED:
        return Markup(escape(f"{text[:_MARKED]}…"))  # noqa: S704 - escaped
    words = {str(one)[:_MARKED] for one in [*own, *given] if one not in {None, ""}}
    # Only words that occur in it: a pattern of all examples, made for each message, would take seconds.
    parts = sorted((one for one in words if one in text), key=len, reverse=True)
    if not parts:
        return Markup(escape(text))  # noqa: S704 - escaped
    pattern = re.compile("(" + "|".join(map(re.escape, parts)) + ")")
    pieces = pattern.split(text)
    made = (f"<mark>{escape(piece)}</mark>" if place % 2 else str(escape(piece)) for place, piece in enumerate(pieces))
    return Markup("".join(made))  # noqa: S704 - each piece is escaped
