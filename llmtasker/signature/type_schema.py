"""Types as JSON schemas, and back: the types that a file can describe, so that they are rebuilt without an import.

These are texts, numbers, booleans, dates and times, UUID, Decimal, Literal, list, set, tuple, dict with texts as keys,
unions of these, their constraints (ge, min_length, pattern …), and Pydantic models that were made by `create_model`
from them. A class written in code can't be rebuilt: it must be passed when a file is loaded.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import uuid
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, TypeGuard, Union, get_args, get_origin

import pydantic
from pydantic import BaseModel, StringConstraints
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.signature.made_class import Made, MadeClass
from llmtasker.values.json_values import is_array, is_object

Schema = dict[str, Any]

_DEEPEST = 40
_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
    None: {"type": "null"},
    Any: {},
    datetime.date: {"type": "string", "format": "date"},
    datetime.datetime: {"type": "string", "format": "date-time"},
    datetime.time: {"type": "string", "format": "time"},
    datetime.timedelta: {"type": "string", "format": "duration"},
    decimal.Decimal: {"type": "string", "format": "decimal"},
    uuid.UUID: {"type": "string", "format": "uuid"},
    list: {"type": "array"},
    dict: {"type": "object"},
}
_TYPES = {tuple(sorted(schema.items())): kind for kind, schema in _PLAIN.items() if kind is not None}
# Schema keyword, argument of `pydantic.Field`.
_CONSTRAINTS = {
    "minimum": "ge",
    "exclusiveMinimum": "gt",
    "maximum": "le",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
    "minLength": "min_length",
    "maxLength": "max_length",
    "pattern": "pattern",
    "strip": "strip_whitespace",
}
_OF_FIELD = {"title", "description", "alias", "default", "default_factory"}
_FACTORIES: dict[str, Any] = {"list": list, "dict": dict}
_KEYWORDS = {argument: keyword for keyword, argument in _CONSTRAINTS.items()}


class NotHeldError(Exception):
    """A type that a file can't describe; the message names it."""


def type_schema(annotation: Any) -> Schema:
    """Return a type as a JSON schema, from which `schema_type` makes it again.

    Raises:
        NotHeldError: a file can't store it.

    >>> type_schema(list[Literal["a", "b"]] | None)
    {'anyOf': [{'type': 'array', 'items': {'enum': ['a', 'b']}}, {'type': 'null'}]}
    """
    if isinstance(annotation, type | NoneType) or annotation is Any:
        found = _PLAIN.get(annotation)
        return dict(found) if found is not None else _model_schema(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        schema = type_schema(arguments[0])
        for part in arguments[1:]:
            schema |= constraint_schema(part)
        return schema
    if origin is Literal and all(type(value) in (str, int, bool, NoneType) for value in arguments):
        return {"enum": list(arguments)}
    if origin in (Union, UnionType):
        return {"anyOf": [type_schema(each) for each in arguments]}
    if origin in (list, set):
        unique = {"uniqueItems": True} if origin is set else {}
        return {"type": "array", "items": type_schema(arguments[0]), **unique}
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return {"type": "array", "prefixItems": [type_schema(each) for each in arguments]}
    if origin is dict and arguments[0] is str:
        return {"type": "object", "additionalProperties": type_schema(arguments[1])}
    raise NotHeldError(f"the type {_named(annotation)}")


def _named(annotation: Any) -> str:
    return snippet(getattr(annotation, "__name__", annotation), 60)


def constraint_schema(part: object) -> Schema:
    """Return a constraint from the metadata of a type or field as keywords of a JSON schema.

    Raises:
        NotHeldError: it is something else, such as a validator.
    """
    if isinstance(part, FieldInfo):
        schema: Schema = {} if part.description is None else {"description": part.description}
        for each in part.metadata:
            schema |= constraint_schema(each)
        return schema
    found = _attributes(part)
    known = type(part).__module__.partition(".")[0] in {"annotated_types", "pydantic"}
    plain = all(isinstance(value, bool | int | float | str) for value in found.values())
    if not known or not plain or not found.keys() <= _KEYWORDS.keys():
        raise NotHeldError(f"the constraint {snippet(repr(part), 60)}")
    return {_KEYWORDS[name]: value for name, value in found.items()}


def _attributes(part: object) -> dict[str, Any]:
    slots: tuple[str, ...] = getattr(type(part), "__slots__", ())
    found = {name: getattr(part, name, None) for name in slots} or getattr(part, "__dict__", {})
    return {name: value for name, value in found.items() if value is not None}


def _model_schema(model: Any) -> Schema:
    if not _is_made_model(model):
        raise NotHeldError(f"the class {_named(model)}")
    fields: dict[str, FieldInfo] = dict(model.model_fields)
    return {
        "type": "object",
        "model": model.__name__,
        "properties": {name: field_schema(info) for name, info in fields.items()},
        "required": [name for name, info in fields.items() if info.is_required()],
    }


def _is_made_model(model: Any) -> TypeGuard[type[BaseModel]]:
    """Return whether a class was made by `create_model` from fields alone."""
    bases: Any = getattr(model, "__bases__", ())
    # A class statement keeps the names around it; `create_model` does not.
    if bases != (BaseModel,) or "__pydantic_parent_namespace__" in vars(model) or model.model_config:
        return False
    validators = model.__pydantic_decorators__
    return not any(getattr(validators, each.name) for each in dataclasses.fields(validators))


_NOT_HELD = ("exclude", "discriminator", "deprecated", "json_schema_extra", "frozen", "validate_default", "examples")


def field_schema(info: FieldInfo, ignore: type = NoneType) -> Schema:
    """Return a field as a JSON schema: its type, constraints, description, title, alias and default.

    Metadata of the type `ignore` is left to the caller.

    Raises:
        NotHeldError: a file can't store it.
    """
    schema = type_schema(info.annotation)
    for part in info.metadata:
        if not isinstance(part, ignore):
            schema |= constraint_schema(part)
    for name in _NOT_HELD:
        if getattr(info, name, None) is not None:
            raise NotHeldError(f"the argument {name}")
    if info.validation_alias != info.alias or info.serialization_alias != info.alias:
        raise NotHeldError("an alias that differs for reading and writing")
    schema |= {name: value for name in ("title", "description", "alias") if (value := getattr(info, name)) is not None}
    if info.default_factory is not None:
        names = [name for name, made in _FACTORIES.items() if made is info.default_factory]
        if not names:
            raise NotHeldError("a default_factory")
        schema["default_factory"] = names[0]
    elif info.default is not PydanticUndefined:
        if not _is_json(info.default):
            raise NotHeldError(f"the default {snippet(repr(info.default), 60)}")
        schema["default"] = info.default
    return schema


def _is_json(value: Any) -> bool:
    if is_object(value):
        return all(type(name) is str and _is_json(part) for name, part in value.items())
    return all(map(_is_json, value)) if is_array(value) else type(value) in (str, int, float, bool, NoneType)


# ── back ──


def schema_type(node: Any, depth: int = 0) -> Any:
    """Return the type that `type_schema` described.

    Raises:
        ConfigurationError: it is not such a schema.
    """
    if not is_object(node) or depth > _DEEPEST:
        _refuse(node)
    rest = {name: part for name, part in node.items() if name not in _OF_FIELD}
    constraints = {_CONSTRAINTS[name]: rest.pop(name) for name in [*rest] if name in _CONSTRAINTS}
    kind = _model(node, depth) if "properties" in rest else _bare_type(rest, depth)
    if not constraints:
        return kind
    strip = constraints.pop("strip_whitespace", None)
    parts = [] if strip is None else [StringConstraints(strip_whitespace=bool(strip))]
    return Annotated[(kind, *parts, *([pydantic.Field(**constraints)] if constraints else []))]


def _bare_type(node: Schema, depth: int) -> Any:
    plain = {name: part for name, part in node.items() if isinstance(part, str)}
    if plain == node and tuple(sorted(plain.items())) in _TYPES:
        return _TYPES[tuple(sorted(plain.items()))]
    match node:
        case {"enum": [_, *_] as values, **rest} if not rest:
            if all(type(value) in (str, int, bool, NoneType) for value in values):
                return Literal[tuple(values)]
        case {"anyOf": [_, *_] as options, **rest} if not rest:
            return Union[tuple(schema_type(option, depth + 1) for option in options)]  # noqa: UP007 - made while it runs
        case {"type": "array", "items": items, "uniqueItems": True, **rest} if not rest:
            return set[schema_type(items, depth + 1)]  # type: ignore[misc]
        case {"type": "array", "items": items, **rest} if not rest:
            return list[schema_type(items, depth + 1)]  # type: ignore[misc]
        case {"type": "array", "prefixItems": [_, *_] as items, **rest} if not rest:
            return tuple[tuple(schema_type(item, depth + 1) for item in items)]  # type: ignore[misc]
        case {"type": "object", "additionalProperties": values, **rest} if not rest:
            return dict[str, schema_type(values, depth + 1)]  # type: ignore[misc]
        case _:
            pass
    return _refuse(node)


def _model(node: Schema, depth: int) -> Any:
    match node:
        case {"type": "object", "model": str(name), "properties": {**properties}, "required": [*required], **rest} if (
            rest.keys() <= _OF_FIELD
        ):
            fields = {str(key): (schema_type(part, depth + 1), field_of(part)) for key, part in properties.items()}
            if [key for key, (_, info) in fields.items() if info.is_required()] != required:
                _refuse(node)
            model = pydantic.create_model(name, __cls_kwargs__={"metaclass": MadeClass}, **fields)  # type: ignore[call-overload]
            model.__made__ = Made(schema_type, (node,))  # so that it can be pickled
            return model  # pyright: ignore[reportUnknownVariableType]
        case _:
            return _refuse(node)


def field_arguments(node: Any) -> dict[str, Any]:
    """Return the arguments of `pydantic.Field` in a schema, except its type and constraints.

    Raises:
        ConfigurationError: it is not a schema of a field.
    """
    if not is_object(node):
        _refuse(node)
    found: dict[str, Any] = {name: node[name] for name in sorted(_OF_FIELD & node.keys())}
    if not all(isinstance(found.get(name, ""), str) for name in ("title", "description", "alias")):
        _refuse(node)
    if (factory := found.get("default_factory")) is not None:
        if not isinstance(factory, str) or factory not in _FACTORIES:
            _refuse(node)
        found["default_factory"] = _FACTORIES[factory]
    return found


def field_of(node: Any) -> FieldInfo:
    """Return the field that `field_schema` described; its type is `schema_type(node)`."""
    info: FieldInfo = pydantic.Field(**field_arguments(node))
    return info


def _refuse(node: object) -> NoReturn:
    raise ConfigurationError(f"{snippet(repr(node), 80)} is not a type that a file can store")
