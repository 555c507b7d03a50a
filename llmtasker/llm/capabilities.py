"""What one endpoint and model do not accept, learned from error responses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from llmtasker.errors import ItemError, TransientError, snippet
from llmtasker.llm.refusal_reader import about_schema, is_unexplained, unsupported_feature
from llmtasker.llm.refusals import (
    MODES,
    SYSTEM_ROLES,
    TOKEN_LIMITS,
    UnsupportedFeature,
    has_system,
    mode_of,
)
from llmtasker.llm.schema_rungs import ascii_names, descend, fingerprint, next_rung, rename_calls, restore, schema_of
from llmtasker.llm.schema_trials import SchemaProbe, SchemaTrials
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import FIRST_MODE, AskMode, Head, Message, Mode, Request, Settings

_HARMLESS = frozenset({"parallel_tool_calls"})
_MEMO_SIZE = 256
_EMPTY_ANSWERS = 3  # without any call; from this many on, they are not an accident
_TOOLS = UnsupportedFeature("mode", "tools")


class _Known:
    """What was learned so far, with the requests adapted to it; replaced as a whole, so that readers need no lock."""

    __slots__ = ("features", "heads", "rungs", "settings")

    def __init__(self, features: Mapping[UnsupportedFeature, str], rungs: Mapping[str, tuple[str, ...]]) -> None:
        self.features = features
        self.rungs = rungs  # of the ladder of schemas, by the fingerprint of the schema
        # By identity; the original is kept alive so that its id is not reused.
        self.settings: dict[int, tuple[Settings, Settings]] = {}
        self.heads: dict[int, _AdaptedHead] = {}

    def with_feature(self, feature: UnsupportedFeature, words: str) -> _Known:
        return _Known({**self.features, feature: words}, self.rungs)

    def with_rung(self, schema: str, rung: str, words: str) -> _Known:
        rungs = {**self.rungs, schema: (*self.rungs.get(schema, ()), rung)}
        return _Known({**self.features, UnsupportedFeature("schema", rung): words}, rungs)

    def with_rungs(self, schema: str, taken: Sequence[str]) -> _Known:
        """Return this with only these rungs for a schema."""
        rungs = {**self.rungs, schema: tuple(taken)}
        used = {rung for taken in rungs.values() for rung in taken}
        kept = {one: words for one, words in self.features.items() if one.kind != "schema" or one.name in used}
        return _Known(kept, {schema: taken for schema, taken in rungs.items() if taken})


class _AdaptedHead:
    __slots__ = ("adapted", "head", "names", "rungs", "system")

    def __init__(self, known: _Known, head: Head) -> None:
        self.head = head
        self.rungs = known.rungs.get(fingerprint(head.schema), ()) if known.rungs else ()
        schema = _schema(descend(head.schema, self.rungs), known.features)
        self.names = ascii_names(schema_of(head.schema)) if "names" in self.rungs else {}
        messages, self.system = rename_calls(head.messages, self.names), ""
        if UnsupportedFeature("system") in known.features and has_system(messages):
            self.system, messages = _merge_system(messages, "")
        same = schema is head.schema and messages is head.messages
        self.adapted = head if same else Head(schema, messages)


class Capabilities:
    """What an endpoint does not accept for one model; everything is assumed to work until an error shows otherwise.

    There is one per pair of endpoint and model, shared by all calls and threads. Nothing is inferred from model names.

    >>> from llmtasker.errors import BadRequestError
    >>> settings = Settings(endpoint="e", limits={"max_tokens": 9})
    >>> sent = Request(Head({}), [{"role": "user", "content": "Hi"}], settings)
    >>> capabilities = Capabilities()
    >>> capabilities.record_error(sent, BadRequestError("…", provider_text="Unsupported parameter: 'max_tokens'"))
    True
    >>> capabilities.adapt(sent).body["max_completion_tokens"], capabilities
    (9, Capabilities('no max_tokens, max_completion_tokens instead'))
    """

    def __init__(self) -> None:
        self._known = _Known({}, {})
        self._lock = threading.Lock()
        self._sent: dict[int, _AdaptedHead] = {}  # by the id of the adapted head, of any age
        self._schemas: dict[int, tuple[Head, str]] = {}  # of heads that are sent without their schema, by id
        self._trials = SchemaTrials()
        self._answered: dict[int, Head] = {}  # by id, as sent
        self._guesses: dict[str, tuple[str, ...]] = {}  # the rungs before a guess, by the fingerprint of the schema
        self._not_guilty = set[str]()  # schemas that are not the reason for an unexplained refusal
        self._texts: dict[int, Completion] = {}  # answers in text to requests for a call, by id
        self._calls = False
        self._empty = 0

    @property
    def facts(self) -> tuple[str, ...]:
        """What was learned, as short phrases in order."""
        return tuple(map(str, self._known.features))

    @property
    def notes(self) -> list[str]:
        """Changes to requests that can change an answer (parts left out, another mode), with the reasons."""
        return [
            f"{feature.name} is not sent, because the endpoint does not accept it: {words}"
            if feature.kind == "drop"
            else f"{feature}: {words}"
            for feature, words in self._known.features.items()
            if feature.kind in {"mode", "schema"} or (feature.kind == "drop" and feature.name not in _HARMLESS)
        ]

    def after_fork(self) -> None:
        """Create a new lock: in a forked child, a thread that does not exist there may hold the old one."""
        self._lock = threading.Lock()
        self._trials.after_fork()

    def __repr__(self) -> str:
        return f"Capabilities({', '.join(map(repr, self.facts))})"

    def mode(self, asked: Mode = "tools") -> Mode:
        """Return `asked`, or the next best mode that has not been refused."""
        features = self._known.features
        works: Iterator[Mode] = (
            mode for mode in MODES[MODES.index(asked) :] if UnsupportedFeature("mode", mode) not in features
        )
        return next(works)  # Text is never refused.

    def request(self, render: Callable[[Mode], Request], asked: AskMode) -> Request:
        """Return the request to send, in the mode and form that the endpoint accepts, as far as is known."""
        if not self._known.features:
            return render(FIRST_MODE[asked])  # as in nearly all calls
        request = render(self.mode() if asked == "auto" else FIRST_MODE[asked])
        if self._known.rungs and asked == "auto":
            rungs = self._known.rungs.get(fingerprint(request.head.schema), ())
            modes: list[Mode] = [mode for mode in MODES if mode in rungs]
            if modes:
                schema, request = fingerprint(request.head.schema), render(self.mode(modes[-1]))
                _trim(self._schemas)
                self._schemas[id(request.head)] = request.head, schema
        return self.adapt(request)

    def probe(self, request: Request) -> SchemaProbe | Future[None] | None:
        """Return the probe of a request whose schema is on trial, or a future to wait for; mostly None: send it.

        After the wait, or a change of `state`, ask for the `request` again. Call `leave` on a probe.
        """
        return self._trials.probe(self._schema_of(request)) if self._trials.waiting else None

    @property
    def state(self) -> object:
        """What is known now; a different object once something is learned."""
        return self._known

    def _schema_of(self, request: Request) -> str:
        """Return the fingerprint of the schema that a request, as sent, had at first."""
        sent = self._sent.get(id(request.head))
        head = sent.head if sent else request.head
        known = self._schemas.get(id(head))
        return known[1] if known else fingerprint(head.schema)

    def adapt(self, request: Request) -> Request:
        """Return the request without the parts that are known to be refused; the same object if nothing changes.

        Equal parts are adapted once: all inputs of a task share one adapted Head and its prepared bytes.
        The mode is not changed here, because that needs other messages, which `request` renders.
        """
        known = self._known
        if not known.features:
            return request
        settings, head = self._settings(known, request.settings), self._head(known, request.head)
        tail: Sequence[Message] = rename_calls(request.tail, head.names) if head.names else request.tail
        if head.system or (UnsupportedFeature("system") in known.features and has_system(tail)):
            left, merged = _merge_system(tail, head.system)
            tail = [*merged, {"role": "user", "content": left}] if left else merged
        if settings is request.settings and head.adapted is request.head and tail is request.tail:
            return request
        return type(request)(head.adapted, tail, settings)

    def read(self, request: Request, completion: Completion) -> Completion:
        """Return an answer to `request`, as sent, with the task's own names; `record_text` recognises it.

        An endpoint that makes function calls is remembered: then an answer in text is only a mistake of the LLM.
        """
        head = request.head
        if id(head) not in self._answered:
            _trim(self._answered)
            self._answered[id(head)] = head
        if self._trials.waiting:
            self._trials.end(self._schema_of(request))
        sent = self._sent.get(id(head)) if self._known.rungs else None
        made = restore(completion, sent.names) if sent and sent.names else completion
        if made.tool_calls:
            self._calls = True
        elif "tools" in request.head.schema:
            _trim(self._texts)
            self._texts[id(made)] = made
        return made

    def record_error(self, request: Request, error: ItemError) -> bool:
        """Learn from an error what `request`, as sent, must not contain; return whether to ask again.

        To ask again means with the adapted request, or in another mode. The result is also True if another call has
        learned the same since. Only parts of the request are learned about, so the same thing can't be learned twice.
        If the caller stays in a refused mode, because it is fixed, the error is final.
        """
        feature = unsupported_feature(request, error)
        unexplained = feature is None and is_unexplained(request, error)
        words = snippet(error.details.get("provider_text") or "an error without a reason", 120)
        if feature is None and not unexplained:
            if self._trials.waiting and not (isinstance(error, TransientError) or about_schema(request, error)):
                self._trials.end(self._schema_of(request))
            return False
        with self._lock:
            known = self._known
            if feature is None:
                return self._guess(request, words)
            if feature.kind == "schema":
                return self._record_schema(request, feature.name, words)
            if feature not in known.features:
                self._known = known.with_feature(feature, words)
                return True
            # Adapted after the mode was refused, and still in that mode.
            sent = known.heads.values()
            return feature.kind != "mode" or all(request.head is not head.adapted for head in sent)

    def _record_schema(self, request: Request, rung: str, words: str) -> bool:
        known = self._known
        sent = self._sent.get(id(request.head))
        schema = self._schema_of(request)
        taken = known.rungs.get(schema, ())
        if rung not in taken:
            self._trials.begin(schema)
            self._known = known.with_rung(schema, rung, words)
            return True
        # Another call learned it while this one was in flight; or this call already had it.
        return sent is None or rung not in sent.rungs

    def _guess(self, request: Request, words: str) -> bool:
        """Take the schema for the reason of an unexplained refusal, until its last form is refused too.

        Once a form of it was answered, or if no form was, the reason is in the row.
        """
        schema = self._schema_of(request)
        if not schema or schema in self._not_guilty:
            return False
        if any(fingerprint(head.schema) == fingerprint(request.head.schema) for head in self._answered.values()):
            return False
        rung = next_rung(request.head.schema) or ("text" if mode_of(request) == "json" else None)
        self._guesses.setdefault(schema, self._known.rungs.get(schema, ()))
        if rung is not None and self._record_schema(request, rung, words):
            return True
        self._not_guilty.add(schema)
        self._known = self._known.with_rungs(schema, self._guesses.pop(schema))
        self._trials.end(schema)
        return False

    def record_text(self, completion: Completion) -> None:
        """Record an invalid answer in text, although a call was required.

        An endpoint that answers so, and has never made a call, may omit the tools from the prompt: then the LLM
        can't know what is asked. One empty answer does not indicate that.
        """
        if not self.ignores_tools(completion):
            return
        with self._lock:
            whole = bool(completion.text and completion.text.strip())
            self._empty += not whole
            if (whole or self._empty >= _EMPTY_ANSWERS) and _TOOLS not in self._known.features:
                self._known = self._known.with_feature(_TOOLS, "answered in text although a call was required")

    def ignores_tools(self, completion: Completion) -> bool:
        """Return whether an answer is text although a call was required, from an endpoint that has never made one."""
        if self._calls or id(completion) not in self._texts:
            return False
        return completion.finish_reason not in {"length", "content_filter"}

    def _settings(self, known: _Known, settings: Settings) -> Settings:
        memo = known.settings.get(id(settings))
        if memo is None:
            body, limits = (_accepted(fields, known.features) for fields in (settings.body, settings.limits))
            adapted = settings
            if body is not settings.body or limits is not settings.limits:
                adapted = Settings(endpoint=settings.endpoint, body=body, limits=limits, timeout=settings.timeout)
            _trim(known.settings)
            memo = known.settings[id(settings)] = (settings, adapted)
        return memo[1]

    def _head(self, known: _Known, head: Head) -> _AdaptedHead:
        memo = known.heads.get(id(head))
        if memo is None:
            _trim(known.heads)
            memo = known.heads[id(head)] = _AdaptedHead(known, head)
            _trim(self._sent)
            self._sent[id(memo.adapted)] = memo
        return memo


def _trim(memo: dict[int, Any]) -> None:
    if len(memo) > _MEMO_SIZE:
        memo.clear()  # Many tasks or settings on one LLM: rare, and costs only adapting them again.


def _accepted(fields: Mapping[str, Any], features: Mapping[UnsupportedFeature, str]) -> Mapping[str, Any]:
    """Return the fields of a body without those that were refused; the same object if none was."""
    adapted = dict[str, Any]()
    dropped = {feature.name for feature in features if feature.kind == "drop"}
    if "logprobs" in dropped:
        dropped.add("top_logprobs")  # It is not allowed without logprobs.
    for name, value in fields.items():
        if UnsupportedFeature("rename", name) in features:
            other = TOKEN_LIMITS[name]
            if other not in fields and UnsupportedFeature("rename", other) not in features:
                adapted[other] = value
        elif name not in dropped:
            adapted[name] = value
    return fields if adapted == fields else adapted


def _schema(schema: Mapping[str, Any], features: Mapping[UnsupportedFeature, str]) -> Mapping[str, Any]:
    adapted = dict(_accepted(schema, features))
    if UnsupportedFeature("tool_choice", "auto") in features:
        adapted.pop("tool_choice", None)
    elif UnsupportedFeature("tool_choice", "required") in features and "tool_choice" in adapted:
        adapted["tool_choice"] = "auto"
    if UnsupportedFeature("strict") in features:
        adapted = dict(descend(adapted, ["strict"]))
    return schema if adapted == schema else adapted


def _text_part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _merge_system(messages: Sequence[Message], text: str) -> tuple[str, list[Message]]:
    """Return messages whose system texts, after `text`, are moved to the start of the first user message.

    If there is no user message, the text is returned for the next one.
    """
    texts = [text, *(str(message.get("content") or "") for message in messages if message.get("role") in SYSTEM_ROLES)]
    text = "\n\n".join(filter(None, texts))
    merged = list[Message]()
    for message in messages:
        if text and message.get("role") == "user":
            content: Any = message.get("content")
            whole = f"{text}\n\n{content}"
            merged.append({**message, "content": whole if isinstance(content, str) else [_text_part(text), *content]})
            text = ""
        elif message.get("role") not in SYSTEM_ROLES:
            merged.append(message)
    return text, merged
