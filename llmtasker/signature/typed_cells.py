"""text_cells: the cells of a row of a file, with numbers and dates as texts where the task takes texts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from math import isfinite
from numbers import Integral, Real
from typing import Any

from pydantic import ValidationError

from llmtasker.signature.signature import Signature

_EXACT = 2**53  # below it, each integral float is one integer


def text_cells(signature: type[Signature], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the input of a row of a file, with the texts that CSV has in place of numbers and dates for texts.

    Excel, Parquet and JSON have types that the author of a file did not choose, such as numbers for postal codes. A
    strict signature takes them as they are, and so does a row in Python or in a request.
    """
    cells = dict(given)
    if all(isinstance(cell, str) for cell in cells.values()) or signature.model_config.get("strict"):
        return cells
    try:
        signature.input_model.model_validate(cells)
    except ValidationError as error:
        for one in error.errors():
            name, cell = str(one["loc"][0]) if one["loc"] else "", one["input"]
            if one["type"] == "string_type" and cells.get(name) is cell and (text := cell_as_text(cell)) is not None:
                cells[name] = text
    except Exception:  # noqa: BLE001 - a validator may raise anything; it does again when the row is validated
        return cells
    return cells


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
