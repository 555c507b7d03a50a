"""HTTPProtocol: HTTP/1.1 as uvicorn reads it with httptools, bounded before a key is asked for."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from llmtasker.api.problem import Problem

_MOST = 65_536  # bytes of a head, or of what a body has beside its content: sizes of chunks, trailers
_WAITING = 16  # requests that a client may send before it has the answer to the first


class HTTPProtocol(HttpToolsProtocol):
    """A connection, whose head is bounded in bytes and in time: give it to uvicorn as `http`.

    httptools takes a third of the time of h11, but keeps a head or a trailer of any size, reads all requests that have
    arrived, and, as uvicorn, waits for the end of a head for ever. What arrives at once (asyncio reads at most 256 KB)
    is read whole. `head_seconds` is how long a head may take, from its first byte to its last.
    """

    head_seconds = 30.0
    _seen = 0  # bytes since anything was understood
    _in_head = True
    _unanswered: tuple[RequestResponseCycle, ...] = ()
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._late = self.loop.call_later(self.head_seconds, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        super().connection_lost(exc)
        self._stop_waiting()
        self._leave_unanswered()

    def data_received(self, data: bytes) -> None:
        """Read on, or refuse a client that goes on without an end."""
        self._seen += len(data)
        super().data_received(data)
        if not self._in_head:
            if self._late is not None:
                self._stop_waiting()
        elif self._late is None:
            self._late = self.loop.call_later(self.head_seconds, self.transport.close)
        if self._seen > _MOST and not self.transport.is_closing():
            self._refuse(Problem("bad-request", f"The head of a request has at most {_MOST:,} bytes."))

    def on_message_begin(self) -> None:
        """Begin with a head; an error is a 400."""
        if len(self.pipeline) >= _WAITING:
            raise ValueError("too many requests without waiting for an answer")
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Hand the request to the app."""
        self._in_head, self._seen = False, 0
        super().on_headers_complete()
        cycles = (*self._unanswered, self.cycle)
        self._unanswered = tuple(cycle for cycle in cycles if cycle and not cycle.response_complete)

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body for the app, which bounds bodies."""
        self._seen = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, in the form of all problems."""
        self._refuse(Problem("bad-request", msg))

    def _refuse(self, problem: Problem) -> None:
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

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
