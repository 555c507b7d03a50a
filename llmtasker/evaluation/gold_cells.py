"""GoldCells: right answers as tables and files have them: empty cells, JSON in texts, dates as people write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, PydanticUserError, TypeAdapter, create_model, field_validator

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.evaluation.metrics import FieldKind, kind_of
from llmtasker.signature.signature import Signature
from llmtasker.values.json_schema import branches, resolve
from llmtasker.values.json_values import is_array, is_object, parse_json
from llmtasker.values.plain_moment import MOMENTS, plain_moment, refused_moment
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
        formats = {name: _format_of(type_) for name, type_ in types.items() if name not in self._several}
        self._moments = {name: format_ for name, format_ in formats.items() if format_ in MOMENTS}
        self._may_be_empty: dict[str, bool] = {}

    def read(self, cells: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the cells, which may still not fit the signature.

        Raises:
            ConfigurationError: a date, time or duration is a number, or has two readings.
        """
        return {name: self._value(name, cell) for name, cell in cells.items()}

    def _value(self, name: str, cell: Any) -> Any:
        if known_cell(cell) is None:
            return cell if isinstance(cell, str) and self._takes_empty(name) else None
        if name in self._several:
            return _parsed(cell)
        return _moment(name, cell, self._moments[name]) if name in self._moments else cell

    def _takes_empty(self, name: str) -> bool:
        if name not in self._may_be_empty:
            try:
                fields_alone(self._signature, [name]).model_validate({name: ""})
                self._may_be_empty[name] = True
            except Exception:  # noqa: BLE001 - a validator of the signature may raise anything
                self._may_be_empty[name] = False
        return self._may_be_empty[name]


def _format_of(type_: Any) -> Any:
    """Return the format of a type's texts as JSON, also if it may be None."""
    try:
        schema = TypeAdapter(type_).json_schema()
    except PydanticUserError:
        return None  # a type without a JSON schema, which only code can answer
    node = resolve(schema, schema)
    while len(members := branches(node)) == 1:
        node = resolve(members[0], schema)
    return node.get("format")


def _moment(name: str, cell: Any, kind: str) -> Any:
    """Return a date, time or duration in ISO 8601, read as the parser reads that of an answer."""
    if isinstance(cell, str) and (moment := plain_moment(cell, kind)) is not None:
        return moment
    if (reason := refused_moment(cell, kind)) is not None:
        raise ConfigurationError(f"{name}: {reason} (got {snippet(repr(cell), 60)})")
    return cell


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
