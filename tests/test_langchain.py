"""LangChainTransport: requests through LangChain chat models, real and made up."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import anyio
import openai
import programs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import (
    FakeListChatModel,
    FakeMessagesListChatModel,
    GenericFakeChatModel,
)
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import BaseModel, Field, SecretStr, ValidationError

from llmtasker import LLM, InputField, OutputField, Retry, Signature, Task
from llmtasker.errors import (
    AuthenticationError,
    BadRequestError,
    BadResponseError,
    CallError,
    CallTimeoutError,
    ContextLengthError,
    FilteredError,
    InvalidOutputError,
    ItemError,
    NetworkError,
    NotFoundError,
    RateLimitError,
    RefusedError,
    ServerError,
    TruncatedError,
)
from llmtasker.llm.capabilities import Capabilities
from llmtasker.llm.transports.langchain import LangChainTransport, read_message, to_messages
from llmtasker.portal import portal
from llmtasker.testing import Body, ContentFilter, Cut, FaultyServer, Malformed, Refusal, Rejects, Reset, Status
from llmtasker.wire.completion import Completion, ToolCall, Usage
from llmtasker.wire.request import Head, Message, Request, Settings, Transport

KEY = "sk-not-a-real-key-0123456789"
PARAMETERS = {"type": "object", "properties": {"team": {"enum": ["billing", "delivery"]}}, "required": ["team"]}
TOOLS: dict[str, Any] = {
    "tools": [{"type": "function", "function": {"name": "Triage", "parameters": PARAMETERS, "strict": True}}],
    "tool_choice": "required",
    "parallel_tool_calls": False,
}
JSON_SCHEMA = {
    "response_format": {"type": "json_schema", "json_schema": {"name": "Triage", "schema": PARAMETERS, "strict": True}}
}
JSON_OBJECT = {"response_format": {"type": "json_object"}}
ANSWER = AIMessage(content="", tool_calls=[{"name": "Triage", "args": {"team": "billing"}, "id": "1"}])


class Triage(Signature):
    """Route a message."""

    message: str = InputField(description="what was written")
    team: Literal["billing", "delivery"] = OutputField(description="who takes it")


class Chat(BaseChatModel):
    """A chat model that returns or raises given answers, and keeps its requests."""

    says: Any = None
    temperature: float = 0.0
    api_key: SecretStr = SecretStr(KEY)
    asked: list[tuple[list[BaseMessage], dict[str, Any]]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "test"

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        self.asked.append((messages, {**kwargs, **({"stop": stop} if stop else {})}))
        said = self.says(kwargs) if callable(self.says) else self.says
        if isinstance(said, Exception):
            raise said
        return ChatResult(generations=[ChatGeneration(message=said)])


class Tooled(Chat):
    """Accepts tools, and every option that LangChain documents."""

    def bind_tools(self, tools: Any, *, tool_choice: str | None = None, **kwargs: Any) -> Any:
        return self.bind(tools=tools, tool_choice=tool_choice, **kwargs)


class Awaiting(Chat):
    """Has its own async method."""

    async def _agenerate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Any:
        await asyncio.sleep(0)
        return self._generate(messages, stop, **kwargs)


def request(
    schema: Mapping[str, Any] | None = None,
    *messages: Message,
    limits: Mapping[str, Any] | None = None,
    timeout: float = 10.0,
    **body: Any,
) -> Request:
    tail = list(messages) or [{"role": "user", "content": "Where is my parcel?"}]
    settings = Settings(endpoint="e", body=body, limits=limits or {}, timeout=timeout)
    return Request(Head(schema or {}), tail, settings)


def both_ways(chat: BaseChatModel, asked: Request) -> Completion:
    """Ask blocking and awaiting; the answers are the same."""
    transport = LangChainTransport(chat)
    completion = transport.send(asked)
    assert anyio.run(transport.asend, asked) == completion
    return completion


def failure(chat: BaseChatModel, asked: Request) -> ItemError:
    """Return the error of a blocking and of an awaited call; they are the same."""
    transport = LangChainTransport(chat)
    with pytest.raises(ItemError) as blocking:
        transport.send(asked)
    with pytest.raises(ItemError) as awaited:
        anyio.run(transport.asend, asked)
    assert (type(awaited.value), awaited.value.to_dict()) == (type(blocking.value), blocking.value.to_dict())
    assert KEY not in str(blocking.value.to_dict())
    return blocking.value


# ── the call ──


@pytest.mark.parametrize("kind", [Chat, Awaiting])
def test_text_travels_both_ways(kind: type[Chat]) -> None:
    chat = kind(says=AIMessage(content=" Bonjour "))
    assert both_ways(chat, request()) == Completion(text=" Bonjour ")
    assert [len(messages) for messages, _ in chat.asked] == [1, 1]


def test_it_is_a_transport_with_nothing_to_close() -> None:
    transport = LangChainTransport(Chat())
    assert isinstance(transport, Transport)
    transport.close()
    anyio.run(transport.aclose)


def test_settings_become_arguments_only_if_given() -> None:
    chat = Chat(says=AIMessage(content="a"))
    transport = LangChainTransport(chat)
    transport.send(request(model=transport.model))
    transport.send(request(model="other", temperature=0.5, stop="END", top_k=3, limits={"max_tokens": 9}))
    assert [kwargs for _, kwargs in chat.asked] == [
        {},
        {"model": "other", "temperature": 0.5, "top_k": 3, "max_tokens": 9, "stop": ["END"]},
    ]


def test_a_blocking_call_ends_in_time() -> None:
    done = threading.Event()

    def hang(_: object) -> AIMessage:
        done.wait(10)
        return AIMessage(content="late")

    with pytest.raises(CallTimeoutError, match=r"within 0\.05 s"):
        LangChainTransport(Chat(says=hang)).send(request(timeout=0.05))
    done.set()


def test_chat_models_that_cannot_await_do_not_wait_for_each_other() -> None:
    together = threading.Barrier(40, timeout=10)  # more than the threads of an event loop

    def meet(_: object) -> AIMessage:
        together.wait()
        return AIMessage(content="met")

    async def all_at_once() -> list[Completion]:
        transport = LangChainTransport(Chat(says=meet))
        return await asyncio.gather(*(transport.asend(request()) for _ in range(40)))

    assert {completion.text for completion in asyncio.run(all_at_once())} == {"met"}


def test_a_cancelled_wait_leaves_its_thread_in_peace() -> None:
    begun, done = threading.Event(), threading.Event()

    def wait(_: object) -> AIMessage:
        begun.set()
        done.wait(10)
        return AIMessage(content="late")

    async def cancel() -> None:
        task = asyncio.create_task(LangChainTransport(Chat(says=wait)).asend(request()))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    done.set()
    for thread in threading.enumerate():
        if thread.name == "llmtasker-langchain":
            thread.join(10)


# ── tools and formats ──


def test_tools_are_bound_once_for_a_head() -> None:
    bound: list[str | None] = []

    class Counting(Tooled):
        def bind_tools(self, tools: Any, *, tool_choice: str | None = None, **kwargs: Any) -> Any:
            bound.append(tool_choice)
            return super().bind_tools(tools, tool_choice=tool_choice, **kwargs)

    transport = LangChainTransport(Counting(says=ANSWER))
    asked = request(TOOLS)
    for _ in range(3):
        completion = transport.send(asked)
    assert completion.tool_calls == (ToolCall(name="Triage", arguments='{"team": "billing"}', id="1"),)
    assert bound == ["any"]
    for _ in range(100):
        transport.send(request(TOOLS))
    assert len(bound) == 101


def test_tools_reach_the_model_as_they_are_and_nothing_that_it_does_not_name() -> None:
    chat = Tooled(says=ANSWER)
    both_ways(chat, request(TOOLS))
    assert chat.asked[0][1] == {"tools": TOOLS["tools"], "tool_choice": "any"}
    LangChainTransport(chat).send(request({**TOOLS, "tool_choice": "auto"}))
    assert chat.asked[-1][1]["tool_choice"] is None


def test_parallel_calls_are_turned_off_where_that_is_known() -> None:
    class Parallel(Tooled):
        disabled_params: dict[str, Any] | None = None

        def bind_tools(self, tools: Any, *, parallel_tool_calls: bool | None = None, **kwargs: Any) -> Any:
            return self.bind(parallel=parallel_tool_calls, **kwargs)

    for disabled, sent in [
        (None, False),
        ({"parallel_tool_calls": None}, None),
        ({"parallel_tool_calls": [True]}, False),
    ]:
        chat = Parallel(says=ANSWER, disabled_params=disabled)
        LangChainTransport(chat).send(request(TOOLS))
        assert chat.asked[0][1] == {"parallel": sent, "tool_choice": "required"}


@pytest.mark.parametrize(("taken", "chosen"), [({"any", "Triage"}, "any"), ({"Triage"}, "Triage"), (set[str](), None)])
def test_a_choice_that_is_not_taken_is_said_in_another_way(taken: set[str], chosen: str | None) -> None:
    class Picky(Chat):
        def bind_tools(self, tools: Any, *, tool_choice: str | None = None, **_: Any) -> Any:
            if tool_choice is not None and tool_choice not in taken:
                raise ValueError(f"no such choice: {tool_choice}")
            return self.bind(choice=tool_choice)

    chat = Picky(says=ANSWER)
    LangChainTransport(chat).send(request(TOOLS))
    assert chat.asked[0][1] == {"choice": chosen}


def test_bind_tools_may_take_tools_only() -> None:
    class Bare(Chat):
        def bind_tools(self, tools: Any) -> Any:  # type: ignore[override]
            return self.bind(tools=tools)

    assert both_ways(Bare(says=ANSWER), request(TOOLS)).tool_calls


class NoTools(Chat):
    def bind_tools(self, tools: Any, **_: Any) -> Any:
        raise ValueError("this size of the model has none")


@pytest.mark.parametrize(
    ("chat", "schema", "fact"),
    [
        (Chat, TOOLS, "no tools mode"),
        (NoTools, TOOLS, "no tools mode"),
        (Chat, JSON_SCHEMA, "no json_schema mode"),
        (Chat, JSON_OBJECT, "no json mode"),
    ],
)
def test_what_a_chat_model_lacks_is_learned_without_a_call(chat: type[Chat], schema: Any, fact: str) -> None:
    made = chat(says=ANSWER)
    # Words of the user are not words of the endpoint, and do not hide them.
    asked = request(schema, {"role": "user", "content": "tools not supported by this chat model"})
    error = failure(made, asked)
    dialect = Capabilities()
    assert dialect.record_error(asked, error)
    assert dialect.facts == (fact,)
    assert made.asked == []


class Named(Chat):
    response_format: Any = None


class Method(Chat):
    def with_structured_output(
        self, schema: Any, *, method: Literal["json_schema", "json_mode"] = "json_schema", **_: Any
    ) -> Any:
        raise AssertionError


class OnlySchema(Chat):
    def with_structured_output(self, schema: Any, *, method: Literal["json_schema"] = "json_schema", **_: Any) -> Any:
        raise AssertionError


@pytest.mark.parametrize(
    ("chat", "kinds"),
    [
        (Named(), {"json_schema", "json_object"}),
        (Method(), {"json_schema", "json_object"}),
        (OnlySchema(), {"json_schema"}),
        (Chat(profile={"structured_output": True}), {"json_schema"}),
        (Chat(), set[str]()),
    ],
)
def test_a_format_is_bound_where_the_chat_model_takes_it(chat: Chat, kinds: set[str]) -> None:
    chat.says = AIMessage(content="{}")
    for schema in (JSON_SCHEMA, JSON_OBJECT):
        if schema["response_format"]["type"] in kinds:
            LangChainTransport(chat).send(request(schema))
            assert chat.asked[-1][1] == schema
        else:
            assert isinstance(failure(chat, request(schema)), BadRequestError)


@pytest.mark.parametrize(
    ("name", "schema", "fact"),
    [
        ("temperature", {}, "no temperature"),
        ("max_tokens", {}, "no max_tokens, max_completion_tokens instead"),
        ("response_format", JSON_SCHEMA, "no json_schema mode"),
        ("tool_choice", TOOLS, "no tool_choice required"),
        ("tools", TOOLS, "no tools mode"),
    ],
)
def test_an_argument_that_the_client_does_not_know_is_learned(name: str, schema: Any, fact: str) -> None:
    class Both(Tooled, Named):
        pass

    said = TypeError(f"Client.chat() got an unexpected keyword argument '{name}'")
    asked = request(schema, temperature=0.5, limits={"max_tokens": 9})
    dialect = Capabilities()
    assert dialect.record_error(asked, failure(Both(says=said), asked))
    assert dialect.facts == (fact,)


# ── messages out ──


def test_messages_lose_nothing() -> None:
    arguments = '{"team":"billing","n":1.5}'
    call = {"id": "ex0000001", "type": "function", "function": {"name": "Triage", "arguments": arguments}}
    parts = [{"type": "text", "text": "a"}]
    made = to_messages(
        [
            {"role": "system", "content": " {x} "},
            {"role": "developer", "content": "d"},
            {"role": "user", "content": "Où ? \ud83d\x00", "name": "Ada"},
            {"role": "user", "content": parts},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "ex0000001", "content": "ok"},
            {"role": "assistant", "content": "said"},
            {"role": "assistant", "content": parts},
            {"role": "critic", "content": "c"},
        ]
    )
    assert made == [
        SystemMessage(content=" {x} "),
        SystemMessage(content="d", additional_kwargs={"__openai_role__": "developer"}),
        HumanMessage(content="Où ? \ud83d\x00", name="Ada"),
        HumanMessage(content=[{"type": "text", "text": "a"}]),
        AIMessage(
            content="", tool_calls=[{"name": "Triage", "args": {"team": "billing", "n": 1.5}, "id": "ex0000001"}]
        ),
        ToolMessage(content="ok", tool_call_id="ex0000001"),
        AIMessage(content="said"),
        AIMessage(content=[{"type": "text", "text": "a"}]),
        ChatMessage(content="c", role="critic"),
    ]


@pytest.mark.parametrize("arguments", ['{"a": ', "[1]", '{"a": NaN}', '{"a": 1, "a": 2}', "[" * 100_000])
@pytest.mark.parametrize("content", [None, "Well:", [{"type": "text", "text": "Well:"}]])
def test_arguments_with_no_place_in_a_call_become_text(arguments: str, content: Any) -> None:
    call = {"id": "1", "function": {"name": "f", "arguments": arguments}}
    made = to_messages(
        [
            {"role": "assistant", "content": content, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "no JSON"},
        ]
    )
    texts = {None: arguments, "Well:": f"Well:\n{arguments}"}
    assert made[0].content == ([*content, arguments] if isinstance(content, list) else texts[content])
    assert (made[0].type, made[1]) == ("ai", HumanMessage(content="no JSON"))


@given(st.text(), st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text()))
def test_texts_and_arguments_survive(text: str, arguments: dict[str, Any]) -> None:
    call = {"id": "1", "function": {"name": "f", "arguments": json.dumps(arguments)}}
    user, assistant = to_messages(
        [{"role": "user", "content": text}, {"role": "assistant", "content": text, "tool_calls": [call]}]
    )
    assert user.content == text
    assert isinstance(assistant, AIMessage)
    read = read_message(assistant)
    assert read.text == text
    assert json.loads(read.tool_calls[0].arguments) == arguments


# ── the answer in ──

RAW = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1, "a": 2}'}}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            AIMessage(content=[{"type": "text", "text": "a"}, "b", {"type": "tool_use", "id": "1"}]),
            Completion(text="ab"),
        ),
        (
            AIMessage(content=[{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}]),
            Completion(text="a", reasoning="hm"),
        ),
        (
            AIMessage(content=[{"type": "reasoning_content", "reasoning_content": {"text": "hm"}}, "a"]),
            Completion(text="a", reasoning="hm"),
        ),
        (AIMessage(content="a", additional_kwargs={"reasoning_content": "hm"}), Completion(text="a", reasoning="hm")),
        (
            AIMessage(content="a", additional_kwargs={"reasoning": {"summary": [{"text": "hm"}]}}),
            Completion(text="a", reasoning="hm"),
        ),
        (AIMessage(content="", additional_kwargs={"refusal": "No."}), Completion(text="", refusal="No.")),
        (
            AIMessage(content="", response_metadata={"stop_reason": "refusal"}),
            Completion(text="", refusal="it gives no reason", finish_reason="refusal"),
        ),
        (
            AIMessage(
                content="",
                invalid_tool_calls=[
                    {"name": "f", "args": '{"a": ', "id": None, "error": "no JSON", "type": "invalid_tool_call"}
                ],
            ),
            Completion(text="", tool_calls=(ToolCall(name="f", arguments='{"a": '),)),
        ),
        (
            AIMessage(content="", tool_calls=[{"name": "f", "args": {"é": float("nan")}, "id": "1"}]),
            Completion(text="", tool_calls=(ToolCall(name="f", arguments='{"é": NaN}', id="1"),)),
        ),
        (
            AIMessage(content="", additional_kwargs={"tool_calls": [RAW]}),
            Completion(text="", tool_calls=(ToolCall(name="f", arguments='{"a": 1, "a": 2}', id="1"),)),
        ),
        (
            AIMessage(content="", additional_kwargs={"function_call": {"name": "f", "arguments": "{}"}}),
            Completion(text="", tool_calls=(ToolCall(name="f", arguments="{}"),)),
        ),
        (
            AIMessage(content="a", response_metadata={"finish_reason": "MAX_TOKENS", "model_name": "m"}),
            Completion(text="a", finish_reason="length", model="m"),
        ),
        (
            AIMessage(content="a", response_metadata={"stopReason": "guardrail_intervened"}),
            Completion(text="a", finish_reason="content_filter"),
        ),
        (
            AIMessage(content="a", response_metadata={"incomplete_details": {"reason": "max_output_tokens"}}),
            Completion(text="a", finish_reason="length"),
        ),
        (
            AIMessage(content="a", response_metadata={"token_usage": {"prompt_tokens": 5, "completion_tokens": 2}}),
            Completion(text="a", usage=Usage(input=5, output=2)),
        ),
        (
            AIMessage(
                content="a",
                usage_metadata={
                    "input_tokens": 9,
                    "output_tokens": 5,
                    "total_tokens": 14,
                    "input_token_details": {"cache_read": 4, "audio": 1},
                    "output_token_details": {"reasoning": 3},
                },
            ),
            Completion(text="a", usage=Usage(input=9, output=5, input_cached=4, output_reasoning=3)),
        ),
        (HumanMessage(content="a"), Completion(text="a")),
    ],
)
def test_answers_of_all_vendors_are_read(message: BaseMessage, expected: Completion) -> None:
    assert read_message(message) == expected


def test_an_answer_says_its_rate_limits() -> None:
    message = AIMessage(content="a", response_metadata={"headers": {"x-ratelimit-remaining-tokens": "7", "date": "d"}})
    assert read_message(message).limits == {"x-ratelimit-remaining-tokens": "7"}


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({"team": "billing"}, BadResponseError),
        (AIMessage(content="", response_metadata={"prompt_feedback": {"block_reason": "SAFETY"}}), FilteredError),
        (AIMessage(content="", response_metadata={"finish_reason": "SAFETY"}), FilteredError),
    ],
)
def test_what_is_not_an_answer_raises(message: object, kind: type[ItemError]) -> None:
    with pytest.raises(kind):
        read_message(message)


# ── the meaning of failures ──


class Response:
    def __init__(self, status: int, content: Any = b"", headers: Mapping[str, str] | None = None) -> None:
        self.status_code = status
        self.headers = headers or {}
        self._content = content

    @property
    def content(self) -> Any:
        if isinstance(self._content, Exception):
            raise self._content
        return self._content


class VendorError(Exception):
    """An error of some SDK: a text, and any attributes."""

    def __init__(self, *args: Any, **has: Any) -> None:
        super().__init__(*args)
        vars(self).update(has)


class ModelRateLimitError(Exception):
    pass


class ReadTimeoutError(Exception):
    pass


class APIConnectionError(Exception):
    pass


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def misfit() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        AIMessage(content="", tool_calls=[{"name": "f", "args": ["private"], "id": "1"}])  # type: ignore[list-item]
    return caught.value


BOTO = {
    "Error": {"Code": "ThrottlingException", "Message": "Too many requests"},
    "ResponseMetadata": {"HTTPStatusCode": 429, "HTTPHeaders": {"retry-after": "3"}},
}
ANSWERED = b'{"choices": [{"message": {"content": "half"}, "finish_reason": "length"}]}'


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            VendorError(response=Response(429, b'{"error": {"message": "slow"}}', {"retry-after": "2"})),
            RateLimitError,
            "slow",
        ),
        (VendorError(response=Response(401, f"bad key {KEY} here".encode())), AuthenticationError, "bad key *** here"),
        (VendorError(response=Response(503, RuntimeError("not read")), message="busy"), ServerError, "busy"),
        (VendorError(response=Response(200, b"<html>Log in</html>")), BadResponseError, "Log in"),
        (
            VendorError(status_code=400, body={"type": "error", "error": {"message": "prompt is too long"}}),
            ContextLengthError,
            "too long",
        ),
        (VendorError("no such model", http_status=404), NotFoundError, "no such model"),
        (VendorError("quota", code=429, status="RESOURCE_EXHAUSTED", message="quota"), RateLimitError, "quota"),
        (VendorError(response=BOTO), RateLimitError, "Too many requests"),
        (VendorError("odd", response={"Error": {}}), CallError, "VendorError: odd"),
        (VendorError("odd", response=Response(200)), CallError, "VendorError: odd"),
        (ModelRateLimitError("at once"), RateLimitError, "at once"),
        (caused(ValueError("wrapped"), VendorError("down", status_code=500)), ServerError, "down"),
        (TimeoutError(), CallTimeoutError, "TimeoutError"),
        (ReadTimeoutError("https://host?key=abc"), CallTimeoutError, "ReadTimeoutError"),
        (ConnectionResetError(104, "reset"), NetworkError, "ConnectionResetError: reset"),
        (
            VendorError(
                response=Response(400, b'{"error":{"message":"see https://x.example/k","code":"content_filter"}}')
            ),
            FilteredError,
            "see <url>",
        ),
        (APIConnectionError("no route to http://ada:pw@host/?k=1 now"), NetworkError, "no route to <url> now"),
        (RuntimeError("Event loop is closed"), NetworkError, "closed"),
        (
            UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no"),
            BadRequestError,
            "surrogate",
        ),
        (ValueError({"message": "overloaded", "code": 503}), ServerError, "overloaded"),
        (ValueError("stopped by a content filter"), FilteredError, "content filter"),
        (KeyError("choices"), BadResponseError, "choices"),
        (TypeError("null value for 'choices'"), BadResponseError, "choices"),
        (TypeError("can't add"), CallError, "TypeError: can't add"),
        (ValueError(f"the key {KEY} is odd"), CallError, "the key *** is odd"),
        (ValueError(object()), CallError, "it gives no reason"),
        (BadRequestError("ours"), BadRequestError, "ours"),
    ],
)
def test_errors_of_all_vendors_become_ours(error: Exception, kind: type[ItemError], said: str) -> None:
    found = failure(Chat(says=error), request())
    assert type(found) is kind
    assert said in found.message


def test_an_error_tells_how_long_to_wait() -> None:
    found = failure(Chat(says=VendorError(response=BOTO)), request())
    assert isinstance(found, RateLimitError)
    assert (found.status, found.retry_after) == (429, 3.0)


def test_a_misfit_of_langchain_shows_no_values() -> None:
    found = failure(Chat(says=misfit()), request())
    assert isinstance(found, BadResponseError)
    assert "tool_calls.0.args" in found.message
    assert "private" not in found.message


class StatusError(Exception):
    """An SDK's error, with its status and body."""

    status_code = 400

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.body = {"error": {"message": message}}


ECHOED = [
    "My account has insufficient credit and I want my money back",
    "the content filter flagged my api key as invalid, event loop is closed",
    "got an unexpected keyword argument 'temperature' and no choices from them",
]


@pytest.mark.parametrize("row", ECHOED)
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (lambda row: StatusError(f"can't read: {row}"), BadRequestError),
        (lambda row: RuntimeError(f"can't read: {row}"), CallError),
        (lambda row: ValueError(f"can't read: {row}"), CallError),
        (lambda row: TypeError(f"can't read: {row}"), CallError),
        (lambda row: ValueError({"message": f"tokenizer failed on: {row}"}), ServerError),
        (lambda row: KeyError(f"can't read: {row}"), BadResponseError),
    ],
)
def test_what_an_error_repeats_of_a_row_is_not_evidence_and_not_shown(
    error: Callable[[str], Exception], kind: type[ItemError], row: str
) -> None:
    found = failure(Awaiting(says=error(row)), request(None, {"role": "user", "content": row}))
    assert type(found) is kind
    shown = f"{found} {found.details}".lower()
    assert not any(
        " ".join(words) in shown for words in zip(*(row.lower().split()[at:] for at in range(3)), strict=False)
    )


@pytest.mark.parametrize(("schema", "fact"), [(TOOLS, "no tools mode"), (JSON_SCHEMA, "no json_schema mode")])
def test_what_is_not_implemented_is_learned(schema: Any, fact: str) -> None:
    class Partly(Tooled, Named):
        pass

    asked, dialect = request(schema), Capabilities()
    assert dialect.record_error(asked, failure(Partly(says=NotImplementedError()), asked))
    assert dialect.facts == (fact,)


def test_an_answer_that_langchain_gave_up_on_is_read() -> None:
    completion = both_ways(Chat(says=VendorError(response=Response(200, ANSWERED))), request())
    assert completion == Completion(text="half", finish_reason="length")


# ── which endpoint it is ──


class Level(Enum):
    HIGH = 3


class Inner(BaseModel):
    level: int = 1


class Placed(Chat):
    endpoint_url: str = "https://ada:pw@host.example:8443/api/?api-key=abc"
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    max_retries: int = 2
    inner: Any = None


def endpoint(**fields: Any) -> str:
    return LangChainTransport(Placed(**fields)).endpoint


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.5},
        {"endpoint_url": "https://host.example:8443/other"},
        {"model_kwargs": {"top_k": 3}},
        {"model_kwargs": {"name": "x"}},
        {"inner": Inner(level=2)},
        {"inner": {1, 2}},
        {"inner": (1, None)},
        {"inner": int},
        {"inner": Level.HIGH},
        {"inner": st},
    ],
)
def test_what_can_change_an_answer_changes_the_endpoint(fields: dict[str, Any]) -> None:
    assert endpoint(**fields) != endpoint()


@pytest.mark.parametrize(
    "fields",
    [
        {"api_key": SecretStr("another key of somebody")},
        {"model_kwargs": {"api-key": "abc", "extra_headers": {"Authorization": "Bearer x"}}},
        {"endpoint_url": "https://bob:other@host.example:8443/api?api-key=xyz"},
        {"max_retries": 5},
        {"metadata": {"run": 1}},
    ],
)
def test_credentials_and_retries_do_not(fields: dict[str, Any]) -> None:
    assert endpoint(**fields) == endpoint()


def test_the_endpoint_shows_where_and_what_but_no_secret() -> None:
    place, _, digest = endpoint().partition("#")
    assert place == "https://host.example:8443/api langchain:Placed"
    assert len(digest) == 16
    assert LangChainTransport(GenericFakeChatModel(messages=iter(()))).endpoint.startswith("langchain:GenericFake")


def test_the_endpoint_is_the_same_in_another_process() -> None:
    code = (
        "from langchain_core.language_models.fake_chat_models import FakeListChatModel as F\n"
        "from llmtasker.llm.transports.langchain import LangChainTransport as T\nprint(T(F(responses=['a'])).endpoint)"
    )
    assert programs.run("-c", code).stdout.strip() == LangChainTransport(FakeListChatModel(responses=["a"])).endpoint


def azure(deployment: str | None, **more: Any) -> AzureChatOpenAI:
    place: dict[str, Any] = {"azure_endpoint": "https://res.example", "azure_deployment": deployment}
    return AzureChatOpenAI(**place, api_key=SecretStr(KEY), api_version="2024-10-21", **more)


def test_deployments_have_endpoints_of_their_own() -> None:
    one, other = LangChainTransport(azure("one")), LangChainTransport(azure("other"))
    assert one.endpoint.startswith("https://res.example/openai/deployments/one langchain:AzureChatOpenAI#")
    assert one.endpoint != other.endpoint
    assert (one.model, other.model) == ("one", "other")
    assert LangChainTransport(azure("one", temperature=0.5)).endpoint != one.endpoint
    assert LangChainTransport(azure("one", model="gpt")).model == "gpt"
    assert LangChainTransport(Chat()).model == "Chat"


# ── through the whole package ──


@pytest.fixture(autouse=True)
def _no_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"):
        monkeypatch.setenv(name, "false")


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as running:
        yield running


Maker = Callable[..., ChatOpenAI | AzureChatOpenAI]


@pytest.fixture
def make(server: FaultyServer) -> Iterator[Maker]:
    """Make chat models of langchain-openai, with http clients to close: their own would leave connections open."""
    opened: list[tuple[Any, Any]] = []

    def make(kind: Any = ChatOpenAI, **fields: Any) -> Any:
        http, ahttp = openai.DefaultHttpxClient(), openai.DefaultAsyncHttpxClient()
        opened.append((http, ahttp))
        place = {"base_url": server.base_url, "model": "m"}
        if kind is AzureChatOpenAI:
            place = {"azure_endpoint": server.base_url.removesuffix("/v1"), "api_version": "2024-10-21"}
        clients = {"http_client": http, "http_async_client": ahttp}
        return kind(**{**place, **clients, "api_key": KEY, "max_retries": 0, **fields})

    yield make
    for http, ahttp in opened:
        http.close()
        portal().call(ahttp.aclose())


def task_of(chat: BaseChatModel, *, cache: Any = False, **settings: Any) -> Task[Triage]:
    llm = LLM.of(chat, cache=cache, retry=Retry(attempts=1, refusals=1))
    return Task(Triage, llm=llm, attempts=1, **settings)


def test_a_task_takes_a_chat_model_as_its_llm(server: FaultyServer, make: Maker, tmp_path: Path) -> None:
    examples = [Triage(message="I paid twice", team="billing")]
    task = Task(Triage, llm=LLM.of(make(), cache=tmp_path), examples=examples)
    first, second = task("Where is my parcel?"), task("Where is my parcel?")
    assert (first.ok, first.cached, second.cached) == (True, False, True)
    assert second.output == first.output
    assert first.usage.output > 0
    [body] = server.bodies
    assert (body["model"], body["tool_choice"], body["parallel_tool_calls"]) == ("m", "required", False)
    assert body["tools"][0]["function"]["strict"] is True
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["messages"][2]["content"] == "billing"
    warmer = Task(Triage, llm=LLM.of(make(temperature=0.5), cache=tmp_path), examples=examples)
    assert not warmer("Where is my parcel?").cached


def test_a_run_awaits_the_chat_model(server: FaultyServer, make: Maker) -> None:
    server.faults[:] = [Status(500, when="bad")]
    items = task_of(make()).run(["a", "bad", "c"], concurrency=3)
    assert [type(item.error) for item in items] == [type(None), ServerError, type(None)]
    assert Task(Triage, llm=make()).llm.model == "m"


@pytest.mark.parametrize("mode", ["tools", "json_schema", "json", "text"])
def test_modes_and_settings_reach_the_server(server: FaultyServer, make: Maker, mode: Any) -> None:
    settings: dict[str, Any] = {"temperature": 0.5, "seed": 3, "max_tokens": 99, "extra_body": {"top_k": 3}}
    chat = make(extra_body={"min_p": 0.1})
    item = Task(Triage, llm=LLM.of(chat, cache=False, **settings), mode=mode)("Where is my parcel?")
    assert item.ok
    [body] = server.bodies
    assert (body["temperature"], body["seed"], body["max_completion_tokens"]) == (0.5, 3, 99)
    assert (body["top_k"], body["min_p"]) == (3, 0.1)
    assert ("tools" in body, body.get("response_format", {}).get("type")) == {
        "tools": (True, None),
        "json_schema": (False, "json_schema"),
        "json": (False, "json_object"),
        "text": (False, None),
    }[mode]


def test_azure_is_asked_at_its_deployment(server: FaultyServer, make: Maker) -> None:
    task = task_of(make(AzureChatOpenAI, azure_deployment="triage"))
    assert task("Where is my parcel?").ok
    assert task.llm.model == "triage"
    # Its default, because langchain-openai assumes that Azure refuses this field.
    assert "parallel_tool_calls" not in server.bodies[0]
    server.faults[:] = [ContentFilter()]
    assert type(task("and now?").error) is FilteredError


def test_what_the_server_refuses_is_learned(server: FaultyServer, make: Maker) -> None:
    server.faults[:] = [
        Rejects({"parallel_tool_calls": "Unknown parameter: 'parallel_tool_calls'", "strict": "unknown field: strict"})
    ]
    task = task_of(make())
    assert task("Where is my parcel?").ok
    assert set(task.llm.capabilities.facts) == {"no parallel_tool_calls", "no strict"}
    server.faults[:] = [
        Rejects({"tools": "tools are not supported", "response_format": "'response_format' is not supported"})
    ]
    assert task("and the other one?").ok
    assert task.llm.capabilities.mode() == "text"


@pytest.mark.parametrize("mode", ["tools", "json_schema"])
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Status(401, f"Incorrect API key provided: {KEY}"), AuthenticationError),
        (Status(429, "slow down"), RateLimitError),
        (Status(404), NotFoundError),
        (Status(400, "maximum context length is 9 tokens", code="context_length_exceeded"), ContextLengthError),
        (Status(400, "filtered", code="content_filter"), FilteredError),
        (Reset(), NetworkError),
        (Body(), BadResponseError),
        (Body("", "application/json"), BadResponseError),
        (Body("{bad", "application/json"), BadResponseError),
        (Body('{"choices": null}', "application/json"), BadResponseError),
        (Body('{"choices": []}', "application/json"), BadResponseError),
        (Body('{"error": {"message": "overloaded", "code": 503}}', "application/json"), ServerError),
        (Cut(), TruncatedError),
        (Refusal(), RefusedError),
        (ContentFilter(), FilteredError),
        (Malformed("not_json"), InvalidOutputError),
    ],
)
def test_faults_become_typed_errors(
    server: FaultyServer, make: Maker, fault: Any, kind: type[ItemError], mode: Any
) -> None:
    fault.reset()
    server.faults[:] = [fault]
    item = task_of(make(), mode=mode)("Where is my parcel?")
    assert type(item.error) is kind
    assert KEY not in str(item.error)
    assert item.output is None


@pytest.mark.parametrize("how", ["trailing_comma", "single_quotes", "prose", "fences"])
def test_invalid_tool_calls_are_repaired(server: FaultyServer, make: Maker, how: str) -> None:
    server.faults[:] = [Malformed(how)]
    item = task_of(make())("Where is my parcel?")
    assert item.ok
    assert item.repairs


def test_a_bad_answer_is_asked_again(server: FaultyServer, make: Maker) -> None:
    server.faults[:] = [Malformed("not_json", first=1)]
    item = Task(Triage, llm=LLM.of(make(), cache=False))("Where is my parcel?")
    assert (item.ok, item.attempts) == (True, 2)
    # The arguments were not JSON, so the LLM sees them as text.
    assert [message["role"] for message in server.bodies[1]["messages"]] == ["system", "user", "assistant", "user"]
    assert server.bodies[1]["messages"][2]["content"] == "I would rather describe it: it depends."


def test_a_chat_model_without_tools_is_asked_for_text() -> None:
    answers: list[BaseMessage] = [AIMessage(content='```json\n{"team": "billing"}\n```')] * 2
    task = task_of(FakeMessagesListChatModel(responses=answers))
    item = task("I paid twice")
    assert item.output == Triage(message="I paid twice", team="billing")
    assert task.llm.capabilities.mode() == "text"
    assert "delivery" in str(task.preview("x"))
    assert task("I paid twice again").attempts == 1


def test_awaiting_works_in_loops_one_after_the_other() -> None:
    async def ask(task: Task[Triage], text: str) -> str | None:
        item = await task.acall(text)
        return item.output and item.output.team

    task = task_of(Awaiting(says=AIMessage(content='{"team": "delivery"}')))
    assert [asyncio.run(ask(task, text)) for text in "ab"] == ["delivery", "delivery"]


# ── imports ──


def test_importing_the_package_does_not_load_langchain() -> None:
    code = "import sys, llmtasker; llmtasker.Task, llmtasker.LLM.of('offline'); print('langchain_core' in sys.modules)"
    assert programs.run("-c", code).stdout == "False\n"


def test_without_langchain_it_says_what_to_install() -> None:
    run = programs.run(
        "-c", "import sys; sys.modules['langchain_core'] = None; import llmtasker.llm.transports.langchain"
    )
    assert (
        'ConfigurationError: a LangChain chat model needs langchain-core: pip install "llmtasker[langchain]"'
        in run.stderr
    )


@pytest.mark.parametrize("awaited", [False, True])
def test_callbacks_given_with_a_config_see_every_call(awaited: bool) -> None:
    class Handler(BaseCallbackHandler):
        def __init__(self) -> None:
            self.seen: list[str] = []

        def on_chat_model_start(self, serialized: Any, messages: Any, *, tags: Any = None, **_: Any) -> None:
            self.seen.append(f"start {tags}")

        def on_llm_end(self, response: Any, **_: Any) -> None:
            self.seen.append("end")

    handler = Handler()
    chat = FakeListChatModel(responses=["no idea", '{"team": "billing"}', '{"team": "delivery"}'])
    task = Task(Triage, llm=LLM.of(chat.with_config(callbacks=[handler], tags=["mine"])), mode="text")
    inputs = ["charged twice", "late"]
    items = list(anyio.run(task.arun, inputs) if awaited else [task(text) for text in inputs])
    assert [item.error for item in items] == [None, None]
    assert sum(item.attempts for item in items) == 3
    assert sorted(handler.seen) == ["end"] * 3 + ["start ['mine']"] * 3
