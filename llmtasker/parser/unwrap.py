"""The wrappings that LLMs put around an answer: a list of one, a function call, JSON as a string, an outer key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llmtasker.errors import snippet
from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.parser.calls import check_offered, differing
from llmtasker.parser.lines import names_other_field
from llmtasker.values.json_schema import kind_of_node
from llmtasker.values.json_values import is_array, is_object, parse_json

_ARGUMENTS = (
    "arguments", "parameters", "args", "kwargs", "params", "input", "properties", "function", "tool_input",
    "action_input",
)  # fmt: skip
_NAMES = ("name", "function", "tool", "tool_name", "function_name", "action", "recipient_name")
_BESIDE = frozenset(
    (
        *_NAMES,
        "type",
        "id",
        "index",
        "tool_call_id",
        "call_id",
        "title",
        "description",
        "required",
        "additionalProperties",
        "$schema",
        "$defs",
    )
)
_UNWRAP_DEPTH = 6


def unwrap(value: Any, schema: AnswerSchema, depth: int = 0) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Yield the value as it is, then without each wrapping that LLMs put around an answer.

    Raises:
        InvalidOutputError: it calls a function that was not offered.
    """
    # JSON in a string comes before the string itself: a text field would take the JSON as its text.
    # A call comes before its own keys: 'name' may also be a field.
    inner_first = isinstance(value, str) or (is_object(value) and _called(value, schema) is not None)
    if inner_first:
        yield from _inner(value, schema, depth)
    yield value, ()
    anywhere = depth == 0 or is_object(value) or _is_list_of_objects(value, schema)
    field = schema.only_field if anywhere else schema.label_field
    if field is not None and not is_object(value):
        if isinstance(value, str) and names_other_field(value, field, schema):
            return  # it contains more than this field
        yield {field: value}, (f"put into the only field, {field}",)
    elif field is not None and _is_value_of(value, field, schema):
        yield {field: value}, (f"taken as {field!r}, which was not named",)
    if not inner_first:
        yield from _inner(value, schema, depth)


def _is_value_of(value: Any, field: str, schema: AnswerSchema) -> bool:
    """Return whether an object that does not have the only field is what the field asks for."""
    node = schema.resolve(schema.properties[field])
    if len(schema.properties) > 1 or kind_of_node(node) not in ("object", "union") or schema.is_answer(value):
        return False
    return bool(value) and schema.is_answer(value, node)


def _is_list_of_objects(value: Any, schema: AnswerSchema) -> bool:
    """Return whether a value is the list that the only field asks for, by the keys of each object in it."""
    node = schema.resolve(schema.properties.get(schema.only_field or ""))
    if kind_of_node(node) != "array" or kind_of_node(schema.resolve(node.get("items"))) != "object":
        return False
    return (
        is_array(value)
        and bool(value)
        and all(is_object(one) and schema.is_answer(one, node["items"]) for one in value)
    )


def _inner(value: Any, schema: AnswerSchema, depth: int) -> Iterator[tuple[Any, tuple[str, ...]]]:
    inner, note = _unwrapped(value, schema)
    if note and depth < _UNWRAP_DEPTH:
        for variant, notes in unwrap(inner, schema, depth + 1):
            yield variant, (note, *notes)


def _unwrapped(value: Any, schema: AnswerSchema) -> tuple[Any, str]:
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "[", '"'):
        try:
            inner = parse_json(value)
            if value.lstrip()[:1] != '"' or (isinstance(inner, str) and inner.lstrip()[:1] in ("{", "[")):
                return inner, "JSON inside a JSON string"
        except (ValueError, RecursionError):
            return None, ""
    if is_array(value) and schema.kind != "array" and len(stated := differing(value)) == 1:
        return stated[0], f"taken from a list of {'one' if len(value) == 1 else len(value)}"
    if is_object(value):
        if (key := _called(value, schema)) is not None:
            return value[key], f"taken from {key!r}"
        if len(value) == 1 and not schema.is_answer(value):
            key, inner = next(iter(value.items()))
            return inner, f"taken from {snippet(key, 40)!r}"
    return None, ""


def _called(value: dict[str, Any], schema: AnswerSchema) -> str | None:
    """Return the key of the arguments, if the object is a function call as JSON."""
    if schema.kind == "any" and not schema.function:
        return None
    names = [key for key in _ARGUMENTS if key not in schema.properties and _holds_arguments(value.get(key))]
    if len(names) != 1 or len(value) < 2 or not value.keys() <= _BESIDE | {names[0]}:
        return None
    for key in _NAMES:
        if key != names[0] and isinstance(name := value.get(key), str):
            check_offered(name, schema.function)
    return names[0]


def _holds_arguments(value: Any) -> bool:
    return is_object(value) or (isinstance(value, str) and value.lstrip().startswith("{"))
