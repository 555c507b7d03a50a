"""CircuitBreaker: stops a run that can't succeed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from llmtasker.errors import (
    AuthenticationError,
    BadResponseError,
    NetworkError,
    NotFoundError,
    NotRunError,
    OutputError,
)
from llmtasker.item import Item

_REJECTIONS = 5  # equal refusals in a row, with nothing answered between, that open it


class CircuitBreaker:
    """Stops a run that can't succeed: the key is wrong, the model does not exist, or nothing answers at that address.

    It opens after several equal rejections in a row, and stays open; `error` is then the error of each row that is
    no longer asked.
    """

    def __init__(self) -> None:
        self.open = False
        self.error: NotRunError | None = None
        self._last = ""
        self._count = 0
        self._answered = False

    def record(self, items: Sequence[Item[Any]]) -> None:
        """Count the items of rows that were asked together."""
        asked = [item.error for item in items if item.attempts]
        if not asked or self.open:
            return
        self._answered = self._answered or None in asked or any(isinstance(error, OutputError) for error in asked)
        # These are retried before they count as failed: once anything was answered, they don't show a wrong set-up.
        fatal = (AuthenticationError, NotFoundError, *(() if self._answered else (BadResponseError, NetworkError)))
        rejections = [error for error in asked if isinstance(error, fatal)]
        if len(rejections) < len(asked):
            self._count = 0
            return
        message = rejections[0].message
        self._count = self._count + 1 if _gist(message) == _gist(self._last) else 1
        self._last = message
        if self._count >= _REJECTIONS:
            self.error = NotRunError(f"not asked: {self._count} calls in a row failed in the same way: {message}")
            self.open = True


def _gist(message: str) -> str:
    """Return the part that equal refusals share: many endpoints include a time or the number of the request."""
    return re.sub(r"\S*\d\S*", "", message)
