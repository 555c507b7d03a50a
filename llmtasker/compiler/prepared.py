"""Prepared: how one mode asks for a type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llmtasker.cache.stored_json import stored
from llmtasker.values.json_values import is_object


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """How one mode asks for a type: the fields of the request, and what must be in the system message."""

    fields: Mapping[str, Any]
    note: str = ""


def prepared_once(source: Mapping[str, Any], code: str, make: Callable[[], Prepared]) -> Prepared:
    """Return what any process has prepared from this source before; see `stored`."""

    def made() -> dict[str, Any]:
        prepared = make()
        return {"fields": dict(prepared.fields), "note": prepared.note}

    found = stored(source, code, made)
    fields, note = found.get("fields"), found.get("note")
    return Prepared(fields=fields, note=note) if is_object(fields) and isinstance(note, str) else make()
