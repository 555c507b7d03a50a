"""Precision, recall and F1 of labels, and which label is mistaken for which."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from llmtasker.evaluation.intervals import Interval, share_interval

FAILED = None
"""The answer of a failed row."""

Pair = tuple[frozenset[str], frozenset[str] | None]
"""The labels of a gold row and those of its answer; FAILED: there is no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScore:
    """How well one label was recognised: `gold` rows have it, `answered` rows were given it, `right` rows both.

    `recall` is the share of the rows with this label that were given it, with its interval.
    """

    label: str
    gold: int
    answered: int
    right: int
    recall: Interval

    @property
    def precision(self) -> float:
        """The share of the rows given this label that have it; 0 if no row was given it."""
        return self.right / self.answered if self.answered else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 0 if no row has or was given the label."""
        return 2 * self.right / (self.gold + self.answered) if self.gold + self.answered else 0.0


def label_scores(pairs: Sequence[Pair], clusters: Sequence[Hashable] | None = None) -> dict[str, LabelScore]:
    """Return the score of each label that a row has or was given, in the order of the labels' texts.

    With `clusters`, one for each pair, the interval of a recall counts the effective number of independent rows.
    """
    answered, hits, groups = Counter[str](), defaultdict[str, list[bool]](list), defaultdict[str, list[Hashable]](list)
    for at, (truth, answer) in enumerate(pairs):
        given = answer or frozenset()
        answered.update(given)
        for label in truth:
            hits[label].append(label in given)
            groups[label].append(at if clusters is None else clusters[at])
    return {
        label: LabelScore(
            label=label,
            gold=len(hits[label]),
            answered=answered[label],
            right=sum(hits[label]),
            recall=share_interval(hits[label], groups[label]),
        )
        for label in sorted({*hits, *answered})
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
