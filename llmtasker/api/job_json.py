"""A job and its rows as a caller sees them."""

from __future__ import annotations

from typing import Any

from llmtasker.jobs.job_state import Job, JobRow

_SHOWN = (
    *("id", "task", "name", "state", "reason", "rows", "done", "ok", "failed", "cached", "repaired", "calls", "cost"),
    *("budget", "columns", "outputs", "created", "updated", "expires"),
)


def job_json(job: Job) -> dict[str, Any]:
    """Return a job as a caller sees it."""
    shown = {name: getattr(job, name) for name in _SHOWN}
    return {**shown, "calls": round(job.calls)}  # rows that share a call count a part of it each


def row_json(row: JobRow) -> dict[str, Any]:
    """Return a row as a caller sees it: its cells, its whole item, its correction."""
    return {"number": row.number, "row": row.row, "item": row.item, "correction": row.correction}
