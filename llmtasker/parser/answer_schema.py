"""The type of an answer as a JSON schema, prepared for parsing answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from functools import cached_property
from typing import Any, NamedTuple, cast

from pydantic import AliasChoices, AliasPath, BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from llmtasker.parser.labels import Labels, fold_key
from llmtasker.parser.scalars import LONGEST_FLOAT, is_address, lost_backslash, means_null, number_key
from llmtasker.values.json_schema import JsonSchema, branches, closed_set, is_node, kind_of_node, kind_of_value, resolve
from llmtasker.values.json_values import is_array, is_object, parse_json, parts
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.values.plain_moment import MOMENTS, is_numeric, is_unclear

_QUOTED_KEY = lazy_pattern(r"""["'“]([^"'“”\n]{1,80})["'”]\s*:""")
_MEMBER_NAMES, _OTHER_NAMES = "x-enum-varnames", "x-names"
PATHS = "x-paths"
"""The key of AliasPaths in the schema of a model: where Pydantic looks for a property; not part of JSON Schema."""

NUMBER = "x-number"
"""Marks the schema of a dict's keys as numbers, which JSON writes as texts."""

_FORMS_OF_TEXT = MOMENTS | {"uuid", "uri", "email", "ipv4", "ipv6"}

Check = Callable[[Any], bool]


class _Generator(GenerateJsonSchema):
    """A JSON schema with facts that JSON Schema can't express: names of Enum members and fields, decimals."""

    def enum_schema(self, schema: Any) -> JsonSchemaValue:
        """Add the names of an Enum's members."""
        return super().enum_schema(schema) | {_MEMBER_NAMES: [member.name for member in schema["members"]]}

    def decimal_schema(self, schema: Any) -> JsonSchemaValue:
        """Distinguish a decimal from a union of number and text."""
        return {"type": "number", "format": "decimal"}

    def dict_schema(self, schema: Any) -> JsonSchemaValue:
        """Add that keys are numbers: several ways to write one key must not hide each other."""
        made = super().dict_schema(schema)
        numbers = schema.get("keys_schema", {}).get("type") in ("int", "float")
        return made | {"propertyNames": {"type": "string", NUMBER: True}} if numbers else made

    def model_schema(self, schema: Any) -> JsonSchemaValue:
        """Add the alternative names under which Pydantic accepts a field."""
        others = {_OTHER_NAMES: dict(_other_names(schema["cls"])), PATHS: dict(_paths(schema["cls"]))}
        return super().model_schema(schema) | {keyword: value for keyword, value in others.items() if value}


def _other_names(model: type[BaseModel]) -> list[tuple[str, str]]:
    config = model.model_config
    found: list[tuple[str, str]] = []
    by_name = config.get("validate_by_name") or config.get("populate_by_name")
    for name, info in model.model_fields.items():
        alias = info.validation_alias
        choices = [one for one in alias.choices if isinstance(one, str)] if isinstance(alias, AliasChoices) else [alias]
        texts = [choice for choice in (*choices, name) if isinstance(choice, str)]
        found += [(other, texts[0]) for other in texts[1 : None if by_name else -1]]
    return found


def _paths(model: type[BaseModel]) -> Iterator[tuple[str, list[str | int]]]:
    for name, info in model.model_fields.items():
        alias = info.validation_alias
        choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
        paths = [choice.path for choice in choices if isinstance(choice, AliasPath)]
        if paths and len(paths) == len(choices):
            yield name, paths[0]


class Names(NamedTuple):
    """How the keys of an object may be written: as Pydantic accepts them, and by their letters and digits only."""

    exact: Mapping[str, str]
    folded: Mapping[str, str | None]

    def find(self, key: str) -> str | None:
        """Return the property that a key names, or None."""
        return self.exact.get(key) or self.folded.get(fold_key(key))


class AnswerSchema:
    """A JSON schema, prepared once per task for reading answers.

    `properties` are the root object's, empty if the root is not an object; `required` are those without a default.
    `kind` is "object", "array", "string" and so on, or "any". `function` is the name of the offered function,
    `also` are keys of the root that are not fields.
    """

    def __init__(self, schema: JsonSchema, *, function: str = "", also: Set[str] = frozenset()) -> None:
        self.schema = schema
        self.function = function
        self.also = also
        self._labels: dict[int, Labels | None] = {}
        self._names: dict[int, Names] = {}
        self._checks: dict[int, Check] = {}
        self.root = self.resolve(schema)
        self.kind = kind_of_node(self.root)
        self.properties: Mapping[str, Any] = self.root.get("properties") or {} if self.kind == "object" else {}
        self.required = frozenset(self.root.get("required", ()))
        self.is_plain = self._check(schema)

    @classmethod
    def of(cls, type_: Any, *, function: str = "", also: Set[str] = frozenset()) -> AnswerSchema:
        """Return the schema of a Pydantic model or of any other type."""
        return cls(TypeAdapter(type_).json_schema(schema_generator=_Generator), function=function, also=also)

    # ── nodes ──

    def resolve(self, node: Any) -> JsonSchema:
        """Return the node that a `$ref` refers to; a union of one type and null counts as that type."""
        found = resolve(node, self.schema)
        while len(members := branches(found)) == 1:
            found = resolve(members[0], self.schema)
        return found

    def is_nullable(self, node: Any) -> bool:
        """Return whether a node allows null."""
        found = resolve(node, self.schema)
        if (kind := found.get("type")) == "null" or (is_array(kind) and "null" in kind) or not found:
            return True
        members = found.get("anyOf") or found.get("oneOf") or ()
        return None in found.get("enum", ()) or any(self.is_nullable(member) for member in members)

    def labels(self, node: Any) -> Labels | None:
        """Return the labels of a field with a closed set of values (enum, const, boolean, unions of these)."""
        node = self.resolve(node)
        key = id(node)
        if key not in self._labels:
            values, names = closed_set(node, self.schema), dict[str, Any]()
            for part in (node, *map(self.resolve, branches(node))):
                names |= dict(zip(part.get(_MEMBER_NAMES, ()), part.get("enum", ()), strict=False))
            self._labels[key] = Labels(values, names) if values else None
        return self._labels[key]

    def names(self, node: JsonSchema) -> Names:
        """Return how the keys of an object may be written."""
        found = self._names.get(id(node))
        if found is None:
            exact = {**node.get(_OTHER_NAMES, {}), **{name: name for name in node.get("properties") or ()}}
            folded: dict[str, str | None] = {}
            # A key such as "€" has no letters or digits to compare.
            for key, name in ((key, name) for key, name in exact.items() if fold_key(key)):
                folded[fold_key(key)] = name if folded.get(fold_key(key), name) == name else None
            found = self._names[id(node)] = Names(exact, folded)
        return found

    def may_be(self, value: Any, node: JsonSchema) -> bool:
        """Return whether a value may be meant for one branch of a union: by kind, required keys and constants."""
        kind, given = kind_of_node(node), kind_of_value(value)
        if not is_object(value) or kind != "object":
            return kind in (given, "any") or (kind, given) == ("number", "integer") or kind == "label"
        names = self.names(node)
        found = {name: part for key, part in value.items() if (name := names.find(key))}
        if not found.keys() >= set(node.get("required", ())):
            return False
        properties: Mapping[str, Any] = node.get("properties") or {}
        consts = {name: self.resolve(part) for name, part in properties.items() if name in found}
        return all(_matches(found[name], part["const"]) for name, part in consts.items() if "const" in part)

    # ── the root ──

    @property
    def label_field(self) -> str | None:
        """The field that a bare label can fill: the only one with labels, if no other field is required."""
        names = [name for name, node in self.properties.items() if self._is_label_field(node)]
        return names[0] if len(names) == 1 and self.required <= {names[0]} else None

    @property
    def format_field(self) -> str | None:
        """The only field, if its text has a form that no prose has, such as that of a date or a number."""
        (name, *others) = self.properties or [None]
        if name is None or others:
            return None
        node = self.resolve(self.properties[name])
        formed = node.get("format") in _FORMS_OF_TEXT or kind_of_node(node) in ("number", "integer")
        return name if formed else None

    def _is_label_field(self, node: Any) -> bool:
        node = self.resolve(node)
        return self.labels(node) is not None or (
            kind_of_node(node) == "array" and self.labels(node.get("items")) is not None
        )

    def takes_list(self, node: Any) -> bool:
        """Return whether a node, or a branch of it, is an array."""
        node = self.resolve(node)
        return kind_of_node(node) in ("array", "any") or any(map(self.takes_list, branches(node)))

    def may_go_on(self, name: str) -> bool:
        """Return whether a cut text may still be the value of a field: of a number or a text, not of a label."""
        return not self._is_label_field(self.properties[name])

    @cached_property
    def has_choices(self) -> bool:
        """Whether the schema has a union of several objects, and no object that takes other keys than it names."""
        nodes = [part for part in parts(self.schema) if is_node(part)]
        unions = ([self.resolve(branch) for branch in branches(node)] for node in nodes)
        return any(sum("properties" in one for one in union) > 1 for union in unions) and not any(
            "properties" in node and node.get("additionalProperties") for node in nodes
        )

    @property
    def expectation(self) -> str:
        """The error for an answer that is not of this kind."""
        if self.properties:
            names = ", ".join(list(self.properties)[:8])
            return f"there is no JSON object with the fields asked for ({names})"
        return "there is no JSON" if self.kind in ("any", "union") else f"there is no JSON {self.kind}"

    @property
    def is_text(self) -> bool:
        """Whether the answer is free text, so that any text is an answer."""
        return self.kind == "string" and self.labels(self.root) is None

    @property
    def only_field(self) -> str | None:
        """The field that a bare JSON value can fill: the only one there is, or else the label field."""
        return next(iter(self.properties)) if len(self.properties) == 1 else self.label_field

    def mentions_key(self, text: str) -> bool:
        """Return whether a quoted name of a property precedes a colon."""
        return self.kind in ("any", "union") or any(key in self.properties for key in _QUOTED_KEY.findall(text))

    def is_answer(self, value: Any, node: Any = None) -> bool:
        """Return whether the value is an answer at all: of the right kind, an object with at least one known key."""
        node = self.root if node is None else self.resolve(node)
        kind = kind_of_node(node)
        if kind in ("any", "union"):
            return isinstance(value, dict | list)
        if kind == "array":
            return is_array(value) or (is_object(value) and self.is_answer(value, node.get("items")))
        if kind != "object":
            return not isinstance(value, dict | list)
        if not is_object(value):
            return False
        if not node.get("properties"):
            return True
        names = self.names(node)
        return any(names.find(key) for key in value) if value else not node.get("required")

    def nothing_can_follow(self, value: Any, open_brackets: str) -> bool:
        """Return whether a text lacks only its last `open_brackets`: each open object has all its keys."""
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

    # ── what needs no coercion ──

    def _check(self, raw: Any) -> Check:
        """Return a test of whether Pydantic reads a value as it is meant, so that no coercion is needed.

        Lax Pydantic drops unknown keys, and turns numbers into days, booleans into numbers and so on.
        """
        key = id(raw)
        if key not in self._checks:
            self._checks[key] = lambda value, at=key: self._checks[at](value)  # type: ignore[misc]  # it may contain itself
            node, nullable = self.resolve(raw), self.is_nullable(raw)
            check = self._check_of(node, nullable=nullable)
            plain = check is _anything or not nullable
            self._checks[key] = check if plain else (lambda value: value is None or check(value))
        return self._checks[key]

    def _check_of(self, node: JsonSchema, *, nullable: bool) -> Check:
        if (labels := self.labels(node)) is not None:
            return _anything if all(isinstance(value, str) for value in labels.values) else labels.__contains__
        if members := branches(node):
            tests = [(self.resolve(branch), self._check(branch)) for branch in members]
            return lambda value: (
                value != {} and any(self.may_be(value, branch) and test(value) for branch, test in tests)
            )
        kind, format_ = kind_of_node(node), node.get("format")
        if kind in ("number", "integer"):
            return _is_short_number if format_ == "decimal" else _is_number
        if kind == "string" and format_ in MOMENTS:
            return lambda value: type(value) is str and not (is_numeric(value) or is_unclear(value, format_))
        if kind == "string" and is_address(format_):
            return lambda value: type(value) is str
        if kind == "string" and is_node(node.get("contentSchema")):
            return self._check_of_json(self._check(node["contentSchema"]))
        if kind == "string" and nullable:
            return lambda value: (
                type(value) is not str or not (means_null(value, in_text_field=True) or lost_backslash(value))
            )
        if kind == "string":
            return lambda value: type(value) is not str or not lost_backslash(value)
        if kind == "array":
            return self._check_of_array(node)
        return self._check_of_object(node) if kind == "object" else _anything

    def _check_of_array(self, node: JsonSchema) -> Check:
        if is_array(prefix := node.get("prefixItems")):
            tests = [self._check(part) for part in prefix]
            return lambda value: is_array(value) and all(map(_apply, tests, value))
        if (check := self._check(node.get("items"))) is _anything:
            return _anything
        return lambda value: is_array(value) and all(map(check, value))

    def _check_of_json(self, check: Check) -> Check:
        def checked(value: Any) -> bool:
            try:
                return type(value) is str and check(parse_json(value))
            except (ValueError, RecursionError):
                return False

        return checked

    def _check_of_object(self, node: JsonSchema) -> Check:
        properties: Mapping[str, Any] = node.get("properties") or {}
        checks = {name: test for name, part in properties.items() if (test := self._check(part)) is not _anything}
        paths: Mapping[str, Any] = node.get(PATHS) or {}
        names = self.names(node)
        by_name: dict[str, list[str]] = {}
        for key, name in names.exact.items():
            by_name.setdefault(name, []).append(key)
        several = [keys for keys in by_name.values() if len(keys) > 1]
        known = {*names.exact, *(self.also if node is self.root else ())}
        more = node.get("additionalProperties")
        other = self._check(more) if is_node(more) else _anything
        closed = bool(properties) and not more
        keys = self._check_of_key(node.get("propertyNames"))

        def check(value: Any) -> bool:
            if type(value) is not dict:
                return False
            fields = cast("dict[str, Any]", value)
            if properties and not fields.keys() <= known:
                others = () if closed else fields.keys() - known
                if closed or any((name := names.find(key)) and name not in fields for key in others):
                    return False
            if any(sum(key in fields for key in keys) > 1 for keys in several):
                return False
            if paths and not paths.keys().isdisjoint(fields):
                return False
            for name, test in checks.items():
                if name in fields and not test(fields[name]):
                    return False
            if keys is not _anything and not all(map(keys, fields)):
                return False
            return other is _anything or all(other(part) for name, part in fields.items() if name not in properties)

        plain = not (properties or checks) and keys is _anything and other is _anything
        return _anything if plain else check

    def _check_of_key(self, node: Any) -> Check:
        """Return a test of whether a key of a dict is read as it is meant."""
        if not is_node(node):
            return _anything
        if (labels := self.labels(node)) is not None:
            return labels.__contains__
        if (format_ := self.resolve(node).get("format")) in MOMENTS:
            return lambda key: not (is_numeric(key) or is_unclear(key, format_))
        if NUMBER in self.resolve(node):
            return lambda key: number_key(key) == key
        return _anything


def _anything(_: Any) -> bool:
    return True


def _matches(value: Any, const: Any) -> bool:
    return fold_key(str(value)) == fold_key(str(const))


def _apply(test: Check, value: Any) -> bool:
    return test(value)


def _is_number(value: Any) -> bool:
    return type(value) is int or type(value) is float


def _is_short_number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and len(repr(value)) <= LONGEST_FLOAT)
