"""How well an LLM classifies public test sets, with intervals: one line of a Markdown table for each set.

    python benchmarks/quality/measure.py --data DIR [--llm offline] [--rows 200] [--set sib200_en] [--list 20]

DIR contains the files named in SETS. `--llm` is anything that `LLM` takes: "offline" (the baseline, no language model),
"openai/…", "http://host:8000/v1#model", "local/….gguf". Examples are taken from the training rows, the first of each
label; with `--list N`, a text is shown the N labels that are likely for it. CLINC150 keeps its texts out of scope:
their label, `oos`, is one more. Answers are cached, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from random import Random
from typing import Any

from llmtasker import LLM, Classification
from llmtasker.evaluation import Report, evaluate

SETS = {
    "sib200_en": ("sib200_en_train.jsonl", "sib200_en_test.jsonl"),
    "sib200_fr": ("sib200_fr_train.jsonl", "sib200_fr_test.jsonl"),
    "banking77": ("banking77_en_train.jsonl", "banking77_en_test.jsonl"),
    "snips": ("", "snips_en_validate.jsonl"),
    "clinc150": ("clinc150_half_train.jsonl", "clinc150_half_test.jsonl"),
}
PER_LABEL_IN_SNIPS = 5  # it has no training rows: the first of each label are taken out of its test rows
OUT_OF_SCOPE = "oos"

Rows = list[dict[str, Any]]


def rows_of(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def first_of_each(rows: Rows, count: int) -> Rows:
    """The first rows of each label."""
    taken, seen = list[dict[str, Any]](), dict[str, int]()
    for row in rows:
        seen[row["label"]] = seen.get(row["label"], 0) + 1
        if seen[row["label"]] <= count:
            taken.append(row)
    return taken


def load(folder: Path, name: str, most: int | None) -> tuple[Rows, Rows]:
    """The training and the test rows of a set, these in an order that is drawn once."""
    training, testing = SETS[name]
    test = rows_of(folder / testing)
    train = rows_of(folder / training) if training else first_of_each(test, PER_LABEL_IN_SNIPS)
    kept = {row["text"] for row in train}
    test = [row for row in test if row["text"] not in kept]
    Random(0).shuffle(test)
    return train, test[:most]


def task_of(llm: LLM, train: Rows, test: Rows, per_label: int, listed: int | None) -> Classification:
    labels = sorted({row["label"] for row in (*train, *test)} - {OUT_OF_SCOPE})
    if any(row["label"] == OUT_OF_SCOPE for row in test):
        labels.append(OUT_OF_SCOPE)
    examples = [(row["text"], row["label"]) for row in first_of_each(train, per_label)]
    more = {} if listed is None else {"shortlist": listed}
    return Classification(llm=llm, labels=labels, examples=examples, **more)


def line(name: str, llm: str, report: Report, seconds: float) -> str:
    score, labels = report.score("label"), report.labels("label")
    value, low, high = (100 * part for part in score.interval)
    macro = sum(one.f1 for one in labels.values()) / len(labels)
    return (
        f"| {name} | {llm} | {score.rows:,} | {value:.1f} ({low:.1f} to {high:.1f}) | {score.failed:,} | {macro:.2f} "
        f"| {report.tokens:,} | {seconds:.0f} s, {report.asked:,} asked |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--llm", default="offline")
    parser.add_argument("--rows", type=int, help="the most test rows of a set")
    parser.add_argument("--examples", type=int, default=1, help="of each label")
    parser.add_argument("--list", type=int, dest="listed", help="show each text this many labels only")
    parser.add_argument("--set", choices=SETS, action="append", dest="sets")
    parser.add_argument("--out", type=Path, help="a folder for the reports, which `llmtasker compare` reads")
    given = parser.parse_args()
    fixed: dict[str, Any] = {} if given.llm == "offline" else {"temperature": 0}
    llm = LLM(given.llm, **fixed)
    print("| set | LLM | rows | accuracy, % (95 %) | failed | macro F1 | tokens | time |")
    print("|---|---|--:|---|--:|--:|--:|---|")
    for name in given.sets or SETS:
        train, test = load(given.data, name, given.rows)
        task = task_of(llm, train, test, given.examples, given.listed)
        started = time.monotonic()
        concurrency = 4 if given.llm.endswith(".gguf") else 32
        report = evaluate(task, [{"text": row["text"], "label": row["label"]} for row in test], concurrency=concurrency)
        print(line(name, given.llm.rpartition("/")[2], report, time.monotonic() - started), flush=True)
        if given.out is not None:
            given.out.mkdir(parents=True, exist_ok=True)
            report.save(given.out / f"{name}.json")


if __name__ == "__main__":
    main()
