"""Read a request as an LLM would: the input, the instructions, the examples, the schema of the answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from llmtasker.values.json_values import as_list, is_mapping, is_object, parse_json_at
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.wire.request import Message, Request

ExampleTurn = tuple[str, dict[str, Any]]
"""The text of an input and its outputs by name."""

BULLET = lazy_pattern(r"\s*(?:[-*•]|\d+[.)])\s+")
"""How a line of a list begins."""

# An example without tags: an input of one line, then its answer.
_EXAMPLE_LINES = lazy_pattern(r"^(?P<given>[^\n]+)\n(?P<answer>\{[^\n]*\})(?=\n[ \t]*\n|\s*\Z)", re.MULTILINE)

INSTRUCTS = frozenset({"system", "developer"})
"""The roles of instructions."""

_TRIES = 1_000  # braces in a text that may open a JSON object
# instructor's Markdown mode ends each conversation with this user message: it is not an input to answer.
_NOT_AN_INPUT = "Return the correct JSON response within a ```json codeblock"


def body_of(request: Request | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the wire body of a request, or the body itself."""
    return request.body if isinstance(request, Request) else request


def message_text(message: Mapping[str, Any]) -> str:
    """Return the text of one chat message; its text parts joined where the content is a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text") or "") for part in as_list(content) if is_mapping(part))


# ── the input ──


def last_user_text(request: Request | Mapping[str, Any]) -> str:
    """Return the text of the last user message of a request or of a wire body; "" if there is none.

    >>> last_user_text({"messages": [{"role": "user", "content": "Bonjour"}]})
    'Bonjour'
    """
    for message in reversed(body_of(request).get("messages", ())):
        if message.get("role") == "user":
            text = message_text(message)
            if not text.startswith(_NOT_AN_INPUT):
                return text
    return ""


def input_at(request: Request) -> int:
    """Return where in the tail the input is: a re-ask follows it, a whole conversation ends with it."""
    users = [at for at, message in enumerate(request.tail) if message.get("role") == "user"]
    if not users:
        return len(request.tail) - 1
    return users[0] if request.head.messages else users[-1]


def without_instructions(text: str) -> str:
    """Return the possible input in a message that also contains instructions, without examples and lists of labels."""
    kept = _EXAMPLE_LINES.sub("", _without_tags(text))
    return "\n".join(line for line in kept.splitlines() if not BULLET.match(line))


# ── the instructions and examples ──


def conversation(messages: Sequence[Message], only: str | None = None) -> tuple[list[ExampleTurn], list[str]]:
    """Return the examples and, from what is not a turn of an example, the texts of the instructions.

    `only` is the one output of the task, if it has one: then an answer may be its value alone.
    """
    examples: list[ExampleTurn] = []
    texts: list[str] = []
    for at, message in enumerate(messages):
        following = messages[at + 1] if at + 1 < len(messages) else {}
        if message.get("role") == "user" and following.get("role") == "assistant":
            if (answer := _answered(following, only)) is not None:
                examples.append((message_text(message), answer))
        elif message.get("role") not in {"assistant", "tool"}:
            texts.append(message_text(message))
    for text in texts:
        examples += _shown_examples(text)
    return examples, texts


def _shown_examples(text: str) -> Iterator[ExampleTurn]:
    """Yield the examples that are shown in a text, in each form that `Signature.format_example` gives them."""
    for block in text.split("<example>")[1:]:
        shown, _, rest = block.partition("</example>")[0].partition("<output>")
        given, answer = shown.partition("<input>")[2].rpartition("</input>")[0], rest
        if not rest:
            given, _, answer = shown.strip("\n").rpartition("\n")
        if (values := next(_objects(answer), None)) is not None:
            yield given, values
    for match in _EXAMPLE_LINES.finditer(_without_tags(text)):
        if (values := next(_objects(match["answer"]), None)) is not None:
            yield match["given"], values


def _without_tags(text: str) -> str:
    first, *parts = text.split("<example>")
    return "".join([first, *(part.rpartition("</example>")[2] for part in parts)])


def _answered(message: Message, only: str | None) -> dict[str, Any] | None:
    """Return what an assistant message answers: its function's arguments, the JSON in its text, or its one value."""
    for call in message.get("tool_calls") or ():
        arguments = call.get("function", {}).get("arguments")
        return arguments if is_object(arguments) else next(_objects(str(arguments)), None)
    text = message_text(message)
    return next(_objects(text), {only: text} if only and "{" not in text else None)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the outer JSON objects in a text, in order."""
    start = text.find("{")
    for _ in range(_TRIES):
        if start < 0:
            return
        try:
            value, end = parse_json_at(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            yield value
        start = text.find("{", end)


# ── the answer that is asked for ──


def offered_tools(request: Request | Mapping[str, Any]) -> list[str]:
    """Return the names of the functions that a request offers."""
    return [tool.get("function", {}).get("name", "") for tool in body_of(request).get("tools") or ()]


def request_schema(request: Request | Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the JSON schema that the answer must fit, or None if the request asks for plain text.

    Looked for in this order: the first tool's parameters, the response format, the last schema
    that is written out as JSON in the system messages (in JSON mode: in any message).

    >>> request_schema({"messages": [], "response_format": {"type": "json_schema", "json_schema": {"schema": {}}}})
    {}
    """
    body = body_of(request)
    declared = declared_schema(body)
    if declared is not None:
        return declared
    roles = {*INSTRUCTS, "user"} if body.get("response_format") else INSTRUCTS
    return schema_in(message_text(message) for message in body.get("messages", ()) if message.get("role") in roles)


def declared_schema(fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the schema in the tools or the response format of a request's fields, None if there is none."""
    if tools := fields.get("tools"):
        return tools[0].get("function", {}).get("parameters") or {}
    form: dict[str, Any] = fields.get("response_format") or {}
    return (form["json_schema"].get("schema") or {}) if form.get("json_schema") else None


def schema_in(texts: Iterable[str]) -> dict[str, Any] | None:
    """Return the last JSON schema of an object that is written out in the texts."""
    return next(filter(None, map(_last_schema, reversed([*texts]))), None)


@lru_cache(maxsize=64)
def _last_schema(text: str) -> dict[str, Any] | None:
    return next((value for value in reversed([*_objects(text)]) if is_object(value.get("properties"))), None)
