"""exact_array: a column of Arrow that gives back exactly the values that it was made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, cast

from llmtasker.errors import ConfigurationError, snippet
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
    kinds = set(map(type, values)) - {type(None)}
    plain = [_PLAIN[kind] for kind in kinds if kind in _PLAIN] if len(kinds) < 2 else []
    try:
        if not plain:
            values = [None if is_missing(value) else value for value in values]
            if not all(map(is_storable, values)):
                return None
        array = arrow.array(values, type_)
        return array if [str(array.type)] == plain or same_values(values, array.to_pylist()) else None
    except (arrow.ArrowException, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError):
        return None


def exact_list(column: Any, name: str) -> list[Any]:
    """Return the values of an array; as texts the days and times that Python can't hold.

    Raises:
        ConfigurationError: they have no text either; `name` is that of the column.
    """
    arrow = import_module("pyarrow")
    known = (arrow.ArrowException, TypeError, ValueError, ArithmeticError, AttributeError, ImportError)
    with suppress(*known):
        values: list[Any] = column.to_pylist()
        # Python's times have microseconds, and Arrow cuts what is finer.
        if "time64[ns]" not in str(column.type) or arrow.array(values, column.type).equals(column):
            return values
    try:
        found: list[Any] = column.cast(_with_texts(arrow, column.type)).to_pylist()
    except known as error:
        raise ConfigurationError(f"can't read the column {name!r} ({column.type}): {snippet(error)}") from error
    return found


def _with_texts(arrow: Any, type_: Any) -> Any:
    """Return a type with texts in the place of days and times."""
    if arrow.types.is_list(type_):
        return arrow.list_(_with_texts(arrow, type_.value_type))
    if arrow.types.is_struct(type_):
        return arrow.struct([(field.name, _with_texts(arrow, field.type)) for field in type_])
    return arrow.string() if arrow.types.is_temporal(type_) else type_


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
