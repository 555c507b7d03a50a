"""listening: open the sockets of a host and port before anything else."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

from llmtasker.errors import ConfigurationError


@contextmanager
def listening(host: str, port: int) -> Generator[list[socket.socket]]:
    """Give a socket for each address of a host, open during the block; port 0 picks a free one.

    Raises:
        ConfigurationError: there is no such host, or the port can't be used.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise ConfigurationError(
            f"--host {host}: there is no such host. Use 127.0.0.1 for this machine only, 0.0.0.0 for the network too."
        ) from None
    with ExitStack() as stack:
        opened: list[socket.socket] = []
        for family, _, _, _, address in dict.fromkeys(found):
            made = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            if sys.platform != "win32":  # where this would let two programs use the same port
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                made.bind(address)
                made.listen()
            except OSError as error:
                raise ConfigurationError(_reason(error, host, port)) from None
            opened.append(made)
        yield opened


def _reason(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken by another program: choose another with --port, or --port 0 for a free one."
    if error.errno == errno.EACCES:
        return f"port {port} needs special rights: choose one from 1024 on with --port."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host}: this machine does not have that address. Use 127.0.0.1 for this machine, or 0.0.0.0."
    return f"can't listen on {host}, port {port}: {error.strerror or error}."
