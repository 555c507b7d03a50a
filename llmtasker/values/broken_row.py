"""BrokenRow: a row that could not be read completely; the other rows are not affected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmtasker.errors import InputError


class BrokenRow(dict[str, Any]):
    """A row of a file that does not have the form of the others; `error` names the line and the reason.

    It has its place among the other rows and contains what could be read: missing cells are missing here too, cells
    beyond the header are kept in the last column. A task never asks for it: its Item has `error`, without a call.

    >>> row = BrokenRow({"id": "7"}, error=InputError("line 8 has 1 cell, the header has 2"))
    >>> row["id"], row.error.message
    ('7', 'line 8 has 1 cell, the header has 2')
    """

    def __init__(self, values: Mapping[str, Any], *, error: InputError) -> None:
        super().__init__(values)
        self.error = error
