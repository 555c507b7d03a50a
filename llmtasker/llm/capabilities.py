"""What one endpoint and model cannot do, learned from the errors that it answers with."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmtasker.errors import ItemError, snippet
from llmtasker.llm.refusals import MODES, SYSTEM_ROLES, TOKEN_LIMITS, Lesson, bounded, has_system, lesson_of
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Head, Message, Mode, Request, Settings

_HARMLESS = frozenset({"parallel_tool_calls"})
_MEMO_SIZE = 256


class _Known:
    """The lessons so far, with what was adapted to them; replaced as a whole, so that readers need no lock."""

    __slots__ = ("heads", "lessons", "settings")

    def __init__(self, lessons: Mapping[Lesson, str]) -> None:
        self.lessons = lessons
        # By identity, with the original kept alive beside it so that its id stays its own.
        self.settings: dict[int, tuple[Settings, Settings]] = {}
        self.heads: dict[int, tuple[Head, Head, str]] = {}


class Capabilities:
    """What an endpoint does not accept of one model; everything is taken to work until it says no.

    One for each pair of endpoint and model, shared by all calls and threads. Nothing is told from model names.

    >>> from llmtasker.errors import BadRequestError
    >>> settings = Settings(endpoint="e", limits={"max_tokens": 9})
    >>> sent = Request(Head({}), [{"role": "user", "content": "Hi"}], settings)
    >>> dialect = Capabilities()
    >>> dialect.learn(sent, BadRequestError("…", provider_text="Unsupported parameter: 'max_tokens'"))
    True
    >>> dialect.adapt(sent).body["max_completion_tokens"], dialect
    (9, Capabilities('no max_tokens, max_completion_tokens instead'))
    """

    def __init__(self) -> None:
        self._known = _Known({})
        self._lock = threading.Lock()
        self._calls = False

    @property
    def facts(self) -> tuple[str, ...]:
        """What was learned, in short words and in order."""
        return tuple(map(str, self._known.lessons))

    @property
    def notes(self) -> list[str]:
        """What was left out of the requests, or is asked in another mode, and can change an answer; with the reason."""
        return [
            f"{lesson}: {words}"
            if lesson.kind == "mode"
            else f"{lesson.name} is not sent, for the endpoint does not accept it: {words}"
            for lesson, words in self._known.lessons.items()
            if lesson.kind == "mode" or (lesson.kind == "drop" and lesson.name not in _HARMLESS)
        ]

    def after_fork(self) -> None:
        """Take a new lock: in a forked child, a thread that is not there may hold the old one."""
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Capabilities({', '.join(map(repr, self.facts))})"

    def mode(self, asked: Mode = "tools") -> Mode:
        """Return `asked`, or the next best mode that is still believed to work."""
        lessons = self._known.lessons
        works: Iterator[Mode] = (mode for mode in MODES[MODES.index(asked) :] if Lesson("mode", mode) not in lessons)
        return next(works)  # No error can teach that text does not work.

    def adapt(self, request: Request) -> Request:
        """Return the request without what is known not to be accepted; the same object where nothing is to change.

        Equal parts are adapted once: all inputs of a task share one adapted Head and its prepared bytes.
        The mode is not changed here: that takes other messages, which `mode()` is for.
        """
        known = self._known
        if not known.lessons:
            return request
        settings = self._settings(known, request.settings)
        head, system = self._head(known, request.head)
        tail = request.tail
        if system or (Lesson("system") in known.lessons and has_system(tail)):
            left, merged = _merge_system(tail, system)
            tail = [*merged, {"role": "user", "content": left}] if left else merged
        if settings is request.settings and head is request.head and tail is request.tail:
            return request
        return Request(head, tail, settings)

    def learn(self, request: Request, error: ItemError) -> bool:
        """Take from an error what `request`, as it was sent, must not have; return whether there was such a thing.

        True means that asking again makes sense: with the adapted request, or in `mode()` where `mode_of(request)`
        is no longer it. Also true when another call learned it meanwhile. A lesson is only taken from something
        that the request has, so that an adapted request can't teach it twice. Of a caller who goes on in a refused
        mode, for no other is wanted, the error stands.
        """
        lesson = lesson_of(request, error)
        if lesson is None:
            return False
        with self._lock:
            known = self._known
            if lesson not in known.lessons:
                self._known = _Known({**known.lessons, lesson: snippet(error.details.get("provider_text", ""), 120)})
                return True
            # Adapted since the mode was refused, and in that mode all the same.
            return lesson.kind != "mode" or all(request.head is not head for _, head, _ in known.heads.values())

    def heard_call(self, completion: Completion) -> None:
        """Take note that function calls are made here: then an answer in text is a slip of the LLM, no more."""
        if completion.tool_calls:
            self._calls = True

    def heard_text(self, completion: Completion) -> None:
        """Take note of an answer that did not fit, and came as whole text although a call was required.

        An endpoint that does so, and has never made a call, may leave the tools out of the prompt: then the LLM
        can't know what is asked for.
        """
        tools = Lesson("mode", "tools")
        if self._calls or completion.tool_calls or completion.finish_reason != "stop":
            return
        with self._lock:
            if tools not in self._known.lessons:
                self._known = _Known({**self._known.lessons, tools: "answered in text where a call was required"})

    def _settings(self, known: _Known, settings: Settings) -> Settings:
        memo = known.settings.get(id(settings))
        if memo is None:
            body, limits = (_accepted(fields, known.lessons) for fields in (settings.body, settings.limits))
            adapted = settings
            if body is not settings.body or limits is not settings.limits:
                adapted = Settings(endpoint=settings.endpoint, body=body, limits=limits, timeout=settings.timeout)
            memo = known.settings[id(settings)] = (settings, adapted)
            _trim(known.settings)
        return memo[1]

    def _head(self, known: _Known, head: Head) -> tuple[Head, str]:
        """Return the adapted head, and the system text that belongs into the first user message of the tail."""
        memo = known.heads.get(id(head))
        if memo is None:
            schema, messages, system = _schema(head.schema, known.lessons), head.messages, ""
            if Lesson("system") in known.lessons and has_system(messages):
                system, merged = _merge_system(messages, "")
                messages = tuple(merged)
            adapted = head if schema is head.schema and messages is head.messages else Head(schema, messages)
            memo = known.heads[id(head)] = (head, adapted, system)
            _trim(known.heads)
        return memo[1], memo[2]


def _trim(memo: dict[int, Any]) -> None:
    if len(memo) > _MEMO_SIZE:
        memo.clear()  # Many tasks or settings on one LLM: rare, and only costs adapting them once more.


def _accepted(fields: Mapping[str, Any], lessons: Mapping[Lesson, str]) -> Mapping[str, Any]:
    """Return the fields of a body without those that were refused; the same object where there is none."""
    adapted = dict[str, Any]()
    dropped = {lesson.name for lesson in lessons if lesson.kind == "drop"}
    if "logprobs" in dropped:
        dropped.add("top_logprobs")  # It is not allowed alone.
    for name, value in fields.items():
        if Lesson("rename", name) in lessons:
            other = TOKEN_LIMITS[name]
            if other not in fields and Lesson("rename", other) not in lessons:
                adapted[other] = value
        elif name not in dropped:
            adapted[name] = value
    return fields if adapted == fields else adapted


def _schema(schema: Mapping[str, Any], lessons: Mapping[Lesson, str]) -> Mapping[str, Any]:
    adapted = dict(_accepted(schema, lessons))
    if Lesson("tool_choice", "auto") in lessons:
        adapted.pop("tool_choice", None)
    elif Lesson("tool_choice", "required") in lessons and "tool_choice" in adapted:
        adapted["tool_choice"] = "auto"
    if Lesson("strict") in lessons:
        if "tools" in adapted:
            adapted["tools"] = [{**tool, "function": _loose(tool.get("function"))} for tool in adapted["tools"]]
        elif "json_schema" in adapted.get("response_format", ()):
            form = adapted["response_format"]
            adapted["response_format"] = {**form, "json_schema": _loose(form["json_schema"])}
    if Lesson("large sizes") in lessons:
        adapted = bounded(adapted)
    return schema if adapted == schema else adapted


def _loose(definition: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in definition.items() if name != "strict"}


def _text_part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _merge_system(messages: Sequence[Message], text: str) -> tuple[str, list[Message]]:
    """Return messages whose system texts, `text` before them, open the first user message.

    Where there is no user message the text is returned for the next one.
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
