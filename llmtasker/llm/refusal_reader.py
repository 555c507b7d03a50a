"""unsupported_feature: what an endpoint does not accept, read from an error with the table of refusals."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from llmtasker.errors import BadRequestError, ItemError, NotFoundError, ServerError
from llmtasker.llm.refusals import (
    FIELD,
    MARK,
    QUOTED,
    REFUSALS,
    REFUSED,
    TOKEN_LIMITS,
    RefusalPattern,
    UnsupportedFeature,
    has_system,
    mode_of,
)
from llmtasker.llm.schema_rungs import ascii_names, is_strict, next_rung, schema_of
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.wire.echo import without_echo
from llmtasker.wire.request import Request

_NOT_DROPPED = frozenset({"model", "messages", "tools", "tool_choice", "response_format", "stream"})
# These names are also ordinary words: they count only in quotes or after "parameter".
_PLAIN_WORDS = frozenset({"n", "stop", "user", "store", "seed", "metadata", "tools", "strict"})
_STRICT_PLACE = rf"(?:\.|, ')strict\b.{{0,40}}{REFUSED}|{REFUSED}.{{0,40}}\.strict\b"
# The value is at fault, not the field: the user has to fix it.
_VALUE_FAULT = (
    r"\b(?:between|range|maximum|minimum|(?:greater|less) than|at (?:least|most)|above|below)\b|[<>]=|\s[<>]\s"
)
_SURE_CODES = r"unsupported|unknown_?param|unrecogni[sz]ed|not_supported|extra_forbidden"
# The request was turned down for its content or its cost: "schema" and "grammar" are then ordinary words.
_OTHER_REASON = r"\b(?:blocked|polic(?:y|ies)|moderat\w+|guardrails?|budgets?|quotas?|credits?|content[ _]filter\w*)\b"
_OF_THE_SCHEMA = frozenset({"names", "schema", "response_format"})
_SCHEMA_PLACES = frozenset({"parameters", "schema", "jsonschema", "inputschema"})
# Refusals without a reason. The schema is the part of a request that most endpoints can't do in full.
_UNEXPLAINED = lazy_pattern(
    r"(?:error\W+)?(?:\d{3}\W+)?"
    r"(?:request contains an invalid argument"
    r"|(?:the )?(?:provider|upstream) returned (?:an )?error"
    r"|(?:an? )?(?:invalid|bad|malformed)[ _](?:request|arguments?|input|parameters?|params|body|payload)(?:[ _]error)?"
    r"|(?:the )?request (?:is|was) (?:invalid|malformed)"
    r"|unprocessable (?:entity|content)|extra inputs are not permitted|status code \(no body\)|unknown error|error)?\W*"
)


def unsupported_feature(request: Request, error: ItemError) -> UnsupportedFeature | None:
    """Return what the request must not contain according to an error; None if the error is about something else."""
    if not isinstance(error, BadRequestError | NotFoundError | ServerError):
        return None
    # Template errors have status 500; 502 and the like come from gateways that never read the request.
    if isinstance(error, ServerError) and error.status not in (200, 500):
        return None
    words = _Words.of(request, error)
    fields_done = False
    ordinary = not words.places and words.has(_OTHER_REASON)
    for refusal in REFUSALS:
        if ordinary and refusal.feature in _OF_THE_SCHEMA:
            continue
        if refusal.feature != "field":
            found = _found(refusal, request, words)
        elif fields_done:
            continue
        else:
            fields_done, found = True, _refused_field(request, words)
        if found is not None:
            return found
    return None


def about_schema(request: Request, error: ItemError) -> bool:
    """Return whether an error is about the schema, which all rows of a task share, whatever the request had of it."""
    if not isinstance(error, BadRequestError):
        return False
    words = _Words.of(request, error)
    return any(words.has(row.pattern) for row in REFUSALS if row.feature in {"names", "schema"})


def is_unexplained(request: Request, error: ItemError) -> bool:
    """Return whether an error refuses a request without giving a reason."""
    if not isinstance(error, BadRequestError) or error.status not in (400, 422):
        return False
    words = _Words.of(request, error)
    return not words.places and _UNEXPLAINED.fullmatch(words.text) is not None


def _found(refusal: RefusalPattern, request: Request, words: _Words) -> UnsupportedFeature | None:
    """Return what a row of the table refuses in a request; None if the row does not match."""
    schema, mode = request.head.schema, mode_of(request)
    match refusal.feature:
        case "names" | "schema" as kind:
            rung = "names" if kind == "names" and ascii_names(schema_of(schema)) else next_rung(schema)
            named = any(place.replace("_", "") in _SCHEMA_PLACES for place in words.places[1:])
            if rung and (words.has(refusal.pattern) or (kind == "schema" and named)):
                return UnsupportedFeature("schema", rung)
        case "tool_choice" if "tool_choice" in schema and words.has(refusal.pattern):
            return UnsupportedFeature("tool_choice", "auto" if schema["tool_choice"] == "auto" else "required")
        case "tools" if mode == "tools" and words.has(refusal.pattern):
            return UnsupportedFeature("mode", "tools")
        case "turns" if mode == "tools" and _has_turns(request) and words.has(refusal.pattern):
            return UnsupportedFeature("mode", "tools")
        case "response_format" if mode in {"json_schema", "json"} and words.has(refusal.pattern):
            return UnsupportedFeature("mode", mode)
        case "system" if has_system(request.messages) and words.has(refusal.pattern):
            return UnsupportedFeature("system")
        case _:
            pass
    return None


def _has_turns(request: Request) -> bool:
    return any(message.get("role") == "tool" or "tool_calls" in message for message in request.messages)


def _refused_field(request: Request, words: _Words) -> UnsupportedFeature | None:
    schema, mode = request.head.schema, mode_of(request)
    if is_strict(schema) and ("strict" in words.places or words.refuses("strict") or words.has(_STRICT_PLACE)):
        return UnsupportedFeature("strict")
    if "tool_choice" in schema and words.refuses("tool_choice"):
        return UnsupportedFeature("tool_choice", "auto" if schema["tool_choice"] == "auto" else "required")
    # Temperature last: if two fields exclude each other, it is the one to keep.
    for name in sorted(request.body, key="temperature".__eq__):
        if name not in _NOT_DROPPED and words.refuses(name):
            return UnsupportedFeature("rename" if name in TOKEN_LIMITS else "drop", name)
    kind = {"tools": "tools", "json_schema": "json_schema", "json": "json_object"}.get(mode)
    if kind and (words.refuses(kind) or (mode != "tools" and words.refuses("response_format"))):
        return UnsupportedFeature("mode", mode)
    return None


class _Words(NamedTuple):
    """The endpoint's message, without the parts of the request that it repeats."""

    text: str
    code: str
    places: list[str]

    @classmethod
    def of(cls, request: Request, error: ItemError) -> _Words:
        text, code, param = (str(error.details.get(name, "")) for name in ("provider_text", "provider_code", "param"))
        places = [place for place in re.findall(r"\w+", param.lower()) if not place.isdigit()]
        return cls(" ".join(without_echo(text, request).lower().split()), code.lower(), places)

    def has(self, pattern: str) -> bool:
        """Return whether a pattern matches in the message."""
        return re.search(pattern, self.text) is not None

    def refuses(self, name: str) -> bool:
        """Return whether the endpoint refuses this field, not only its value."""
        if self.places and (name != self.places[-1] or self.places[0] == "messages"):
            return False
        if self.places and re.search(_SURE_CODES, self.code):
            return True
        if re.search(_VALUE_FAULT, self.text):
            return False
        return self.has(REFUSED) if self.places else self.has(_field_pattern(name))


@lru_cache(maxsize=256)
def _field_pattern(name: str) -> str:
    """Return the pattern of the table's rows about fields, for one field."""
    word = rf"\b{re.escape(name).replace('_', '[_ ]')}\b"
    quoted = f"{MARK}{word}{MARK}" if name in _PLAIN_WORDS else f"{MARK}?{word}{MARK}?"
    rows = (refusal.pattern for refusal in REFUSALS if refusal.feature == "field")
    return "|".join(rows).replace(QUOTED, quoted).replace(FIELD, word)
