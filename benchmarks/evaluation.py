"""The CPU that an evaluation of cached rows takes beside a run of them: at most 1.3 times as much.

python benchmarks/evaluation.py [ROWS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from typing import Literal

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.evaluation import evaluate
from llmtasker.testing import FakeTransport

ROUNDS = 7


class Triage(Signature):
    """Route the message."""

    message: str = InputField()
    team: Literal["billing", "delivery", "other"] = OutputField()


def cpu(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        llm = LLM(transport=FakeTransport({"team": "billing"}, keep_requests=False), cache=folder)
        task = Task(Triage, llm=llm)
        gold = [{"message": f"message {number}, and what it says", "team": "billing"} for number in range(rows)]
        inputs = [{"message": row["message"]} for row in gold]
        task.run(inputs, progress=False)
        runs, evaluations = list[float](), list[float]()
        for _ in range(ROUNDS):  # in turn, so that whatever else runs here slows both
            runs.append(cpu(lambda: task.run(inputs, progress=False)))
            evaluations.append(cpu(lambda: evaluate(task, gold, progress=False)))
        print(f"{rows:,} cached rows: run {min(runs):.2f} s, evaluate {min(evaluations):.2f} s of CPU")
        print(f"evaluate / run: {min(evaluations) / min(runs):.2f}, at most 1.3")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 10_000)
