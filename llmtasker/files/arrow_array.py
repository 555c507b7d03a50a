"""exact_array: a column of Arrow that gives back exactly the values that it was made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any, cast

from llmtasker.values.json_values import is_object
from llmtasker.values.same_value import is_missing, same_values

MAX_LEVELS = 100
"""Levels of lists and objects in a column; a list that is in itself would end the process in Arrow."""

_PLAIN = {str: "string", int: "int64", float: "double", bool: "bool", bytes: "binary"}
"""Types of Arrow that store exactly, or refuse, what a column with values of one type has; they are not compared."""


def exact_array(values: Sequence[Any], type_: Any = None) -> Any:
    """Return values as an array of a type, else of the type that Arrow finds; None if it would not hold all exactly.

    Arrow makes one time zone of several, days of moments, and times without a zone of those with one, silently:
    what it took is compared with what it gives back.
    """
    arrow = import_module("pyarrow")
    values = [None if is_missing(value) else value for value in values]
    try:
        if not all(map(is_storable, values)):
            return None
        array = arrow.array(values, type_)
        plain = [_PLAIN.get(kind) for kind in set(map(type, values)) - {type(None)}] in ([], [str(array.type)])
        return array if plain or same_values(values, array.to_pylist()) else None
    except (arrow.ArrowException, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError):
        return None


def is_storable(value: Any, levels: int = MAX_LEVELS) -> bool:
    """Return whether a value has no more levels of lists and objects than a table is given."""
    parts: Iterable[Any]
    if is_object(value):
        parts = value.values()
    elif isinstance(value, list | tuple):
        parts = cast("Iterable[Any]", value)
    else:
        return True
    return levels > 0 and all(is_storable(part, levels - 1) for part in parts)
