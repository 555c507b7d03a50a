"""Answers in tags instead of JSON: `<team>billing</team>`, one element for each field that was asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.parser.labels import fold_key
from llmtasker.values.json_schema import JsonSchema, kind_of_node
from llmtasker.values.json_values import is_array
from llmtasker.values.lazy_pattern import lazy_pattern

MAX_TAGGED = 20_000
"""Characters; longer texts are not read this way."""

_ELEMENT = lazy_pattern(r"\s*<([A-Za-z_][\w.\-]*)\s*(?:/>|>(.*?)</\1\s*>)\s*", re.DOTALL)
_CDATA = lazy_pattern(r"\s*<!\[CDATA\[((?:(?!\]\]>).)*)\]\]>\s*", re.DOTALL)
_PROLOG = lazy_pattern(r"^\s*<\?xml[^<>]*\?>")
_WRAPPERS = frozenset({"answer", "data", "json", "output", "response", "result", "root", "xml"})
_DEEPEST = 10


class _UnclearError(ValueError):
    """The elements do not have the form that was asked for."""


def tagged_fields(text: str, schema: AnswerSchema) -> dict[str, Any] | None:
    """Return the fields of a text that consists only of elements named after them, as texts; else None.

    >>> schema = AnswerSchema({"type": "object", "properties": {"team": {"type": "string"}}})
    >>> tagged_fields("<team>billing</team>", schema)
    {'team': 'billing'}
    """
    if not schema.properties or not text.lstrip().startswith("<") or len(text) > MAX_TAGGED:
        return None
    elements = _elements(_PROLOG.sub("", text))
    if len(elements) == 1 and _is_wrapper(*elements[0], schema):
        elements = _elements(elements[0][1])
    if not elements or any(schema.names(schema.root).find(name) is None for name, _ in elements):
        return None
    try:
        return _object(elements, schema.root, schema, _DEEPEST)
    except _UnclearError:
        return None


def _is_wrapper(name: str, content: str, schema: AnswerSchema) -> bool:
    names = schema.names(schema.root)
    if names.find(name) is not None:  # a field, unless it holds all fields, as <Team> around <team>
        return bool(schema.required) and schema.required <= {names.find(inner) for inner, _ in _elements(content)}
    return fold_key(name) in _WRAPPERS or (schema.function != "" and fold_key(name) == fold_key(schema.function))


def _elements(text: str) -> list[tuple[str, str]]:
    """Return names and contents of the elements of a text that has nothing else; otherwise an empty list."""
    found: list[tuple[str, str]] = []
    at = 0
    while match := _ELEMENT.match(text, at):
        found.append((match[1], match[2] or ""))
        at = match.end()
    return found if at == len(text) else []


def _object(elements: list[tuple[str, str]], node: JsonSchema, schema: AnswerSchema, depth: int) -> dict[str, Any]:
    names = schema.names(node)
    properties: Mapping[str, Any] = node.get("properties") or {}
    values: dict[str, Any] = {}
    for name, content in elements:
        part = schema.resolve(properties.get(names.find(name) or ""))
        if kind_of_node(part) != "array":
            # A field that occurs twice does not count: its list of values does not fit.
            value = _value(content, part, schema, depth)
            values[name] = [values[name], value] if name in values else value
        elif content.strip().startswith("["):
            values[name] = content.strip()  # the list as JSON
        elif is_array(listed := values.setdefault(name, [])) and content.strip():
            listed.extend(_members(content, schema.resolve(part.get("items")), schema, depth))
    return values


def _members(content: str, node: JsonSchema, schema: AnswerSchema, depth: int) -> list[Any]:
    """Return the members of the list in an element: one, or one for each child if all have the same name."""
    elements = _elements(content)
    if not elements or any(schema.names(node).find(name) is not None for name, _ in elements):
        return [_value(content, node, schema, depth)]
    if len({name for name, _ in elements}) > 1:
        raise _UnclearError
    return [_value(part, node, schema, depth) for _, part in elements]


def _value(content: str, node: JsonSchema, schema: AnswerSchema, depth: int) -> Any:
    kind = kind_of_node(node)
    if kind in ("object", "union", "any") and depth and (elements := _elements(content)):
        return _object(elements, node, schema, depth - 1)
    if not content.strip() and kind == "object":
        return {}
    if whole := _CDATA.fullmatch(content):
        return whole[1]
    import html  # it loads all named characters

    return html.unescape(content.removeprefix("\n").removesuffix("\n"))
