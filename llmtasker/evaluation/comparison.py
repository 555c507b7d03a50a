"""Comparison: how task B differs from task A on the same rows, as figures and in a sentence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from llmtasker.evaluation.figures import ReportRow
from llmtasker.evaluation.intervals import Interval
from llmtasker.values.language import Code, Locale, locale_of

_SURE = 0.05
_FEWEST = 6  # clusters or rows whose random signs can all fall alike in fewer than 5 of 100 cases
_ALIKE = (0.95, 1.05)  # cost ratios that are not worth reporting


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of `compare`; `print(comparison)` shows it in a sentence.

    `difference` is B minus A, with its 95 % interval; `p` is how often chance alone gives as much.
    `gained` and `lost` are the rows that only B, or only A, has right, as pairs (A's row, B's row); both are empty for
    scores that are not right or wrong. `only_a` and `only_b` are rows that the other report does not have;
    `unscored` are pairs for which the metric gave no score on one side, although that side was answered.
    `detectable` is the difference that this many rows show in 4 of 5 comparisons. For a label field, `labels` has the
    difference for each label, with p after Holm's correction. `clusters` is their number, None: rows are independent.
    """

    name: str
    rows: int
    difference: Interval
    p: float
    gained: tuple[tuple[ReportRow, ReportRow], ...]
    lost: tuple[tuple[ReportRow, ReportRow], ...]
    only_a: tuple[ReportRow, ...]
    only_b: tuple[ReportRow, ...]
    unscored: tuple[tuple[ReportRow, ReportRow], ...]
    detectable: float
    labels: dict[str, tuple[float, float]]
    cost_ratio: float | None
    token_ratio: float | None
    latency_ratio: float | None
    binary: bool
    clusters: int | None = None

    @property
    def shown(self) -> bool:
        """Whether the difference is shown: p is below 0.05, and the interval does not contain 0."""
        return self.p < _SURE and self.excludes_zero

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval excludes 0."""
        return self.difference.low > 0 or self.difference.high < 0

    @property
    def better(self) -> bool:
        """Whether B is shown to be better."""
        return self.shown and self.difference.value > 0

    @property
    def worse(self) -> bool:
        """Whether B is shown to be worse."""
        return self.shown and self.difference.value < 0

    def __str__(self) -> str:
        return self.text()

    def text(self, language: Code = "en") -> str:
        """Return the comparison in a sentence, as `print` shows it; `language` is "en" or "fr"."""
        return " ".join(_sentences(self, locale_of(language)))


def _sentences(found: Comparison, words: Locale) -> Iterator[str]:
    yield _verdict(found, words)
    yield from _doubts(found, words)
    if found.cost_ratio is not None and not _ALIKE[0] < found.cost_ratio < _ALIKE[1]:
        yield words.text("It costs {times} times as much.", times=words.number(found.cost_ratio, 1))
    if found.only_a or found.only_b:
        yield words.text(
            "Left out: {a} {a:row|rows} that only A has, {b} that only B has.",
            a=words.count(len(found.only_a)),
            b=words.count(len(found.only_b)),
        )
    if found.unscored:
        yield words.text(
            "Left out: {rows} {rows:row|rows} for which {name} gave no score.",
            rows=words.count(len(found.unscored)),
            name=found.name,
        )


def _verdict(found: Comparison, words: Locale) -> str:
    scale, digits = (100, 1) if found.binary else (1, 3)
    value, *ends = (scale * part for part in found.difference)
    if found.shown:
        value, ends = abs(value), sorted(map(abs, ends))
    number = words.count(value, digits, sign=not found.shown)
    amount = words.text("{number} {number:point|points}", number=number) if found.binary else number
    if math.isfinite(ends[0]):
        low, high = (words.number(end, digits, sign=not found.shown) for end in ends)
        between = words.text("{low} to {high}", low=low, high=high)
    else:
        between = words.text("no interval from one row or cluster")
    if not found.shown:
        verdict = words.text("no difference is shown: {amount} ({ends})", amount=amount, ends=between)
    elif found.better:
        verdict = words.text("B is better by {amount} ({ends})", amount=amount, ends=between)
    else:
        verdict = words.text("B is worse by {amount} ({ends})", amount=amount, ends=between)
    if not found.binary:
        return words.text("{verdict}: p {p}.", verdict=verdict, p=_p(words, found.p))
    return words.text(
        "{verdict}: {gained} {gained:row|rows} gained, {lost} lost, p {p}.",
        verdict=verdict,
        gained=words.count(len(found.gained)),
        lost=words.count(len(found.lost)),
        p=_p(words, found.p),
    )


def _doubts(found: Comparison, words: Locale) -> Iterator[str]:
    """Yield why a difference that may be there is not shown."""
    if found.excludes_zero != (found.p < _SURE):
        yield words.text(
            "The interval and p are two calculations, and only one of them rules out chance here; a difference is "
            "shown only if both do."
        )
    if found.shown:
        return
    units = found.rows if found.clusters is None else found.clusters
    if units < _FEWEST and (found.clusters is not None or not found.binary):
        count, least = words.count(units), words.number(_FEWEST)
        yield (
            words.text(
                "From {count} {count:row|rows}, no difference can be shown, however large it is; at least {least} are "
                "needed.",
                count=count,
                least=least,
            )
            if found.clusters is None
            else words.text(
                "From {count} {count:cluster|clusters}, no difference can be shown, however large it is; at least "
                "{least} are needed.",
                count=count,
                least=least,
            )
        )
    elif found.binary and math.isfinite(found.detectable):
        yield words.text(
            "With this many rows, only a difference of {points} {points:point|points} or more would show.",
            points=words.count(100 * found.detectable, 1),
        )


def _p(words: Locale, value: float) -> str:
    if value < 0.001:
        return f"< {words.number(0.001, 3)}"
    fine = value < 0.01 or round(value, 2) == _SURE  # else 0.054 would look like the limit
    return f"= {words.number(value, 3 if fine else 2)}"
