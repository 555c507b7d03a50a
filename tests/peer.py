"""A peer on the loopback device that reads HTTP requests and sends given bytes, or breaks the connection."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ANSWER = json.dumps({"choices": [{"message": {"content": "oui"}, "finish_reason": "stop"}]}).encode()


@dataclass(frozen=True, slots=True)
class Seen:
    """One request; header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Reply = bytes | Iterable[bytes]
"""The bytes to send, at once or piece by piece; none: the connection is broken."""


def http(body: bytes = ANSWER, status: int = 200, **headers: str) -> bytes:
    """A whole response; underscores in header names stand for hyphens."""
    lines = [f"HTTP/1.1 {status} Status", "content-type: application/json", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Peer:
    """Answers each request with the result of `reply`; `seen` and `connections` record what arrived."""

    def __init__(self, reply: Callable[[Seen], Reply], context: ssl.SSLContext | None) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        self._reply = reply
        self._context = context
        self._open: list[socket.socket] = []
        self._ending = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http{'s' if self._context else ''}://127.0.0.1:{self.port}/v1"

    def pause(self, seconds: float) -> None:
        """Wait, but not after the end of the test."""
        self._ending.wait(seconds)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, plain: socket.socket) -> None:
        self._open.append(plain)
        with contextlib.suppress(OSError), plain:
            connection = plain if self._context is None else self._context.wrap_socket(plain, server_side=True)
            with connection, connection.makefile("rb") as stream:
                while (seen := _read(stream)) is not None:
                    self.seen.append(seen)
                    reply = self._reply(seen)
                    pieces = [reply] if isinstance(reply, bytes) else reply
                    sent = 0
                    for piece in pieces:
                        if self._ending.is_set():
                            return
                        connection.sendall(piece)
                        sent += len(piece)
                    if not sent:
                        return

    def close(self) -> None:
        self._ending.set()
        # Only `shutdown` wakes a thread in `accept`.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)


def _read(stream: Any) -> Seen | None:
    first = stream.readline().decode("latin-1").split()
    if len(first) != 3:
        return None
    headers: dict[str, str] = {}
    while line := stream.readline().decode("latin-1").rstrip("\r\n"):
        name, _, value = line.partition(":")
        assert name.lower() not in headers, f"{name} was sent twice"
        headers[name.lower()] = value.strip()
    return Seen(first[0], first[1], headers, stream.read(int(headers.get("content-length", 0))))


@contextlib.contextmanager
def peer(reply: Callable[[Seen], Reply] = lambda _: http(), *, context: ssl.SSLContext | None = None) -> Iterator[Peer]:
    """Yield a peer that listens until the end of the test."""
    opened = Peer(reply, context)
    try:
        yield opened
    finally:
        opened.close()
