"""The faults of FaultyServer one by one, without a network; the clock is an argument."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random
from typing import Any

import pytest

from llmtasker.testing import (
    GROUP_FAULTS,
    MALFORMATIONS,
    BadGroup,
    Body,
    Call,
    ContentFilter,
    ContextLimit,
    Cut,
    Delay,
    Drip,
    Fault,
    Hang,
    Limit,
    Malformed,
    Outage,
    Refusal,
    Rejects,
    RepeatsInput,
    Reply,
    Reset,
    Status,
    Storm,
    TwoCalls,
    WrongTool,
)
from llmtasker.testing.exchange import completion_for
from llmtasker.testing.faults import retry_headers

TOOLS = [{"type": "function", "function": {"name": "f", "strict": True, "parameters": {"properties": {"seed": {}}}}}]
ROWS = [{"id": f"i{n}", "anchor": f"words {n}", "team": f"t{n}"} for n in range(4)]


def call(text: str = "hello", *, now: float = 0.0, tokens: int = 10, seed: int = 0, **body: Any) -> Call:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **body}
    return Call(number=1, body=body, now=now, input_tokens=tokens, random=Random(seed))


def reply_to(asked: Call, *faults: Callable[[Call, Reply], None], answer: Any = "fine") -> Reply:
    reply = Reply(lambda: completion_for(asked, answer))
    for fault in faults:
        fault(asked, reply)
    return reply


def statuses(fault: Fault, times: list[float]) -> list[int]:
    return [reply_to(call(now=now), fault).status for now in times]


def error_of(reply: Reply) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(reply.content())["error"]
    return error


def test_an_untouched_reply_is_a_chat_completion() -> None:
    reply = reply_to(call(), answer="fine")
    assert reply.is_answer
    assert json.loads(reply.content())["choices"][0]["message"] == {
        "role": "assistant",
        "content": "fine",
        "refusal": None,
    }
    assert reply.choice["finish_reason"] == "stop"
    assert reply.completion["usage"] == {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    assert reply.tokens == 12


def test_json_is_a_call_of_the_one_tool_else_content_and_choices_are_a_whole_completion() -> None:
    called = reply_to(call(tools=TOOLS), answer={"a": 1})
    assert called.message["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert (called.text, called.choice["finish_reason"]) == ('{"a": 1}', "tool_calls")
    assert reply_to(call(), answer=[1]).message["content"] == "[1]"
    assert reply_to(call(tools=TOOLS), answer="text").message["content"] == "text"
    assert reply_to(call(), answer={"choices": []}).completion == {"choices": []}


def test_selection_by_count_share_text_predicate_and_input() -> None:
    first = Status(500, first=2)
    assert statuses(first, [0.0] * 4) == [500, 500, 200, 200]
    assert first.hits == 2
    first.reset()
    assert (first.hits, statuses(first, [0.0])) == (0, [500])

    rng = Random(1)
    share = Status(500, share=0.25)
    for _ in range(1_000):
        asked = call()
        asked.random = rng
        reply_to(asked, share)
    assert 200 < share.hits < 300

    assert reply_to(call("a poisoned row"), Status(400, when="poison")).status == 400
    assert reply_to(call("a row"), Status(400, when="poison")).status == 200
    assert reply_to(call(temperature=1), Status(400, when=lambda asked: "temperature" in asked.body)).status == 400

    once_each = Status(503, first=1, per_input=True)
    assert [reply_to(call(text), once_each).status for text in "abab"] == [503, 503, 200, 200]


def test_faults_are_applied_in_order_until_one_replaced_the_answer() -> None:
    cut, late = Cut(), Status(500)
    reply = reply_to(call(), Status(429), cut, late)
    assert (reply.status, cut.hits, late.hits) == (429, 0, 0)
    both = reply_to(call(), Cut(keep=0.25), Delay(0.5), answer="four")
    assert (both.text, both.delay) == ("f", 0.5)


def test_a_plain_function_is_a_fault_and_a_fault_needs_apply() -> None:
    def shout(asked: Call, reply: Reply) -> None:
        reply.text = asked.text.upper()

    assert reply_to(call("abc"), shout).text == "ABC"
    with pytest.raises(NotImplementedError):
        reply_to(call(), Fault())


def test_status_carries_message_code_and_headers() -> None:
    reply = reply_to(call(), Status(429, "slow", code="c", wait=1.2, headers={"x-a": "b"}))
    assert (reply.status, reply.headers) == (429, {"x-a": "b", "retry-after": "2"})
    assert error_of(reply) == {"message": "slow", "type": "invalid_request_error", "param": None, "code": "c"}
    assert reply_to(call(), Status(500)).headers == {}


def test_retry_headers_never_ask_for_too_little() -> None:
    assert retry_headers(1.001, "seconds") == {"retry-after": "2"}
    assert retry_headers(1.0001, "ms") == {"retry-after-ms": "1001"}
    before = datetime.now(UTC)
    asked = parsedate_to_datetime(retry_headers(2.5, "date")["retry-after"])
    assert 2.5 <= (asked - before).total_seconds() < 4.5


def test_a_bucket_allows_a_burst_and_then_the_rate() -> None:
    limit = Limit(requests=2, burst=3)
    assert statuses(limit, [0.0] * 5) == [200, 200, 200, 429, 429]
    assert statuses(limit, [0.4, 0.5, 0.6]) == [429, 200, 429]
    assert statuses(limit, [100.0] * 4) == [200, 200, 200, 429]
    assert limit.hits == 5
    limit.reset()
    assert statuses(limit, [0.0] * 4) == [200, 200, 200, 429]


def test_a_window_starts_again() -> None:
    limit = Limit(requests=4, window=0.5, retry_after="ms")
    assert statuses(limit, [10.0, 10.1, 10.2, 10.49]) == [200, 200, 429, 429]
    assert statuses(limit, [10.5, 10.9, 10.95]) == [200, 200, 429]
    refused = reply_to(call(now=10.96), limit)
    assert refused.headers == {"retry-after-ms": "40"}
    assert "requests" in error_of(refused)["message"]


def test_a_token_limit_counts_question_and_answer() -> None:
    limit = Limit(tokens=12, burst=24, retry_after=None)
    assert statuses(limit, [0.0, 0.0, 0.0, 0.9, 1.0]) == [200, 200, 429, 429, 200]
    # A request that is larger than the bucket waits for a full one, and is then let through.
    huge = Limit(tokens=1)
    assert statuses(huge, [0.0, 5.0, 11.0, 12.1]) == [200, 429, 429, 200]


def test_a_limit_tells_what_is_left() -> None:
    limit = Limit(requests=2, tokens=100, burst=20, tell=True, retry_after=None)
    assert reply_to(call(), limit).headers == {
        "x-ratelimit-limit-requests": "120",
        "x-ratelimit-remaining-requests": "19",
        "x-ratelimit-reset-requests": "500ms",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "8",
        "x-ratelimit-reset-tokens": "120ms",
    }
    refused = reply_to(call(), limit)
    assert (refused.status, error_of(refused)["type"]) == (429, "tokens")
    assert refused.headers["x-ratelimit-remaining-requests"] == "19"
    assert reply_to(call(), Limit()).status == 200


def test_a_storm_comes_at_the_end_of_each_period() -> None:
    storm = Storm(10.0, 2.0, retry_after="seconds")
    assert statuses(storm, [100.0, 107.9, 108.1, 109.9, 110.0, 117.0, 118.5]) == [200, 200, 429, 429, 200, 200, 429]
    assert reply_to(call(now=119.5), storm).headers == {"retry-after": "1"}
    storm.reset()
    assert statuses(storm, [119.5]) == [200]
    assert reply_to(call(now=128.5), Storm(1.0, 1.0, status=503)).status == 503


@pytest.mark.parametrize(
    ("fault", "attribute", "value"),
    [
        (Reset(), "breaks", "before_headers"),
        (Reset("after_headers"), "breaks", "after_headers"),
        (Hang(), "breaks", "hang"),
        (Delay(2.0), "delay", 2.0),
        (Drip(5.0), "bytes_per_second", 5.0),
        (Body("é", "text/plain"), "raw", "é".encode()),
        (Body("é", "text/plain"), "content_type", "text/plain"),
    ],
)
def test_faults_of_the_connection(fault: Fault, attribute: str, value: object) -> None:
    assert getattr(reply_to(call(), fault), attribute) == value


@pytest.mark.parametrize(
    ("name", "rejected"),
    [("tools", True), ("strict", True), ("model", True), ("temperature", False), ("seed", False), ("content", False)],
)
def test_rejects_looks_at_fields_but_not_at_texts_and_types(name: str, rejected: bool) -> None:
    reply = reply_to(call(tools=TOOLS), Rejects({name: f"no {name} here", "other": ""}))
    assert (reply.status == 400) is rejected
    if rejected:
        assert error_of(reply)["message"] == f"no {name} here"


def test_context_limit() -> None:
    assert reply_to(call(tokens=10), ContextLimit(10)).status == 200
    reply = reply_to(call(tokens=11), ContextLimit(10))
    assert (reply.status, error_of(reply)["code"]) == (400, "context_length_exceeded")


def test_cut_answers() -> None:
    said = reply_to(call(tools=TOOLS), Cut(), answer={"a": 1})
    assert (said.text, said.choice["finish_reason"]) == ('{"a"', "length")
    unsaid = reply_to(call(), Cut("stop", keep=0.75), answer="four")
    assert (unsaid.text, unsaid.choice["finish_reason"]) == ("fou", "stop")


@pytest.mark.parametrize("how", MALFORMATIONS)
def test_malformations_are_not_json_but_hold_the_answer(how: str) -> None:
    reply = reply_to(call(tools=TOOLS), Malformed(how), answer={"name": "l'été", "ok": None})
    with pytest.raises(ValueError, match=r"."):
        json.loads(reply.text)
    assert ("l'été" in reply.text) is (how != "not_json")


def test_malformed_leaves_text_alone_and_any_takes_each() -> None:
    fault = Malformed()
    assert reply_to(call(), fault, answer="{text}").text == "{text}"
    assert fault.hits == 0
    texts = {reply_to(call(seed=seed), Malformed(), answer={"a": 1}).text for seed in range(100)}
    assert texts == {malform('{"a": 1}') for malform in MALFORMATIONS.values()}
    with pytest.raises(ValueError, match="unknown malformation 'typo'; one of: any, trailing_comma"):
        Malformed("typo")


def grouped(how: str, rows: list[dict[str, Any]] | None = None, seed: int = 0) -> list[dict[str, Any]]:
    answer = {"note": "n", "answers": [dict(row) for row in (ROWS if rows is None else rows)]}
    made: list[dict[str, Any]] = json.loads(reply_to(call(seed=seed), BadGroup(how), answer=answer).text)["answers"]
    return made


def right(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row in ROWS]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("how", "length", "unspoilt"),
    [
        ("missing", 3, 3),
        ("doubled", 5, 5),
        ("conflicting", 5, 4),
        ("unknown_id", 4, 3),
        ("no_id", 4, 3),
        ("swapped_ids", 4, 2),
        ("shuffled", 4, 4),
        ("shifted", 4, 0),
        ("wrong_anchor", 4, 3),
        ("invalid", 4, 3),
    ],
)
def test_group_faults(how: str, length: int, unspoilt: int, seed: int) -> None:
    rows = grouped(how, seed=seed)
    assert len(rows) == length
    assert len(right(rows)) == unspoilt
    assert rows != ROWS


def test_every_group_fault_is_tested_and_any_takes_each() -> None:
    assert len(GROUP_FAULTS) == 10
    assert len({json.dumps(grouped("any", seed=seed)) for seed in range(60)}) > 10
    with pytest.raises(ValueError, match="unknown group fault 'typo'"):
        BadGroup("typo")


def test_shifted_moves_all_but_the_ids() -> None:
    rows = grouped("shifted")
    assert [row["id"] for row in rows] == ["i0", "i1", "i2", "i3"]
    assert [row["anchor"] for row in rows] == ["words 1", "words 2", "words 3", "words 0"]


def test_shuffling_equal_looking_pairs_still_moves_them() -> None:
    assert all(grouped("shuffled", ROWS[:2], seed) == ROWS[1::-1] for seed in range(8))


@pytest.mark.parametrize(
    "answer", ["text", 3, {"a": []}, {"a": [1]}, ROWS[:1], {"a": [{"b": 1}, {"b": 2}]}, {"a": ROWS[:1]}]
)
def test_what_is_not_a_group_stays(answer: Any) -> None:
    fault = BadGroup("missing")
    text = answer if isinstance(answer, str) else json.dumps(answer)
    assert reply_to(call(), fault, answer=answer).text == text
    assert fault.hits == 0


def test_a_bare_list_is_a_group() -> None:
    assert len(json.loads(reply_to(call(), BadGroup("missing"), answer=ROWS).text)) == 3


def test_refusals_and_filters() -> None:
    refused = reply_to(call(tools=TOOLS), Refusal("no"), answer={"a": 1})
    assert refused.message == {"role": "assistant", "content": None, "refusal": "no"}
    filtered = reply_to(call(), ContentFilter())
    assert (filtered.choice["finish_reason"], filtered.text) == ("content_filter", "")
    stopped = reply_to(call(), ContentFilter("request"))
    assert (stopped.status, error_of(stopped)["code"]) == (400, "content_filter")


def test_faults_of_tool_calls() -> None:
    wrong = reply_to(call(tools=TOOLS), WrongTool("g"), answer={"a": 1})
    assert wrong.message["tool_calls"][0]["function"]["name"] == "g"
    two = reply_to(call(tools=TOOLS), TwoCalls('{"a": 2}'), answer={"a": 1})
    assert [made["function"]["arguments"] for made in two.message["tool_calls"]] == ['{"a": 1}', '{"a": 2}']
    assert len({made["id"] for made in two.message["tool_calls"]}) == 2
    for fault in (WrongTool(), TwoCalls()):
        assert "tool_calls" not in reply_to(call(), fault).message
        assert fault.hits == 0


def test_an_outage_comes_once() -> None:
    outage = Outage(starts=5.0, lasts=10.0)
    assert [reply_to(call(now=now), outage).status for now in (100.0, 104.9, 105.0, 114.9, 115.0, 500.0)] == [
        200, 200, 503, 503, 200, 200,
    ]  # fmt: skip
    outage.reset()
    assert reply_to(call(now=500.0), outage).status == 200
    assert reply_to(call(), Outage(lasts=1.0, status=None)).breaks == "before_headers"


def test_an_error_repeats_the_input() -> None:
    reply = reply_to(call("insufficient credit"), RepeatsInput("can't read {input} {here}", status=422))
    assert reply.status == 422
    assert "can't read insufficient credit {here}" in reply.content().decode()
