"""GivenClient: calls through a client of the SDK as it was made, with its hooks, wrappers, timeout and http client."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import httpx2
import openai
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming

from llmtasker.errors import BadResponseError, NetworkError, snippet
from llmtasker.llm.transports.http_response import Response
from llmtasker.llm.transports.openai_clients import AnyClient, creates_itself, is_untouched
from llmtasker.wire.request import Request

_STALE = 200  # connections of an event loop that has ended, which the http client may still keep
_PARAMETERS = frozenset(CompletionCreateParamsNonStreaming.__annotations__)


class GivenClient:
    """Calls through a client: by its `chat.completions.create` if that is wrapped or has listeners, else by its `post`.

    `hooks` are those of an instructor client.
    """

    def __init__(self, client: AnyClient, hooks: Any = None) -> None:
        self.client = client
        self._hooks_given = hooks
        self._home: asyncio.AbstractEventLoop | None = None

    @property
    def _hooks(self) -> Any:
        """The hooks, None if there are no listeners."""
        return self._hooks_given if any(getattr(self._hooks_given, "_handlers", {}).values()) else None

    @property
    def is_changed(self) -> bool:
        """Whether the client is not as the SDK makes it; it may be wrapped at any time."""
        return bool(self._hooks) or not is_untouched(self.client)

    def send(self, client: openai.OpenAI, path: str, request: Request) -> Response:
        """Send one request through a blocking client, in this thread.

        Raises:
            openai.OpenAIError: the call failed.
            BadResponseError: the client returned something else than a completion.
        """
        try:
            if creates_itself(client) and not self._hooks:
                return _response(client.post(path, **prepared(request)))
            arguments = self._arguments(request)
            self._emit("emit_completion_arguments", **arguments)
            created = cast("Any", client.chat.completions).create(**arguments)
        except openai.OpenAIError as error:
            self._emit("emit_completion_error", error)
            raise
        return self._created(created)

    async def asend(self, client: openai.AsyncOpenAI, path: str, request: Request) -> Response:
        """Send in the event loop that the client's connections belong to, as long as that one runs; see `send`."""
        running, home = asyncio.get_running_loop(), self._home
        if home is None or home is running or not home.is_running():
            self._home = running
            return await self._send(client, path, request)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._send(client, path, request), home))

    async def _send(self, client: openai.AsyncOpenAI, path: str, request: Request) -> Response:
        for _ in range(_STALE):
            try:
                if creates_itself(client) and not self._hooks:
                    return _response(await client.post(path, **prepared(request)))
                arguments = self._arguments(request)
                self._emit("emit_completion_arguments", **arguments)
                return self._created(await client.chat.completions.create(**arguments))
            except openai.OpenAIError as error:
                if not _is_of_ended_loop(error):
                    self._emit("emit_completion_error", error)
                    raise
            except RuntimeError as error:
                if not _is_of_ended_loop(error):
                    raise
        raise NetworkError("the client only has connections of an event loop that has ended. Make it in this loop")

    def _arguments(self, request: Request) -> dict[str, Any]:
        """Return a request as arguments of `create`; fields that the SDK does not know go into `extra_body`."""
        body = request.body
        known = {name: value for name, value in body.items() if name in _PARAMETERS}
        others = {name: value for name, value in body.items() if name not in _PARAMETERS}
        return {**known, "timeout": request.settings.timeout, **({"extra_body": others} if others else {})}

    def _emit(self, name: str, *args: Any, **kwargs: Any) -> None:
        if self._hooks:
            getattr(self._hooks, name)(*args, **kwargs)

    def _created(self, created: Any) -> Response:
        self._emit("emit_completion_response", created)
        if hasattr(created, "model_dump"):
            created = created.model_dump(mode="json", warnings=False)
        if isinstance(created, bytes):
            return Response(200, {}, created)
        try:
            text = created if isinstance(created, str) else json.dumps(created)
        except (TypeError, ValueError) as error:
            raise BadResponseError(f"the client answered with a {type(created).__name__}: {snippet(error)}") from None
        return Response(200, {}, text.encode("utf-8", "surrogatepass"))


def prepared(request: Request) -> dict[str, Any]:
    """Return the arguments of the SDK's `post` for a prepared request."""
    return {
        "cast_to": httpx2.Response,
        "content": request.content,
        "options": {"timeout": request.settings.timeout, "max_retries": 0},
    }


def _response(response: httpx2.Response) -> Response:
    return Response(response.status_code, response.headers, response.content)


def _is_of_ended_loop(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, RuntimeError) and ("loop is closed" in str(error) or "different loop" in str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
