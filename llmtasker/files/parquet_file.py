"""Read and write Parquet, through pyarrow."""

from __future__ import annotations

import pickle
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from importlib import import_module
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Self

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.files.arrow_array import exact_array, exact_list
from llmtasker.files.atomic import folder_of
from llmtasker.files.block_buffer import BlockBuffer
from llmtasker.files.cells import cell_json, cell_text, utf8_texts
from llmtasker.files.format import Format
from llmtasker.files.header import Header, header_of

_BATCH = 1_000
_PART = 500  # rows per part while types are not known
_PART_SIZE = 1 << 20  # bytes per part, if that is fewer rows
_SMALL = frozenset({float, date, datetime, type(None)})
_GROUP_SIZE = 1 << 19  # bytes of a row group: the writer needs many times as much


def parquet_header(path: Path, form: Format) -> Header:
    """Return the columns of a Parquet file."""
    arrow, parquet = _pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            return replace(header_of(file.schema_arrow.names), in_line=False)
    except (arrow.ArrowException, OSError) as error:
        raise ConfigurationError(f"can't read {path} as Parquet: {snippet(error)}") from error


def read_parquet(path: Path, form: Format) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file with their types, one batch in memory at a time.

    A moment that Python can't represent, such as one in the year 10000, becomes its text. A moment in nanoseconds is a
    `Timestamp` if pandas is installed; otherwise it is a text unless it ends at a whole microsecond.

    Raises:
        ConfigurationError: it is not a Parquet file, or has a column that can't be read.
    """
    arrow, parquet = _pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            names = list(header_of(file.schema_arrow.names).names)
            for batch in file.iter_batches(batch_size=_BATCH):
                columns = [exact_list(column, name) for column, name in zip(batch.columns, names, strict=True)]
                yield from (dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True))
    except (arrow.ArrowException, OSError) as error:
        raise ConfigurationError(f"can't read {path} as Parquet: {snippet(error)}") from error


def write_parquet(
    file: BinaryIO, rows: Iterable[Mapping[str, Any]], form: Format, columns: Sequence[str] | None
) -> int:
    """Write rows as Parquet and return their number; only a part of them is in memory at a time.

    A column of the file that `form` is typed by keeps its type. Another column whose values do not have a common type
    (texts and numbers, integers over 64 bits) is written as text.
    """
    with _Draft(columns, folder_of(file), form) as draft:
        draft.add(rows)
        file.writelines(draft.blocks())
        return draft.count


def parquet_blocks(
    rows: Iterable[Mapping[str, Any]], form: Format, columns: Sequence[str], types: Mapping[str, str] | None = None
) -> Generator[bytes]:
    """Yield the bytes that `write_parquet` writes, after the last row was read: the types must be known first.

    With `types`, the names of the Arrow types of all columns, it begins at once. A value that does not fit a column of
    texts is written as its text.

    Raises:
        ValueError: a value does not have the type that was given.
    """
    if types is None:
        with _Draft(columns, None, form) as draft:
            draft.add(rows)
            yield from draft.blocks()
        return
    arrow, _ = _pyarrow()
    schema = arrow.schema([(name, arrow.type_for_alias(types[name])) for name in columns])
    source = iter(rows)
    yield from _written(iter(lambda: list(islice(source, _PART)), []), schema)


class _Draft:
    """Rows in a temporary file that nobody else can open, until the types of their columns are known."""

    def __init__(self, columns: Sequence[str] | None, folder: Path | None, form: Format) -> None:
        self._arrow, self._parquet = _pyarrow()
        self._given = columns is not None
        self._names = dict.fromkeys(columns or ())
        self._declared = _declared(form)
        self._types = dict(self._declared)  # None: values without a common type, which are written as text
        self._promoted = set[str]()
        self._file = TemporaryFile(dir=folder)  # noqa: SIM115 - closed by `__exit__`
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Store rows, and note the types of their columns."""
        part, size, source = list[dict[str, Any]](), 0, iter(rows)
        while (row := next(source, None)) is not None:
            if not self._given:
                self._names.update(dict.fromkeys(row))
            kept = {name: row[name] for name in self._names if name in row}
            part.append(kept)
            size += _size(kept)
            if len(part) >= _PART or size >= _PART_SIZE:
                self._keep(part)
                part, size = [], 0
        if part:
            self._keep(part)

    def _keep(self, part: list[dict[str, Any]]) -> None:
        self.count += len(part)
        for name in self._names:
            self._see(name, [row.get(name) for row in part])
        try:
            kept = pickle.dumps(part, pickle.HIGHEST_PROTOCOL)
        except Exception:  # noqa: BLE001 - values of classes that we don't know, which may raise anything
            kept = pickle.dumps([{name: self._plain(name, value) for name, value in row.items()} for row in part])
        self._file.write(len(kept).to_bytes(8, "big") + kept)

    def _plain(self, name: str, value: Any) -> Any:
        """Return a value that can be stored: itself, or its text in a column of texts."""
        try:
            pickle.dumps(value)
        except Exception:  # noqa: BLE001 - as above
            self._types[name] = None
            return cell_text(value)
        return value

    def _see(self, name: str, values: list[Any]) -> None:
        """Widen the type of a column so that it also fits these values."""
        before = self._types.get(name, self._arrow.null())
        if before is None or (name in self._declared and exact_array(values, before) is not None):
            return
        self._declared.pop(name, None)
        array = exact_array(values)
        found, nothing = None if array is None else array.type, self._arrow.null()
        if found is not None and found != before and before != nothing:
            if found == nothing:
                return
            self._promoted.add(name)
            found = self._common(before, found)
        self._types[name] = found

    def _common(self, one: Any, other: Any) -> Any:
        arrow = self._arrow
        schemas = [arrow.schema([("column", type_)]) for type_ in (one, other)]
        try:
            return arrow.unify_schemas(schemas, promote_options="permissive").field(0).type
        except (arrow.ArrowException, TypeError):
            return None

    def _parts(self) -> Iterator[list[dict[str, Any]]]:
        self._file.seek(0)
        while head := self._file.read(8):
            yield pickle.loads(self._file.read(int.from_bytes(head, "big")))  # noqa: S301 - written by `_keep`

    def _check(self) -> None:
        """Drop the widened types that can't represent all values exactly."""
        for part in self._parts() if self._promoted else ():
            for name in self._promoted:
                type_ = self._types[name]
                if type_ is not None and exact_array([row.get(name) for row in part], type_) is None:
                    self._types[name] = None

    def blocks(self) -> Generator[bytes]:
        """Yield the file."""
        self._check()
        # Parquet can't store an empty object; a column without any value becomes one of texts.
        null, text = self._arrow.null(), self._arrow.string()
        typed = {
            name: type_
            for name, type_ in self._types.items()
            if type_ and "struct<>" not in str(type_) and (type_ != null or name in self._declared)
        }
        types = {name: typed.get(name, text if self.count else null) for name in self._names}
        schema = self._arrow.schema(list(types.items()))
        yield from _written(self._parts(), schema)


def _written(parts: Iterable[Sequence[Mapping[str, Any]]], schema: Any) -> Generator[bytes]:
    """Yield a file of rows that fit its schema, or whose texts do."""
    arrow, parquet = _pyarrow()
    buffer, group, size = BlockBuffer(), list[Any](), 0
    with parquet.ParquetWriter(buffer, schema) as writer:
        yield buffer.take()  # the first bytes of the file, so that a client sees that the download begins
        for part in parts:
            arrays = [_array([row.get(field.name) for row in part], field) for field in schema]
            group.append(arrow.RecordBatch.from_arrays(arrays, schema=schema))
            size += group[-1].nbytes
            if size >= _GROUP_SIZE:
                writer.write_table(arrow.Table.from_batches(group, schema))
                group, size = [], 0
                yield buffer.take()
        writer.write_table(arrow.Table.from_batches(group, schema))
    yield buffer.take()


def _array(values: list[Any], field: Any) -> Any:
    array = exact_array(values, field.type)
    if array is None and str(field.type) == "string":
        array = exact_array(utf8_texts(values), field.type)
    if array is None:
        raise ValueError(f"the column {field.name!r} has a value that is not of the type {field.type}")
    return array


def _declared(form: Format) -> dict[str, Any]:
    """Return the types of the columns of the file that `form` is typed by."""
    if form.typed_by is None:
        return {}
    _, parquet = _pyarrow()
    with parquet.ParquetFile(form.typed_by) as file:
        schema = file.schema_arrow
    return dict(zip(header_of(schema.names).names, schema.types, strict=True))


def _size(row: Mapping[str, Any]) -> int:
    """Return an estimate of the bytes of a row."""
    return sum(map(_value_size, row.values()))


def _value_size(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, int):
        return 8 + value.bit_length() // 8
    return 8 if type(value) in _SMALL else len(cell_json(value))


def _pyarrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise ConfigurationError('Parquet files need pyarrow: pip install "llmtasker[data]"') from error
