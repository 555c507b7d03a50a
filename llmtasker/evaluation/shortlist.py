"""shortlist_recall: how often the right labels are among those shown with an input. No LLM is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llmtasker.compiler.examples import shown_text
from llmtasker.errors import ConfigurationError, counted
from llmtasker.evaluation.gold_rows import Gold, GoldRow, gold_rows
from llmtasker.evaluation.intervals import Interval, wilson
from llmtasker.evaluation.measured_task import Measurable
from llmtasker.evaluation.metrics import IN_SHORTLIST, labels_in
from llmtasker.evaluation.report_text import share_ends
from llmtasker.task import Task
from llmtasker.values.language import Code, locale_of

_SIZES = (5, 10, 20, 50, 100)


@dataclass(frozen=True, kw_only=True)
class ShortlistRecall:
    """The share of rows with all their right labels among the first k; `print(recall)` shows it.

    `at` has the share for k = `count`, the labels that are shown, and for other k to choose from. `own` rows are
    examples of the task, and are left out because their recall would be too good.
    """

    count: int
    labels: int
    rows: int
    own: int
    at: dict[int, Interval]

    def __str__(self) -> str:
        return self.text()

    def text(self, language: Code = "en") -> str:
        """Return the shares line by line, as `print` shows them; `language` is "en" or "fr"."""
        words = locale_of(language)
        lines = [
            words.text(
                "right label among those shown, {labels} {labels:label|labels}, {rows} {rows:row|rows}:",
                labels=words.count(self.labels),
                rows=words.count(self.rows),
            )
        ]
        for size, share in self.at.items():
            first, figure = f"{words.number(size):>3}", f"{words.percent(share.value):>7}"
            line = words.text(
                "first {count}: {share} ({ends})", count=first, share=figure, ends=share_ends(words, share)
            )
            lines.append(f"  {line}{'  <- shortlist' if size == self.count else ''}")
        if self.own:
            own = words.count(self.own)
            lines.append(words.text("left out: {rows} {rows:row|rows} among the examples of the task", rows=own))
        return "\n".join(lines)


def shortlist_recall(task: Task[Any], gold: Gold, *, columns: Mapping[str, str] | None = None) -> ShortlistRecall:
    """Return how often the shortlist of a task contains the right labels of rows; nothing is sent.

    Args:
        task: a `Classification` with `shortlist=`.
        gold: labelled rows, as for `evaluate`.
        columns: the column of a field that has another name.

    Raises:
        ConfigurationError: the task shows all its labels, gold does not fit, or all its rows are examples of the task.

    >>> from llmtasker import Classification
    >>> task = Classification(llm="offline", labels=["lost card", "change PIN", "age limit"], shortlist=1)
    >>> shortlist_recall(task, [{"text": "I want another PIN", "label": "change PIN"}]).at[1].value
    1.0
    """
    picker = task.program.label_picker
    if picker is None:
        raise ConfigurationError("the task shows all its labels with each input: give shortlist=… below their number.")
    rows, _ = gold_rows(task.signature, gold, columns=columns)
    signature = task.signature
    ranks, own = list[int](), 0
    for row in rows:
        if row.error is not None:
            ranks.append(picker.size + 1)  # it is not asked
            continue
        shown = shown_text(signature, signature.validate_input(row.given).values)
        if picker.knows(shown):
            own += 1
            continue
        order = {label: rank for rank, label in enumerate(picker.ranked(shown, picker.size), start=1)}
        ranks.append(max((order.get(label, picker.size + 1) for label in labels_in(row.gold[picker.name])), default=1))
    if not ranks:
        raise ConfigurationError(f"all of {counted(own, 'row')} are examples of the task: measure on other rows.")
    sizes = sorted({picker.count, *(size for size in _SIZES if size < picker.size)})
    return ShortlistRecall(
        count=picker.count,
        labels=picker.size,
        rows=len(ranks),
        own=own,
        at={size: wilson(sum(rank <= size for rank in ranks), len(ranks)) for size in sizes},
    )


def shortlist_check(task: Measurable) -> Callable[[GoldRow], dict[str, float]] | None:
    """Return a function that scores a row by whether its right labels were shown; None: all labels are shown."""
    picker = task.program.label_picker if isinstance(task, Task) else None
    if picker is None:
        return None
    signature = task.signature

    def check(row: GoldRow) -> dict[str, float]:
        if row.error is not None:
            return {}
        shown = shown_text(signature, signature.validate_input(row.given).values)
        if picker.name not in row.gold or picker.knows(shown):
            return {}
        found = labels_in(row.gold[picker.name]) <= {*picker.ranked(shown, picker.count)}
        return {f"{picker.name}: {IN_SHORTLIST}": float(found)}

    return check
