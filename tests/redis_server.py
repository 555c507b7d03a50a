"""A real redis-server on the loopback interface, without files, which a test can kill, freeze and start again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import programs
import redis

SECONDS = 20.0


class RedisServer:
    """`with RedisServer() as server:` runs until the end of the block; `options` are those of redis.conf.

    With `pem`, the path of a key and its certificate, it speaks TLS only.
    """

    def __init__(self, pem: str | None = None, **options: str) -> None:
        program = shutil.which("redis-server")
        assert program, "these tests need a real Redis: apt-get install redis-server"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.options = {"bind": "127.0.0.1", "port": str(self.port), "save": "", "loglevel": "warning"} | options
        if pem is not None:
            files = dict.fromkeys(("tls_cert_file", "tls_key_file", "tls_ca_cert_file"), pem)
            self.options |= {"port": "0", "tls_port": str(self.port), "tls_auth_clients": "no", **files}
        self._program = program
        self._process: Any = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.kill()

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        given = [part for name, value in self.options.items() for part in (f"--{name.replace('_', '-')}", value)]
        started = programs.started(*given, program=self._program, stdout=subprocess.DEVNULL, cwd=Path("/"))
        self._running = started
        self._process = started.__enter__()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
                return
            time.sleep(0.01)
        raise AssertionError("redis-server has not started")

    def kill(self) -> None:
        """Kill the server: its data is lost."""
        self.thaw()
        self._running.__exit__(None, None, None)

    def freeze(self) -> None:
        """Freeze the server in the middle of its work; connections stay open."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server continue."""
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGCONT)

    def client(self, **options: Any) -> Any:
        """Return a plain client, independent of llmtasker."""
        return redis.Redis(port=self.port, **options)
