"""Figures: the measurements of a task on gold rows, row by row, and the figures that follow from them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from llmtasker.errors import ConfigurationError, nearest
from llmtasker.evaluation.intervals import Interval, mean_interval, share_interval, usual_value
from llmtasker.evaluation.label_scores import LabelScore, Pair, confusion, label_scores
from llmtasker.evaluation.metrics import ABSOLUTE_ERROR, LABEL_KINDS, FieldKind, labels_in
from llmtasker.item import Item, sum_of

_WORST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledAnswer:
    """A further answer to a row that was asked several times, and its scores; None: it failed."""

    answer: dict[str, Any] | None
    scores: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The cost of the calls of a judge; `cost` is None if a price is not known."""

    calls: int = 0
    tokens: int = 0
    cost: float | None = 0.0

    def plus(self, items: Iterable[Item[Any]]) -> Judged:
        """Return it with some items of the judge added."""
        made = list(items)
        return Judged(
            calls=self.calls + sum(item.attempts for item in made),
            tokens=self.tokens + sum(item.usage.total for item in made),
            cost=sum_of((self.cost, *(item.cost for item in made))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRow:
    """A row: its input, gold and answer by field as JSON, its scores, and what it cost.

    `tokens` and `cost` are of the answer that was used, even if it came from the cache; `latency` (seconds) is known
    only for rows that were asked now. `samples` are the further answers if each row was asked several times. Its `repr`
    does not show texts of the row.
    """

    key: str
    given: dict[str, Any] = field(repr=False)
    gold: dict[str, Any] = field(repr=False)
    answer: dict[str, Any] | None = field(repr=False)
    error: tuple[str, str] | None
    scores: dict[str, float]
    raw: str | None = field(default=None, repr=False)
    repairs: tuple[str, ...] = ()
    cached: bool = False
    attempts: int = 0
    tokens: int = 0
    cost: float | None = None
    latency: float | None = None
    slices: dict[str, str] = field(default_factory=dict[str, str])
    cluster: str | None = None
    samples: tuple[SampledAnswer, ...] = field(default=(), repr=False)


class Score(NamedTuple):
    """A figure of a report. A failed row counts as 0, and `at_best` is the figure if all of them were right.

    `right` and `wrong` are None for a metric that is not right or wrong.
    """

    interval: Interval
    rows: int
    failed: int
    at_best: float
    right: int | None
    wrong: int | None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The measurements, and the figures that follow from the rows.

    `broken` counts the rows for which a metric gave no score, and `errors` has the first reason, without texts of rows.
    `source` is how the file of gold rows was read, if it was one. `shown` rows are examples of the task too.
    """

    signature: str
    signature_hash: str
    kinds: dict[str, FieldKind]
    rows: tuple[ReportRow, ...] = field(repr=False)
    metrics: tuple[str, ...] = ()
    without_gold: int = 0
    broken: dict[str, int] = field(default_factory=dict[str, int])
    errors: dict[str, str] = field(default_factory=dict[str, str])
    judged: dict[str, Judged] = field(default_factory=dict[str, Judged])
    clustered: bool = False
    seed: int = 0
    source: str = field(default="", repr=False)
    shown: int = field(default=0, repr=False)

    @property
    def names(self) -> list[str]:
        """The names of all measurements: the output fields that have gold, then the user's metrics."""
        return [*self.kinds, *self.metrics]

    @property
    def failures(self) -> dict[str, int]:
        """How many rows failed, by the code of the error, the most frequent first."""
        return dict(Counter(row.error[0] for row in self.rows if row.error is not None).most_common())

    def score(self, name: str, rows: Sequence[ReportRow] | None = None) -> Score:
        """Return the figure of a field or metric, over all rows or over some of them.

        Raises:
            ConfigurationError: it was not measured.
        """
        rows = self.rows if rows is None else rows
        self._check(name)
        counted = [row for row in rows if name in row.scores or row.error is not None]
        values = [row.scores.get(name, 0.0) for row in counted]
        failed = sum(row.error is not None for row in counted)
        clusters = self._clusters(counted)
        binary = all(row.scores.get(name, 0.0) in (0.0, 1.0) for row in self.rows)  # a slice is shown as the whole
        if binary:
            interval = share_interval([value == 1 for value in values], clusters)
        else:
            interval = mean_interval(values, self.seed, clusters, self._possible(name))
        right = sum(value == 1 for value in values)
        best = (sum(values) + failed) / len(values) if values else interval.value
        wrong = len(values) - right - failed
        return Score(interval, len(values), failed, best, right if binary else None, wrong if binary else None)

    def other_measures(self) -> dict[str, Interval]:
        """Return what else is measured for answered rows, such as the absolute error of a number."""
        names = dict.fromkeys(name for row in self.rows for name in row.scores if name not in self.names)
        return {name: self._interval(name, [row for row in self.rows if name in row.scores]) for name in names}

    def _interval(self, name: str, rows: Sequence[ReportRow]) -> Interval:
        """Return the mean of a figure of rows; one from 0 to 1 that is always 0 or 1 is a share."""
        values, clusters, possible = [row.scores[name] for row in rows], self._clusters(rows), self._possible(name)
        if possible == (0.0, 1.0) and all(value in possible for value in values):
            return share_interval([value == 1 for value in values], clusters)
        return mean_interval(values, self.seed, clusters, possible)

    def nearly_equal(self, name: str) -> bool:
        """Return whether nearly all rows have the same figure, which has no limit that bounds its interval."""
        values = [row.scores[name] for row in self.rows if name in row.scores]
        unlimited = math.inf in self._possible(name) and not (name in self.metrics and set(values) <= {0.0, 1.0})
        return unlimited and len(values) > 1 and usual_value(values) is not None

    def slices(self, name: str) -> dict[str, dict[str, Score]]:
        """Return the figure of a field or metric for each value of each column in `slices`."""
        columns = dict.fromkeys(column for row in self.rows for column in row.slices)
        found = dict[str, dict[str, Score]]()
        for column in columns:
            values = sorted({row.slices[column] for row in self.rows})
            found[column] = {
                value: self.score(name, [row for row in self.rows if row.slices[column] == value]) for value in values
            }
        return found

    def pairs(self, name: str) -> list[Pair]:
        """Return gold and answer of each row as sets of labels.

        Raises:
            ConfigurationError: it is not a field that was measured.
        """
        if name not in self.kinds:
            there = f"The fields are {', '.join(self.kinds)}"
            raise ConfigurationError(f"{name!r} is not a field that was measured.{nearest(name, self.kinds)} {there}.")
        return [
            (labels_in(row.gold[name]), None if row.answer is None else labels_in(row.answer[name]))
            for row in self.rows
        ]

    def labels(self, name: str) -> dict[str, LabelScore]:
        """Return precision, recall and F1 of each label of a field."""
        return label_scores(self.pairs(name), self._clusters(self.rows))

    def confusion(self, name: str) -> Counter[tuple[str, str | None]]:
        """Return how many rows with a label were given which label; None: they failed."""
        return confusion(self.pairs(name))

    def flips(self, name: str) -> Interval | None:
        """Return the share of rows whose answers to a field, or scores of a metric, differ.

        None: each row was asked once.
        """
        self._check(name)
        asked = [row for row in self.rows if row.samples]
        if not asked:
            return None
        return share_interval([_flips(name, self.kinds.get(name), row) for row in asked], self._clusters(asked))

    def by_sample(self, name: str) -> list[float]:
        """Return the figure of a field or metric in each round of answers; a failed row counts as 0."""
        self._check(name)
        rounds = [[row.scores for row in self.rows]]
        more = min((len(row.samples) for row in self.rows), default=0)
        rounds += [[row.samples[number].scores for row in self.rows] for number in range(more)]
        return [sum(scores.get(name, 0.0) for scores in one) / len(one) for one in rounds if one]

    def worst(self, name: str, limit: int = _WORST) -> list[ReportRow]:
        """Return the rows with the lowest scores that are not right, answered ones first."""
        self._check(name)
        wrong = [row for row in self.rows if row.scores.get(name, 0.0) < 1]
        return sorted(wrong, key=lambda row: (row.error is not None, row.scores.get(name, 0.0)))[:limit]

    def _clusters(self, rows: Sequence[ReportRow]) -> list[str | None] | None:
        return [row.cluster for row in rows] if self.clustered else None

    def _possible(self, name: str) -> tuple[float, float]:
        """Return the least and the most that a score can be; a user's metric can be any number."""
        if name in self.metrics:
            return -math.inf, math.inf
        return 0.0, math.inf if name.endswith(ABSOLUTE_ERROR) else 1.0

    def _check(self, name: str) -> None:
        if name not in self.names and not any(name in row.scores for row in self.rows):
            there = f"Measured: {', '.join(self.names)}"
            raise ConfigurationError(f"{name!r} was not measured.{nearest(name, self.names)} {there}.")

    @property
    def cost(self) -> float | None:
        """The cost of the answers in US dollars, including cached ones; None: a price is not known."""
        costs = [row.cost for row in self.rows if row.cost is not None]
        return sum(costs) if len(costs) == len(self.rows) else None

    @property
    def tokens(self) -> int:
        """The tokens of the answers, including cached ones."""
        return sum(row.tokens for row in self.rows)

    @property
    def asked(self) -> int:
        """The number of rows that were asked now."""
        return sum(row.attempts > 0 for row in self.rows)


def _flips(name: str, kind: FieldKind | None, row: ReportRow) -> bool:
    """Return whether a row got different answers; a failure counts as one of them."""
    if kind is None:
        return any(one.scores.get(name) != row.scores.get(name) for one in row.samples)
    answers = [None if answer is None else (answer[name],) for answer in (row.answer, *(o.answer for o in row.samples))]
    if kind in LABEL_KINDS:
        return len({None if answer is None else labels_in(answer[0]) for answer in answers}) > 1
    return any(answer != answers[0] for answer in answers)
