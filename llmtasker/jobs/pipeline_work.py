"""PipelineWork: the work of a pipeline on one row; work_on: the work of a task or a pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeGuard

from pydantic import ValidationError

from llmtasker.files.cells import cell_json
from llmtasker.item import Item
from llmtasker.jobs.row_work import RowWork, identity_of, row_identity, task_parts, without_input
from llmtasker.pipelines.pipeline import Pipeline
from llmtasker.task import Task
from llmtasker.values.json_values import parse_json

TaskLike = Task[Any] | Pipeline[Any, Any]
"""A task or a pipeline, which can run over the rows of files and jobs."""


class PipelineWork:
    """The results of a pipeline for rows, in the form in which they are stored.

    The behaviour of a Python function can't be seen from outside, so its user marks changes with a version. A row is
    done if an item is stored under its identity: the values of its inputs, the version, the fields, and the requests of
    the tasks that can be seen in the code. Without a version, only this pipeline in this process recognises its
    finished rows: another process runs the function again, with the cached answers of its steps.

    With `explode`, the answer of a row is a list with one member for each written row.
    """

    def __init__(self, pipeline: Pipeline[Any, Any]) -> None:
        self.task = pipeline
        self.asked = pipeline.whole()
        self.lasting = pipeline.version is not None

    @cached_property
    def parts(self) -> dict[str, Any]:
        """What all answers depend on, as far as it is known, by the name of what a person may change."""
        pipeline, signature = self.task, self.task.signature
        return {
            "function or version": [signature.__name__, pipeline.version],
            "input or output fields": [
                [half.model_json_schema() for half in (signature.input_model, signature.output_model)],
                pipeline.explodes,
            ],
            "tasks in it": [[name, task_parts(task)] for name, task in _tasks(pipeline, set())],
        }

    @cached_property
    def whole(self) -> str:
        """The identity of what all answers depend on, as a short text."""
        return identity_of([self.parts, self.task.code])

    def identity(self, given: Mapping[str, Any]) -> bytes:
        """Return the identity of the work on an input, 16 bytes."""
        return row_identity(self.whole, given)

    def answer(self, item: Item[Any]) -> Any:
        """Return the output of an item by field, as JSON; with `explode`, a list of these."""
        if self.task.explodes:
            return [self.task.answer_of(output) for output in item.value]
        return self.task.answer(item)

    def cells(self, item: Item[Any]) -> list[Mapping[str, Any]]:
        """Return the output of an item by field: one for each row that is written for it."""
        if not item.ok:
            return [{}]
        answer = self.answer(item)
        return [self._typed(one) for one in answer] or [{}] if self.task.explodes else [self._typed(answer)]

    def sure(self, item: Item[Any]) -> None:
        """Return None: the confidence of several steps is not known."""

    def kept(self, item: Item[Any]) -> str:
        """Return the whole item as JSON, except its input, which is stored with the row."""
        return without_input(item, self.answer(item) if item.ok else None)

    def read(self, text: str, given: Mapping[str, Any]) -> Item[Any]:
        """Return the item that `kept` wrote; its output has the fields of the original output."""
        return self.item(parse_json(text), given)

    def item(self, kept: Mapping[str, Any], given: Mapping[str, Any]) -> Item[Any]:
        """Return the whole item of a row, as `read`."""
        item = Item[Any].from_dict({**kept, "output": None, "input": given})
        if item.error is not None:
            return item
        answer, output_of = kept["output"], self.task.output_of
        return replace(item, output=list(map(output_of, answer)) if self.task.explodes else output_of(answer))

    def _typed(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an answer with the types of its fields, such as dates, for files with types."""
        model = self.task.signature.output_model
        try:
            record = model.model_validate_json(cell_json(answer))
        except ValidationError:
            return answer
        return {name: getattr(record, name) for name in answer}


def work_on(task: TaskLike) -> RowWork | PipelineWork:
    """Return the work of a task or a pipeline."""
    return PipelineWork(task) if isinstance(task, Pipeline) else RowWork(task)


def tasks_in(task: TaskLike) -> list[Task[Any]]:
    """Return a task, or the tasks that can be seen in the code of a pipeline."""
    return [one for _, one in _tasks(task, set())] if isinstance(task, Pipeline) else [task]


def _tasks(pipeline: Pipeline[Any, Any], seen: set[int]) -> Iterator[tuple[str, Task[Any]]]:
    """Yield the tasks that can be seen in the code of a pipeline, and of the pipelines in it, by name."""
    seen.add(id(pipeline))
    for name, value in pipeline.used:
        if isinstance(value, Task):
            yield name, value
        elif _is_pipeline(value) and id(value) not in seen:
            yield from ((f"{name}: {inner}", task) for inner, task in _tasks(value, seen))


def _is_pipeline(value: object) -> TypeGuard[Pipeline[Any, Any]]:
    return isinstance(value, Pipeline)
