"""Columns: where a row has the inputs of a task, and the values of its variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmtasker.errors import InputError, snippet
from llmtasker.values.json_values import is_mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which columns have which values: `fields` maps input fields to columns, `variables` maps variables to columns.

    A field without a column is looked up by its own name.
    """

    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    variables: Mapping[str, str] = field(default_factory=dict[str, str])

    def inputs(self, row: object) -> Mapping[str, Any]:
        """Return a row with its inputs under the names of their fields.

        Raises:
            InputError: a column is missing.
        """
        row = self._row(row)
        if not self.fields:
            return row
        return {**row, **{name: self._cell(row, column, "input", name) for name, column in self.fields.items()}}

    def values(self, row: object) -> dict[str, Any]:
        """Return the row's values of the variables; an empty cell (None or NaN) keeps the task's value.

        Raises:
            InputError: a column is missing.
        """
        row = self._row(row)
        found = {name: self._cell(row, column, "variable", name) for name, column in self.variables.items()}
        return {name: value for name, value in found.items() if not _is_empty(value)}

    @staticmethod
    def _row(row: object) -> Mapping[str, Any]:
        if is_mapping(row):
            return row
        raise InputError(f"the input is a {type(row).__name__}, not a row with columns: give a mapping.")

    @staticmethod
    def _cell(row: Mapping[str, Any], column: str, kind: str, name: str) -> Any:
        try:
            return row[column]
        except KeyError:
            columns = snippet(", ".join(map(str, row)), 100) or "no columns"
            raise InputError(f"the row has no column {column!r} for the {kind} {name!r}; it has {columns}.") from None


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)
