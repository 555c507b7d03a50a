"""InputField, OutputField: the fields of a signature, and whether each is an input or an output."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import pydantic
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainValidator,
    PydanticUserError,
    TypeAdapter,
    WrapValidator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, SchemaError

from llmtasker.errors import SignatureError, nearest, snippet
from llmtasker.values.json_values import canonical_json, is_mapping

Side = Literal["input", "output"]

VALIDATORS = (AfterValidator, BeforeValidator, PlainValidator, WrapValidator)

RESERVED = frozenset({"classes", "examples"})
"""Names that have another meaning in instructions."""


@dataclass(frozen=True, slots=True)
class FieldMarker:
    """Whether a field is an input or an output; stored in the metadata of the Pydantic field."""

    side: Side
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    may_be_empty: bool = False


def InputField(default: Any = PydanticUndefined, **constraints: Any) -> Any:  # noqa: N802 - named like pydantic.Field
    """Mark a field that the caller gives; accepts what `pydantic.Field` accepts (description, default, max_length …).

    A required text must not be empty, unless `min_length=0` allows it. Type checkers see a default only if it is
    named: `InputField(default="mail")`.

    Raises:
        SignatureError: there is no such argument.
    """
    _check_arguments("InputField", constraints)
    may_be_empty = constraints.get("min_length") == 0
    if may_be_empty:
        del constraints["min_length"]  # Pydantic would count the characters, and refuse a lone surrogate
    return _marked(FieldMarker("input", may_be_empty=may_be_empty), default, constraints)


def OutputField(  # noqa: N802 - named like pydantic.Field
    default: Any = PydanticUndefined, *, labels: Mapping[Any, str] | None = None, **constraints: Any
) -> Any:
    """Mark a field that the LLM fills; accepts what `pydantic.Field` accepts (description, default, ge, pattern …).

    `labels` gives the meanings of the values of a Literal or Enum, which the LLM sees. Type checkers see a default only
    if it is named: `OutputField(default=None)`.

    Raises:
        SignatureError: there is no such argument, or labels is not a mapping from value to meaning.
    """
    _check_arguments("OutputField", constraints)
    given: object = {} if labels is None else labels
    if not is_mapping(given) or not all(isinstance(meaning, str) for meaning in given.values()):
        raise SignatureError(f"labels is a mapping from value to meaning, not {snippet(repr(given), 60)}.")
    described = {label_text(label): meaning for label, meaning in (labels or {}).items()}
    return _marked(FieldMarker("output", described), default, constraints)


# Arguments of DSPy's fields, and what to use instead.
_OF_DSPY = {
    "desc": "write description=…",
    "prefix": "the name of the field is shown; describe the field with description=…",
    "format": "override Signature.format_input to show an input in another form",
    "parser": "give the field a type, or write a validator",
}


@cache
def _arguments() -> tuple[str, ...]:
    return tuple(name for name in inspect.signature(pydantic.Field).parameters if name not in {"default", "extra"})


def _check_arguments(owner: str, given: Iterable[str]) -> None:
    # Pydantic puts arguments that it does not know into the schema, and only warns.
    for name in given:
        if name == "labels":
            raise SignatureError(f"{owner} has no argument 'labels': labels belong to an OutputField.")
        if name in _OF_DSPY:
            raise SignatureError(f"{owner} has no argument {name!r}: {_OF_DSPY[name]}.")
        if name not in _arguments():
            raise SignatureError(
                f"{owner} has no argument {name!r}.{nearest(name, ['labels', *_arguments()])} It takes what "
                "pydantic.Field takes; other keywords of the JSON schema go into json_schema_extra={…}."
            )


def _marked(marker: FieldMarker, default: Any, constraints: dict[str, Any]) -> Any:
    alias = constraints.get("alias")
    if not (alias is None or isinstance(alias, str)):
        raise SignatureError(f"alias is a text, not {snippet(repr(alias), 60)}.")
    try:
        info = pydantic.Field(default, **constraints)
    except (TypeError, RuntimeError) as error:  # a default beside a default_factory, an alias of another type …
        raise SignatureError(f"{marker.side} field: {snippet(error)}") from error
    info.metadata.append(marker)
    return info


def marker_of(info: FieldInfo) -> FieldMarker | None:
    """Return the mark of a field; None: it is neither an input nor an output."""
    # The last marker wins: a subclass may declare an inherited field again.
    return next((mark for mark in reversed(info.metadata) if isinstance(mark, FieldMarker)), None)


def constraints_of(info: FieldInfo) -> list[Any]:
    """Return the constraints and validators of a field."""
    return [part for part in info.metadata if not isinstance(part, FieldMarker)]


def label_descriptions(info: FieldInfo) -> Mapping[str, str]:
    """Return the meanings of a field's labels, from `OutputField(labels=…)`."""
    marker = marker_of(info)
    return marker.labels if marker else {}


def label_text(label: object) -> str:
    """Return a label as it is shown: a text as it is, a number or a boolean as in JSON.

    >>> label_text(True), label_text("a")
    ('true', 'a')
    """
    plain = label.value if isinstance(label, Enum) else label
    return plain if isinstance(plain, str) else canonical_json(plain)


# Pydantic accepts a constraint on any type, and fails only when a value arrives. Types that can't have it:
_COLLECTIONS = (str, bytes, list, dict, tuple, set, frozenset)
_SINGLE_VALUES = (bool, int, float, complex, Decimal, date, time, timedelta)
_NOT_FOR: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("ge", "gt", "le", "lt"), _COLLECTIONS),
    **dict.fromkeys(("multiple_of", "max_digits", "decimal_places", "allow_inf_nan"), _COLLECTIONS),
    **dict.fromkeys(("min_length", "max_length"), _SINGLE_VALUES),
    "pattern": (*_SINGLE_VALUES, list, dict, tuple, set, frozenset),
}


def check_constraints(owner: str, name: str, info: FieldInfo) -> None:
    """Check that a value of the field's type can meet its constraints: `ge=1` has no meaning for a text.

    Raises:
        SignatureError: no type of the field can meet a constraint.
    """
    union = get_origin(info.annotation) in (Union, UnionType)
    members = get_args(info.annotation) if union else (info.annotation,)
    kinds: list[Any] = [get_origin(member) or member for member in members if member is not NoneType]
    for part in constraints_of(info):
        for constraint, refused in _NOT_FOR.items():
            bound = getattr(part, constraint, None)
            if bound is None or (isinstance(bound, _COLLECTIONS) and constraint in {"ge", "gt", "le", "lt"}):
                continue  # texts and lists can be compared with their like
            if kinds and all(isinstance(kind, type) and issubclass(kind, refused) for kind in kinds):
                shown = " | ".join(kind.__name__ for kind in kinds)
                raise SignatureError(
                    f"{owner}.{name}: {constraint}={bound!r} can't be applied to {shown}. Change the type or remove it."
                )


def check_bounds(owner: str, name: str, info: FieldInfo, config: ConfigDict) -> None:
    """Check that Pydantic can apply the constraints of a field: `ge="a"` can't bound a number, "(" is not a pattern.

    Raises:
        SignatureError: it can't apply one.
    """
    bounds = [part for part in constraints_of(info) if not isinstance(part, VALIDATORS)]
    kind: Any = info.annotation
    if not bounds or (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return
    try:
        TypeAdapter[Any](_annotated(kind, bounds), config=config)
    except PydanticUserError:
        return  # the type itself is wrong, or has its own settings; Pydantic's error for the class explains more
    except (SchemaError, RuntimeError, TypeError) as error:
        given = ", ".join(re.sub(r"^\w+\((.*)\)$", r"\1", repr(part)) for part in bounds)
        words = " ".join(line for line in str(error).splitlines() if "Error building" not in line)
        raise SignatureError(f"{owner}.{name}: {snippet(given, 60)} can't be applied: {snippet(words)}") from error


def _annotated(kind: Any, parts: Iterable[Any]) -> Any:
    for part in parts:
        kind = Annotated[kind, part]
    return kind


def check_alias(owner: str, name: str, info: FieldInfo) -> None:
    """Check that the name of a field in answers is one that the schema can show.

    Raises:
        SignatureError: it is a path into an object.
    """
    alias = info.validation_alias
    first = alias.choices[0] if isinstance(alias, AliasChoices) else alias
    if isinstance(first, AliasPath):
        raise SignatureError(
            f"{owner}.{name}: an AliasPath leads into an object that the LLM does not see. Give a text as alias, or "
            "make the object a field, with a model as its type."
        )


def check_labels(owner: str, name: str, info: FieldInfo) -> None:
    """Check that each label that a field describes is a value of its type.

    Raises:
        SignatureError: one is not.
    """
    described = label_descriptions(info)
    values = [label_text(value) for value in _values(info.annotation)] if described else []
    if described and not values and not holds_text(info.annotation):
        raise SignatureError(
            f"{owner}.{name}: labels=… needs a type that has labels: Literal[…], an Enum, str, or a list of these."
        )
    if not values:
        return  # a text, which may be any label
    for label in described:
        if label not in values:
            raise SignatureError(
                f"{owner}.{name}: labels describes {label!r}, which is not a value of the field."
                f"{nearest(label, values)} The values are {snippet(', '.join(values), 200)}."
            )


def _values(annotation: Any) -> Iterator[Any]:
    """Yield the values of each Literal and Enum in a type."""
    if get_origin(annotation) is Literal:
        for value in get_args(annotation):
            yield value.value if isinstance(value, Enum) else value
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        yield from (member.value for member in annotation)
    else:
        for part in get_args(annotation):
            yield from _values(part)


def holds_text(annotation: Any) -> bool:
    """Return whether a type takes any text, perhaps among other values."""
    return annotation is str or any(map(holds_text, get_args(annotation)))


def wire_name(name: str, info: FieldInfo) -> str:
    """Return the name that a field has in the schema and in answers: its alias, if it has one."""
    alias = info.validation_alias or info.alias
    if isinstance(alias, AliasChoices):
        alias = alias.choices[0]
    return alias if isinstance(alias, str) else name


def check_types(owner: str, kinds: Mapping[str, Any]) -> None:
    """Raise SignatureError if a text or a list is given as the type of a field, alone or before the field."""
    for name, given in kinds.items():
        kind = cast("object", given[0] if isinstance(given, tuple) and given else given)
        if isinstance(kind, str | list):
            shown = repr(cast("object", kind))
            write = "write str, int or the like" if isinstance(kind, str) else f"write Literal{shown}"
            raise SignatureError(f"{owner}.{name}: {snippet(shown, 60)} is not a type; {write}.")


def check_text(owner: str, instructions: object) -> None:
    """Raise SignatureError for instructions that are not a text."""
    if not isinstance(instructions, str):
        raise SignatureError(f"{owner}: instructions are a text, not {snippet(repr(instructions), 60)}.")
