"""choose_columns: which column of a table each input field is read from; given_of: the input of a row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmtasker.errors import ConfigurationError
from llmtasker.signature.signature import Signature
from llmtasker.values.folding import composed


def choose_columns(
    signature: type[Signature],
    header: Iterable[str],
    chosen: Sequence[str],
    *,
    option: str = "--column",
    notes: Sequence[str] = (),
) -> dict[str, str]:
    """Return the column of each input field.

    `chosen` has `field=column`, or just the column where there is one input field. What is not chosen is taken
    from the column of the same name; the Unicode form of a name does not matter. `option` is what the caller wrote
    the choice in; the `notes` of the header stand in the error, because they may name its reason (another sheet).

    Raises:
        ConfigurationError: a field has no column, or a column is not there, or several look alike.
    """
    columns, fields = _HeaderNames(header, option), list(signature.input_fields)
    found = dict[str, str]()
    there = ", ".join(columns.names)
    for one in chosen:
        name, equals, column = one.partition("=")
        if one in columns or not equals:
            name, column = fields[0] if len(fields) == 1 else "", one
        if name not in fields:
            raise ConfigurationError(f"{option} {one}: give field=column, where field is one of {', '.join(fields)}.")
        if column not in columns:
            raise ConfigurationError(f"{option} {one}: there is no column {column!r}; there are {there}.")
        found[name] = columns[column]
    found |= {name: columns[name] for name in fields if name not in found and name in columns}
    missing = [name for name in fields if name not in found and signature.input_fields[name].is_required()]
    if missing:
        # Columns without a name: perhaps a title stands above the names.
        titled = any(re.fullmatch(r"column_\d+_*", name) for name in columns.names)
        hints = ["If their names stand further down, give --header with the number of the line."] if titled else []
        hints += [f"{note[:1].upper()}{note[1:]}." for note in notes]
        question = f"which column holds {missing[0]!r}? Give {option} {missing[0]}=…; there are {there}."
        raise ConfigurationError(" ".join([question, *hints]))
    return {name: found[name] for name in fields if name in found}


def given_of(row: Mapping[str, Any], chosen: Mapping[str, str]) -> dict[str, Any]:
    """Return the input of a row: the cells of the chosen columns, as far as the row has them."""
    return {name: row[column] for name, column in chosen.items() if column in row}


class _HeaderNames:
    """The columns of a header, found by their name or by one that looks the same: spaces around it, Unicode form."""

    def __init__(self, header: Iterable[str], option: str) -> None:
        self.names = list(header)
        self._option = option

    def _alike(self, name: str) -> list[str]:
        return [name] if name in self.names else [one for one in self.names if _composed(one) == _composed(name)]

    def __contains__(self, name: str) -> bool:
        return bool(self._alike(name))

    def __getitem__(self, name: str) -> str:
        found, *others = self._alike(name)
        if others:
            alike = ", ".join(map(ascii, [found, *others]))
            raise ConfigurationError(
                f"several columns look like {name!r}: {alike}. Give one of them with {self._option}."
            )
        return found


def _composed(name: str) -> str:
    return composed(name).strip()
