"""How often the right label is among the examples that are chosen for a text. No LLM is asked.

    python benchmarks/shortlist.py --data DIR [--check]

DIR holds banking77_en_{train,test}.jsonl and clinc150_half_{train,test}.jsonl (texts out of scope are left out). The
training rows are the pool of examples.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmtasker import LLM, Classification
from llmtasker.evaluation import balanced, diverse, fixed, nearest, random_
from llmtasker.testing import FakeTransport

SETS = ("banking77_en", "clinc150_half")
LEAST = {("banking77_en", "balanced"): 0.90, ("banking77_en", "nearest"): 0.87}
SHOWN = 8

Rows = list[tuple[str, str]]


def rows_of(path: Path) -> Rows:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row["text"], row["label"]) for row in rows if row["label"] != "oos"]


def shown(train: Rows, test: Rows, choose: Callable[[Any, int], Any]) -> float:
    """The share of test rows whose label one of the examples in the prompt has."""
    labels = sorted({label for _, label in train})
    llm = LLM(transport=FakeTransport(), cache=False)
    task = Classification(llm=llm, labels=labels, examples=choose(train, SHOWN))
    found = 0
    for text, label in test:
        answers = [turn["content"] for turn in task.preview(text).messages if turn["role"] == "assistant"]
        found += label in answers
    return found / len(test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    options = parser.parse_args()
    missed = 0
    for name in SETS:
        train, test = (rows_of(options.data / f"{name}_{part}.jsonl") for part in ("train", "test"))
        print(f"{name}: {len(train)} labelled rows, {len(test)} test rows")
        for choose in (random_, fixed, nearest, diverse, balanced):
            kind = choose.__name__.strip("_")
            share, least = shown(train, test, choose), LEAST.get((name, kind))
            missed += least is not None and share < least
            target = "" if least is None else f"  (at least {least:.2f})"
            print(f"  right label among {SHOWN} examples, {kind:<9}{share:.4f}{target}")
    if missed and options.check:
        sys.exit(1)


if __name__ == "__main__":
    main()
