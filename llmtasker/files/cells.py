"""Values to text and back: any value as JSON, any value as the text of a cell, formulas neutralised."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, time
from decimal import Decimal
from enum import Enum
from typing import Any, cast

from llmtasker.values.json_values import json_number
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.values.same_value import is_missing

MAX_DEPTH = 200
"""Levels of nesting that are written; deeper values are named, not shown."""

# Texts that a spreadsheet runs: OWASP's list for CSV injection, with the full-width forms that Excel reads as ASCII.
_FORMULA = lazy_pattern("'*[=+\\-@\t\r\n＝＋－＠]")
_NUMBER = lazy_pattern(r"-[0-9]+(?:[.,][0-9]+)?(?:[eE][+-]?[0-9]+)?")  # a plus would be lost: +33612345678 is a text
_NEUTRALISED = lazy_pattern("'+[=+\\-@\t\r\n＝＋－＠]")


def neutralise(text: str) -> str:
    """Return a text that spreadsheets don't read as a formula; `restore` returns exactly the original.

    A negative number stays a number.

    >>> neutralise("=1+1"), restore(neutralise("=1+1")), neutralise("a=1"), neutralise("-3,5")
    ("'=1+1", '=1+1', 'a=1', '-3,5')
    """
    return "'" + text if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def restore(text: str) -> str:
    """Return the text that was given to `neutralise`."""
    return text[1:] if _NEUTRALISED.match(text) else text


def cell_text(value: Any, decimal: str = ".") -> str:
    """Return the text of a value in a CSV cell.

    None and the missing values of pandas are empty; dates are ISO 8601, floats have the decimal mark
    given, booleans are `true` and `false`, and nested values are JSON.

    >>> [cell_text(value, decimal=",") for value in ("01234", None, 0.5, True, ["é"], 2**64)]
    ['01234', '', '0,5', 'true', '["é"]', '18446744073709551616']
    """
    if type(value) is str:
        return value
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return str(value)
    if is_missing(value):
        return ""
    if isinstance(value, float | Decimal):
        return str(value).replace(".", decimal)
    # JSON would write NaN as null, and a date in quotes.
    text = cell_json(value)
    return cast(str, json.loads(text)) if text.startswith('"') else text


def utf8_texts(values: Iterable[Any]) -> list[str | None]:
    """Return the texts of values, for a table of UTF-8: None stays, a lone surrogate is written as `\\ud800`."""
    texts = (None if is_missing(value) else cell_text(value) for value in values)
    return [None if text is None else text.encode(errors="backslashreplace").decode() for text in texts]


def cell_json(value: Any) -> str:
    """Return any value as one line of valid JSON, because one odd value must never cost a row.

    NaN and infinity become the texts "NaN" and "Infinity", dates ISO 8601 text, bytes base64, Pydantic models and
    dataclasses objects, sets lists; integers of any size keep every digit (above 4,300 digits as text); lone surrogates
    are escaped (`\\ud800`).

    >>> cell_json({"when": date(2025, 3, 1), "score": float("nan"), "n": 2**64})
    '{"when": "2025-03-01", "score": "NaN", "n": 18446744073709551616}'
    """
    try:
        text = _ENCODER.encode(value)
    except (ValueError, TypeError, RecursionError):
        # NaN, a key that is not a text, a loop, too deep: copy it step by step, which is slower and never fails.
        text = _ENCODER.encode(_plain(value, ()))
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(json.loads(text))
    return text


def _simpler(value: Any) -> Any:
    """Return something closer to JSON for a value that JSON does not support; `json` calls it again where needed."""
    if is_missing(value):
        return None
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return dict(cast(Mapping[object, object], value))
    if isinstance(value, set | frozenset):
        return sorted(cast(Iterable[object], value), key=repr)
    # Pydantic models, our own items and errors, NumPy's arrays and numbers.
    for name in ("model_dump", "to_dict", "tolist"):
        method: Callable[[], Any] | None = getattr(value, name, None)
        if callable(method) and not isinstance(value, type):
            return method()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return str(cast(object, value))


def _simplest(value: Any) -> Any:
    try:
        return _simpler(value)
    except Exception:  # noqa: BLE001 - the value is of a class that we don't know: its methods may raise anything
        return f"<{type(value).__name__}>"


def _plain(value: Any, above: tuple[int, ...]) -> Any:
    """Return a copy with JSON values only. `above` are the ids of its containers: a circular reference ends there."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int | float):
        return json_number(value)
    if id(value) in above or len(above) >= MAX_DEPTH:
        return f"<{type(value).__name__}: nested too deeply>"
    inside = (*above, id(value))
    if isinstance(value, dict):
        return {_key(key): _plain(item, inside) for key, item in cast(dict[object, object], value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item, inside) for item in cast(Iterable[object], value)]
    return _plain(_simplest(value), inside)


def _key(key: Any) -> str:
    plain = _plain(key, ())
    return plain if isinstance(plain, str) else json.dumps(plain)


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_simplest)
