"""HTTPProtocol: HTTP/1.1 as uvicorn reads it with httptools, bounded before a key is asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from llmtasker.api.problem import Problem

_MOST = 65_536  # bytes of a head, or of what a body has beside its content: sizes of chunks, trailers
_WAITING = 16  # requests that a client may send before it has the answer to the first


class HTTPProtocol(HttpToolsProtocol):
    """A connection, whose head is bounded in bytes and in time: give it to uvicorn as `http`.

    httptools takes a third of the time of h11, but keeps a head or a trailer of any size, reads all requests that have
    arrived, takes trailers for headers, and does not read the body of a request that offers to go on in another
    protocol; and, as uvicorn, it waits for the end of a head for ever. What arrives at once (asyncio reads at most
    256 KB) is read whole. `head_seconds` is how long a head may take, from its first byte to its last.
    """

    head_seconds = 30.0
    parser: Any  # it is None once the connection is lost
    _seen = 0  # bytes since anything was understood
    _in_head = True
    _unanswered: tuple[RequestResponseCycle, ...] = ()
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        super().connection_lost(exc)
        self._stop_waiting()
        self._leave_unanswered()

    def data_received(self, data: bytes) -> None:
        """Read on, or refuse a client that goes on without an end."""
        self._seen += len(data)
        self._unset_keepalive_if_required()
        try:
            self._read(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        # What comes after all was answered begins a head, even if the parser skips it, such as an empty line.
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
        """Whether the head offers a protocol that nobody takes up: httptools skips the body of such a request."""
        return self.parser.should_upgrade() and not self._should_upgrade()

    def on_message_begin(self) -> None:
        """Begin with a head; an error is a 400."""
        if len(self.pipeline) >= _WAITING:
            raise ValueError("too many requests without waiting for an answer")
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; a trailer is none: whoever checks the headers before us does not check it."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Hand the request to the app."""
        if self.parser.get_method() == b"CONNECT":
            raise ValueError("no connection to others is made")
        if self._is_read_again:
            return
        self._in_head, self._seen = False, 0
        super().on_headers_complete()
        cycles = (*self._unanswered, self.cycle)
        self._unanswered = tuple(cycle for cycle in cycles if cycle and not cycle.response_complete)

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body for the app, which bounds bodies."""
        self._seen = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Let the app know that the body is whole."""
        if not self._is_read_again:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, in the form of all problems."""
        self._refuse(Problem("bad-request", msg))

    def _refuse(self, problem: Problem) -> None:
        waiting = [cycle for cycle in self._unanswered if not cycle.response_complete]
        if waiting and not waiting[-1].more_body:  # the client would take this for the answer to an earlier request
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
        """Let the app know that nobody waits: uvicorn does so for the last request only."""
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()

    def _wait(self) -> None:
        self._late = self.loop.call_later(self.head_seconds, self._give_up)

    def _give_up(self) -> None:
        """Hang up, but not before the answers to earlier requests: nothing may be read until then."""
        if all(cycle.response_complete for cycle in self._unanswered):
            self.transport.close()
        else:
            self._wait()

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
