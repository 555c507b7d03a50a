"""What goes over the wire: a Request and its key, the Completion that comes back, and the Transport between them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

Message = dict[str, Any]
"""One chat message as in the Chat Completions format: role, content, tool_calls, tool_call_id."""

Mode = Literal["tools", "json_schema", "json", "text"]
"""How the answer is asked for: a function call, a response format with or without schema, or Markdown JSON."""

KEY_VERSION = 1
"""Part of every cache key; raised when a change here gives the same key another meaning."""


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)  # `json.dumps` would make one for each call


def canonical_json(value: Any) -> str:
    """Return the one compact ASCII JSON text of a JSON value; keys keep their order, for the LLM sees it too."""
    return _ENCODER.encode(value)


def _members(fields: Mapping[str, Any]) -> str:
    return "".join(f"{canonical_json(name)}:{canonical_json(value)}," for name, value in fields.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one or several calls. `input_cached` and `output_reasoning` are parts of `input` and `output`."""

    input: int = 0
    output: int = 0
    input_cached: int = 0
    output_reasoning: int = 0

    @property
    def total(self) -> int:
        """Input and output tokens together."""
        return self.input + self.output

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input=self.input + other.input,
            output=self.output + other.output,
            input_cached=self.input_cached + other.input_cached,
            output_reasoning=self.output_reasoning + other.output_reasoning,
        )

    def to_dict(self) -> dict[str, int]:
        """Return the counts that are not 0."""
        counts = {
            "input": self.input,
            "output": self.output,
            "input_cached": self.input_cached,
            "output_reasoning": self.output_reasoning,
        }
        return {name: count for name, count in counts.items() if count}


NO_USAGE = Usage()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A function call as the LLM wrote it; `arguments` is the raw text, valid JSON or not."""

    name: str
    arguments: str
    id: str = ""


_TEXT = frozenset({str})
_COUNT = frozenset({int})


def _expect(sound: bool, what: str) -> None:
    if not sound:
        raise TypeError(f"its {what} are of another type")


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The answer of an endpoint, whatever its dialect was.

    `usage` is None where the endpoint does not count. `limits` holds the `x-ratelimit-*`
    headers of this one response and is never stored.
    """

    text: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str | None = None
    refusal: str | None = None
    finish_reason: str | None = None
    model: str | None = None
    usage: Usage | None = None
    limits: Mapping[str, str] | None = field(default=None, compare=False, repr=False)

    @property
    def raw(self) -> str:
        """The answer as text: the content, or else the arguments of the calls, or else the refusal."""
        if self.tool_calls and not (self.text and self.text.strip()):
            return "\n".join(call.arguments for call in self.tool_calls)
        return self.text or self.refusal or ""

    def to_json(self) -> str:
        """Return the completion as ASCII JSON text, without what is None or empty."""
        data: dict[str, Any] = {
            name: value
            for name in ("text", "reasoning", "refusal", "finish_reason", "model")
            if (value := getattr(self, name)) is not None
        }
        if self.tool_calls:
            data["tool_calls"] = [[call.name, call.arguments, call.id] for call in self.tool_calls]
        if self.usage is not None:
            data["usage"] = self.usage.to_dict()
        return canonical_json(data)

    @classmethod
    def from_json(cls, text: str) -> Completion:
        """Return the completion that `to_json` wrote.

        Raises:
            ValueError: the text is not such a completion.
        """
        try:
            data = json.loads(text)
            calls, usage = data.pop("tool_calls", None), data.pop("usage", None)
            # By type, in C: this is done for each row that is found.
            _expect("limits" not in data and _TEXT.issuperset(map(type, data.values())), "texts")
            if calls is not None:
                _expect(all(type(call) is list and _TEXT.issuperset(map(type, call)) for call in calls), "tool_calls")
                data["tool_calls"] = tuple([ToolCall(name=name, arguments=args, id=id_) for name, args, id_ in calls])
            if usage is not None:
                _expect(_COUNT.issuperset(map(type, usage.values())), "usage")
                data["usage"] = Usage(**usage)
            return cls(**data)
        except (TypeError, AttributeError, ValueError, RecursionError) as error:
            raise ValueError(f"not a stored completion: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an LLM adds to each of its requests, prepared once.

    `endpoint` says where the answers come from and never holds a credential. `body` has the fields that
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
        # A running hash can't be pickled, and is soon started again.
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
    the answer changes the key. The credential and the token limit are no part of it.

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

    def with_settings(self, settings: Settings) -> Request:
        """Return the same call with other settings."""
        return Request(self.head, self.tail, settings)


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
