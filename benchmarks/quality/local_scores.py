"""How sure is a real, very small LLM? Its label scores on topics of SIB-200 in English, without examples.

    python benchmarks/quality/local_scores.py --data DIR --llm local/SmolLM2-135M-Instruct.Q4_1.gguf [--check]

DIR contains sib200_en_test.jsonl; its rows are put in the order of `Random(0).shuffle`. One pass asks for the scores of
its 204 rows; the rest is computed from the cache.

- Of the first 100 rows, a batch calibration and a temperature are fitted to 50 and judged on the other 50.
- Abstention: a risk of at most 20 % is promised from a half of all rows and judged on the other half, 200 times. What
  is refused counts as not kept. An oracle knows which answers of the other half are right.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import median

from llmtasker import Classification
from llmtasker.confidence.calibration_figures import calibration_error
from llmtasker.errors import AbstainedError, ConfigurationError
from llmtasker.evaluation import calibrate

ACCURACY, ERROR, RISK, SPLITS = 0.62, 0.15, 0.2, 200
Rows = list[dict[str, str]]
Point = tuple[float, bool, bool]
"""The confidence in an answer, whether it is right, and whether it is given."""


def judged(task: Classification, rows: Rows) -> list[Point]:
    found = list[Point]()
    for row, item in zip(rows, task.run([row["text"] for row in rows], progress=False), strict=True):
        guess = item.error.guess if isinstance(item.error, AbstainedError) else item.output
        shares = item.confidence or {}
        found.append((max(shares.values(), default=0.0), guess == row["label"], item.ok))
    return found


def accuracy(points: Sequence[Point]) -> float:
    return sum(right for _, right, _ in points) / len(points)


def error(points: Sequence[Point]) -> float:
    return calibration_error([(sure, right) for sure, right, _ in points])


def oracle(points: Sequence[Point]) -> int:
    """The most rows that can be answered, the surest first, with no more than the promised share wrong."""
    ordered, wrong, most = sorted(points, reverse=True), 0, 0
    for count, (_, right, _) in enumerate(ordered, start=1):
        wrong += not right
        most = count if wrong <= RISK * count else most
    return most


def abstention(task: Classification, rows: Rows) -> tuple[int, int, float]:
    """How many promises were kept and refused, and the median of the rows answered beside an oracle's."""
    kept, refused, shares = 0, 0, list[float]()
    for split in range(SPLITS):
        drawn = rows.copy()
        Random(split).shuffle(drawn)
        one, other = drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]
        try:
            promised = calibrate(task, one, max_risk=RISK, method="batch", progress=False)
        except ConfigurationError:
            refused += 1
            shares.append(0.0)
            continue
        points = judged(promised, other)
        answered = [right for _, right, given in points if given]
        kept += answered.count(False) <= RISK * len(answered)
        shares.append(len(answered) / max(oracle(points), 1))
    return kept, refused, median(shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--llm", required=True)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    options = parser.parse_args()
    lines = (options.data / "sib200_en_test.jsonl").read_text(encoding="utf-8").splitlines()
    rows: Rows = [{"text": row["text"], "label": row["label"]} for row in map(json.loads, lines)]
    Random(0).shuffle(rows)
    labels = sorted({row["label"] for row in rows})
    task = Classification(llm=options.llm, labels=labels, confidence="label_scores")
    all_points = judged(task, rows)
    print(f"all {len(rows)} rows, as scored: {accuracy(all_points):.1%} right, ECE {error(all_points):.3f}", flush=True)
    first, other = rows[:50], rows[50:100]
    before, after = judged(task, other), judged(calibrate(task, first, method="batch", progress=False), other)
    print(
        f"50 held-out rows: {accuracy(before):.0%} right, ECE {error(before):.3f} as scored; "
        f"{accuracy(after):.0%} right, ECE {error(after):.3f} calibrated",
        flush=True,
    )
    kept, refused, share = abstention(task, rows)
    print(
        f"at most {RISK:.0%} wrong, {SPLITS} splits of {len(rows)} rows: kept {kept}, refused {refused}, broken "
        f"{SPLITS - kept - refused}; rows answered beside an oracle's, median: {share:.2f}"
    )
    fits = accuracy(after) >= ACCURACY and error(after) <= ERROR and kept >= 0.9 * SPLITS and share >= 0.5
    sys.exit(bool(options.check and not fits))


if __name__ == "__main__":
    main()
