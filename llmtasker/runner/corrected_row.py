"""CorrectedRow: what a person said of a row of a job, for those who want to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedRow:
    """A row that was answered, and what a person says is right; None: the correction was taken back.

    `before` is the correction that this one replaces. `closed` are those of the `outputs` that hold labels or numbers,
    not a text of one's own.
    """

    job: str
    number: int
    answer: Mapping[str, Any]
    failed: bool
    correction: Mapping[str, Any] | None
    before: Mapping[str, Any] | None = None
    outputs: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()


@runtime_checkable
class TakesCorrections(Protocol):
    """An observer that takes corrections too."""

    def take_correction(self, row: CorrectedRow) -> None:
        """Take a correction, without waiting for anything."""
        ...
