"""GoldCells: right answers as tables and files have them: empty cells, JSON in texts, numbers and dates as people write
them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, create_model, field_validator

from llmtasker.compiler.cell_reader import CellReader
from llmtasker.errors import ConfigurationError
from llmtasker.evaluation.metrics import FieldKind, kind_of, labels_of_type
from llmtasker.signature.signature import Signature
from llmtasker.values.folding import caseless
from llmtasker.values.json_values import is_array, is_object, parse_json
from llmtasker.values.plain_moment import two_days
from llmtasker.values.same_value import known_value

_SEVERAL: frozenset[FieldKind] = frozenset({"labels", "list", "nested"})
"""The kinds of fields that a file without types has as JSON."""


def known_cell(value: Any) -> Any:
    """Return a cell, or None if it is empty or a missing value of pandas or NumPy."""
    return value or None if isinstance(value, str) else known_value(value)


class GoldCells:
    """Reads the cells of some output fields, so that a right answer is read as an answer with the same text."""

    def __init__(self, signature: type[Signature], measured: Sequence[str]) -> None:
        self._signature = signature
        types = {name: signature.output_fields[name].annotation for name in measured}
        self._several = {name for name, type_ in types.items() if kind_of(type_) in _SEVERAL}
        readers = {name: CellReader.of(name, type_) for name, type_ in types.items() if name not in self._several}
        self._readers = {name: reader for name, reader in readers.items() if reader is not None}
        self._labels = {name: labels_of_type(type_) for name, type_ in types.items()}
        self._by_text = {name: _by_folded_text(labels) for name, labels in self._labels.items()}
        self._may_be_empty: dict[str, bool] = {}

    def read(self, cells: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the cells, which may still not fit the signature.

        Raises:
            ConfigurationError: a date, time or duration is a number, or a cell has two readings.
        """
        return {name: self._value(name, cell) for name, cell in cells.items()}

    def unread(self, cells: Mapping[str, Any]) -> str:
        """Return what to write in place of dates that have two readings, for the error of a row; "" if it has none."""
        found = [(name, days) for name, cell in cells.items() if (days := self._two_days(name, cell))]
        return "".join(f"; {name} is {' or '.join(days)}: write it in ISO 8601" for name, days in found)

    def _two_days(self, name: str, cell: Any) -> list[str]:
        reader = self._readers.get(name)
        return two_days(cell) if isinstance(cell, str) and reader is not None and reader.is_moment else []

    def _value(self, name: str, cell: Any) -> Any:
        if known_cell(cell) is None:
            return cell if isinstance(cell, str) and self._takes_empty(name) else None
        if name in self._several:
            several = _parsed(cell)
            return [self._label(name, one) for one in several] if is_array(several) else several
        reader = self._readers.get(name)
        if reader is None:
            return cell if cell in self._labels[name] else self._label(name, cell)
        if self._two_days(name, cell):  # which a validator of the signature may read
            return cell
        try:
            return reader.read(cell)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None

    def _label(self, name: str, cell: Any) -> Any:
        """Return the label of a text that differs from it only in case or spaces; else the cell as it is."""
        return self._by_text[name].get(_folded(cell), cell) if isinstance(cell, str) else cell

    def _takes_empty(self, name: str) -> bool:
        if name not in self._may_be_empty:
            try:
                fields_alone(self._signature, [name]).model_validate({name: ""})
                self._may_be_empty[name] = True
            except Exception:  # noqa: BLE001 - a validator of the signature may raise anything
                self._may_be_empty[name] = False
        return self._may_be_empty[name]


def _folded(text: str) -> str:
    return " ".join(caseless(text).split())


def _by_folded_text(labels: Sequence[Any]) -> dict[str, str]:
    """Return labels by their texts without case and outer spaces, where these belong to only one of them."""
    texts = [label for label in labels if isinstance(label, str)]
    times = Counter(map(_folded, texts))
    return {_folded(label): label for label in texts if times[_folded(label)] == 1}


def _parsed(value: Any) -> Any:
    """Return the list or object in a cell of a file, as `run` writes it; another value as it is."""
    if not isinstance(value, str):
        return value
    try:
        read = parse_json(value)
    except (ValueError, RecursionError):
        return value
    return read if is_array(read) or is_object(read) else value


def fields_alone(signature: type[Signature], names: Sequence[str]) -> type[BaseModel]:
    """Return a model of some output fields with their validators, except those that see the whole record."""
    found = signature.__pydantic_decorators__.field_validators.values()
    validators: dict[str, Any] = {}
    make: Any = field_validator  # its overloads take one literal mode each
    for number, validator in enumerate(found):
        if fields := [name for name in validator.info.fields if name in names or name == "*"]:
            validators[f"check_{number}"] = make(*fields, mode=validator.info.mode)(staticmethod(validator.func))
    declared: dict[str, Any] = {
        name: (signature.output_fields[name].annotation, signature.output_fields[name]) for name in names
    }
    made: type[BaseModel] = create_model(
        signature.__name__, __config__=signature.model_config, __validators__=validators, **declared
    )
    return made
