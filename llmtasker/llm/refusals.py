"""The table of refusals: the error messages of endpoints that do not accept something, and what is learned from them.

Endpoints have no common form for this, so their messages are matched. Each row of `REFUSALS` has the provider, an
example of its message, the feature that it refuses, and the pattern that matches it. To support a new wording, add a
row: the example is its test. `{field}` stands for a field of the request body, such as temperature.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from llmtasker.errors import BadRequestError, ItemError, NotFoundError, ServerError
from llmtasker.llm.schema_rungs import ascii_names, is_strict, next_rung, schema_of
from llmtasker.wire.echo import without_echo
from llmtasker.wire.request import Message, Mode, Request

MODES: tuple[Mode, ...] = ("tools", "json_schema", "json", "text")
"""All modes, best first: the first one binds the LLM most closely to the schema. `text` works everywhere."""

TOKEN_LIMITS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
SYSTEM_ROLES = ("system", "developer")

_CAN_NOT = r"(?:(?:does|do|can) ?not|(?:does|do|ca)n't) (?:currently |yet )?(?:support|accept|permit|allow)"
_REFUSED = (
    r"(?:not (?:yet |currently )?(?:supported|permitted|allowed|available|implemented|enabled|accepted|compatible)"
    r"|unsupported|unavailable|deprecated|unrecogni[sz]ed|unknown|unexpected|forbidden|cannot find field|cannot be used"
    r"|cannot both be|no longer|only the default|only \S+ is (?:allowed|supported|accepted)|may only be set"
    r"|must be (?:set to )?(?:the default|1\b)|enabled only for|extra inputs|" + _CAN_NOT + ")"
)
_NOUN = r"(?:parameter|argument|field|property|key|name|option|input|value|setting|keyword)s?"
_MARK = "['\"`]"
_FIELD, _QUOTED = "{field}", "{quoted}"
_GAP = r"(?:[^.,:;]|\.(?=\d)){0,50}?"
_NOT_DROPPED = frozenset({"model", "messages", "tools", "tool_choice", "response_format", "stream"})
# These names are also ordinary words: they count only in quotes or after "parameter".
_PLAIN_WORDS = frozenset({"n", "stop", "user", "store", "seed", "metadata", "tools", "strict"})
# The value is at fault, not the field: the user has to fix it.
_VALUE_FAULT = (
    r"\b(?:between|range|maximum|minimum|(?:greater|less) than|at (?:least|most)|above|below)\b|[<>]=|\s[<>]\s"
)
_SURE_CODES = r"unsupported|unknown_?param|unrecogni[sz]ed|not_supported|extra_forbidden"
_SCHEMA_PLACES = frozenset({"parameters", "schema", "jsonschema", "inputschema"})


class UnsupportedFeature(NamedTuple):
    """One thing that an endpoint does not accept.

    kind          name
    "mode"        the mode, one of MODES
    "drop"        the field of the body that is left out
    "rename"      the field of the body that is sent under its other name, as in TOKEN_LIMITS
    "tool_choice" "required", or "auto" if even that is refused
    "strict"      empty: strict schemas
    "system"      empty: the system role
    "schema"      the rung of the ladder in schema_rungs; it applies to one schema only
    """

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
            case "schema":
                return f"a schema without {self.name}" if self.name not in MODES else f"a schema only as {self.name}"
            case _:
                return f"no {self.kind}"


class RefusalPattern(NamedTuple):
    """One row of the table."""

    provider: str
    example: str
    feature: str
    pattern: str


# The order matters: the first row that matches decides.
REFUSALS = (
    # A schema that can't be used. The next rung of the ladder in schema_rungs is tried, for this schema only.
    RefusalPattern(
        "Anthropic",
        "tools.0.custom.input_schema.properties: Property keys should match pattern '^[a-zA-Z0-9_.-]{1,64}$'",
        "names",
        r"(?:property keys|names?)\W*(?:should|must) match|names? (?:may|can|must|should) only contain|ascii",
    ),
    RefusalPattern(
        "OpenAI",
        "Invalid property name 'équipe': string does not match pattern '^[a-zA-Z0-9_-]+$'.",
        "names",
        r"(?:property|field|key|name)s?\b.{0,80}(?:does not|doesn't|do not|must|should) match|invalid property names?",
    ),
    RefusalPattern(
        "OpenAI",
        "Invalid schema for function 'Sort': In context=('properties', 'sum'), 'pattern' is not permitted.",
        "schema",
        r"(?:invalid|unsupported|bad|malformed|incorrect)(?: \w+){0,2} (?:json[ _-]?)?schema"
        r"|schema(?: \w+){0,6} (?:is |are )?(?:invalid|malformed|not valid|too (?:complex|large|deep))",
    ),
    RefusalPattern(
        "OpenAI", "'additionalProperties' is required to be supplied and to be false", "schema", r"additionalproperties"
    ),
    RefusalPattern(
        "vLLM",
        "The provided JSON schema contains features not supported by xgrammar.",
        "schema",
        r"schema (?:contains|has|uses)|schema\W{0,3}(?:feature|keyword|field|key|propert)(?:s|y|ies)?\b",
    ),
    RefusalPattern(
        "llguidance", 'Grammar error: Unimplemented keys: ["pattern"]', "schema", r"unimplemented keys|grammar error"
    ),
    RefusalPattern(
        "vLLM",
        "regex look-around, including look-ahead and look-behind, is not supported",
        "schema",
        r"\bregex|look-?(?:around|ahead|behind)|regular expression",
    ),
    RefusalPattern(
        "llama.cpp",
        "Failed to initialize samplers: failed to parse grammar",
        "schema",
        r"(?:fail\w*|unable|error|could not|can ?not|can't)(?: to)? (?:\w+ ){0,3}?(?:json[ _-]?)?(?:grammar|schema)"
        r"|(?:schema|grammar) (?:conversion|compilation|parsing) (?:failed|error)|json schema error"
        r"|number of repetitions",
    ),
    RefusalPattern(
        "Gemini",
        "The specified schema produces a constraint that has too many states for serving.",
        "schema",
        r"too many states|schema produces|schema did ?n[o']t specify|schema type field|only allowed for string type",
    ),
    RefusalPattern(
        "Gemini",
        "Unknown name \"const\" at 'tools[0].function_declarations[0].parameters.properties[0].value'",
        "schema",
        r"unknown name \W?\$?\w+\W? at \W?\S*(?:parameters|schema)",
    ),
    RefusalPattern(
        "Bedrock",
        "The value at toolConfig.tools.0.toolSpec.inputSchema.json is invalid",
        "schema",
        r"input_?schema\S* (?:is|are|has|have|must|did|does)|parameters\S* (?:is|are) (?:invalid|malformed)",
    ),
    # The choice of the tool.
    RefusalPattern(
        "DeepSeek",
        "Thinking mode does not support this tool_choice",
        "tool_choice",
        r"support (?:this|the provided) '?tool_choice",
    ),
    RefusalPattern(
        "DeepSeek",
        "tool_choice: expected one of `none`, `auto` at line 1",
        "tool_choice",
        r"tool_choice: (?:expected|unknown|invalid|input should)",
    ),
    RefusalPattern("Mistral", "Invalid tool_choice: required", "tool_choice", r"invalid (?:value for )?'?tool_choice"),
    # Fields of the body; {quoted} is the name of one, in quotes if it is also an ordinary word.
    RefusalPattern(
        "OpenAI",
        "Unsupported parameter: 'max_tokens' is not supported with this model.",
        "field",
        rf"(?:{_REFUSED}|invalid|extraneous|extra) (?:\w+ ){{0,3}}?{_NOUN}(?: \w+){{0,2}}[ :\[('\"`]+{_FIELD}",
    ),
    RefusalPattern(
        "Groq", "property 'logprobs' is unsupported", "field", rf"{_NOUN} {_QUOTED} is (?:invalid|unsupported)"
    ),
    RefusalPattern(
        "vLLM", "temperature=0.2 is not supported by this deployment", "field", rf"{_QUOTED}{_GAP}{_REFUSED}"
    ),
    RefusalPattern("Azure", "This model does not support the 'seed' parameter", "field", rf"{_CAN_NOT}{_GAP}{_QUOTED}"),
    RefusalPattern(
        "Anthropic", "body -> top_k: Extra inputs are not permitted", "field", rf"(?:^|[\s;]){_FIELD}: {_REFUSED}"
    ),
    # Function calls.
    RefusalPattern(
        "Ollama",
        "tiny:1b does not support tools",
        "tools",
        rf"{_CAN_NOT} (?:the use of )?(?:tools?|functions?)\b",
    ),
    RefusalPattern(
        "Gemini",
        "Function calling is not enabled for models/tiny",
        "tools",
        r"(?<!parallel )\b(?:tools|functions|tool use|(?:tool|function)[ -]?call(?:s|ing)?)\b"
        rf"{_MARK}?(?: \w+){{0,4}}? {_REFUSED}",
    ),
    RefusalPattern(
        "vLLM",
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
        "tools",
        r"requires? --enable-auto-tool-choice",
    ),
    RefusalPattern("llama.cpp", "tools param requires --jinja flag", "tools", r"requires? --jinja"),
    RefusalPattern("OpenRouter", "No endpoints found that support tool use.", "tools", r"support tool use"),
    RefusalPattern(
        "Mistral",
        "Unexpected role 'user' after role 'tool'",
        "turns",
        r"unexpected role\W.{0,12}tool|after role .{0,12}tool",
    ),
    RefusalPattern(
        "llama.cpp", "Conversation roles must alternate user/assistant/…", "turns", r"roles? must alternate"
    ),
    RefusalPattern("Gemini", "ensure the same number of function calls", "turns", r"same number of function calls"),
    RefusalPattern(
        "OpenAI",
        "An assistant message with 'tool_calls' must be followed by tool messages",
        "turns",
        r"must be followed by tool messages",
    ),
    RefusalPattern(
        "DeepSeek",
        "reasoning_content in the thinking mode must be passed back",
        "turns",
        r"in the thinking mode must be passed back",
    ),
    # Response formats.
    RefusalPattern(
        "Anyscale",
        "'response_format.type' must be 'json_schema' or 'text'",
        "response_format",
        rf"response_format\W{{0,3}}type\b.{{0,40}}?(?:must be|expected|should be|{_REFUSED})"
        r"|response_format.{0,60}input should",
    ),
    RefusalPattern(
        "Gemini",
        "Json mode is not supported for this model.",
        "response_format",
        rf"\b(?:json mode|structured outputs?|guided decoding|grammars?)\b(?: \w+){{0,4}}? {_REFUSED}"
        rf"|{_CAN_NOT} (?:json mode|structured outputs?|guided decoding|grammars?)",
    ),
    # The system role.
    RefusalPattern(
        "Gemma",
        "System role not supported",
        "system",
        rf"\b(?:system|developer) (?:role|message|prompt|instruction)s?\b(?: \w+){{0,3}}? {_REFUSED}",
    ),
    RefusalPattern(
        "OpenAI",
        "'messages[0].role' does not support 'system' with this model.",
        "system",
        rf"{_CAN_NOT} (?:the )?(?:{_MARK}?(?:system|developer){_MARK}? role|{_MARK}(?:system|developer)|system\b)",
    ),
    RefusalPattern(
        "Mistral", "Unexpected role 'system' after role 'user'", "system", r"unexpected role\W.{0,12}system"
    ),
    RefusalPattern(
        "llama.cpp", "Conversation roles must alternate user/assistant/…", "system", r"roles? must alternate"
    ),
    RefusalPattern("Gemma", "Only user and assistant roles are supported!", "system", r"only user and assistant roles"),
    # llama.cpp can't write the tools, or the turns of a call, with the model's own chat template.
    RefusalPattern(
        "llama.cpp",
        "Unable to generate parser for this template. Automatic parser generation failed",
        "tools",
        r"unable to generate parser for this template",
    ),
    # Other messages about schemas.
    RefusalPattern(
        "Mistral",
        "Schema keyword 'pattern' cannot be compiled",
        "schema",
        rf"(?<!json_)schema{_GAP}(?:{_REFUSED}|cannot|error)|(?:{_REFUSED}|cannot){_GAP}(?<!json_)schema\b",
    ),
)


def mode_of(request: Request) -> Mode:
    """Return the mode of a request."""
    schema = request.head.schema
    if "tools" in schema:
        return "tools"
    kind = schema.get("response_format", {}).get("type")
    return "json_schema" if kind == "json_schema" else "json" if kind == "json_object" else "text"


def has_system(messages: Iterable[Message]) -> bool:
    """Return whether a message has the system role."""
    return any(message.get("role") in SYSTEM_ROLES for message in messages)


def unsupported_feature(request: Request, error: ItemError) -> UnsupportedFeature | None:
    """Return what the request must not contain according to an error; None if the error is about something else."""
    if not isinstance(error, BadRequestError | NotFoundError | ServerError):
        return None
    # Template errors have status 500; 502 and the like come from gateways that never read the request.
    if isinstance(error, ServerError) and error.status not in (200, 500):
        return None
    words = _Words.of(request, error)
    fields_done = False
    for refusal in REFUSALS:
        if refusal.feature != "field":
            found = _found(refusal, request, words)
        elif fields_done:
            continue
        else:
            fields_done, found = True, _refused_field(request, words)
        if found is not None:
            return found
    return None


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
    if is_strict(schema) and ("strict" in words.places or words.refuses("strict")):
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
        return self.has(_REFUSED) if self.places else self.has(_field_pattern(name))


@lru_cache(maxsize=256)
def _field_pattern(name: str) -> str:
    """Return the pattern of the table's rows about fields, for one field."""
    word = rf"\b{re.escape(name).replace('_', '[_ ]')}\b"
    quoted = f"{_MARK}{word}{_MARK}" if name in _PLAIN_WORDS else f"{_MARK}?{word}{_MARK}?"
    rows = (refusal.pattern for refusal in REFUSALS if refusal.feature == "field")
    return "|".join(rows).replace(_QUOTED, quoted).replace(_FIELD, word)
