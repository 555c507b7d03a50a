"""TypedAnswers: stored answers with the types of their fields, for files with types that JSON lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from llmtasker.files.cells import cell_json
from llmtasker.signature.signature import Signature

_LACKED = (date, time, timedelta, Decimal)  # types that are texts in JSON


class TypedAnswers:
    """The output fields of a signature whose values are dates, times, durations or decimals, also in lists."""

    def __init__(self, signature: type[Signature]) -> None:
        types: dict[str, Any] = {name: info.annotation for name, info in signature.output_fields.items()}
        self._checks = {
            name: TypeAdapter[Any](kind)
            for name, kind in types.items()
            if any(issubclass(one, _LACKED) for one in _classes(kind))
        }

    def __bool__(self) -> bool:
        return bool(self._checks)

    def typed(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an answer with the types of its fields; a value that no longer has the type stays as it is."""
        return {name: self._value(name, value) for name, value in answer.items()} if self._checks else answer

    def _value(self, name: str, value: Any) -> Any:
        check = self._checks.get(name)
        if check is None or value is None:
            return value
        try:
            return check.validate_json(cell_json(value))
        except ValidationError:
            return value


def _classes(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type):
        yield annotation
    for part in get_args(annotation):
        yield from _classes(part)
