"""The report of a job on the rows with right answers: from the gold column, and from corrections."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from llmtasker.errors import ConfigurationError
from llmtasker.evaluation import Report
from llmtasker.evaluation.evaluate import report_of
from llmtasker.evaluation.gold_rows import gold_rows
from llmtasker.jobs.job_queue import JobQueue
from llmtasker.jobs.job_state import Job, JobRow
from llmtasker.jobs.pipeline_work import TaskLike, work_on
from llmtasker.jobs.project_store import Project
from llmtasker.ui.shown_answers import ShownAnswers
from llmtasker.values.json_values import as_list
from llmtasker.values.lazy_pattern import lazy_pattern

MOST = 20_000
"""The most rows with gold that a page measures."""

_SEVERAL = lazy_pattern(r"[;|·,]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A report (None: no row can be judged); gold that is not a label, with its rows; whether there were more rows."""

    report: Report | None
    unknown: Mapping[str, int]
    more: bool
    error: str | None = None


class ScoredRows:
    """The reports of jobs; the last few are kept as long as nothing changes."""

    def __init__(self, kept: int = 8) -> None:
        self._made: OrderedDict[tuple[Any, ...], Scored] = OrderedDict()
        self._most = kept

    def of(self, queue: JobQueue, project: Project, job: Job, task: TaskLike, gold_of: Job | None = None) -> Scored:
        """Return the report of a job. `gold_of` is the job whose corrections count: that of the run that is shown."""
        source = gold_of or job
        key = (job.id, job.updated, job.done, source.id, source.updated, project.gold)
        found = self._made.pop(key, None) or scored(queue, project, job, task, source)
        self._made[key] = found
        while len(self._made) > self._most:
            self._made.popitem(last=False)
        return found


def scored(queue: JobQueue, project: Project, job: Job, task: TaskLike, source: Job) -> Scored:
    """Return the report of the rows that have an answer and gold; nothing is asked."""
    answers, field = ShownAnswers(project, job, {}), next(iter(job.outputs))
    known = set(answers.labels) if not answers.open_set else set[str]()
    corrections = {row.number: row.correction for row in _corrected(queue, source)}
    work, unknown = work_on(task), Counter[str]()
    found = list[tuple[dict[str, Any], JobRow]]()
    more = False
    for row in queue.all_rows(job.id):
        gold = _gold(answers, row, corrections.get(row.number), field)
        if gold is None or row.item is None or not row.given:
            continue
        wrong = [str(one) for one in as_list(gold) if known and one not in known]
        if wrong:
            unknown.update(wrong)
            continue
        if len(found) == MOST:
            more = True
            break
        found.append(({**row.given, field: gold}, row))
    if not found:
        return Scored(report=None, unknown=unknown, more=more)
    try:
        rows, _ = gold_rows(task.signature, [mapping for mapping, _ in found])
        items = [work.item(row.item or {}, row.given) for _, row in found]
        return Scored(report=report_of(task, rows, items), unknown=unknown, more=more)
    except ConfigurationError as error:
        return Scored(report=None, unknown=unknown, more=more, error=str(error))


def _corrected(queue: JobQueue, job: Job) -> list[JobRow]:
    found, after = list[JobRow](), 0
    while rows := queue.rows(job.id, after=after, limit=500, only="corrected"):
        found += rows
        after = rows[-1].number
    return found


def _gold(answers: ShownAnswers, row: JobRow, correction: Mapping[str, Any] | None, field: str) -> Any:
    if correction is not None:
        return correction.get(field)
    text = answers.gold(replace(row, correction=None))
    if text is None or not answers.several:
        return text
    return [text] if text in answers.labels else [part.strip() for part in _SEVERAL.split(text) if part.strip()]
