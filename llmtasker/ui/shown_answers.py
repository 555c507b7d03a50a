"""ShownAnswers: how the answers of a job are shown: labels with their hue, counts, marks, and whether one is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmtasker.jobs.job_state import Job, JobRow, label_of
from llmtasker.jobs.project_store import Project
from llmtasker.values.json_values import as_list, is_array

_HUES = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCount:
    """A label with its hue (1 to 9), its rows, its share of the answered rows, and the length of its bar in percent."""

    label: str
    hue: int
    rows: int
    share: float
    bar: float


class ShownAnswers:
    """The answers of a job. A label keeps its hue: that of its place in the form, else in the order of texts."""

    def __init__(self, project: Project, job: Job, counts: Mapping[str, int]) -> None:
        self._project, self._job = project, job
        self._definition: Mapping[str, Any] = job.definition or {}
        listed = [str(name) for name in self._definition.get("labels", ())]
        others = sorted(label for label in counts if label not in set(listed))
        self.labels = listed or (others if 0 < len(others) <= _HUES * 4 else [])
        self._hues = {name: min(place, _HUES) for place, name in enumerate([*listed, *others], start=1)}
        self.counts = self._counted(counts)

    def _counted(self, counts: Mapping[str, int]) -> list[LabelCount]:
        total, most = sum(counts.values()) or 1, max(counts.values(), default=1)
        order = {name: place for place, name in enumerate(self._hues)}
        return [
            LabelCount(label=label, hue=self.hue(label), rows=rows, share=rows / total, bar=round(100 * rows / most, 1))
            for label, rows in sorted(counts.items(), key=lambda one: (-one[1], order.get(one[0], 0)))
        ]

    def hue(self, label: str) -> int:
        """Return the hue of a label; several labels have that of the first."""
        return self._hues.get(label) or self._hues.get(label.partition(" · ")[0]) or _HUES

    @property
    def several(self) -> bool:
        """Whether a row has several labels."""
        return bool(self._definition.get("multi_label"))

    @property
    def open_set(self) -> bool:
        """Whether the LLM may name other labels."""
        return bool(self._definition.get("open_set"))

    @property
    def fields(self) -> list[str]:
        """The output fields."""
        return list(self._job.outputs)

    def answer(self, row: JobRow) -> dict[str, Any]:
        """Return the answer of a row by field, as it was corrected."""
        return {**((row.item or {}).get("output") or {}), **(row.correction or {})}

    def label(self, row: JobRow) -> str | None:
        """Return what stands for the answer of a row: its label, or its fields in short; None: it has no answer."""
        answer = self.answer(row)
        if not answer:
            return None
        if len(answer) == 1 or self._project.kind == "classification":
            return label_of(answer) or shown(next(iter(answer.values())))
        return " · ".join(shown(value) for value in answer.values())

    def chosen(self, row: JobRow) -> list[str]:
        """Return the labels of a row one by one."""
        first = next(iter(self.answer(row).values()), None)
        return [str(one) for one in as_list(first) if one is not None]

    def sure(self, row: JobRow) -> float | None:
        """Return the confidence of a row's answer; None: it has none."""
        found: Mapping[str, float] = (row.item or {}).get("confidence") or {}
        return max(found.values(), default=None)

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


def shown(value: Any) -> str:
    """Return a value as it is shown in a cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return " · ".join(map(shown, value)) if is_array(value) else str(value)
