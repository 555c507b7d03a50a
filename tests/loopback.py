"""Keeps a test process off the network: connections and name look-ups that leave the machine are refused and recorded.

A library that opens its own sockets can't circumvent an audit hook, which needs no patches.
The program run by a test can be guarded too: `import loopback; loopback.guard()` before anything else.
"""

from __future__ import annotations

import ipaddress
import sys
from typing import Any

refused: list[str] = []
"""The refusals so far; `conftest` fails the test during which one was added."""

_NAMES = {"", "localhost", "localhost.localdomain", "ip6-localhost"}
_ADDRESS_AT = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.getaddrinfo": 0}
_ADDRESS_AT |= {"socket.gethostbyname": 0}


class NetworkRefusedError(OSError):
    """A test tried to leave the machine."""


def is_local(host: str) -> bool:
    """Return whether a host name or address is this machine's loopback; other names are not looked up."""
    if host.lower().rstrip(".") in _NAMES:
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _ADDRESS_AT:
        return
    address = arguments[_ADDRESS_AT[event]]
    host = address[0] if isinstance(address, tuple) else address
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg"} and not isinstance(address, tuple):
        return  # a Unix socket's path, or a socket that is connected already
    if host is None:
        return  # getaddrinfo(None, …) is this machine
    text = host.decode(errors="replace") if isinstance(host, bytes | bytearray) else str(host)
    if not is_local(text):
        refused.append(f"{event} {text}")
        raise NetworkRefusedError(f"tests may talk to loopback only, not to {text!r} ({event})")


def guard() -> None:
    """Guard this process from now on; an audit hook can't be removed."""
    sys.addaudithook(_watch)
