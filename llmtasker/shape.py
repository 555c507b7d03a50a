"""What is known of an answer's type beforehand, and how a JSON value is coerced towards it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, TypeGuard

from llmtasker.candidates import is_array, is_object
from llmtasker.errors import snippet
from llmtasker.labels import LabelError, Labels

_SEVERAL = re.compile(r"[,;|\n]|\s(?:and|et)\s")
_CURRENCY = "$€£¥ \u00a0\u202f"
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:[ \u00a0\u202f_'’]\d{3})+(?:\.\d+)?")
_COMMA_GROUPS = re.compile(r"[+-]?\d{1,3}(?:,\d{3}){2,}(?:\.\d+)?|[+-]?\d{1,3}(?:,\d{3})+\.\d+")
_DOT_GROUPS = re.compile(r"[+-]?\d{1,3}(?:\.\d{3}){2,}(?:,\d+)?|[+-]?\d{1,3}(?:\.\d{3})+,\d+")
_QUOTED_KEY = re.compile(r"""["'“]([^"'“”\n]{1,80})["'”]\s*:""")
_NO_NODE: Mapping[str, Any] = {}


def _is_node(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def _folded(key: str) -> str:
    decomposed = unicodedata.normalize("NFKD", key.casefold())
    return "".join(char for char in decomposed if char.isalnum())


class Shape:
    """A JSON schema, prepared once per task for reading answers.

    `properties` are the root object's, empty where the root is no object; `required` those that have no default.
    `kind` is "object", "array", "string" and so on, or "any".
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema
        self._labels: dict[int, Labels | None] = {}
        self.root = self.resolve(schema)
        self.kind = _kind(self.root)
        self.properties: Mapping[str, Any] = self.root.get("properties") or {} if self.kind == "object" else {}
        self.required = frozenset(self.root.get("required", ()))

    def resolve(self, node: Any) -> Mapping[str, Any]:
        """Return the node that a `$ref` stands for; a union of one type and null counts as that type."""
        for _ in range(20):
            if not _is_node(node):
                return _NO_NODE
            if "$ref" in node:
                target: Any = self.schema
                for part in str(node["$ref"]).removeprefix("#").strip("/").split("/"):
                    if part:
                        target = target.get(part.replace("~1", "/").replace("~0", "~"), _NO_NODE)
                node = target
            elif len(node.get("allOf", ())) == 1:
                node = node["allOf"][0]
            elif len(branches := _branches(node)) == 1:
                node = branches[0]
            else:
                return node
        return _NO_NODE

    def labels(self, node: Any) -> Labels | None:
        """Return the labels of a field that has a closed set of values (enum, const, boolean, unions of these)."""
        node = self.resolve(node)
        key = id(node)
        if key not in self._labels:
            values = self._values(node)
            self._labels[key] = Labels(values) if values else None
        return self._labels[key]

    def _values(self, node: Mapping[str, Any]) -> list[Any] | None:
        if "const" in node:
            return [node["const"]]
        if "enum" in node:
            return list(node["enum"])
        if node.get("type") == "boolean":
            return [True, False]
        if branches := _branches(node):
            values: list[Any] = []
            for branch in branches:
                of_branch = self._values(self.resolve(branch))
                if of_branch is None:
                    return None
                values += of_branch
            return values
        return None

    @property
    def label_field(self) -> str | None:
        """The field that a bare label can fill: the only one with labels, where no other field is required."""
        names = [name for name, node in self.properties.items() if self._is_label_field(node)]
        return names[0] if len(names) == 1 and self.required <= {names[0]} else None

    def _is_label_field(self, node: Any) -> bool:
        node = self.resolve(node)
        return self.labels(node) is not None or (_kind(node) == "array" and self.labels(node.get("items")) is not None)

    @property
    def expectation(self) -> str:
        """What to say of an answer that is nothing of this kind."""
        if self.properties:
            names = ", ".join(list(self.properties)[:8])
            return f"there is no JSON object with the fields asked for ({names})"
        return "there is no JSON" if self.kind in ("any", "union") else f"there is no JSON {self.kind}"

    @property
    def is_text(self) -> bool:
        """Whether the answer is free text, so that any text is one."""
        return self.kind == "string" and self.labels(self.root) is None

    @property
    def only_field(self) -> str | None:
        """The field that a bare JSON value can fill: the only one there is, or else the label field."""
        return next(iter(self.properties)) if len(self.properties) == 1 else self.label_field

    def fits_exactly(self, value: Any) -> bool:
        """Tell whether nothing can get lost by validating the value as it is: no key may be a misspelt one.

        A model whose fields have defaults would take any object, and leave out what is misspelt.
        """
        if self.kind != "object" or not is_object(value):
            return self.kind != "object"
        known = self.properties.keys()
        if not known:
            return True
        return value.keys() <= known or value.keys() >= known

    def mentions_key(self, text: str) -> bool:
        """Tell whether a quoted name of a property stands before a colon."""
        return self.kind in ("any", "union") or any(key in self.properties for key in _QUOTED_KEY.findall(text))

    def fits_loosely(self, value: Any) -> bool:
        """Tell whether the value is an answer at all: of the right kind, an object with at least one known key."""
        if self.kind in ("any", "union"):
            return isinstance(value, dict | list)
        if self.kind == "object":
            if not is_object(value):
                return False
            if not self.properties:
                return True
            return not self.required if not value else not self.properties.keys().isdisjoint(value)
        return _kind_of(value) == self.kind

    def knows_all(self, value: Any, node: Any = None) -> bool:
        """Tell whether the value has only keys that the schema names, at every depth."""
        node = self.root if node is None else self.resolve(node)
        if branches := _branches(node):
            return any(self.knows_all(value, branch) for branch in branches)
        if is_array(value):
            items = node.get("items")
            return items is None or all(self.knows_all(item, items) for item in value)
        properties = node.get("properties")
        if not is_object(value) or not properties or node.get("additionalProperties"):
            return True
        return all(key in properties and self.knows_all(item, properties[key]) for key, item in value.items())

    def nothing_can_follow(self, value: Any, open_brackets: str) -> bool:
        """Tell whether a text lacks just its last `open_brackets`: each object that is open has all its keys."""
        node = self.root
        for bracket in reversed(open_brackets):
            properties = node.get("properties")
            if bracket != "}" or not is_object(value) or not properties or properties.keys() - value.keys():
                return False
            if node.get("additionalProperties") or node.get("patternProperties"):
                return False
            last = next(reversed(value))
            value, node = value[last], self.resolve(properties.get(last))
        return True

    def fit(self, value: Any, notes: list[str], node: Any = None, path: str = "") -> Any:
        """Return the value coerced towards the type where that is unambiguous; each change is added to `notes`."""
        node = self.root if node is None else self.resolve(node)
        labels = self.labels(node)
        if labels is not None:
            return _fit_label(value, labels, notes, path)
        if branches := _branches(node):
            branch = self._branch(value, branches)
            return value if branch is None else self.fit(value, notes, branch, path)
        kind = _kind(node)
        if kind == "object" and is_object(value):
            return self._fit_object(value, notes, node, path)
        if kind == "array":
            return self._fit_array(value, notes, node, path)
        if kind in ("number", "integer") and isinstance(value, str):
            return _fit_number(value, notes, path)
        return value

    def _branch(self, value: Any, branches: list[Any]) -> Mapping[str, Any] | None:
        """Return the one branch of a union that the value must be meant for, if that is clear."""
        nodes = [self.resolve(branch) for branch in branches]
        if is_object(value):
            keys = {_folded(key) for key in value}
            nodes = [
                node
                for node in nodes
                if _kind(node) == "object" and keys >= {_folded(key) for key in node.get("required", ())}
            ]
        else:
            nodes = [node for node in nodes if _kind(node) == _kind_of(value)]
        return nodes[0] if len(nodes) == 1 else None

    def _fit_object(
        self, value: dict[str, Any], notes: list[str], node: Mapping[str, Any], path: str
    ) -> dict[str, Any]:
        properties: Mapping[str, Any] = node.get("properties") or {}
        open_names: dict[str, list[str]] = {}
        for name in properties:
            if name not in value:
                open_names.setdefault(_folded(name), []).append(name)
        unknown: dict[str, list[str]] = {}
        for key in value:
            if key not in properties:
                unknown.setdefault(_folded(key), []).append(key)
        fitted: dict[str, Any] = {}
        for key, item in value.items():
            name = key
            if key not in properties:
                meant = open_names.get(_folded(key), ())
                if len(meant) == 1 and len(unknown[_folded(key)]) == 1:
                    name = meant[0]
                    notes.append(f"{path}{name}: the key was written {snippet(key, 40)!r}")
            inner = properties.get(name, node.get("additionalProperties"))
            fitted[name] = self.fit(item, notes, inner, f"{path}{name}.") if _is_node(inner) else item
        return fitted

    def _fit_array(self, value: Any, notes: list[str], node: Mapping[str, Any], path: str) -> Any:
        items = node.get("items")
        if not _is_node(items):
            return value
        where = path.rstrip(".") or "answer"
        if is_array(value):
            return [self.fit(item, notes, items, f"{path}{index}.") for index, item in enumerate(value)]
        labels = self.labels(items)
        if labels is not None and isinstance(value, str):
            try:
                found = [labels.find_exact(part) for part in _SEVERAL.split(value)]
            except LabelError:
                return value
            notes.append(f"{where}: {snippet(value, 60)!r} read as {found!r}")
            return found
        if is_object(value) and _kind(self.resolve(items)) == "object":
            notes.append(f"{where}: one object taken as a list of one")
            return [self.fit(value, notes, items, f"{path}0.")]
        return value


def _branches(node: Mapping[str, Any]) -> list[Any]:
    branches = node.get("anyOf") or node.get("oneOf") or ()
    return [branch for branch in branches if not (_is_node(branch) and branch.get("type") == "null")]


def _kind(node: Mapping[str, Any]) -> str:
    kind = node.get("type")
    if is_array(kind):
        kinds = [name for name in kind if name != "null"]
        return kinds[0] if len(kinds) == 1 else "union"
    if kind is None and "properties" in node:
        return "object"
    if kind is None and ("const" in node or "enum" in node):
        return "label"
    if kind is None and _branches(node):
        return "union"
    return str(kind) if kind else "any"


def _kind_of(value: Any) -> str:
    for kind, types in (("boolean", bool), ("integer", int), ("number", float), ("string", str), ("array", list)):
        if isinstance(value, types):
            return kind
    return "object" if is_object(value) else "null"


def _fit_label(value: Any, labels: Labels, notes: list[str], path: str) -> Any:
    if not isinstance(value, str) or any(value == label for label in labels.values):
        return value
    try:
        label = labels.find(value)
    except LabelError:
        return value
    notes.append(f"{path.rstrip('.') or 'answer'}: {snippet(value, 60)!r} read as {label!r}")
    return label


def _fit_number(value: str, notes: list[str], path: str) -> Any:
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
    notes.append(f"{path.rstrip('.') or 'answer'}: {snippet(value, 40)!r} read as {plain}")
    return float(plain) if "." in plain else int(plain)
