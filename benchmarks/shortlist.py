"""How often the right label is among the examples or labels chosen for a text. No LLM is asked.

    python benchmarks/shortlist.py --data DIR [--check]

DIR contains banking77_en_{train,test}.jsonl and clinc150_half_{train,test}.jsonl (texts out of scope are left out). The
training rows are the pool of examples. CPU is that of a whole request, from the text to the cache key, over all test
rows, after one pass over them; at 5,000 labels the labels are two or three of 600 made-up words, with five texts each.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from llmtasker import LLM, Classification
from llmtasker.evaluation import balanced, diverse, fixed, nearest, random_, shortlist_recall
from llmtasker.testing import FakeTransport

SETS = ("banking77_en", "clinc150_half")
LEAST = {("banking77_en", "balanced"): 0.90, ("banking77_en", "nearest"): 0.87}
SHOWN = 8
RECALL = {("banking77_en", "examples", 10): 0.94, ("banking77_en", "examples", 20): 0.975}
RECALL |= {("banking77_en", "names", 20): 0.89}
RECALL_OF = {name for name, _, _ in RECALL}
PROMPT, MILLISECONDS, MANY_MILLISECONDS = 0.35, 1.0, 10.0

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


def listed(train: Rows, labels: list[str], **options: Any) -> Classification:
    llm = LLM(transport=FakeTransport(), cache=False)
    return Classification(llm=llm, labels=labels, examples=nearest(train, SHOWN) if train else (), **options)


def milliseconds(task: Classification, texts: list[str]) -> float:
    """CPU of the requests of some texts, a text; the second pass counts."""
    for _ in range(2):
        start = time.process_time()
        for text in texts:
            task.program.render(task.program.validate(text), task.llm.settings).key  # noqa: B018
    return 1_000 * (time.process_time() - start) / len(texts)


def made_up(count: int) -> tuple[Rows, list[str]]:
    """Five texts for each of so many labels, and the labels."""
    random = Random(0)
    words = ["".join(random.choice("bcdfglmnprst") + random.choice("aeiou") for _ in range(3)) for _ in range(600)]
    labels = sorted({"_".join(random.sample(words, random.choice((2, 3)))) for _ in range(count)})
    rows = []
    for label in labels:
        for _ in range(5):
            text = [*label.split("_"), *random.sample(words, 8)]
            random.shuffle(text)
            rows.append((" ".join(text), label))
    return rows, labels


class Checks:
    """Figures with their targets."""

    def __init__(self) -> None:
        self.missed = 0

    def line(self, text: str, value: float, *, least: float | None = None, most: float | None = None) -> None:
        bad = (least is not None and value < least) or (most is not None and value > most)
        self.missed += bad
        target = f"at least {least}" if least is not None else f"at most {most}" if most is not None else ""
        print(f"  {text:<46}{value:8.4f}  {target}{'  MISSED' if bad else ''}".rstrip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    options = parser.parse_args()
    checks = Checks()
    for name in SETS:
        train, test = (rows_of(options.data / f"{name}_{part}.jsonl") for part in ("train", "test"))
        gold = [{"text": text, "label": label} for text, label in test]
        labels = sorted({label for _, label in train})
        print(f"{name}: {len(labels)} labels, {len(train)} labelled rows, {len(test)} test rows")
        for choose in (random_, fixed, nearest, diverse, balanced):
            kind = choose.__name__.strip("_")
            line = f"right label among {SHOWN} examples, {kind}"
            checks.line(line, shown(train, test, choose), least=LEAST.get((name, kind)))
        for given, what in ((train, "examples"), ([], "names")):
            recall = shortlist_recall(listed(given, labels, shortlist=20), gold)
            for size in (10, 20):
                line = f"right label among {size} labels, by {what}"
                checks.line(line, recall.at[size].value, least=RECALL.get((name, what, size)))
        texts = [text for text, _ in test]
        short, whole = (
            sum(len(task.preview(text).request.content) for text in texts[:100])
            for task in (listed([], labels, shortlist=20), listed([], labels))
        )
        checks.line(
            "characters of the prompt, to all labels", short / whole, most=PROMPT if name in RECALL_OF else None
        )
        given = Classification(llm="offline", labels=labels, examples=train[:8], shortlist=20)
        checks.line("ms of CPU a row, shortlist", milliseconds(given, texts), most=MILLISECONDS)
        checks.line("ms of CPU a row, and 8 nearest examples", milliseconds(listed(train, labels, shortlist=20), texts))
    rows, labels = made_up(5_000)
    print(f"{len(labels)} made-up labels, {len(rows)} labelled rows")
    many = Classification(llm="offline", labels=labels, examples=random_(rows, SHOWN), shortlist=20)
    start = time.process_time()
    many.program.warm_up()
    checks.line("s of CPU to begin", time.process_time() - start)
    many_ms = milliseconds(many, [text for text, _ in rows[:: len(rows) // 500]])
    checks.line("ms of CPU a row, shortlist", many_ms, most=MANY_MILLISECONDS)
    if checks.missed and options.check:
        sys.exit(1)


if __name__ == "__main__":
    main()
