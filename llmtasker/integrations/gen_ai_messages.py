"""The messages of a call in the form of the conventions for generative AI: roles with typed parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmtasker.runner.events import Event


def input_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages that were sent.

    >>> input_messages([{"role": "user", "content": "Where is it?"}])
    [{'role': 'user', 'parts': [{'type': 'text', 'content': 'Where is it?'}]}]
    """
    return [{"role": message["role"], "parts": _parts(message)} for message in messages]


def output_messages(event: Event) -> list[dict[str, Any]]:
    """Return the answer, with function calls as the LLM wrote them; nothing if the call failed."""
    completion = event.completion
    if completion is None:
        return []
    parts = [_text(completion.text)] if completion.text else []
    parts += [_call(call.id, call.name, call.arguments) for call in completion.tool_calls]
    if completion.refusal and not parts:
        parts = [_text(completion.refusal)]
    return [{"role": "assistant", "parts": parts, "finish_reason": completion.finish_reason or "unknown"}]


def _parts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if message["role"] == "tool":
        return [{"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content}]
    if isinstance(content, str):
        parts = [_text(content)] if content else []
    else:
        parts = [_text(part["text"]) if part.get("type") == "text" else dict(part) for part in content or ()]
    calls = [(call.get("id"), call["function"]) for call in message.get("tool_calls") or ()]
    return parts + [_call(id_, function["name"], function["arguments"]) for id_, function in calls]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "content": text}


def _call(id_: str | None, name: str, arguments: str) -> dict[str, Any]:
    return {"type": "tool_call", "id": id_ or None, "name": name, "arguments": arguments}
