"""in_order: sets whose order of iteration depends only on their elements, and is the same in every process.

Python orders a set of texts by hashes that differ from process to process (PYTHONHASHSEED), and the order in which the
LLM sees the elements is part of the cache key.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json

_PLAIN = str | int | float | bytes | None


class _OrderedSet(set[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(in_order_of_text(super().__iter__()))


class _OrderedFrozenSet(frozenset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(in_order_of_text(super().__iter__()))


def in_order_of_text(elements: Iterable[Any]) -> list[Any]:
    """Return elements in the order of their JSON texts, numbers in that of their values.

    >>> in_order_of_text({"b", "a", 10, 9})
    [9, 10, 'a', 'b']
    """
    return sorted(map(in_order, elements), key=_rank)


def _rank(element: Any) -> tuple[bool, float, bytes]:
    if isinstance(element, int | float) and abs(element) < 1e300:
        return False, element, b""
    return True, 0.0, to_json(element, fallback=repr)


def in_order(value: Any) -> Any:
    """Return a value whose sets, at every depth, are iterated in order; a value without sets is returned as it is.

    Sets inside classes other than models and dataclasses are not found.
    """
    given: Any = value  # so that a type checker does not narrow it to a list of unknown elements
    if isinstance(value, _PLAIN | _OrderedSet | _OrderedFrozenSet):
        return given
    if isinstance(value, set | frozenset):
        return _OrderedSet(given) if isinstance(value, set) else _OrderedFrozenSet(given)
    if isinstance(value, dict):
        parts = _changed(given.items())
        return {**given, **parts} if parts else given
    if isinstance(value, list | tuple):
        numbered: enumerate[Any] = enumerate(given)
        parts = _changed(numbered)
        if not parts:
            return given
        elements = [parts.get(place, part) for place, part in enumerate(given)]
        if isinstance(value, list):
            return elements
        # A named tuple takes its elements one by one.
        return type(given)(*elements) if hasattr(given, "_fields") else tuple(elements)
    if isinstance(value, BaseModel):
        parts = _changed([*vars(value).items(), *(value.__pydantic_extra__ or {}).items()])
        return value.model_copy(update=parts) if parts else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = _changed((field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value))
        if not parts:
            return value
        value = copy.copy(value)
        for name, part in parts.items():
            object.__setattr__(value, name, part)
    return value


def _changed(parts: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for name, part in parts:
        if not isinstance(part, _PLAIN) and (ordered := in_order(part)) is not part:
            found[name] = ordered
    return found
