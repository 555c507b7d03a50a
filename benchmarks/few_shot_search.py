"""Does a search among sets of examples help a real LLM? Topics of SIB-200 in English, seven examples a set.

    python benchmarks/few_shot_search.py --data DIR --llm local/SmolLM2-135M-Instruct.Q4_1.gguf [--sets 8] [--check]

DIR contains sib200_en_{train,test}.jsonl. Of train, five rows a label (35) choose the set, and the sets are drawn from
the others. The result is judged once on the first 100 rows of `Random(0).shuffle(test)`. Answers are cached: the same
command goes on after a stop.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from random import Random

from llmtasker import LLM, Classification
from llmtasker.optimizers import LabeledFewShot, optimize

LEAST, SURE = 45, 0.001

Rows = list[dict[str, str]]


def rows_of(path: Path) -> Rows:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{"text": row["text"], "label": row["label"]} for row in rows]


def divided(rows: Rows, each: int) -> tuple[Rows, Rows]:
    """The first rows of each label, and the others."""
    seen: defaultdict[str, int] = defaultdict(int)
    first: Rows = []
    rest: Rows = []
    for row in rows:
        seen[row["label"]] += 1
        (first if seen[row["label"]] <= each else rest).append(row)
    return first, rest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--llm", required=True)
    parser.add_argument("--sets", type=int, default=8)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="exit with 1 if the target is missed")
    options = parser.parse_args()
    train, test = (rows_of(options.data / f"sib200_en_{part}.jsonl") for part in ("train", "test"))
    Random(0).shuffle(test)
    dev, pool = divided(train, 5)
    labels = sorted({row["label"] for row in train})
    # Without a temperature, llama.cpp draws the answers: fewer are right, and a set is not measured twice alike.
    task = Classification(llm=LLM(options.llm, temperature=0), labels=labels, mode="json_schema")
    search = LabeledFewShot(k=7, sets=options.sets)
    rows = {"train": pool, "val": dev, "test": test[:100]}
    found = optimize(
        task, search, **rows, concurrency=options.concurrency, progress=lambda line: print(line, flush=True)
    )
    print(found.report)
    comparison = found.report.comparison
    right = found.report.after.score("label").right if found.report.after else 0
    if options.check and (not found.better or (right or 0) < LEAST or comparison is None or comparison.p >= SURE):
        sys.exit(1)


if __name__ == "__main__":
    main()
