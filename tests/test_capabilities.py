"""What Capabilities learns from the messages of an endpoint, and what it must not learn."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtasker.errors import (
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    ItemError,
    NotFoundError,
    RateLimitError,
    ServerError,
)
from llmtasker.llm.capabilities import Capabilities
from llmtasker.llm.refusals import MODES, REFUSALS, UnsupportedFeature, mode_of
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Head, Request, Settings

SYSTEM = {"role": "system", "content": "Sort the mail."}
USER = {"role": "user", "content": "Where is my parcel?"}
TURNS = [
    {"role": "user", "content": "I paid twice"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "Sort"}}],
    },
    {"role": "tool", "tool_call_id": "a", "content": "ok"},
]
FUNCTION = {"name": "Sort", "parameters": {"type": "object", "properties": {}}}
SCHEMAS = {
    "tools": {
        "tools": [{"type": "function", "function": {**FUNCTION, "strict": True}}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    },
    "json_schema": {
        "response_format": {"type": "json_schema", "json_schema": {"name": "Sort", "schema": {}, "strict": True}}
    },
    "json": {"response_format": {"type": "json_object"}},
    "text": {},
}
BODY = {"model": "m", "temperature": 0.2, "top_p": 0.9, "seed": 1, "stop": ["#"], "logprobs": True, "top_logprobs": 2}

NO_PARSER = "Unable to generate parser for this template. Automatic parser generation failed:"


def ask(mode="tools", *, body=BODY, limits=None, head=(SYSTEM,), tail=(USER,), schema=None):
    settings = Settings(endpoint="http://e/v1", body=body, limits={"max_tokens": 9} if limits is None else limits)
    return Request(Head(SCHEMAS[mode] if schema is None else schema, head), list(tail), settings)


def sized(**sizes):
    field = {"type": "string", "minLength": 2, **sizes}
    # A field may have the name of a keyword.
    parameters = {"type": "object", "properties": {"maxLength": field}, "required": ["maxLength"]}
    return {"tools": [{"type": "function", "function": {"name": "Sort", "parameters": parameters}}]}


def refusal(text, *, kind=BadRequestError, status=400, param=None, code=None):
    return kind(
        "the endpoint doesn't accept the request", status=status, provider_text=text, param=param, provider_code=code
    )


no = UnsupportedFeature


def drop(name):
    return no("drop", name)


LEARNED = [
    # token limits
    (
        ask(),
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "max_tokens",
        no("rename", "max_tokens"),
    ),
    (
        ask(),
        "Unsupported parameter: 'max_tokens' is not supported with this model.",
        None,
        no("rename", "max_tokens"),
    ),
    (
        ask(limits={"max_completion_tokens": 9}),
        "Unrecognized request argument supplied: max_completion_tokens",
        None,
        no("rename", "max_completion_tokens"),
    ),
    (
        ask(limits={"max_completion_tokens": 9}),
        "max_completion_tokens: Extra inputs are not permitted",
        "max_completion_tokens",
        no("rename", "max_completion_tokens"),
    ),
    # sampling
    (
        ask(),
        "Unsupported value: 'temperature' does not support 0.2. Only the default (1) value is allowed.",
        "temperature",
        drop("temperature"),
    ),
    (ask(), "invalid temperature: only 1 is allowed for this model", None, drop("temperature")),
    (ask(), "`temperature` is deprecated for this model.", None, drop("temperature")),
    (ask(), "temperature=0.2 is not supported by this deployment", None, drop("temperature")),
    (ask(), "`temperature` and `top_p` cannot both be specified for this model", None, drop("top_p")),
    (ask(), "Unsupported parameter: 'top_p' is not supported with this model.", "top_p", drop("top_p")),
    (ask(), "property 'logprobs' is unsupported", None, drop("logprobs")),
    (ask(), "logprobs is not supported by this engine", None, drop("logprobs")),
    (ask(), "Unsupported parameter: 'stop' is not supported with this model.", "stop", drop("stop")),
    (ask(), "Unrecognized request arguments supplied: stop", None, drop("stop")),
    (ask(), 'Invalid JSON payload received. Unknown name "seed": Cannot find field.', None, drop("seed")),
    (
        ask(body={"model": "m", "presence_penalty": 1}),
        "presence_penalty: Extra inputs are not permitted",
        "presence_penalty",
        drop("presence_penalty"),
    ),
    (
        ask(body={"model": "m", "frequency_penalty": 1}),
        "This model does not support the frequency_penalty parameter",
        None,
        drop("frequency_penalty"),
    ),
    (
        ask(body={"model": "m", "reasoning_effort": "low"}),
        "Unknown parameter: 'reasoning_effort'.",
        "reasoning_effort",
        drop("reasoning_effort"),
    ),
    (ask(body={"model": "m", "top_k": 5}), "body -> top_k: Extra inputs are not permitted", None, drop("top_k")),
    # tools
    (
        ask(),
        "UnsupportedParamsError: azure_ai does not support parameters: ['parallel_tool_calls'], for model=m",
        None,
        drop("parallel_tool_calls"),
    ),
    (ask(), "parallel tool calls are not supported by this model", None, drop("parallel_tool_calls")),
    (
        ask(),
        "tools.0.function.strict: Extra inputs are not permitted",
        "tools.0.function.strict",
        no("strict"),
    ),
    (ask(), "Unknown name \"strict\" at 'tools[0].function': Cannot find field.", None, no("strict")),
    (
        ask(),
        "Invalid schema for function 'Sort': In context=(), 'additionalProperties' is required",
        "tools[0].function.parameters",
        no("schema", "strict"),
    ),
    (ask(), "Thinking mode does not support this tool_choice", None, no("tool_choice", "required")),
    (
        ask(),
        "No endpoints found that support the provided 'tool_choice' value",
        None,
        no("tool_choice", "required"),
    ),
    (
        ask(),
        "tool_choice 'required' is not supported by this server",
        None,
        no("tool_choice", "required"),
    ),
    (
        ask(),
        "Failed to deserialize: tool_choice: expected one of `none`, `auto` at line 1",
        None,
        no("tool_choice", "required"),
    ),
    (
        ask(schema={**SCHEMAS["tools"], "tool_choice": "auto"}),
        "Thinking mode does not support this tool_choice",
        None,
        no("tool_choice", "auto"),
    ),
    (ask(), "registry.example/library/tiny:1b does not support tools", None, no("mode", "tools")),
    (
        ask(),
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
        None,
        no("mode", "tools"),
    ),
    (ask(), "tools param requires --jinja flag", None, no("mode", "tools")),
    (ask(), "`tool calling` is not supported with this model", None, no("mode", "tools")),
    (ask(), "Function calling is not enabled for models/tiny", None, no("mode", "tools")),
    (
        ask(),
        'No endpoints found that support tool use. Try disabling "Sort".',
        None,
        no("mode", "tools"),
    ),
    (ask(), "tools: Extra inputs are not permitted", "tools", no("mode", "tools")),
    (ask(tail=[*TURNS, USER]), "Unexpected role 'user' after role 'tool'", None, no("mode", "tools")),
    (
        ask(tail=[*TURNS, USER]),
        "Conversation roles must alternate user/assistant/user/assistant/...",
        None,
        no("mode", "tools"),
    ),
    (ask(), "Invalid tool_choice: required", None, no("tool_choice", "required")),
    (
        ask(tail=[*TURNS, USER]),
        f"{NO_PARSER} …raise_exception('Unexpected role: ' + message.role)…\nJinja Exception: Unexpected role: tool",
        None,
        no("mode", "tools"),
    ),
    (
        ask(),
        f"{NO_PARSER} Error: Jinja Exception: this model calls nothing",
        None,
        no("mode", "tools"),
    ),
    (
        ask(schema=sized(minLength=1_001)),
        "Failed to initialize samplers: failed to parse grammar",
        None,
        no("schema", "keywords"),
    ),
    (
        ask(schema=sized(maxLength=9_000)),
        "number of repetitions exceeds sane defaults, please reduce the number of repetitions",
        None,
        no("schema", "keywords"),
    ),
    (
        ask("tools", schema={**SCHEMAS["tools"], "tools": [{"type": "function", "function": FUNCTION}]}),
        "Invalid schema for function 'Sort': array schema missing items",
        "tools[0].function.parameters",
        no("schema", "json"),
    ),
    (ask(), "Failed to initialize samplers: failed to parse grammar", None, no("schema", "strict")),
    (ask(), "References ($ref) are not supported in tool schemas", None, no("schema", "strict")),
    (ask(schema=sized()), "JSON schema conversion failed", None, no("schema", "keywords")),
    (ask(), f"{NO_PARSER} JSON schema error at #: unrecognized type bogus", None, no("schema", "strict")),
    # messages that name a place in the schema, or a grammar
    *(
        (ask(), text, None, no("schema", "strict"))
        for text in (
            "tools.0.input_schema: Input should be a valid dictionary",
            "Failed to advance FSM for request 7",
            "* GenerateContentRequest.tools[0].function_declarations[0].parameters.properties[a].format: only 'enum'",
            "Unable to submit request because `Sort` functionDeclaration `a` specified other fields alongside any_of",
            "Function calling config is set without function_declarations.",
            "Invalid type for 'tools.0.function.parameters'",
            "tools.function.parameters is not a valid moonshot flavored json schema",
            "json: cannot unmarshal array into Go struct field .tools.function.parameters.properties.type of type int",
            "json: cannot unmarshal object into Go value of type api.PropertyType",
            "Pattern must start with '^' and end with '$'",
        )
    ),
    *(
        (ask("json_schema"), text, None, no("schema", "strict"))
        for text in (
            "The request cannot be compiled into a valid grammar: EBNF parser error at line 5",
            "output_format: For 'string' type, properties pattern, maxLength are not supported",
            "Grammar backend is disabled",
            "Schema: keyword 'oneOf' isn't supported",
            "schema must be an object of type object",
            "schema.properties.a: unsupported",
            "Failed to compile regex in guided decoding",
            "Unsupported regular expression",
            "The compiled grammar exceeds the size limit",
            "Your schema was refused: it is too deep",
            "grammar is not valid: Unsupported key word pattern",
            "The input schema nesting depth exceeds the maximum",
            "failed to load model vocabulary required for format",
            "Value error, minItems is not supported (type=value_error)",
            "additional_properties is not supported in the Gemini API.",
            "xgrammar does not support pattern in string",
            "Circular reference detected in $.properties.a",
            "failed to compile guide: pattern",
        )
    ),
    (ask(), "tools.0.custom.strict: Extra inputs are not permitted", None, no("strict")),
    (ask(), "Extra inputs are not permitted, field: 'tools[0].function.strict'", None, no("strict")),
    (ask(), "Function call parser is not set. Please set --tool-call-parser", None, no("mode", "tools")),
    (ask(), "Unable to determine prompt template for tools", None, no("mode", "tools")),
    (ask(), "Thinking may not be enabled when tool_choice forces tool use.", None, no("tool_choice", "required")),
    (ask(), "This model does not accept the toolConfig.toolChoice.any field", None, no("tool_choice", "required")),
    (ask("json_schema"), "Unsupported param: response_format", None, no("mode", "json_schema")),
    # response formats
    (
        ask("json_schema"),
        "This response_format type is unavailable now",
        None,
        no("mode", "json_schema"),
    ),
    (
        ask("json_schema"),
        "response_format: response_format.type `json_schema` is unavailable now at line 1",
        None,
        no("mode", "json_schema"),
    ),
    (
        ask("json_schema"),
        "This model does not support response format `json_schema`.",
        "response_format",
        no("mode", "json_schema"),
    ),
    (
        ask("json_schema"),
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
        "response_format",
        no("mode", "json_schema"),
    ),
    (
        ask("json_schema"),
        "response_format value as json_schema is enabled only for api versions of 2024-08 and later",
        None,
        no("mode", "json_schema"),
    ),
    (
        ask("json_schema"),
        "Structured outputs are not supported by this provider",
        None,
        no("mode", "json_schema"),
    ),
    (
        ask("json_schema"),
        "Invalid schema for response_format 'Sort': In context=(), 'additionalProperties' is required",
        "response_format",
        no("schema", "strict"),
    ),
    (ask("json"), "'response_format.type' must be 'json_schema' or 'text'", None, no("mode", "json")),
    (ask("json"), "Json mode is not supported for this model.", None, no("mode", "json")),
    (
        ask("json"),
        "json_object response format is not supported for model: m",
        None,
        no("mode", "json"),
    ),
    # roles
    (ask("json"), "System role not supported", None, no("system")),
    (
        ask("json"),
        "Conversation roles must alternate user/assistant/user/assistant/...",
        None,
        no("system"),
    ),
    (ask("json"), "Developer instruction is not enabled for models/tiny", None, no("system")),
    (
        ask("json"),
        "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
        "messages[0].role",
        no("system"),
    ),
]


@pytest.mark.parametrize(("request_", "text", "param", "feature"), LEARNED, ids=[row[1][:60] for row in LEARNED])
def test_a_refusal_teaches_one_lesson_that_the_adapted_request_heeds(request_, text, param, feature):
    capabilities = Capabilities()
    code = "unsupported_parameter" if param and text.startswith("Unsupported parameter") else None
    error = refusal(text, param=param, code=code)
    assert capabilities.record_error(request_, error)
    assert capabilities.facts == (str(feature),)
    assert capabilities.record_error(request_, error), "another call that was sent before must be told to ask again"
    assert len(capabilities.facts) == 1
    if feature.kind == "mode":
        assert capabilities.mode(mode_of(request_)) != mode_of(request_)
    elif feature.name in MODES:
        asked = capabilities.request(lambda mode: request_ if mode == "tools" else ask(mode), "auto")
        assert mode_of(asked) == feature.name
    else:
        adapted = capabilities.adapt(request_)
        assert adapted is not request_
        learnt_again = capabilities.record_error(adapted, error)
        # "required" becomes "auto" first, one of two fields that exclude each other remains, and the ladder of schemas
        # has more rungs.
        assert learnt_again == (
            feature == no("tool_choice", "required") or "cannot both be" in text or feature.kind == "schema"
        )


def request_with(feature, example):
    """Return a request with the feature of a row of the table."""
    fields = ("max_tokens", "logprobs", "temperature", "seed", "top_k")
    match feature:
        case "names":
            return ask(schema=named("équipe"))
        case "turns":
            return ask(tail=[*TURNS, USER])
        case "response_format":
            return ask("json")
        case "field":
            name = next(name for name in fields if name in example)
            return ask("text", body={"model": "m"}, limits={name: 1})
        case "system":
            return ask("text")
        case _:
            return ask()


@pytest.mark.parametrize("row", REFUSALS, ids=[f"{row.provider}: {row.example[:50]}" for row in REFUSALS])
def test_the_example_of_each_row_of_the_table_teaches_its_feature(row):
    asked = request_with(row.feature, row.example)
    kinds = {
        "names": ("schema", "names"),
        "schema": ("schema", "strict"),
        "tools": ("mode", "tools"),
        "turns": ("mode", "tools"),
        "response_format": ("mode", "json"),
        "tool_choice": ("tool_choice", "required"),
    }
    capabilities = Capabilities()
    assert capabilities.record_error(asked, refusal(row.example))
    (feature,) = capabilities._known.features
    if row.feature == "field":
        assert feature.kind in {"drop", "rename"}
        assert feature.name in row.example
    else:
        assert feature == no(*kinds.get(row.feature, (row.feature,)))


def named(*names):
    parameters = {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": [*names]}
    return {"tools": [{"type": "function", "function": {"name": "Sort", "parameters": parameters}}]}


NOTHING = [
    # the value is at fault
    (ask(), "Invalid 'temperature': decimal above maximum value. Expected a value <= 2.", "temperature", None),
    (ask(), "max_tokens is too large: 100000. This model supports at most 16384 completion tokens", None, None),
    (ask(), "top_p must be between 0 and 1", "top_p", None),
    # a field that was not sent
    (ask(), "Unknown parameter: 'frequency_penalty'.", "frequency_penalty", "unknown_parameter"),
    (ask("text"), "m does not support tools", None, None),
    (ask("text"), "This response_format type is unavailable now", None, None),
    (ask("text", head=()), "System role not supported", None, None),
    (ask("json"), "Conversation of 2 messages is not valid", None, None),
    # another place is at fault
    (ask(), "Invalid type for 'messages[1].content': unknown value", "messages[1].content", "invalid_type"),
    (
        ask(),
        "Missing required parameter: 'messages[0].content[0].type'.",
        "messages[0].content[0].type",
        "missing_required_parameter",
    ),
    (ask(), "messages[1].content does not match the schema of a message", None, None),
    (ask(), "model 'grammar-checker' not found", None, None),
    (ask(), "The model `schema-7b` does not exist", None, None),
    # ordinary words that are also parts of a request
    *(
        (ask(mode), text, None, None)
        for mode in ("tools", "json_schema")
        for text in (
            "Content blocked by policy: grammar exercises for minors",
            "Your budget is exceeded for team schema-migration",
            "Prisma schema engine timed out",
            "Bad input, see https://gateway.example/errors/schemas for help",
            "Content policy: grammar exercises are not allowed for minors",
            "The key of team schema-migration is not allowed to call this model",
            "Unable to reach the schema registry",
            "Error: database schema is not available",
            "The FSM team has used up its credit",
            "Blocked by guardrail: regex 'ssn' matched",
            "Prompt refused, it matches the regular expression of rule 12",
            "Request rejected by the moderation of grammar schools",
            "A pattern of abuse was found in your account",
            "The const team does not support this region",
        )
    ),
    (ask(body={"model": "m", "user": "u", "stop": "#"}), "The user is not allowed to stop this deployment", None, None),
]


@pytest.mark.parametrize(("request_", "text", "param", "code"), NOTHING, ids=[row[1][:60] for row in NOTHING])
def test_other_errors_teach_nothing(request_, text, param, code):
    capabilities = Capabilities()
    assert not capabilities.record_error(request_, refusal(text, param=param, code=code))
    assert capabilities.facts == ()
    assert capabilities.adapt(request_) is request_


# Refusals without a reason, as gateways and SDKs write them.
UNEXPLAINED = [
    "Request contains an invalid argument.",
    "Invalid request",
    "bad_request_error",
    "Provider returned error",
    "400 status code (no body)",
    "Unprocessable Entity",
    "invalid input",
    "",
]


def refused_until(capabilities, works, text, heads):
    """Send a request of the task with these heads until it works or the error is final; return the modes sent."""
    sent = []
    while True:
        request = capabilities.request(heads.__getitem__, "auto")
        sent.append(mode_of(request))
        if works(request):
            capabilities.read(request, Completion(text="{}"))
            return sent
        if not capabilities.record_error(request, refusal(text)):
            return sent


def heads_of_task():
    return {mode: ask(mode) for mode in MODES}


@pytest.mark.parametrize("text", UNEXPLAINED)
def test_a_refusal_without_a_reason_puts_the_schema_to_the_test(text):
    heads, capabilities = heads_of_task(), Capabilities()
    lean = refused_until(capabilities, lambda request: "strict" not in str(request.head.schema), text, heads)
    assert lean == ["tools", "tools"], "the first form that works is kept"
    heads, capabilities = heads_of_task(), Capabilities()
    assert refused_until(capabilities, lambda request: mode_of(request) == "text", text, heads)[-2:] == ["json", "text"]
    assert not capabilities.probe(heads["tools"]), "an answer ends the trial"
    heads, capabilities = heads_of_task(), Capabilities()
    assert refused_until(capabilities, lambda _: False, text, heads)[-1] == "text"
    assert capabilities.facts == (), "the schema was not the reason"
    assert refused_until(capabilities, lambda _: False, text, heads) == ["tools"], "and is not tried again"


def test_after_an_answer_a_refusal_without_a_reason_is_about_the_row():
    heads, capabilities = heads_of_task(), Capabilities()
    assert refused_until(capabilities, lambda _: True, "", heads) == ["tools"]
    assert refused_until(capabilities, lambda _: False, "Bad Request", heads) == ["tools"]


def test_a_reason_that_is_given_is_not_a_guess():
    for text in ("Invalid request: messages[0] is empty", "bad request, the audio is too short"):
        assert not Capabilities().record_error(ask(), refusal(text))
    assert not Capabilities().record_error(ask(), refusal("Bad Request", param="messages[0].content"))
    assert not Capabilities().record_error(ask("text"), refusal("Bad Request"))


SCHEMA_REFUSED = "Invalid JSON schema: 'pattern' is not permitted."


def test_one_call_at_a_time_tries_a_changed_schema():
    heads, capabilities = heads_of_task(), Capabilities()
    assert capabilities.probe(heads["tools"]) is None, "nothing was refused yet"
    before = capabilities.state
    assert capabilities.record_error(heads["tools"], refusal(SCHEMA_REFUSED))
    assert capabilities.state is not before
    request = capabilities.request(heads.__getitem__, "auto")
    probe, waiting = capabilities.probe(request), capabilities.probe(request)
    probe.leave()
    assert waiting.done()
    assert isinstance(capabilities.probe(request), type(probe))
    waiting = capabilities.probe(request)
    capabilities.read(request, Completion(text="{}"))
    assert waiting.done()
    assert capabilities.probe(request) is None


@pytest.mark.parametrize(
    ("error", "over"),
    [
        (refusal("the prompt is too long", kind=ContextLengthError), True),
        (refusal("messages must not be empty"), True),
        (refusal("overloaded", kind=ServerError, status=503), False),
        (refusal("slow down", kind=RateLimitError, status=429), False),
    ],
)
def test_an_error_of_the_row_ends_the_trial_of_a_schema(error, over):
    heads, capabilities = heads_of_task(), Capabilities()
    capabilities.record_error(heads["tools"], refusal(SCHEMA_REFUSED))
    request = capabilities.request(heads.__getitem__, "auto")
    capabilities.probe(request).leave()
    assert not capabilities.record_error(request, error)
    assert (capabilities.probe(request) is None) == over


@pytest.mark.parametrize(
    "words", ["temperature is not supported", "This model does not support tools", "System role not supported"]
)
def test_words_of_the_user_that_the_endpoint_repeats_teach_nothing(words):
    asked = ask(tail=[{"role": "user", "content": f"My stove says:\n{words}, what now?"}])
    assert not Capabilities().record_error(asked, refusal(f"could not parse input 'My stove says: {words}, what now?'"))
    assert Capabilities().record_error(ask(), refusal(words)), "the same words of its own must teach"


@pytest.mark.parametrize(
    "error",
    [
        refusal("temperature is not supported", kind=RateLimitError, status=429),
        refusal("temperature is not supported", kind=ContextLengthError),
        refusal("temperature is not supported", kind=AuthenticationError, status=401),
        refusal("temperature is not supported", kind=ServerError, status=503),
        ItemError("temperature is not supported"),
    ],
)
def test_only_refusals_teach(error):
    assert not Capabilities().record_error(ask(), error)


@pytest.mark.parametrize(
    ("kind", "status"), [(NotFoundError, 404), (ServerError, 500), (ServerError, 200), (BadRequestError, 422)]
)
def test_refusals_come_under_many_statuses(kind, status):
    assert Capabilities().record_error(ask(), refusal("System role not supported", kind=kind, status=status))


def taught(*lessons):
    capabilities = Capabilities()
    for request, text in lessons:
        assert capabilities.record_error(request, refusal(text))
    return capabilities


def test_of_a_schema_that_is_refused_only_the_structure_is_left():
    asked = ask(schema=sized(maxLength=9_000))
    capabilities = taught((asked, "failed to parse grammar"))
    (tool,) = capabilities.adapt(asked).body["tools"]
    assert tool["function"]["parameters"] == {
        "type": "object",
        "properties": {"maxLength": {"type": "string"}},
        "required": ["maxLength"],
    }
    other = ask(schema=sized(maxLength=9))
    assert capabilities.adapt(other) is other, "what one schema taught holds for that schema"


def test_the_adapted_body_has_what_is_left():
    capabilities = taught(
        (ask(), "'temperature' is not supported"),
        (ask(), "'logprobs' is not supported"),
        (ask(), "'parallel_tool_calls' is not supported"),
        (ask(), "tool_choice required is not supported"),
        (ask(), "Unknown parameter: 'strict'"),
        (ask(), "Use max_completion_tokens: 'max_tokens' is not supported"),
        (ask(), "System role not supported"),
    )
    assert capabilities.adapt(ask()).body == {
        "model": "m",
        "top_p": 0.9,
        "seed": 1,
        "stop": ["#"],
        "tools": [{"type": "function", "function": FUNCTION}],
        "tool_choice": "auto",
        "messages": [{"role": "user", "content": "Sort the mail.\n\nWhere is my parcel?"}],
        "max_completion_tokens": 9,
    }
    assert [note.split(" is ")[0] for note in capabilities.notes] == ["temperature", "logprobs"]
    assert "'no temperature'" in repr(capabilities)


def test_strict_leaves_response_formats_too():
    capabilities = taught((ask("json_schema"), "Unknown parameter: 'strict'"))
    adapted = capabilities.adapt(ask("json_schema"))
    assert adapted.body["response_format"] == {"type": "json_schema", "json_schema": {"name": "Sort", "schema": {}}}
    assert capabilities.adapt(ask("json")).body["response_format"] == {"type": "json_object"}


def test_a_token_limit_that_is_refused_under_both_names_is_left_out():
    capabilities = taught((ask(), "'max_tokens' is not supported"))
    assert capabilities.record_error(capabilities.adapt(ask()), refusal("'max_completion_tokens' is not supported"))
    assert capabilities.adapt(ask()).settings.limits == {}


def test_a_tool_choice_that_is_refused_altogether_is_left_out():
    capabilities = taught((ask(), "Thinking mode does not support this tool_choice"))
    once = capabilities.adapt(ask())
    assert once.body["tool_choice"] == "auto"
    assert capabilities.record_error(once, refusal("Thinking mode does not support this tool_choice"))
    assert "tool_choice" not in capabilities.adapt(ask()).body


@pytest.mark.parametrize(
    ("head", "tail", "messages"),
    [
        ([SYSTEM], [USER], [("user", "Sort the mail.\n\nWhere is my parcel?")]),
        (
            [SYSTEM, {"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}],
            [USER],
            [("user", "Sort the mail.\n\nA"), ("assistant", "B"), ("user", "Where is my parcel?")],
        ),
        ([SYSTEM], [{"role": "developer", "content": "Parcel?"}], [("user", "Sort the mail.\n\nParcel?")]),
        ([], [SYSTEM, USER], [("user", "Sort the mail.\n\nWhere is my parcel?")]),
        ([USER], [SYSTEM], [("user", "Where is my parcel?"), ("user", "Sort the mail.")]),
        (
            [SYSTEM],
            [{"role": "user", "content": [{"type": "text", "text": "A"}]}],
            [("user", [{"type": "text", "text": "Sort the mail."}, {"type": "text", "text": "A"}])],
        ),
    ],
)
def test_the_system_text_opens_the_first_user_message(head, tail, messages):
    capabilities = taught((ask("text"), "System role not supported"))
    adapted = capabilities.adapt(ask("text", head=head, tail=tail))
    assert [(message["role"], message["content"]) for message in adapted.messages] == messages


def test_equal_parts_are_adapted_once_and_left_alone_where_nothing_changes():
    capabilities = taught((ask(), "'temperature' is not supported"), (ask(), "Unknown parameter: 'strict'"))
    settings, head = ask().settings, ask().head
    first, second = (capabilities.adapt(Request(head, [USER], settings)) for _ in range(2))
    assert first.head is second.head
    assert first.settings is second.settings
    plain = Request(Head({}), [USER], Settings(endpoint="e", body={"model": "m"}))
    assert capabilities.adapt(plain) is plain
    assert first.settings.endpoint == settings.endpoint
    assert first.settings.timeout == settings.timeout


def test_memory_for_adapted_parts_is_bounded():
    capabilities = taught((ask(), "'temperature' is not supported"))
    for _ in range(600):
        assert "temperature" not in capabilities.adapt(ask()).body
    assert len(capabilities._known.settings) <= 257
    assert len(capabilities._known.heads) <= 257


def test_modes_fall_back_in_order_and_text_always_works():
    capabilities = Capabilities()
    assert [capabilities.mode(mode) for mode in MODES] == list(MODES)
    for mode, text, then in [
        ("tools", "m does not support tools", "json_schema"),
        ("json_schema", "This response_format type is unavailable now", "json"),
        ("json", "json_object response format is not supported", "text"),
    ]:
        assert capabilities.mode() == mode
        assert capabilities.record_error(ask(mode), refusal(text))
        assert capabilities.mode() == then
    assert capabilities.mode("text") == "text"
    assert capabilities.notes[0] == "no tools mode: m does not support tools"
    assert [note.partition(":")[0] for note in capabilities.notes] == [f"no {mode} mode" for mode in MODES[:3]]


def test_a_caller_who_keeps_to_a_refused_mode_is_not_told_to_ask_again():
    capabilities = Capabilities()
    error = refusal("m does not support tools")
    asked, other = ask(), ask()
    assert capabilities.record_error(capabilities.adapt(asked), error)
    assert capabilities.record_error(other, error), "this one was on its way before the lesson"
    assert not capabilities.record_error(capabilities.adapt(asked), error)
    assert capabilities.record_error(asked, refusal("'temperature' is not supported"))
    tries = 0
    while capabilities.record_error(capabilities.adapt(asked), error):
        tries += 1
    assert tries == 0


@pytest.mark.parametrize("mode", MODES)
def test_the_mode_of_a_request_is_read_from_its_schema(mode):
    assert mode_of(ask(mode)) == mode


def test_threads_lose_no_lesson():
    capabilities = Capabilities()
    names = [f"field_{n}" for n in range(16)]
    asked = ask("text", body={"model": "m", **dict.fromkeys(names, 1)})
    threads = [
        threading.Thread(target=capabilities.record_error, args=(asked, refusal(f"Unknown parameter: '{name}'")))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(capabilities.facts) == sorted(f"no {name}" for name in names)
    assert capabilities.adapt(asked).body.keys() == {"model", "messages", "max_tokens"}


@given(text=st.text(max_size=300), param=st.none() | st.text(max_size=30), mode=st.sampled_from(MODES))
def test_any_text_leaves_a_request_that_can_be_sent(text, param, mode):
    capabilities = Capabilities()
    asked = ask(mode)
    learnt = capabilities.record_error(asked, refusal(text, param=param))
    assert learnt == bool(capabilities.facts)
    assert capabilities.adapt(asked).content.startswith(b'{"model":"m"')


@given(st.lists(st.sampled_from(LEARNED), max_size=12))
def test_asking_again_ends(rows):
    capabilities = Capabilities()
    for request, text, param, _ in rows:
        sent, tries = capabilities.adapt(request), 0
        while capabilities.record_error(sent, refusal(text, param=param)) and capabilities.mode(
            mode_of(sent)
        ) == mode_of(sent):
            sent, tries = capabilities.adapt(request), tries + 1
            assert tries < 4
