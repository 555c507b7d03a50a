"""How often 95 % intervals of clustered rows contain the true figure: simulated clusters of unequal sizes.

python benchmarks/intervals.py --check       # the targets; exit code 1 when one is missed
python benchmarks/intervals.py --draws 200   # faster
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from itertools import product
from random import Random
from statistics import fmean

from llmtasker.evaluation.intervals import Interval, mean_interval, share_interval
from llmtasker.evaluation.paired_tests import clustered_share_difference, sign_flips

COUNTS = (2, 3, 5, 10, 30)
LEAST = 0.85
"""Every interval contains the true figure at least this often, in each of the cases."""
AVERAGE = 0.93
FALSE_ALARMS = 0.05
Sizes = Callable[[Random, int], list[int]]
Drawn = tuple[list[float], list[int]]

SIZES: dict[str, Sizes] = {
    "all of 8 rows": lambda random, count: [8] * count,
    "1 to 60 rows": lambda random, count: [max(1, min(60, round(random.lognormvariate(2, 1)))) for _ in range(count)],
    "one of 100 rows, others of 5": lambda random, count: [100] + [5] * (count - 1),
}
ALIKE = (0.01, 0.3, 0.9)
"""The correlation of two rows of a cluster."""


def chances(random: Random, shares: tuple[float, ...], alike: float) -> list[float]:
    """The chances of each result in a cluster, which vary around the shares (Dirichlet)."""
    drawn = [random.gammavariate(share * (1 / alike - 1), 1.0) + 1e-300 for share in shares]
    return [one / sum(drawn) for one in drawn]


def clusters(random: Random, sizes: Sizes, count: int, values: tuple[float, ...], shares: tuple[float, ...]) -> Drawn:
    """The values of rows, with the cluster of each."""
    alike = random.choice(ALIKE)
    found, marks = list[float](), list[int]()
    for cluster, size in enumerate(sizes(random, count)):
        found += random.choices(values, chances(random, shares, alike), k=size)
        marks += [cluster] * size
    return found, marks


def holds(found: Interval, true: float) -> bool:
    return found.low - 1e-9 <= true <= found.high + 1e-9


def shares(sizes: Sizes, count: int, draws: int) -> Iterator[tuple[str, float]]:
    """How often the interval of a share of right rows contains it."""
    for share in (0.5, 0.8, 0.95):
        random = Random(f"{count} {share}")
        drawn = (clusters(random, sizes, count, (1.0, 0.0), (share, 1 - share)) for _ in range(draws))
        yield "share", fmean(holds(share_interval([value == 1 for value in one], marks), share) for one, marks in drawn)


def differences(sizes: Sizes, count: int, draws: int) -> Iterator[tuple[str, float]]:
    """How often the interval of a difference of right rows contains it, and how often two equal tasks differ."""
    for gained, lost in ((0.1, 0.1), (0.125, 0.075), (0.06, 0.01)):
        random, held, told = Random(f"{count} {gained}"), 0, 0
        for number in range(draws):
            found, marks = clusters(random, sizes, count, (1.0, -1.0, 0.0), (gained, lost, 1 - gained - lost))
            interval = clustered_share_difference(found, marks)
            held += holds(interval, gained - lost)
            if gained == lost and not holds(interval, 0.0):
                told += sign_flips(found, number, marks) < 0.05
        yield "difference", held / draws
        if gained == lost:
            yield "told apart", told / draws


def means(sizes: Sizes, count: int, draws: int) -> Iterator[tuple[str, float]]:
    """How often the interval of a mean score contains it, where scores change by up to a half."""
    values, parts = (-0.5, -0.25, 0.0, 0.25, 0.5), (0.1, 0.2, 0.3, 0.2, 0.2)
    true = sum(value * part for value, part in zip(values, parts, strict=True))
    random = Random(f"{count}")
    drawn = (clusters(random, sizes, count, values, parts) for _ in range(draws))
    yield "mean", fmean(holds(mean_interval(one, number, marks), true) for number, (one, marks) in enumerate(drawn))


def main() -> None:
    """Print the table; with --check, exit with 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1_000)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    missed, seen = list[str](), dict[str, list[float]]()
    print("| clusters | sizes | share | difference | mean score | equal tasks told apart |\n|--:|---|--:|--:|--:|--:|")
    for count, name in product(COUNTS, SIZES):
        found: dict[str, list[float]] = {}
        for part in (shares, differences, means):
            for what, share in part(SIZES[name], count, options.draws):
                found.setdefault(what, []).append(share)
                seen.setdefault(what, []).append(share)
        shown = [f"{min(found[what]):.1%}" for what in ("share", "difference", "mean")]
        print(f"| {count} | {name} | {' | '.join(shown)} | {found['told apart'][0]:.1%} |", flush=True)
    for what, all_shares in seen.items():
        low, average = min(all_shares), fmean(all_shares)
        print(f"{what}: {low:.1%} to {max(all_shares):.1%}, {average:.1%} on average")
        noise = 3 * math.sqrt(0.05 * 0.95 / options.draws)
        if what == "told apart":
            missed += [what] if max(all_shares) > FALSE_ALARMS + noise else []
        elif low < LEAST or average < AVERAGE:
            missed.append(what)
    if options.check and missed:
        sys.exit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
