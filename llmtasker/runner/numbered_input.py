"""NumberedInput: the input of a row, with its number and, if it belongs to one, its job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class NumberedInput(dict[str, Any]):
    """The input of a row, with its number and, if it belongs to one, its job."""

    def __init__(self, given: Mapping[str, Any], number: int, job: str | None = None) -> None:
        super().__init__(given)
        self.number = number
        self.job = job
