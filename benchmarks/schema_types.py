"""A JSON schema from a benchmark row → the pydantic type that a user would have declared for it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any, ForwardRef, Literal, Union

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, create_model

_SCALARS: dict[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool, "null": None}
_LIMITS = {"minimum": "ge", "maximum": "le", "maxItems": "max_length", "minItems": "min_length", "pattern": "pattern"}


class Types:
    """Builds the types of one schema; definitions may refer to each other."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._definitions: dict[str, Any] = {}
        self._collect(schema)
        self._models: dict[str, type[BaseModel]] = {}
        self._building: set[str] = set()
        self._count = 0
        self.made = self.of(schema)
        for model in self._models.values():
            model.model_rebuild(_types_namespace=self._models)
        self.adapter: TypeAdapter[Any] = TypeAdapter(self.made)

    def _collect(self, node: Any) -> None:
        if isinstance(node, Mapping):
            self._definitions.update(node.get("$defs", {}))
            for value in node.values():
                self._collect(value)
        elif isinstance(node, list):
            for value in node:
                self._collect(value)

    def of(self, node: Any) -> Any:
        """Return the type of a schema node."""
        if not isinstance(node, Mapping):
            return Any
        if "$ref" in node:
            return self._reference(node["$ref"].rpartition("/")[2])
        if "const" in node:
            return _labels([node["const"]], node)
        if "enum" in node:
            return _labels(node["enum"], node)
        if branches := node.get("anyOf") or node.get("oneOf"):
            return Union[tuple(self.of(branch) for branch in branches)]  # noqa: UP007 - made at run time
        kind = node.get("type")
        if isinstance(kind, list):
            return Union[tuple(self.of({**node, "type": one}) for one in kind)]  # noqa: UP007 - made at run time
        if kind == "object" or (kind is None and "properties" in node):
            return self._object(node)
        made = list[self.of(node.get("items"))] if kind == "array" else _SCALARS.get(str(kind), Any)  # type: ignore[misc]
        limits = {ours: node[theirs] for theirs, ours in _LIMITS.items() if theirs in node}
        return Annotated[made, Field(**limits)] if limits else made

    def _reference(self, name: str) -> Any:
        definition = self._definitions[name]
        if "properties" not in definition:
            return self.of(definition)
        if name in self._building:
            return ForwardRef(name)
        if name not in self._models:
            self._building.add(name)
            self._models[name] = self._model(name, definition)
            self._building.discard(name)
        return self._models[name]

    def _object(self, node: Mapping[str, Any]) -> Any:
        if "properties" not in node:
            return dict[str, self.of(node.get("additionalProperties"))]  # type: ignore[misc]
        self._count += 1
        name = f"Object{self._count}"
        self._models[name] = self._model(name, node)
        return self._models[name]

    def _model(self, name: str, node: Mapping[str, Any]) -> type[BaseModel]:
        aliases = node.get("x-aliases", {})
        fields: dict[str, Any] = {}
        for index, (key, inner) in enumerate(node["properties"].items()):
            made = self.of(inner)
            alias = aliases.get(key, key)
            alias = alias[0] if isinstance(alias, list) else alias
            if key in node.get("required", ()):
                fields[f"f{index}"] = (made, Field(alias=alias, serialization_alias=key))
            else:
                default = inner.get("default") if isinstance(inner, Mapping) else None
                fields[f"f{index}"] = (Union[made, None], Field(default, alias=alias, serialization_alias=key))  # noqa: UP007
        extra: Any = "forbid" if node.get("additionalProperties") is False else "ignore"
        return create_model(name, __config__=ConfigDict(extra=extra), **fields)


def _labels(values: list[Any], node: Mapping[str, Any]) -> Any:
    aliases = node.get("x-aliases", {})
    wire = {(alias[0] if isinstance(alias := aliases.get(v, v), list) else alias): v for v in values}
    made = Literal[tuple(wire)]  # type: ignore[valid-type]
    return Annotated[made, AfterValidator(functools.partial(_unalias, wire))] if aliases else made


def _unalias(names: Mapping[Any, Any], value: Any) -> Any:
    return names[value]
