"""HTTPProtocol: HTTP/1.1 as uvicorn reads it with httptools, with limits that apply before a key is checked."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from llmtasker.api.problem import Problem

_MOST = 65_536  # bytes of a head, or of the chunk sizes and trailers of a body
_WAITING = 16  # requests that a client may send before the first is answered


def _plainly(cycle: RequestResponseCycle) -> Callable[[Any], Coroutine[Any, Any, None]]:
    """Return how to send a response of HTTP/1.0: a body of unknown length ends with the connection, not in chunks.

    Where a body does not reach its end, the connection is reset: for the client, an ordinary end would be its end.
    """
    send, unframed = cycle.send, False

    def reset_on_close(active: bool) -> None:
        linger = struct.pack("hh" if sys.platform == "win32" else "ii", active, 0)
        cycle.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async def plain(message: Any) -> None:
        nonlocal unframed
        if message["type"] == "http.response.start":
            unframed = all(name.lower() != b"content-length" for name, _ in message.get("headers", ()))
            if unframed:
                cycle.chunked_encoding, cycle.keep_alive = False, False
                reset_on_close(active=True)
        elif unframed:
            cycle.expected_content_length = len(message.get("body", b""))
            if not message.get("more_body", False):
                reset_on_close(active=False)
        await send(message)

    return plain


class _JoinedWrites:
    """The transport of a response, whose head of known length is written together with the first part of its body.

    uvicorn writes the two one by one, which wakes the client twice.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle, self._transport = cycle, cycle.transport
        self._head: bytes | None = None  # empty once it is written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        cycle = self._cycle
        if self._head is None and cycle.expected_content_length and cycle.scope["method"] != "HEAD":
            self._head = data
        else:
            self._transport.write(self._head + data if self._head else data)
            self._head = b""


class HTTPProtocol(HttpToolsProtocol):
    """A connection with limits on the bytes and the seconds of a head; pass it to uvicorn as `http`.

    httptools takes a third of h11's time, but it accepts heads and trailers of any size, parses all requests that have
    arrived, treats trailers as headers, skips the body of a request that offers another protocol and, like uvicorn,
    waits forever for the end of a head. Bytes that arrive together (asyncio reads at most 256 KB) are parsed together.
    `head_seconds` is the longest time from the first byte of a head to its last.
    """

    head_seconds = 30.0
    parser: Any  # it is None once the connection is lost
    _seen = 0  # bytes since the last complete head or part of a body
    _in_head = True
    _unanswered: tuple[RequestResponseCycle, ...] = ()
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timer, and notify the requests without a response."""
        super().connection_lost(exc)
        self._stop_waiting()
        self._leave_unanswered()

    def data_received(self, data: bytes) -> None:
        """Parse bytes; refuse a client that sends too many without completing a head or a part of a body."""
        self._seen += len(data)
        self._unset_keepalive_if_required()
        try:
            self._read(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        # Bytes after the last response begin a head, even if the parser skips them, such as an empty line.
        if not self._in_head and not (self.cycle and self.cycle.response_complete):
            self._stop_waiting()
        elif self._late is None:
            self._wait()
        if self._seen > _MOST and not self.transport.is_closing():
            self._refuse(Problem("bad-request", f"The head of a request has at most {_MOST:,} bytes."))

    def _read(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
                return
            head = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
            head += [b"%s: %s" % pair for pair in self.headers if pair[0] != b"upgrade"]
            self._read(b"\r\n".join([*head, b"", data[upgrade.args[0] :]]))

    @property
    def _is_read_again(self) -> bool:
        """Whether the head offers a protocol that is not accepted: httptools skips the body of such a request."""
        return self.parser.should_upgrade() and not self._should_upgrade()

    def on_message_begin(self) -> None:
        """Begin a head; an exception becomes a 400."""
        if len(self.pipeline) >= _WAITING:
            raise ValueError("too many requests without waiting for an answer")
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, but not a trailer: a proxy that checks headers may not check trailers."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Hand the request to the app."""
        if self.parser.get_method() == b"CONNECT":
            raise ValueError("CONNECT is not supported")
        if self._is_read_again:
            return
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts != 1 and (hosts or self.parser.get_http_version() != "1.0"):
            raise ValueError("a request has one Host")
        self._in_head, self._seen = False, 0
        super().on_headers_complete()
        if cycle := self.cycle:
            cycle.transport = _JoinedWrites(cycle)  # type: ignore[assignment]
            if self.parser.get_http_version() == "1.0":
                cycle.send = _plainly(cycle)  # type: ignore[assignment,method-assign]
        cycles = (*self._unanswered, self.cycle)
        self._unanswered = tuple(cycle for cycle in cycles if cycle and not cycle.response_complete)

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body for the app, which limits the size of bodies."""
        self._seen = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Notify the app that the body is complete."""
        if not self._is_read_again:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP with a problem document, like all errors."""
        self._refuse(Problem("bad-request", msg))

    def _refuse(self, problem: Problem) -> None:
        waiting = [cycle for cycle in self._unanswered if not cycle.response_complete]
        if waiting and not waiting[-1].more_body:  # the client would take this as the answer to an earlier request
            waiting[-1].keep_alive = False
            self.flow.pause_reading()
            return
        if not waiting or (len(waiting) == 1 and not waiting[0].response_started):
            response: Any = problem.response()
            head = [b"HTTP/1.1 %d\r\nconnection: close\r\n" % problem.status]
            head += [b"%s: %s\r\n" % pair for pair in response.raw_headers]
            self.transport.write(b"".join([*head, b"\r\n", response.body]))
        self.transport.close()
        self._leave_unanswered()

    def _leave_unanswered(self) -> None:
        """Notify the app that the client is gone; uvicorn does so only for the last request."""
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()

    def _wait(self) -> None:
        self._late = self.loop.call_later(self.head_seconds, self._give_up)

    def _give_up(self) -> None:
        """Close the connection, but only after earlier requests are answered; nothing may be read until then."""
        if all(cycle.response_complete for cycle in self._unanswered):
            self.transport.close()
        else:
            self._wait()

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
