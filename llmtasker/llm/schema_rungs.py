"""The ladder of schemas: what is tried, in this order, if an endpoint refuses the schema of a task.

    strict     the schema is not declared strict
    keywords   only its structure remains: no pattern, format, const, default, sizes; the signature checks these anyway
    names      property names in ASCII, if the endpoint refuses others; restored in the answer
    json       the schema is not sent: the prompt describes it, and the answer is JSON
    text       neither

A refusal of one schema applies to that schema only: the endpoint may accept others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmtasker.values.folding import ascii_letters
from llmtasker.values.json_schema import renamed_reference
from llmtasker.values.json_values import canonical_json, is_array, is_object
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Message

_CHECKED_ANYWAY = lazy_pattern(
    r"pattern|format|default|examples|title|multipleOf|(?:exclusiveM|m)(?:in|ax)imum|(?:min|max)(?:Length|Items|Properties)"
    r"|uniqueItems|content\w+|propertyNames|patternProperties|readOnly|writeOnly|deprecated|discriminator"
)
_SCHEMA = frozenset({"parameters", "schema"})  # the keys of a schema in its definition
_NAMED = frozenset({"properties", "$defs", "definitions"})  # their members are named by the user


def schema_of(fields: Mapping[str, Any]) -> Any:
    """Return the JSON Schema in the fields of a request, None if there is none."""
    for tool in fields.get("tools", ()):
        return tool.get("function", {}).get("parameters")
    return fields.get("response_format", {}).get("json_schema", {}).get("schema")


def next_rung(fields: Mapping[str, Any]) -> str | None:
    """Return the next rung for a schema as sent; None: there is no schema in these fields."""
    schema = schema_of(fields)
    if schema is None:
        return None
    if is_strict(fields):
        return "strict"
    return "keywords" if lean(schema) != schema else "json"


def is_strict(fields: Mapping[str, Any]) -> bool:
    """Return whether the schema in some fields is declared strict."""
    definitions = [tool.get("function") for tool in fields.get("tools", ())]
    definitions.append(fields.get("response_format", {}).get("json_schema"))
    return any("strict" in definition for definition in definitions if definition)


def fingerprint(fields: Mapping[str, Any]) -> str:
    """Return the fingerprint of a schema; empty if there is none."""
    schema = schema_of(fields)
    return "" if schema is None else canonical_json(schema)


def descend(fields: Mapping[str, Any], rungs: Sequence[str]) -> Mapping[str, Any]:
    """Return the fields of a request with the schema changed by these rungs; the same object if nothing changes."""
    names = ascii_names(schema_of(fields)) if "names" in rungs else {}
    changes: dict[str, Callable[[str, Any], Any]] = {
        "keywords": lambda name, value: lean(value) if name in _SCHEMA else value,
        "names": lambda name, value: _renamed_schema(value, names) if name in _SCHEMA else value,
    }

    def change(definition: Mapping[str, Any]) -> dict[str, Any]:
        made = {name: value for name, value in definition.items() if name != "strict" or "strict" not in rungs}
        for rung in rungs:
            if rung in changes:
                made = {name: changes[rung](name, value) for name, value in made.items()}
        return made

    adapted = _with_definition(fields, change)
    return fields if adapted == fields else adapted


def _with_definition(
    fields: Mapping[str, Any], change: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> Mapping[str, Any]:
    if "tools" in fields:
        tools = [{**tool, "function": change(tool.get("function") or {})} for tool in fields["tools"]]
        return {**fields, "tools": tools}
    form = fields.get("response_format", {})
    if "json_schema" in form:
        return {**fields, "response_format": {**form, "json_schema": change(form["json_schema"])}}
    return fields


def lean(schema: Any) -> Any:
    """Return the structure of a schema.

    >>> lean({"type": "string", "format": "date", "const": "x", "default": "y"})
    {'type': 'string', 'enum': ['x']}
    """
    if is_array(schema):
        return [lean(part) for part in schema]
    if not is_object(schema):
        return schema
    made = dict[str, Any]()
    for name, value in schema.items():
        if name in _NAMED and is_object(value):
            made[name] = {key: lean(part) for key, part in value.items()}
        elif name == "const":
            made["enum"] = [value]
        elif name in {"enum", "required"}:
            made[name] = value
        elif not _CHECKED_ANYWAY.fullmatch(name) and not (name == "additionalProperties" and isinstance(value, bool)):
            made[name] = lean(value)
    return made


# ── names in ASCII ──


def ascii_names(schema: Any) -> dict[str, str]:
    """Return an ASCII name for each name in a schema that is not ASCII; distinct names remain distinct.

    >>> ascii_names({"type": "object", "properties": {"équipe": {}, "equipe": {}, "prénom": {}}})
    {'équipe': 'equipe_2', 'prénom': 'prenom'}
    """
    found = dict.fromkeys(_names(schema))
    taken, names = {name for name in found if _is_plain(name)}, dict[str, str]()
    for name in found:
        if not _is_plain(name):
            letters = ascii_letters(name)
            plain = re.sub(r"[^A-Za-z0-9_-]+", "_", letters).strip("_")[:60] or "field"
            number, made = 1, plain
            while made in taken:
                number += 1
                made = f"{plain}_{number}"
            taken.add(made)
            names[name] = made
    return names


def _is_plain(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) is not None


def _names(schema: Any) -> Iterable[str]:
    for part in schema if is_array(schema) else ():
        yield from _names(part)
    for name, value in schema.items() if is_object(schema) else ():
        if name in _NAMED and is_object(value):
            yield from value
            for part in value.values():
                yield from _names(part)
        elif name not in {"enum", "const", "default", "examples"}:
            yield from _names(value)


def _renamed_schema(schema: Any, names: Mapping[str, str]) -> Any:
    if is_array(schema):
        return [_renamed_schema(part, names) for part in schema]
    if not is_object(schema):
        return schema
    made = dict[str, Any]()
    for name, value in schema.items():
        if name in _NAMED and is_object(value):
            made[name] = {names.get(key, key): _renamed_schema(part, names) for key, part in value.items()}
        elif name == "required":
            made[name] = [names.get(key, key) for key in value]
        elif name in {"enum", "const", "default", "examples"}:
            made[name] = value
        else:
            made[name] = _renamed_schema(value, names)
    return renamed_reference(made, names)


def rename_calls(messages: Sequence[Message], names: Mapping[str, str]) -> Sequence[Message]:
    """Return messages with these names in their calls; the same object if no call has one."""
    made = [_rename_call(message, names) for message in messages]
    return messages if made == list(messages) else made


def _rename_call(message: Message, names: Mapping[str, str]) -> Message:
    if not message.get("tool_calls"):
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": rename_keys(call["function"].get("arguments"), names)}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def rename_keys(text: Any, names: Mapping[str, str]) -> Any:
    """Return a JSON text, valid or broken, with renamed keys."""
    if not isinstance(text, str) or not names:
        return text
    escaped = {json.dumps(name)[1:-1]: new for name, new in names.items()}
    known = {**names, **escaped}
    keys = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
    return re.sub(rf'(?<!\\)"({keys})"(?=\s*:)', lambda match: f'"{known[match[1]]}"', text)


def restore(completion: Completion, names: Mapping[str, str]) -> Completion:
    """Return an answer with the task's own names, given those that replaced them."""
    back = {new: name for name, new in names.items()}
    calls = tuple(replace(call, arguments=rename_keys(call.arguments, back)) for call in completion.tool_calls)
    return replace(completion, tool_calls=calls, text=rename_keys(completion.text, back))
