"""Intervals and tests of significance, by simulation: how often they contain the true figure, or find a difference."""

from __future__ import annotations

import itertools
import math
from functools import cache
from random import Random
from statistics import fmean
from typing import NamedTuple

import pytest

from llmtasker.evaluation.intervals import Z, mean_interval, share_interval, wilson
from llmtasker.evaluation.paired_tests import clustered_share_difference, mcnemar, share_difference, sign_flips


def covered(count: int, share: float) -> float:
    """How often Wilson's interval holds the share: the sum over all that can be seen, so nothing is drawn."""

    def chance(hits: int) -> float:
        ways = math.lgamma(count + 1) - math.lgamma(hits + 1) - math.lgamma(count - hits + 1)
        return math.exp(ways + hits * math.log(share) + (count - hits) * math.log(1 - share))

    held = (hits for hits in range(count + 1) if (found := wilson(hits, count)).low <= share <= found.high)
    return math.fsum(map(chance, held))


def test_intervals_of_shares_cover() -> None:
    shares = [number / 100 for number in range(50, 99, 2)]
    seen = [covered(count, share) for count in (20, 30, 50, 80, 130, 200, 400, 1000) for share in shares]
    assert min(seen) >= 0.89
    assert 0.94 <= sum(seen) / len(seen) <= 0.96


UNEQUAL = (100, 5, 5, 12, 1, 30, 8, 3, 20, 9)
"""Rows of a cluster: the first has half of those of ten clusters."""


class Seen(NamedTuple):
    """How often intervals contain the true figure, and how many times wider they are than if the spread was known."""

    covered: float
    width: float


def clusters_seen(count: int, share: float, alike: float, least: float | None = None, draws: int = 150) -> Seen:
    """The intervals of clustered rows; `alike` is the correlation inside a cluster.

    They are those of a share of right rows or, with `least`, of a difference: so many rows are lost, the others
    unchanged.
    """
    random, held, spread = Random(f"{count} {share} {alike} {least}"), 0, 1 / alike - 1
    width, sizes = 0.0, [UNEQUAL[cluster % len(UNEQUAL)] for cluster in range(count)]
    lost = 0.0 if least is None else least
    for _ in range(draws):
        values, clusters = list[float](), list[int]()
        for cluster in range(count):
            weights = [
                random.gammavariate(part * spread, 1) + 1e-300 for part in (share, 1 - share - lost, lost or 1e-6)
            ]
            values += random.choices((1, 0, -1), weights, k=sizes[cluster])
            clusters += [cluster] * sizes[cluster]
        if least is None:
            found = share_interval([value > 0 for value in values], clusters)
        else:
            found = clustered_share_difference(values, clusters)
        held += found.low <= share - lost <= found.high
        width += found.high - found.low
    variance = share + lost - (share - lost) ** 2 if least is not None else share * (1 - share)
    known = 2 * Z * math.sqrt(variance * sum(size * (1 + (size - 1) * alike) for size in sizes)) / sum(sizes)
    return Seen(held / draws, width / draws / known)


@pytest.mark.parametrize(
    ("count", "widest"), [(2, (7.5, 12.5)), (3, (4.5, 6.5)), (5, (3.2, 4.6)), (10, (2, 2.4)), (30, (1.5, 2.2))]
)
def test_intervals_of_clustered_rows_cover_also_with_few_clusters_of_unequal_size(
    count: int, widest: tuple[float, float]
) -> None:
    correlations = (0.01, 0.05, 0.5, 0.9)
    shares = [clusters_seen(count, share, alike) for share in (0.5, 0.8, 0.95) for alike in correlations]
    ends = [(0.1, 0.1), (0.125, 0.075), (0.06, 0.01)]  # no difference, and twice 5 points
    differences = [clusters_seen(count, gained, alike, lost) for gained, lost in ends for alike in correlations]
    for seen, width in zip((shares, differences), widest, strict=True):
        assert min(one.covered for one in seen) >= 0.91  # a bootstrap: 0.35 and 0.12
        assert fmean(one.covered for one in seen) >= 0.95
        assert max(one.width for one in seen) <= width  # the whole scale, for 2 clusters: 8.6 and 14.4


@pytest.mark.parametrize(
    ("count", "sizes", "widest"), [(2, (8,), 5.8), (5, UNEQUAL, 1.6), (10, (4,), 1.3), (30, UNEQUAL, 1.15)]
)
def test_intervals_of_mean_scores_cover_also_with_few_rows(count: int, sizes: tuple[int, ...], widest: float) -> None:
    random, held, width = Random(count), 0, 0.0
    rows = [sizes[cluster % len(sizes)] for cluster in range(count)]
    for number in range(150):
        clusters = [cluster for cluster in range(count) for _ in range(rows[cluster])]
        shifts = [random.gauss(0, 0.1) for _ in range(count)]
        found = mean_interval([0.3 + shifts[one] + random.gauss(0, 0.2) for one in clusters], number, clusters)
        held += found.low <= 0.3 <= found.high
        width += found.high - found.low
    assert held / 150 >= 0.91  # a bootstrap: 0.5 for 2 clusters, 0.8 for 5
    known = 2 * Z * math.sqrt(0.1**2 * sum(size * size for size in rows) + 0.2**2 * sum(rows)) / sum(rows)
    assert width / 150 / known <= widest


@pytest.mark.parametrize("other", [0.0, 0.5])
@pytest.mark.parametrize("rare", [0.02, 0.2])
@pytest.mark.parametrize("count", [5, 20])
def test_intervals_of_nearly_equal_scores_cover(count: int, rare: float, other: float) -> None:
    """Rows that differ may not be among the few that are seen: a bootstrap of 5 equal ones has no width."""
    random, true, held = Random(count), 1 - rare * (1 - other), 0
    for number in range(150):
        found = mean_interval([other if random.random() < rare else 1.0 for _ in range(count)], number, within=(0, 1))
        held += found.low <= true <= found.high
    assert held / 150 >= 0.93


@pytest.mark.parametrize(("hits", "size"), [([True] * 10, 2), ([True] * 9 + [False], 5), ([True, False] * 5, 2)])
def test_a_share_of_clusters_is_less_certain_than_that_of_rows(hits: list[bool], size: int) -> None:
    found, plain = share_interval(hits, [at // size for at in range(10)]), wilson(sum(hits), 10)
    assert found.value == plain.value
    assert found.low <= plain.low
    assert found.high >= plain.high
    assert share_interval(hits, range(10)) == plain, "each row is a cluster of its own"


def test_equal_tasks_are_seldom_told_apart_and_better_ones_are() -> None:
    random, told, found = Random(2), 0, 0
    for _ in range(4_000):
        changes = [random.random() for _ in range(300)]
        gained, lost = sum(change < 0.04 for change in changes), sum(change > 0.96 for change in changes)
        told += mcnemar(gained, lost) < 0.05
        gained, lost = sum(change < 0.06 for change in changes), sum(change > 0.97 for change in changes)
        found += mcnemar(gained, lost) < 0.05
    assert told <= 0.05 * 4_000
    assert found >= 0.35 * 4_000


def changed_covered(rows: int, gained: float, lost: float, draws: int = 300) -> float:
    """How often the interval of a difference holds the true one, where so many rows are gained and lost."""
    random, held = Random(rows), 0
    for _ in range(draws):
        drawn = random.choices((1, -1, 0), (gained, lost, 1 - gained - lost), k=rows)
        found = _difference_of(drawn.count(1), drawn.count(-1), rows)
        held += found.low <= gained - lost <= found.high
    return held / draws


_difference_of = cache(share_difference)


def test_intervals_of_differences_cover() -> None:
    kinds = itertools.product((5, 10, 20, 50, 200, 1_000), (0.02, 0.05, 0.12, 0.3), (0.5, 0.83, 1.0))
    seen = [changed_covered(rows, share * part, share * (1 - part)) for rows, share, part in kinds]
    assert min(seen) >= 0.92  # Wald's: 0.10; Agresti and Min's: 0.83
    assert 0.94 <= sum(seen) / len(seen) <= 0.98  # few rows have few outcomes, so the interval is wider than needed


@pytest.mark.parametrize(
    ("gained", "lost", "rows"), [(0, 0, 7), (5, 0, 5), (0, 5, 5), (3, 3, 6), (1, 0, 1), (400, 0, 2000)]
)
def test_an_interval_of_differences_holds_the_measured_one_and_mirrors(gained: int, lost: int, rows: int) -> None:
    found, mirrored = share_difference(gained, lost, rows), share_difference(lost, gained, rows)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found == pytest.approx((-mirrored.value, -mirrored.high, -mirrored.low))
    assert found.high - found.low > 0.01


def test_differences_of_scores_that_are_not_right_or_wrong() -> None:
    random, told = Random(3), 0
    for number in range(100):
        differences = [random.choice((-0.5, -0.25, 0, 0, 0.25, 0.5)) for _ in range(60)]
        told += sign_flips(differences, number) < 0.05
    assert told <= 10
    assert sign_flips([0.0, 0.0], 0) == 1
    many = [0.1 + random.gauss(0, 0.5) for _ in range(3000)]
    assert mean_interval(many, 0).low > 0
    assert sign_flips(many, 0) < 0.001


def test_a_bootstrap_is_the_same_every_time() -> None:
    random = Random(4)
    values = [random.random() for _ in range(50)]
    assert mean_interval(values, 7) == mean_interval(values, 7) != mean_interval(values, 8)
    assert math.isnan(mean_interval([0.5], 0).low)
