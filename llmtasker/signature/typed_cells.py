"""valid_half: the input half of a signature, made from the values of a row whose cells may have other types."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from math import isfinite
from numbers import Integral, Real
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

_EXACT = 2**53  # below it, each integral float is one integer
_H = TypeVar("_H", bound=BaseModel)


def valid_half(half: type[_H], given: Mapping[str, Any]) -> tuple[_H, Mapping[str, Any]]:
    """Return the input half made of the given values, and these values with the texts that were read.

    Excel, Parquet and JSON have numbers and dates where CSV has texts: in place of a text, they are read as the text
    that CSV has. A strict signature refuses them.

    Raises:
        ValidationError: a value does not fit.
    """
    try:
        return half.model_validate(given), given
    except ValidationError as error:
        refused = {str(one["loc"][0]): one["input"] for one in error.errors() if one["type"] == "string_type"}
        texts = {
            name: text
            for name, value in refused.items()
            if given.get(name) is value and (text := cell_as_text(value)) is not None
        }
        if not texts or half.model_config.get("strict"):
            raise
    given = {**given, **texts}
    return half.model_validate(given), given


def cell_as_text(value: object) -> str | None:
    """Return a number or a date as plain text, an integral number without ".0"; None for any other value.

    >>> cell_as_text(75011), cell_as_text(75011.0), cell_as_text(date(2026, 3, 1)), cell_as_text(True)
    ('75011', '75011', '2026-03-01', None)
    """
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return None
    if isinstance(value, Integral):
        return str(value)
    number = float(value)
    if not isfinite(number):
        return None
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(int(number)) if number.is_integer() and abs(number) < _EXACT else str(value)
