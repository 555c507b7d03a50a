"""What a run takes as inputs: any iterable, and the tables of pandas, polars, pyarrow and their like as they are."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any

from llmtasker.errors import ConfigurationError, snippet

Inputs = Iterable[Any] | AsyncIterable[Any]

_TABLES = frozenset({"pandas", "polars", "pyarrow", "modin", "cudf", "dask", "duckdb"})


def rows_of(inputs: Any) -> Inputs:
    """Return inputs as an iterable of values or mappings; a table gives a mapping for each of its rows.

    A table of one column, and a series, give their bare values.

    Raises:
        ConfigurationError: it is one text or mapping, not many; or no iterable.
    """
    if _is(inputs, str, bytes, Mapping):
        raise ConfigurationError(
            f"run takes many inputs, and was given one {type(inputs).__name__}: {snippet(inputs, 40)!r}. "
            "Call the task for one input, or give a list."
        )
    if type(inputs).__module__.partition(".")[0] in _TABLES:
        return _table_rows(inputs)
    if not _is(inputs, Iterable, AsyncIterable):
        raise ConfigurationError(f"run takes an iterable of inputs, not a {type(inputs).__name__}.")
    many: Inputs = inputs
    return many


def _is(thing: object, *kinds: type) -> bool:
    return isinstance(thing, kinds)


def _table_rows(table: Any) -> Inputs:
    try:
        import narwhals
    except ImportError:
        raise ConfigurationError('tables as inputs need narwhals: pip install "llmtasker[data]"') from None
    values: list[Any]
    native: Any = narwhals.from_native(table, allow_series=True, pass_through=True)
    if isinstance(native, narwhals.LazyFrame):
        native = native.collect()
    if isinstance(native, narwhals.Series):
        values = native.to_list()
        return values
    if not isinstance(native, narwhals.DataFrame):
        values = list(table)
        return values
    if len(native.columns) == 1:
        values = native[native.columns[0]].to_list()
        return values
    rows: Iterable[dict[str, Any]] = native.iter_rows(named=True)
    return rows
