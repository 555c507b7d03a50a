"""How a JSON value is coerced towards a type where only one reading exists.

Each change is a repair with its path. A value that Pydantic would misread is refused, with path and value.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from llmtasker.errors import snippet
from llmtasker.parser import scalars
from llmtasker.parser.answer_schema import NUMBER, PATHS, AnswerSchema
from llmtasker.parser.labels import LabelError, Labels, scalar_text
from llmtasker.values.json_schema import JsonSchema, branches, is_node, kind_of_node, kind_of_value
from llmtasker.values.json_values import as_list, is_array, is_object, parse_json
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.values.plain_moment import MOMENTS, plain_moment, refused_moment
from llmtasker.values.plain_number import currencies, may_be_thousands, plain_number

RENAMED = "the key was written"

_SEVERAL = lazy_pattern(r"[,;|\n]|\s(?:and|et)\s")
_MOST_KEYS = 8  # the most keys that an error names
_FLAGS = {"1": True, "0": False, "on": True, "off": False}


class CoercionError(ValueError):
    """Parts of a value do not fit the type; the message names each with its path."""


def coerce(value: Any, schema: AnswerSchema) -> tuple[Any, list[str]]:
    """Return the value coerced towards the type, and each change made.

    Keys and labels are recognised regardless of case, accents and separators, and labels by a clear mention too. JSON
    inside strings is parsed, a single value becomes a list (or a list of one a single value), and numbers as people
    write them and the word "null" are read. Keys that were not asked for are left out.

    Raises:
        CoercionError: a value would be read as something else: a number as a day, a boolean as a number.

    >>> coerce({"Team": "Billing."}, AnswerSchema({"properties": {"team": {"enum": ["billing", "other"]}}}))
    ({'team': 'billing'}, ["team: the key was written 'Team'", "team: 'Billing.' read as 'billing'"])
    """
    coercion = _Coercion(schema)
    coerced = coercion.value(value, schema.schema)
    if coercion.refusals:
        raise CoercionError("; ".join([*coercion.refusals, *coercion.renamed]))
    return coerced, coercion.repairs


class _Coercion:
    """Coerces one value to a type; `repairs` names the changes, `refusals` what can't be read."""

    def __init__(self, schema: AnswerSchema) -> None:
        self.schema = schema
        self.repairs: list[str] = []
        self.renamed: list[str] = []
        self.refusals: list[str] = []
        self.described: dict[str, str] = {}

    def repaired(self, path: str, what: str) -> None:
        """Record a change."""
        self.repairs.append(f"{path.rstrip('.') or 'answer'}: {what}")

    def refuse(self, path: str, why: str, value: Any) -> Any:
        """Record that a value can't be read, and return it."""
        self.refusals.append(f"{path.rstrip('.') or 'answer'}: {why} (got {shown(value)})")
        return value

    def value(self, value: Any, raw: Any, path: str = "") -> Any:
        """Return the value coerced towards the type of a schema node."""
        node = self.schema.resolve(raw)
        labels = self.schema.labels(node)
        kind = kind_of_node(node)
        for each in (node, raw):  # an optional field has it beside the node; a member of a union, in the node
            if is_node(each) and isinstance(about := each.get("description"), str):
                self.described[path] = about
        if value is None and self.schema.is_nullable(raw):
            return None
        format_ = node.get("format", "binary")
        if is_scalar_in_list(value) and (labels is not None or kind in ("number", "integer") or format_ != "binary"):
            self.repaired(path, "taken from a list of one")
            value = as_list(value)[0]
        if labels is not None:
            return self._label(value, labels, raw, path)
        if isinstance(value, str) and self._means_null(value, raw, path, in_text_field=kind == "string"):
            return None
        if branches(node):
            return self._union(value, branches(node), path)
        if kind in ("object", "array") and isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
            value = self._parsed(value, path)
        if kind == "object" and is_object(value):
            return self._object(value, node, path)
        if kind == "array":
            return self._array(value, node, path)
        if kind in ("number", "integer"):
            return self._number(value, node, path)
        return self._text(value, node, path) if kind == "string" else value

    def _means_null(self, value: str, raw: Any, path: str, *, in_text_field: bool) -> bool:
        format_ = self.schema.resolve(raw).get("format")
        if raw is self.schema.schema or not self._may_lack(raw):
            return False
        if not scalars.means_null(value, in_text_field=in_text_field and format_ is None):
            return False
        self.repaired(path, f"{value!r} read as null")
        return True

    # ── scalars ──

    def _label(self, value: Any, labels: Labels, raw: Any, path: str) -> Any:
        if value in labels:
            return value
        text = scalar_text(value)
        if text is None:
            return value
        if isinstance(value, float) and len(same := labels.equal_to(value)) > 1:
            return self.refuse(path, f"it may be {same[0]!r} or {same[1]!r}", value)
        try:
            label = _find(text, labels, path)
        except LabelError as error:
            if isinstance(value, str) and self._means_null(value, raw, path, in_text_field=False):
                return None
            kinds = set(map(type, labels.values))
            if isinstance(value, bool) and kinds & {int, float}:
                return self.refuse(path, "a boolean is not a number", value)
            if bool in kinds and kinds != {bool} and isinstance(value, int | float):
                return self.refuse(path, "a number is not a boolean", value)
            if kinds != {bool} or text not in _FLAGS:
                return self.refuse(path, str(error), value) if error.ambiguous else value
            label = _FLAGS[text]
        self.repaired(path, f"{shown(value)} read as {label!r}")
        return label

    def _number(self, value: Any, node: JsonSchema, path: str) -> Any:
        decimal = node.get("format") == "decimal"
        if isinstance(value, bool):
            return self.refuse(path, "a boolean is not a number", value)
        if isinstance(value, float) and decimal and len(repr(value)) > scalars.LONGEST_FLOAT:
            return self.refuse(path, "a number with so many digits is exact only as a text, in quotes", value)
        if not isinstance(value, str):
            return value
        if not scalars.is_finite(value):
            return self.refuse(path, "the number is not finite", value)
        if kind_of_node(node) == "integer" and may_be_thousands(value):
            return self.refuse(path, "whether its dot stands between thousands is not clear", value)
        # "3,4" is not two numbers where one number is asked for.
        plain = plain_number(value, alone=kind_of_node(node) == "number")
        if plain is None:
            return value
        asked, written = currencies(f"{path} {self.described.get(path, '')}"), currencies(value)
        if asked and not written <= asked:
            return self.refuse(path, f"an amount in {' or '.join(sorted(asked))} is asked for", value)
        self.repaired(path, f"{shown(value)} read as {plain}")
        if decimal:
            return plain
        return float(plain) if "." in plain else int(plain)

    def _text(self, value: Any, node: JsonSchema, path: str) -> Any:
        kind = node.get("format")
        if isinstance(value, bool) and scalars.is_address(kind):
            return self.refuse(path, "a boolean is not an address", value)
        if is_node(inner := node.get("contentSchema")):
            return self._embedded(value, inner, path)
        if kind in MOMENTS:
            return self._moment(value, kind, path)
        if isinstance(value, str) and scalars.lost_backslash(value):
            return self.refuse(path, "a backslash before a letter is not escaped; write two", value)
        if isinstance(value, int) and not isinstance(value, bool):
            self.repaired(path, f"the number {shown(value)} taken as text")
            return str(value)
        return value

    def _moment(self, value: Any, kind: str, path: str) -> Any:
        """Return a day, time or duration in ISO 8601, if it has one reading."""
        if isinstance(value, str) and (moment := plain_moment(value, kind)) is not None:
            if moment != value:
                self.repaired(path, f"{shown(value)} read as {moment}")
            return moment
        reason = refused_moment(value, kind)
        return value if reason is None else self.refuse(path, reason, value)

    def _embedded(self, value: Any, node: JsonSchema, path: str) -> Any:
        """Return a text that is itself JSON, with its content coerced; JSON that is not in a text is put into one."""
        try:
            parsed = parse_json(value) if isinstance(value, str) else value
        except (ValueError, RecursionError):
            return value
        if not isinstance(value, str):
            self.repaired(path, "JSON put into a text")
        coerced = self.value(parsed, node, path)
        return value if isinstance(value, str) and coerced is parsed else json.dumps(coerced)

    # ── containers ──

    def _union(self, value: Any, members: list[Any], path: str) -> Any:
        nodes = [self.schema.resolve(branch) for branch in members]
        others = [node for node in nodes if self.schema.labels(node) is None]
        if not any(kind_of_node(node) == "string" and "format" not in node for node in others):
            for labels in filter(None, map(self.schema.labels, nodes)):
                with contextlib.suppress(LabelError):
                    labels.find_exact(scalar_text(value) or "")
                    return self._label(value, labels, {}, path)
            nodes = others or nodes
        meant = [node for node in nodes if self.schema.may_be(value, node)]
        if len(meant) > 1 and is_object(value):
            exact = [node for node in meant if all(self.schema.names(node).find(key) for key in value)]
            meant = exact or meant
        if value == {} and len(meant) > 1:
            return self.refuse(path, "an empty object may be any of several types", value)
        if len(meant) == 1:
            return self.value(value, meant[0], path)
        kinds = [kind_of_node(node) for node in nodes]
        numeric = [node for node, kind in zip(nodes, kinds, strict=True) if kind in ("number", "integer")]
        if not meant and isinstance(value, str) and numeric:
            number = self._number(f"{value} ", numeric[-1], path)  # Pydantic may take "1" for a boolean
            return value if isinstance(number, str) else number
        if not meant and isinstance(value, bool) and not {"boolean", "any", "label"} & set(kinds):
            return self.refuse(path, "a boolean is not asked for", value)
        if not meant and kind_of_value(value) in ("integer", "number") and not {"any", "label"} & set(kinds):
            return self.refuse(path, "a number is not asked for", value)
        if meant and is_object(value):
            known = {key for node in meant for key in value if self.schema.names(node).find(key)}
            open_ = any(node.get("additionalProperties") or not node.get("properties") for node in meant)
            if not open_ and value.keys() - known:
                return self.refuse(path, f"the keys {_listed(value.keys() - known)} were not asked for", value)
        return value

    def _object(self, value: dict[str, Any], node: JsonSchema, path: str) -> dict[str, Any]:
        names, more = self.schema.names(node), node.get("additionalProperties")
        properties: Mapping[str, Any] = node.get("properties") or {}
        also = self.schema.also if node is self.schema.root else frozenset[str]()
        written: dict[str, list[str]] = {}
        coerced: dict[str, Any] = {}
        keys_as_asked: dict[str, str] = {}
        left_out = False
        for key, part in value.items():
            name = None if key in also else names.find(key)
            if name is not None and more and key not in names.exact and name in value:
                name = None  # a separate key, beside the requested one
            if name is not None:
                written.setdefault(name, []).append(key)
            elif key in also or more is not None or not properties:
                as_asked = self._key(key, node, path)
                self._same(value, [keys_as_asked.setdefault(as_asked, key), key], f"{path}{as_asked}")
                coerced[as_asked] = self.value(part, more, f"{path}{as_asked}.") if is_node(more) else part
            else:
                self.repaired(f"{path}{snippet(key, 40)}", "not asked for, left out")
                left_out = True
        if value and properties and not written and not coerced:
            self.refuse(path, f"none of the keys {_listed(properties)} is there", value)
        for name, keys in written.items():
            self._same(value, keys, f"{path}{name}")
            key = name if name in keys else keys[0]
            if key not in names.exact:
                self._written(key, name, path)
            coerced[name] = self.value(value[key], properties[name], f"{path}{name}.")
        # If a key is left out, the missing one may be the same under another name.
        absent = [name for name in node.get("required", ()) if name not in coerced]
        if len(absent) == 1 and written and not left_out and self._may_lack(properties.get(absent[0])):
            self.repaired(f"{path}{absent[0]}", "missing, read as null")
            coerced[absent[0]] = None
        paths: dict[str, list[str | int]] = node.get(PATHS) or {}
        for name, places in paths.items():
            if name in coerced:
                _put(coerced, places, coerced.pop(name))
        return coerced

    def _same(self, value: dict[str, Any], keys: list[str], path: str) -> None:
        """Refuse keys that mean the same key and have different values."""
        if any(json.dumps(value[key]) != json.dumps(value[keys[0]]) for key in keys):
            self.refuse(path, f"the keys {_listed(keys)} have different values", value)

    def _may_lack(self, raw: Any) -> bool:
        return kind_of_node(self.schema.resolve(raw)) != "any" and self.schema.is_nullable(raw)

    def _key(self, key: str, node: JsonSchema, path: str) -> str:
        """Return a key of a dict, coerced towards what its keys may be."""
        asked, place = self.schema.resolve(node.get("propertyNames")), f"{path}{snippet(key, 40)}"
        labels = self.schema.labels(asked)
        if NUMBER in asked and (number := scalars.number_key(key)) is not None:
            return self._written(key, number, path)
        if labels is None:
            return str(self._text(key, asked, place))
        if key in labels:
            return key
        try:
            found = str(labels.find_exact(key))
        except LabelError:
            return key
        return self._written(key, found, path)

    def _written(self, key: str, found: str, path: str) -> str:
        """Return how a key was meant, and record how it was written."""
        if found != key:
            self.repaired(f"{path}{found}", f"{RENAMED} {snippet(key, 40)!r}")
            self.renamed.append(self.repairs[-1])
        return found

    def _array(self, value: Any, node: JsonSchema, path: str) -> Any:
        items = node.get("items")
        if is_array(value):
            parts = [*(node.get("prefixItems") or ())]
            nodes = [*parts, *[items] * (len(value) - len(parts))]
            return [
                self.value(part, nodes[n], f"{path}{n}.") if is_node(nodes[n]) else part for n, part in enumerate(value)
            ]
        if not is_node(items):
            return value
        labels, kind = self.schema.labels(items), kind_of_node(self.schema.resolve(items))
        if labels is not None and isinstance(value, str):
            try:
                found = [labels.find_exact(part) for part in _SEVERAL.split(value)]
            except LabelError:
                return value
            self.repaired(path, f"{shown(value)} read as {found!r}")
            return found
        of_one = labels is not None and value in labels
        of_one = of_one or (kind in ("number", "integer") and kind_of_value(value) in ("number", "integer"))
        if of_one or (kind == "object" and is_object(value) and self.schema.is_answer(value, items)):
            self.repaired(path, f"one {kind_of_value(value)} taken as a list of one")
            return [self.value(value, items, f"{path}0.")]
        return value

    def _parsed(self, value: str, path: str) -> Any:
        try:
            inner = parse_json(value)
        except (ValueError, RecursionError):
            return value
        self.repaired(path, "JSON inside a JSON string")
        return inner


def _find(text: str, labels: Labels, path: str) -> Any:
    """Return the label of a text, which may have the name of its field beside it."""
    field = path.rstrip(".").rpartition(".")[2]
    try:
        return labels.find(text, field)
    except LabelError as error:
        with contextlib.suppress(LabelError):
            return labels.find_beside(text, field)
        raise error from None


def _put(value: dict[str, Any], path: list[str | int], part: Any) -> None:
    """Put a part where an AliasPath looks for it, unless something is there."""
    head, *rest = path
    for step in reversed(rest):
        part = {step: part} if isinstance(step, str) else [*[None] * step, part]
    before = value.get(str(head))
    value[str(head)] = {**part, **before} if is_object(before) and is_object(part) else part


def is_scalar_in_list(value: Any) -> bool:
    """Return whether a value is an array of one scalar."""
    return is_array(value) and len(value) == 1 and kind_of_value(value[0]) not in ("object", "array")


def shown(value: Any) -> str:
    """Return a short text of a value, for messages."""
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else repr(value)
    return snippet(text, 60)


def _listed(names: Any) -> str:
    several = list(names)
    return ", ".join(map(str, several[:_MOST_KEYS])) + (", …" if len(several) > _MOST_KEYS else "")
