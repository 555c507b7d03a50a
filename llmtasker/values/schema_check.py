"""contradiction: where a JSON value contradicts a JSON schema."""

from __future__ import annotations

from typing import Any

from llmtasker.values.json_schema import JsonSchema, branches, expand, is_node, kind_of_node, kind_of_value
from llmtasker.values.json_values import is_array, is_object

_KINDS = {"null", "boolean", "integer", "number", "string", "array", "object"}


def contradiction(value: Any, node: Any, root: JsonSchema, path: str = "") -> str | None:
    """Return where and how a value contradicts a schema; None: it does not.

    Keys, values of closed sets, and JSON types are compared, at every depth; patterns, formats and bounds are not.

    >>> schema = {"properties": {"team": {"enum": ["billing", "other"]}}}
    >>> contradiction({"team": "sales"}, schema, schema)
    "team: 'sales' is not one of ['billing', 'other']"
    """
    node = expand(node, root)
    if unions := branches(node):
        members: list[Any] = [*unions, *([{"type": "null"}] if len(unions) < len(_members(node)) else [])]
        found = [contradiction(value, member, root, path) for member in members]
        return None if None in found else found[0]
    allowed: Any = [node["const"]] if "const" in node else node.get("enum")
    if is_array(allowed) and not any(type(one) is type(value) and one == value for one in allowed):
        return f"{_named(path)}: {value!r:.40} is not one of {allowed!r:.80}"
    kind = kind_of_node(node)
    if kind in _KINDS and not _is_of(value, kind):
        return f"{_named(path)}: {value!r:.40} is not of the type {kind}"
    if is_object(value):
        return _in_object(value, node, root, path)
    if is_array(value) and is_node(node.get("items")):
        found = [contradiction(part, node["items"], root, f"{path}{place}.") for place, part in enumerate(value)]
        return next(filter(None, found), None)
    return None


def _members(node: JsonSchema) -> list[Any]:
    return list(node.get("anyOf") or node.get("oneOf") or ())


def _is_of(value: Any, kind: str) -> bool:
    given = kind_of_value(value)
    return given == kind or {given, kind} == {"integer", "number"}


def _in_object(value: dict[str, Any], node: JsonSchema, root: JsonSchema, path: str) -> str | None:
    properties: JsonSchema = node.get("properties") or {}
    others = node.get("additionalProperties")
    free = others is True or is_node(others) or "patternProperties" in node or not properties
    for name in properties:
        if name not in value and name in node.get("required", ()):
            return f"{path}{name}: it is missing"
    for name, part in value.items():
        if name not in properties and not free:
            return f"{path}{name}: there is no such field"
        inner = properties.get(name, others)
        if is_node(inner) and (found := contradiction(part, inner, root, f"{path}{name}.")):
            return found
    return None


def _named(path: str) -> str:
    return path.rstrip(".") or "the answer"
