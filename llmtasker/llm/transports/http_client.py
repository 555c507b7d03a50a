"""Line: prepared POSTs from one event loop to one endpoint, straight over aiohttp.

Most of what the SDK does for a call is the same for every call: URL, headers, credentials, checks. It is let do
this once, and what it would have sent is taken as the template of all calls that follow.
"""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass

import aiohttp
from yarl import URL

from llmtasker.errors import CallTimeoutError, ItemError, NetworkError, snippet
from llmtasker.wire.completion import Completion
from llmtasker.wire.error_response import read_error
from llmtasker.wire.response import read_completion

_LARGE = 1 << 20  # bytes of a body above which aiohttp warns of writing them in one piece
_FORMS = 64  # kept at most; there are several only where timeouts or deployments differ
_CONNECTIONS = 1000
_KEEP_ALIVE = 5.0  # seconds: many servers close after so long, and a call must not meet a connection that closes


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What all calls of a kind have: URL, headers, the server's name in TLS if not that of the URL, seconds of silence.

    The representation shows neither URL nor headers: credentials are in them.
    """

    url: str
    headers: Sequence[tuple[str, str]]
    server_name: str | None
    timeout: float

    def __repr__(self) -> str:
        return f"Form(timeout={self.timeout:g})"


class Line:
    """Connections of one event loop to one endpoint. Redirects are not followed: they would take the text elsewhere."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._connector = aiohttp.TCPConnector(
            limit=_CONNECTIONS, keepalive_timeout=_KEEP_ALIVE, ssl=True if context is None else context
        )
        self._sessions: dict[Hashable, tuple[aiohttp.ClientSession, URL, str | None]] = {}
        self._lock = asyncio.Lock()

    async def post(self, key: Hashable, form: Callable[[], Awaitable[Form]], content: bytes) -> Completion:
        """Send a body in the form that belongs to `key`; `form` is called when it is not known yet.

        Raises:
            CallError, FilteredError: what came of it.
        """
        session, url, server_name = self._sessions.get(key) or await self._open(key, form)
        try:
            async with session.post(
                url,
                data=content if len(content) < _LARGE else io.BytesIO(content),
                allow_redirects=False,
                server_hostname=server_name,
            ) as response:
                payload = await response.read()
        except TimeoutError:
            raise CallTimeoutError("no whole answer came in time") from None
        except (aiohttp.ClientError, OSError) as error:
            raise broken(error) from None
        headers = response.headers
        if not 200 <= response.status < 300:
            raise read_error(response.status, payload, headers)
        return read_completion(payload, content_type=headers.get("content-type"), headers=headers)

    async def _open(
        self, key: Hashable, form: Callable[[], Awaitable[Form]]
    ) -> tuple[aiohttp.ClientSession, URL, str | None]:
        async with self._lock:  # many calls may begin at once
            if key not in self._sessions:
                if len(self._sessions) >= _FORMS:
                    # Whoever uses it has its connection already: a session only hands them out.
                    self._sessions.pop(next(iter(self._sessions)))[0].detach()
                made = await form()
                self._sessions[key] = self._session(made), URL(made.url, encoded=True), made.server_name
            return self._sessions[key]

    def _session(self, form: Form) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=self._connector,
            connector_owner=False,
            headers=form.headers,
            # The caller's deadline is for the whole; this frees the connection of a server that is silent.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=form.timeout, sock_read=form.timeout),
            # The protocol has no state, and a cookie of a load balancer would tie all calls to one server.
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._connector.close()


def broken(error: BaseException) -> ItemError:
    """Return the error for a connection that failed; an exception's text may hold a URL, so little of it is taken."""
    root = _root(error)
    words = " ".join("<url>" if "://" in word else word for word in str(root).split())
    return NetworkError(
        f"the connection failed: {type(root).__name__}: {snippet(words)}. Check base_url, and that the server is up"
    )


def timed_out(error: BaseException) -> bool:
    """Return whether a timeout is what it is called: the SDK's client over aiohttp calls a lost connection one, too."""
    root = _root(error)
    return isinstance(root, TimeoutError) or not isinstance(root, aiohttp.ClientError | OSError)


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
