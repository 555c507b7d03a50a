"""Intervals of shares and means, using only the standard library."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from functools import lru_cache
from random import Random
from statistics import NormalDist, fmean
from typing import NamedTuple

Z = NormalDist().inv_cdf(0.975)
"""The quantile of the normal distribution for 95 %."""

_RESAMPLES = 1_000
_FEW = 5  # values that differ from all others: from as many on, a bootstrap knows how much they vary
_MANY = 2_000  # from this many values on, the normal approximation is as good as resampling, and much faster


class Interval(NamedTuple):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(hits: float, count: float) -> Interval:
    """Return a share with Wilson's score interval (Wilson 1927), which is right also near 0 and 1.

    >>> [round(part, 3) for part in wilson(843, 1000)]
    [0.843, 0.819, 0.864]
    """
    if not count:
        return Interval(math.nan, 0.0, 1.0)
    share = hits / count
    spread = Z * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    middle, scale = share + Z * Z / (2 * count), 1 + Z * Z / count
    low, high = (middle - spread) / scale, (middle + spread) / scale
    return Interval(share, low if hits else 0.0, high if hits < count else 1.0)


@lru_cache(maxsize=1_000)
def student(freedom: int) -> float:
    """Return the quantile of Student's t distribution for 95 %, which replaces `Z` if a spread is known from few parts.

    >>> [round(student(freedom), 3) for freedom in (1, 2, 9, 100)]
    [12.706, 4.303, 2.262, 1.984]
    """
    if freedom >= _MANY:
        return Z
    low, high = 0.0, math.pi / 2  # angles: t is the tangent, times the root of `freedom`
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < 0.95 else (low, middle)
    return math.tan(high) * math.sqrt(freedom)


def _within(angle: float, freedom: int) -> float:
    """Return the share of Student's distribution within an angle to both sides (Abramowitz, Stegun 26.7.3)."""
    cosine, odd = math.cos(angle), freedom % 2
    term = math.sin(angle) * (cosine if odd else 1.0)
    total = term if freedom > 1 else 0.0
    for number in range(1 + odd, freedom - 2, 2):
        term *= cosine * cosine * number / (number + 1)
        total += term
    return (angle + total) * 2 / math.pi if odd else total


def mean_interval(
    values: Sequence[float],
    seed: int,
    clusters: Sequence[Hashable] | None = None,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """Return a mean with its interval: that of Student's t and that of a seeded bootstrap together.

    Student's t allows for few rows, of which a bootstrap knows too little; the bootstrap allows for uneven values. With
    `clusters`, one for each value, whole clusters are drawn: rows of one customer are not independent. `within` is
    where a value can be. Nearly equal values do not show how much rare others would change the mean: within finite
    limits, the interval allows for as many at a limit as Wilson's interval does.

    >>> [round(part, 2) for part in mean_interval([0.0, 0.5, 1.0, 1.0], seed=0, within=(0.0, 1.0))]
    [0.62, 0.0, 1.0]
    """
    if not values:
        return Interval(math.nan, math.nan, math.nan)
    mean = fmean(values)
    groups = [(sum(part), len(part)) for part in grouped(values, clusters)]
    if len(groups) < 2:
        return Interval(mean, math.nan, math.nan)
    spread = student(len(groups) - 1) * math.sqrt(_variance(groups))
    low, high = _bootstrap(groups, seed) if len(groups) < _MANY else (mean, mean)
    low, high = min(mean - spread, low), max(mean + spread, high)
    if (usual := usual_value([total / size for total, size in groups])) is not None:
        others = sum(total / size != usual for total, size in groups)
        unseen = wilson(others, len(groups)).high - others / len(groups)
        least, most = (unseen * (end - usual) if math.isfinite(end) else 0.0 for end in within)
        low, high = min(low, mean + least), max(high, mean + most)
    return Interval(mean, max(low, within[0]), min(high, within[1]))


def usual_value(values: Sequence[float]) -> float | None:
    """Return the value that nearly all have; None: they differ.

    >>> usual_value([0.5, 0.5, 1.0]), usual_value([0.5, 0.6])
    (0.5, None)
    """
    if not values:
        return None
    (usual, count), *_ = Counter(values).most_common(1)
    return usual if len(values) - count < min(_FEW, count) else None


def _bootstrap(groups: Sequence[tuple[float, int]], seed: int) -> tuple[float, float]:
    """Return the ends of a percentile bootstrap, with the quantiles that few groups need (Hesterberg 2015)."""
    count = len(groups)
    outside = NormalDist().cdf(-math.sqrt(count / (count - 1)) * student(count - 1))
    random, means = Random(seed), list[float]()  # noqa: S311 - resampling, not secrets
    for _ in range(_RESAMPLES):
        drawn = random.choices(groups, k=count)
        means.append(sum(total for total, _ in drawn) / sum(size for _, size in drawn))
    means.sort()
    left_out = int(outside * _RESAMPLES)
    return means[left_out], means[-1 - left_out]


def _variance(groups: Sequence[tuple[float, int]]) -> float:
    """Return the variance of the mean of all rows, from the means without one group each (the jackknife).

    Unlike the deviations of the groups from the mean, these are right even if one group is much larger than the rest.
    """
    count, total, size = len(groups), math.fsum(part for part, _ in groups), sum(number for _, number in groups)
    mean = total / size
    without = math.fsum(((total - part) / (size - number) - mean) ** 2 for part, number in groups)
    return without * (count - 1) / count


def share_interval(hits: Sequence[bool], clusters: Sequence[Hashable] | None = None) -> Interval:
    """Return a share with Wilson's interval; clustered rows count as their effective number of independent rows.

    The bootstrap interval of few clusters that are nearly all right contains the true share in only 3 of 10 cases.

    >>> [round(part, 3) for part in share_interval([True] * 20, [0] * 10 + [1] * 10)]
    [1.0, 0.012, 1.0]
    """
    found = wilson(sum(hits), len(hits))
    worth = independent_rows([float(hit) for hit in hits], clusters)
    if worth == len(hits):
        return found
    if math.isnan(worth):
        return Interval(found.value, math.nan, math.nan)
    return wilson(found.value * worth, worth)._replace(value=found.value)


def independent_rows(values: Sequence[float], clusters: Sequence[Hashable] | None) -> float:
    """Return how many independent rows clustered ones are worth for an interval; one cluster: NaN.

    This is the smaller one of two estimates, because each misses what the other sees: by the jackknife, which a few
    large clusters dominate, and by the correlation inside clusters (Kish 1965). The fewer clusters there are, the less
    is known about either, so the rows are worth less still (Korn, Graubard 1998).
    """
    parts = grouped(values, clusters)
    count, rows = len(parts), len(values)
    if count == rows:
        return rows
    if count < 2:
        return math.nan
    alone = fmean(value * value for value in values) - fmean(values) ** 2  # the variance of a row
    together = _variance([(sum(part), len(part)) for part in parts])
    size = sum(len(part) ** 2 for part in parts) / rows  # of the cluster of a row
    worth = rows / (1 + (size - 1) * _correlation(parts, size))
    if together:
        worth = min(worth, alone / together)
    return worth * (Z / student(count - 1)) ** 2


def _correlation(parts: Sequence[Sequence[float]], size: float) -> float:
    """Return the correlation of two rows of a cluster, by the analysis of variance; 1 if all rows are alike."""
    count, rows = len(parts), sum(map(len, parts))
    means = [fmean(part) for part in parts]
    mean = fmean(value for part in parts for value in part)
    between = math.fsum(len(part) * (one - mean) ** 2 for part, one in zip(parts, means, strict=True)) / (count - 1)
    inside = math.fsum((value - one) ** 2 for part, one in zip(parts, means, strict=True) for value in part)
    inside /= rows - count
    if not (between or inside):
        return 1.0
    usual = (rows - size) / (count - 1)
    return max(0.0, (between - inside) / (between + (usual - 1) * inside))


def grouped(values: Sequence[float], clusters: Sequence[Hashable] | None) -> list[list[float]]:
    """Return the values of each cluster; each value alone if there are no clusters."""
    if clusters is None:
        return [[value] for value in values]
    groups: dict[Hashable, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        groups.setdefault(cluster, []).append(value)
    return list(groups.values())
