"""DeferredTransport: connects to a named endpoint at the first request; cached answers need no SDK."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmtasker.cache.stored_json import stored
from llmtasker.llm.transports import network
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Request, Transport

_CODE = tuple(str(Path(__file__).with_name(name)) for name in ("openai.py", "openai_clients.py"))


class DeferredTransport:
    """The transport to an endpoint whose identity is known from an earlier process."""

    def __init__(self, endpoint: str, connect: Callable[[], Transport]) -> None:
        self.endpoint = endpoint
        self._connect = connect
        self._transport: Transport | None = None
        self._lock = threading.Lock()

    @property
    def connected(self) -> Transport:
        """The actual transport; its SDK is loaded at first use, which takes a second."""
        if self._transport is None:
            with self._lock:
                self._transport = self._transport or self._connect()
        return self._transport

    def models(self) -> list[str]:
        """Return the models of the endpoint."""
        connected: Any = self.connected
        found: list[str] = connected.models()
        return found

    def send(self, request: Request) -> Completion:
        """Send one request and wait for its answer."""
        return self.connected.send(request)

    async def asend(self, request: Request) -> Completion:
        """Send one request and await its answer."""
        if self._transport is None:
            import asyncio  # already loaded, because an event loop runs

            await asyncio.to_thread(getattr, self, "connected")
        return await self.connected.asend(request)

    def close(self) -> None:
        """Close the connections that blocking calls opened."""
        if self._transport is not None:
            self._transport.close()

    async def aclose(self) -> None:
        """Close the connections that were opened in the running event loop."""
        if self._transport is not None:
            await self._transport.aclose()


def deferred(base_url: str, source: Mapping[str, Any], connect: Callable[[], Transport]) -> Transport:
    """Return the transport to an endpoint: deferred if an earlier process has stored its identity.

    `source` is everything that the identity depends on, without credentials.

    Raises:
        ConfigurationError: a proxy or the certificates of this machine can't be used.
    """
    if "openai" in sys.modules:
        return connect()  # there is nothing to save
    made: list[Transport] = []

    def identity() -> dict[str, Any]:
        made.append(connect())
        return {"endpoint": made[0].endpoint}

    endpoint = stored({"url": base_url, **source}, _CODE, identity).get("endpoint")
    if made or not isinstance(endpoint, str):
        return made[0] if made else connect()
    network.proxy_for(base_url)
    network.check_certificates(base_url)
    return DeferredTransport(endpoint, connect)
