"""Lessons: what a request must not have, read off the error that an endpoint answered it with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from llmtasker.errors import BadRequestError, ItemError, NotFoundError, ServerError
from llmtasker.values.json_values import is_array, is_object
from llmtasker.wire.request import Message, Mode, Request

MODES: tuple[Mode, ...] = ("tools", "json_schema", "json", "text")
"""All modes, the best first: the one that holds the LLM closest to the schema. `text` works everywhere."""

TOKEN_LIMITS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_NOT_DROPPED = frozenset({"model", "messages", "tools", "tool_choice", "response_format", "stream"})
SYSTEM_ROLES = ("system", "developer")
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
                return f"no {self.name}, {TOKEN_LIMITS[self.name]} instead"
            case "tool_choice":
                return f"no tool_choice {self.name}"
            case _:
                return f"no {self.kind}"


def mode_of(request: Request) -> Mode:
    """Return the mode that a request is asked in."""
    schema = request.head.schema
    if "tools" in schema:
        return "tools"
    kind = schema.get("response_format", {}).get("type")
    return "json_schema" if kind == "json_schema" else "json" if kind == "json_object" else "text"


def lesson_of(request: Request, error: ItemError) -> Lesson | None:
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
            return Lesson("rename" if name in TOKEN_LIMITS else "drop", name)
    if _mode_refused(request, said):
        return Lesson("mode", mode_of(request))
    if said.says(_NO_GRAMMAR) and bounded(schema) != schema:
        return Lesson("large sizes")
    if has_system(request.messages) and said.says(_NO_SYSTEM):
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


def bounded(schema: Any) -> Any:
    """Return a schema without the large sizes, which the signature checks all the same."""
    if is_array(schema):
        return [bounded(part) for part in schema]
    if not is_object(schema):
        return schema
    return {
        name: bounded(value)
        for name, value in schema.items()
        # A property may have such a name; then its value is a schema.
        if not (name in _SIZES and isinstance(value, int) and value > _LARGE)
    }


def has_system(messages: Iterable[Message]) -> bool:
    return any(message.get("role") in SYSTEM_ROLES for message in messages)


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
