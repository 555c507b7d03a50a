"""What one endpoint and model cannot do, learned from the errors that it answers with."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from llmtasker.candidates import is_array, is_object
from llmtasker.completion import Head, Message, Mode, Request, Settings
from llmtasker.errors import BadRequestError, ItemError, NotFoundError, ServerError, snippet

MODES: tuple[Mode, ...] = ("tools", "json_schema", "json", "text")
"""All modes, the best first: the one that holds the LLM closest to the schema. `text` works everywhere."""

_TOKEN_LIMITS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_NOT_DROPPED = frozenset({"model", "messages", "tools", "tool_choice", "response_format", "stream"})
_HARMLESS = frozenset({"parallel_tool_calls"})
_MEMO_SIZE = 256
_SYSTEM_ROLES = ("system", "developer")


class Lesson(NamedTuple):
    """One thing that the endpoint does not accept: a mode, a field to drop or rename, `strict` …"""

    kind: str
    name: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "mode":
                return f"no {self.name} mode"
            case "drop":
                return f"no {self.name}"
            case "rename":
                return f"no {self.name}, {_TOKEN_LIMITS[self.name]} instead"
            case "tool_choice":
                return f"no tool_choice {self.name}"
            case _:
                return f"no {self.kind}"


class _Known:
    """The lessons so far, with what was adapted to them; replaced as a whole, so that readers need no lock."""

    __slots__ = ("heads", "lessons", "settings")

    def __init__(self, lessons: Mapping[Lesson, str]) -> None:
        self.lessons = lessons
        # By identity, with the original kept alive beside it so that its id stays its own.
        self.settings: dict[int, tuple[Settings, Settings]] = {}
        self.heads: dict[int, tuple[Head, Head, str]] = {}


class Dialect:
    """What an endpoint does not accept of one model; everything is taken to work until it says no.

    One for each pair of endpoint and model, shared by all calls and threads. Nothing is told from model names.

    >>> from llmtasker.errors import BadRequestError
    >>> settings = Settings(endpoint="e", limits={"max_tokens": 9})
    >>> sent = Request(Head({}), [{"role": "user", "content": "Hi"}], settings)
    >>> dialect = Dialect()
    >>> dialect.learn(sent, BadRequestError("…", provider_text="Unsupported parameter: 'max_tokens'"))
    True
    >>> dialect.adapt(sent).body["max_completion_tokens"], dialect
    (9, Dialect('no max_tokens, max_completion_tokens instead'))
    """

    def __init__(self) -> None:
        self._known = _Known({})
        self._lock = threading.Lock()

    @property
    def facts(self) -> tuple[str, ...]:
        """What was learned, in short words and in order."""
        return tuple(map(str, self._known.lessons))

    @property
    def notes(self) -> list[str]:
        """What was left out of the requests that can change an answer, with the words of the endpoint."""
        return [
            f"{lesson.name} is not sent, for the endpoint does not accept it: {words}"
            for lesson, words in self._known.lessons.items()
            if lesson.kind == "drop" and lesson.name not in _HARMLESS
        ]

    def __repr__(self) -> str:
        return f"Dialect({', '.join(map(repr, self.facts))})"

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
        if system or (Lesson("system") in known.lessons and _has_system(tail)):
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
        lesson = _lesson(request, error)
        if lesson is None:
            return False
        with self._lock:
            known = self._known
            if lesson not in known.lessons:
                self._known = _Known({**known.lessons, lesson: snippet(error.details.get("provider_text", ""), 120)})
                return True
            # Adapted since the mode was refused, and in that mode all the same.
            return lesson.kind != "mode" or all(request.head is not head for _, head, _ in known.heads.values())

    def heard_text(self) -> None:
        """Take note that a whole answer came as plain text, which did not fit, although a call was required.

        An endpoint that does so may leave the tools out of the prompt: then the LLM can't know what is asked for.
        """
        tools = Lesson("mode", "tools")
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
            if Lesson("system") in known.lessons and _has_system(messages):
                system, merged = _merge_system(messages, "")
                messages = tuple(merged)
            adapted = head if schema is head.schema and messages is head.messages else Head(schema, messages)
            memo = known.heads[id(head)] = (head, adapted, system)
            _trim(known.heads)
        return memo[1], memo[2]


def _trim(memo: dict[int, Any]) -> None:
    if len(memo) > _MEMO_SIZE:
        memo.clear()  # Many tasks or settings on one LLM: rare, and only costs adapting them once more.


def mode_of(request: Request) -> Mode:
    """Return the mode that a request is asked in."""
    schema = request.head.schema
    if "tools" in schema:
        return "tools"
    kind = schema.get("response_format", {}).get("type")
    return "json_schema" if kind == "json_schema" else "json" if kind == "json_object" else "text"


# ── what is left out ──


def _accepted(fields: Mapping[str, Any], lessons: Mapping[Lesson, str]) -> Mapping[str, Any]:
    """Return the fields of a body without those that were refused; the same object where there is none."""
    adapted = dict[str, Any]()
    dropped = {lesson.name for lesson in lessons if lesson.kind == "drop"}
    if "logprobs" in dropped:
        dropped.add("top_logprobs")  # It is not allowed alone.
    for name, value in fields.items():
        if Lesson("rename", name) in lessons:
            other = _TOKEN_LIMITS[name]
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
        adapted = _bounded(adapted)
    return schema if adapted == schema else adapted


def _bounded(schema: Any) -> Any:
    """Return a schema without the large sizes, which the signature checks all the same."""
    if is_array(schema):
        return [_bounded(part) for part in schema]
    if not is_object(schema):
        return schema
    return {
        name: _bounded(value)
        for name, value in schema.items()
        # A property may have such a name; then its value is a schema.
        if not (name in _SIZES and isinstance(value, int) and value > _LARGE)
    }


def _loose(definition: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in definition.items() if name != "strict"}


def _has_system(messages: Iterable[Message]) -> bool:
    return any(message.get("role") in _SYSTEM_ROLES for message in messages)


def _text_part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _merge_system(messages: Sequence[Message], text: str) -> tuple[str, list[Message]]:
    """Return messages whose system texts, `text` before them, open the first user message.

    Where there is no user message the text is returned for the next one.
    """
    texts = [text, *(str(message.get("content") or "") for message in messages if message.get("role") in _SYSTEM_ROLES)]
    text = "\n\n".join(filter(None, texts))
    merged = list[Message]()
    for message in messages:
        if text and message.get("role") == "user":
            content: Any = message.get("content")
            whole = f"{text}\n\n{content}"
            merged.append({**message, "content": whole if isinstance(content, str) else [_text_part(text), *content]})
            text = ""
        elif message.get("role") not in _SYSTEM_ROLES:
            merged.append(message)
    return text, merged


# ── what an error teaches ──

_CAN_NOT = r"(?:(?:does|do|can) ?not|(?:does|do|ca)n't) (?:currently |yet )?(?:support|accept|permit|allow)"
_REFUSED = (
    r"(?:not (?:yet |currently )?(?:supported|permitted|allowed|available|implemented|enabled|accepted|compatible)"
    r"|unsupported|unavailable|deprecated|unrecogni[sz]ed|unknown|unexpected|forbidden|cannot find field|cannot be used"
    r"|cannot both be|no longer|only the default|only \S+ is (?:allowed|supported|accepted)|may only be set"
    r"|must be (?:set to )?(?:the default|1\b)|enabled only for|extra inputs|" + _CAN_NOT + ")"
)
_NOUN = r"(?:parameter|argument|field|property|key|name|option|input|value|setting|keyword)s?"
_QUOTE = "['\"`]"
_GAP = r"(?:[^.,:;]|\.(?=\d)){0,50}?"
# The value is at fault, not the field: that is for the user to mend.
_VALUE_FAULT = (
    r"\b(?:between|range|maximum|minimum|(?:greater|less) than|at (?:least|most)|above|below)\b|[<>]=|\s[<>]\s"
)
_SURE_CODES = r"unsupported|unknown_?param|unrecogni[sz]ed|not_supported|extra_forbidden"
# Such names stand in ordinary sentences too: they count only in quotes or after "parameter".
_PLAIN_WORDS = frozenset({"n", "stop", "user", "store", "seed", "metadata", "tools", "strict"})

_NO_TOOL_CHOICE = (
    r"support (?:this|the provided) '?tool_choice|tool_choice: (?:expected|unknown|invalid|input should)"
    r"|invalid (?:value for )?'?tool_choice"
)
_NO_TOOLS = (
    rf"{_CAN_NOT} (?:the use of )?(?:tools?|functions?)\b"
    r"|(?<!parallel )\b(?:tools|functions|tool use|(?:tool|function)[ -]?call(?:s|ing)?)\b"
    rf"{_QUOTE}?(?: \w+){{0,4}}? {_REFUSED}"
    r"|requires? --(?:enable-auto-tool-choice|jinja)|support tool use"
)
_NO_TOOL_TURNS = (
    r"unexpected role\W.{0,12}tool|after role .{0,12}tool|roles? must alternate|same number of function calls"
    r"|must be followed by tool messages|in the thinking mode must be passed back"
)
_NO_FORMAT = (
    rf"response_format\W{{0,3}}type\b.{{0,40}}?(?:must be|expected|should be|{_REFUSED})"
    r"|response_format.{0,60}input should"
    rf"|\b(?:json mode|structured outputs?|guided decoding|grammars?)\b(?: \w+){{0,4}}? {_REFUSED}"
    rf"|{_CAN_NOT} (?:json mode|structured outputs?|guided decoding|grammars?)"
)
# llama.cpp can't write the tools, or the turns of a call, with the model's own chat template; a schema that it can't
# read comes under the same heading.
_NO_TEMPLATE = r"unable to generate parser for this template(?!.*json schema error)"
# llama.cpp turns a schema into a grammar, and refuses one that repeats a thing more than 2,000 times.
_NO_GRAMMAR = r"failed to parse grammar|number of repetitions"
_SIZES = frozenset({"minLength", "maxLength", "minItems", "maxItems"})
_LARGE = 1_000
_NO_STRICT = r"invalid schema for (?:function|response_format)|additionalproperties"
_NO_SYSTEM = (
    rf"\b(?:system|developer) (?:role|message|prompt|instruction)s?\b(?: \w+){{0,3}}? {_REFUSED}"
    rf"|{_CAN_NOT} (?:the )?(?:{_QUOTE}?(?:system|developer){_QUOTE}? role|{_QUOTE}(?:system|developer)|system\b)"
    r"|unexpected role\W.{0,12}system|roles? must alternate|only user and assistant roles"
)


def _lesson(request: Request, error: ItemError) -> Lesson | None:
    """Return what the request must not have, going by an error; None where the error is about something else."""
    if not isinstance(error, BadRequestError | NotFoundError | ServerError):
        return None
    # Template errors come as 500; 502 and the like come from machines that never read the request.
    if isinstance(error, ServerError) and error.status not in (200, 500):
        return None
    said = _Said.of(request, error)
    schema = request.head.schema
    if _is_strict(schema) and ("strict" in said.places or said.says(_NO_STRICT) or said.refuses("strict")):
        return Lesson("strict")
    if "tool_choice" in schema and (said.says(_NO_TOOL_CHOICE) or said.refuses("tool_choice")):
        return Lesson("tool_choice", "auto" if schema["tool_choice"] == "auto" else "required")
    # Temperature last: where two fields exclude each other, it is the one to keep.
    for name in sorted(request.body, key="temperature".__eq__):
        if name not in _NOT_DROPPED and said.refuses(name):
            return Lesson("rename" if name in _TOKEN_LIMITS else "drop", name)
    if _mode_refused(request, said):
        return Lesson("mode", mode_of(request))
    if said.says(_NO_GRAMMAR) and _bounded(schema) != schema:
        return Lesson("large sizes")
    if _has_system(request.messages) and said.says(_NO_SYSTEM):
        return Lesson("system")
    if mode_of(request) == "tools" and said.says(_NO_TEMPLATE):
        return Lesson("mode", "tools")
    return None


def _mode_refused(request: Request, said: _Said) -> bool:
    mode = mode_of(request)
    if mode == "text":
        return False
    if mode == "tools":
        turns = any(message.get("role") == "tool" or "tool_calls" in message for message in request.messages)
        return said.refuses("tools") or said.says(_NO_TOOLS) or (turns and said.says(_NO_TOOL_TURNS))
    kind = "json_schema" if mode == "json_schema" else "json_object"
    return said.refuses("response_format") or said.refuses(kind) or said.says(_NO_FORMAT)


def _is_strict(schema: Mapping[str, Any]) -> bool:
    definitions = [tool.get("function") for tool in schema.get("tools", ())]
    definitions.append(schema.get("response_format", {}).get("json_schema"))
    return any("strict" in definition for definition in definitions if definition)


class _Said(NamedTuple):
    """The words of the endpoint, and those of the request that it may only be repeating."""

    text: str
    code: str
    places: list[str]
    echo: str

    @classmethod
    def of(cls, request: Request, error: ItemError) -> _Said:
        text, code, param = (str(error.details.get(name, "")) for name in ("provider_text", "provider_code", "param"))
        contents = " ".join(str(message.get("content")) for message in request.messages)
        places = [place for place in re.findall(r"\w+", param.lower()) if not place.isdigit()]
        return cls(_line(text), code.lower(), places, _line(contents))

    def says(self, pattern: str) -> bool:
        """Whether the endpoint says so in words of its own: what also stands in our messages is no statement."""
        return any(match.group() not in self.echo for match in re.finditer(pattern, self.text))

    def refuses(self, name: str) -> bool:
        """Whether the endpoint says that it does not accept this field, and not only the value of it."""
        if self.places and (name != self.places[-1] or self.places[0] == "messages"):
            return False
        if self.places and re.search(_SURE_CODES, self.code):
            return True
        if re.search(_VALUE_FAULT, self.text):
            return False
        if self.places:
            return self.says(_REFUSED)
        word = rf"\b{re.escape(name).replace('_', '[_ ]')}\b"
        named = f"{_QUOTE}{word}{_QUOTE}" if name in _PLAIN_WORDS else f"{_QUOTE}?{word}{_QUOTE}?"
        return self.says(
            rf"(?:{_REFUSED}|invalid|extraneous|extra) (?:\w+ ){{0,3}}?{_NOUN}(?: \w+){{0,2}}[ :\[('\"`]+{word}"
            rf"|{_NOUN} {named} is (?:invalid|unsupported)|{named}{_GAP}{_REFUSED}|{_CAN_NOT}{_GAP}{named}"
            rf"|(?:^|[\s;]){word}: {_REFUSED}"
        )


def _line(text: str) -> str:
    return " ".join(text.lower().split())
