"""TrustedHost: a server without keys answers only to requests for its own names."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from llmtasker.api.problem import Problem
from llmtasker.errors import snippet
from llmtasker.values.lazy_pattern import lazy_pattern

_ASKED = frozenset({"http", "websocket"})  # requests of browsers; "lifespan" has no host
_FORBIDDEN = 1008  # RFC 6455: it violates a policy
_HOST = lazy_pattern(r"(\[[0-9a-f:.]+\]|[^\[\]:]*)(?::\d*)?")


class TrustedHost:
    """Answers 403 to a request for another host; `*` among the names allows every host.

    Another site could point its own name at this machine: its pages would then have the same origin as the server, and
    a browser would let them call it.
    """

    def __init__(self, app: ASGIApp, *, names: Iterable[str]) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in _ASKED or "*" in self._names or (host := _host(scope)) in self._names:
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _FORBIDDEN})
            return
        known = ", ".join(sorted(self._names))
        problem = Problem(
            "forbidden",
            f"The server asks for no key, so it answers only to its own names ({known}), not to {snippet(host, 60)!r}. "
            "Give it keys, or name the host in ServerSettings(hosts=…).",
        )
        await problem.response()(scope, receive, send)


def _host(scope: Scope) -> str:
    """Return the host that a request names, without its port; an IPv6 address keeps its brackets."""
    text = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1").lower()
    found = _HOST.fullmatch(text)
    return text if found is None else found[1]
