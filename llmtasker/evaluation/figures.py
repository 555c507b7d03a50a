"""Figures: the measurements of a task on gold rows, row by row, and the figures that follow from them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from llmtasker.errors import ConfigurationError, counted, nearest
from llmtasker.evaluation.intervals import Interval, mean_interval, share_interval
from llmtasker.evaluation.label_scores import LabelScore, Pair, confusion, label_scores, macro_f1, micro_f1
from llmtasker.evaluation.metrics import ABSOLUTE_ERROR, LABEL_KINDS, FieldKind, labels_in
from llmtasker.item import Item, sum_of

_WORST = 20
_NO_ENDS = "no interval from one row or cluster"
_FEW_CLUSTERS = 10
_SLICES = 30
"""The most values of a column to print; a report file shows all."""


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

    @property
    def figure(self) -> str:
        """The figure as a text: a share in percent, another number as it is."""
        if not self.rows:
            return "–"
        return f"{self.interval.value:.3f}" if self.right is None else percent(self.interval.value)

    @property
    def ends(self) -> str:
        """The ends of the interval as a text."""
        return span(self.interval) if self.right is not None else ends(self.interval)


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

    def further(self) -> dict[str, Interval]:
        """Return what else is measured for answered rows, such as the absolute error of a number."""
        names = dict.fromkeys(name for row in self.rows for name in row.scores if name not in self.names)
        found = {name: [row for row in self.rows if name in row.scores] for name in names}
        return {
            name: mean_interval(
                [row.scores[name] for row in rows], self.seed, self._clusters(rows), self._possible(name)
            )
            for name, rows in found.items()
        }

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

    def __str__(self) -> str:
        by = [_slice_lines(name, column, found) for name in self.names for column, found in self.slices(name).items()]
        return "\n".join([*self.summary(), *chain.from_iterable(by)])

    def summary(self) -> list[str]:
        """Return the figures over all rows, in sentences."""
        lines = [_line(name, self.score(name)) for name in self.names]
        for name, kind in self.kinds.items():
            if kind in LABEL_KINDS and len(scores := self.labels(name)) > 2:
                lines.append(f"{name}: macro F1 {macro_f1(scores):.3f}, micro F1 {micro_f1(scores):.3f}")
        for name, interval in self.further().items():
            lines.append(f"{name} {interval.value:.3f} ({ends(interval)})")
        lines += [_flip_line(name, found, self.by_sample(name)) for name in self.names if (found := self.flips(name))]
        if self.failures:
            lines.append(f"failed: {', '.join(f'{count:,} {code}' for code, count in self.failures.items())}")
        lines += [self._broken_line(name, count) for name, count in self.broken.items()]
        lines += [f"{name}: {_judge_line(judged)}" for name, judged in self.judged.items()]
        spent = [f"{counted(self.asked, 'row')} asked now", f"{sum(row.cached for row in self.rows):,} from the cache"]
        if self.tokens:
            spent.append(counted(self.tokens, "token"))
        if self.cost:
            spent.append(f"${self.cost:,.4f}")
        lines.append(", ".join(spent))
        if self.clustered and (count := len({row.cluster for row in self.rows})) < _FEW_CLUSTERS:
            lines.append(
                f"{counted(count, 'cluster')} only: intervals are wide, because so few say little about others, "
                "however many rows they have"
            )
        if self.source:
            lines.append(f"gold rows from {self.source}")
        if self.shown:
            lines.append(
                f"{counted(self.shown, 'row')} {'is' if self.shown == 1 else 'are'} shown as examples, with the right "
                "answers: the figures are too good; measure on other rows"
            )
        if self.without_gold:
            lines.append(f"{counted(self.without_gold, 'row')} without gold left out")
        return lines

    def _broken_line(self, name: str, count: int) -> str:
        why = f"; the first time: {self.errors[name]}" if name in self.errors else ""
        return f"{name} could not be computed for {counted(count, 'row')}{why}"


def _slice_lines(name: str, column: str, found: Mapping[str, Score]) -> list[str]:
    shown = [f"{column} {value or '(empty)'}, {_line(name, score)}" for value, score in list(found.items())[:_SLICES]]
    return [*shown, f"{column}: {counted(len(found) - _SLICES, 'more value')}"] if len(found) > _SLICES else shown


def _line(name: str, score: Score) -> str:
    if not score.rows:
        return f"{name}: no row has a score"
    what, failed = "" if score.right is None else "accuracy ", score.failed
    text = f"{name}: {what}{score.figure} ({score.ends}) of {counted(score.rows, 'row')}"
    if score.right is None:
        return f"{text}, {failed:,} failed and count as 0" if failed else text
    text = f"{text}: {score.right:,} right, {score.wrong:,} wrong, {failed:,} failed"
    return f"{text}; {percent(score.at_best)} if all failed rows were right" if failed else text


def _flips(name: str, kind: FieldKind | None, row: ReportRow) -> bool:
    """Return whether a row got different answers; a failure counts as one of them."""
    if kind is None:
        return any(one.scores.get(name) != row.scores.get(name) for one in row.samples)
    answers = [None if answer is None else (answer[name],) for answer in (row.answer, *(o.answer for o in row.samples))]
    if kind in LABEL_KINDS:
        return len({None if answer is None else labels_in(answer[0]) for answer in answers}) > 1
    return any(answer != answers[0] for answer in answers)


def _flip_line(name: str, flips: Interval, rounds: Sequence[float]) -> str:
    return (
        f"{name}: {percent(flips.value)} ({span(flips)}) of rows get different answers when asked {len(rounds)} "
        f"times; the figure ranges from {min(rounds):.3f} to {max(rounds):.3f}"
    )


def _judge_line(judged: Judged) -> str:
    cost = f", ${judged.cost:,.4f}" if judged.cost else ""
    return f"judged in {counted(judged.calls, 'call')}, {counted(judged.tokens, 'token')}{cost}"


def span(interval: Interval) -> str:
    """Return the ends of an interval of shares, in percent."""
    return _NO_ENDS if math.isnan(interval.low) else f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"


def ends(interval: Interval) -> str:
    """Return the ends of an interval of numbers, as they are."""
    return _NO_ENDS if math.isnan(interval.low) else f"{interval.low:.3f} to {interval.high:.3f}"


def percent(share: float) -> str:
    """Return a share in percent."""
    return f"{100 * share:.1f} %"
