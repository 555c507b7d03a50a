"""Bodies and keys of requests, and completions as text."""

import copy
import json
import pickle
import string
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtasker.testing import FakeTransport
from llmtasker.values.json_values import canonical_json
from llmtasker.wire.completion import NO_USAGE, Completion, ToolCall, Usage
from llmtasker.wire.request import Head, Request, Settings, Transport

SCHEMA = {"tools": [{"type": "function", "function": {"name": "Sort"}}], "tool_choice": "required"}
HEAD = [{"role": "system", "content": "Sort."}]
TAIL = [{"role": "user", "content": "é\ud800"}]
BODY = {"model": "m", "temperature": 0.5, "seed": 7}


def request(schema=SCHEMA, head=HEAD, tail=TAIL, body=BODY, endpoint="http://here/v1", **settings):
    return Request(Head(schema, head), tail, Settings(endpoint=endpoint, body=body, **settings))


names = st.text(string.ascii_lowercase + 'é\ud800 "{', max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
fields = st.dictionaries(names.filter(lambda name: name != "messages"), values, max_size=4)
messages = st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": names | st.none()})
requests = st.builds(
    request,
    schema=fields,
    head=st.lists(messages, max_size=3),
    tail=st.lists(messages, min_size=1, max_size=3),
    body=fields,
    endpoint=names,
    limits=st.dictionaries(st.just("max_tokens"), st.integers()),
)


# ── the body ──


@given(requests)
def test_the_bytes_are_the_body(made):
    assert json.loads(made.content) == made.body
    assert made.content.isascii()
    assert made.content == canonical_json(made.body).encode()


def test_the_body_has_everything_in_the_order_of_its_parts():
    made = request(limits={"max_tokens": 5})
    assert list(made.body) == ["model", "temperature", "seed", "tools", "tool_choice", "messages", "max_tokens"]
    assert made.messages == made.body["messages"] == [*HEAD, *TAIL]


def test_a_field_that_the_user_sets_is_not_sent_twice():
    made = request(body={**BODY, "tool_choice": "auto"})
    assert made.body["tool_choice"] == "auto"
    assert made.content.count(b'"tool_choice"') == 1


def test_a_request_needs_a_message_of_its_own():
    with pytest.raises(ValueError, match="at least one message"):
        request(tail=[])


def test_numbers_that_are_not_json_are_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        request(body={"temperature": float("nan")})


# ── the key ──

CHANGES = {
    "endpoint": {"endpoint": "http://there/v1"},
    "model": {"body": {**BODY, "model": "n"}},
    "temperature": {"body": {**BODY, "temperature": 0.6}},
    "a setting away": {"body": {"model": "m", "temperature": 0.5}},
    "another setting": {"body": {**BODY, "top_p": 1}},
    "a boolean for a number": {"body": {**BODY, "seed": True}},
    "a text for a number": {"body": {**BODY, "seed": "7"}},
    "schema": {"schema": {**SCHEMA, "tool_choice": "auto"}},
    "no schema": {"schema": {}},
    "system message": {"head": [{"role": "system", "content": "Sort!"}]},
    "an example": {"head": [*HEAD, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    "input": {"tail": [{"role": "user", "content": "é"}]},
    "role": {"tail": [{"role": "system", "content": "é\ud800"}]},
    "more": {"tail": [*TAIL, *TAIL]},
    "a split message": {"tail": [{"role": "user", "content": "é"}, {"role": "user", "content": "\ud800"}]},
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_can_change_the_answer_changes_the_key(name):
    assert request(**CHANGES[name]).key != request().key


def test_all_changes_have_keys_of_their_own():
    assert len({request(**change).key for change in CHANGES.values()}) == len(CHANGES)


@pytest.mark.parametrize(
    "same",
    [
        {"limits": {"max_tokens": 5}},
        {"limits": {"max_completion_tokens": 9000}},
        {"timeout": 1.0},
        {"body": MappingProxyType(BODY)},
        {"tail": tuple(TAIL)},
    ],
)
def test_what_cannot_change_a_whole_answer_leaves_the_key(same):
    made = request(**same)
    assert made.key == request().key
    assert len(made.key) == 64


def test_where_the_head_ends_makes_no_difference():
    # The same bytes go to the same endpoint: that is the same call.
    assert request(head=[], tail=[*HEAD, *TAIL]).key == request().key


def test_the_key_is_the_same_in_every_process_and_version():
    # Users have paid for the answers under these keys: if this fails, raise KEY_VERSION, or correct the change.
    assert request().key == "5c38ff7afccd831912fc38c637e8de91189018a42e306812db6912b8963f9e4d"


@given(requests, requests)
def test_keys_are_equal_where_body_and_endpoint_are(one, other):
    def said(made):
        body = {name: value for name, value in made.body.items() if name != "max_tokens" or name in made.settings.body}
        return canonical_json([made.settings.endpoint, body])

    assert (one.key == other.key) is (said(one) == said(other))


def test_other_settings_give_another_request_with_the_same_messages():
    made = request()
    other = Request(made.head, made.tail, Settings(endpoint="e", body={"model": "n"}))
    assert other.messages == made.messages
    assert other.head is made.head
    assert json.loads(other.content)["model"] == "n"
    assert other.key != made.key


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_a_request_can_be_copied_and_pickled(again):
    made = request(limits={"max_tokens": 5})
    content, key = made.content, made.key
    assert (again(made).content, again(made).key) == (content, key)


# ── completions ──

texts = st.none() | st.text()
counts = st.integers(min_value=0)
completions = st.builds(
    Completion,
    text=texts,
    reasoning=texts,
    refusal=texts,
    finish_reason=texts,
    model=texts,
    tool_calls=st.lists(st.builds(ToolCall, name=st.text(), arguments=st.text(), id=st.text()), max_size=3).map(tuple),
    usage=st.none() | st.builds(Usage, input=counts, output=counts, input_cached=counts, output_reasoning=counts),
)


@given(completions)
def test_a_completion_comes_back_from_its_text(completion):
    text = completion.to_json()
    assert text.isascii()
    assert Completion.from_json(text) == completion


def test_the_limits_of_one_response_are_never_stored():
    completion = Completion(text="a", limits={"x-ratelimit-remaining-requests": "7"})
    assert "7" not in completion.to_json() + repr(completion)
    assert Completion.from_json(completion.to_json()) == completion


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "7",
        "null",
        '{"unknown": 1}',
        '{"tool_calls": 7}',
        '{"tool_calls": [["a"]]}',
        '{"usage": {"input": 1, "unknown": 2}}',
        '{"usage": 3}',
        '{"usage": [1]}',
        '{"usage": {"input": "1"}}',
        '{"usage": {"output": true}}',
        '{"usage": {"input": 1.5}}',
        '{"text": 5}',
        '{"text": ["a"]}',
        '{"reasoning": {}}',
        '{"model": true}',
        '{"limits": {}}',
        '{"limits": "a"}',
        '{"tool_calls": ["abc"]}',
        '{"tool_calls": [["f", 5, ""]]}',
        '{"tool_calls": [["f", {}, ""]]}',
        '{"tool_calls": [[null, "{}", ""]]}',
        '{"tool_calls": [["f", "{}", "", ""]]}',
        '{"text": ' + "[" * 100_000,
    ],
)
def test_what_is_not_a_stored_completion_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"not a stored completion|Expecting value"):
        Completion.from_json(text)


@pytest.mark.parametrize(
    ("completion", "raw"),
    [
        (Completion(), ""),
        (Completion(text="a"), "a"),
        (Completion(refusal="no"), "no"),
        (Completion(text="a", refusal="no"), "a"),
        (Completion(tool_calls=(ToolCall(name="f", arguments="{}"), ToolCall(name="f", arguments="[]"))), "{}\n[]"),
        (Completion(text=" ", tool_calls=(ToolCall(name="f", arguments="{}"),)), "{}"),
        (Completion(text="a", tool_calls=(ToolCall(name="f", arguments="{}"),)), "a"),
    ],
)
def test_the_raw_text_of_a_completion(completion, raw):
    assert completion.raw == raw


def test_usage_adds_up():
    one = Usage(input=5, output=3, input_cached=2, output_reasoning=1)
    assert (one + one) == Usage(input=10, output=6, input_cached=4, output_reasoning=2)
    assert one + NO_USAGE == one
    assert one.total == 8
    assert one.to_dict() == {"input": 5, "output": 3, "input_cached": 2, "output_reasoning": 1}
    assert NO_USAGE.to_dict() == {}


def test_a_transport_is_known_by_its_methods():
    assert isinstance(FakeTransport(), Transport)
    assert not isinstance(object(), Transport)
