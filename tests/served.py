"""An app of the REST API, served on loopback for a test."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import httpx2
import uvicorn

from llmtasker.api.http_protocol import HTTPProtocol

KEYS = {"ann": "ann-has-this-very-key", "bob": "bob-has-another-key-x"}
ANN = {"X-API-Key": KEYS["ann"]}
BOB = {"X-API-Key": KEYS["bob"]}
DONE = {"done", "failed", "cancelled"}


class Served:
    """An app on a free port of loopback, in a thread of its own."""

    def __init__(self, app: Any, http: type[HTTPProtocol] = HTTPProtocol) -> None:
        self.app = app
        config = uvicorn.Config(app, port=0, log_level="error", access_log=False, http=http, ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.005)
        self._port = self._server.servers[0].sockets[0].getsockname()[1]
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=20)

    def connect(self) -> socket.socket:
        """Return a connection to it."""
        return socket.create_connection(("127.0.0.1", self._port), timeout=20)

    def close(self) -> None:
        self.client.close()
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()

    def done(self, id_: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """Return a job when it is done."""
        until = time.monotonic() + 20
        while time.monotonic() < until:
            job: dict[str, Any] = self.client.get(f"/jobs/{id_}", headers=headers or ANN).json()
            if job["state"] in DONE:
                return job
            time.sleep(0.01)
        raise TimeoutError(job)
