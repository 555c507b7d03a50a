"""The facts about a table before anything is asked: its columns, some of its rows, its broken rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any

from llmtasker.files import BrokenRow
from llmtasker.jobs.project_store import ColumnFacts
from llmtasker.values.folding import caseless
from llmtasker.values.lazy_pattern import lazy_pattern

FIRST = 8
"""Rows that are shown as they were read."""

_SPREAD = 200  # rows to keep from all over the table
_FEW = 100  # values of a column to count
_SHORT = 60  # characters of a value that may be a label
_BROKEN = 20  # broken rows to name
_WORDS = lazy_pattern(r"[^\W\d_]{2}")  # two letters: a text, not a number or a date
NAMES_OF_LABELS = frozenset(
    {
        *("label", "labels", "name", "nom", "gold", "category", "class", "team", "reference", "topic", "theme"),
        *(
            "étiquette",
            "etiquette",
            "catégorie",
            "categorie",
            "classe",
            "équipe",
            "equipe",
            "référence",
            "sujet",
            "thème",
        ),
    }
)


@dataclass(slots=True)
class _Column:
    filled: int = 0
    length: int = 0
    words: int = 0
    values: Counter[str] | None = field(default_factory=Counter[str])

    def add(self, value: Any) -> None:
        text = "" if value is None else str(value)
        if not text.strip():
            return
        self.filled += 1
        self.length += len(text)
        self.words += _WORDS.search(text) is not None
        if self.values is not None:
            self.values[text] += 1
            if len(text) > _SHORT or len(self.values) > _FEW:
                self.values = None


@dataclass(slots=True)
class TableFacts:
    """The facts about a table: `sample` has the first rows, then rows from all over it, each with its number."""

    rows: int
    columns: tuple[ColumnFacts, ...]
    sample: list[dict[str, Any]]
    broken: tuple[tuple[int, str], ...]
    broken_rows: int


def table_facts(header: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> TableFacts:
    """Return the facts of a table, in one pass and with the memory of a few hundred rows."""
    columns = {name: _Column() for name in header}
    first, spread = list[dict[str, Any]](), list[dict[str, Any]]()
    broken = list[tuple[int, str]]()
    count = broken_rows = 0
    stride = 1
    for count, row in enumerate(rows, start=1):
        if isinstance(row, BrokenRow):
            broken_rows += 1
            if len(broken) < _BROKEN:
                broken.append((count, row.error.message))
            continue
        for name, column in columns.items():
            column.add(row.get(name))
        if len(first) < FIRST:
            first.append(_sampled(count, row))
        elif count % stride == 0:
            spread.append(_sampled(count, row))
            if len(spread) == _SPREAD:  # half as many, from twice as far
                stride *= 2
                spread = [kept for kept in spread if kept["number"] % stride == 0]
    facts = tuple(
        ColumnFacts(
            name=name,
            filled=column.filled,
            mean_length=round(column.length / column.filled) if column.filled else 0,
            words=column.words,
            values=dict(column.values.most_common()) if column.values else None,
        )
        for name, column in columns.items()
    )
    return TableFacts(count, facts, [*first, *spread], tuple(broken), broken_rows)


_DATES: Mapping[str, Callable[[str], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
}


def _sampled(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the sample, which is kept as JSON: `dates` lists the cells that are dates or times."""
    dates = {name: type(cell).__name__ for name, cell in row.items() if type(cell).__name__ in _DATES}
    return {"number": number, "row": dict(row), **({"dates": dates} if dates else {})}


def typed_row(sampled: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cells of a row of a kept sample with the types that they had.

    >>> typed_row({"number": 1, "row": {"day": "2026-03-01"}, "dates": {"day": "date"}})
    {'day': datetime.date(2026, 3, 1)}
    """
    dates = sampled.get("dates", {})
    return {name: _DATES[dates[name]](cell) if name in dates else cell for name, cell in sampled["row"].items()}


def text_column(facts: Sequence[ColumnFacts]) -> str:
    """Return the column that most likely has the texts: the one with the most characters."""
    return max(facts, key=lambda one: one.words * one.mean_length).name


def gold_column(facts: Sequence[ColumnFacts], text: str) -> str | None:
    """Return the column that most likely has the right labels, by its name and its few values."""
    for one in facts:
        if one.name != text and one.values and len(one.values) > 1 and caseless(one.name) in NAMES_OF_LABELS:
            return one.name
    return None
