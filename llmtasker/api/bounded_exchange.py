"""BoundedExchange: a request and its response, with limits on what a client may send, and on how long it may take."""

from __future__ import annotations

import asyncio
import contextlib
import math

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from llmtasker.api.in_time import in_time
from llmtasker.api.problem import Problem
from llmtasker.errors import snippet

BYTES_OF_KEY = "llmtasker.max_bytes"
"""In the scope of a request: the most bytes of a body that its key allows."""

_POLICY = b"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
_HEADERS = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_SLOWEST = 1_000  # bytes per second
_END = 100  # bytes at the end of a form that contain its last boundary
_KEPT = 1_000_000  # up to this many bytes of a body are read to keep the connection
_READ_ON = 32_000_000  # bytes of a body that are read after the response
_READ_ON_SECONDS = 5.0  # to wait for these bytes


class BoundedExchange:
    """A request with an id, and its response, which gets safe headers; an app is given its `receive` and `send`.

    A body that is too large is refused, before it is read if its length is declared, and so is one that stalls for
    `seconds`. A client that reads nothing of its response for that long is disconnected.

    If the response was sent before the body was read, `end` reads on for a while, and discards what it reads: if a
    server closes a connection with unread bytes, the system resets it, and a client that is still sending sees the
    reset instead of the response, such as the reason for a refusal.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, id_: str, max_bytes: int, seconds: float) -> None:
        self.status = 0  # of the response, once it has begun
        self._scope, self._receive, self._send = scope, receive, send
        self._id, self._most, self._seconds = id_, max_bytes, seconds
        self._headers = dict(reversed(scope["headers"]))  # if a name repeats, the first counts, as in starlette
        length = self._headers.get(b"content-length", b"0")
        is_declared = length.isdigit() and b"transfer-encoding" not in self._headers
        self._length = float(length[:20]) if is_declared else math.inf
        self._unread, self._held = self._length > 0, False
        self._seen, self._last = 0, b""
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()

    async def receive(self) -> Message:
        """Return the next part of the body.

        Raises:
            Problem: the body is too large, encoded, too slow, or a form that is cut.
        """
        if self._seen < 0:  # the body is there: this is the wait for the end of the connection
            return await self._receive()
        most = min(self._most, self._scope.get(BYTES_OF_KEY, self._most))
        if not self.status:  # a page reports it as a page
            if most < self._length < math.inf:
                raise _too_large(most)
            self._check_encoding()
        try:
            # A body that arrives a few bytes at a time counts as one that stalls.
            due = min(self._loop.time(), self._started + self._seen / _SLOWEST) + self._seconds
            message = await in_time(self._receive(), due)
        except TimeoutError:
            raise Problem("slow-body", f"Too little arrived in {self._seconds:g} seconds.") from None
        more = message.get("more_body", False)
        self._unread = self._length > 0 and message["type"] == "http.request" and more
        if message["type"] == "http.request":
            body = message.get("body", b"")
            self._seen, self._last = self._seen + len(body), (self._last + body[-_END:])[-_END:]
            if self._seen > most:
                raise _too_large(most)
            if not more:
                self._seen = -1
                self._check_end()
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the response; its end is held back until `end` if the body is not read yet.

        Raises:
            ClientDisconnect: the client reads nothing.
        """
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *_HEADERS, (b"x-request-id", self._id.encode())]
            if self._unread and self._length > _KEPT:
                message["headers"].append((b"connection", b"close"))
        elif self._unread and not message.get("more_body", False):
            self._held, message = True, {**message, "more_body": True}
        try:
            await in_time(self._send(message), self._loop.time() + self._seconds)
        except TimeoutError:
            raise ClientDisconnect from None

    async def end(self, silence: float = 1.0) -> None:
        """Read the rest of the body, within limits, and end the response; then the server may close.

        `silence` is how many seconds the next bytes may take.
        """
        if not self._held:
            return
        left, until = _READ_ON, self._loop.time() + _READ_ON_SECONDS
        with contextlib.suppress(TimeoutError):
            while self._unread and left > 0:
                message = await in_time(self._receive(), min(until, self._loop.time() + silence))
                self._unread = message["type"] == "http.request" and message.get("more_body", False)
                left -= len(message.get("body", b""))
        with contextlib.suppress(TimeoutError):  # a client that reads nothing is abandoned
            last = {"type": "http.response.body", "body": b"", "more_body": False}
            await in_time(self._send(last), self._loop.time() + silence)

    def _check_encoding(self) -> None:
        kind = self._headers.get(b"content-encoding", b"").strip().lower()
        if kind not in {b"", b"identity"}:
            detail = f"The body is encoded as {snippet(kind.decode('latin-1'), 20)}; send it without Content-Encoding."
            raise Problem("media-type", detail, headers={"Accept-Encoding": "identity"})

    def _check_end(self) -> None:
        """Refuse a form that is cut: starlette would leave its last file out, without closing it."""
        is_form = b"multipart/form-data" in self._headers.get(b"content-type", b"").lower()
        if is_form and not self._last.rstrip().endswith(b"--"):
            raise Problem("bad-request", "The form is cut: its last boundary is missing.")


def _too_large(most: int) -> Problem:
    return Problem("too-large", f"A body has at most {most:,} bytes. Send the rows in several jobs.")
