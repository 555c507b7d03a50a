"""FakeTransport: an LLM in the process that gives the answers of a test."""

from __future__ import annotations

import inspect
import json
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, cast

import anyio

from llmtasker.errors import ConfigurationError, UnexpectedCallError, snippet
from llmtasker.testing.generate import answer_for
from llmtasker.wire.completion import Completion, ToolCall, Usage
from llmtasker.wire.request import Request
from llmtasker.wire.request_reader import last_user_text, offered_tools

Answer: TypeAlias = str | Mapping[str, Any] | list[Any] | Completion | BaseException
"""An answer of a fake LLM: text verbatim, JSON arguments, a whole Completion, or an error, which is raised."""

Handler: TypeAlias = Callable[[Request], Answer | Awaitable[Answer]]
"""Makes the answer to a request; a coroutine function works only with `asend`."""


class FakeTransport:
    """A Transport without a network: it gives the answers of a test, keeps its requests, and counts them.

    `answers` is a handler that is called with each request, one answer for all requests, or a list or tuple of answers,
    used up in order. Without it, a value that fits the request's schema is generated. A `str` is the message's content,
    verbatim. A mapping (or a list inside a handler's or a list's answers) is sent as JSON in the form that the request
    asks for: as a call of the only offered tool, else as content. A `Completion` is returned as it is, and an exception
    is raised.

    `latency` is in seconds, in real time. `keep_requests=False` keeps only the counts, for
    runs over many rows. `send` and `asend` may be called from several threads at once. Answers are not
    cached unless the LLM is given a cache. A loaded pickle has all the answers again, and no requests.

    Raises (from `send` and `asend`):
        UnexpectedCallError: the list of answers is used up; the code under test made more calls than expected.
        ConfigurationError: a coroutine handler is used by the blocking `send`.

    >>> from llmtasker.wire.request import Head, Settings
    >>> request = Request(Head({}), [{"role": "user", "content": "Where is it?"}], Settings(endpoint="fake"))
    >>> fake = FakeTransport(lambda request: last_user_text(request).upper())
    >>> fake.send(request).text, fake.calls
    ('WHERE IS IT?', 1)
    """

    cacheable = False  # otherwise one fake would get the answers of another

    def __init__(
        self,
        answers: Handler | Sequence[Answer] | Answer | None = None,
        *,
        endpoint: str = "fake",
        latency: float = 0.0,
        keep_requests: bool = True,
    ) -> None:
        self.endpoint = endpoint
        self.latency = latency
        self.requests: list[Request] = []
        self.in_flight = 0
        self.max_in_flight = 0
        self.closed = False
        self._keep_requests = keep_requests
        self._calls = 0
        self._used = 0
        self._lock = threading.Lock()
        self._answers = answers

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (type(self), self._answers, self.endpoint, self.latency, self._keep_requests)

    @property
    def calls(self) -> int:
        """The number of requests that arrived, answered or not."""
        return self._calls

    def send(self, request: Request) -> Completion:
        """Answer one request."""
        with self._counted(request):
            answer = self._next(request)
            if inspect.isawaitable(answer):
                if inspect.iscoroutine(answer):
                    answer.close()
                raise ConfigurationError(
                    "a coroutine handler can't answer a blocking call; give FakeTransport a plain function"
                )
            if self.latency:
                time.sleep(self.latency)
            return completion_of(answer, request)

    async def asend(self, request: Request) -> Completion:
        """Answer one request; a coroutine handler is awaited."""
        with self._counted(request):
            answer = self._next(request)
            if inspect.isawaitable(answer):
                answer = await answer
            if self.latency:
                await anyio.sleep(self.latency)
            return completion_of(answer, request)

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    async def aclose(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    @contextmanager
    def _counted(self, request: Request) -> Generator[None]:
        with self._lock:
            self._calls += 1
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
            if self._keep_requests:
                self.requests.append(request)
        try:
            yield
        finally:
            with self._lock:
                self.in_flight -= 1

    def _next(self, request: Request) -> Answer | Awaitable[Answer]:
        answers = self._answers
        if answers is None:
            return cast("Answer", answer_for(request))
        if isinstance(answers, str | Mapping | Completion | BaseException):
            return cast("Answer", answers)
        if not isinstance(answers, Sequence):
            return answers(request)
        return self._next_of(cast("Sequence[Answer]", answers), request)

    def _next_of(self, answers: Sequence[Answer], request: Request) -> Answer:
        with self._lock:
            if self._used < len(answers):
                self._used += 1
                return answers[self._used - 1]
        raise UnexpectedCallError(
            f"no answer left: FakeTransport was given {len(answers)} answer(s), and this is call {self.calls}, "
            f"for {snippet(last_user_text(request))!r}"
        )


def _made_again(
    kind: type[FakeTransport], answers: Any, endpoint: str, latency: float, keep_requests: bool
) -> FakeTransport:
    return kind(answers, endpoint=endpoint, latency=latency, keep_requests=keep_requests)


def completion_of(answer: Answer, request: Request) -> Completion:
    """Return an answer as the Completion that an endpoint would give to this request; raise it if it is an error.

    Tokens are counted as a quarter of the characters.
    """
    if isinstance(answer, BaseException):
        # One instance may be raised many times: without this its traceback would grow with each call.
        raise answer.with_traceback(None)
    if isinstance(answer, Completion):
        return answer
    text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    tools = [] if isinstance(answer, str) else offered_tools(request)
    called = len(tools) == 1
    return Completion(
        text=None if called else text,
        tool_calls=(ToolCall(name=tools[0], arguments=text, id="call_1"),) if called else (),
        finish_reason="tool_calls" if called else "stop",
        model=request.settings.body.get("model"),
        usage=Usage(input=len(request.content) // 4 + 1, output=len(text) // 4 + 1),
    )
