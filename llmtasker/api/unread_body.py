"""UnreadBody: a response reaches its client even if the client is still sending the body."""

from __future__ import annotations

import asyncio
import contextlib
import math

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmtasker.api.in_time import in_time

_KEPT = 1_000_000  # up to this many bytes of a body are read to keep the connection
_BYTES = 32_000_000  # of a body, after the response
_SECONDS = 5.0  # to wait for these bytes


class UnreadBody:
    """Reads on for a while, and discards what it reads, if the response was sent before the body was read.

    If a server closes a connection with unread bytes, the system resets it, and a client that is still sending sees the
    reset instead of the response, such as the reason for a refusal. `silence` is how many seconds the next bytes may
    take.
    """

    def __init__(self, app: ASGIApp, *, silence: float = 1.0) -> None:
        self._app, self._silence = app, silence

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not (length := _length(scope)):
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send, length)
        await self._app(scope, exchange.receive, exchange.send)
        await exchange.end(self._silence)


class _Exchange:
    """A request with a body, and its response, whose end is held back until enough of the body was read."""

    def __init__(self, receive: Receive, send: Send, length: float) -> None:
        self._receive, self._send, self._length = receive, send, length
        self._unread, self._held = True, False

    async def receive(self) -> Message:
        message = await self._receive()
        self._unread = message["type"] == "http.request" and message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if self._unread:
            if message["type"] == "http.response.start" and self._length > _KEPT:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                self._held, message = True, {**message, "more_body": True}
        await self._send(message)

    async def end(self, silence: float) -> None:
        """Read the rest of the body, within limits, and end the response; then the server may close."""
        if not self._held:
            return
        loop, left = asyncio.get_running_loop(), _BYTES
        until = loop.time() + _SECONDS
        with contextlib.suppress(TimeoutError):
            while self._unread and left > 0:
                message = await in_time(self.receive(), min(until, loop.time() + silence))
                left -= len(message.get("body", b""))
        with contextlib.suppress(TimeoutError):  # a client that reads nothing is abandoned
            last = {"type": "http.response.body", "body": b"", "more_body": False}
            await in_time(self._send(last), loop.time() + silence)


def _length(scope: Scope) -> float:
    """Return the declared length of a body, which is unknown if it comes in chunks; 0: there is no body."""
    length = 0.0
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return math.inf
        if name == b"content-length":
            length = float(value[:20]) if value.isdigit() else math.inf
    return length
