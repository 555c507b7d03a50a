"""HTTPClient: prepared POSTs from one event loop to one endpoint, over its own HTTP/1.1 connections.

Most of an SDK's work is the same for every call: URL, headers, credentials, checks. The SDK does it once, and the
request that it would have sent becomes the template of all later calls. A connection is reused only if every byte on
it was read, so a call can't receive another call's answer.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from llmtasker.errors import BadResponseError, CallTimeoutError, ConfigurationError, ItemError, NetworkError, snippet
from llmtasker.llm.transports.http_response import LARGEST, Response, ResponseError, ResponseReader, TooLargeError
from llmtasker.wire.error_response import read_error

KEEP_ALIVE = 5.0
"""Seconds that a connection may be idle: many servers then close it, and a call must not use a closing one."""
_TEMPLATES = 64
_CONNECTIONS = 1000
_ADDRESSES = 30.0  # seconds for which the addresses of a host are cached


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTemplate:
    """The common part of all calls of a kind: URL, headers, TLS server name if not that of the URL, read timeout.

    The representation shows neither URL nor headers, because they contain credentials.
    """

    url: str
    headers: Sequence[tuple[str, str]]
    server_name: str | None
    timeout: float

    def __repr__(self) -> str:
        return "RequestTemplate()"

    @property
    def address(self) -> tuple[str, int]:
        """The host and port to connect to."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)

    def head(self) -> bytes:
        """Return the first bytes of each request, up to the length of its body."""
        parts = urlsplit(self.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in self.headers)]
        if not any(name.lower() == "host" for name, _ in self.headers):
            lines.insert(1, f"host: {parts.netloc.rpartition('@')[2]}")
        if not any(name.lower() == "accept-encoding" for name, _ in self.headers):
            lines.append("accept-encoding: gzip, deflate")
        if any("\r" in line or "\n" in line for line in lines):
            raise ConfigurationError("a header of the LLM contains a line break, which can't be sent.")
        return "\r\n".join([*lines, "content-length: "]).encode("latin-1")


class Heads(dict[Hashable, tuple[bytes, RequestTemplate]]):
    """The prepared first bytes of requests, with their template, by kind; the oldest kind is dropped if there are many.

    There are several only if timeouts, keys or deployments differ.
    """

    def add(self, key: Hashable, template: RequestTemplate) -> tuple[bytes, RequestTemplate]:
        """Keep a template, and return it with its first bytes."""
        if len(self) >= _TEMPLATES:
            self.pop(next(iter(self)), None)
        self[key] = made = template.head(), template
        return made


class HTTPClient:
    """Connections of one event loop to one endpoint. Redirects are not followed: they would take the text elsewhere."""

    def __init__(self, context: ssl.SSLContext | None, largest: int = LARGEST) -> None:
        self._context = context
        self._largest = largest
        self._idle: deque[tuple[_Connection, float]] = deque()
        self._open: set[_Connection] = set()
        self._places = asyncio.Semaphore(_CONNECTIONS)
        self._heads = Heads()
        self._addresses: tuple[float, list[str]] = (0.0, [])
        self._lock = asyncio.Lock()
        self._all_alike = False  # the server gives all its answers the same id

    async def post(self, key: Hashable, template: Callable[[], Awaitable[RequestTemplate]], content: bytes) -> Response:
        """Send a body with the template of `key`; `template` is called if it is not known yet.

        Raises:
            NetworkError: the connection could not be made, or broke.
            CallTimeoutError: the server was silent for too long. The caller sets the deadline for the whole call.
            BadResponseError: the response is too large.
        """
        head, made = self._heads.get(key) or await self._prepare(key, template)
        async with self._places:
            request = b"%b%d\r\n\r\n%b" % (head, len(content), content)
            connection = self._take() or await self._connect(made)
            before = connection.answered
            response = await connection.ask(request, made.timeout)
            if response.body == before and response.has_id and not self._all_alike:
                # A server or proxy may have sent it twice; a connection that has carried nothing else will show it.
                connection.abort()
                connection = await self._connect(made)
                response = await connection.ask(request, made.timeout)
                self._all_alike = response.body == before
            if connection.reusable:
                self._idle.append((connection, asyncio.get_running_loop().time()))
            else:
                connection.abort()
        return response

    async def _prepare(
        self, key: Hashable, template: Callable[[], Awaitable[RequestTemplate]]
    ) -> tuple[bytes, RequestTemplate]:
        async with self._lock:  # many calls may start at once
            return self._heads.get(key) or self._heads.add(key, await template())

    def _take(self) -> _Connection | None:
        """Return a free connection without unread bytes, most recently used first."""
        oldest = asyncio.get_running_loop().time() - KEEP_ALIVE
        while self._idle and self._idle[0][1] < oldest:
            self._idle.popleft()[0].abort()
        while self._idle:
            connection, _ = self._idle.pop()
            if connection.reusable and not connection.has_unread():
                return connection
            connection.abort()
        return None

    async def _connect(self, template: RequestTemplate) -> _Connection:
        host, port = template.address
        loop = asyncio.get_running_loop()
        failed: OSError | None = None
        try:
            for address in await self._resolve(host, port):
                try:
                    _, connection = await loop.create_connection(
                        lambda: _Connection(self._open, self._largest),
                        address,
                        port,
                        ssl=self._context,
                        server_hostname=(template.server_name or host) if self._context else None,
                    )
                except ssl.SSLError:
                    raise
                except OSError as error:
                    failed = error
                else:
                    return connection
        except OSError as error:
            failed = error
        raise broken(failed or OSError(f"no address of {host}")) from None

    async def _resolve(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        until, addresses = self._addresses
        if loop.time() >= until:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
            self._addresses = loop.time() + _ADDRESSES, addresses
        return addresses

    async def close(self) -> None:
        """Close the connections."""
        self._idle.clear()
        closing = [connection.closed for connection in self._open]
        for connection in list(self._open):
            connection.abort()
        if closing:
            await asyncio.wait(closing, timeout=1.0)


class _Connection(asyncio.Protocol):
    """One connection, which carries one call at a time."""

    def __init__(self, opened: set[_Connection], largest: int) -> None:
        self._opened = opened
        self._largest = largest
        self._transport: asyncio.Transport | None = None
        self._reader: ResponseReader | None = None
        self._answer: asyncio.Future[Response] | None = None
        self._poll: Any = None
        self._loop = asyncio.get_running_loop()
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.reusable = True
        self.answered: bytes | None = None  # the body of the last response

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # that of uvloop is not a subclass
        self._opened.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        self._opened.discard(self)
        if not self.closed.done():
            self.closed.set_result(None)
        self._end(exc or EOFError("the server closed the connection"))

    def _end(self, error: BaseException | None) -> None:
        answer, reader = self._answer, self._reader
        if answer is None or reader is None or answer.done():
            return
        try:
            if error is None or reader.end():
                answer.set_result(reader.response())
            else:
                answer.set_exception(error)
        except ResponseError as wrong:
            answer.set_exception(wrong)

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done() or self._reader is None:
            self.abort()  # unrequested bytes could be mistaken for the answer to another call
            return
        self._heard_at = self._loop.time()
        try:
            whole = self._reader.feed(data)
        except ResponseError as error:
            self.reusable = False
            self._answer.set_exception(error)
            return
        if whole:
            self.reusable = self.reusable and self._reader.keeps_alive
            self._end(None)

    async def ask(self, request: bytes, silence: float) -> Response:
        """Send a request and return its response; `silence` is how many seconds may pass without a byte."""
        try:
            response = await self._ask(request, silence)
        except BaseException as error:  # noqa: BLE001 - a cancelled call leaves it half read
            self.abort()
            raise failure(error) from None
        self.answered = response.body
        return response

    async def _ask(self, request: bytes, silence: float) -> Response:
        transport = self._transport
        if transport is None or transport.is_closing():
            raise EOFError("the server closed the connection")
        loop = asyncio.get_running_loop()
        self._reader, self._answer, self._timer = ResponseReader(self._largest), loop.create_future(), None
        transport.write(request)
        self._heard_at = loop.time()
        timer = loop.call_later(silence, self._listen, loop, silence)
        try:
            return await self._answer
        finally:
            (self._timer or timer).cancel()

    def _listen(self, loop: asyncio.AbstractEventLoop, silence: float) -> None:
        """End the call if no byte arrived for `silence` seconds; otherwise keep listening."""
        left = self._heard_at + silence - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._listen, loop, silence)
        elif self._answer is not None and not self._answer.done():
            self._answer.set_exception(TimeoutError())

    def has_unread(self) -> bool:
        """Return whether bytes, or the end of the connection, have arrived that the event loop has not read yet."""
        if self._transport is None or self._transport.is_closing():
            return True
        descriptor = self._transport.get_extra_info("socket").fileno()
        if not hasattr(select, "poll"):  # Windows
            return bool(select.select([descriptor], [], [], 0)[0])
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLIN)
        return bool(self._poll.poll(0))

    def abort(self) -> None:
        """Close at once."""
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()


def failure(error: BaseException, seconds: float | None = None) -> BaseException:
    """Return our error for the exception that ended a call; one that is not about the connection stays unchanged."""
    if isinstance(error, TimeoutError):
        return CallTimeoutError(f"no whole answer came {f'within {seconds:g} s' if seconds else 'in time'}")
    if isinstance(error, TooLargeError):
        return BadResponseError(f"{error}, which is not read further")
    return broken(error) if isinstance(error, OSError | EOFError | ResponseError) else error


def broken(error: BaseException) -> ItemError:
    """Return the error for a failed connection, with little of the exception's text, because that may contain a URL."""
    while error.__cause__ is not None:
        error = error.__cause__
    words = " ".join("<url>" if "://" in word else word for word in str(error).split())
    if type(error).__name__ == "ProxyError" and words.startswith("407"):
        return read_error(407, words, {})
    return NetworkError(
        f"the connection failed: {type(error).__name__}: {snippet(words)}. Check base_url, and that the server is up"
    )
