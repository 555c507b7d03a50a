"""Just enough HTTP/1.1 for a loopback server: small, fast, and able to break connections on purpose."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal, cast

# Closing with this option drops what is unsent and answers with RST instead of FIN.
_LINGER_0 = struct.pack("ii", 1, 0)
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_DRIP_TICK = 0.02


@dataclass(slots=True)
class HttpRequest:
    """One request; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True, kw_only=True)
class HttpResponse:
    """One response and how it is sent: after `delay` seconds, slowly, several `times`, or broken."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    delay: float = 0.0
    bytes_per_second: float | None = None
    breaks: Literal["before_headers", "after_headers", "hang"] | None = None
    times: int = 1

    def head(self) -> bytes:
        """Return status line and headers."""
        lines = [
            f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Unknown')}",
            f"content-type: {self.content_type}",
            f"content-length: {len(self.body)}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Connection(asyncio.Protocol):
    """One persistent connection: reads a request, gets its answer, sends the response, reads the next.

    `respond` makes the response, `finished` is called for each request when its response is sent (True)
    or the client has disconnected before (False). `connections` has the open connections.
    """

    def __init__(
        self,
        respond: Callable[[HttpRequest], HttpResponse],
        finished: Callable[[bool], None],
        connections: set[Connection],
    ) -> None:
        self._respond = respond
        self._finished = finished
        self._connections = connections
        self._buffer = bytearray()
        self._busy = False
        self._continued = False
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._busy:
            self._busy = False
            self._finished(False)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def abort(self) -> None:
        """Reset the connection."""
        peer = self._transport.get_extra_info("socket")
        if peer is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        self._transport.abort()

    def _next(self) -> None:
        """Answer the first whole request in the buffer, if the one before is done."""
        if self._busy or self._transport.is_closing():
            return
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        method, _, rest = first.partition(" ")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or "transfer-encoding" in headers:
            refusal = HttpResponse(status=411, body=b"a body needs a content-length", content_type="text/plain")
            self._transport.write(refusal.head() + refusal.body)
            self._transport.close()
            return
        stop = end + 4 + int(length)
        if len(self._buffer) < stop:
            if "expect" in headers and not self._continued:
                self._continued = True
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        body = bytes(self._buffer[end + 4 : stop])
        del self._buffer[:stop]
        self._continued = False
        self._busy = True
        response = self._respond(HttpRequest(method, rest.partition(" ")[0], headers, body))
        if response.breaks == "hang":
            return
        if response.delay > 0:
            self._timer = self._loop.call_later(response.delay, self._send, response)
        else:
            self._send(response)

    def _send(self, response: HttpResponse) -> None:
        if response.breaks == "before_headers":
            self.abort()
        elif response.breaks == "after_headers":
            self._transport.write(response.head() + response.body[: len(response.body) // 2])
            # The data just written must be sent before the reset drops it.
            self._timer = self._loop.call_later(_DRIP_TICK, self.abort)
        elif response.bytes_per_second is not None:
            self._transport.write(response.head())
            self._drip(memoryview(response.body), response.bytes_per_second)
        else:
            self._done()
            self._transport.write((response.head() + response.body) * response.times)

    def _drip(self, left: memoryview, bytes_per_second: float) -> None:
        tick = max(_DRIP_TICK, 1 / bytes_per_second)
        size = max(1, round(bytes_per_second * tick))
        if len(left) > size:
            self._timer = self._loop.call_later(tick, self._drip, left[size:], bytes_per_second)
        else:
            self._done()
        self._transport.write(bytes(left[:size]))

    def _done(self) -> None:
        """Be ready for the next request; called before the last bytes leave, so that the client sees it counted."""
        self._timer = None
        self._busy = False
        self._finished(True)
        if self._buffer:
            # Not called directly: a client that sends many requests at once must not deepen the stack.
            self._loop.call_soon(self._next)
