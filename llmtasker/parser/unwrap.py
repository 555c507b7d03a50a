"""The wrappings that LLMs put around an answer: a list of one, a function call, JSON as a string, a key around all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llmtasker.errors import snippet
from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.values.json_values import is_array, is_object, parse_json

_ARGUMENTS = ("arguments", "parameters", "args", "input", "properties", "function")
_CALL = frozenset(("name", "type", "id", "tool", "title", "description"))
_UNWRAP_DEPTH = 3


def unwrap(value: Any, schema: AnswerSchema, depth: int = 0) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Yield the value as it is and out of the wrappings that LLMs put around an answer."""
    # JSON in a string comes before the string itself: a text field would take the JSON as its text.
    # A call comes before its own keys: 'name' may also be a field.
    inner_first = isinstance(value, str) or (is_object(value) and _called(value, schema) is not None)
    if inner_first:
        yield from _inner(value, schema, depth)
    yield value, ()
    field = schema.only_field if depth == 0 else schema.label_field
    if field is not None and not is_object(value):
        yield {field: value}, (f"put into the only field, {field}",)
    if not inner_first:
        yield from _inner(value, schema, depth)


def _inner(value: Any, schema: AnswerSchema, depth: int) -> Iterator[tuple[Any, tuple[str, ...]]]:
    inner, note = _unwrapped(value, schema)
    if note and depth < _UNWRAP_DEPTH:
        for variant, notes in unwrap(inner, schema, depth + 1):
            yield variant, (note, *notes)


def _unwrapped(value: Any, schema: AnswerSchema) -> tuple[Any, str]:
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return parse_json(value), "JSON inside a JSON string"
        except (ValueError, RecursionError):
            return None, ""
    if is_single(value) and schema.kind != "array":
        return value[0], "taken out of a list of one"
    if is_object(value):
        if (key := _called(value, schema)) is not None:
            return value[key], f"taken out of {key!r}"
        if len(value) == 1 and schema.properties.keys().isdisjoint(value):
            key, inner = next(iter(value.items()))
            return inner, f"taken out of {snippet(key, 40)!r}"
    return None, ""


def _called(value: dict[str, Any], schema: AnswerSchema) -> str | None:
    """Return the key of the arguments, if the object is a function call as JSON."""
    names = [name for name in _ARGUMENTS if name in value and name not in schema.properties]
    return names[0] if len(names) == 1 and value.keys() <= _CALL | {names[0]} and len(value) > 1 else None


def is_single(value: Any) -> bool:
    """Tell whether a JSON value is an array of one."""
    return is_array(value) and len(value) == 1
