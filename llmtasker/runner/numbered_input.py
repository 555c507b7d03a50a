"""NumberedInput: the input of a row, which knows the number of the row and the job that it is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class NumberedInput(dict[str, Any]):
    """The input of a row, which knows its number, and its job if it is of one."""

    def __init__(self, given: Mapping[str, Any], number: int, job: str | None = None) -> None:
        super().__init__(given)
        self.number = number
        self.job = job
