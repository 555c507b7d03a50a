"""What a request says, read as an LLM would: the input, the instructions, the examples, the schema of the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from llmtasker.wire.request import Message, Request

Json = dict[str, Any]
Example = tuple[str, Json]
"""The text of an input and its outputs by name."""

BULLET = re.compile(r"\s*(?:[-*•]|\d+[.)])\s+")
"""How a line of a list begins."""

INSTRUCTS = frozenset({"system", "developer"})
"""The roles of instructions."""

_TRIES = 1_000  # braces in a text that may open a JSON object
_DECODER = json.JSONDecoder()
_BLOCK = re.compile(r'<input id="([^"\n]*)">\n')


def input_at(request: Request) -> int:
    """Return where in the tail the input is: a re-ask follows it, a whole conversation ends with it."""
    users = [at for at, message in enumerate(request.tail) if message.get("role") == "user"]
    if not users:
        return len(request.tail) - 1
    return users[0] if request.head.messages else users[-1]


def without_instructions(text: str) -> str:
    """Return what may be the input in a message that holds instructions as well: no examples, no list of labels."""
    parts = text.split("<example>")
    kept = "".join([parts[0], *(part.rpartition("</example>")[2] for part in parts[1:])])
    return "\n".join(line for line in kept.splitlines() if not BULLET.match(line))


def text_of(message: Message) -> str:
    content = message.get("content")
    if isinstance(content, list):
        parts = [cast("Json", part) for part in cast("list[object]", content) if isinstance(part, dict)]
        return "\n".join(str(part.get("text") or "") for part in parts)
    return content if isinstance(content, str) else ""


def _objects(text: str) -> Iterator[Json]:
    """Yield the JSON objects that stand in a text, in order; an outer one only."""
    start = text.find("{")
    for _ in range(_TRIES):
        if start < 0:
            return
        try:
            value, end = cast("tuple[object, int]", _DECODER.raw_decode(text, start))
        except (ValueError, RecursionError):
            end = start + 1
        else:
            if isinstance(value, dict):
                yield cast("Json", value)
        start = text.find("{", end)


def _answered(message: Message) -> Json | None:
    """Return what an assistant message answers: its function's arguments, or the JSON in its text."""
    for call in message.get("tool_calls") or ():
        arguments = call.get("function", {}).get("arguments")
        return cast("Json", arguments) if isinstance(arguments, dict) else next(_objects(str(arguments)), None)
    return next(_objects(text_of(message)), None)


def conversation(messages: Sequence[Message]) -> tuple[list[Example], list[str]]:
    """Return the examples and, from what is not a turn of an example, the texts of the instructions."""
    examples: list[Example] = []
    texts: list[str] = []
    for at, message in enumerate(messages):
        following = messages[at + 1] if at + 1 < len(messages) else {}
        if message.get("role") == "user" and following.get("role") == "assistant":
            if (answer := _answered(following)) is not None:
                examples.append((text_of(message), answer))
        elif message.get("role") not in {"assistant", "tool"}:
            texts.append(text_of(message))
    for text in texts:
        for block in text.split("<example>")[1:]:
            shown, _, rest = block.partition("</example>")[0].partition("<output>")
            given = shown.partition("<input>")[2].rpartition("</input>")[0]
            if (answer := next(_objects(rest), None)) is not None:
                examples.append((given, answer))
    return examples, texts


def asked(request: Request, texts: Iterable[str]) -> tuple[Json, str | None]:
    """Return the JSON schema of the answer, empty where none was sent, and the function to call where there is one.

    Looked for in the tools, in the response format, and in the texts, where the last one counts.
    """
    schema: Mapping[str, Any] = request.head.schema
    tools: list[Json] = schema.get("tools") or []
    if tools:
        return tools[0]["function"].get("parameters") or {}, tools[0]["function"]["name"]
    form: Json = schema.get("response_format") or {}
    if "json_schema" in form:
        return form["json_schema"]["schema"], None
    found = [value for text in texts for value in _objects(text) if isinstance(value.get("properties"), dict)]
    return (found[-1] if found else {}), None


def blocks(text: str) -> dict[str, str]:
    """Return the inputs of a grouped request by id; the first of two with the same id."""
    found = list(_BLOCK.finditer(text))
    ends = [*(match.start() for match in found[1:]), len(text)]
    blocks: dict[str, str] = {}
    for match, end in zip(found, ends, strict=False):
        inside = text[match.end() : end]
        # The last closing tag is ours: an earlier one is part of the input.
        before, closed, _ = inside.rpartition("\n</input>")
        blocks.setdefault(match[1], before if closed else inside)
    return blocks
