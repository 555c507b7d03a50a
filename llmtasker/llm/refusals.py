"""The table of refusals: the error messages of endpoints that do not accept something, and what is learned from them.

Endpoints have no common form for this, so their messages are matched. Each row of `REFUSALS` has the provider, an
example of its message, the feature that it refuses, and the pattern that matches it. To support a new wording, add a
row: the example is its test. `{field}` is a field of the request body, such as temperature.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from llmtasker.wire.request import Message, Mode, Request

MODES: tuple[Mode, ...] = ("tools", "json_schema", "json", "text")
"""All modes, best first: the first one binds the LLM most closely to the schema. `text` works everywhere."""

TOKEN_LIMITS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
SYSTEM_ROLES = ("system", "developer")

_CAN_NOT = r"(?:(?:does|do|can) ?not|(?:does|do|ca)n't) (?:currently |yet )?(?:support|accept|permit|allow)"
REFUSED = (
    r"(?:not (?:yet |currently )?(?:supported|permitted|allowed|available|implemented|enabled|accepted|compatible)"
    r"|unsupported|unavailable|deprecated|unrecogni[sz]ed|unknown|unexpected|forbidden|cannot find field|cannot be used"
    r"|cannot both be|no longer|only the default|only \S+ is (?:allowed|supported|accepted)|may only be set"
    r"|must be (?:set to )?(?:the default|1\b)|enabled only for|extra inputs|" + _CAN_NOT + ")"
)
_NOUN = r"(?:param(?:eter)?|argument|field|property|key|name|option|input|value|setting|keyword)s?"
MARK = "['\"`]"
FIELD, QUOTED = "{field}", "{quoted}"
_GAP = r"(?:[^.,:;]|\.(?=\d)){0,50}?"
# As separate words, not "schema-7b", ".../errors/schemas", "team schema-migration", or the schema of a database.
_GRAMMAR = (
    r"(?<!\bdatabase )(?<!\bgraphql )(?<!\bprisma )(?<!\bsql )(?<![\w/-])"
    r"(?:(?:json)?schemas?|grammars?|fsm)(?![\w/-]|\.\w| (?:migration|registry|engine|server|service)s?\b)"
)
_KEYWORD = (
    r"(?:(?:min|max|unique|prefix)_?items|(?:min|max)_?length|(?:any|one|all)_?of|enum|const|additional_?properties"
    r"|multiple_?of|\$(?:ref|defs))"
)
_REGEX = r"\b(?:regex\w*|regular expressions?)\b"
_FAULT = (
    rf"(?:{REFUSED}|\b(?:refused|invalid|disabled|malformed|exceeds|unimplemented|not (?:a )?valid|error|unable"
    r"|too (?:complex|large|deep|long|many)|can ?not be|can't be|could not be|(?:compil|pars|fail|conver)\w*"
    r"|\w+n't (?:be )?(?:supported|allowed|valid|permitted)))"
)


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
    "unexplained" the same, as a guess: the message gives no reason
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
        r"|schemas?(?: \w+){0,6} (?:is |are )?(?:invalid|malformed|not valid|too (?:complex|large|deep))",
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
        "Gemini",
        "parameters.properties[a].enum[0]: expected string, got integer",
        "schema",
        rf"\b{_KEYWORD}\b\S{{0,4}}(?: is| are)? (?:{REFUSED}|expected)"
        rf"|{_CAN_NOT} (?:\w+ ){{0,2}}?(?:{_KEYWORD}|pattern)\b"
        r"|\b(?:circular|recursive) (?:\w+ )?(?:references?|schemas?|definitions?)\b|compile (?:the )?guide",
    ),
    RefusalPattern(
        "llguidance", 'Grammar error: Unimplemented keys: ["pattern"]', "schema", r"unimplemented keys|grammar error"
    ),
    RefusalPattern(
        "vLLM",
        "regex look-around, including look-ahead and look-behind, is not supported",
        "schema",
        rf"look-?(?:around|ahead|behind)|{_REGEX}{_GAP}{_FAULT}|{_FAULT}{_GAP}{_REGEX}",
    ),
    RefusalPattern(
        "llama.cpp",
        "Failed to initialize samplers: failed to parse grammar",
        "schema",
        rf"(?:fail\w*|unable|error|could not|can ?not|can't)(?: to)? (?:\w+ ){{0,3}}?(?:json[_-])?{_GRAMMAR}"
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
        rf"(?:{REFUSED}|invalid|extraneous|extra) (?:\w+ ){{0,3}}?{_NOUN}(?: \w+){{0,2}}[ :{{\[('\"`]+{FIELD}",
    ),
    RefusalPattern(
        "Groq", "property 'logprobs' is unsupported", "field", rf"{_NOUN} {QUOTED} is (?:invalid|unsupported)"
    ),
    RefusalPattern("vLLM", "temperature=0.2 is not supported by this deployment", "field", rf"{QUOTED}{_GAP}{REFUSED}"),
    RefusalPattern("Azure", "This model does not support the 'seed' parameter", "field", rf"{_CAN_NOT}{_GAP}{QUOTED}"),
    RefusalPattern(
        "Anthropic", "body -> top_k: Extra inputs are not permitted", "field", rf"(?:^|[\s;]){FIELD}: {REFUSED}"
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
        rf"{MARK}?(?: \w+){{0,4}}? {REFUSED}",
    ),
    RefusalPattern(
        "vLLM",
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
        "tools",
        r"requires? --enable-auto-tool-choice",
    ),
    RefusalPattern(
        "SGLang", "Function call parser is not set. Please set --tool-call-parser", "tools", r"--tool-call-parser"
    ),
    RefusalPattern(
        "Fireworks",
        "Unable to determine prompt template for tools",
        "tools",
        r"template (?:for|with|of) (?:the )?tools",
    ),
    RefusalPattern("Mistral", "Tool call id was a1 but must be a-z, A-Z, 0-9", "turns", r"tool call id was"),
    RefusalPattern(
        "Gemini",
        "Function calling with a response mime type: 'application/json' is unsupported",
        "tools",
        r"function calling with",
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
        rf"response_format\W{{0,3}}type\b.{{0,40}}?(?:must be|expected|should be|{REFUSED})"
        r"|response_format.{0,60}input should",
    ),
    RefusalPattern(
        "Gemini",
        "Json mode is not supported for this model.",
        "response_format",
        rf"\b(?:json mode|structured outputs?|guided decoding|grammars?)\b(?: \w+){{0,4}}? {REFUSED}"
        rf"|{_CAN_NOT} (?:json mode|structured outputs?|guided decoding|grammars?)",
    ),
    # The system role.
    RefusalPattern(
        "Gemma",
        "System role not supported",
        "system",
        rf"\b(?:system|developer) (?:role|message|prompt|instruction)s?\b(?: \w+){{0,3}}? {REFUSED}",
    ),
    RefusalPattern(
        "OpenAI",
        "'messages[0].role' does not support 'system' with this model.",
        "system",
        rf"{_CAN_NOT} (?:the )?(?:{MARK}?(?:system|developer){MARK}? role|{MARK}(?:system|developer)|system\b)",
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
        rf"{_GRAMMAR}{_GAP}(?:{REFUSED}|cannot|error)|(?:{REFUSED}|cannot){_GAP}{_GRAMMAR}",
    ),
    # Other messages that name the choice of the tool, the schema or a place in it: all rows share these.
    RefusalPattern("Zhipu", "tool_choice 参数非法，仅支持 auto", "tool_choice", r"\btool[_ ]?choice\b"),
    RefusalPattern(
        "Anthropic",
        "tools.0.input_schema: Input should be a valid dictionary",
        "schema",
        r"^(?!.*(?:\bstrict\b|tool_?choice|\bmessages\W?\d|not (?:be )?found|(?:does not|doesn't) exist)).*"
        r"(?:\btools?\W{1,4}(?:0\b|function\W)|\bfunction_?declarations?\b|input_?schema|toolconfig|tools?\.parameters"
        r"|output_(?:format|config)|response_schema|nesting depth|\bschema\.(?:properties|items|\$?defs|any_?of|type)\b"
        rf"|{_GRAMMAR}[^.;]{{0,50}}?(?:{_FAULT}|\b(?:must|should|missing|expected)\b)|{_FAULT}{_GAP}{_GRAMMAR})",
    ),
    RefusalPattern("llama.cpp", "Pattern must start with '^' and end with '$'", "schema", r"pattern must"),
    RefusalPattern(
        "Ollama",
        "json: cannot unmarshal array into Go value of type api.PropertyType",
        "schema",
        r"cannot unmarshal \w+ into go .*(?:property|tool|schema)|required for format",
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
