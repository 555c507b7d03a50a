"""SearchReport: what a search tried, what it cost, and why a task was found or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from llmtasker.errors import counted
from llmtasker.evaluation.comparison import Comparison
from llmtasker.evaluation.evaluation_report import Report
from llmtasker.optimizers.search import Trial
from llmtasker.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchEstimate:
    """The most that a search may cost, before anything is asked: calls of the search and of the test.

    `tokens` and `cost` (US dollars; None: the price is unknown) assume prompts as long as they are now; both are None
    for a pipeline, whose prompts are known only when it runs. Cached rows and candidates that fail early reduce them.
    """

    search_calls: int
    test_calls: int
    tokens: int | None
    cost: float | None

    @property
    def calls(self) -> int:
        """All calls."""
        return self.search_calls + self.test_calls

    def __str__(self) -> str:
        cost = "cost unknown" if self.cost is None else f"${self.cost:,.2f}"
        tokens = "tokens unknown" if self.tokens is None else f"about {counted(self.tokens, 'token')}"
        return (
            f"at most {counted(self.calls, 'call')} ({self.search_calls:,} to search, {self.test_calls:,} to test), "
            f"{tokens}, {cost}"
        )


@dataclass(frozen=True, kw_only=True)
class SearchReport:
    """The result of a search; `print(report)` shows it.

    `better` is whether the candidate is shown to be better on the test rows; `reason` explains why or why not.
    `comparison` and the reports `before` and `after` are None if no candidate was worth testing. `spent` has cost,
    tokens and calls.
    """

    better: bool
    reason: str
    trials: tuple[Trial, ...] = field(repr=False)
    candidate: Task[Any] = field(repr=False)
    comparison: Comparison | None
    before: Report | None = field(repr=False)
    after: Report | None = field(repr=False)
    estimate: SearchEstimate
    spent: dict[str, float]
    ended: str | None = None

    def __str__(self) -> str:
        lines = [self.reason]
        if self.ended is not None:
            lines.append(f"The search ended early: {self.ended}.")
        if self.trials:
            best, first = max(self.trials, key=lambda trial: trial.score), self.trials[0]
            scores = f"{first.score:.3f} before, {best.score:.3f} at best ({best.what})"
            lines.append(
                f"Measured {counted(len(self.trials), 'candidate')} on {counted(first.rows, 'row')}: {scores}."
            )
        lines.append(f"Asked now: {counted(self.spent['calls'], 'call')}, {counted(self.spent['tokens'], 'token')}.")
        return "\n".join(lines)
