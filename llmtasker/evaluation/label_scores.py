"""Precision, recall and F1 of labels, and which label is mistaken for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from llmtasker.evaluation.intervals import Interval, wilson

FAILED = None
"""The answer of a failed row."""

Pair = tuple[frozenset[str], frozenset[str] | None]
"""The labels of a gold row and those of its answer; FAILED: there is no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScore:
    """How well one label was recognised: `gold` rows have it, `answered` rows were given it, `right` rows both."""

    label: str
    gold: int
    answered: int
    right: int

    @property
    def precision(self) -> float:
        """The share of the rows given this label that have it; 0 if no row was given it."""
        return self.right / self.answered if self.answered else 0.0

    @property
    def recall(self) -> Interval:
        """The share of the rows with this label that were given it, with its interval."""
        return wilson(self.right, self.gold)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 0 if no row has or was given the label."""
        return 2 * self.right / (self.gold + self.answered) if self.gold + self.answered else 0.0


def label_scores(pairs: Sequence[Pair]) -> dict[str, LabelScore]:
    """Return the score of each label that a row has or was given, in the order of the labels' texts."""
    gold, answered, right = Counter[str](), Counter[str](), Counter[str]()
    for truth, answer in pairs:
        given = answer or frozenset()
        gold.update(truth)
        answered.update(given)
        right.update(truth & given)
    return {
        label: LabelScore(label=label, gold=gold[label], answered=answered[label], right=right[label])
        for label in sorted({*gold, *answered})
    }


def macro_f1(scores: dict[str, LabelScore]) -> float:
    """Return the mean of the labels' F1."""
    return sum(score.f1 for score in scores.values()) / len(scores) if scores else 0.0


def micro_f1(scores: dict[str, LabelScore]) -> float:
    """Return the F1 of all labels together."""
    right = sum(score.right for score in scores.values())
    rows = sum(score.gold + score.answered for score in scores.values())
    return 2 * right / rows if rows else 0.0


def confusion(pairs: Sequence[Pair]) -> Counter[tuple[str, str | None]]:
    """Return how many rows with a label were given which label; only for rows with one label. FAILED: none."""
    return Counter(
        (next(iter(truth)), FAILED if answer is None else " · ".join(sorted(answer)))
        for truth, answer in pairs
        if len(truth) == 1
    )
