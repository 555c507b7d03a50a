"""ShownAnswers: how the answers of a job are shown: labels with their hue, counts, marks, and whether one is right."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from llmtasker.api.served_tasks import ServedTasks
from llmtasker.errors import ConfigurationError
from llmtasker.jobs.job_state import Job, JobRow, label_of
from llmtasker.jobs.pipeline_work import TaskLike
from llmtasker.jobs.project_store import Project
from llmtasker.values.json_schema import offered_labels, resolve
from llmtasker.values.json_values import as_list, is_array, is_object

_HUES = 9
_RECURS = 3  # rows of each value, on average, from which values are counted as labels are


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCount:
    """A label with its hue (1 to 9), its rows, its share of the answered rows, and the length of its bar in percent."""

    label: str
    hue: int
    rows: int
    share: float
    bar: float


class ShownAnswers:
    """The answers of a job. A label keeps its hue: by its place in the form, else by the order of texts.

    `task` is one of the server's, whose signature lists the labels.
    """

    def __init__(self, project: Project, job: Job, counts: Mapping[str, int], task: TaskLike | None = None) -> None:
        self._project, self._job = project, job
        self._definition: Mapping[str, Any] = job.definition or {}
        offered, self._many = ([], False) if task is None else _offered(task)
        listed = [str(name) for name in self._definition.get("labels", offered)]
        self._labelled = bool(offered) or project.kind == "classification"
        if not self._labelled and len(counts) > _HUES and _RECURS * len(counts) > sum(counts.values()):
            counts = {}  # numbers or texts that hardly recur: a bar for each would say nothing
        others = sorted(label for label in counts if label not in set(listed))
        self.labels = listed or (others if 0 < len(others) <= _HUES * 4 else [])
        self._hues = {name: min(place, _HUES) for place, name in enumerate([*listed, *others], start=1)}
        self.counts = self._counted(counts)

    @classmethod
    def of(cls, tasks: ServedTasks, project: Project, job: Job, counts: Mapping[str, int]) -> Self:
        """Return the answers of a job with a server's task or a described one."""
        try:
            task = tasks.of_job(job) if job.definition is None else None
        except ConfigurationError:  # the server no longer has it
            task = None
        return cls(project, job, counts, task)

    def _counted(self, counts: Mapping[str, int]) -> list[LabelCount]:
        total, most = sum(counts.values()) or 1, max(counts.values(), default=1)
        order = {name: place for place, name in enumerate(self._hues)}
        return [
            LabelCount(label=label, hue=self.hue(label), rows=rows, share=rows / total, bar=round(100 * rows / most, 1))
            for label, rows in sorted(counts.items(), key=lambda one: (-one[1], order.get(one[0], 0)))
        ]

    def hue(self, label: str) -> int:
        """Return the hue of a label; several labels have the hue of the first."""
        return self._hues.get(label) or self._hues.get(label.partition(" · ")[0]) or _HUES

    @property
    def several(self) -> bool:
        """Whether a row has several labels."""
        return bool(self._definition.get("multi_label")) or self._many

    @property
    def by_label(self) -> bool:
        """Whether a row is corrected by choosing a label, not by typing fields."""
        return self._labelled and bool(self.labels)

    @property
    def open_set(self) -> bool:
        """Whether the LLM may name other labels."""
        return bool(self._definition.get("open_set"))

    @property
    def fields(self) -> list[str]:
        """The output fields."""
        return list(self._job.outputs)

    def label(self, row: JobRow) -> str | None:
        """Return the short form of a row's answer: its label, or its fields; None: it has no answer."""
        return self._in_short(row.answer) if row.answer else None

    def _in_short(self, answer: Mapping[str, Any]) -> str:
        if len(answer) == 1 or self._project.kind == "classification":
            return label_of(answer) or shown(next(iter(answer.values())))
        return " · ".join(text for value in answer.values() if (text := shown(value)))

    def guess(self, row: JobRow) -> dict[str, Any]:
        """Return the best guess for a row on which the task abstained, by field; empty: it did not, or was
        corrected."""
        error: Mapping[str, Any] = (row.item or {}).get("error") or {}
        details: Mapping[str, Any] = error.get("details") or {}
        found = details.get("guess")
        if error.get("code") != "abstained" or found is None or row.correction is not None:
            return {}
        return dict(found) if is_object(found) and found.keys() <= set(self.fields) else {self.fields[0]: found}

    def guess_label(self, row: JobRow) -> str | None:
        """Return the short form of the best guess for a row; None: there is none."""
        guess = self.guess(row)
        return self._in_short(guess) if guess else None

    def chosen(self, row: JobRow) -> list[str]:
        """Return the labels of a row one by one."""
        return _texts(row.answer)

    def proposed(self, row: JobRow) -> list[str]:
        """Return the labels that are chosen when a row is opened: those of its answer, else of the best guess."""
        return _texts(row.answer or self.guess(row))

    def calibrated(self, row: JobRow) -> bool:
        """Whether the confidence of a row's answer is a probability."""
        return str((row.item or {}).get("confidence_source") or "").endswith("calibrated")

    def text(self, row: JobRow) -> str:
        """Return the text of a row: its input."""
        given = row.given or {name: row.row.get(column) for name, column in self._job.columns.items()}
        return "\n".join(shown(value) for value in given.values())

    def gold(self, row: JobRow) -> str | None:
        """Return what is right for a row: its correction, else the cell of the column of right answers."""
        if row.correction is not None:
            return label_of(row.correction)
        cell = row.row.get(self._project.gold) if self._project.gold else None
        text = "" if cell is None else str(cell).strip()
        return text or None


def _texts(answer: Mapping[str, Any]) -> list[str]:
    first = next(iter(answer.values()), None)
    return [str(one) for one in as_list(first) if one is not None]


def _offered(task: TaskLike) -> tuple[list[str], bool]:
    """Return the labels of a task whose one output is a label or several of them, and whether it is several."""
    schema = task.signature.output_model.model_json_schema()
    node = resolve(next(iter(schema["properties"].values())), schema)
    labels = list(dict.fromkeys(label for label in offered_labels(node, schema) if label is not None))
    if len(task.signature.output_fields) > 1 or not all(isinstance(label, str) for label in labels):
        return [], False
    return labels, node.get("type") == "array"


def shown(value: Any) -> str:
    """Return a value as it is shown in a cell; an object as JSON, as in a file of results."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_object(value):
        return json.dumps(value, ensure_ascii=False)
    return " · ".join(map(shown, value)) if is_array(value) else str(value)


def written(value: Any) -> str:
    """Return a value as a person writes it in a form: a list with semicolons, what has parts as JSON."""
    if has_parts(value):
        return json.dumps(value, ensure_ascii=False, indent=2)
    return "; ".join(map(shown, value)) if is_array(value) else shown(value)


def has_parts(value: Any) -> bool:
    """Whether a value is an object, or a list whose members a person could not tell apart between semicolons."""
    return is_object(value) or (is_array(value) and not all(map(_is_plain, value)))


def _is_plain(member: Any) -> bool:
    if isinstance(member, str):
        return bool(member) and member == member.strip() and ";" not in member and "\n" not in member
    return isinstance(member, int | float)
