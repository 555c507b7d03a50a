"""Gold rows: inputs with their right answers, from a file, a table or records, checked before any call."""

from __future__ import annotations

import os
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from llmtasker.errors import ConfigurationError, InputError, counted, describe, snippet
from llmtasker.evaluation.gold_cells import GoldCells, fields_alone, known_cell
from llmtasker.files import BrokenRow, Format, detect, read_rows
from llmtasker.files.cells import cell_json
from llmtasker.item import jsonable
from llmtasker.runner.inputs import rows_of
from llmtasker.signature.signature import Signature
from llmtasker.signature.typed_cells import text_cells
from llmtasker.values.json_values import is_mapping

Gold = str | os.PathLike[str] | Iterable[Any]
"""A file, a table, records of the signature, or mappings."""


@dataclass(frozen=True)
class GoldFile:
    """The gold rows of a file with a known format."""

    path: Path
    form: Format

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return read_rows(self.path, self.form)

    def __str__(self) -> str:
        return f"{self.path.name}: {self.form}"


_NO_SLICES: dict[str, str] = {}


class GoldRow(NamedTuple):
    """An input with its right outputs, as JSON by field and as a record; `key` is a hash of the input.

    The record may lack outputs that are not measured. `error` is the reason why an input does not fit: it is not sent,
    and counts as failed.
    """

    key: str
    given: dict[str, Any]
    gold: dict[str, Any]
    record: Signature
    slices: dict[str, str]
    cluster: Hashable = None
    error: InputError | None = None


def gold_rows(
    signature: type[Signature],
    gold: Gold,
    *,
    columns: Mapping[str, str] | None = None,
    slices: Sequence[str] = (),
    cluster: str | None = None,
) -> tuple[list[GoldRow], int]:
    """Return the gold rows, and the number of rows without gold, which are left out.

    `columns` maps a field, input or output, to a column with another name. An output field without a column is not
    measured. If an input does not fit, `error` has the reason.

    Raises:
        ConfigurationError: a column is missing, a right output does not fit the signature, or there are no rows.
    """
    names = dict(columns or {})
    if unknown := names.keys() - {*signature.input_fields, *signature.output_fields}:
        fields = ", ".join((*signature.input_fields, *signature.output_fields))
        raise ConfigurationError(f"columns: there is no field {min(unknown)!r}; the fields are {fields}.")
    _check_columns(slices, cluster)
    rows, without, gold = list[GoldRow](), 0, opened(gold)
    first, given = _up_to_a_whole_row(_mappings(gold, signature))
    if first is None:
        raise ConfigurationError("there are no gold rows.")
    measured = _measured(signature, first, names, [*slices, *([cluster] if cluster else [])])
    reader = _GoldReader(signature, measured, names, slices, cluster, is_file=isinstance(gold, GoldFile))
    for number, row in enumerate(given, start=1):
        values = {name: row.get(names.get(name, name)) for name in measured}
        found = None
        if isinstance(row, _Record) or any(known_cell(value) is not None for value in values.values()):
            found = reader.read(number, row, values)
        if found is None:
            without += 1
        else:
            rows.append(found)
    if not rows:
        reason = f": {counted(without, 'row')} without gold" if without else ""
        raise ConfigurationError(f"there are no gold rows{reason}.")
    return rows, without


def opened(gold: Gold) -> Iterable[Any]:
    """Return the gold rows of a file with the format that is detected in it; other gold as it is.

    Raises:
        ConfigurationError: the file can't be read.
    """
    return GoldFile(Path(gold), detect(gold)) if isinstance(gold, str | os.PathLike) else gold


class _Record(dict[str, Any]):
    """The values of a record of the signature: None or an empty text is its answer, not a missing one."""


def _check_columns(slices: object, cluster: object) -> None:
    if isinstance(slices, str) or not isinstance(slices, Collection):
        shown = snippet(repr(slices), 60)
        raise ConfigurationError(f"slices is a list of columns, such as [{shown}], not {shown}.")
    if not (cluster is None or isinstance(cluster, str)):
        raise ConfigurationError(f"cluster is the name of a column, not {snippet(repr(cluster), 60)}.")


def _up_to_a_whole_row(
    given: Iterator[Mapping[str, Any]],
) -> tuple[Mapping[str, Any] | None, Iterator[Mapping[str, Any]]]:
    """Return the first row that has all columns (else the first row), and an iterator over all rows."""
    seen = list[Mapping[str, Any]]()
    for row in given:
        seen.append(row)
        if not isinstance(row, BrokenRow):
            return row, chain(seen, given)
    return (seen[0] if seen else None), iter(seen)


def _mappings(gold: Iterable[Any], signature: type[Signature]) -> Iterator[Mapping[str, Any]]:
    rows = rows_of(gold)
    if not isinstance(rows, Iterable):
        raise ConfigurationError("gold must be a file, a table, or an iterable of records or mappings.")
    for number, row in enumerate(rows, start=1):
        if is_mapping(row):
            yield row
        elif isinstance(row, signature):
            yield _Record({**row.inputs(), **row.outputs()})
        else:
            raise ConfigurationError(
                f"gold row {number} is {snippet(repr(row), 60)}: give records of {signature.__name__}, or mappings."
            )


def _measured(
    signature: type[Signature], row: Mapping[str, Any], names: Mapping[str, str], others: Sequence[str]
) -> list[str]:
    """Return the output fields that have a column.

    Raises:
        ConfigurationError: an input field has no column, no output field has one, or a named column does not exist.
    """
    there = ", ".join(map(str, row))
    for name, info in signature.input_fields.items():
        if names.get(name, name) not in row and (info.is_required() or name in names):
            column = names.get(name, name)
            raise ConfigurationError(
                f"gold: there is no column {column!r} for {name}; the columns are {there}.",
                give=None if name in names else {"columns": {name: "…"}},
            )
    for column in (*(names[name] for name in names), *others):
        if column not in row:
            raise ConfigurationError(f"gold: there is no column {column!r}; the columns are {there}.")
    measured = [name for name in signature.output_fields if names.get(name, name) in row]
    if not measured:
        fields = ", ".join(signature.output_fields)
        raise ConfigurationError(
            f"gold: no column has right answers ({fields}); the columns are {there}.",
            give={"columns": {next(iter(signature.output_fields)): "…"}},
        )
    return measured


class _GoldReader:
    """Validates gold rows as records of the signature, or, if some outputs are not measured, field by field."""

    def __init__(
        self,
        signature: type[Signature],
        measured: Sequence[str],
        names: Mapping[str, str],
        slices: Sequence[str],
        cluster: str | None,
        *,
        is_file: bool,
    ) -> None:
        self._signature, self._measured, self._is_file = signature, measured, is_file
        self._columns = {name: names.get(name, name) for name in signature.input_fields}
        self._slices, self._cluster = slices, cluster
        self._cells = GoldCells(signature, measured)
        required = {name for name, info in signature.output_fields.items() if info.is_required()}
        self._whole = required <= set(measured)

    @cached_property
    def _alone(self) -> type[BaseModel]:
        return fields_alone(self._signature, self._measured)

    def read(self, number: int, row: Mapping[str, Any], values: Mapping[str, Any]) -> GoldRow | None:
        """Return the gold row with these right outputs; None for a broken row, whose outputs can't be trusted.

        Raises:
            ConfigurationError: the right outputs do not fit the signature.
        """
        given = {name: row[column] for name, column in self._columns.items() if column in row}
        signature = self._signature
        given = text_cells(signature, given) if self._is_file else given
        error: InputError | None = row.error if isinstance(row, BrokenRow) else None
        checked, known = given, given
        if error is None:
            try:
                inputs = signature.validate_input(given)
                checked, known = dict(inputs.given), dict(inputs.values)
            except InputError as found:
                error = found
        try:
            values = values if isinstance(row, _Record) else self._cells.read(values)
            if self._whole and error is None:
                record = signature.model_validate({**checked, **values})
            else:
                read = self._alone.model_validate(values)
                right = {name: getattr(read, name) for name in values}
                record = signature.model_construct(**known, **right)
        except Exception as wrong:  # noqa: BLE001 - a validator of the signature may raise anything
            if isinstance(row, BrokenRow):
                return None  # its cells may be in the wrong columns
            reason = wrong if isinstance(wrong, ConfigurationError) else describe(wrong) + self._cells.unread(values)
            raise ConfigurationError(f"gold row {number} does not fit {signature.__name__}: {reason}.") from None
        shown = cell_json(given if _plain(given) else jsonable(checked))
        return GoldRow(
            key=blake2b(shown.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest(),
            given=given,
            gold={name: jsonable(getattr(record, name)) for name in values},
            record=record,
            slices={name: _cell(row, name) for name in self._slices} if self._slices else _NO_SLICES,
            cluster=None if self._cluster is None else _cell(row, self._cluster),
            error=error,
        )


def _cell(row: Mapping[str, Any], column: str) -> str:
    value = known_cell(row.get(column))
    return "" if value is None else str(value)


def _plain(given: Mapping[str, Any]) -> bool:
    return all(type(value) is str for value in given.values())
