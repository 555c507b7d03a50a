"""Errors of every dialect → our errors, and how long to wait."""

import json
import time
from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmtasker.errors import (
    AuthenticationError,
    BadRequestError,
    CallTimeoutError,
    ContextLengthError,
    FilteredError,
    ItemError,
    NotFoundError,
    RateLimitError,
    ServerError,
)
from llmtasker.wire.error_response import error_in_success, hide_keys, read_error, retry_after
from llmtasker.wire.response import rate_limits

AZURE_FILTER = {
    "error": {
        "code": "content_filter",
        "message": "The response was filtered",
        "param": "prompt",
        "innererror": {"content_filter_result": {"violence": {"filtered": True, "severity": "medium"}}},
    }
}
REJECTIONS = [
    (400, {"error": {"message": "bad", "type": "invalid_request_error"}}, BadRequestError, "bad"),
    (400, {"error": {"message": "x", "code": "context_length_exceeded"}}, ContextLengthError, "Shorten"),
    (400, {"error": "the request exceeds the available context size"}, ContextLengthError, "context size"),
    (400, {"message": "Prompt is too long"}, ContextLengthError, "too long"),
    (400, AZURE_FILTER, FilteredError, "(violence medium)"),
    (
        400,
        {
            "error": {
                "message": "x",
                "innererror": {"code": "R", "content_filter_results": {"hate": {"filtered": True}}},
            }
        },
        FilteredError,
        "(hate)",
    ),
    (400, {"error": {"message": "flagged by our usage policy", "code": "invalid_prompt"}}, FilteredError, "flagged"),
    (
        403,
        {
            "error": {
                "code": 403,
                "message": "needs moderation",
                "metadata": {"reasons": ["violence"], "flagged_input": "my text"},
            }
        },
        FilteredError,
        "(violence)",
    ),
    (400, {"error": {"message": "x", "code": "tool_use_failed", "failed_generation": "{"}}, ServerError, "x"),
    (401, {"detail": "Invalid API Key"}, AuthenticationError, "Check the key"),
    (402, {}, AuthenticationError, "gives no reason"),
    (403, "<html><body><h1>Forbidden</h1></body></html>", AuthenticationError, "Forbidden"),
    (404, {"error": {"code": "DeploymentNotFound", "message": "no such deployment"}}, NotFoundError, "base_url"),
    (307, "", NotFoundError, "base_url"),
    (405, {"message": "Method Not Allowed"}, BadRequestError, "Method"),
    (408, "", CallTimeoutError, "408"),
    (409, "", ServerError, "409"),
    (413, "too big", ContextLengthError, "too big"),
    (
        422,
        {
            "detail": [
                {"type": "extra_forbidden", "loc": ["body", "tools", 0], "msg": "Extra inputs", "input": "secret"}
            ]
        },
        BadRequestError,
        "tools.0: Extra inputs",
    ),
    (425, "", ServerError, "425"),
    (429, {"error": {"message": "too many tokens per minute"}}, RateLimitError, "per minute"),
    (
        429,
        {"error": {"message": "Request too large for m", "code": "rate_limit_exceeded"}},
        ContextLengthError,
        "too large",
    ),
    (429, {"error": {"message": "quota", "code": "insufficient_quota"}}, AuthenticationError, "credit"),
    (429, [{"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED"}}], RateLimitError, "slow"),
    (498, "", RateLimitError, "498"),
    (500, {"error": {"message": "worker died"}}, ServerError, "worker died"),
    (500, {"error": {"message": "System role not supported", "type": "server_error"}}, BadRequestError, "System role"),
    (500, {"error": "tools param requires --jinja flag"}, BadRequestError, "--jinja"),
    (501, "not implemented", BadRequestError, "not implemented"),
    (503, "<html></html>", ServerError, "an empty HTML page"),
    (529, {"error": {"type": "overloaded_error", "message": "Overloaded"}}, ServerError, "Overloaded"),
]


@pytest.mark.parametrize(("status", "payload", "kind", "words"), REJECTIONS)
def test_statuses_and_codes_become_one_error_for_each_decision(status, payload, kind, words):
    text = payload if isinstance(payload, str) else json.dumps(payload)
    error = read_error(status, text.encode(), {})
    assert type(error) is kind
    assert error.status == status
    assert words in str(error)
    assert f"HTTP {status}" in str(error)
    assert "my text" not in str(error.to_dict())
    assert "secret" not in str(error.to_dict())
    assert type(read_error(status, text, {})) is kind


@pytest.mark.parametrize(
    ("payload", "details"),
    [
        ({"error": {"message": "m", "type": "t", "code": "c", "param": "p"}}, ("m", "c", "p")),
        ({"error": {"message": "m", "type": "t", "code": 400, "param": None}}, ("m", "t", None)),
        ({"error": {"message": "m", "code": True}}, ("m", None, None)),
        ({"error": {"message": "m", "code": 1}}, ("m", "1", None)),
        (
            {
                "object": "error",
                "message": {
                    "detail": [
                        {"loc": ["body", "seed"], "msg": "no", "type": "extra_forbidden"},
                        {"loc": "x", "msg": "y"},
                    ]
                },
            },
            ("seed: no; x: y", "extra_forbidden", "seed"),
        ),
        ({"message": '{"detail": [{"loc": ["body", "seed"], "msg": "no"}]}'}, ("seed: no", None, "seed")),
        ({"message": "{broken"}, ("{broken", None, None)),
        (
            {
                "error": {
                    "message": "Provider error",
                    "code": 400,
                    "metadata": {"raw": '{"error": {"message": "m", "param": "seed"}}'},
                }
            },
            ("m", "400", "seed"),
        ),
        ({"error": {"error": {"error": {"error": {"error": {"error": {"error": "too deep"}}}}}}}, (None, None, None)),
        ({"error": {"message": "", "code": "c"}, "detail": "d"}, ("d", None, None)),
        ({"unknown": "words"}, (None, None, None)),
        (7, (None, None, None)),
        ([], (None, None, None)),
        ("long " * 1000, (("long " * 1000)[:500].strip(), None, None)),
    ],
)
def test_the_details_keep_what_a_dialect_learns_from(payload, details):
    found = read_error(400, json.dumps(payload), {}).details
    text, *rest = (found.get(name) for name in ("provider_text", "provider_code", "param"))
    assert (text and text.strip(), *rest) == details


def test_keys_are_blacked_out():
    for text in (
        "Incorrect API key provided: sk-abc123.",
        "Bearer abc.def-ghi",
        "Incorrect API key provided: Bearer abcdef",
        "Authorization: Basic abcdef0123=",
        "key gsk_abcdef is bad",
        "api_key='abcdef'",
    ):
        error = read_error(401, json.dumps({"error": {"message": text}}), {})
        assert "abc" not in str(error.to_dict())
        assert "***" in str(error)
    for text in ("the task-force asks about a bearer", "your basic plan has no such model"):
        assert hide_keys(text) == text


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"Retry-After": "86400"}, 86400.0),
        ({"Retry-After": "-3"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
        ({"Retry-After": formatdate(NOW + 90, usegmt=True)}, 90.0),
        ({"Retry-After": formatdate(NOW - 90, usegmt=True)}, 0.0),
        ({"Retry-After": "1m30s"}, 90.0),
        ({"x-ratelimit-reset-requests": "250ms"}, 0.25),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 1.0),
        (
            {
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-reset-tokens": "6m0s",
                "x-ratelimit-remaining-tokens": "0",
            },
            360.0,
        ),
        (
            {
                "x-ratelimit-reset-requests": "2h",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "1s",
                "x-ratelimit-remaining-tokens": "0",
            },
            7200.0,
        ),
        ({"X-RateLimit-Reset": str(NOW + 12)}, 12.0),
        ({"X-RateLimit-Reset": str(int((NOW + 12) * 1000))}, 12.0),
        ({"ratelimit-reset": "30"}, 30.0),
        ({"Retry-After": "soon", "ratelimit-reset": "30"}, 30.0),
        # The clock of the server is an hour ahead, and it names a time on its own clock.
        (
            {"Retry-After": formatdate(NOW + 3630, usegmt=True), "Date": formatdate(NOW + 3600, usegmt=True)},
            30.0,
        ),
        ({"Retry-After": "30", "Date": formatdate(NOW + 3600, usegmt=True)}, 30.0),
        ({"Retry-After": formatdate(NOW + 30, usegmt=True), "Date": "soon"}, 30.0),
        # A limit on calls and one on tokens, each with its own reset.
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": datetime.fromtimestamp(NOW + 30, UTC).isoformat(),
                "anthropic-ratelimit-tokens-remaining": "5",
                "anthropic-ratelimit-tokens-reset": datetime.fromtimestamp(NOW + 300, UTC).isoformat(),
            },
            30.0,
        ),
        ({"ratelimitbysize-reset": "30", "ratelimitbysize-remaining": "0"}, 30.0),
        ({"x-ratelimit-requests-minute-reset": "40"}, 40.0),
        ({"ratelimit": '"default";r=0;t=12'}, 12.0),
        ({"ratelimit": "limit=100, remaining=0, reset=12"}, 12.0),
        ({"x-ms-retry-after-ms": "1500"}, 1.5),
        ({"Retry-After": "5, 60"}, 60.0),
        ({"Retry-After": "+5"}, 5.0),
        ({"Retry-After": "5 seconds"}, 5.0),
        ({"Retry-After": "2 Minutes"}, 120.0),
        ({"Retry-After": "1 h 30 min"}, 5400.0),
        ({"Retry-After": "PT1M30S"}, 90.0),
        ({"Retry-After": "p1dt1h"}, 90000.0),
        ({"Retry-After": "00:00:30"}, 30.0),
        ({"Retry-After": "1:02:03.5"}, 3723.5),
        ({"Retry-After": "1.00:00:30"}, 86430.0),
        ({"Retry-After": "00:00:61"}, None),
        ({"Retry-After": "10:30"}, None),
        ({"x-ratelimit-reset-tokens": "00:06:00"}, 360.0),
        ({"Retry-After": '"7"'}, 7.0),
        ({"Retry-After": "7; comment=busy"}, 7.0),
        ({"X-Retry-After": "5"}, 5.0),
        ({"Retry-After": datetime.fromtimestamp(NOW + 20, UTC).isoformat().replace("+00:00", "Z")}, 20.0),
        ({"Retry-After": "Fri, 99 Jan 2027 08:00:00 GMT"}, None),
        ({}, None),
        *(
            ({"Retry-After": text}, None)
            for text in ("", "soon", "nan", "inf", "1e5", "1_0", "٣", "9" * 400, "1s!", "Mon, 99 Foo 2026")
        ),
    ],
)
def test_retry_after_in_seconds(headers, seconds):
    found = retry_after(headers, NOW)
    assert found == (None if seconds is None else pytest.approx(seconds, abs=1e-3))


@given(
    st.dictionaries(
        st.sampled_from(["retry-after", "Retry-After-Ms", "x-ratelimit-reset-tokens", "x"]), st.text(max_size=40)
    )
)
@example({"retry-after": "Thu, 01 Jan 99999 00:00:00 GMT"})
@example({"retry-after": "Thu, 01 Jan 0001 00:00:00 +2359"})
def test_no_header_gives_a_wait_that_is_negative_or_endless(headers):
    found = retry_after(headers, NOW)
    assert found is None or 0 <= found < 1e18


@pytest.mark.parametrize(
    ("status", "text", "seconds"),
    [
        (429, "Please try again in 6m0.5s. Visit us", 360.5),
        (429, "Please try again in 250ms.", 0.25),
        (429, "Please retry after 30 seconds.", 30.0),
        (429, "Retry in 2 minutes", 120.0),
        (503, "try again in 4.5s", 4.5),
        (429, "Retry after 2 hours", 7200.0),
        (429, "try again in 500 milliseconds", 0.5),
        (429, "try again in 5 minutes and 30 seconds", 330.0),
        (429, "Please wait about 20 seconds before retrying", 20.0),
        (429, "limit resets in 12s, then go on", 12.0),
        (429, '{"error": {"message": "slow down", "retry_after": 5}}', 5.0),
        (429, '[{"error": {"message": "quota", "details": [{"@type": "RetryInfo", "retryDelay": "34.5s"}]}}]', 34.5),
        (503, '{"detail": "busy", "retry-after-seconds": 1.5}', 1.5),
        (429, '{"error": {"message": "m", "metadata": {"headers": {"X-RateLimit-Reset": "30"}}}}', 30.0),
        (429, '{"error": {"message": "m", "retry_after": "soon"}}', None),
        (400, '{"error": {"message": "m", "retry_after": 5}}', None),
        (429, "try again in 3nonsense", None),
        (429, "try again later", None),
        (400, "try again in 5s", None),
    ],
)
def test_the_wait_may_stand_in_the_text(status, text, seconds):
    assert read_error(status, text, {}).details.get("retry_after") == seconds
    if status != 400:
        assert read_error(status, text, {"Retry-After": "1"}).details["retry_after"] == 1.0


def test_a_date_to_wait_for_is_taken_from_the_clock():
    wait = read_error(503, "", {"Retry-After": formatdate(time.time() + 1000, usegmt=True)}).details["retry_after"]
    assert 900 < wait <= 1000


def test_rate_limits_are_picked_from_the_headers():
    headers = {"X-RateLimit-Remaining-Requests": "9", "ratelimit": "x", "RateLimit-Reset": "5", "Date": "now"}
    limits = {"x-ratelimit-remaining-requests": "9", "ratelimit": "x", "ratelimit-reset": "5"}
    assert rate_limits(headers) == limits
    assert rate_limits({"Date": "now"}) is None


NAMES = ["error", "errors", "message", "detail", "code", "type", "param", "metadata", "raw", "loc", "msg", "innererror"]
NAMES += ["content_filter_results", "hate", "filtered", "severity", "flagged_input", "reasons", "status_code"]
bodies = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["429", '{"a":']),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=20,
)


def check(error, status):
    assert isinstance(error, ItemError)
    assert error.status == status
    assert len(str(error)) < 700
    assert json.loads(json.dumps(error.to_dict()))["code"] == error.code


@given(bodies, st.integers(min_value=201, max_value=599))
def test_any_body_gives_an_item_error(value, status):
    check(read_error(status, json.dumps(value), {}), status)
    check(error_in_success(value), 200)
    check(error_in_success(value, status=206), 206)


@given(st.binary(max_size=200), st.integers(min_value=201, max_value=599))
def test_any_bytes_give_an_item_error(payload, status):
    check(read_error(status, payload, {}), status)
