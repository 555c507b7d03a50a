"""A Request to an LLM with its cache key, the Preview of it for people, and the Transport that sends it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from llmtasker.values.html_table import html_table
from llmtasker.values.json_values import canonical_json
from llmtasker.wire.completion import Completion

Message = dict[str, Any]
"""One chat message as in the Chat Completions format: role, content, tool_calls, tool_call_id."""

Mode = Literal["tools", "json_schema", "json", "text"]
"""How the answer is asked for: a function call, a response format with or without schema, or Markdown JSON."""

AskMode = Literal["auto", "tools", "json_schema", "json", "text", "plain"]
"""How a task asks: a Mode; "auto" (tools, or what the endpoint supports); "plain": the whole text is the one output."""

KEY_VERSION = 1
"""Part of every cache key; increased when a change here gives the same key another meaning."""


FIRST_MODE: Mapping[AskMode, Mode] = {
    "auto": "tools",
    "plain": "text",
    "tools": "tools",
    "json_schema": "json_schema",
    "json": "json",
    "text": "text",
}
"""The mode that is tried first."""


def _members(fields: Mapping[str, Any]) -> str:
    return "".join(f"{canonical_json(name)}:{canonical_json(value)}," for name, value in fields.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an LLM adds to each of its requests, prepared once.

    `endpoint` names where the answers come from and never contains a credential. `body` has the fields that
    can change an answer (model, temperature …); a task's schema does not overwrite them. `limits` has the
    token limit, which can't change a complete answer: it is sent, but stays out of the key.
    """

    endpoint: str
    body: Mapping[str, Any] = field(default_factory=dict[str, Any])
    limits: Mapping[str, Any] = field(default_factory=dict[str, Any])
    timeout: float = 60.0
    members: str = field(init=False, repr=False, compare=False)
    """The fields of `body` as JSON members, each with its comma."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", _members(self.body))


class Head:
    """The part of a request that is the same for every input of a task: schema and leading messages.

    It is written as JSON and hashed once, however many inputs follow.
    """

    __slots__ = ("_started", "messages", "schema")

    def __init__(self, schema: Mapping[str, Any], messages: Sequence[Message] = ()) -> None:
        self.schema = schema
        self.messages = tuple(messages)
        self._started: dict[tuple[str, str], tuple[bytes, Any]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        # A running hash can't be pickled, and starting it again is cheap.
        return Head, (self.schema, self.messages)

    def start(self, settings: Settings) -> tuple[bytes, Any]:
        """Return the first bytes of every body with these settings, and the hash of endpoint and bytes so far."""
        place = (settings.endpoint, settings.members)
        started = self._started.get(place)
        if started is None:
            messages = "".join(canonical_json(message) + "," for message in self.messages)
            schema = {name: value for name, value in self.schema.items() if name not in settings.body}
            text = f'{{{settings.members}{_members(schema)}"messages":[{messages}'.encode("ascii")
            hashed = hashlib.sha256(canonical_json([KEY_VERSION, settings.endpoint]).encode("ascii"))
            hashed.update(text)
            started = self._started[place] = (text, hashed)
        return started


class Request:
    """One call: what is the same for all inputs (`head`), the messages of this input (`tail`), the LLM's settings.

    `key` is the SHA-256 of the canonical JSON of the wire body and the endpoint: whatever can change
    the answer changes the key. The credential and the token limit are not part of it.

    >>> settings = Settings(endpoint="http://localhost/v1", body={"model": "m"})
    >>> request = Request(Head({}), [{"role": "user", "content": "Bonjour"}], settings)
    >>> request.content
    b'{"model":"m","messages":[{"role":"user","content":"Bonjour"}]}'
    """

    __slots__ = ("_key", "_tail", "head", "settings", "tail")

    def __init__(self, head: Head, tail: Sequence[Message], settings: Settings) -> None:
        if not tail:
            raise ValueError("a request needs at least one message that depends on its input")
        self.head = head
        self.tail = tail
        self.settings = settings
        self._tail: bytes | None = None
        self._key: str | None = None

    @property
    def messages(self) -> list[Message]:
        """All messages, in order."""
        return [*self.head.messages, *self.tail]

    @property
    def body(self) -> dict[str, Any]:
        """The wire body as JSON values."""
        return {
            **self.settings.body,
            **{name: value for name, value in self.head.schema.items() if name not in self.settings.body},
            "messages": self.messages,
            **self.settings.limits,
        }

    def _tail_bytes(self) -> bytes:
        if self._tail is None:
            # The array of the tail without its opening bracket: the head has opened it.
            self._tail = canonical_json(self.tail)[1:].encode("ascii")
        return self._tail

    @property
    def content(self) -> bytes:
        """The wire body as ASCII JSON, put together from the prepared head and this input's messages."""
        start, _ = self.head.start(self.settings)
        limits = self.settings.limits
        end = f",{canonical_json(limits)[1:]}" if limits else "}"
        return b"%b%b%b" % (start, self._tail_bytes(), end.encode("ascii"))

    @property
    def key(self) -> str:
        """The cache key: 64 hexadecimal digits."""
        if self._key is None:
            _, hashed = self.head.start(self.settings)
            digest = hashed.copy()
            digest.update(self._tail_bytes())
            self._key = str(digest.hexdigest())
        return self._key


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A request exactly as it would be sent; `print(preview)` shows it."""

    request: Request = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def messages(self) -> list[Message]:
        """The messages, with their roles."""
        return self.request.messages

    @property
    def schema(self) -> dict[str, Any]:
        """What asks for the form of the answer: tools or response format."""
        set_anyway = self.request.settings.body
        return {name: value for name, value in self.request.head.schema.items() if name not in set_anyway}

    @property
    def settings(self) -> dict[str, Any]:
        """The model and its settings."""
        return {**self.request.settings.body, **self.request.settings.limits}

    @property
    def body(self) -> dict[str, Any]:
        """The whole body of the request, as JSON values."""
        return self.request.body

    def _parts(self) -> list[tuple[str, str]]:
        """Return what is shown: the messages by role, then schema and settings."""
        parts: list[tuple[str, str]] = []
        for message in self.messages:
            text = message["content"] or ""
            for call in message.get("tool_calls", ()):
                text += f"{call['function']['name']}({call['function']['arguments']})"
            parts.append((message["role"], text))
        return [*parts, ("schema", _indented(self.schema)), ("settings", _indented(self.settings))]

    def __str__(self) -> str:
        parts = [f"── {name} ──\n{text}" for name, text in self._parts()]
        notes = [f"note: {note}" for note in self.notes]
        return "\n".join([f"to {self.request.settings.endpoint}", *parts, *notes])

    def _repr_html_(self) -> str:
        parts = [("to", self.request.settings.endpoint), *self._parts(), *(("note", note) for note in self.notes)]
        return html_table(parts, longest=20_000)


def _indented(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


@runtime_checkable
class Transport(Protocol):
    """How a Request travels: a client of an endpoint, or a stand-in for one.

    `endpoint` names where the answers come from, without any credential.
    `send` and `asend` return a Completion or raise a CallError or FilteredError; they never retry.
    """

    endpoint: str

    def send(self, request: Request) -> Completion:
        """Send one request and wait for its answer."""
        ...

    async def asend(self, request: Request) -> Completion:
        """Send one request and await its answer."""
        ...

    def close(self) -> None:
        """Close the connections that blocking calls opened."""
        ...

    async def aclose(self) -> None:
        """Close the connections that were opened in the running event loop."""
        ...
