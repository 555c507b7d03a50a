"""Answers of every dialect → our Completion."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtasker.errors import (
    AuthenticationError,
    BadRequestError,
    BadResponseError,
    ContextLengthError,
    FilteredError,
    ItemError,
    NotFoundError,
    RateLimitError,
    ServerError,
)
from llmtasker.wire.completion import Completion, ToolCall, Usage
from llmtasker.wire.response import read_completion


def body(message, finish_reason="stop", **top):
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}], **top}


def call(arguments, name="Sort", id_="call_1"):
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def read(value, **options):
    return read_completion(json.dumps(value), **options)


def done(text=None, finish_reason="stop", **fields):
    return Completion(text=text, finish_reason=finish_reason, **fields)


ODD = 'é \u2028 \x85 \ud800 {"a": 1}\r\n '

COMPLETIONS = {
    "usual": (
        body(
            {"role": "assistant", "content": "Hello"}, model="m-1", usage={"prompt_tokens": 3, "completion_tokens": 2}
        ),
        done("Hello", model="m-1", usage=Usage(input=3, output=2)),
    ),
    "text is kept as it is": (body({"content": ODD}), done(ODD)),
    "empty text": (body({"content": ""}), done("")),
    "no content": (body({"role": "assistant"}), done()),
    "several choices": ({"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}]}, done("a", None)),
    "list of one": ([body({"content": "a"})], done("a")),
    "delta for message": ({"choices": [{"delta": {"content": "a"}}]}, done("a", None)),
    "empty message, delta": ({"choices": [{"message": None, "delta": {"content": "a"}}]}, done("a", None)),
    "text for message": ({"choices": [{"text": "a", "finish_reason": "length"}]}, done("a", "length")),
    "error null": ({**body({"content": "a"}), "error": None}, done("a")),
    "model no text": (body({"content": "a"}, model=7), done("a")),
    # content that is not a text
    "parts": (body({"content": [{"type": "text", "text": "a "}, {"type": "text", "text": " b"}]}), done("a  b")),
    "texts": (body({"content": ["a", {"text": "b"}]}), done("ab")),
    "text objects": (body({"content": [{"type": "output_text", "text": {"value": "a"}}]}), done("a")),
    "unknown parts": (body({"content": [{"type": "image_url"}, {"type": "text", "text": "a"}, None]}), done("a")),
    "no parts": (body({"content": []}), done()),
    "thinking parts": (
        body(
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                    {"type": "text", "text": "a"},
                ]
            }
        ),
        done("a", reasoning="hm"),
    ),
    "refusal part": (body({"content": [{"type": "refusal", "refusal": "no"}]}), done(refusal="no")),
    "object": (body({"content": {"team": "é"}}), done('{"team": "é"}')),
    "number": (body({"content": 4}), done("4")),
    "NaN": (body({"content": {"n": float("nan")}}), done('{"n": NaN}')),
    # tool calls
    "call": (
        body({"content": None, "tool_calls": [call(ODD)]}),
        done(tool_calls=(ToolCall(name="Sort", arguments=ODD, id="call_1"),)),
    ),
    "arguments object": (
        body({"tool_calls": [call({"team": "é"})]}),
        done(tool_calls=(ToolCall(name="Sort", arguments='{"team": "é"}', id="call_1"),)),
    ),
    "arguments null": (
        body({"tool_calls": [call(None)]}),
        done(tool_calls=(ToolCall(name="Sort", arguments="{}", id="call_1"),)),
    ),
    "arguments absent": (
        body({"tool_calls": [{"function": {"name": "Sort"}}]}),
        done(tool_calls=(ToolCall(name="Sort", arguments="{}"),)),
    ),
    "arguments empty": (
        body({"tool_calls": [call("")]}),
        done(tool_calls=(ToolCall(name="Sort", arguments="", id="call_1"),)),
    ),
    "id null": (
        body({"tool_calls": [call("{}", id_=None)]}),
        done(tool_calls=(ToolCall(name="Sort", arguments="{}"),)),
    ),
    "id number": (
        body({"tool_calls": [call("{}", id_=0)]}),
        done(tool_calls=(ToolCall(name="Sort", arguments="{}", id="0"),)),
    ),
    "name null": (
        body({"tool_calls": [call("{}", name=None)]}),
        done(tool_calls=(ToolCall(name="", arguments="{}", id="call_1"),)),
    ),
    "flat call": (
        body({"tool_calls": [{"name": "Sort", "arguments": "{}"}]}),
        done(tool_calls=(ToolCall(name="Sort", arguments="{}"),)),
    ),
    "function is a name": (
        body({"tool_calls": [{"function": "Sort", "name": "Sort"}]}),
        done(tool_calls=(ToolCall(name="Sort", arguments="{}"),)),
    ),
    "custom call": (
        body({"tool_calls": [{"custom": {"name": "Sort", "input": "x"}}]}),
        done(tool_calls=(ToolCall(name="Sort", arguments="x"),)),
    ),
    "calls no list": (
        body({"tool_calls": call("{}")}),
        done(tool_calls=(ToolCall(name="Sort", arguments="{}", id="call_1"),)),
    ),
    "calls nonsense": (body({"content": "a", "tool_calls": ["x", 3]}), done("a")),
    "legacy call": (
        body({"function_call": {"name": "Sort", "arguments": "{}"}}, "function_call"),
        done(finish_reason="tool_calls", tool_calls=(ToolCall(name="Sort", arguments="{}"),)),
    ),
    "legacy call filled in": (
        body({"content": "a", "function_call": {"name": "", "arguments": ""}, "refusal": ""}),
        done("a"),
    ),
    # reasoning and refusal
    "refusal": (body({"content": None, "refusal": "I can't"}), done(refusal="I can't")),
    "refusal as the reason": (body({"content": "no"}, "refusal"), done("no", finish_reason="refusal", refusal="no")),
    "refusal without a word": (
        body({"content": ""}, "refusal"),
        done("", finish_reason="refusal", refusal="it gives no reason"),
    ),
    "reasoning_content": (body({"content": "a", "reasoning_content": "hm"}), done("a", reasoning="hm")),
    "reasoning": (
        body({"content": "a", "reasoning": "hm", "reasoning_details": [{"text": "hm"}]}),
        done("a", reasoning="hm"),
    ),
    "reasoning_details": (
        body(
            {"content": "a", "reasoning": None, "reasoning_details": [{"summary": "h"}, {"data": "x"}, {"text": "m"}]}
        ),
        done("a", reasoning="hm"),
    ),
    "ollama's own": (
        {
            "model": "m",
            "message": {"content": "a", "thinking": "hm"},
            "done_reason": "stop",
            "prompt_eval_count": 3,
            "eval_count": 2,
        },
        done("a", reasoning="hm", model="m", usage=Usage(input=3, output=2)),
    ),
    # a filter that left something
    "filtered at the end": (body({"content": "a"}, "content_filter"), done("a", "content_filter")),
    "filter that only looks": (
        {"choices": [{"message": {"content": "a"}, "content_filter_results": {"hate": {"filtered": True}}}]},
        done("a", None),
    ),
    "filter that found nothing": (
        {"choices": [{"message": {"content": ""}, "content_filter_results": {"hate": {"filtered": False}, "x": 3}}]},
        done("", None),
    ),
}


@pytest.mark.parametrize("name", COMPLETIONS)
def test_every_dialect_gives_its_completion(name):
    value, expected = COMPLETIONS[name]
    assert read(value) == expected
    assert read_completion(json.dumps(value).encode()) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("stop", "stop"),
        ("eos", "stop"),
        ("end_turn", "stop"),
        ("STOP", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("tool_call", "tool_calls"),
        ("function_call", "tool_calls"),
        ("tool_use", "tool_calls"),
        ("safety", "content_filter"),
        ("sensitive", "content_filter"),
        ("REFUSAL", "refusal"),
        ("content_filter: SAFETY", "content_filter"),
        ("", None),
        (None, None),
        (7, None),
        ("Something New", "Something New"),
    ],
)
def test_finish_reasons_that_are_sure_get_one_word(value, expected):
    assert read(body({"content": "a"}, value)).finish_reason == expected


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"input_tokens": 3, "output_tokens": 2}, Usage(input=3, output=2)),
        ({"prompt_tokens": 3, "total_tokens": 5}, Usage(input=3, output=2)),
        ({"completion_tokens": 2, "total_tokens": 5}, Usage(input=3, output=2)),
        ({"prompt_tokens": 3.0, "completion_tokens": None}, Usage(input=3)),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 8,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 5},
            },
            Usage(input=9, output=8, input_cached=4, output_reasoning=5),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 1,
                "input_tokens_details": {"cached_tokens": 99},
                "output_tokens_details": None,
            },
            Usage(input=9, output=1, input_cached=9),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 4, "prompt_tokens_details": None},
            Usage(input=9, output=1, input_cached=4),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 1,
                "total_tokens": 60,
                "completion_tokens_details": {"reasoning_tokens": 50},
            },
            Usage(input=9, output=51, output_reasoning=50),
        ),
        ({"prompt_tokens": 0, "completion_tokens": 0}, None),
        ({"prompt_tokens": "3", "completion_tokens": True, "total_tokens": -1, "cached_tokens": float("nan")}, None),
        ({}, None),
        (None, None),
        ([], None),
    ],
)
def test_usage_under_all_its_names(counts, expected):
    assert read(body({"content": "a"}, usage=counts)).usage == expected


FAILURES = {
    "empty": ("", BadResponseError, "an empty body"),
    "blank": (" \r\n", BadResponseError, "an empty body"),
    "no JSON": ("upstream says hi", BadResponseError, "upstream says hi"),
    "cut": ('{"choices": [{"mess', BadResponseError, "not JSON"),
    "HTML": ("<!DOCTYPE html><style>p{}</style><title>Sign in</title>", BadResponseError, "Sign in"),
    "no UTF-8": (b"\xff\xfe\xfa", BadResponseError, "200 with"),
    "no object": ("[]", BadResponseError, "not an object"),
    "null": ("null", BadResponseError, "not an object"),
    "other JSON": ('{"status": "ok"}', BadResponseError, '"status": "ok"'),
    "choices null": ('{"choices": null}', BadResponseError, "without a message"),
    "choices empty": ('{"choices": []}', BadResponseError, "without a message"),
    "choices nonsense": ('{"choices": [7]}', BadResponseError, "without a message"),
    "message null": (
        '{"choices": [{"message": null, "finish_reason": "stop"}]}',
        BadResponseError,
        "without a message",
    ),
    "message text": ('{"choices": [{"message": 5}]}', BadResponseError, "without a message"),
    "deep": ("[" * 100_000, BadResponseError, "nested too deeply"),
    "huge number": ('{"choices": ' + "1" * 5000 + "}", BadResponseError, "not JSON"),
    "error text": ('{"error": "model is overloaded"}', ServerError, "model is overloaded"),
    "error object": ('{"error": {"message": "slow down", "code": 429}}', RateLimitError, "slow down"),
    "error code": ('{"error": {"message": "no", "code": "rate_limit_exceeded"}}', RateLimitError, "no"),
    "error key": ('{"error": {"message": "Invalid API key"}}', AuthenticationError, "Invalid API key"),
    "error model": ('{"error": {"message": "model x not found"}}', NotFoundError, "model x"),
    "error request": ('{"error": {"message": "x", "type": "invalid_request_error"}}', BadRequestError, "x"),
    "error length": (
        '{"error": {"message": "maximum context length is 9", "code": 400}}',
        ContextLengthError,
        "length is 9",
    ),
    "error filter": ('{"error": {"message": "x", "code": "content_filter"}}', FilteredError, "x"),
    "error unsaid": ('{"error": {"code": 7}}', ServerError, "gives no reason"),
    "error in choice": (
        '{"choices": [{"finish_reason": "error", "error": {"code": 502, "message": "gone"}}]}',
        ServerError,
        "gone",
    ),
    "message at the top": (
        '{"object": "error", "message": "too many requests", "code": 42}',
        RateLimitError,
        "too many",
    ),
    "base_resp": (
        '{"choices": null, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}',
        AuthenticationError,
        "insufficient",
    ),
    "filtered": (
        (
            '{"choices": [{"finish_reason": "content_filter", "content_filter_results": '
            '{"hate": {"filtered": true, "severity": "high"}, "violence": {"filtered": false}}}]}'
        ),
        FilteredError,
        "(hate high)",
    ),
    "filtered, unsaid": (
        '{"choices": [{"finish_reason": "content_filter", "message": {"content": ""}}]}',
        FilteredError,
        "answer. Look",
    ),
    "filtered as stop": (
        (
            '{"choices": [{"finish_reason": "stop", "message": {"content": null}, '
            '"content_filter_results": {"jailbreak": {"filtered": true, "detected": true}}}]}'
        ),
        FilteredError,
        "(jailbreak)",
    ),
}


@pytest.mark.parametrize("status", [200, 202, 204, 206])
@pytest.mark.parametrize("name", FAILURES)
def test_a_success_that_is_not_an_answer_becomes_a_typed_error(name, status):
    payload, kind, words = FAILURES[name]
    with pytest.raises(ItemError) as caught:
        read_completion(payload, content_type="text/plain", status=status)
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert status == 200 or "200" not in str(caught.value)
    assert words.replace("200", str(status)) in str(caught.value)
    assert len(str(caught.value)) < 500


def test_tokens_of_a_filtered_answer_are_counted():
    with pytest.raises(FilteredError) as caught:
        read({"choices": [{"finish_reason": "content_filter"}], "usage": {"prompt_tokens": 3, "completion_tokens": 9}})
    assert caught.value.details["usage"] == {"input": 3, "output": 9}


def test_rate_limits_of_the_response_are_on_the_completion():
    headers = {"X-RateLimit-Remaining-Requests": "9", "ratelimit": "x", "RateLimit-Reset": "5", "Date": "now"}
    limits = {"x-ratelimit-remaining-requests": "9", "ratelimit": "x", "ratelimit-reset": "5"}
    assert read(body({"content": "a"}), headers=headers).limits == limits
    assert read(body({"content": "a"}), headers={"Date": "now"}).limits is None


def events(*chunks, end="data: [DONE]\n\n"):
    return "".join(f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n" for chunk in chunks) + end


def piece(finish_reason=None, index=0, **delta):
    return {"model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": finish_reason}]}


def fragment(index, arguments, **more):
    return {"index": index, "function": {"arguments": arguments, **more.pop("function", {})}, **more}


STREAMS = {
    "text": (
        ": hello\n\n"
        + events(
            piece(role="assistant", content=""),
            piece(content="é\u2028"),
            piece(content="\x85b"),
            piece("stop"),
            {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
        ),
        done("é\u2028\x85b", model="m", usage=Usage(input=3, output=2)),
    ),
    "no end mark": (events(piece(content="a"), piece("length"), end=""), done("a", "length", model="m")),
    "end mark only": (events(piece(content="a")), done("a", None, model="m")),
    "carriage returns": (events(piece(content="a"), piece("stop")).replace("\n", "\r\n"), done("a", model="m")),
    "reasoning": (
        events(piece(reasoning_content="h"), piece(reasoning_content="m", content=None), piece("stop", content="a")),
        done("a", model="m", reasoning="hm"),
    ),
    "parts": (
        events(piece(content=[{"type": "thinking", "thinking": "hm"}]), piece("stop", content="a")),
        done("a", model="m", reasoning="hm"),
    ),
    "other choices": (events(piece(content="a"), piece(content="b", index=1), piece("stop")), done("a", model="m")),
    "call in fragments": (
        events(
            piece(tool_calls=[fragment(0, "", id="x", function={"name": "Sort"})]),
            piece(tool_calls=[fragment(0, '{"a"')]),
            piece(tool_calls=[fragment(0, ": 1}", id="x", function={"name": "Sort"})]),
            piece("tool_calls", tool_calls=[fragment(1, "{}", id="y", function={"name": "Sort"})]),
        ),
        done(
            None,
            "tool_calls",
            model="m",
            tool_calls=(
                ToolCall(name="Sort", arguments='{"a": 1}', id="x"),
                ToolCall(name="Sort", arguments="{}", id="y"),
            ),
        ),
    ),
    "two calls with one number": (
        events(
            piece(
                "tool_calls",
                tool_calls=[
                    fragment(0, "{}", id="x", function={"name": "A"}),
                    fragment(0, "{}", id="y", function={"name": "B"}),
                ],
            )
        ),
        done(
            None,
            "tool_calls",
            model="m",
            tool_calls=(ToolCall(name="A", arguments="{}", id="x"), ToolCall(name="B", arguments="{}", id="y")),
        ),
    ),
    "legacy call in fragments": (
        events(
            piece(function_call={"name": "Sort", "arguments": "{"}),
            piece("function_call", function_call={"arguments": "}"}),
        ),
        done(None, "tool_calls", model="m", tool_calls=(ToolCall(name="Sort", arguments="{}"),)),
    ),
    "JSON lines": (
        (
            '{"model": "m", "message": {"content": "a"}, "done": false}\n{"message": {"content": "b"}, '
            '"done": true, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 2}\n'
        ),
        done("ab", model="m", usage=Usage(input=3, output=2)),
    ),
    "an answer in two equal lines": (
        '{"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}\n' * 2,
        done("a"),
    ),
    "more behind the end": (
        events(piece("stop", content="a")) + events(piece("stop", content="b")),
        done("a", model="m"),
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_nobody_asked_for_is_put_together(name):
    text, expected = STREAMS[name]
    assert read_completion(text) == expected
    assert read_completion(text.encode(), content_type="text/event-stream") == expected


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (events(piece(content="a"), end=""), BadResponseError, "without a whole answer"),
        (events(), BadResponseError, "without a whole answer"),
        (
            "\n".join(
                json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}) for text in "ab"
            ),
            BadResponseError,
            "several answers",
        ),
        (events(piece(content="a"), end='data: {"choices'), BadResponseError, "not JSON"),
        (events(piece(content="a"), {"error": {"message": "x", "code": "tool_use_failed"}}, end=""), ServerError, "x"),
    ],
)
def test_a_broken_stream_is_an_error(text, kind, words):
    with pytest.raises(kind, match=words):
        read_completion(text)


def test_a_stream_of_nothing_is_an_empty_answer():
    assert read_completion(events(piece("stop"))) == done(model="m")


def test_a_body_is_shown_without_the_keys_in_it():
    with pytest.raises(BadResponseError) as caught:
        read_completion("no JSON but sk-abc123")
    assert "abc" not in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = [
    "choices",
    "message",
    "delta",
    "content",
    "type",
    "text",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "id",
    "index",
    "function_call",
    "refusal",
    "reasoning",
    "reasoning_details",
    "thinking",
    "finish_reason",
    "usage",
    "prompt_tokens",
    "completion_tokens",
    "prompt_tokens_details",
    "cached_tokens",
    "error",
    "code",
    "param",
    "metadata",
    "raw",
    "detail",
    "loc",
    "msg",
    "innererror",
    "content_filter_results",
    "filtered",
    "flagged_input",
    "reasons",
    "model",
    "done_reason",
]
likely_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "stop", "refusal", "thinking", "a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=25,
)


def outcome(payload):
    """Return the completion or the error; any other exception fails the test."""
    try:
        completion = read_completion(payload)
    except ItemError as error:
        failure = error
    else:
        assert Completion.from_json(completion.to_json()) == completion
        assert isinstance(completion.raw, str)
        return completion
    assert len(str(failure)) < 700
    assert json.loads(json.dumps(failure.to_dict()))["code"] == failure.code
    return type(failure)


@given(json_values | likely_values)
def test_any_json_gives_a_completion_or_an_item_error(value):
    text = json.dumps(value)
    for payload in (text, f"data: {text}\n\ndata: {text}\n\ndata: [DONE]\n\n"):
        assert outcome(payload) == outcome(payload.encode())


@given(likely_values)
def test_any_message_gives_a_completion_or_an_item_error(value):
    for payload in ({"choices": [{"message": value}]}, {"choices": [value]}, {"choices": value}, {"error": value}):
        outcome(json.dumps(payload))
        outcome(f"data: {json.dumps(payload)}\ndata: {json.dumps(payload).replace('message', 'delta')}\ndata: [DONE]")


@given(st.binary(max_size=200))
def test_any_bytes_give_a_completion_or_an_item_error(payload):
    outcome(payload)


@given(st.text(), st.text())
def test_texts_and_arguments_are_kept_character_for_character(text, arguments):
    found = read(body({"content": text, "tool_calls": [call(arguments)]}))
    assert found.text == text
    assert found.tool_calls[0].arguments == arguments
