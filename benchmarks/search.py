"""Do searches find a better task if there is one, and claim none otherwise? With simulated LLMs, seeded.

    python benchmarks/search.py [--searches 100] [--check]

- Three rules are missing from the instructions. The LLM obeys the rules that it is given; the proposer reads one
  mistake and adds its rule. Calls of the search, without those of the test.
- Nothing can be found: whether an answer is right (7 in 10) depends on chance, drawn again for each prompt. How many
  searches claim a better task.
"""

from __future__ import annotations

import argparse
import sys
from hashlib import blake2b
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import obedient

from llmtasker import LLM, Budget, Classification
from llmtasker.optimizers import GEPA, InstructionSearch, LabeledFewShot, Optimizer, optimize
from llmtasker.testing import FakeTransport
from llmtasker.wire.request import Request
from llmtasker.wire.request_reader import last_user_text

MOST_CALLS, MOST_CLAIMS, TEST = 150, 5, 100


def task_of(answer: Any) -> tuple[Classification, FakeTransport]:
    fake = FakeTransport(answer, keep_requests=False)
    llm = LLM(transport=fake, cache=False)
    return Classification(llm=llm, labels=obedient.LABELS, instructions="Sort into:\n{classes}"), fake


def by_chance(request: Request) -> Any:
    """An LLM on which no prompt has an effect, and a proposer with ideas."""
    text = last_user_text(request)
    drawn = int.from_bytes(blake2b(str(request.messages).encode(), digest_size=8).digest(), "big")
    if "Right answer:" in text:
        idea = f"Sort into:\n{{classes}}\nBe careful, idea {drawn % 10_000}."
        return {"improved": idea} if "<mistakes>" in text else f"```\n{idea}\n```"
    right = obedient.RULES.get(text.rpartition(" ")[2], "other")
    return {"label": right if drawn % 10 < 7 else next(label for label in obedient.LABELS if label != right)}


def sets(seed: int, train: int, val: int, test: int) -> dict[str, Any]:
    sizes = {"train": train, "val": val, "test": test}
    return {name: obedient.rows(count, 10 * seed + at) for at, (name, count) in enumerate(sizes.items())}


def rules(optimizer: Optimizer, seed: int) -> tuple[float, int]:
    """The best score on the rows of the search, and the calls of the search."""
    task, fake = task_of(obedient.both)
    found = optimize(task, optimizer, **sets(seed, 30, 20, 60), budget=Budget(calls=1_000), seed=seed)
    return max(trial.score for trial in found.report.trials), fake.calls - (120 if found.report.before else 0)


def claims(optimizer: Optimizer, searches: int) -> int:
    """How many searches with nothing to find return another task."""
    count = 0
    for seed in range(searches):
        task, _ = task_of(by_chance)
        count += optimize(task, optimizer, **sets(seed, 30, 20, TEST), budget=Budget(calls=2_000), seed=seed).better
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--searches", type=int, default=100)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    options = parser.parse_args()
    missed = 0
    for optimizer in (InstructionSearch(), GEPA(calls=200)):
        found = [rules(optimizer, seed) for seed in range(10)]
        calls = [count for _, count in found]
        missed += max(calls) > MOST_CALLS or any(score < 1 for score, _ in found)
        whole = sum(score == 1 for score, _ in found)
        name = type(optimizer).__name__
        print(f"three rules, {name}: found in {whole} of 10 searches, {min(calls)} to {max(calls)} calls")
    for optimizer in (LabeledFewShot(sets=6), InstructionSearch(rounds=6), GEPA(calls=100)):
        count = claims(optimizer, options.searches)
        missed += count > MOST_CLAIMS
        print(
            f"nothing to find, {type(optimizer).__name__}: {count} of {options.searches} searches claim a better task"
        )
    if missed and options.check:
        sys.exit(1)


if __name__ == "__main__":
    main()
