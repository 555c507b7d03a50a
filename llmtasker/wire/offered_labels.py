"""How the likely labels of an input are shown with it, where a task has too many to show them all.

This file defines the block before the input, the words of the schema that point to it, and how stand-ins for an LLM
read both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llmtasker.values.json_schema import JsonSchema
from llmtasker.values.json_values import is_array, is_object
from llmtasker.wire.wording import WORDINGS, Wording

POINTER = "<labels>…</labels>"
"""Replaces the list of labels in the instructions."""

_OPENING, _CLOSING = "<labels>\n", "\n</labels>\n"


def describe_offer(wording: Wording, *, many: bool, open_set: bool) -> str:
    """Return the description of a field whose labels come with the input."""
    return f"{wording.labels if many else wording.label}{wording.another if open_set else wording.more}"


def write_offer(lines: str) -> str:
    """Return the block of labels, one per line, that precedes an input."""
    return f"{_OPENING}{lines}{_CLOSING}"


def read_offer(text: str) -> tuple[list[str], str]:
    """Return the lines of the labels in a message, and the rest; without a block, no lines and the whole text.

    >>> read_offer(write_offer("- chat: un félin" + chr(10) + "- chien") + "Il aboie")
    (['chat: un félin', 'chien'], 'Il aboie')
    """
    before, opening, rest = text.partition(_OPENING)
    inside, closing, after = rest.partition(_CLOSING)
    if not opening or not closing:
        return [], text
    return [line.removeprefix("- ") for line in inside.splitlines()], before + after


def offered_schema(schema: JsonSchema, lines: Sequence[str]) -> dict[str, Any]:
    """Return a schema whose fields that point to the block have the labels in it as their values."""
    made: dict[str, Any] = dict(schema)
    return _closed(made, lines, marked=False) if lines and points_to_offer(schema) else made


def points_to_offer(schema: JsonSchema) -> bool:
    """Return whether a schema has a field whose labels come with the input."""
    return _is_marked(json.dumps(schema, ensure_ascii=False))


def _is_marked(text: str) -> bool:
    return any(wording.from_offer in text for wording in WORDINGS.values())


def _closed(node: Any, lines: Sequence[str], *, marked: bool) -> Any:
    if is_array(node):
        return [_closed(part, lines, marked=marked) for part in node]
    if not is_object(node):
        return node
    marked = marked or _is_marked(str(node.get("description", "")))
    made = {name: _closed(part, lines, marked=marked) for name, part in node.items()}
    kind = node.get("type")
    if marked and kind in {"string", "integer", "number", "boolean"} and "enum" not in node:
        made["enum"] = [_value(line, text=kind == "string") for line in lines]
        made["description"] = "\n".join(lines)
    return made


def _value(line: str, *, text: bool) -> Any:
    label = line.partition(": ")[0]
    return label if text else json.loads(label)
