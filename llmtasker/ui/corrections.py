"""People's decisions about rows: a correction of one or of several, rows as examples, rows that are asked again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.datastructures import FormData

from llmtasker.api.correction import checked_correction
from llmtasker.api.problem import Problem
from llmtasker.jobs.job_state import Job, JobRow
from llmtasker.jobs.project_store import Project
from llmtasker.ui.project_task import form_of
from llmtasker.ui.run_pages import job_of
from llmtasker.ui.shown_answers import ShownAnswers, has_parts, written
from llmtasker.ui.task_form import LabelForm
from llmtasker.ui.visit import Visit
from llmtasker.values.folding import caseless
from llmtasker.values.json_values import is_array, parse_json
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.values.plain_number import plain_number

_MOST_PICKED = 500
_NUMBER = lazy_pattern(r"[1-9][0-9]{0,14}")
_TYPES: tuple[Any, ...] = ("", 0, False, {}, [])
"""A value of each type as which a field is read; texts come first."""
_YES, _NO = frozenset({"true", "oui", "yes", "vrai", "1"}), frozenset({"false", "non", "no", "faux", "0"})


def asked_job(visit: Visit, project: Project) -> Job:
    """Return the job whose rows are shown.

    Raises:
        Problem: there is no job.
    """
    job = job_of(visit, project)
    if job is None:
        raise Problem("not-found", visit.language.text("Nothing was asked yet: try 20 rows first."))
    return job


def answers_of(visit: Visit, project: Project, job: Job, counts: Mapping[str, int] | None = None) -> ShownAnswers:
    """Return the answers of a job as they are shown; `counts` has the rows of each label."""
    return ShownAnswers.of(visit.server.tasks, project, job, counts or {})


def correct_row(visit: Visit, project: Project, number: int, form: FormData) -> None:
    """Store a person's correction of a row, and add it to the examples if requested.

    Raises:
        Problem: there is no such row, or the task would not accept the correction.
    """
    job = asked_job(visit, project)
    row = visit.server.queue.row(job.id, number)
    if row is None:
        raise Problem("not-found", visit.language.text("The run has no row {number}.", number=number))
    output = None
    if "undo" not in form:
        output = checked_correction(visit.server, job, row, _output(visit, project, job, row, form))
    visit.server.queue.correct(job.id, number, output)
    if "as_example" in form and output is not None:
        _add_examples(visit, project, [number])


def _output(visit: Visit, project: Project, job: Job, row: JobRow, form: FormData) -> dict[str, Any]:
    """Return the corrected output that was sent: a label, some labels, or a value for each field."""
    first = next(iter(job.outputs))
    labels = [value for value in form.getlist("label") if isinstance(value, str)]
    if answers_of(visit, project, job).several:
        return {first: labels}
    if labels:
        return {first: labels[-1]}
    before = row.answer
    sent = {name: value for name in job.outputs if isinstance(value := form.get(f"field_{name}"), str)}
    if not sent:
        raise Problem("invalid", "No label was sent.")
    return {
        name: _first_typed(visit, job, name, value) if before.get(name) is None else typed_value(value, before[name])
        for name, value in sent.items()
    }


def _first_typed(visit: Visit, job: Job, name: str, text: str) -> Any:
    """Return the value of a field that had none before, as the first type that the task accepts; else the text."""
    blank: list[Any] = [] if text.strip() else [None]
    values = [*blank, *(typed_value(text, like) for like in _TYPES)]
    for strict in (True, False):
        for value in values:
            if isinstance(value, bool) and not strict:
                continue  # a whole number would take it
            try:
                checked_correction(visit.server, job, None, {name: value}, strict=strict)
            except Problem:
                continue
            return value
    return text


def typed_value(text: str, before: Any) -> Any:
    """Return a typed field as the type of value that it had, that value itself where the text is as it was `written`.

    The task checks whether what was typed is allowed.
    """
    if text.strip().splitlines() == written(before).strip().splitlines():
        return before
    if isinstance(before, bool):
        word = caseless(text.strip())
        return True if word in _YES else False if word in _NO else text
    if isinstance(before, int | float):
        return plain_number(text, alone=True) or text
    if has_parts(before):
        try:
            return parse_json(text)
        except (ValueError, RecursionError):
            return text
    if is_array(before):
        return [part.strip() for part in text.split(";") if part.strip()]
    return text


def correct_picked(visit: Visit, project: Project, form: FormData) -> str:
    """Do what was requested for the picked rows, and return where to go then.

    Raises:
        Problem: no row is picked, or it can't be done.
    """
    job, queue = asked_job(visit, project), visit.server.queue
    numbers = [int(value) for value in form.getlist("picked") if isinstance(value, str) and _NUMBER.fullmatch(value)]
    action = str(form.get("do", ""))
    if action in {"failed", "corrected"}:
        if not queue.move(job.id, "retry", only=action):
            raise Problem("wrong-state", visit.language.text("The run must have ended before rows are asked again."))
        visit.server.wake()
        return f"/p/{project.id}/run"
    if not numbers:
        raise Problem("invalid", visit.language.text("No row is picked."))
    numbers = numbers[:_MOST_PICKED]
    if action == "example":
        _add_examples(visit, project, numbers)
        return f"/p/{project.id}/task#examples"
    label = str(form.get("label", ""))
    first = next(iter(job.outputs))
    sent = {first: [label] if answers_of(visit, project, job).several else label}
    rows = [row for number in numbers if (row := queue.row(job.id, number)) is not None]
    outputs = {row.number: checked_correction(visit.server, job, row, sent) for row in rows}
    for number, output in outputs.items():
        queue.correct(job.id, number, output)
    return f"/p/{project.id}/results?f=corrected"


def _add_examples(visit: Visit, project: Project, numbers: list[int]) -> None:
    """Add rows with their answers to the examples of the form; they count from the next run on."""
    job, form = asked_job(visit, project), form_of(visit, project)
    if not isinstance(form, LabelForm):
        raise Problem("invalid", visit.language.text("Examples can be added to a classification only."))
    answers, known = answers_of(visit, project, job), {text for text, _ in form.examples}
    added = list[tuple[str, str]]()
    for number in numbers:
        row = visit.server.queue.row(job.id, number)
        if row is not None and (labels := answers.chosen(row)) and answers.text(row) not in known:
            added.append((answers.text(row), "; ".join(labels)))
    changed = replace(form, examples=(*form.examples, *added))
    visit.pages.projects.change(project, definition={**project.definition, **changed.kept()})
