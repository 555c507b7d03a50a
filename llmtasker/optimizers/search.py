"""Search: what an optimizer can do: measure a candidate, ask an LLM for a proposal, and stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any, Protocol

from llmtasker.compiler.answer_model import labels_of
from llmtasker.errors import (
    AbstainedError,
    BudgetError,
    ConfigurationError,
    ItemError,
    LLMTaskerError,
    OutputError,
    PipelineError,
    counted,
)
from llmtasker.evaluation.evaluate import evaluated
from llmtasker.evaluation.evaluation_report import Report
from llmtasker.evaluation.figures import ReportRow
from llmtasker.evaluation.gold_rows import GoldRow
from llmtasker.evaluation.measured_task import Measurable
from llmtasker.evaluation.metrics import Metric
from llmtasker.item import Item
from llmtasker.results import Results
from llmtasker.runner.budget import Budget
from llmtasker.task import Task

_ENOUGH = 0.8  # of the rows must have been judged, or a candidate is not


class SearchEnded(Exception):  # noqa: N818 - it is not an error: the best so far is judged
    """The search can't go on: the budget is used up, or the endpoint fails."""


class SearchCancelled(Exception):  # noqa: N818 - nobody waits for it any more
    """The caller was cancelled: nothing more is asked, nothing is judged."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A measured candidate: the task, its description, its score and how many rows were judged.

    A row whose call failed was not judged; one whose answer does not fit was, and counts as 0. `items` are those of the
    rows of the report, in order.
    """

    task: Task[Any] = field(repr=False)
    what: str
    score: float
    rows: int
    report: Report = field(repr=False)
    items: Sequence[Item[Any]] = field(repr=False)


class Optimizer(Protocol):
    """A method of searching for a better task.

    With an attribute `of_steps` that is true, it also improves a step of a pipeline, although the rows have no right
    answers of that step.
    """

    def check(self, task: Task[Any], train: Sequence[GoldRow]) -> None:
        """Raise a ConfigurationError if it can't improve such a task with such rows."""
        ...

    def most_calls(self, task: Task[Any], train: int, val: int) -> int:
        """Return the most calls of a search with this many rows to learn from and to measure on."""
        ...

    def search(self, search: Search) -> None:
        """Measure candidates with `search.measure`; the best one is taken."""
        ...


class Search:
    """One search: the task, its rows and the trials. All calls go through the cache, so the same search, run again,
    makes only the missing calls.

    Args:
        task: the task to improve.
        whole: returns what is measured of a candidate: the candidate itself, or the pipeline that calls it.
        train: rows to learn from, whose answers may be shown in prompts.
        val: rows to measure candidates on.
        name: the field or metric that counts.
        budget: the budget of all calls; None: no limit.
        seed: the seed of all random choices.
        concurrency: rows that are processed at once; None: as for `Task.run`.
        metrics: the user's metrics, by name.
        progress: is called with a line for each candidate.
        cancelled: once set, nothing more is asked.
    """

    def __init__(
        self,
        task: Task[Any],
        whole: Callable[[Task[Any]], Measurable],
        train: Sequence[GoldRow],
        val: Sequence[GoldRow],
        *,
        name: str,
        budget: Budget | None,
        seed: int,
        concurrency: int | None,
        metrics: Mapping[str, Metric],
        progress: Callable[[str], None] | None,
        cancelled: Event | None = None,
    ) -> None:
        self.task = task
        self.is_step = whole(task) is not task
        self.train = train
        self.val = val
        self.name = name
        self.seed = seed
        self.trials: list[Trial] = []
        self._whole = whole
        self._budget = budget
        self._concurrency = concurrency
        self._metrics = metrics
        self._progress = progress
        self._cancelled = cancelled

    def begin(self) -> Trial:
        """Measure the original task on the rows for measuring; every search begins with it."""
        return self.trials[0] if self.trials else self.measure(self.task, "the original task")

    @property
    def best(self) -> Trial:
        """The best candidate so far, the earliest of equal ones."""
        return max(self.trials, key=lambda trial: trial.score)

    def measure(self, task: Task[Any], what: str) -> Trial:
        """Measure a candidate on all rows for measuring, and remember it.

        Raises:
            SearchEnded: too many calls failed to judge it.
        """
        trial = self.look(task, self.val, what)
        self.trials.append(trial)
        if self._progress is not None:
            self._progress(f"{what}: {trial.score:.3f} on {counted(trial.rows, 'row')}")
        return trial

    def look(self, task: Task[Any], rows: Sequence[GoldRow], what: str = "") -> Trial:
        """Return a candidate measured on some rows, to learn from it; that does not make it a result.

        Raises:
            SearchEnded: too many calls failed to judge it.
        """
        report, items = self.evaluate(task, rows, self._budget)
        judged = [row for row in report.rows if was_judged(row)]
        if len(judged) < _ENOUGH * len(rows):
            raise SearchEnded(why_not_judged(report))
        score = sum(row.scores.get(self.name, 0.0) for row in judged) / len(judged)
        return Trial(task=task, what=what, score=score, rows=len(judged), report=report, items=items)

    def evaluate(
        self, task: Task[Any], rows: Sequence[GoldRow], budget: Budget | None
    ) -> tuple[Report, list[Item[Any]]]:
        """Return the report of a candidate on some rows, and the items of these."""
        self._check_cancelled()
        return evaluated(
            self._whole(task), rows, self._metrics, budget=budget, concurrency=self._concurrency, progress=False
        )

    def calls_of(self, task: Task[Any], item: Item[Any]) -> Iterator[Item[Any]]:
        """Yield the items of a candidate within an item of what is measured: this item, or those of its step."""
        if not self.is_step:
            yield item
        elif item.steps:
            for step in item.steps:
                yield from self.calls_of(task, step)
        elif item.request is not None and item.request.key == _key(task, item.input):
            yield item

    def run(self, task: Task[Any], inputs: Sequence[Mapping[str, Any]]) -> Results[Any]:
        """Return the items of inputs, charged to the budget of the search."""
        self._check_cancelled()
        return task.run(list(inputs), budget=self._budget, concurrency=self._concurrency, progress=False)

    def _check_cancelled(self) -> None:
        if self._cancelled is not None and self._cancelled.is_set():
            raise SearchCancelled

    def ask(self, proposer: Task[Any], **fields: Any) -> Any:
        """Return the output of a proposer, or None if it gives none that fits.

        Raises:
            SearchEnded: the call failed.
        """
        item: Item[Any] = self.run(proposer, [fields])[0]
        if item.error is not None and not isinstance(item.error, OutputError):
            raise SearchEnded(_ended(item.error.code, item.error.message))
        return item.output


def _key(task: Task[Any], given: Any) -> str | None:
    try:
        return task.preview(given).request.key
    except LLMTaskerError:
        return None  # the input of another step


_ANSWERED: list[type[ItemError]] = [OutputError, *OutputError.__subclasses__(), AbstainedError, PipelineError]
_JUDGED = {kind.code for kind in _ANSWERED}


def was_judged(row: ReportRow) -> bool:
    """Return whether a row was answered, correctly or not; if the call failed, the task is not to blame."""
    return row.error is None or row.error[0] in _JUDGED


def judged_only(report: Report) -> Report:
    """Return a report without the rows whose call failed."""
    return replace(report, rows=tuple(row for row in report.rows if was_judged(row)))


def why_not_judged(report: Report) -> str:
    """Return why rows were not judged, by the most frequent error."""
    failed = [row.error for row in report.rows if row.error is not None and not was_judged(row)]
    codes = [code for code, _ in failed]
    code = BudgetError.code if BudgetError.code in codes else max(codes, key=codes.count)
    return _ended(code, next(message for other, message in failed if other == code))


def _ended(code: str, message: str) -> str:
    return "the budget is used up" if code == BudgetError.code else f"calls fail: {message}"


def instructions_of(task: Task[Any]) -> str:
    """Return the instructions of a task, with their variables."""
    return task.signature.instructions


def only_field(task: Task[Any], what: str) -> str:
    """Return the one output field that has labels.

    Raises:
        ConfigurationError: no output field has labels, or several have.
    """
    found = list(labels_of(task.signature.output_model))
    if len(found) != 1:
        raise ConfigurationError(
            f"{what} needs one output field with labels; the task has {', '.join(found) or 'none'}."
        )
    return found[0]
