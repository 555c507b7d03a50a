"""CorrectedRow: a person's correction of a job's row, as observers receive it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedRow:
    """An answered row, and the values that a person corrected; None: the correction was withdrawn.

    `before` is the correction that this one replaces. `closed` are those of the `outputs` that have labels or numbers,
    not free text.
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
    """An observer that also takes corrections."""

    def take_correction(self, row: CorrectedRow) -> None:
        """Take a correction; must not block."""
        ...
