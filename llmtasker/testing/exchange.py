"""Call and Reply: a request that reached a FaultyServer, and the response that it is about to send."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Any, Literal, cast

from llmtasker.wire.request_reader import last_user_text, offered_tools

JSON_TYPE = "application/json"


@dataclass(kw_only=True)
class Call:
    """One chat request as the server read it.

    `number` counts from 1, `input_tokens` is a quarter of the body's characters, `now` is the time in seconds
    of a monotonic clock, `random` is the server's seeded generator. Header names are in lower case.
    """

    number: int
    body: dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    input_tokens: int = 0
    now: float = 0.0
    random: Random = field(default_factory=Random, repr=False)

    @cached_property
    def text(self) -> str:
        """The text of the last user message."""
        return last_user_text(self.body)


class Reply:
    """The response that is about to be sent; faults change it in place.

    `delay` is in seconds, `bytes_per_second` limits the speed of sending, `breaks` is how the connection
    fails: reset before the headers, reset after them, or nothing is ever sent. `raw` replaces the JSON body.
    The response is sent this many `times` on its connection.
    The completion is made at first access, so a refused call does not use up an answer.
    """

    __slots__ = (
        "_completion",
        "_make",
        "breaks",
        "bytes_per_second",
        "content_type",
        "delay",
        "headers",
        "raw",
        "status",
        "times",
    )

    def __init__(self, make: Callable[[], dict[str, Any]]) -> None:
        self._make = make
        self._completion: dict[str, Any] | None = None
        self.status = 200
        self.headers: dict[str, str] = {}
        self.content_type = JSON_TYPE
        self.raw: bytes | None = None
        self.delay = 0.0
        self.bytes_per_second: float | None = None
        self.breaks: Literal["before_headers", "after_headers", "hang"] | None = None
        self.times = 1

    @property
    def is_answer(self) -> bool:
        """Whether it is still a completion: no error, no other body, no broken connection."""
        return self.status == 200 and self.raw is None and self.breaks is None

    @property
    def completion(self) -> dict[str, Any]:
        """The chat completion as JSON values."""
        if self._completion is None:
            self._completion = self._make()
        return self._completion

    @property
    def choice(self) -> dict[str, Any]:
        """The one choice of the completion."""
        return cast("dict[str, Any]", self.completion["choices"][0])

    @property
    def message(self) -> dict[str, Any]:
        """The assistant's message."""
        return cast("dict[str, Any]", self.choice["message"])

    @property
    def tokens(self) -> int:
        """Tokens of question and answer together, as in the usage."""
        return int(self.completion.get("usage", {}).get("total_tokens", 0))

    @property
    def text(self) -> str:
        """The answer as text: the arguments of the first tool call, else the content; can be set."""
        calls = self.message.get("tool_calls")
        return str(calls[0]["function"]["arguments"] if calls else self.message.get("content") or "")

    @text.setter
    def text(self, text: str) -> None:
        calls = self.message.get("tool_calls")
        if calls:
            calls[0]["function"]["arguments"] = text
        else:
            self.message["content"] = text

    def fail(self, status: int, message: str, *, code: str | None = None, kind: str = "invalid_request_error") -> None:
        """Turn the reply into an error in the OpenAI format."""
        self.status = status
        error = {"message": message, "type": kind, "param": None, "code": code}
        self.raw = json.dumps({"error": error}).encode("ascii")

    def content(self) -> bytes:
        """Return the bytes of the body."""
        return json.dumps(self.completion).encode("ascii") if self.raw is None else self.raw


def completion_for(call: Call, answer: Any) -> dict[str, Any]:
    """Return an answer as a chat completion: text as content, JSON as a call of the one offered tool or as content.

    A mapping with `choices` is taken as the whole completion. Tokens are a quarter of the characters.
    """
    if isinstance(answer, Mapping) and "choices" in answer:
        return dict(cast("Mapping[str, Any]", answer))
    text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    tools = [] if isinstance(answer, str) else offered_tools(call.body)
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if len(tools) == 1:
        function = {"name": tools[0], "arguments": text}
        message["content"] = None
        message["tool_calls"] = [{"id": f"call_{call.number}", "type": "function", "function": function}]
    output_tokens = len(text) // 4 + 1
    return {
        "id": f"chatcmpl-{call.number}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": call.body.get("model", "faulty"),
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": "tool_calls" if "tool_calls" in message else "stop",
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": call.input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": call.input_tokens + output_tokens,
        },
    }
