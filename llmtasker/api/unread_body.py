"""UnreadBody: an answer reaches its client, even where it comes while the body is still being sent."""

from __future__ import annotations

import asyncio
import contextlib
import math

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmtasker.api.in_time import in_time

_KEPT = 1_000_000  # bytes of a body for whose end a connection is kept
_BYTES = 32_000_000  # of a body, after the answer
_SECONDS = 5.0  # to wait for these bytes


class UnreadBody:
    """Reads on for a while, and forgets what it reads, where an answer was sent before the body was read.

    A server that closes a connection with bytes that nobody has read makes the system reset it, and a client that is
    still sending then sees the reset instead of the answer, such as why it was refused. `silence` is how many seconds
    the next bytes may take.
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
    """A request with a body, and its answer, whose end is held back until enough of the body was read."""

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
        """Read what is left of the body, within bounds, and end the answer: then the server may close."""
        if not self._held:
            return
        loop, left = asyncio.get_running_loop(), _BYTES
        until = loop.time() + _SECONDS
        with contextlib.suppress(TimeoutError):
            while self._unread and left > 0:
                message = await in_time(self.receive(), min(until, loop.time() + silence))
                left -= len(message.get("body", b""))
        with contextlib.suppress(TimeoutError):  # a client that takes nothing is left
            last = {"type": "http.response.body", "body": b"", "more_body": False}
            await in_time(self._send(last), loop.time() + silence)


def _length(scope: Scope) -> float:
    """Return the length of a body, which is not known where it comes in chunks; 0: there is none."""
    length = 0.0
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return math.inf
        if name == b"content-length":
            length = float(value[:20]) if value.isdigit() else math.inf
    return length
