"""The only file that imports langchain_core: requests travel through a LangChain chat model.

First the transport, then messages out, then the answer in. Blocks and names differ between vendors:
they are recognised here by their form.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from llmtasker.errors import BadResponseError, CallTimeoutError, ConfigurationError
from llmtasker.llm.credentials import may_be_credential
from llmtasker.llm.transports.langchain_errors import recovered, unsupported
from llmtasker.llm.transports.langchain_identity import endpoint_of, mapping, model_of
from llmtasker.llm.transports.langchain_wrappers import arguments_in, chats_in, rewrapped
from llmtasker.portal import portal
from llmtasker.threads import call_in_thread
from llmtasker.values.json_values import as_list, is_array, is_object, parse_json
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Head, Message, Request
from llmtasker.wire.response import read_completion

try:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.load import dumpd
    from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
except ImportError as error:
    raise ConfigurationError(
        'a LangChain chat model needs langchain-core: pip install "llmtasker[langchain]"'
    ) from error

_KEPT = 64  # prepared heads, with bound tools and converted messages
_OWN_FIELDS = frozenset({"tools", "tool_choice", "parallel_tool_calls"})  # arguments of bind_tools
# Arguments that chat models take by these names; other settings go into `extra_body` if there is one.
_COMMON = frozenset({"temperature", "top_p", "seed", "stop", "max_tokens", "max_completion_tokens"})


@dataclass(frozen=True, slots=True)
class _PreparedHead:
    """The part that all requests with one head share."""

    head: Head  # kept alive, so that the id that serves as key is not reused
    bound: Any
    messages: list[BaseMessage]


class LangChainTransport:
    """Sends requests through a chat model, with its own credentials, callbacks and caches.

    Structured calls go through its `bind_tools`. If a chat model does not have it, or does not support response
    formats, the error is that of an endpoint (BadRequestError), and nothing is sent. Chat models that can't await run
    in threads. The chat model's own retries (`max_retries`) come before ours: set them to 0 for a single
    policy. Its own timeout should not be longer than the LLM's: a blocking call can be abandoned, but not ended.
    """

    def __init__(self, runnable: Any) -> None:
        chats = list(chats_in(runnable))
        self._chat: BaseChatModel = chats[0]
        self._runnable = runnable
        self.model = model_of(self._chat)
        self.endpoint = endpoint_of(chats, arguments_in(runnable))
        self._awaits = all(map(_awaits, chats))
        self._prepared: dict[int, _PreparedHead] = {}

    def portable(self) -> PortableChatModel:
        """Return the transport as data, without the credentials of the chat model."""
        if self._runnable is not self._chat or not self._chat.is_lc_serializable():
            return PortableChatModel(type(self._chat), self._runnable)
        # LangChain marks secret values, and reads them from the environment again.
        options = {name: value for name, value in dumpd(self._chat)["kwargs"].items() if not _is_marked(value)}
        for name, value in options.items():
            if is_object(value) and "headers" in name:
                options[name] = {key: text for key, text in value.items() if not may_be_credential(key, str(text))}
        return PortableChatModel(type(self._chat), options)

    def send(self, request: Request) -> Completion:
        """Send one request and wait for its answer."""
        timeout = request.settings.timeout
        try:
            return self._in_thread(request).result(timeout)
        except TimeoutError:
            raise CallTimeoutError(f"no whole answer came within {timeout:g} s") from None

    async def asend(self, request: Request) -> Completion:
        """Send one request and await its answer; the caller sets the deadline."""
        if not self._awaits:
            # Not LangChain's own way, which shares the loop's few threads: calls would wait there, and time out.
            return await asyncio.wrap_future(self._in_thread(request))
        # Always in the same loop: the connections of a chat model belong to the loop that opened them.
        home = portal().loop
        if asyncio.get_running_loop() is home:
            return await self._aask(request)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._aask(request), home))

    async def _aask(self, request: Request) -> Completion:
        prepared = self._prepare(request.head)
        try:
            message = await prepared.bound.ainvoke(_whole(prepared, request), **self._options(request))
        except Exception as error:  # noqa: BLE001 - the chat model may be the user's
            return recovered(error, request, self._chat)
        return read_message(message, request)

    def _in_thread(self, request: Request) -> Future[Completion]:
        return call_in_thread(partial(self._ask, request), "llmtasker-langchain")

    def _ask(self, request: Request) -> Completion:
        prepared = self._prepare(request.head)
        try:
            message = prepared.bound.invoke(_whole(prepared, request), **self._options(request))
        except Exception as error:  # noqa: BLE001 - the chat model may be the user's
            return recovered(error, request, self._chat)
        return read_message(message, request)

    def _prepare(self, head: Head) -> _PreparedHead:
        known = self._prepared.get(id(head))
        if known is None:
            known = _PreparedHead(head, self._bound(head.schema), to_messages(head.messages))
            if len(self._prepared) >= _KEPT:
                self._prepared.clear()
            self._prepared[id(head)] = known
        return known

    def _bound(self, schema: Mapping[str, Any]) -> Any:
        fields = {name: value for name, value in schema.items() if name not in _OWN_FIELDS}
        form = fields.get("response_format")
        if form is not None and not _takes_format(self._chat, form.get("type")):
            raise unsupported("response_format")
        bound: Any = self._runnable
        if "tools" in schema:
            bound = rewrapped(bound, lambda chat: _bind_tools(chat, schema))
        return bound.bind(**fields) if fields else bound

    def _options(self, request: Request) -> dict[str, Any]:
        """Return the settings as arguments of the call."""
        given = {**request.settings.body, **request.settings.limits}
        if given.get("model") == self.model:
            del given["model"]
        if isinstance(given.get("stop"), str):
            given["stop"] = [given["stop"]]
        if "extra_body" not in type(self._chat).model_fields:
            return given
        # OpenAI's SDK rejects unknown arguments.
        others = {name: given.pop(name) for name in list(given) if name not in _COMMON | {"model"}}
        if others:
            given["extra_body"] = {**mapping(getattr(self._chat, "extra_body", None)), **others}
        return given

    def close(self) -> None:
        """Do nothing: the connections are the chat model's."""

    async def aclose(self) -> None:
        """Do nothing: the connections are the chat model's."""


@dataclass(frozen=True, slots=True)
class PortableChatModel:
    """A chat model as data: its class, and its arguments or, if it can't be serialised, itself."""

    kind: type[BaseChatModel]
    given: Any

    def make(self) -> LangChainTransport:
        """Return a transport to such a chat model.

        Raises:
            ConfigurationError: it can't be created in this process, which may lack its key.
        """
        if not is_object(self.given):
            return LangChainTransport(self.given)
        try:
            return LangChainTransport(self.kind(**self.given))
        except Exception as error:  # noqa: BLE001 - the chat model may be the user's
            raise ConfigurationError(
                f"the chat model {self.kind.__name__} can't be made in this process: {type(error).__name__}. "
                "Its key must be in the environment."
            ) from None


def _is_marked(value: object) -> bool:
    return is_object(value) and "lc" in value


def _awaits(chat: BaseChatModel) -> bool:
    """Return whether a chat model can be awaited as well as called."""
    maker = next(kind for kind in type(chat).__mro__ if "_agenerate" in vars(kind))
    return maker.__module__ != BaseChatModel.__module__


def _bind_tools(chat: BaseChatModel, schema: Mapping[str, Any]) -> Any:
    """Bind the tools, with those of the requested options that this chat model accepts."""
    known = inspect.signature(chat.bind_tools).parameters
    ways: list[dict[str, Any]] = [{}]
    if schema.get("tool_choice") == "required":
        # LangChain's term is "any". Some accept only the name of a function. If it is not an argument
        # of bind_tools, it goes to the endpoint unchanged.
        words = ("any" if "tool_choice" in known else "required", schema["tools"][0]["function"]["name"])
        ways = [*({"tool_choice": word} for word in words), {}]
    # Only if it is a named argument: among arbitrary arguments it would reach endpoints that don't know it.
    if "parallel_tool_calls" in schema and "parallel_tool_calls" in known:
        value = schema["parallel_tool_calls"]
        disabled = mapping(getattr(chat, "disabled_params", None))
        if "parallel_tool_calls" not in disabled or value not in (disabled["parallel_tool_calls"] or [value]):
            ways = [*({**way, "parallel_tool_calls": value} for way in ways), {}]
    for way in ways:
        try:
            return chat.bind_tools(schema["tools"], **way)
        except NotImplementedError:
            break
        except (TypeError, ValueError):
            continue
    raise unsupported("tools")


def _takes_format(chat: BaseChatModel, kind: object) -> bool:
    """Return whether a chat model knows `response_format`; one that does not declare it may drop it silently."""
    if "response_format" in type(chat).model_fields:
        return True
    for method in (chat.bind_tools, getattr(chat, "_generate", None)):
        if method is not None and "response_format" in inspect.signature(method).parameters:
            return True
    if kind == "json_schema" and mapping(getattr(chat, "profile", None)).get("structured_output"):
        return True
    how = inspect.signature(chat.with_structured_output).parameters.get("method")
    return how is not None and ("json_schema" if kind == "json_schema" else "json_mode") in str(how.annotation)


# ── messages out ──


def _whole(prepared: _PreparedHead, request: Request) -> list[BaseMessage]:
    return [*prepared.messages, *to_messages(request.tail)]


def to_messages(messages: Sequence[Message]) -> list[BaseMessage]:
    """Return chat messages as LangChain's; texts are not changed.

    Arguments of a call that are not a JSON object have no place in LangChain's messages: the call becomes text,
    and the tool's reply to it a user message.
    """
    made: list[BaseMessage] = []
    as_text: set[str] = set()  # ids of the calls that became text
    for message in messages:
        role, content = message.get("role"), message.get("content")
        named: dict[str, Any] = {"content": "" if content is None else content, "name": message.get("name")}
        if role == "assistant":
            made.append(_assistant(message, as_text))
        elif role in {"system", "developer"}:
            extra = {"__openai_role__": role} if role == "developer" else {}
            made.append(SystemMessage(**named, additional_kwargs=extra))
        elif role == "tool" and message.get("tool_call_id") not in as_text:
            made.append(ToolMessage(**named, tool_call_id=message.get("tool_call_id", "")))
        elif role in {"user", "tool"}:
            made.append(HumanMessage(**named))
        else:
            made.append(ChatMessage(**named, role=str(role)))
    return made


def _assistant(message: Message, as_text: set[str]) -> AIMessage:
    calls: list[dict[str, Any]] = []
    texts: list[Any] = [message["content"]] if message.get("content") else []
    for call in message.get("tool_calls") or ():
        arguments, id_ = call["function"]["arguments"], call.get("id")
        parsed = _arguments(arguments)
        if parsed is None:
            texts.append(arguments)
            as_text.add(id_)
        else:
            calls.append({"type": "tool_call", "id": id_, "name": call["function"]["name"], "args": parsed})
    parts: list[Any] = [part for text in texts for part in as_list(text)]
    content: Any = "\n".join(parts) if all(isinstance(part, str) for part in parts) else parts
    return AIMessage(content=content, tool_calls=calls, name=message.get("name"))


def _arguments(text: str) -> dict[str, Any] | None:
    """Return the arguments of a call, None if part of their text would be lost."""
    try:
        value = parse_json(text)
    except (ValueError, RecursionError):
        return None
    return value if is_object(value) else None


# ── the answer in ──

_FINISH = ("finish_reason", "stop_reason", "done_reason", "stopReason")
_MODEL = ("model_name", "model", "model_id", "modelId")
_REASONING = ("reasoning_content", "reasoning", "thinking", "reasoning_details")


def read_message(message: object, request: Request | None = None) -> Completion:
    """Return the completion in a chat model's message, with the blocks and names of any vendor.

    What an error repeats of the `request` is left out.

    Raises:
        BadResponseError: it is not a message.
        FilteredError: a content filter left nothing of the answer.
    """
    if not isinstance(message, BaseMessage):
        raise BadResponseError(f"the chat model answered with a {type(message).__name__}, which is not a message")
    metadata, extra = message.response_metadata, message.additional_kwargs
    calls = _calls(message)
    shown: dict[str, Any] = {name: extra[name] for name in (*_REASONING, "refusal") if extra.get(name)}
    shown["content"] = [*map(_block, message.content)] if isinstance(message.content, list) else message.content
    shown["tool_calls"] = calls
    if not calls:
        shown["function_call"] = extra.get("function_call")
    answer = {
        "choices": [{"message": shown, "finish_reason": _finish_reason(metadata)}],
        "model": _first(metadata, _MODEL),
        "usage": _counts(message),
    }
    # One wire format is parsed in one place: the answer is converted to that format.
    text = json.dumps(answer, default=lambda _: None)
    return read_completion(text, headers=mapping(metadata.get("headers")), request=request)


def _first(known: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((known[name] for name in names if known.get(name)), None)


def _finish_reason(metadata: Mapping[str, Any]) -> Any:
    reason = _first(metadata, _FINISH)
    if reason is None:  # OpenAI's Responses API, Gemini
        blocked = mapping(metadata.get("prompt_feedback")).get("block_reason")
        return "content_filter" if blocked else mapping(metadata.get("incomplete_details")).get("reason")
    return "content_filter" if reason == "guardrail_intervened" else reason  # Bedrock


def _block(block: Any) -> Any:
    if is_object(block) and block.get("type") == "reasoning_content":  # Bedrock
        return {"type": "reasoning", "reasoning": block.get("reasoning_content")}
    return block


def _calls(message: BaseMessage) -> list[dict[str, Any]]:
    """Return the calls; if the message also has their raw texts, those take precedence over LangChain's parsing."""
    parsed = [*getattr(message, "tool_calls", ()), *getattr(message, "invalid_tool_calls", ())]
    raw = message.additional_kwargs.get("tool_calls")
    if is_array(raw) and len(raw) == len(parsed) and all(map(is_object, raw)):
        return raw
    return [
        {"id": call.get("id"), "function": {"name": call.get("name"), "arguments": call.get("args")}} for call in parsed
    ]


def _counts(message: BaseMessage) -> Any:
    usage = mapping(getattr(message, "usage_metadata", None))
    if not usage:
        return _first(message.response_metadata, ("token_usage", "usage"))
    # Some tiers of OpenAI have their own names, such as flex_cache_read.
    part: dict[str, int] = {}
    for where, name in (("input_token_details", "cache_read"), ("output_token_details", "reasoning")):
        part[name] = sum(n or 0 for known, n in mapping(usage.get(where)).items() if known.endswith(name))
    return {
        **{name: usage.get(name) for name in ("input_tokens", "output_tokens", "total_tokens")},
        "input_tokens_details": {"cached_tokens": part["cache_read"]},
        "output_tokens_details": {"reasoning_tokens": part["reasoning"]},
    }
