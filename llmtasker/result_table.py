"""ResultTable: the one column layout of results, for files, dicts, pandas, polars, pyarrow and notebooks."""

from __future__ import annotations

from collections.abc import Container, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cached_property
from importlib import import_module
from typing import Any

from pydantic import BaseModel, RootModel

from llmtasker.errors import ConfigurationError
from llmtasker.item import Item, jsonable
from llmtasker.signature.signature import Signature
from llmtasker.values.json_values import is_mapping
from llmtasker.values.same_value import is_missing, same_value, same_values

ERROR = "error"
_CELLS = (str, int, float, bool, bytes, date, time, timedelta, Decimal)


class ResultTable:
    """Items as a table: the columns of the inputs, then one for each output field, then "error" (None if fine).

    An output column with the name of an input column gets the prefix "llm_". Items without an output have these columns
    too, with None. A bare input has the column "input", a bare output the column of its only field.

    Args:
        fields: the names of the output fields; none: those of the items that have an output.
        bare: every output is the value of the only field, even a mapping.
    """

    def __init__(self, items: Sequence[Item[Any]], fields: Sequence[str] = (), *, bare: bool = False) -> None:
        self._items = items
        name = fields[0] if len(fields) == 1 else "output"
        columns_of = _value if bare else _output
        self._outputs = [columns_of(item.output, name) if item.ok else None for item in items]
        self.fields = list(fields) or list(dict.fromkeys(name for output in self._outputs if output for name in output))

    @cached_property
    def _inputs(self) -> list[dict[str, Any]]:
        return [_input(item.input) for item in self._items]

    def answer_names(self, taken: Container[str]) -> tuple[dict[str, str], str]:
        """Return the column of each output field, and that of the error, under names that are not `taken`."""
        names = free_names(self.fields, taken)
        return names, free_name(ERROR, {*names.values(), *(name for name in [ERROR] if name in taken)})

    def answers(self, taken: Container[str]) -> list[dict[str, Any]]:
        """Return the columns of the outputs and the error of each item, under names that are not `taken`."""
        names, error = self.answer_names(taken)
        return [
            {column: None if output is None else output.get(name) for name, column in names.items()}
            | {error: None if item.error is None else str(item.error)}
            for item, output in zip(self._items, self._outputs, strict=True)
        ]

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """A flat row for each item."""
        answers = self.answers({name for row in self._inputs for name in row})
        return [row | answer for row, answer in zip(self._inputs, answers, strict=True)]

    @property
    def columns(self) -> list[str]:
        """The names of all columns, in order."""
        inputs = dict.fromkeys(name for row in self._inputs for name in row)
        names = dict.fromkeys(name for row in self.rows for name in row if name not in inputs)
        return [*inputs, *(names or [*self.fields, ERROR])]

    def _values(self, name: str) -> list[Any]:
        return [row.get(name) for row in self.rows]

    def to_pandas(self, given: Any = None) -> Any:
        """Return a DataFrame; the index, columns and types of the frame or series that was `given` survive.

        Other columns whose values no NumPy type represents exactly (large integers beside None) contain objects.

        Raises:
            ConfigurationError: pandas is not installed.
        """
        with _needed("pandas"):
            pandas = import_module("pandas")

        def column(values: list[Any], index: Any = None) -> Any:
            return pandas.Series(values, index, dtype=None if _is_exact(pandas, values) else object)

        frame = given
        if isinstance(given, pandas.Series):
            frame = given.to_frame("input" if given.name is None else given.name)
        if not isinstance(frame, pandas.DataFrame) or len(frame) != len(self._items):
            columns = {name: column(self._values(name)) for name in self.columns}
            return pandas.DataFrame(columns, index=pandas.RangeIndex(len(self._items)))
        answers = self._answer_columns(map(str, frame.columns))
        columns = {name: column(values, frame.index) for name, values in answers.items()}
        made = pandas.concat([frame, pandas.DataFrame(columns, index=frame.index)], axis=1)
        made.attrs = dict(frame.attrs)
        return made

    def _answer_columns(self, taken: Iterable[str]) -> dict[str, list[Any]]:
        """Return the columns of the outputs and the error; they are there even if there is no row."""
        there = set(taken)
        names, error = self.answer_names(there)
        rows = self.answers(there)
        return {name: [row[name] for row in rows] for name in (*names.values(), error)}

    def to_polars(self, given: Any = None) -> Any:
        """Return a polars DataFrame; the columns of the frame that was `given` keep their types.

        Other columns with values of several types, or that no type represents exactly, become texts.

        Raises:
            ConfigurationError: polars is not installed.
        """
        from llmtasker.files.cells import utf8_texts

        with _needed("polars"):
            polars = import_module("polars")

        def column(name: str, values: list[Any]) -> Any:
            found = _exact_series(polars, name, [None if is_missing(value) else value for value in values])
            return polars.Series(name, utf8_texts(values), polars.String) if found is None else found

        if isinstance(given, polars.DataFrame) and given.height == len(self._items):
            return given.with_columns([column(*one) for one in self._answer_columns(given.columns).items()])
        return polars.DataFrame([column(name, self._values(name)) for name in self.columns])

    def to_arrow(self, given: Any = None) -> Any:
        """Return a pyarrow Table; the columns of the table that was `given` keep their types.

        Other columns with values of several types, or that no type represents exactly, become texts.

        Raises:
            ConfigurationError: pyarrow is not installed.
        """
        from llmtasker.files.arrow_array import exact_array
        from llmtasker.files.cells import utf8_texts

        with _needed("pyarrow"):
            pyarrow = import_module("pyarrow")

        def column(values: list[Any]) -> Any:
            found = exact_array(values)
            if found is None:
                return pyarrow.array(utf8_texts(values), pyarrow.string())
            return found.cast(pyarrow.string()) if pyarrow.types.is_null(found.type) else found

        table = pyarrow.Table.from_batches([given]) if isinstance(given, pyarrow.RecordBatch) else given
        if isinstance(table, pyarrow.Table) and table.num_rows == len(self._items):
            for name, values in self._answer_columns(table.column_names).items():
                table = table.append_column(name, column(values))
            return table
        return pyarrow.table({name: column(self._values(name)) for name in self.columns})


def _is_exact(pandas: Any, values: list[Any]) -> bool:
    """Return whether the type that pandas finds for a column represents all its values, with NaN or NaT for None."""
    try:
        found = pandas.Series(values)
        return found.dtype.kind not in "fMm" or all(
            is_missing(value) or same_value(value, other) for value, other in zip(values, found.tolist(), strict=True)
        )
    except (TypeError, ValueError, ArithmeticError):  # such as half of a character pair
        return False


def _exact_series(polars: Any, name: str, values: list[Any]) -> Any:
    """Return values as a polars series; None if it would not represent all exactly, or would contain objects."""
    from llmtasker.files.arrow_array import is_storable

    if not all(is_storable(value) and _suits_polars(value) for value in values):
        return None
    try:
        found = polars.Series(name, values, strict=True)
        if found.dtype == polars.Null:
            return found.cast(polars.String)
        return found if found.dtype != polars.Object and same_values(values, found.to_list()) else None
    except (Exception, polars.exceptions.PanicException):  # noqa: BLE001 - odd values make it raise anything
        return None


def _suits_polars(value: Any) -> bool:
    """Return whether polars accepts a number, or refuses it without a panic or a message on stderr."""
    return value.is_finite() if isinstance(value, Decimal) else not isinstance(value, int) or value.bit_length() < 128


def part_of(table: Any, rows: slice) -> Any:
    """Return the rows of a table of pandas, polars or pyarrow; None for anything else."""
    if hasattr(table, "iloc"):
        return table.iloc[rows]
    if hasattr(table, "num_rows"):
        start, stop, step = rows.indices(table.num_rows)
        if step == 1:
            return table.slice(start, max(stop - start, 0))
        pyarrow = import_module("pyarrow")
        return table.take(pyarrow.array(range(start, stop, step), pyarrow.int64()))
    return table[rows] if hasattr(table, "height") else None


def free_name(name: str, taken: Container[str]) -> str:
    """Return a name for an output column that does not hide an input column.

    >>> free_name("team", {"id", "team"})
    'llm_team'
    """
    while name in taken:
        name = f"llm_{name}"
    return name


def free_names(names: Iterable[str], taken: Container[str]) -> dict[str, str]:
    """Return the column of each output field, none of which hides an input column."""
    return {name: free_name(name, taken) for name in names}


def _input(given: Any) -> dict[str, Any]:
    if isinstance(given, Signature):
        return given.inputs()
    if isinstance(given, BaseModel):
        return {name: _cell(value) for name, value in given}
    if is_mapping(given):
        return {str(name): value for name, value in given.items()}
    return {"input": _cell(given)}


def _output(output: Any, name: str) -> Mapping[str, Any]:
    if isinstance(output, Signature):
        return {field: _cell(value) for field, value in output.outputs().items()}
    if isinstance(output, BaseModel) and not isinstance(output, RootModel):
        return {field: _cell(value) for field, value in output}
    return output if is_mapping(output) else _value(output, name)


def _value(output: Any, name: str) -> Mapping[str, Any]:
    return {name: _cell(output)}


def _cell(value: Any) -> Any:
    """Return a value that a table can store: numbers, texts, bytes and dates as they are, the rest as JSON values."""
    if isinstance(value, Enum):
        return value.value
    return value if isinstance(value, _CELLS) or value is None else jsonable(value)


@contextmanager
def _needed(name: str) -> Generator[None]:
    try:
        yield
    except ImportError:
        raise ConfigurationError(f"this needs {name}: pip install {name}") from None
