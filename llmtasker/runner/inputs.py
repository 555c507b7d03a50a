"""The inputs that a run accepts: any iterable, and tables of pandas, polars, pyarrow and similar libraries."""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict, UserDict, defaultdict
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from llmtasker.compiler.columns import Columns
from llmtasker.errors import ConfigurationError, snippet
from llmtasker.signature.fields import wire_name
from llmtasker.signature.signature import Signature, takes_mapping
from llmtasker.values.broken_row import BrokenRow
from llmtasker.values.json_values import as_list
from llmtasker.values.list_argument import how_to_read
from llmtasker.values.same_value import known_value

InputRows = Iterable[Any] | AsyncIterable[Any]

_NAMES = 100  # column names to collect for an error message
_FILLED = frozenset({dict, list, OrderedDict, defaultdict, UserDict})
_COPIED = 4  # levels of lists and dicts, because a list may contain itself
_TABLES = frozenset({"pandas", "polars", "pyarrow", "modin", "cudf", "dask", "duckdb"})
_NAN_IS_MISSING = frozenset({"pandas", "modin", "cudf", "dask"})


def rows_of(inputs: Any, columns: Columns | None = None) -> InputRows:
    """Return inputs as an iterable of values or mappings; a table yields one mapping per row.

    A table of one column yields its bare values, unless `columns` names columns; so does a series.

    Raises:
        ConfigurationError: the inputs are a single text or mapping, or not an iterable.
    """
    if _is(inputs, str, bytes, Mapping):
        raise ConfigurationError(
            f"run takes many inputs, and got one {type(inputs).__name__}: {snippet(inputs, 40)!r}. "
            f"{how_to_read(inputs) or 'Call the task for one input, or give a list'}."
        )
    if _is_table(inputs):
        return _table_rows(inputs, bare=columns is None)
    if (dimensions := getattr(inputs, "ndim", 1)) != 1:
        raise ConfigurationError(
            f"run takes an array of 1 dimension, not {dimensions}: give a data frame, whose columns have names, such "
            "as pandas.DataFrame(array, columns=[…])."
        )
    if not _is(inputs, Iterable, AsyncIterable):
        reads = how_to_read(inputs)
        raise ConfigurationError(
            f"run takes an iterable of inputs, not a {type(inputs).__name__}{'' if reads is None else f': {reads}'}."
        )
    if _is(inputs, list, tuple) and any(_is_table(part) or _is(part, tuple) for part in inputs[:1]):
        return [row for part in inputs for row in rows_in(part, bare=columns is None)]
    many: InputRows = inputs
    return many


def table_of(inputs: Any) -> Any:
    """Return the inputs if they are a table, else None; a lazy frame of polars is computed here, only once."""
    if not _is_table(inputs):
        return None
    return inputs.collect() if _library(inputs) == "polars" and hasattr(inputs, "collect") else inputs


def rows_in(part: Any, *, bare: bool = True) -> Sequence[Any]:
    """Return the inputs in one element of an iterable: the element itself, or the rows of a chunk of a table.

    `bare`: a chunk of one column yields its bare values.

    A dict is copied with the lists and dicts in it, because some sources fill one again and again. A row of pandas
    (from `iterrows`, `itertuples`) becomes a mapping.
    """
    if type(part) in _FILLED:
        return (_copied(part),)
    if _is(part, tuple):
        if hasattr(part, "_asdict"):
            return (part._asdict(),)
        if len(part) == 2 and _is_table(part[1]):  # index and row, or key and group
            if getattr(part[1], "ndim", 0) == 1 and len(part[1]) > 1 and part[1].name is part[0]:
                return (_with_none(dict(zip(_texts(part[1].index), part[1].tolist(), strict=True))),)
            return rows_in(part[1], bare=bare)
    elif _is_table(part):
        if hasattr(part, "index") and hasattr(part, "to_dict") and all(_is(name, str) for name in part.index):
            _texts(part.index if part.ndim == 1 else part.columns)
            found: list[dict[str, Any]] = [part.to_dict()] if part.ndim == 1 else part.to_dict("records")
            return list(map(_with_none, found))
        rows = _table_rows(part, bare=bare)
        return list(rows) if isinstance(rows, Iterable) else (rows,)
    return (part,)


def _is_table(thing: object) -> bool:
    return _library(thing) in _TABLES


def _library(thing: object) -> str:
    return type(thing).__module__.partition(".")[0]


def _is(thing: object, *kinds: type) -> bool:
    return isinstance(thing, kinds)


def _table_rows(table: Any, *, bare: bool) -> InputRows:
    try:
        import narwhals
    except ImportError:
        raise ConfigurationError('tables as inputs need narwhals: pip install "llmtasker[data]"') from None
    values: list[Any]
    try:
        native: Any = narwhals.from_native(table, allow_series=True, pass_through=True)
        names = native.columns if isinstance(native, narwhals.DataFrame) else []
    except narwhals.exceptions.DuplicateError as error:
        found = " ".join(snippet(error, 200).split())
        raise ConfigurationError(f"each column of a table needs a unique name: {found}") from None
    if isinstance(native, narwhals.LazyFrame):
        native = native.collect()
        names = native.columns
    gaps = _library(table) in _NAN_IS_MISSING
    if isinstance(native, narwhals.Series):
        values = native.to_list()
        return list(map(known_value, values)) if gaps else values
    if not isinstance(native, narwhals.DataFrame):
        return table.to_pylist() if hasattr(table, "to_pylist") else table if _is(table, Iterable) else [table]
    if bare and len(names) == 1:
        values = native[:, 0].to_list()  # by place: the name may be a number
        return list(map(known_value, values)) if gaps else values
    return _Table(native, gaps=gaps)


def _texts(names: Iterable[object]) -> list[str]:
    """Return the texts of names, which must differ, because a row has only one cell for two columns with one name."""
    texts = list(map(str, names))
    if len(set(texts)) < len(texts):
        (name, count), *_ = Counter(texts).most_common(1)
        raise ConfigurationError(
            f"each column of a table needs a unique name, as a text: {count} are named {snippet(name, 40)!r}"
        )
    return texts


def _copied(value: Any, levels: int = _COPIED) -> Any:
    kind = type(cast(object, value))
    if kind not in _FILLED or not levels:
        return value
    if kind is list:
        return [_copied(part, levels - 1) for part in as_list(value)]
    made: Any = {} if kind is dict else copy.copy(value)  # a copy keeps the default of a defaultdict
    for name, part in value.items():
        made[name] = _copied(part, levels - 1)
    return made


class _Table:
    """The rows of a table as mappings, created one by one; `gaps` is whether NaN means a missing value."""

    def __init__(self, frame: Any, *, gaps: bool) -> None:
        self._frame = frame
        self._gaps = gaps
        self.columns = _texts(frame.columns)
        self._renamed = self.columns != list(frame.columns)

    def __len__(self) -> int:
        return len(self._frame)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        rows: Iterator[dict[str, Any]] = iter(self._frame.iter_rows(named=True))
        if self._renamed:  # names that are numbers or tuples
            rows = (dict(zip(self.columns, row.values(), strict=True)) for row in rows)
        return map(_with_none, rows) if self._gaps else rows


def _with_none(row: dict[str, Any]) -> dict[str, Any]:
    return {name: known_value(value) for name, value in row.items()}


def check_rows(rows: InputRows, signature: type[Signature], columns: Columns | None) -> None:
    """Raise if all rows lack the same column, so that none of them could be answered.

    Rows that can be read only once, or are not plain dicts, are not checked; broken rows of a file are ignored.

    Raises:
        ConfigurationError: all rows lack a column; the message names the missing and the existing columns.
    """
    if isinstance(rows, _Table):
        names = set(rows.columns)
        missing = [what for what, accepted in _wanted(signature, columns).items() if not accepted & names]
    elif isinstance(rows, list | tuple):
        if not rows or not (type(rows[0]) is dict or isinstance(rows[0], BrokenRow)):
            return
        names, missing = _of_rows(rows, _wanted(signature, columns))
    else:
        return
    if missing:
        there = snippet(", ".join(sorted(map(str, names))), 200) or "none"
        raise ConfigurationError(
            f"no row has a column {missing[0]}; the columns are: {there}. Name the one that is meant, such as "
            f"columns={{{signature.bare_input or next(iter(signature.input_fields))!r}: '…'}}."
        )


def _wanted(signature: type[Signature], columns: Columns | None) -> dict[str, set[str]]:
    """Return the accepted column names for each value that a row must have, by the phrase for an error."""
    named: Mapping[str, str] = columns.fields if columns else {}
    variables: Mapping[str, str] = columns.variables if columns else {}
    wanted = {
        f"for the input {name!r}": {name, wire_name(name, info)}
        for name, info in signature.input_fields.items()
        if name not in named
        and info.is_required()
        and not (name == signature.bare_input and takes_mapping(info.annotation))
    }
    wanted |= {f"{column!r} for the input {name!r}": {column} for name, column in named.items()}
    return wanted | {f"{column!r} for the variable {name!r}": {column} for name, column in variables.items()}


def _of_rows(rows: Sequence[Any], wanted: Mapping[str, set[str]]) -> tuple[set[str], list[str]]:
    """Return the names of all columns, and those that all rows lack."""
    names: set[str] = set()
    missing = dict(wanted)
    for row in rows:
        if isinstance(row, BrokenRow):
            continue
        if type(row) is not dict:
            return names, []
        missing = {
            what: accepted for what, accepted in missing.items() if accepted.isdisjoint(cast("Iterable[object]", row))
        }
        if not missing:
            return names, []
        if len(names) < _NAMES:
            names |= row.keys()
    return names, list(missing) if names else []  # rows without any columns each get their own error
