"""FaultyServer: an OpenAI-compatible server on the loopback interface that fails on request."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from random import Random
from typing import Any, Self, TypeAlias

from llmtasker.testing.batch_api import BatchDesk
from llmtasker.testing.exchange import Call, Reply, completion_for
from llmtasker.testing.generate import answer_for
from llmtasker.testing.http_server import Connection, HttpRequest, HttpResponse

Latency: TypeAlias = float | tuple[float, float] | Callable[[Call], float]
"""Seconds before each answer: constant, uniformly distributed between two bounds, or the result of a function."""

AnyFault: TypeAlias = Callable[[Call, Reply], None]
"""Something that may change a reply: a Fault, or a function that changes it in place."""

_START_SECONDS = 10.0


@dataclass
class Counters:
    """What a FaultyServer has seen.

    `requests` are the chat requests, `ok` the whole answers (status 200), `refused` the 429s, `aborted` the
    requests whose client disconnected before the response was sent, or was cut off. Tokens are those of
    the answers sent.
    """

    requests: int = 0
    ok: int = 0
    refused: int = 0
    aborted: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    connections: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    by_status: Counter[int] = field(default_factory=Counter[int])


class FaultyServer:
    """A loopback server with POST …/(chat/)completions, GET …/models and the batch API, in its own thread.

    Answers fit the schema that the request carries and depend on its last user message only. `answer` is another one
    for all requests, or a function that makes it from a request's body: text, a JSON value, or a whole completion with
    `choices`.
    `faults` are applied to each answer, in order. `latency` delays answers, not errors.
    `seed` makes answers, latency and the choice of faults repeatable.

    `bodies` and `headers` keep what was received (`keep=False`: nothing, for long runs);
    `batches` decides how batches end, and counts them.
    `errors` keeps what `answer` or a fault raised: the client gets a 500 for it.

    >>> with FaultyServer() as server:
    ...     server.counters.requests
    0
    """

    def __init__(
        self,
        answer: Callable[[dict[str, Any]], Any] | str | Mapping[str, Any] | list[Any] | None = None,
        *,
        faults: Iterable[AnyFault] = (),
        latency: Latency = 0.0,
        seed: int = 0,
        port: int = 0,
        keep: bool = True,
    ) -> None:
        self.faults = list(faults)
        self.latency = latency
        self.keep = keep
        self.counters = Counters()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.errors: list[Exception] = []
        self.batches = BatchDesk(self._answer_line)
        self._answer = answer
        self._seed = seed
        self._random = Random(seed)  # noqa: S311 (chooses test data)
        self._port = port
        self._connections: set[Connection] = set()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event

    @property
    def base_url(self) -> str:
        """The URL that clients are given, such as http://127.0.0.1:40123/v1."""
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; the port is free to use when this returns.

        Raises:
            OSError: the port is taken.
        OverflowError: there is no such port.
        RuntimeError: it runs already.
        """
        if self._thread is not None:
            raise RuntimeError(f"this FaultyServer runs already, at {self.base_url}")
        ready: Future[int] = Future()
        thread = threading.Thread(target=self._run, args=(ready,), name="FaultyServer", daemon=True)
        thread.start()
        self._port = ready.result(_START_SECONDS)
        self._thread = thread

    def stop(self) -> None:
        """Break all connections, close the port and wait for the thread; a second call does nothing."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            thread.join()

    def reset(self) -> None:
        """Set counters, faults and random numbers back to the start, and forget what was received."""
        if self._thread is None:
            self._reset()
        else:
            asyncio.run_coroutine_threadsafe(self._areset(), self._loop).result(_START_SECONDS)

    async def _areset(self) -> None:
        self._reset()

    def _reset(self) -> None:
        # Requests under way stay in flight: they will be counted down.
        self.counters = Counters(in_flight=self.counters.in_flight, connections=len(self._connections))
        self.bodies.clear()
        self.headers.clear()
        self.errors.clear()
        self.batches.reset()
        self._random.seed(self._seed)
        for fault in self.faults:
            if callable(forget := getattr(fault, "reset", None)):
                forget()

    def _run(self, ready: Future[int]) -> None:
        try:
            asyncio.run(self._serve(ready))
        except (OSError, OverflowError) as error:
            if ready.done():
                raise
            ready.set_exception(error)

    async def _serve(self, ready: Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        server = await self._loop.create_server(self._connection, "127.0.0.1", self._port, backlog=1024)
        ready.set_result(server.sockets[0].getsockname()[1])
        await self._stopping.wait()
        # A connection that is being accepted right now is a task, and would leak if the server closed under it.
        while accepting := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(accepting)
        server.close()
        for connection in list(self._connections):
            connection.abort()
        # One turn of the loop, in which the aborted connections are closed.
        await asyncio.sleep(0)

    def _connection(self) -> Connection:
        self.counters.connections += 1
        return Connection(self._respond, self._finished, self._connections)

    def _finished(self, sent: bool) -> None:
        self.counters.in_flight -= 1
        self.counters.aborted += not sent

    def _respond(self, request: HttpRequest) -> HttpResponse:
        self.counters.in_flight += 1
        path = request.path.partition("?")[0]
        if request.method == "POST" and path.endswith("/completions"):
            return self._chat(request)
        if request.method == "GET" and path.endswith("/models"):
            models = [{"id": "faulty", "object": "model", "created": 0, "owned_by": "llmtasker"}]
            return _json_response({"object": "list", "data": models})
        if request.method == "GET" and path == "/counters":
            # This request does not count itself.
            return _json_response({**vars(self.counters), "in_flight": self.counters.in_flight - 1})
        if request.method == "POST" and path == "/reset":
            self._reset()
            return _json_response({})
        if (response := self.batches.respond(request)) is not None:
            return response
        return _json_response({"error": {"message": f"no such path: {path}", "code": "not_found"}}, status=404)

    def _chat(self, request: HttpRequest) -> HttpResponse:
        counters = self.counters
        counters.requests += 1
        counters.max_in_flight = max(counters.max_in_flight, counters.in_flight)
        reply = self._reply(request)
        counters.by_status[reply.status] += 1
        if reply.status == 429:
            counters.refused += 1
        if reply.is_answer:
            counters.ok += 1
            usage = reply.completion.get("usage", {})
            counters.input_tokens += usage.get("prompt_tokens", 0)
            counters.output_tokens += usage.get("completion_tokens", 0)
        return HttpResponse(
            status=reply.status,
            body=reply.content(),
            content_type=reply.content_type,
            headers=reply.headers,
            delay=reply.delay,
            bytes_per_second=reply.bytes_per_second,
            breaks=reply.breaks,
            times=reply.times,
        )

    def _reply(self, request: HttpRequest) -> Reply:
        call = Call(number=self.counters.requests, body={}, headers=request.headers, random=self._random)
        reply = Reply(lambda: completion_for(call, self._answer_to(call.body)))
        try:
            call.body = json.loads(request.body)
            call.input_tokens = len(request.body) // 4 + 1
            call.now = time.monotonic()
            if self.keep:
                self.bodies.append(call.body)
                self.headers.append(request.headers)
            if call.body.get("stream"):
                reply.fail(400, "streaming is not supported", code="unsupported_parameter")
            for fault in self.faults:
                fault(call, reply)
            if reply.is_answer:
                _ = reply.completion
                reply.delay += self._wait(call)
        except Exception as error:  # noqa: BLE001 (a mistake in a test's function must be seen, not hang the client)
            self.errors.append(error)
            reply.fail(500, f"FaultyServer can't answer: {type(error).__name__}: {error}", kind="server_error")
        return reply

    def _answer_line(self, request: HttpRequest) -> tuple[int, bytes]:
        reply = self._reply(request)
        return reply.status, reply.content()

    def _answer_to(self, body: dict[str, Any]) -> Any:
        if self._answer is None:
            return answer_for(body, seed=self._seed)
        return self._answer(body) if callable(self._answer) else self._answer

    def _wait(self, call: Call) -> float:
        latency = self.latency
        if callable(latency):
            return latency(call)
        return latency if isinstance(latency, int | float) else self._random.uniform(*latency)


def _json_response(value: Any, status: int = 200) -> HttpResponse:
    return HttpResponse(status=status, body=json.dumps(value).encode("ascii"))
