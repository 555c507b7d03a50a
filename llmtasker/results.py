"""Results: the items of a run."""

from __future__ import annotations

import html
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar, cast, overload

from llmtasker.errors import ItemError, counted
from llmtasker.item import Item, cost_of
from llmtasker.result_table import ResultTable, part_of
from llmtasker.values.html_table import html_table
from llmtasker.wire.completion import NO_USAGE, Usage

T = TypeVar("T")

_SHOWN = 10


class Results(Sequence[Item[T]], Generic[T]):
    """The items of a run, one for each input, in order of the inputs.

    `fields` are the names of the output fields, which are columns in tables; `bare`: every output is the value of the
    only field. `given` is the table that was run.
    """

    def __init__(
        self, items: Iterable[Item[T]] = (), *, fields: Sequence[str] = (), bare: bool = False, given: Any = None
    ) -> None:
        self._items: list[Item[T]] = list(items)
        self._fields = tuple(fields)
        self._bare = bare
        self._given = given

    @overload
    def __getitem__(self, index: int) -> Item[T]: ...
    @overload
    def __getitem__(self, index: slice) -> Results[T]: ...
    def __getitem__(self, index: int | slice) -> Item[T] | Results[T]:
        if not isinstance(index, slice):
            return self._items[index]
        given = part_of(self._given, index)
        return Results(self._items[index], fields=self._fields, bare=self._bare, given=given)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item[T]]:
        return iter(self._items)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Results):
            return NotImplemented
        return list(self) == list(cast("Results[object]", other))

    __hash__ = None  # type: ignore[assignment]  # a list in all but name

    @property
    def outputs(self) -> list[T | None]:
        """The output of each item; None for an error."""
        return [item.output for item in self._items]

    @property
    def errors(self) -> list[ItemError]:
        """The errors, in order, of the items that have one."""
        return [item.error for item in self._items if item.error is not None]

    @property
    def counts(self) -> dict[str, int]:
        """How many items are "ok", "cached" and "repaired", and how many have each error code."""
        found = Counter(item.error.code if item.error else "ok" for item in self._items)
        found["cached"] = sum(item.cached for item in self._items)
        found["repaired"] = sum(item.repaired for item in self._items)
        return {name: count for name, count in found.items() if count}

    @property
    def usage(self) -> Usage:
        """The tokens of all calls of this run."""
        return sum((item.usage for item in self._items), NO_USAGE)

    @property
    def cost(self) -> float | None:
        """The cost of this run in US dollars; None if that of any call is unknown."""
        return cost_of(self._items)

    @property
    def attempts(self) -> int:
        """The calls of this run."""
        return round(sum(item.requests for item in self._items))

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a flat row for each item: the columns of its input, those of its output, and "error" (None if fine).

        A bare input has the column "input", a bare output the column of its field. An output column with the name of an
        input column gets the prefix "llm_". Rows without an output have these columns too, with None.
        """
        return self._table.rows

    def to_pandas(self) -> Any:
        """Return the rows of `to_dicts` as a pandas DataFrame; the index and types of a frame that was run survive.

        Raises:
            ConfigurationError: pandas is not installed.
        """
        return self._table.to_pandas(self._given)

    def to_polars(self) -> Any:
        """Return the rows of `to_dicts` as a polars DataFrame; the types of a frame that was run survive.

        Raises:
            ConfigurationError: polars is not installed.
        """
        return self._table.to_polars(self._given)

    def to_arrow(self) -> Any:
        """Return the rows of `to_dicts` as a pyarrow Table; the types of a table that was run survive.

        Raises:
            ConfigurationError: pyarrow is not installed.
        """
        return self._table.to_arrow(self._given)

    def write(
        self,
        path: str | os.PathLike[str],
        *,
        delimiter: str | None = None,
        encoding: str | None = None,
        like: str | os.PathLike[str] | None = None,
        neutralise_formulas: bool = False,
    ) -> int:
        """Write the rows of `to_dicts` to a CSV, JSON lines, Parquet or Excel file, depending on its name; return their
        number.

        A CSV file has the given `delimiter` and `encoding`, else those of the file `like`, else commas in
        UTF-8. `neutralise_formulas` keeps spreadsheets from running texts that look like formulas.

        Raises:
            ConfigurationError: the file can't be written, or its format needs the extra `[data]`.
        """
        from llmtasker.files import detect, output_format, write_rows

        form = output_format(path, None if like is None else detect(like), delimiter=delimiter, encoding=encoding)
        table = self._table
        columns = None if form.kind in {"jsonl", "json"} else table.columns
        return write_rows(path, table.rows, format=form, neutralise_formulas=neutralise_formulas, columns=columns)

    @property
    def _table(self) -> ResultTable:
        return ResultTable(self._items, self._fields, bare=self._bare)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        lines = [f"Results({counted(len(self), 'item')}{': ' if counts else ''}{counts})"]
        lines += [f"  {index}: {item!r}" for index, item in enumerate(self._items[:_SHOWN])]
        return "\n".join([*lines, f"  … {len(self) - _SHOWN} more"] if len(self) > _SHOWN else lines)

    def _repr_html_(self) -> str:
        head = ResultTable(self._items[:_SHOWN], self._fields, bare=self._bare)
        rows = [[number, *(row.get(name) for name in head.columns)] for number, row in enumerate(head.rows)]
        summary = html.escape(repr(self).splitlines()[0])
        more = f"<p>… {len(self) - _SHOWN:,} more</p>" if len(self) > _SHOWN else ""
        return f"<p>{summary}</p>{html_table(rows, ['', *head.columns], longest=120)}{more}"
