"""llama.cpp's own server, from the xllamacpp wheel, in a process of its own.

`LlamaServer` is for tests; run as a script, this file is that process.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Self

SLOTS = 4
CONTEXT = 16_384
"""Tokens in all; each slot has a quarter of them."""

START_SECONDS = 60.0
_COUNTER = re.compile(r"^llamacpp:(\w+) (\S+)$", re.MULTILINE)


class LlamaServer:
    """A running server; leaving the context kills it.

    `port` 0 takes a free one. `template` replaces the chat template of the model.
    """

    def __init__(self, model: Path, *, api_key: str = "", port: int = 0, template: str = "") -> None:
        self._command = [sys.executable, __file__, str(model), "--port", str(port)]
        self._command += ["--api-key", api_key, "--template", template]
        self._api_key = api_key
        self.url = ""

    @property
    def base_url(self) -> str:
        """Where the Chat Completions API is."""
        return f"{self.url}/v1"

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return int(self.url.rpartition(":")[2])

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        try:
            self.url = self._announced()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _announced(self) -> str:
        """Return the URL in the line that the process prints when it is ready."""
        stdout = self._process.stdout
        assert stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            if not selector.select(START_SECONDS):
                raise TimeoutError(f"llama.cpp's server was not ready after {START_SECONDS:g} s")
        line = stdout.readline()
        if not line.startswith("READY "):
            raise RuntimeError(f"llama.cpp's server did not start: {line!r}")
        return line.split()[1]

    def kill(self) -> None:
        """End the process at once; whoever waits for an answer sees the connection break."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Return the JSON answer of one of the endpoints that only llama.cpp has."""
        return json.loads(self._open(path, json.dumps(body)))

    def prompt(self, body: dict[str, Any]) -> str:
        """Return the text that the chat template makes of a request."""
        prompt: str = self.post("/apply-template", body)["prompt"]
        return prompt

    def tokens(self, text: str) -> list[int]:
        """Return a prompt as the model sees it."""
        asked = {"content": text, "add_special": True, "parse_special": True}
        tokens: list[int] = self.post("/tokenize", asked)["tokens"]
        return tokens

    def counted(self) -> tuple[int, int]:
        """Return how many tokens were read and written since the start; a call counts when it has ended."""
        while True:
            found = {name: float(value) for name, value in _COUNTER.findall(self._open("/metrics"))}
            if not found["requests_processing"]:
                read = found["prompt_tokens_total"] + found["prompt_tokens_cached_total"]
                return int(read), int(found["tokens_predicted_total"])
            time.sleep(0.01)  # the slot is released just after its answer has left

    def _open(self, path: str, body: str | None = None) -> str:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._api_key}"}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request("GET" if body is None else "POST", path, body, headers)
            response = connection.getresponse()
            text = response.read().decode()
        assert response.status == 200, text
        return text


def serve(model: str, *, port: int, api_key: str, template: str) -> None:
    """Run the server until the process is ended."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = CONTEXT
    params.n_parallel = SLOTS
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.use_jinja = True
    params.warmup = False
    params.model_alias = {"tiny-random"}
    params.endpoint_metrics = True
    params.verbosity = 0
    if api_key:
        params.api_keys = [api_key]
    if template:
        params.chat_template = template
    server = xllamacpp.Server(params)
    print(f"READY {server.listening_address}", flush=True)
    parent = os.getppid()
    while os.getppid() == parent:  # else whoever started it was killed
        time.sleep(1.0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--api-key", default="")
    parser.add_argument("--template", default="")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which end this process
    serve(**vars(parser.parse_args()))
