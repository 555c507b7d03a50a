"""How often a promised risk is kept, and what it costs: simulated LLMs, labelled slices of 500 rows.

python benchmarks/confidence.py --check      # the targets; exit code 1 when one is missed
python benchmarks/confidence.py --slices 200 # faster
"""

from __future__ import annotations

import argparse
import math
import sys
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from random import Random
from statistics import median

from llmtasker.evaluation.cascade_stage import cascade_outcome
from llmtasker.evaluation.cascade_thresholds import StageAnswer, cascade_thresholds
from llmtasker.evaluation.risk_control import at_most, first_trial, keep_risk, most_errors, risk_trials

ROWS, MANY, RISK, CERTAINTY = 500, 50_000, 0.05, 0.9
JUST_BROKEN = 0.0501
Points = list[tuple[float, bool]]


def calibrated(random: Random, count: int, a: float, b: float) -> Points:
    """An LLM that is right as often as its confidence states."""
    return [(sure, random.random() < sure) for sure in (random.betavariate(a, b) for _ in range(count))]


def scored(random: Random, count: int, accuracy: float, distance: float) -> Points:
    """An LLM whose confidence is a score, not a probability."""
    rights = [random.random() < accuracy for _ in range(count)]
    return [(1 / (1 + math.exp(-random.gauss(distance * right, 1))), right) for right in rights]


def plateau(random: Random, count: int) -> Points:
    """An LLM whose surest 90 % are wrong in 5.01 %, however sure: the hardest case for a promise of 5 %."""
    return hardly_wrong(random, [random.random() for _ in range(count)])


def two_values(random: Random, count: int) -> Points:
    """The same with two confidences only."""
    return hardly_wrong(random, random.choices([0.9, 0.05], [6, 4], k=count))


def votes(random: Random, count: int) -> Points:
    """The same with votes out of 5."""
    return hardly_wrong(random, random.choices([1.0, 0.8, 0.6, 0.05], [5, 2, 2, 1], k=count))


def hardly_wrong(random: Random, confidences: list[float]) -> Points:
    """Answers that are wrong in 5.01 % where the confidence is above 0.1."""
    return [(sure, random.random() >= (JUST_BROKEN if sure > 0.1 else 0.2)) for sure in confidences]


def good_votes(random: Random, count: int) -> Points:
    """An LLM that is asked five times."""
    wrong = {1.0: 0.02, 0.8: 0.1, 0.6: 0.3, 0.4: 0.5}
    return [(sure, random.random() >= wrong[sure]) for sure in random.choices(list(wrong), [5, 2, 2, 1], k=count)]


POPULATIONS: dict[str, Callable[[Random, int], Points]] = {
    "70 % right, calibrated, Beta(2, 0.86)": lambda random, count: calibrated(random, count, 2, 0.86),
    "92 % right, calibrated, Beta(5, 0.43)": lambda random, count: calibrated(random, count, 5, 0.43),
    "80 % right, a score": lambda random, count: scored(random, count, 0.8, 1.5),
    "90 % right, a weak score": lambda random, count: scored(random, count, 0.9, 1.0),
    "87 % right, votes out of 5": good_votes,
}
PLATEAUS: dict[str, Callable[[Random, int], Points]] = {
    "5.01 % wrong on a plateau": plateau,
    "the same, two values": two_values,
    "the same, votes out of 5": votes,
}


def risk(draw: Callable[[Random, int], Points], slices: int) -> tuple[float, float, float, float, float]:
    """The share of promises that are broken, of refusals, the median of rows answered, an oracle's rows, and `limit`.

    All rows of a plateau are taken for broken: above 5 %, by a hair.
    """
    points = sorted(draw(Random(-1), MANY), key=lambda point: -point[0])
    confidences, errors = [-sure for sure, _ in points], list(accumulate(not right for _, right in points))
    oracle = max((n for n, wrong in enumerate(errors, 1) if wrong <= RISK * n), default=0)
    broken, refused, answered = 0, 0, list[float]()
    for number in range(slices):
        kept = keep_risk(draw(Random(number), ROWS), RISK, CERTAINTY)
        count = 0 if kept is None else bisect_right(confidences, -kept.threshold)
        refused += kept is None
        answered.append(count / MANY)
        broken += count > 0 and (draw in PLATEAUS.values() or errors[count - 1] > RISK * count)
    half = oracle // 2
    return broken / slices, refused / slices, median(answered), oracle / MANY, limit(half, errors[half - 1] / half)


def exactly_broken(draw: Callable[[Random, int], Points], slices: int) -> float:
    """The share of promises that are broken on a plateau: the probability that the first trial of a slice passes.

    Only the confidences are drawn. Given these, the errors among so many rows have a binomial distribution, so nothing
    is left to luck where all confidences differ, and little where they are few.
    """
    chances = list[float]()
    for number in range(slices):
        ordered = sorted(draw(Random(number), ROWS), key=lambda point: -point[0])
        trials = risk_trials(ordered, RISK, CERTAINTY)
        first = first_trial(trials, ROWS, RISK, CERTAINTY)
        if first is not None:
            assert ordered[trials[first].rows - 1][0] > 0.1, "it is on the plateau"
            chances.append(at_most(trials[first].allowed, trials[first].rows, JUST_BROKEN))
    return sum(chances) / slices


def limit(answered: int, wrong: float) -> float:
    """How often any rule that keeps its promise for every LLM can answer so many of MANY rows.

    Another LLM may be the same, but for errors among these rows so much more frequent that `RISK` is just broken: there
    the rule answers them in one of ten slices. By Neyman and Pearson, the best test of the one against the other
    counts the errors; at the count where it would be broken too often, it draws lots.
    """
    rows = round(answered * ROWS / MANY)
    most, level = most_errors(rows, RISK, CERTAINTY), 1 - CERTAINTY
    sure = (0.0, 0.0) if most < 0 else (at_most(most, rows, RISK), at_most(most, rows, wrong))
    lots = (level - sure[0]) / (at_most(most + 1, rows, RISK) - sure[0])
    return sure[1] + lots * (at_most(most + 1, rows, wrong) - sure[1])


def two(random: Random, count: int) -> list[list[StageAnswer]]:
    """Two LLMs, 70 % and 92 % right, at prices 1 : 20."""
    stages = (((2, 0.86), 1.0), ((5, 0.43), 20.0))
    return [[StageAnswer(sure, right, cost) for sure, right in calibrated(random, count, *ab)] for ab, cost in stages]


def cascades(max_risk: float, slices: int) -> tuple[float, float, float]:
    """The share of promises that are broken, and the medians of cost and of rows answered."""
    many = two(Random(-1), 20_000)
    broken, costs, answered = 0, list[float](), list[float]()
    for number in range(slices):
        found = cascade_thresholds(two(Random(number), ROWS), max_risk, CERTAINTY)
        if found is not None:
            rows, wrong, cost = cascade_outcome(many, found.thresholds)
            broken += sum(wrong) > max_risk * sum(rows)
            costs.append(cost / 20_000 / 20)
            answered.append(sum(rows) / 20_000)
    return broken / slices, median(costs), median(answered)


def most_broken(slices: int) -> float:
    """The share of broken promises up to which a simulation of so many slices does not show that it exceeds 10 %.

    These are three standard errors: if exactly one promise in ten is broken, a simulation is above in 1 of 700 cases.
    """
    return 1 - CERTAINTY + 3 * math.sqrt(CERTAINTY * (1 - CERTAINTY) / slices)


def main() -> None:
    """Print the tables; with --check, exit with 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=2_000)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    missed = list[str]()
    print(f"risk of at most {RISK:.0%} at a certainty of 90 %, {options.slices:,} slices of {ROWS} rows")
    print(f"(a simulation shows that more than 10 % are broken from {most_broken(options.slices):.1%} on)")
    print("| LLM | broken | exactly | refused | rows answered, median | an oracle's | half of it: any rule at most |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, draw in {**POPULATIONS, **PLATEAUS}.items():
        broken, refused, answered, oracle, most = risk(draw, options.slices)
        exactly = exactly_broken(draw, options.slices) if name in PLATEAUS else None
        cells = (broken, exactly, refused, answered, oracle, most)
        print(f"| {name} | {' | '.join('' if one is None else f'{one:.1%}' for one in cells)} |", flush=True)
        missed += [name] if broken > most_broken(options.slices) or (exactly or 0) > 1 - CERTAINTY else []
        missed += [f"{name}: rows"] if most > 0.55 and answered < oracle / 2 and name in POPULATIONS else []
    print("\n| cascade, risk of at most | broken | cost beside the large LLM | rows answered |\n|---|---:|---:|---:|")
    for max_risk in (0.12, 0.05):
        broken, cost, answered = cascades(max_risk, max(1, options.slices // 4))
        print(f"| {max_risk:.0%} | {broken:.1%} | {cost:.2f} | {answered:.1%} |", flush=True)
        missed += (
            [f"cascade {max_risk:.0%}"]
            if broken > most_broken(max(1, options.slices // 4)) or (max_risk == 0.12 and cost > 0.75)
            else []
        )
    if options.check and missed:
        sys.exit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
