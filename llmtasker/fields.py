"""InputField, OutputField: the fields of a signature, and on which side of the task each stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pydantic
from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

Side = Literal["input", "output"]

RESERVED = frozenset({"classes", "examples"})
"""Names that mean something else in instructions."""


@dataclass(frozen=True, slots=True)
class FieldMarker:
    """Says on which side of the task a field stands; rides along in the metadata of the Pydantic field."""

    side: Side
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    may_be_empty: bool = False


def InputField(default: Any = PydanticUndefined, **constraints: Any) -> Any:  # noqa: N802 - named like pydantic.Field
    """Mark a field that the caller gives; takes what `pydantic.Field` takes (description, default, max_length …).

    A required text must not be empty, unless `min_length=0` allows it. Type checkers see a default only where it is
    named: `InputField(default="mail")`.
    """
    may_be_empty = constraints.get("min_length") == 0
    if may_be_empty:
        del constraints["min_length"]  # Pydantic counts the characters even so, and refuses a lone surrogate
    return _marked(FieldMarker("input", may_be_empty=may_be_empty), default, constraints)


def OutputField(  # noqa: N802 - named like pydantic.Field
    default: Any = PydanticUndefined, *, labels: Mapping[str, str] | None = None, **constraints: Any
) -> Any:
    """Mark a field that the LLM fills; takes what `pydantic.Field` takes (description, default, ge, pattern …).

    `labels` says what each value of a Literal or Enum means; the LLM is told. Type checkers see a default only
    where it is named: `OutputField(default=None)`.
    """
    return _marked(FieldMarker("output", dict(labels or {})), default, constraints)


def _marked(marker: FieldMarker, default: Any, constraints: dict[str, Any]) -> Any:
    info = pydantic.Field(default, **constraints)
    info.metadata.append(marker)
    return info


def marker_of(info: FieldInfo) -> FieldMarker | None:
    """Return the mark of a field; None: it is neither an input nor an output."""
    # The last marker wins: a subclass may declare an inherited field anew.
    return next((mark for mark in reversed(info.metadata) if isinstance(mark, FieldMarker)), None)


def constraints_of(info: FieldInfo) -> list[Any]:
    """Return the constraints and validators of a field."""
    return [part for part in info.metadata if not isinstance(part, FieldMarker)]


def label_descriptions(info: FieldInfo) -> Mapping[str, str]:
    """Return what `OutputField(labels=…)` says of each label of a field."""
    marker = marker_of(info)
    return marker.labels if marker else {}


def wire_name(name: str, info: FieldInfo) -> str:
    """Return the name that a field has in the schema and in answers: its alias, if it has one."""
    alias = info.validation_alias or info.alias
    if isinstance(alias, AliasChoices):
        alias = alias.choices[0]
    return alias if isinstance(alias, str) else name
