"""same_value: whether a value is unchanged after it went through a table or a file."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, time
from decimal import Decimal
from itertools import zip_longest
from typing import Any, TypeGuard

from llmtasker.values.json_values import is_object

_MISSING = frozenset({"NAType", "NaTType"})
_NOTHING = object()


def is_missing(value: object) -> bool:
    """Return whether a value is None, or a missing value of pandas: NA, NaT."""
    return value is None or type(value).__name__ in _MISSING


def known_value(value: Any) -> Any:
    """Return a value of a table, or None if it is missing there: None, NaN, NA, NaT."""
    missing = value != value if isinstance(value, float) else is_missing(value)
    return None if missing else value


def same_value(before: Any, after: Any) -> bool:
    """Return whether `after` has all the information of `before`.

    Numbers may change their type if they stay exact (7, 7.0); a tuple may come back as a list, and an object with None
    for keys that it did not have. Moments keep their time zone or its absence, days are not moments, and a decimal
    number is not a float.

    >>> same_value(0, False), same_value(Decimal("0.5"), 0.5)
    (False, False)
    >>> same_value([7, (1, 2)], [7.0, [1, 2]]), same_value(date(2025, 3, 1), datetime(2025, 3, 1))
    (True, False)
    """
    if is_missing(before):
        return after is None
    if isinstance(before, str):
        return isinstance(after, str) and before == after
    if isinstance(before, bool) or isinstance(after, bool):
        return before is after or getattr(before, "tolist", object)() is after  # a NumPy boolean
    if isinstance(before, float):
        return isinstance(after, float) and (before == after or (before != before and after != after))
    if isinstance(before, int):
        return isinstance(after, int | float | Decimal) and before == after
    if isinstance(before, Decimal):
        return isinstance(after, Decimal) and (after.is_nan() if before.is_nan() else before == after)
    if isinstance(before, date | time):
        return _same_moment(before, after)
    if is_object(before):
        return is_object(after) and _same_object(before, after)
    if _is_list(before):
        return _is_list(after) and same_values(before, after)
    if hasattr(before, "tolist"):  # arrays and numbers of NumPy
        return same_value(before.tolist(), after)
    return bool(before == after)


def same_values(before: Iterable[Any], after: Iterable[Any]) -> bool:
    """Return whether each value is unchanged, and none is missing or added."""
    return all(same_value(one, other) for one, other in zip_longest(before, after, fillvalue=_NOTHING))


def _same_moment(before: date | time, after: Any) -> bool:
    if isinstance(before, datetime) != isinstance(after, datetime) or before != after:
        return False
    return not isinstance(before, datetime | time) or before.utcoffset() == after.utcoffset()


def _is_list(value: Any) -> TypeGuard[Iterable[Any]]:
    return isinstance(value, list | tuple)


def _same_object(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return before.keys() <= after.keys() and all(same_value(before.get(name), value) for name, value in after.items())
