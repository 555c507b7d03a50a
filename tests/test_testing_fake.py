"""FakeTransport: returns the given answers, and counts its requests."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from llmtasker.errors import ConfigurationError, RateLimitError
from llmtasker.testing import FakeTransport, last_user_text
from llmtasker.testing.generate import answer_from_schema
from llmtasker.wire.completion import Completion, ToolCall
from llmtasker.wire.request import Head, Request, Settings, Transport

TOOL = {
    "tools": [{"type": "function", "function": {"name": "Triage", "parameters": {"properties": {"a": {"const": 1}}}}}]
}


def request(text: str = "Where is my parcel?", schema: dict[str, Any] | None = None) -> Request:
    return Request(
        Head(schema or {}), [{"role": "user", "content": text}], Settings(endpoint="fake", body={"model": "m"})
    )


def both_ways(fake: FakeTransport, asked: Request) -> Completion:
    """Ask blocking and awaiting; the answers are the same."""
    completion = fake.send(asked)
    assert anyio.run(fake.asend, asked) == completion
    return completion


def test_it_is_a_transport() -> None:
    assert isinstance(FakeTransport(), Transport)


def test_text_is_the_content_verbatim_whatever_is_asked_for() -> None:
    completion = both_ways(FakeTransport(' {"a": '), request(schema=TOOL))
    assert (completion.text, completion.tool_calls, completion.finish_reason) == (' {"a": ', (), "stop")
    assert completion.model == "m"
    assert completion.usage is not None
    assert completion.usage.output == 2
    assert completion.usage.input == len(request(schema=TOOL).content) // 4 + 1


@pytest.mark.parametrize("answer", [{"a": "é"}, {"a": float("nan")}])
def test_json_comes_as_a_call_of_the_one_tool_or_else_as_content(answer: dict[str, Any]) -> None:
    text = json.dumps(answer, ensure_ascii=False)
    called = both_ways(FakeTransport(answer), request(schema=TOOL))
    assert called.tool_calls == (ToolCall(name="Triage", arguments=text, id="call_1"),)
    assert (called.text, called.finish_reason) == (None, "tool_calls")
    assert both_ways(FakeTransport(answer), request()).text == text
    two_tools = {"tools": TOOL["tools"] * 2}
    assert both_ways(FakeTransport(answer), request(schema=two_tools)).text == text


def test_a_completion_goes_out_as_it_is() -> None:
    completion = Completion(refusal="no")
    assert both_ways(FakeTransport(completion), request()) is completion


def test_an_error_is_raised_each_time_without_growing_its_traceback() -> None:
    fake = FakeTransport(RateLimitError("slow down", retry_after=2.0))
    lengths = set()
    for _ in range(3):
        with pytest.raises(RateLimitError, match="slow down") as caught:
            fake.send(request())
        lengths.add(len(caught.traceback))
    assert len(lengths) == 1
    with pytest.raises(RateLimitError):
        anyio.run(fake.asend, request())
    assert (fake.calls, fake.in_flight) == (4, 0)


def test_without_answers_the_schema_is_answered() -> None:
    assert both_ways(FakeTransport(), request(schema=TOOL)).tool_calls[0].arguments == '{"a": 1}'
    assert both_ways(FakeTransport(), request("hello")).text == "answer: hello"


@pytest.mark.parametrize("text", ["hello", "no number", "7 parts"])
def test_a_decimal_is_a_number(text: str) -> None:
    price = {"anyOf": [{"type": "number"}, {"type": "string"}]}
    schema = {"type": "object", "properties": {"price": price}, "required": ["price"]}
    for seed in range(9):
        assert isinstance(answer_from_schema(schema, text, seed=seed)["price"], int | float)


def test_a_sequence_is_used_up_in_order_then_fails_clearly() -> None:
    fake = FakeTransport(["one", RateLimitError("wait"), {"a": 1}, ["a", "list"]])
    assert fake.send(request()).text == "one"
    with pytest.raises(RateLimitError):
        fake.send(request())
    assert fake.send(request()).text == '{"a": 1}'
    assert fake.send(request()).text == '["a", "list"]'
    for number in (5, 6):
        with pytest.raises(AssertionError, match=rf"no answer left.*4 answer.*call {number}.*'Where is my parcel\?'"):
            fake.send(request())
    assert FakeTransport(("a tuple",)).send(request()).text == "a tuple"


def test_a_handler_sees_the_request_and_requests_are_kept() -> None:
    fake = FakeTransport(lambda asked: last_user_text(asked).upper(), endpoint="elsewhere")
    assert both_ways(fake, request("abc")).text == "ABC"
    assert [last_user_text(kept) for kept in fake.requests] == ["abc", "abc"]
    assert (fake.calls, fake.endpoint) == (2, "elsewhere")
    unkept = FakeTransport("x", keep_requests=False)
    unkept.send(request())
    assert (unkept.requests, unkept.calls) == ([], 1)


async def echo(asked: Request) -> str:
    await anyio.lowlevel.checkpoint()
    return last_user_text(asked)


def test_a_coroutine_handler_serves_asend_only() -> None:
    fake = FakeTransport(echo)
    assert anyio.run(fake.asend, request("abc")).text == "abc"
    with pytest.raises(ConfigurationError, match="plain function"):
        fake.send(request())


def test_calls_in_flight_are_counted_in_tasks_and_threads() -> None:
    async def ask_together(fake: FakeTransport, count: int) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(fake.asend, request())

    fake = FakeTransport("x", latency=0.01)
    anyio.run(ask_together, fake, 7)
    assert (fake.calls, fake.max_in_flight, fake.in_flight) == (7, 7, 0)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(200):
            pool.submit(fake.send, request())
        fake.latency = 0.0
    assert (fake.calls, len(fake.requests), fake.in_flight) == (207, 207, 0)


def test_closing_is_remembered() -> None:
    fake, other = FakeTransport(), FakeTransport()
    assert not fake.closed
    fake.close()
    anyio.run(other.aclose)
    assert fake.closed
    assert other.closed
