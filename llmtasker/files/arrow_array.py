"""exact_array: a column of Arrow that returns exactly the values that it was made of."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from itertools import accumulate
from typing import Any, cast

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.values.json_values import is_object
from llmtasker.values.same_value import is_missing, same_values

MAX_LEVELS = 100
"""The levels of lists and objects in a column; a list that contains itself would crash the process in Arrow."""

_PLAIN = {str: "string", int: "int64", float: "double", bool: "bool", bytes: "binary"}
"""Types of Arrow that store exactly, or refuse, what a column with values of one type has; they are not compared."""


def exact_array(values: Sequence[Any], type_: Any = None) -> Any:
    """Return values as an array of a type, else of the type that Arrow finds; None if it can't represent all exactly.

    Arrow silently merges time zones, turns moments into days, and drops zones of times, so its result is compared with
    the values.
    """
    arrow = import_module("pyarrow")
    kinds = set(map(type, values)) - {type(None)}
    plain = [_PLAIN[kind] for kind in kinds if kind in _PLAIN] if len(kinds) < 2 else []
    try:
        if not kinds:
            return arrow.nulls(len(values), type_)
        if plain and str(type_ or plain[0]) == plain[0]:
            with suppress(OverflowError):  # over 2 GB of text, which become several arrays, or over 64 bits
                return _plain_array(values, plain[0])
        if not plain:
            values = [None if is_missing(value) else value for value in values]
            if not all(map(is_storable, values)):
                return None
        found = arrow.array(values, type_)
        return found if same_values(values, found.to_pylist()) else None
    except (arrow.ArrowException, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError):
        return None


def _plain_array(values: Sequence[Any], name: str) -> Any:
    """Return values of one plain type, or None, as an array. `pyarrow.array` would load pandas: 50 MB.

    Raises:
        ValueError: a text has a lone surrogate.
        OverflowError: an integer has more than 64 bits, or the texts are too long for one array.
    """
    arrow = import_module("pyarrow")
    if name in {"string", "binary"}:
        parts = [b"" if value is None else value.encode() if name == "string" else value for value in values]
        buffers = [array("i", accumulate(map(len, parts), initial=0)), b"".join(parts)]
    elif name == "bool":
        buffers = [_bits(values)]
    else:
        buffers = [array("q" if name == "int64" else "d", [0 if value is None else value for value in values])]
    missing = values.count(None)
    valid = None if not missing else _bits([value is not None for value in values])
    made = [None if one is None else arrow.py_buffer(one) for one in (valid, *buffers)]
    return arrow.Array.from_buffers(arrow.type_for_alias(name), len(values), made, missing)


def _bits(flags: Iterable[Any]) -> bytes:
    """Return flags as the bits of bytes, the first as the lowest bit."""
    digits = "".join("1" if flag else "0" for flag in flags)
    return int(digits[::-1] or "0", 2).to_bytes(len(digits) // 8 + 1, "little")


def exact_list(column: Any, name: str) -> list[Any]:
    """Return the values of an array; days and times that Python can't represent become texts.

    Raises:
        ConfigurationError: they can't be texts either; `name` is the name of the column.
    """
    arrow = import_module("pyarrow")
    known = (arrow.ArrowException, TypeError, ValueError, ArithmeticError, AttributeError, ImportError)
    with suppress(*known):
        values: list[Any] = column.to_pylist()
        # Python's times have microseconds, and Arrow drops finer digits.
        if "time64[ns]" not in str(column.type) or arrow.array(values, column.type).equals(column):
            return values
    try:
        # One by one, because a value must not depend on its neighbours.
        return [_held(arrow, cell) for cell in column]
    except known as error:
        raise ConfigurationError(f"can't read the column {name!r} ({column.type}): {snippet(error)}") from error


def _held(arrow: Any, cell: Any) -> Any:
    """Return the value of a scalar; parts that Python can't represent become texts."""
    type_, types = cell.type, arrow.types
    if not cell.is_valid:
        return None
    if isinstance(cell, arrow.DictionaryScalar | arrow.ExtensionScalar):
        return _held(arrow, cell.value)
    if types.is_map(type_):
        return [(_held(arrow, pair[0]), _held(arrow, pair[1])) for pair in cell.values]
    if isinstance(cell, arrow.ListScalar):  # also large ones and those of one size
        return [_held(arrow, part) for part in cell.values]
    if types.is_struct(type_):
        names = [field.name for field in type_]
        if len(set(names)) < len(names):
            raise ValueError(f"an object has one value for a name, and two are named {snippet(max(names), 40)!r}")
        return {name: _held(arrow, cell[place]) for place, name in enumerate(names)}
    if not types.is_temporal(type_):
        return cell.as_py()
    with suppress(arrow.ArrowException, TypeError, ValueError, ArithmeticError, ImportError):
        value = cell.as_py()
        if not types.is_time64(type_) or arrow.scalar(value, type_).equals(cell):
            return value
    return arrow.array([cell]).cast(arrow.string())[0].as_py()


def is_storable(value: Any, levels: int = MAX_LEVELS) -> bool:
    """Return whether a value has at most as many levels of lists and objects as a table may have."""
    parts: Iterable[Any]
    if is_object(value):
        parts = value.values()
    elif isinstance(value, list | tuple):
        parts = cast("Iterable[Any]", value)
    else:
        return True
    return levels > 0 and all(is_storable(part, levels - 1) for part in parts)
