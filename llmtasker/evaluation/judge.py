"""judge: an LLM that scores answers, as a metric; it is a separate task, which can be measured like any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack, cast

from llmtasker.errors import ConfigurationError, ItemError, snippet
from llmtasker.evaluation.metrics import kind_of, labels_of_type
from llmtasker.evaluation.user_metrics import is_score
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
        """Return the judge's input for an answer."""
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
        return {name: known[name] for name in self.task.signature.input_fields if name in known}

    def check_inputs(self, signature: type[Signature]) -> None:
        """Check that the records of a signature have what the judge needs.

        Raises:
            ConfigurationError: an input field of the judge is neither an input nor an output.
        """
        right = [f"{_RIGHT}{name}" for name in signature.output_fields]
        known = [*signature.input_fields, *signature.output_fields, *right]
        for name, info in self.task.signature.input_fields.items():
            if self.inputs is None and info.is_required() and name not in known:
                raise ConfigurationError(f"the judge needs {name!r}; known: {', '.join(known)}. Give judge(inputs=…).")

    def score(self, item: Item[Any]) -> float:
        """Return the score in an item of the judge.

        Raises:
            ItemError: the judge failed.
            ValueError: the answer is not a score.
        """
        output = item.value
        value = getattr(output, self.output) if isinstance(output, Signature) else output
        score = float(value) if self.points is None else self.points[label_text(value)]
        if not is_score(score):
            raise ValueError(f"{score} is not a score")
        return score

    async def scores(
        self, asked: Sequence[tuple[Any, Item[Any]]], **options: Unpack[RunOptions]
    ) -> tuple[list[float | Exception], Sequence[Item[Any]]]:
        """Return the score of each pair of gold and item, or why it has none; and the items of the judge."""
        questions, found = dict[int, Mapping[str, Any]](), dict[int, float | Exception]()
        for at, (gold, item) in enumerate(asked):
            try:
                questions[at] = self.question(gold, item)
            except Exception as error:  # noqa: BLE001 - `inputs` is the user's
                found[at] = error
        items: Sequence[Item[Any]] = await self.task.arun(list(questions.values()), **options) if questions else []
        for at, item in zip(questions, items, strict=True):
            try:
                found[at] = self.score(item)
            except (ItemError, TypeError, ValueError) as error:
                found[at] = error
        return [found[at] for at in range(len(asked))], items


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
        ConfigurationError: it is not a task, there is no such output, or `points` are not those of its labels.

    >>> from llmtasker import LLM, InputField, OutputField, Signature, Task
    >>> from llmtasker.testing import FakeTransport
    >>> class Polite(Signature):
    ...     "Say whether the reply is polite."
    ...     reply: str = InputField()
    ...     polite: bool = OutputField()
    >>> judge(Task(Polite, llm=LLM(transport=FakeTransport({"polite": True})))).output
    'polite'
    """
    _check_task(task)
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
    name = output or fit[0]
    own = None if points is None else _points(points, fields[name].annotation)
    return Judge(task=task, output=name, points=own, inputs=inputs)


def _check_task(task: object) -> None:
    if not isinstance(task, Task):
        raise ConfigurationError(f"judge takes a task, not {snippet(repr(task), 60)}.")


def _points(points: Mapping[Any, float], annotation: Any) -> dict[str, float]:
    """Return the points by the texts of the labels.

    Raises:
        ConfigurationError: a label has no points, there is no such label, or its points are not a number.
    """
    own, labels = {label_text(label): value for label, value in points.items()}, labels_of_type(annotation)
    known = list(map(label_text, labels))
    if missing := [label for label in known if label not in own]:
        raise ConfigurationError(f"judge: points has no score for the label {missing[0]!r}.")
    if unknown := [label for label in own if known and label not in known]:
        raise ConfigurationError(f"judge: points has {unknown[0]!r}, which is not a label: {', '.join(known)}.")
    for label, value in own.items():
        if not (isinstance(cast("object", value), int | float) and is_score(value)):
            raise ConfigurationError(f"judge: the points of {label!r} are a number, not {snippet(repr(value), 40)}.")
    return {label: float(value) for label, value in own.items()}


def _why(output: str, fields: Sequence[str], kinds: Mapping[str, str]) -> str:
    if output not in kinds:
        return f"judge: there is no output {snippet(output, 40)!r}; the outputs are {', '.join(fields)}."
    return f"judge: {output} is neither a number nor a boolean: give points={{label: score}} for its labels."
