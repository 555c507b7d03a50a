"""Line: prepared POSTs from one event loop to one endpoint, straight over aiohttp.

Most of what the SDK does for a call is the same for every call: URL, headers, credentials, checks. It is let do
this once, and what it would have sent is taken as the template of all calls that follow.
"""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

import aiohttp
import httpx2
from multidict import CIMultiDict
from yarl import URL

from llmtasker.completion import Completion
from llmtasker.errors import CallTimeoutError, ItemError, NetworkError, snippet
from llmtasker.transports.failures import read_error
from llmtasker.transports.wire import read_completion

_LARGE = 1 << 20  # bytes of a body above which aiohttp warns of writing them in one piece
_TEMPLATES = 64  # kept at most; more than one only where settings differ in their timeout, or deployments
_OWN = ("accept-encoding", "connection")  # headers in which an HTTP client says what itself can do
_CONNECTIONS = 1000
_KEEP_ALIVE = 5.0  # seconds: many servers close after so long, and a call must not meet a connection that closes


class Witness(httpx2.AsyncBaseTransport):
    """Sends nothing and keeps the last request, as the SDK has built it."""

    request: httpx2.Request

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Keep the request and answer it with an empty object."""
        self.request = request
        return httpx2.Response(200, json={})


@dataclass(frozen=True, slots=True)
class _Template:
    session: aiohttp.ClientSession
    url: URL
    server_name: str | None


Probe = Callable[[httpx2.AsyncClient], Awaitable[object]]
"""Makes one call with whatever body through the SDK, over the client that it is given."""


class Line:
    """Connections of one event loop to one endpoint. Redirects are not followed: they would take the text elsewhere."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._connector = aiohttp.TCPConnector(
            limit=_CONNECTIONS, keepalive_timeout=_KEEP_ALIVE, ssl=True if context is None else context
        )
        self._templates: dict[Hashable, _Template] = {}
        self._lock = asyncio.Lock()

    async def post(self, key: Hashable, probe: Probe, content: bytes, timeout: float) -> Completion:
        """Send a body like the one that `probe` sends; that is called once for each `key`.

        Raises:
            CallError, FilteredError: what came of it.
        """
        template = self._templates.get(key) or await self._prepare(key, probe, timeout)
        try:
            async with template.session.post(
                template.url,
                data=content if len(content) < _LARGE else io.BytesIO(content),
                allow_redirects=False,
                server_hostname=template.server_name,
            ) as response:
                payload = await response.read()
                status, headers = response.status, response.headers
        except TimeoutError:
            raise CallTimeoutError("no whole answer came in time") from None
        except (aiohttp.ClientError, OSError) as error:
            raise broken(error) from None
        if not 200 <= status < 300:
            raise read_error(status, payload, headers)
        return read_completion(payload, content_type=headers.get("content-type"), headers=headers)

    async def _prepare(self, key: Hashable, probe: Probe, timeout: float) -> _Template:
        async with self._lock:
            if key not in self._templates:
                if len(self._templates) >= _TEMPLATES:
                    self._templates.clear()
                self._templates[key] = await self._template(probe, timeout)
            return self._templates[key]

    async def _template(self, probe: Probe, timeout: float) -> _Template:
        witness = Witness()
        async with httpx2.AsyncClient(transport=witness) as client:
            await probe(client)
            defaults = client.headers
        request = witness.request
        headers = CIMultiDict(request.headers.multi_items())
        headers.popall("content-length", None)
        for name in _OWN:
            if headers.get(name) == defaults.get(name):
                headers.popall(name, None)
        session = aiohttp.ClientSession(
            connector=self._connector,
            connector_owner=False,
            headers=headers,
            # The caller's deadline is for the whole; this frees the connection of a server that is silent.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout),
            # The protocol has no state, and a cookie of a load balancer would tie all calls to one server.
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return _Template(session, URL(str(request.url), encoded=True), request.extensions.get("sni_hostname"))

    async def close(self) -> None:
        """Close the connections."""
        await self._connector.close()


def broken(error: BaseException) -> ItemError:
    """Return the error for a connection that failed; an exception's text may hold a URL, so little of it is taken."""
    words = " ".join("<url>" if "://" in word else word for word in str(error).split())
    return NetworkError(f"the connection failed: {type(error).__name__}: {snippet(words)}")
