"""The columns of a table: each with a unique name, whatever the header of the file is."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from llmtasker.errors import snippet


@dataclass(frozen=True, slots=True)
class Header:
    """The names of the columns, notes on those without a name or with a duplicate one, and the sheets that are not
    read.

    `in_line` is whether a line of the file has the names, so that it may be another line than the one that was read.
    """

    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    sheets: tuple[str, ...] = ()
    in_line: bool = True


def header_of(cells: Sequence[str]) -> Header:
    """Return a header in which each column has a unique name.

    >>> header_of(["", "message", "date", "date"]).names
    ('column_1', 'message', 'date', 'date_2')
    """
    names: list[str] = []
    notes: list[str] = []
    taken = set(cells)
    for place, cell in enumerate(cells, start=1):
        name = cell
        if not cell.strip():
            name = free_column(f"column_{place}", taken)
            notes.append(f"column {place} has no name, and is called {name!r}")
        elif cell in names:
            name = free_column(f"{cell}_{list(cells[:place]).count(cell)}", taken)
            notes.append(f"column {place} has a duplicate name, {snippet(cell, 40)!r}, and is called {name!r}")
        names.append(name)
        taken.add(name)
    return Header(tuple(names), tuple(notes))


def free_column(name: str, taken: Container[str]) -> str:
    """Return a name for a column without one that is not among those `taken`."""
    while name in taken:
        name += "_"
    return name
