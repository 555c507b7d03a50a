"""compare: two reports of the same rows → which task is better, and how sure that is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import cast

from llmtasker.errors import ConfigurationError
from llmtasker.evaluation.comparison import Comparison
from llmtasker.evaluation.evaluation_report import Report
from llmtasker.evaluation.figures import ReportRow
from llmtasker.evaluation.intervals import Interval, mean_interval
from llmtasker.evaluation.metrics import LABEL_KINDS, labels_in
from llmtasker.evaluation.paired_tests import (
    clustered_share_difference,
    detectable,
    detectable_by,
    holm,
    mcnemar,
    share_difference,
    sign_flips,
)

Pairs = Sequence[tuple[ReportRow, ReportRow]]


def compare(a: Report, b: Report, metric: str | None = None, *, seed: int = 0, exact: bool = False) -> Comparison:
    """Return how B differs from A on the rows that both have, paired by the content of the inputs.

    Args:
        metric: the field or metric to compare; None: the first that both have.
        seed: the seed of the resampling, for scores that are not right or wrong.
        exact: use the exact form of McNemar's test, which finds fewer differences than the mid-p form.

    If a report was made with `cluster`, the rows of a cluster count together here too.

    Raises:
        ConfigurationError: an argument is not a report; or the reports share no rows or no metric, or measured a
            field in different ways, or their rows have different right answers.
    """
    for which, report in (("A", a), ("B", b)):
        _check_report(which, report)
    name = _common_name(a, b, metric)
    shared, only_a, only_b = _paired(a, b)
    _check_gold(name, shared)
    pairs = [pair for pair in shared if _scored(name, pair)]
    if not pairs:
        raise ConfigurationError(f"none of the rows that the reports share has a score of {name} in both.")
    scores = [(one.scores.get(name, 0.0), two.scores.get(name, 0.0)) for one, two in pairs]
    binary = all(value in (0.0, 1.0) for both in scores for value in both)
    gained = [pair for pair, (one, two) in zip(pairs, scores, strict=True) if binary and two > one]
    lost = [pair for pair, (one, two) in zip(pairs, scores, strict=True) if binary and two < one]
    clusters = _clusters(a, b, pairs)
    changes = [two - one for one, two in scores]
    most = 1.0 if name in a.kinds else math.inf
    difference, p, least = _difference(changes, clusters, seed, binary=binary, exact=exact, most=most)
    by_label = binary and a.kinds.get(name) in LABEL_KINDS
    return Comparison(
        name=name,
        rows=len(pairs),
        difference=difference,
        p=p,
        gained=tuple(gained),
        lost=tuple(lost),
        only_a=tuple(only_a),
        only_b=tuple(only_b),
        unscored=tuple(pair for pair in shared if not _scored(name, pair)),
        detectable=least,
        labels=_by_label(name, pairs, clusters, seed, exact=exact) if by_label else {},
        cost_ratio=_ratio([(one.cost, two.cost) for one, two in pairs]),
        token_ratio=_ratio([(one.tokens, two.tokens) for one, two in pairs]),
        latency_ratio=_ratio([(one.latency, two.latency) for one, two in pairs]),
        binary=binary,
        clusters=None if clusters is None else len(set(clusters)),
    )


def _difference(
    changes: Sequence[float],
    clusters: Sequence[Hashable] | None,
    seed: int,
    *,
    binary: bool,
    exact: bool,
    most: float,
) -> tuple[Interval, float, float]:
    """Return the mean of the changes of rows (at most `most`), its p, and the difference that as many rows show."""
    if binary and clusters is None:
        rows, gained, lost = len(changes), changes.count(1), changes.count(-1)
        return share_difference(gained, lost, rows), mcnemar(gained, lost, exact=exact), detectable(gained + lost, rows)
    if binary and clusters is not None:
        difference = clustered_share_difference(changes, clusters)
    else:
        difference = mean_interval(changes, seed, clusters, within=(-most, most))
    return difference, sign_flips(changes, seed, clusters), detectable_by(difference)


def assert_no_regression(before: Report, after: Report, metric: str | None = None, *, by: float = 0.0) -> None:
    """Fail a test if a task is shown to be worse than before by more than `by` (0.01: one point).

    Raises:
        AssertionError: the task is shown to be worse.
        ConfigurationError: `by` is not a number from 0 on, or is a whole difference of shares, which nothing exceeds.
    """
    found = compare(before, after, metric)
    if not (isinstance(cast("object", by), int | float) and 0 <= by < (1 if found.binary else math.inf)):
        raise ConfigurationError(f"by is a difference from 0 on, such as 0.01 for one point, not {by!r}.")
    if found.worse and -found.difference.value > by:
        raise AssertionError(str(found))


def _check_report(which: str, report: object) -> None:
    if not isinstance(report, Report):
        given = "None" if report is None else f"of type {type(report).__name__}"
        raise ConfigurationError(
            f"{which} is {given}, not a report: give what `evaluate` returned, "
            "or `Report.load(path)` of a file that `save` wrote."
        )


def _common_name(a: Report, b: Report, name: str | None) -> str:
    """Return the metric to compare: the requested one, or the first that both have, measured in the same way."""
    name = name or next((one for one in a.names if one in b.names), None)
    if name is None or name not in a.names or name not in b.names:
        wanted = "they share nothing to compare" if name is None else f"{name!r} is not in both"
        raise ConfigurationError(f"A measured {', '.join(a.names)}, B {', '.join(b.names)}: {wanted}.")
    if a.kinds.get(name) != b.kinds.get(name):
        kinds = [report.kinds.get(name, "your own metric") for report in (a, b)]
        raise ConfigurationError(f"{name} is {kinds[0]} in A and {kinds[1]} in B: measured in different ways.")
    return name


def _check_gold(name: str, shared: Pairs) -> None:
    """Check that the reports share rows, and agree on what is right for them."""
    if not shared:
        raise ConfigurationError("the reports have no row in common: the inputs differ.")
    if other := next((one for one, two in shared if one.gold.get(name) != two.gold.get(name)), None):
        raise ConfigurationError(
            f"the reports have different right answers for the same input ({other.key[:8]}…): use the same gold rows."
        )


def _paired(a: Report, b: Report) -> tuple[Pairs, list[ReportRow], list[ReportRow]]:
    """Return the rows of both reports with the same input, repeats in order, and the rows without a partner."""
    numbered = [dict[tuple[str, int], ReportRow](), dict[tuple[str, int], ReportRow]()]
    for report, found in zip((a, b), numbered, strict=True):
        seen = Counter[str]()
        for row in report.rows:
            found[row.key, seen[row.key]] = row
            seen[row.key] += 1
    mine, other = numbered
    pairs = [(row, other[key]) for key, row in mine.items() if key in other]
    only_a = [row for key, row in mine.items() if key not in other]
    return pairs, only_a, [row for key, row in other.items() if key not in mine]


def _scored(name: str, pair: tuple[ReportRow, ReportRow]) -> bool:
    """Return whether both rows have a score; a failed row counts as 0."""
    return all(name in row.scores or row.error is not None for row in pair)


def _clusters(a: Report, b: Report, pairs: Pairs) -> list[Hashable] | None:
    """Return the cluster of each pair, or None if neither report has clusters."""
    if a.clustered:
        return [one.cluster for one, _ in pairs]
    return [two.cluster for _, two in pairs] if b.clustered else None


def _by_label(
    name: str, pairs: Pairs, clusters: Sequence[Hashable] | None, seed: int, *, exact: bool
) -> dict[str, tuple[float, float]]:
    """Return, for each label, the difference of its rows that are right, and p after Holm's correction."""
    changes, groups = dict[str, list[float]](), dict[str, list[Hashable]]()
    for at, (one, two) in enumerate(pairs):
        for label in labels_in(one.gold[name]):
            changes.setdefault(label, []).append(two.scores.get(name, 0.0) - one.scores.get(name, 0.0))
            groups.setdefault(label, []).append(None if clusters is None else clusters[at])
    by_chance = {
        label: mcnemar(found.count(1), found.count(-1), exact=exact)
        if clusters is None
        else sign_flips(found, seed, groups[label])
        for label, found in changes.items()
    }
    corrected = holm(by_chance)
    return {label: (sum(found) / len(found), corrected[label]) for label, found in changes.items()}


def _ratio(values: Sequence[tuple[float | None, float | None]]) -> float | None:
    known = [(one, two) for one, two in values if one is not None and two is not None]
    before, after = sum(one for one, _ in known), sum(two for _, two in known)
    return after / before if before and after else None
