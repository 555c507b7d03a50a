"""How a JSON value is coerced towards a type where only one reading exists; anything else stays as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llmtasker.errors import snippet
from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.parser.labels import LabelError, Labels
from llmtasker.values.folding import letters, without_accents
from llmtasker.values.json_schema import branches, is_node, kind_of_node, kind_of_value
from llmtasker.values.json_values import is_array, is_object, parse_json

_SEVERAL = re.compile(r"[,;|\n]|\s(?:and|et)\s")
_CURRENCY = "$€£¥ \u00a0\u202f"
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:[ \u00a0\u202f_'’]\d{3})+(?:\.\d+)?")
_COMMA_GROUPS = re.compile(r"[+-]?\d{1,3}(?:,\d{3}){2,}(?:\.\d+)?|[+-]?\d{1,3}(?:,\d{3})+\.\d+")
_DOT_GROUPS = re.compile(r"[+-]?\d{1,3}(?:\.\d{3}){2,}(?:,\d+)?|[+-]?\d{1,3}(?:\.\d{3})+,\d+")


def coerce(value: Any, schema: AnswerSchema) -> tuple[Any, list[str]]:
    """Return the value coerced towards the type, and each change made.

    Labels by case, accents and punctuation or a clear mention, keys by case and separators, JSON inside strings,
    a single object or label where a list is asked for, numbers with a currency or grouped in thousands.

    >>> coerce({"Team": "Billing."}, AnswerSchema({"properties": {"team": {"enum": ["billing", "other"]}}}))
    ({'team': 'billing'}, ["team: the key was written 'Team'", "team: 'Billing.' read as 'billing'"])
    """
    coercion = _Coercion(schema)
    return coercion.value(value, schema.root), coercion.notes


def _folded(key: str) -> str:
    return letters(without_accents(key))


class _Coercion:
    """One value on its way to a type; `notes` says what was changed."""

    def __init__(self, schema: AnswerSchema) -> None:
        self.schema = schema
        self.notes: list[str] = []

    def value(self, value: Any, node: Any, path: str = "") -> Any:
        """Return the value coerced towards the type of a schema node."""
        node = self.schema.resolve(node)
        labels = self.schema.labels(node)
        if labels is not None:
            return _to_label(value, labels, self.notes, path)
        if members := branches(node):
            branch = self._branch(value, members)
            return value if branch is None else self.value(value, branch, path)
        kind = kind_of_node(node)
        if kind in ("object", "array") and isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
            value = _parsed(value, self.notes, path)
        if kind == "object" and is_object(value):
            return self._object(value, node, path)
        if kind == "array":
            return self._array(value, node, path)
        if kind in ("number", "integer") and isinstance(value, str):
            return _to_number(value, self.notes, path)
        if kind == "string" and isinstance(value, int) and not isinstance(value, bool):
            self.notes.append(f"{_named(path)}: the number {snippet(value, 40)} taken as text")
            return str(value)
        return value

    def _branch(self, value: Any, members: list[Any]) -> Mapping[str, Any] | None:
        """Return the one branch of a union that the value must be meant for, if that is clear."""
        nodes = [self.schema.resolve(branch) for branch in members]
        if is_object(value):
            keys = {_folded(key) for key in value}
            nodes = [
                node
                for node in nodes
                if kind_of_node(node) == "object" and keys >= {_folded(key) for key in node.get("required", ())}
            ]
        else:
            nodes = [node for node in nodes if kind_of_node(node) == kind_of_value(value)]
        return nodes[0] if len(nodes) == 1 else None

    def _object(self, value: dict[str, Any], node: Mapping[str, Any], path: str) -> dict[str, Any]:
        properties: Mapping[str, Any] = node.get("properties") or {}
        open_names: dict[str, list[str]] = {}
        for name in properties:
            if name not in value:
                open_names.setdefault(_folded(name), []).append(name)
        unknown: dict[str, list[str]] = {}
        for key in value:
            if key not in properties:
                unknown.setdefault(_folded(key), []).append(key)
        coerced: dict[str, Any] = {}
        for key, item in value.items():
            name = key
            if key not in properties:
                meant = open_names.get(_folded(key), ())
                if len(meant) == 1 and len(unknown[_folded(key)]) == 1:
                    name = meant[0]
                    self.notes.append(f"{path}{name}: the key was written {snippet(key, 40)!r}")
            inner = properties.get(name, node.get("additionalProperties"))
            coerced[name] = self.value(item, inner, f"{path}{name}.") if is_node(inner) else item
        return coerced

    def _array(self, value: Any, node: Mapping[str, Any], path: str) -> Any:
        items = node.get("items")
        if not is_node(items):
            return value
        where = _named(path)
        if is_array(value):
            return [self.value(item, items, f"{path}{index}.") for index, item in enumerate(value)]
        labels = self.schema.labels(items)
        if labels is not None and isinstance(value, str):
            try:
                found = [labels.find_exact(part) for part in _SEVERAL.split(value)]
            except LabelError:
                return value
            self.notes.append(f"{where}: {snippet(value, 60)!r} read as {found!r}")
            return found
        if is_object(value) and kind_of_node(self.schema.resolve(items)) == "object":
            self.notes.append(f"{where}: one object taken as a list of one")
            return [self.value(value, items, f"{path}0.")]
        return value


def _named(path: str) -> str:
    return path.rstrip(".") or "answer"


def _parsed(value: str, notes: list[str], path: str) -> Any:
    try:
        inner = parse_json(value)
    except (ValueError, RecursionError):
        return value
    notes.append(f"{_named(path)}: JSON inside a JSON string")
    return inner


def _to_label(value: Any, labels: Labels, notes: list[str], path: str) -> Any:
    if not isinstance(value, str) or any(value == label for label in labels.values):
        return value
    try:
        label = labels.find(value)
    except LabelError:
        return value
    notes.append(f"{_named(path)}: {snippet(value, 60)!r} read as {label!r}")
    return label


def _to_number(value: str, notes: list[str], path: str) -> Any:
    """A number as people write it, where no other reading exists: '1 234,5' has two, '€ 1,234.50' has one."""
    text = value.strip(_CURRENCY)
    if _GROUPED.fullmatch(text):
        plain = re.sub(r"[ \u00a0\u202f_'’]", "", text)
    elif _COMMA_GROUPS.fullmatch(text):
        plain = text.replace(",", "")
    elif _DOT_GROUPS.fullmatch(text):
        plain = text.replace(".", "").replace(",", ".")
    elif text != value and re.fullmatch(r"[+-]?\d+(?:\.\d+)?", text):
        plain = text
    else:
        return value
    notes.append(f"{_named(path)}: {snippet(value, 40)!r} read as {plain}")
    return float(plain) if "." in plain else int(plain)
