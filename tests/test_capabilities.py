"""What a Capabilities learns from the words of an endpoint, and what it must not."""

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
from llmtasker.llm.refusals import MODES, Lesson, mode_of
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


def drop(name):
    return Lesson("drop", name)


LESSONS = [
    # token limits
    (
        ask(),
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "max_tokens",
        Lesson("rename", "max_tokens"),
    ),
    (
        ask(),
        "Unsupported parameter: 'max_tokens' is not supported with this model.",
        None,
        Lesson("rename", "max_tokens"),
    ),
    (
        ask(limits={"max_completion_tokens": 9}),
        "Unrecognized request argument supplied: max_completion_tokens",
        None,
        Lesson("rename", "max_completion_tokens"),
    ),
    (
        ask(limits={"max_completion_tokens": 9}),
        "max_completion_tokens: Extra inputs are not permitted",
        "max_completion_tokens",
        Lesson("rename", "max_completion_tokens"),
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
    (ask(), "tools.0.function.strict: Extra inputs are not permitted", "tools.0.function.strict", Lesson("strict")),
    (ask(), "Unknown name \"strict\" at 'tools[0].function': Cannot find field.", None, Lesson("strict")),
    (
        ask(),
        "Invalid schema for function 'Sort': In context=(), 'additionalProperties' is required",
        "tools[0].function.parameters",
        Lesson("strict"),
    ),
    (ask(), "Thinking mode does not support this tool_choice", None, Lesson("tool_choice", "required")),
    (
        ask(),
        "No endpoints found that support the provided 'tool_choice' value",
        None,
        Lesson("tool_choice", "required"),
    ),
    (ask(), "tool_choice 'required' is not supported by this server", None, Lesson("tool_choice", "required")),
    (
        ask(),
        "Failed to deserialize: tool_choice: expected one of `none`, `auto` at line 1",
        None,
        Lesson("tool_choice", "required"),
    ),
    (
        ask(schema={**SCHEMAS["tools"], "tool_choice": "auto"}),
        "Thinking mode does not support this tool_choice",
        None,
        Lesson("tool_choice", "auto"),
    ),
    (ask(), "registry.example/library/tiny:1b does not support tools", None, Lesson("mode", "tools")),
    (
        ask(),
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
        None,
        Lesson("mode", "tools"),
    ),
    (ask(), "tools param requires --jinja flag", None, Lesson("mode", "tools")),
    (ask(), "`tool calling` is not supported with this model", None, Lesson("mode", "tools")),
    (ask(), "Function calling is not enabled for models/tiny", None, Lesson("mode", "tools")),
    (ask(), 'No endpoints found that support tool use. Try disabling "Sort".', None, Lesson("mode", "tools")),
    (ask(), "tools: Extra inputs are not permitted", "tools", Lesson("mode", "tools")),
    (ask(tail=[*TURNS, USER]), "Unexpected role 'user' after role 'tool'", None, Lesson("mode", "tools")),
    (
        ask(tail=[*TURNS, USER]),
        "Conversation roles must alternate user/assistant/user/assistant/...",
        None,
        Lesson("mode", "tools"),
    ),
    (ask(), "Invalid tool_choice: required", None, Lesson("tool_choice", "required")),
    (
        ask(tail=[*TURNS, USER]),
        f"{NO_PARSER} …raise_exception('Unexpected role: ' + message.role)…\nJinja Exception: Unexpected role: tool",
        None,
        Lesson("mode", "tools"),
    ),
    (
        ask(),
        f"{NO_PARSER} Error: Jinja Exception: this model calls nothing",
        None,
        Lesson("mode", "tools"),
    ),
    (
        ask(schema=sized(minLength=1_001)),
        "Failed to initialize samplers: failed to parse grammar",
        None,
        Lesson("large sizes"),
    ),
    (
        ask(schema=sized(maxLength=9_000)),
        "number of repetitions exceeds sane defaults, please reduce the number of repetitions",
        None,
        Lesson("large sizes"),
    ),
    # response formats
    (ask("json_schema"), "This response_format type is unavailable now", None, Lesson("mode", "json_schema")),
    (
        ask("json_schema"),
        "response_format: response_format.type `json_schema` is unavailable now at line 1",
        None,
        Lesson("mode", "json_schema"),
    ),
    (
        ask("json_schema"),
        "This model does not support response format `json_schema`.",
        "response_format",
        Lesson("mode", "json_schema"),
    ),
    (
        ask("json_schema"),
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
        "response_format",
        Lesson("mode", "json_schema"),
    ),
    (
        ask("json_schema"),
        "response_format value as json_schema is enabled only for api versions of 2024-08 and later",
        None,
        Lesson("mode", "json_schema"),
    ),
    (ask("json_schema"), "Structured outputs are not supported by this provider", None, Lesson("mode", "json_schema")),
    (
        ask("json_schema"),
        "Invalid schema for response_format 'Sort': In context=(), 'additionalProperties' is required",
        "response_format",
        Lesson("strict"),
    ),
    (ask("json"), "'response_format.type' must be 'json_schema' or 'text'", None, Lesson("mode", "json")),
    (ask("json"), "Json mode is not supported for this model.", None, Lesson("mode", "json")),
    (ask("json"), "json_object response format is not supported for model: m", None, Lesson("mode", "json")),
    # roles
    (ask("json"), "System role not supported", None, Lesson("system")),
    (ask("json"), "Conversation roles must alternate user/assistant/user/assistant/...", None, Lesson("system")),
    (ask("json"), "Developer instruction is not enabled for models/tiny", None, Lesson("system")),
    (
        ask("json"),
        "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
        "messages[0].role",
        Lesson("system"),
    ),
]


@pytest.mark.parametrize(("request_", "text", "param", "lesson"), LESSONS, ids=[row[1][:60] for row in LESSONS])
def test_a_refusal_teaches_one_lesson_that_the_adapted_request_heeds(request_, text, param, lesson):
    dialect = Capabilities()
    code = "unsupported_parameter" if param and text.startswith("Unsupported parameter") else None
    error = refusal(text, param=param, code=code)
    assert dialect.learn(request_, error)
    assert dialect.facts == (str(lesson),)
    assert dialect.learn(request_, error), "another call that was sent before must be told to ask again"
    assert len(dialect.facts) == 1
    if lesson.kind == "mode":
        assert dialect.mode(mode_of(request_)) != mode_of(request_)
    else:
        adapted = dialect.adapt(request_)
        assert adapted is not request_
        learnt_again = dialect.learn(adapted, error)
        # "required" gives way to "auto" first, and of two fields that exclude each other one is left.
        assert learnt_again == (lesson == Lesson("tool_choice", "required") or "cannot both be" in text)


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
    (
        ask("tools", schema={**SCHEMAS["tools"], "tools": [{"type": "function", "function": FUNCTION}]}),
        "Invalid schema for function 'Sort': array schema missing items",
        "tools[0].function.parameters",
        "invalid_function_parameters",
    ),
    (ask(), "Failed to initialize samplers: failed to parse grammar", None, None),
    (ask(schema=sized(maxLength=1_000)), "Failed to initialize samplers: failed to parse grammar", None, None),
    (ask(), f"{NO_PARSER} JSON schema error at #: unrecognized type bogus", None, None),
    # another place is at fault
    (ask(), "Invalid type for 'messages[1].content': unknown value", "messages[1].content", "invalid_type"),
    (
        ask(),
        "Missing required parameter: 'messages[0].content[0].type'.",
        "messages[0].content[0].type",
        "missing_required_parameter",
    ),
    (ask(), "", None, None),
    # ordinary words that are also names of fields
    (ask(body={"model": "m", "user": "u", "stop": "#"}), "The user is not allowed to stop this deployment", None, None),
]


@pytest.mark.parametrize(("request_", "text", "param", "code"), NOTHING, ids=[row[1][:60] for row in NOTHING])
def test_other_errors_teach_nothing(request_, text, param, code):
    dialect = Capabilities()
    assert not dialect.learn(request_, refusal(text, param=param, code=code))
    assert dialect.facts == ()
    assert dialect.adapt(request_) is request_


@pytest.mark.parametrize(
    "words", ["temperature is not supported", "This model does not support tools", "System role not supported"]
)
def test_words_of_the_user_that_the_endpoint_repeats_teach_nothing(words):
    asked = ask(tail=[{"role": "user", "content": f"My stove says:\n{words}, what now?"}])
    assert not Capabilities().learn(asked, refusal(f"could not parse input 'My stove says: {words}, what now?'"))
    assert Capabilities().learn(ask(), refusal(words)), "the same words of its own must teach"


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
    assert not Capabilities().learn(ask(), error)


@pytest.mark.parametrize(
    ("kind", "status"), [(NotFoundError, 404), (ServerError, 500), (ServerError, 200), (BadRequestError, 422)]
)
def test_refusals_come_under_many_statuses(kind, status):
    assert Capabilities().learn(ask(), refusal("System role not supported", kind=kind, status=status))


def taught(*lessons):
    dialect = Capabilities()
    for request, text in lessons:
        assert dialect.learn(request, refusal(text))
    return dialect


def test_of_the_sizes_only_the_large_ones_are_left_out():
    asked = ask(schema=sized(maxLength=9_000))
    dialect = taught((asked, "failed to parse grammar"))
    (tool,) = dialect.adapt(asked).body["tools"]
    assert tool["function"]["parameters"] == {
        "type": "object",
        "properties": {"maxLength": {"type": "string", "minLength": 2}},
        "required": ["maxLength"],
    }
    small = ask(schema=sized(maxLength=9))
    assert dialect.adapt(small) is small


def test_the_adapted_body_has_what_is_left():
    dialect = taught(
        (ask(), "'temperature' is not supported"),
        (ask(), "'logprobs' is not supported"),
        (ask(), "'parallel_tool_calls' is not supported"),
        (ask(), "tool_choice required is not supported"),
        (ask(), "Unknown parameter: 'strict'"),
        (ask(), "Use max_completion_tokens: 'max_tokens' is not supported"),
        (ask(), "System role not supported"),
    )
    assert dialect.adapt(ask()).body == {
        "model": "m",
        "top_p": 0.9,
        "seed": 1,
        "stop": ["#"],
        "tools": [{"type": "function", "function": FUNCTION}],
        "tool_choice": "auto",
        "messages": [{"role": "user", "content": "Sort the mail.\n\nWhere is my parcel?"}],
        "max_completion_tokens": 9,
    }
    assert [note.split(" is ")[0] for note in dialect.notes] == ["temperature", "logprobs"]
    assert "'no temperature'" in repr(dialect)


def test_strict_leaves_response_formats_too():
    dialect = taught((ask("json_schema"), "Invalid schema for response_format 'Sort'"))
    adapted = dialect.adapt(ask("json_schema"))
    assert adapted.body["response_format"] == {"type": "json_schema", "json_schema": {"name": "Sort", "schema": {}}}
    assert dialect.adapt(ask("json")).body["response_format"] == {"type": "json_object"}


def test_a_token_limit_that_is_refused_under_both_names_is_left_out():
    dialect = taught((ask(), "'max_tokens' is not supported"))
    assert dialect.learn(dialect.adapt(ask()), refusal("'max_completion_tokens' is not supported"))
    assert dialect.adapt(ask()).settings.limits == {}


def test_a_tool_choice_that_is_refused_altogether_is_left_out():
    dialect = taught((ask(), "Thinking mode does not support this tool_choice"))
    once = dialect.adapt(ask())
    assert once.body["tool_choice"] == "auto"
    assert dialect.learn(once, refusal("Thinking mode does not support this tool_choice"))
    assert "tool_choice" not in dialect.adapt(ask()).body


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
    dialect = taught((ask("text"), "System role not supported"))
    adapted = dialect.adapt(ask("text", head=head, tail=tail))
    assert [(message["role"], message["content"]) for message in adapted.messages] == messages


def test_equal_parts_are_adapted_once_and_left_alone_where_nothing_changes():
    dialect = taught((ask(), "'temperature' is not supported"), (ask(), "Unknown parameter: 'strict'"))
    settings, head = ask().settings, ask().head
    first, second = (dialect.adapt(Request(head, [USER], settings)) for _ in range(2))
    assert first.head is second.head
    assert first.settings is second.settings
    plain = Request(Head({}), [USER], Settings(endpoint="e", body={"model": "m"}))
    assert dialect.adapt(plain) is plain
    assert first.settings.endpoint == settings.endpoint
    assert first.settings.timeout == settings.timeout


def test_memory_for_adapted_parts_is_bounded():
    dialect = taught((ask(), "'temperature' is not supported"))
    for _ in range(600):
        assert "temperature" not in dialect.adapt(ask()).body
    assert len(dialect._known.settings) <= 257
    assert len(dialect._known.heads) <= 257


def test_modes_fall_back_in_order_and_text_always_works():
    dialect = Capabilities()
    assert [dialect.mode(mode) for mode in MODES] == list(MODES)
    for mode, text, then in [
        ("tools", "m does not support tools", "json_schema"),
        ("json_schema", "This response_format type is unavailable now", "json"),
        ("json", "json_object response format is not supported", "text"),
    ]:
        assert dialect.mode() == mode
        assert dialect.learn(ask(mode), refusal(text))
        assert dialect.mode() == then
    assert dialect.mode("text") == "text"
    assert dialect.notes[0] == "no tools mode: m does not support tools"
    assert [note.partition(":")[0] for note in dialect.notes] == [f"no {mode} mode" for mode in MODES[:3]]


def test_a_caller_who_keeps_to_a_refused_mode_is_not_told_to_ask_again():
    dialect = Capabilities()
    error = refusal("m does not support tools")
    asked, other = ask(), ask()
    assert dialect.learn(dialect.adapt(asked), error)
    assert dialect.learn(other, error), "this one was on its way before the lesson"
    assert not dialect.learn(dialect.adapt(asked), error)
    assert dialect.learn(asked, refusal("'temperature' is not supported"))
    tries = 0
    while dialect.learn(dialect.adapt(asked), error):
        tries += 1
    assert tries == 0


@pytest.mark.parametrize("mode", MODES)
def test_the_mode_of_a_request_is_told_from_its_schema(mode):
    assert mode_of(ask(mode)) == mode


def test_threads_lose_no_lesson():
    dialect = Capabilities()
    names = [f"field_{n}" for n in range(16)]
    asked = ask("text", body={"model": "m", **dict.fromkeys(names, 1)})
    threads = [
        threading.Thread(target=dialect.learn, args=(asked, refusal(f"Unknown parameter: '{name}'"))) for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(dialect.facts) == sorted(f"no {name}" for name in names)
    assert dialect.adapt(asked).body.keys() == {"model", "messages", "max_tokens"}


@given(text=st.text(max_size=300), param=st.none() | st.text(max_size=30), mode=st.sampled_from(MODES))
def test_any_text_leaves_a_request_that_can_be_sent(text, param, mode):
    dialect = Capabilities()
    asked = ask(mode)
    learnt = dialect.learn(asked, refusal(text, param=param))
    assert learnt == bool(dialect.facts)
    assert dialect.adapt(asked).content.startswith(b'{"model":"m"')


@given(st.lists(st.sampled_from(LESSONS), max_size=12))
def test_asking_again_ends(rows):
    dialect = Capabilities()
    for request, text, param, _ in rows:
        sent, tries = dialect.adapt(request), 0
        while dialect.learn(sent, refusal(text, param=param)) and dialect.mode(mode_of(sent)) == mode_of(sent):
            sent, tries = dialect.adapt(request), tries + 1
            assert tries < 4
