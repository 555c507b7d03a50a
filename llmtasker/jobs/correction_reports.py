"""report_corrections: pass the corrections that people make in jobs to the observers of the task."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from llmtasker.errors import ConfigurationError
from llmtasker.jobs.job_queue import JobQueue
from llmtasker.jobs.job_state import Job, JobRow
from llmtasker.jobs.pipeline_work import TaskLike
from llmtasker.pipelines.pipeline import Pipeline
from llmtasker.runner.corrected_row import CorrectedRow, TakesCorrections

_LOG = logging.getLogger("llmtasker.server")


def report_corrections(queue: JobQueue, task_of: Callable[[Job], TaskLike]) -> None:
    """Pass each stored correction to those observers of its task that take corrections.

    If an observer fails, the correction stays stored, and the failure is logged once. `task_of` raises a
    ConfigurationError if there is no task.
    """
    failed: set[str] = set()

    def report(id_: str, row: JobRow, correction: Mapping[str, Any] | None) -> None:
        job = queue.get(id_)
        if row.item is None or job is None:
            return  # the row has not been asked yet, so there is nothing to correct
        try:
            task = task_of(job)
        except ConfigurationError:
            return  # the server no longer has the task, nor its observers
        observers: list[object] = list(task.observers if isinstance(task, Pipeline) else task.plan.observers)
        for taker in [one for one in observers if isinstance(one, TakesCorrections)]:
            try:
                taker.take_correction(_corrected(task, job, row, correction))
            except Exception as error:  # noqa: BLE001 - user code; the correction is already stored
                name = f"{type(taker).__qualname__}: {type(error).__name__}"
                if name not in failed:
                    failed.add(name)
                    _LOG.warning("a correction was stored, but an observer failed: %s", name)

    queue.on_correction = report


def _corrected(task: TaskLike, job: Job, row: JobRow, correction: Mapping[str, Any] | None) -> CorrectedRow:
    item = row.item or {}
    return CorrectedRow(
        job=job.id,
        number=row.number,
        answer=item.get("output") or {},
        failed=item.get("error") is not None,
        correction=correction,
        before=row.correction,
        outputs=frozenset(job.outputs),
        closed=frozenset(name for name, info in task.signature.output_fields.items() if _is_closed(info.annotation)),
    )


def _is_closed(annotation: Any) -> bool:
    """Return whether a type excludes free text: labels, numbers, lists of them."""
    if get_origin(annotation) is Literal or annotation in (bool, int, float, None, type(None)):
        return True
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return True
    return bool(arguments := get_args(annotation)) and all(map(_is_closed, arguments))
