"""Read JSON schemas: the reference of a node, the kind of value it accepts, the labels it offers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from llmtasker.values.json_values import is_array, is_object

JsonSchema = Mapping[str, Any]
"""A JSON schema, or a node of one."""

_LONGEST_CHAIN = 20  # references to references; a circle of them ends here
_DEEPEST = 8  # nested unions and lists; a recursive schema ends here
_ANYTHING: JsonSchema = {}


def is_node(value: Any) -> TypeGuard[JsonSchema]:
    """Return whether this is a schema with content; `true` is a schema without any."""
    return isinstance(value, Mapping)


def resolve(node: Any, root: JsonSchema) -> JsonSchema:
    """Return the node of `root` that a node refers to, by `$ref` or an `allOf` of one; `{}` if there is none.

    Keywords beside the `$ref`, such as a description, do not count: see `expand`.
    """
    for _ in range(_LONGEST_CHAIN):
        if not is_node(node):
            return _ANYTHING
        if "$ref" in node:
            node = _at(root, str(node["$ref"]))
        elif len(node.get("allOf", ())) == 1:
            node = node["allOf"][0]
        else:
            return node
    return _ANYTHING


def expand(node: Any, root: JsonSchema, depth: int = _LONGEST_CHAIN) -> JsonSchema:
    """Return the schema that a node refers to, merged with the keywords beside its `$ref`, and its `allOf`.

    >>> root = {"$defs": {"Team": {"enum": ["billing", "other"]}}}
    >>> expand({"$ref": "#/$defs/Team", "description": "who takes it"}, root)
    {'enum': ['billing', 'other'], 'description': 'who takes it'}
    """
    if not is_node(node) or not depth:
        return _ANYTHING
    parts: list[Any] = [*([_at(root, str(node["$ref"]))] if "$ref" in node else []), *node.get("allOf", ())]
    if not parts:
        return node
    beside = {name: value for name, value in node.items() if name not in {"$ref", "allOf"}}
    return _merged([*(expand(part, root, depth - 1) for part in parts), beside])


def nodes(schema: Any) -> Iterator[JsonSchema]:
    """Yield all nodes of a schema."""
    if is_node(schema):
        yield schema
        schema = list(schema.values())
    if is_array(schema):
        for part in schema:
            yield from nodes(part)


def has_reference(schema: Any) -> bool:
    """Return whether a schema refers to another one anywhere."""
    return any("$ref" in node for node in nodes(schema))


def lone_reference(node: dict[str, Any]) -> dict[str, Any]:
    """Return a node with nothing beside its `$ref`, which strict function schemas do not accept.

    >>> lone_reference({"$ref": "#/$defs/Team", "description": "who takes it"})
    {'anyOf': [{'$ref': '#/$defs/Team'}], 'description': 'who takes it'}
    """
    if len(node) == 1 or "$ref" not in node:
        return node
    beside = {name: value for name, value in node.items() if name != "$ref"}
    return {"anyOf": [{"$ref": node["$ref"]}], **beside}


def renamed_reference(node: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a node whose `$ref` leads to the new name of a definition."""
    reference = node.get("$ref")
    if not isinstance(reference, str):
        return node
    head, slash, last = reference.rpartition("/")
    return {**node, "$ref": f"{head}{slash}{names.get(last, last)}"}


def _at(root: JsonSchema, reference: str) -> Any:
    """Return the node at a JSON pointer in a fragment, such as `#/$defs/Team`."""
    node: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part:
            node = node.get(part.replace("~1", "/").replace("~0", "~")) if is_node(node) else None
    return node


def _merged(parts: list[JsonSchema]) -> JsonSchema:
    whole: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            known = whole.get(name)
            if name == "properties" and is_node(known):
                whole[name] = {**known, **value}
            elif name == "required" and is_array(known):
                whole[name] = [*known, *(other for other in value if other not in known)]
            else:
                whole[name] = value
    return whole


def branches(node: JsonSchema) -> list[Any]:
    """Return the members of a union, without null."""
    members = node.get("anyOf") or node.get("oneOf") or ()
    return [branch for branch in members if not (is_node(branch) and branch.get("type") == "null")]


def kind_of_node(node: JsonSchema) -> str:
    """Return the JSON type of a schema node, or "label", "union" or "any"."""
    kind = node.get("type")
    if is_array(kind):
        kinds = [name for name in kind if name != "null"]
        return kinds[0] if len(kinds) == 1 else "union"
    if kind is None and "properties" in node:
        return "object"
    if kind is None and ("const" in node or "enum" in node):
        return "label"
    if kind is None and branches(node):
        return "union"
    return str(kind) if kind else "any"


def kind_of_value(value: Any) -> str:
    """Return the JSON type of a value."""
    for kind, types in (("boolean", bool), ("integer", int), ("number", float), ("string", str), ("array", list)):
        if isinstance(value, types):
            return kind
    return "object" if is_object(value) else "null"


def closed_set(node: Any, root: JsonSchema, depth: int = _DEEPEST) -> list[Any] | None:
    """Return the values of a field that accepts no others (enum, const, boolean, unions of these), else None."""
    node = resolve(node, root)
    if "const" in node:
        return [node["const"]]
    if "enum" in node:
        return list(node["enum"])
    if node.get("type") == "boolean":
        return [True, False]
    found = [closed_set(branch, root, depth - 1) for branch in branches(node)] if depth else []
    sets = [values for values in found if values is not None]
    return [value for values in sets for value in values] if sets and len(sets) == len(found) else None


def offered_labels(node: Any, root: JsonSchema, depth: int = _DEEPEST) -> Iterator[Any]:
    """Yield the labels that a field, or a list of it, names in its schema, even if it also accepts other values."""
    node = resolve(node, root)
    yield from [node["const"]] if "const" in node else node.get("enum", ())
    for part in (*node.get("anyOf", ()), node.get("items")) if depth else ():
        yield from offered_labels(part, root, depth - 1)
