"""JSON values and their texts: strict parsing, the canonical text, type guards, numbers that JSON can't write."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, TypeGuard

_LONGEST_INT = 14_000  # bits; Python does not write numbers of more than 4,300 digits


class NotStrictError(ValueError):
    """JSON that is ambiguous: a duplicate key with two values, NaN, Infinity, a number out of range."""


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Return whether a value is a JSON object."""
    return isinstance(value, dict)


def is_array(value: Any) -> TypeGuard[list[Any]]:
    """Return whether a value is a JSON array."""
    return isinstance(value, list)


def is_mapping(value: Any) -> TypeGuard[Mapping[Any, Any]]:
    """Return whether a value is a mapping of any kind, with keys of any type."""
    return type(value) is dict or isinstance(value, Mapping)  # asking an abstract class is slow


def as_list(value: Any) -> list[Any]:
    """Return an array as it is, and anything else as an array of one."""
    return value if is_array(value) else [value]


def parts(value: Any) -> Iterator[Any]:
    """Yield a JSON value and all values in it, the outermost first.

    >>> list(parts({"a": [1, 2]}))
    [{'a': [1, 2]}, [1, 2], 1, 2]
    """
    yield value
    for inner in value.values() if is_object(value) else value if is_array(value) else ():
        yield from parts(inner)


# ── reading ──


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        for key, value in pairs:
            if made[key] != value or type(made[key]) is not type(value):
                raise NotStrictError(f"the key {key[:40]!r} appears twice, with different values")
    return made


def _constant(name: str) -> Any:
    raise NotStrictError(f"{name} is not a JSON number")


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise NotStrictError(f"the number {text[:40]} is out of range")
    return number


_STRICT = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
_RAW_CONTROLS = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, strict=False)


def parse_json(text: str, *, raw_controls: bool = False) -> Any:
    """Return the JSON value of a text.

    Stricter than `json.loads`: keys that differ in value, NaN, Infinity and floats out of range are errors.
    `raw_controls` allows line breaks and tabs inside strings.

    Raises:
        NotStrictError: it is JSON, but ambiguous.
        ValueError: it is not JSON, or an integer has thousands of digits.
        RecursionError: it is nested too deep.
    """
    return (_RAW_CONTROLS if raw_controls else _STRICT).decode(text)


def parse_json_at(text: str, start: int) -> tuple[Any, int]:
    """Return the JSON value that begins at `start`, and the index after it; raises what `parse_json` raises.

    >>> parse_json_at('answer: {"a": 1}.', 8)
    ({'a': 1}, 16)
    """
    return _STRICT.raw_decode(text, start)


def parse_json_loosely(text: str) -> tuple[Any, bool]:
    """Return the JSON value of a text, with NaN, Infinity and numbers out of range as texts.

    Of several equal keys it has the last; the second result is whether any of the others had another value.

    Raises:
        ValueError, RecursionError: as `parse_json`.

    >>> parse_json_loosely('{"a": NaN, "b": 1, "b": 2}')
    ({'a': 'NaN', 'b': 2}, True)
    """
    doubled: list[str] = []

    def last(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        doubled.extend(key for key, value in pairs if len(made) != len(pairs) and made[key] != value)
        return made

    def number(digits: str) -> float | str:
        found = float(digits)
        return digits if math.isinf(found) else found

    return json.loads(text, parse_constant=str, parse_float=number, object_pairs_hook=last), bool(doubled)


# ── writing ──

canonical_json: Callable[[Any], str] = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
"""Return the one compact ASCII JSON text of a JSON value; keys keep their order, because the LLM sees it too."""


def json_text(value: Any) -> str:
    """Return a JSON value as text."""
    # NaN is written as it is, because the parser of the answer has to reject it.
    return json.dumps(value, ensure_ascii=False)


def json_number(value: float) -> int | float | str:
    """Return a number in a form that JSON allows: as text if it is not finite, or has more digits than Python writes.

    The texts are those that Pydantic reads as numbers.

    >>> json_number(0.5), json_number(float("nan")), json_number(float("-inf"))
    (0.5, 'NaN', '-Infinity')
    """
    if isinstance(value, int):
        # Decimal has no limit on its digits.
        return int(value) if value.bit_length() < _LONGEST_INT else str(Decimal(value))
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
