"""JSON values whose form is not known beforehand."""

from __future__ import annotations

import json
from typing import Any, TypeGuard


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Return whether a value is a JSON object."""
    return isinstance(value, dict)


def is_array(value: Any) -> TypeGuard[list[Any]]:
    """Return whether a value is a JSON array."""
    return isinstance(value, list)


def json_text(value: Any) -> str:
    """Return a value as JSON text."""
    # NaN is written as it came: it is for the parser of the answer to reject it.
    return json.dumps(value, ensure_ascii=False)


def as_list(value: Any) -> list[Any]:
    """Return an array as it is, and anything else as an array of one."""
    return value if is_array(value) else [value]


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)  # `json.dumps` would make one for each call


def canonical_json(value: Any) -> str:
    """Return the one compact ASCII JSON text of a JSON value; keys keep their order, for the LLM sees it too."""
    return _ENCODER.encode(value)
