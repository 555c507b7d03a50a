"""choose_columns: the column of a table from which each input field is read; read_input: the input of a row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmtasker.errors import ConfigurationError, nearest
from llmtasker.files.header import Header
from llmtasker.signature.signature import Signature
from llmtasker.signature.typed_cells import text_cells
from llmtasker.values.folding import composed


def choose_columns(signature: type[Signature], header: Header | Iterable[str], chosen: Sequence[str]) -> dict[str, str]:
    """Return the column of each input field.

    `chosen` has `field=column`, or only the column if there is one input field. Other fields use the column of the same
    name; the Unicode form of a name does not matter. The error includes the notes of a header, because they may name
    its reason (another sheet).

    Raises:
        ConfigurationError: a field has no column, a column does not exist, or several look alike.
    """
    header = header if isinstance(header, Header) else Header(tuple(header))
    columns, fields = _HeaderNames(header.names), list(signature.input_fields)
    found = dict[str, str]()
    there = ", ".join(columns.names)
    for one in chosen:
        name, equals, column = one.partition("=")
        if one in columns or not equals:
            name, column = fields[0] if len(fields) == 1 else "", one
        if name not in fields:
            raise ConfigurationError(f"column {one!r}: give field=column, where field is one of {', '.join(fields)}.")
        if column not in columns:
            near = nearest(column, columns.names)
            raise _not_named(f"there is no column {column!r}.{near} Columns: {there}.", header, {})
        if found.get(name, columns[column]) != columns[column]:
            raise ConfigurationError(f"{name!r} has two columns, {found[name]!r} and {column!r}: give one of them.")
        found[name] = columns[column]
    found |= {name: columns[name] for name in fields if name not in found and name in columns}
    missing = [name for name in fields if name not in found and signature.input_fields[name].is_required()]
    if missing:
        raise _not_named(
            f"which column holds {missing[0]!r}? Columns: {there}.", header, {"columns": {missing[0]: "…"}}
        )
    return {name: found[name] for name in fields if name in found}


def _not_named(message: str, header: Header, give: dict[str, object]) -> ConfigurationError:
    """Return the error that a column is not there, with what may be the reason: a title, or another sheet."""
    parts = [message]
    # Columns without a name, or one column alone: perhaps a title stands above the names.
    if header.in_line and (len(header.names) == 1 or any(re.fullmatch(r"column_\d+_*", name) for name in header.names)):
        parts.append("Their names may stand further down, such as in line 3.")
        give["header"] = 3
    if header.sheets:
        give["sheet"] = header.sheets[0]
    return ConfigurationError(" ".join([*parts, *sentences(header.notes)]), give=give)


def sentences(notes: Iterable[str]) -> list[str]:
    """Return the notes of a header as sentences."""
    return [f"{note[:1].upper()}{note[1:]}." for note in notes]


def given_of(row: Mapping[str, Any], chosen: Mapping[str, str]) -> dict[str, Any]:
    """Return the input of a row: the values of the chosen columns, as far as the row has them."""
    return {name: row[column] for name, column in chosen.items() if column in row}


def read_input(signature: type[Signature], row: Mapping[str, Any], chosen: Mapping[str, str]) -> dict[str, Any]:
    """Return the input of a row of a file; see `text_cells`."""
    return text_cells(signature, given_of(row, chosen))


class _HeaderNames:
    """The columns of a header, found by their name or by one that looks the same: spaces around it, Unicode form."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def _alike(self, name: str) -> list[str]:
        return [name] if name in self.names else [one for one in self.names if _composed(one) == _composed(name)]

    def __contains__(self, name: str) -> bool:
        return bool(self._alike(name))

    def __getitem__(self, name: str) -> str:
        found, *others = self._alike(name)
        if others:
            alike = ", ".join(map(ascii, [found, *others]))
            raise ConfigurationError(f"several columns look like {name!r}: {alike}.", give={"columns": {name: found}})
        return found


def _composed(name: str) -> str:
    return composed(name).strip()
