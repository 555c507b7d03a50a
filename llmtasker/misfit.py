"""Why a value does not fit: what Pydantic or a validator said, short, and without whole texts."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ValidationError

from llmtasker.errors import snippet

_MOST = 5


def describe(error: BaseException) -> str:
    """Return what does not fit, a field at a time, with a short piece of each value."""
    if not isinstance(error, ValidationError):
        return f"{type(error).__name__}: {snippet(error)}"
    parts: list[str] = []
    for found in error.errors(include_url=False, include_context=False)[:_MOST]:
        where = f"{'.'.join(map(str, found['loc']))}: " if found["loc"] else ""
        # The value of a failing model validator is the whole record: too long and too private to show.
        value = "" if isinstance(found["input"], Mapping | BaseModel) else f" (got {_shown(found['input'])})"
        parts.append(f"{where}{snippet(found['msg'].removeprefix('Value error, '))}{value}")
    more = error.error_count() - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more > 0 else "")


def _shown(value: object) -> str:
    try:
        return snippet(repr(value), 60)
    except Exception:  # noqa: BLE001 - __repr__ of a foreign object may raise anything
        return f"a {type(value).__name__}"
