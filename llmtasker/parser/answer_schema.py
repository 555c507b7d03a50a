"""What is known of an answer's type beforehand: a JSON schema, prepared for reading answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llmtasker.parser.labels import Labels
from llmtasker.values.json_schema import branches, closed_set, kind_of_node, kind_of_value, resolve
from llmtasker.values.json_values import is_array, is_object

_QUOTED_KEY = re.compile(r"""["'“]([^"'“”\n]{1,80})["'”]\s*:""")


class AnswerSchema:
    """A JSON schema, prepared once per task for reading answers.

    `properties` are the root object's, empty where the root is no object; `required` those that have no default.
    `kind` is "object", "array", "string" and so on, or "any".
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema
        self._labels: dict[int, Labels | None] = {}
        self.root = self.resolve(schema)
        self.kind = kind_of_node(self.root)
        self.properties: Mapping[str, Any] = self.root.get("properties") or {} if self.kind == "object" else {}
        self.required = frozenset(self.root.get("required", ()))

    def resolve(self, node: Any) -> Mapping[str, Any]:
        """Return the node that a `$ref` stands for; a union of one type and null counts as that type."""
        found = resolve(node, self.schema)
        while len(members := branches(found)) == 1:
            found = resolve(members[0], self.schema)
        return found

    def labels(self, node: Any) -> Labels | None:
        """Return the labels of a field that has a closed set of values (enum, const, boolean, unions of these)."""
        node = self.resolve(node)
        key = id(node)
        if key not in self._labels:
            values = closed_set(node, self.schema)
            self._labels[key] = Labels(values) if values else None
        return self._labels[key]

    @property
    def label_field(self) -> str | None:
        """The field that a bare label can fill: the only one with labels, where no other field is required."""
        names = [name for name, node in self.properties.items() if self._is_label_field(node)]
        return names[0] if len(names) == 1 and self.required <= {names[0]} else None

    def _is_label_field(self, node: Any) -> bool:
        node = self.resolve(node)
        return self.labels(node) is not None or (
            kind_of_node(node) == "array" and self.labels(node.get("items")) is not None
        )

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

    def is_exact(self, value: Any) -> bool:
        """Tell whether nothing can get lost by validating the value as it is: no key may be a misspelt one.

        A model whose fields have defaults would take any object, and leave out what is misspelt.
        """
        if self.kind != "object" or not is_object(value):
            return self.kind != "object"
        known = self.properties.keys()
        if not known:
            return True
        return value.keys() <= known

    def mentions_key(self, text: str) -> bool:
        """Tell whether a quoted name of a property stands before a colon."""
        return self.kind in ("any", "union") or any(key in self.properties for key in _QUOTED_KEY.findall(text))

    def is_answer(self, value: Any) -> bool:
        """Tell whether the value is an answer at all: of the right kind, an object with at least one known key."""
        if self.kind in ("any", "union"):
            return isinstance(value, dict | list)
        if self.kind == "object":
            if not is_object(value):
                return False
            if not self.properties:
                return True
            return not self.required if not value else not self.properties.keys().isdisjoint(value)
        return kind_of_value(value) == self.kind

    def knows_all(self, value: Any, node: Any = None) -> bool:
        """Tell whether the value has only keys that the schema names, at every depth."""
        node = self.root if node is None else self.resolve(node)
        if members := branches(node):
            return any(self.knows_all(value, branch) for branch in members)
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
