"""judge: an LLM that scores answers, as a metric; it is a separate task, which can be measured like any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

from llmtasker.errors import ConfigurationError, InputError, snippet
from llmtasker.evaluation.metrics import kind_of
from llmtasker.item import Item
from llmtasker.runner.task_run import RunOptions
from llmtasker.signature.fields import label_text
from llmtasker.signature.signature import Signature
from llmtasker.task import Task
from llmtasker.values.json_values import is_object

_RIGHT = "right_"


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A metric whose scores an LLM gives; made by `judge`. Rows on which it fails have no score, and are counted."""

    task: Task[Any]
    output: str
    points: Mapping[str, float] | None
    inputs: Callable[[Any, Item[Any]], Mapping[str, Any]] | None = field(default=None)

    def __call__(self, gold: Any, item: Item[Any]) -> float:
        """Return the score of one answer, with a blocking call.

        Raises:
            ItemError: the judge gave no score.
        """
        return self.score(self.task(self.question(gold, item)))

    def question(self, gold: Any, item: Item[Any]) -> Mapping[str, Any]:
        """Return the judge's input for an answer.

        Raises:
            InputError: a field of the judge is in neither the input nor the output.
        """
        if self.inputs is not None:
            return self.inputs(gold, item)
        right = {name: getattr(gold, name, None) for name in gold.output_fields}
        output = item.output
        if isinstance(output, Signature):
            answered = output.outputs()
        elif is_object(output) and output.keys() == right.keys():
            answered = dict(output)
        else:  # a ready-made task shows its one field without the record
            answered = dict.fromkeys(right, output)
        known = {**gold.inputs(), **{f"{_RIGHT}{name}": value for name, value in right.items()}, **answered}
        wanted = self.task.signature.input_fields
        if missing := [name for name, info in wanted.items() if name not in known and info.is_required()]:
            raise InputError(f"the judge needs {missing[0]!r}; known: {', '.join(known)}. Give judge(inputs=…).")
        return {name: known[name] for name in wanted if name in known}

    def score(self, item: Item[Any]) -> float:
        """Return the score in an item of the judge.

        Raises:
            ItemError: the judge failed.
        """
        output = item.value
        value = getattr(output, self.output) if isinstance(output, Signature) else output
        return float(value) if self.points is None else self.points[label_text(value)]

    async def scores(
        self, asked: Sequence[tuple[Any, Item[Any]]], **options: Unpack[RunOptions]
    ) -> tuple[list[float | None], Sequence[Item[Any]]]:
        """Return the score of each pair of gold and item (None: no score), and the items of the judge."""
        questions = list[Any]()
        for gold, item in asked:
            try:
                questions.append(self.question(gold, item))
            except Exception:  # noqa: BLE001 - `inputs` is the user's, and an output may lack what is asked for
                questions.append(None)  # an input that the task refuses
        items: Sequence[Item[Any]] = await self.task.arun(questions, **options) if questions else []
        return [self.score(item) if item.ok else None for item in items], items


def judge(
    task: Task[Any],
    *,
    output: str | None = None,
    points: Mapping[Any, float] | None = None,
    inputs: Callable[[Any, Item[Any]], Mapping[str, Any]] | None = None,
) -> Judge:
    """Return a metric for `evaluate` whose scores a task gives.

    Each input field of the task gets the value with the same name: an input of the row, an output of the answer or,
    named `right_…`, the right output. `evaluate(task, labels_of_people)` measures how far it agrees with people.

    Args:
        task: answers with a bool, a number, or a label.
        output: the output field with the score; None: the only one that can have it.
        points: the score of each label, if the output is a label.
        inputs: a function that makes the judge's input from the gold record and the item instead.

    Raises:
        ConfigurationError: there is no such output, or labels without points.

    >>> from llmtasker import LLM, InputField, OutputField, Signature, Task
    >>> from llmtasker.testing import FakeTransport
    >>> class Polite(Signature):
    ...     "Say whether the reply is polite."
    ...     reply: str = InputField()
    ...     polite: bool = OutputField()
    >>> judge(Task(Polite, llm=LLM(transport=FakeTransport({"polite": True})))).output
    'polite'
    """
    fields = task.signature.output_fields
    kinds = {name: kind_of(info.annotation) for name, info in fields.items()}
    scored = {name for name, info in fields.items() if info.annotation is bool or points is not None}
    fit = [name for name, kind in kinds.items() if kind == "number" or (kind == "label" and name in scored)]
    if output is not None and output not in fit:
        raise ConfigurationError(_why(output, list(fields), kinds))
    if output is None and len(fit) != 1:
        raise ConfigurationError(
            f"judge: {', '.join(fit) or 'no output'} can be the score: give output=…; labels need points={{…}}."
        )
    own = None if points is None else {label_text(label): float(value) for label, value in points.items()}
    return Judge(task=task, output=output or fit[0], points=own, inputs=inputs)


def _why(output: str, fields: Sequence[str], kinds: Mapping[str, str]) -> str:
    if output not in kinds:
        return f"judge: there is no output {snippet(output, 40)!r}; the outputs are {', '.join(fields)}."
    return f"judge: {output} is neither a number nor a boolean: give points={{label: score}} for its labels."
