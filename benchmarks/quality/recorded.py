"""Reports and comparisons of recorded answers whose figures are known. No LLM is asked.

    python benchmarks/quality/recorded.py --data DIR [--check]

`replay_sib200.jsonl`: what GPT-3.5 answered in free text to 204 topic questions, in English and in French. A report
counts all rows, also those whose answer names no topic. `gsm8k_correct.jsonl`: which questions four published systems
solved.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from llmtasker import LLM, Classification, pipeline
from llmtasker.evaluation import Comparison, Report, compare, evaluate
from llmtasker.testing import FakeTransport, last_user_text

LANGUAGES = {"en": "eng_Latn", "fr": "fra_Latn"}


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def replayed(rows: list[dict[str, Any]], texts: list[str]) -> Report:
    """The report of recorded answers; `texts` name the rows, so that two languages can be paired."""
    answers = dict(zip(texts, (row["raw_output"] for row in rows), strict=True))
    llm = LLM(transport=FakeTransport(lambda request: answers[last_user_text(request)]), cache=False)
    task = Classification(llm=llm, labels=rows[0]["labels"], mode="text", attempts=1)
    gold = [{"text": text, "label": row["gold"]} for text, row in zip(texts, rows, strict=True)]
    return evaluate(task, gold, progress=False)


def solved(rows: list[dict[str, Any]], system: str) -> Report:
    found = {row["id"]: row[system] for row in rows}

    @pipeline
    async def right(number: int) -> bool:
        return bool(found[number])

    return evaluate(right, [{"number": number, "output": True} for number in found], progress=False)


def points(found: Comparison) -> str:
    value, low, high = (100 * part for part in found.difference)
    return f"{value:+.1f} points ({low:+.1f} to {high:+.1f}), p = {found.p:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--check", action="store_true", help="exit code 1 if a figure is not the known one")
    given = parser.parse_args()
    recorded = rows_of(given.data / "replay_sib200.jsonl")
    by_language = {name: [row for row in recorded if row["lang"] == code] for name, code in LANGUAGES.items()}
    names = [row["id"] for row in by_language["en"]]
    fits = dict[str, bool]()
    reports = dict[str, Report]()
    for name, rows in by_language.items():
        order = {row["id"]: row for row in rows}
        reports[name] = replayed([order[one] for one in names], names)
        score = reports[name].score("label")
        answered = score.rows - score.failed
        share = 100 * (score.right or 0) / answered
        print(f"SIB-200 {name}: {reports[name]}\n  of the {answered} rows with an answer alone: {share:.1f} %")
        fits[f"{name}: all 204 rows count"] = score.rows == len(names) and 0.64 <= score.interval.value <= 0.75
    print(f"French beside English, the same texts: {points(compare(reports['en'], reports['fr']))}")
    rows = rows_of(given.data / "gsm8k_correct.jsonl")
    found = compare(solved(rows, "6b_verification"), solved(rows, "175b_finetuning"))
    print(f"GSM8K, 175B fine-tuned beside 6B with verification, {found.rows:,} questions: {points(found)}")
    half = 50 * (found.difference.high - found.difference.low)
    fits["GSM8K: -4.3 ± 2.8 points"] = (round(100 * found.difference.value, 1), round(half, 1)) == (-4.3, 2.8)
    fits["GSM8K: p = .003"] = round(found.p, 3) == 0.003
    missed = [what for what, fit in fits.items() if not fit]
    if missed:
        print("not as known:", "; ".join(missed))
    sys.exit(bool(given.check and missed))


if __name__ == "__main__":
    main()
