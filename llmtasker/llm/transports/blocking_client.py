"""BlockingClient: prepared POSTs from any thread that waits for one answer, without an event loop."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial

from llmtasker.llm.transports.http_client import KEEP_ALIVE, Heads, RequestTemplate, failure
from llmtasker.llm.transports.http_response import LARGEST, Response, ResponseReader
from llmtasker.threads import call_in_thread

_CHUNK = 1 << 16  # bytes
_LONGEST = 2_000_000.0  # seconds; sockets accept little more


class BlockingClient:
    """Connections to one endpoint, each for one call at a time; threads may share it. See `HTTPClient`.

    A lone call needs no event loop: handing it to a loop's thread and back takes as long as the call itself.
    """

    def __init__(self, context: ssl.SSLContext | None, largest: int = LARGEST) -> None:
        self._context = context
        self._largest = largest
        self._idle: deque[tuple[_Socket, float]] = deque()
        self._heads = Heads()
        self._process = os.getpid()
        self._all_alike = False  # the server gives all its answers the same id

    def post(self, key: Hashable, template: Callable[[], RequestTemplate], content: bytes, seconds: float) -> Response:
        """Send a body with the template of `key`, within some seconds; `template` is called if it is not known yet.

        Raises:
            NetworkError: the connection could not be made, or broke.
            CallTimeoutError: the whole call took too long.
            BadResponseError: the response is too large.
        """
        until = time.monotonic() + min(seconds, _LONGEST)
        head, made = self._heads.get(key) or self._heads.add(key, template())
        request = b"%b%d\r\n\r\n%b" % (head, len(content), content)
        connection = self._take()
        try:
            connection = connection or self._connect(made, until)
            before = connection.answered
            response = connection.ask(request, until)
            if response.body == before and response.has_id and not self._all_alike:
                # A server or proxy may have sent it twice; a connection without any other traffic will show it.
                connection.close()
                connection = self._connect(made, until)
                response = connection.ask(request, until)
                self._all_alike = response.body == before
        except BaseException as error:  # noqa: BLE001 - an interrupt too leaves the connection half read
            if connection is not None:
                connection.close()
            raise failure(error, seconds) from None
        if connection.keeps_alive:
            self._idle.append((connection, time.monotonic()))
        else:
            connection.close()
        return response

    def _take(self) -> _Socket | None:
        """Return a free connection without unread bytes, most recently used first."""
        if self._process != os.getpid():  # a forked child: the connections are its parent's
            self.close()
            self._process = os.getpid()
        oldest = time.monotonic() - KEEP_ALIVE
        with contextlib.suppress(IndexError):  # another thread was faster
            while self._idle and self._idle[0][1] < oldest:
                self._idle.popleft()[0].close()
            while self._idle:
                connection, _ = self._idle.pop()
                if not connection.has_unread():
                    return connection
                connection.close()
        return None

    def _connect(self, template: RequestTemplate, until: float) -> _Socket:
        host, port = template.address
        # The system's look-up has no time limit.
        found = call_in_thread(partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM), "llmtasker-resolve")
        failed: OSError | None = None
        for address in dict.fromkeys(str(info[4][0]) for info in found.result(_left(until))):
            try:
                plain = socket.create_connection((address, port), _left(until))
            except OSError as error:
                failed = error
                continue
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is None:
                return _Socket(plain, self._largest)
            with plain:  # closes it, unless the handshake takes it over
                name = template.server_name or host
                return _Socket(self._context.wrap_socket(plain, server_hostname=name), self._largest)
        raise failed or OSError(f"no address of {host}")

    def close(self) -> None:
        """Close the connections that are not in use."""
        with contextlib.suppress(IndexError):
            while self._idle:
                self._idle.pop()[0].close()


class _Socket:
    """One connection."""

    def __init__(self, opened: socket.socket, largest: int) -> None:
        self._socket = opened
        self._largest = largest
        self.keeps_alive = True
        self.answered: bytes | None = None  # the body of the last response
        self._poll = select.poll() if hasattr(select, "poll") else None  # Windows has none
        if self._poll is not None:
            self._poll.register(opened, select.POLLIN)

    def ask(self, request: bytes, until: float) -> Response:
        """Send a request and return its response."""
        self._socket.settimeout(_left(until))
        self._socket.sendall(request)
        data = self._received(until)
        reader = ResponseReader(self._largest)
        while not (whole := reader.feed(data)):
            if not data and reader.end():
                break
            if not data:
                raise EOFError("the server closed the connection")
            data = self._received(until)
        self.keeps_alive = whole and reader.keeps_alive
        response = reader.response()
        self.answered = response.body
        return response

    def _received(self, until: float) -> bytes:
        self._socket.settimeout(_left(until))
        return self._socket.recv(_CHUNK)

    def has_unread(self) -> bool:
        """Return whether unexpected bytes, or the end of the connection, have arrived."""
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        if self._poll is None:
            return bool(select.select([self._socket], [], [], 0)[0])
        return bool(self._poll.poll(0))

    def close(self) -> None:
        """Close it."""
        self._socket.close()


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
