"""Results: what came of many inputs."""

from __future__ import annotations

import html
import os
from collections import Counter
from collections.abc import Container, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, time
from enum import Enum
from importlib import import_module
from typing import Any, Generic, TypeVar, cast, overload

from pydantic import BaseModel

from llmtasker.errors import ConfigurationError, ItemError
from llmtasker.item import Item, jsonable, shown
from llmtasker.signature import Signature
from llmtasker.wire.completion import NO_USAGE, Usage

T = TypeVar("T")

_SHOWN = 10
_CELLS = (str, int, float, bool, date, time)


class Results(Sequence[Item[T]], Generic[T]):
    """The items of a run, one for each input, in order of the inputs."""

    def __init__(self, items: Iterable[Item[T]] = ()) -> None:
        self._items: list[Item[T]] = list(items)

    @overload
    def __getitem__(self, index: int) -> Item[T]: ...
    @overload
    def __getitem__(self, index: slice) -> Results[T]: ...
    def __getitem__(self, index: int | slice) -> Item[T] | Results[T]:
        return Results(self._items[index]) if isinstance(index, slice) else self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Results):
            return NotImplemented
        return list(self) == list(cast("Results[object]", other))

    __hash__ = None  # type: ignore[assignment]  # a list in all but name

    @property
    def outputs(self) -> list[T | None]:
        """The output of each item; None where there is an error."""
        return [item.output for item in self._items]

    @property
    def errors(self) -> list[ItemError]:
        """The errors, in order, of the items that have one."""
        return [item.error for item in self._items if item.error is not None]

    @property
    def counts(self) -> dict[str, int]:
        """How many items are "ok", "cached" and "repaired", and how many have each kind of error."""
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
        costs = [item.cost for item in self._items if item.attempts or item.cost]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    @property
    def attempts(self) -> int:
        """The calls of this run."""
        return round(sum(item.requests for item in self._items))

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a flat row for each item: the columns of its input, those of its output, and "error" (None if fine).

        A bare input has the column "input", a bare output the column "output". A column of the output that the
        input has too gets the prefix "llm_". Rows without an output have its columns as well, with None.
        """
        answered = next((item for item in self._items if item.ok), None)
        names = [] if answered is None else list(_columns(answered.output))
        return [_flat(item, names) for item in self._items]

    def to_pandas(self) -> Any:
        """Return the rows of `to_dicts` as a pandas DataFrame.

        Raises:
            ConfigurationError: pandas is not installed.
        """
        with _needed("pandas"):
            pandas = import_module("pandas")
        return pandas.DataFrame(self.to_dicts())

    def to_polars(self) -> Any:
        """Return the rows of `to_dicts` as a polars DataFrame.

        Raises:
            ConfigurationError: polars is not installed.
        """
        with _needed("polars"):
            polars = import_module("polars")
        return polars.DataFrame(self.to_dicts(), infer_schema_length=None)

    def to_arrow(self) -> Any:
        """Return the rows of `to_dicts` as a pyarrow Table.

        Raises:
            ConfigurationError: pyarrow is not installed.
        """
        with _needed("pyarrow"):
            pyarrow = import_module("pyarrow")
        return pyarrow.Table.from_pylist(self.to_dicts())

    def write(self, path: str | os.PathLike[str], *, neutralise_formulas: bool = False) -> int:
        """Write the rows of `to_dicts` to a CSV, JSON lines, Parquet or Excel file, as its name says.

        Returns the number of rows. `neutralise_formulas` keeps spreadsheets from running texts that are like formulas.

        Raises:
            ConfigurationError: the file can't be written, or its kind needs the extra `[data]`.
        """
        from llmtasker.files import write_rows

        return write_rows(path, self.to_dicts(), neutralise_formulas=neutralise_formulas)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        lines = [f"Results({len(self)} items{': ' if counts else ''}{counts})"]
        lines += [f"  {index}: {item!r}" for index, item in enumerate(self._items[:_SHOWN])]
        return "\n".join([*lines, f"  … {len(self) - _SHOWN} more"] if len(self) > _SHOWN else lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{index}</td><td>{html.escape(shown(item.input, 120))}</td>"
            f"<td>{html.escape(shown(item.error or item.output, 120))}</td></tr>"
            for index, item in enumerate(self._items[:_SHOWN])
        )
        summary = html.escape(repr(Results(self._items[:0]) if not self._items else self).splitlines()[0])
        return f"<p>{summary}</p><table><tr><th></th><th>input</th><th>output or error</th></tr>{rows}</table>"


def _flat(item: Item[Any], names: Sequence[str]) -> dict[str, Any]:
    given: Any = item.input
    row: dict[str, Any] = {"input": _bare(given)}
    if isinstance(given, Signature):
        row = given.inputs()
    elif isinstance(given, Mapping):
        row = dict(cast("Mapping[str, Any]", given))
    output = _columns(item.output) if item.ok else dict.fromkeys(names)
    for name, value in {**output, "error": None if item.error is None else str(item.error)}.items():
        row[free_name(name, row)] = value
    return row


def _columns(output: Any) -> dict[str, Any]:
    if isinstance(output, Signature):
        return {name: _bare(value) for name, value in output.outputs().items()}
    if isinstance(output, BaseModel):
        return output.model_dump(mode="json")
    if isinstance(output, dict):
        return cast("dict[str, Any]", output)
    return {"output": _bare(output)}


def _bare(value: Any) -> Any:
    """Return what a table can hold: numbers, texts and dates as they are, the rest as JSON values."""
    if isinstance(value, Enum):
        return value.value
    return value if isinstance(value, _CELLS) or value is None else jsonable(value)


def free_name(name: str, taken: Container[str]) -> str:
    """Return a name for a column of the output that hides none of the input.

    >>> free_name("team", {"id", "team"})
    'llm_team'
    """
    while name in taken:
        name = f"llm_{name}"
    return name


@contextmanager
def _needed(name: str) -> Generator[None]:
    try:
        yield
    except ImportError:
        raise ConfigurationError(f"this needs {name}: pip install {name}") from None
