"""MeasuredTask: the task or pipeline that is measured, reduced to what a measurement needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack, cast

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.evaluation.cascade_run import Cascade
from llmtasker.evaluation.gold_rows import GoldRow
from llmtasker.item import Item, jsonable, sum_of
from llmtasker.pipelines.pipeline import Pipeline
from llmtasker.runner.task_run import RunOptions
from llmtasker.signature.signature import Signature
from llmtasker.task import Task

Measurable = Task[Any] | Pipeline[Any, Any] | Cascade[Any]
"""What can be measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredTask:
    """A task or pipeline to measure.

    `answer` returns the output of an item by field, as JSON; `cost` the cost of an item's answers in US dollars,
    including cached ones, or None.
    """

    task: Measurable
    signature: type[Signature]
    answer: Callable[[Item[Any]], Mapping[str, Any]]
    cost: Callable[[Item[Any]], float | None]

    @classmethod
    def of(cls, task: Measurable) -> MeasuredTask:
        """Return a task, a pipeline or a cascade as a measured task.

        Raises:
            ConfigurationError: it is something else, or a pipeline with several outputs per input.
        """
        value = cast("object", task)  # at run time it may be anything
        if not isinstance(value, Task | Pipeline | Cascade):
            raise ConfigurationError(f"a task or a pipeline can be measured, not {snippet(repr(value), 60)}.")
        if isinstance(task, Pipeline):
            if task.explodes:
                raise ConfigurationError(f"{task!r} has several outputs for an input: measure it without explode=True.")
            answer, cost = task.answer, task.answer_cost
            return cls(task=task, signature=task.signature, answer=answer, cost=cost)
        signature = task.signature
        tasks = task.tasks if isinstance(task, Cascade) else (task,)
        fields = tuple(signature.output_fields)

        def answer_of(item: Item[Any]) -> dict[str, Any]:
            output = item.output
            if isinstance(output, Signature):
                return {name: jsonable(getattr(output, name)) for name in fields}
            return tasks[0].answer(item)  # a ready-made task does not show its record

        def paid(item: Item[Any]) -> float | None:
            return sum_of(_paid(one, step) for one, step in zip(tasks, item.steps or (item,), strict=False))

        return cls(task=task, signature=signature, answer=answer_of, cost=paid)


async def answered(task: Measurable, rows: Sequence[GoldRow], **options: Unpack[RunOptions]) -> list[Item[Any]]:
    """Return an item for each gold row; an input that does not fit is not sent, and its item has the error."""
    items = iter(await task.arun([dict(row.given) for row in rows if row.error is None], **options))
    return [next(items) if row.error is None else Item(input=row.given, error=row.error) for row in rows]


def _paid(task: Task[Any], item: Item[Any]) -> float | None:
    return task.llm.cost(item.answer_usage) if item.cached and item.answer_usage.total else item.cost
