"""Job: rows that a server processes in the background, and its states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from llmtasker.values.json_values import as_list

State = Literal["queued", "running", "paused", "done", "cancelled", "failed"]
"""
::

    queued ──▶ running ──▶ done ──▶ queued   (rows asked again)
      │  ▲        │  │
      │  └────────┤  └──▶ failed             (the set-up is wrong; `reason`)
      ▼           ▼
    paused     cancelled                     (both from queued and running; paused goes on as queued)
"""

MOVES: Mapping[str, tuple[State, ...]] = {
    "pause": ("queued", "running"),
    "resume": ("paused",),
    "cancel": ("queued", "running", "paused"),
    "retry": ("done", "cancelled", "failed"),
}
"""What a caller may do with a job, and the states that allow it."""

AFTER: Mapping[str, State] = {"pause": "paused", "resume": "queued", "cancel": "cancelled", "retry": "queued"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as stored in its file.

    `task` names one of the server's tasks; `definition` is a caller's task instead. `columns` has the column of each
    input field, `header` all columns in order. `identity` is that of the task; with another one, the job is not
    continued. Times are seconds since 1970, `cost` is in US dollars (None: unknown).
    """

    id: str
    owner: str
    task: str
    definition: Mapping[str, Any] | None = None
    name: str = ""
    identity: str = ""
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    header: tuple[str, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict[str, str])
    format: Mapping[str, Any] | None = None
    budget: float | None = None
    state: State = "queued"
    reason: str | None = None
    rows: int = 0
    ok: int = 0
    failed: int = 0
    cached: int = 0
    repaired: int = 0
    calls: float = 0
    cost: float | None = 0.0
    created: float = 0.0
    updated: float = 0.0
    expires: float = 0.0

    @property
    def done(self) -> int:
        """Rows that have an item."""
        return self.ok + self.failed


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A row of a job: its cells, and once there is one, its item without the input as JSON values.

    `sure` is the confidence of its answer, or of its guess if the task abstained; None: unknown.
    """

    number: int
    row: Mapping[str, Any]
    given: Mapping[str, Any]
    item: Mapping[str, Any] | None = None
    correction: Mapping[str, Any] | None = None
    sure: float | None = None

    @property
    def answer(self) -> dict[str, Any]:
        """The answer by field, as it was corrected; empty: there is none."""
        return {**((self.item or {}).get("output") or {}), **(self.correction or {})}


class OpenRow(NamedTuple):
    """An uncorrected row: its cells, the beginning of its text, its label, its confidence, its error."""

    number: int
    row: Mapping[str, Any]
    text: str
    label: str | None
    sure: float | None
    error: str | None


def label_of(answer: Mapping[str, Any]) -> str | None:
    """Return the value by which results are filtered: the first output, if it is a short value or a list of such."""
    first = next(iter(answer.values()), None)
    parts = as_list(first)
    texts = [str(part) for part in parts if isinstance(part, str | int | float)]
    return " · ".join(texts) if texts and len(texts) == len(parts) else None
