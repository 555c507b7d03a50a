"""PipelineWork: the work of a pipeline on one row; work_on: the work of a task or a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import repeat
from typing import Any, TypeGuard

from llmtasker.errors import snippet
from llmtasker.item import Item
from llmtasker.jobs.row_work import RowWork, identity_of, row_identity, task_parts, without_input
from llmtasker.pipelines.pipeline import Pipeline
from llmtasker.pipelines.used_values import llms_in
from llmtasker.runner.task_run import rows_at_once
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
            "tasks in it": [[name, task_parts(task)] for name, task in pipeline.used if _is_task(task)],
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
        answers = list(map(self.task.answer_of, self._outputs(item)))
        return answers if self.task.explodes else answers[0]

    def cells(self, item: Item[Any]) -> list[Mapping[str, Any]]:
        """Return the output of an item by field, with its types: one for each row that is written for it."""
        return list(map(self.task.cells_of, self._outputs(item))) or [{}] if item.ok else [{}]

    def _outputs(self, item: Item[Any]) -> list[Any]:
        return item.value if self.task.explodes else [item.value]

    def sure(self, item: Item[Any]) -> None:
        """Return None: the confidence of several steps is not known."""

    def kept(self, item: Item[Any]) -> str:
        """Return the whole item as JSON, except its input, which is stored with the row.

        "judged_with" has the input fields with which each output is validated again; it is missing if the class of the
        output does not accept what it gave, because its JSON has another form.
        """
        if not item.ok:
            return without_input(item)
        answer, given = self.answer(item), list(map(self.task.inputs_of, self._outputs(item)))
        try:
            self._read(answer, given)
        except ValueError:
            return without_input(item, answer)
        return without_input(item, answer, judged_with=given)

    def read(self, text: str, given: Mapping[str, Any]) -> Item[Any] | None:
        """Return the item that `kept` wrote, its output validated again; None if the class no longer accepts it."""
        kept = parse_json(text)
        item = Item[Any].from_dict({**kept, "output": None, "input": given})
        if item.error is not None:
            return item
        try:
            return replace(item, output=self._read(kept["output"], kept.get("judged_with")))
        except ValueError:
            return None

    def item(self, kept: Mapping[str, Any], given: Mapping[str, Any]) -> Item[Any]:
        """Return the whole item of a row; its output is not validated again, but has the fields of the original."""
        item = Item[Any].from_dict({**kept, "output": None, "input": given})
        return item if item.error is not None else replace(item, output=self._read(kept["output"], None))

    def _read(self, answer: Any, given: Sequence[Mapping[str, Any]] | None) -> Any:
        answers = answer if self.task.explodes else [answer]
        inputs = given or repeat(None)
        try:
            outputs = list(map(self.task.output_of, answers, inputs))
        except Exception as error:  # noqa: BLE001 - the validators of the class may raise anything
            raise ValueError(snippet(error)) from None
        return outputs if self.task.explodes else outputs[0]


def work_on(task: TaskLike) -> RowWork | PipelineWork:
    """Return the work of a task or a pipeline."""
    return PipelineWork(task) if isinstance(task, Pipeline) else RowWork(task)


def _is_task(value: object) -> TypeGuard[Task[Any]]:
    return isinstance(value, Task)


def rows_at_once_of(task: TaskLike, given: int | None) -> int:
    """Return how many rows of a task or a pipeline are processed at once, with the `concurrency` that is given."""
    return rows_at_once(given, llms_in(task.used) if isinstance(task, Pipeline) else [task.llm])
