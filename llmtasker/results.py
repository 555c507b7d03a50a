"""Results: what came of many inputs."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar, cast, overload

from llmtasker.completion import NO_USAGE, Usage
from llmtasker.errors import ItemError
from llmtasker.item import Item, shown

T = TypeVar("T")

_SHOWN = 10


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
        return sum(item.attempts for item in self._items)

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
