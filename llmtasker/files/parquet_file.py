"""Read and write Parquet, through pyarrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.files.cells import utf8_texts
from llmtasker.files.format import Format
from llmtasker.files.header import Header, header_of

_BATCH = 1_000


def parquet_header(path: Path, form: Format) -> Header:
    """Return the columns of a Parquet file."""
    arrow, parquet = _pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            return header_of(file.schema_arrow.names)
    except (arrow.ArrowException, OSError) as error:
        raise ConfigurationError(f"can't read {path} as Parquet: {snippet(error)}") from error


def read_parquet(path: Path, form: Format) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file with their types, a batch in memory at a time."""
    arrow, parquet = _pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            names = list(header_of(file.schema_arrow.names).names)
            for batch in file.iter_batches(batch_size=_BATCH):
                yield from batch.rename_columns(names).to_pylist()
    except (arrow.ArrowException, OSError) as error:
        raise ConfigurationError(f"can't read {path} as Parquet: {snippet(error)}") from error


def write_parquet(
    file: BinaryIO, rows: Iterable[Mapping[str, Any]], form: Format, columns: Sequence[str] | None
) -> int:
    """Write rows as Parquet and return their number; all of them are in memory.

    A column whose values do not have a common type (texts and numbers, integers over 64 bits) is written as text.
    """
    arrow, parquet = _pyarrow()
    held = list(rows)
    names = list(columns) if columns is not None else list(dict.fromkeys(name for row in held for name in row))
    table = arrow.table({name: _column(arrow, [row.get(name) for row in held]) for name in names})
    parquet.write_table(table, file)
    return len(held)


def _column(arrow: Any, values: list[Any]) -> Any:
    try:
        array = arrow.array(values)
        # Parquet can't store an empty object.
        if "struct<>" not in str(array.type):
            return array
    except (arrow.ArrowException, TypeError, ValueError, OverflowError):
        pass  # No common type: written as text.
    return arrow.array(utf8_texts(values), arrow.string())


def _pyarrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise ConfigurationError('Parquet files need pyarrow: pip install "llmtasker[data]"') from error
