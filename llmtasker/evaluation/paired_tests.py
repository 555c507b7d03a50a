"""Tests of two sets of answers to the same rows."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from random import Random
from statistics import NormalDist

from llmtasker.evaluation.intervals import Interval, Z, grouped, independent_rows

_HALVINGS = 60  # of the stretch in which an end of an interval lies: as precise as a number can be
_POWER = NormalDist().inv_cdf(0.8)
_FLIPS = 4_000
_FEW = 8  # with fewer changed rows, no test shows anything
_MANY = 2_000  # from this many differences on, the normal approximation is as good as flipping signs


def mcnemar(gained: int, lost: int, *, exact: bool = False) -> float:
    """Return McNemar's p: how often chance alone changes rows this unevenly, or more so (two-sided).

    This is the mid-p form (Fagerland, Lydersen, Laake 2013), which keeps 5 % and finds more than the exact form.

    >>> round(mcnemar(121, 90, exact=True), 3), round(mcnemar(121, 90), 3)
    (0.039, 0.033)
    """
    count, few = gained + lost, min(gained, lost)
    if not count:
        return 1.0
    at = [_binomial(count, number) for number in range(few + 1)]
    if exact:
        return min(1.0, 2 * math.fsum(at))
    return 1.0 - at[few] if gained == lost else min(1.0, 2 * math.fsum(at) - at[few])


def _binomial(count: int, number: int) -> float:
    """Return the probability of this many heads among this many coins."""
    chosen = math.lgamma(count + 1) - math.lgamma(number + 1) - math.lgamma(count - number + 1)
    return math.exp(chosen - count * math.log(2))


def share_difference(gained: float, lost: float, count: float) -> Interval:
    """Return the difference of two shares of the same rows, with Tango's score interval for paired shares.

    T. Tango, Equivalence test and confidence interval for the difference in proportions for the paired-sample design,
    Statistics in Medicine 17 (1998), 891-908. It contains the differences that a score test does not reject, as
    Wilson's does for one share; where few rows change, Wald's and Agresti and Min's contain the true one too rarely.

    >>> [round(100 * part, 1) for part in share_difference(121, 90, 1000)]
    [3.1, 0.3, 6.0]
    >>> [round(100 * part, 1) for part in share_difference(2, 0, 10)]
    [20.0, -13.3, 51.0]
    """
    if not count:
        return Interval(math.nan, -1.0, 1.0)
    low, high = (_score_end(gained, lost, count, outermost) for outermost in (-1.0, 1.0))
    return Interval((gained - lost) / count, low, high)


def _score_end(gained: float, lost: float, count: float, outermost: float) -> float:
    """Return the difference, between the measured one and the outermost, that the score test just does not reject."""
    inside, outside = (gained - lost) / count, outermost
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        # The likeliest share of lost rows if the difference were `middle`: the larger root of a x² + b x + c.
        a, b, c = 2 * count, (2 * count - gained + lost) * middle - gained - lost, -lost * middle * (1 - middle)
        likeliest = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        variance = max(count * (2 * likeliest + middle * (1 - middle)), 0.0)
        if abs(gained - lost - count * middle) <= Z * math.sqrt(variance):
            inside = middle
        else:
            outside = middle
    return inside


def clustered_share_difference(changes: Sequence[float], clusters: Sequence[Hashable]) -> Interval:
    """Return the difference of two shares, from 1 for each row gained and -1 for each lost, that are in clusters.

    It is Tango's interval for the independent rows that they are worth.
    """
    count = len(changes)
    gained, lost, part = changes.count(1), changes.count(-1), independent_rows(changes, clusters) / count
    if math.isnan(part):
        return Interval((gained - lost) / count, math.nan, math.nan)
    return share_difference(part * gained, part * lost, part * count)._replace(value=(gained - lost) / count)


def sign_flips(changes: Sequence[float], seed: int, clusters: Sequence[Hashable] | None = None) -> float:
    """Return p of changes row by row: how often random signs give as large a sum.

    With `clusters`, one for each change, the rows of a cluster change sign together. For few changes, all signs are
    tried.

    >>> sign_flips([0.5, 0.25, 0.5, 0.0, 0.25, 0.5, 0.5, 0.25], seed=0)
    0.015625
    """
    parts = [change for part in grouped(changes, clusters) if (change := math.fsum(part))]
    total = abs(math.fsum(parts))
    if not total:
        return 1.0
    if len(parts) >= _MANY:
        return 2 * (1 - NormalDist().cdf(total / math.sqrt(math.fsum(part * part for part in parts))))
    signs: Iterable[int]
    if all_signs := 1 << len(parts) <= _FLIPS:
        signs = range(1 << len(parts))
    else:
        random = Random(seed)  # noqa: S311 - resampling, not secrets
        signs = [random.getrandbits(len(parts)) for _ in range(_FLIPS)]
    as_much = sum(
        abs(sum(value if sign >> at & 1 else -value for at, value in enumerate(parts))) >= total - 1e-12
        for sign in signs
    )
    return as_much / (1 << len(parts)) if all_signs else (as_much + 1) / (_FLIPS + 1)


def standard_error(interval: Interval) -> float:
    """Return the standard error of a 95 % interval."""
    return (interval.high - interval.low) / (2 * Z)


def detectable_by(interval: Interval) -> float:
    """Return the difference that is shown in 4 of 5 comparisons with an interval as wide as this one; may be NaN."""
    return (Z + _POWER) * standard_error(interval)


def detectable(changed: int, count: int) -> float:
    """Return the difference of shares that this many rows show in 4 of 5 comparisons, if as many rows change as
    here."""
    return min(1.0, (Z + _POWER) * math.sqrt(max(changed, _FEW)) / count) if count else 1.0


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """Return p values corrected for several comparisons (Holm 1979).

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    corrected, least = dict[str, float](), 0.0
    for rank, name in enumerate(sorted(values, key=values.__getitem__)):
        least = max(least, min(1.0, values[name] * (len(values) - rank)))
        corrected[name] = least
    return {name: corrected[name] for name in values}
