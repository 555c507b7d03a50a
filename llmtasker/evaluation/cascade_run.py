"""Cascade: tasks in order of price; each is asked about the rows that the one before is not sure of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, Unpack

from llmtasker.confidence.calibration_text import promise, repeated_rows
from llmtasker.errors import BudgetError, InputError
from llmtasker.item import Item, together
from llmtasker.portal import portal
from llmtasker.results import Results
from llmtasker.runner.inputs import InputRows
from llmtasker.runner.task_run import RunOptions
from llmtasker.signature.signature import Signature
from llmtasker.task import Task
from llmtasker.values.language import Code, Locale, locale_of

T = TypeVar("T")

_NOT_GIVEN: Any = object()


@dataclass(frozen=True, kw_only=True)
class CascadeReport:
    """The result of a cascade on its labelled rows; `print` shows it.

    `answered` and `wrong` count rows, by task in order; `to_people` counts rows that no task answers. `cost_ratio` is
    the cost of the cascade relative to the last task alone, in `unit`s: US dollars, or tokens if a price is not known.
    A threshold is infinite if its task is not asked. `bound` is the upper bound of the share of wrong answers.
    `repeated` rows have the input of an earlier one.
    """

    names: tuple[str, ...]
    rows: int
    answered: tuple[int, ...]
    wrong: tuple[int, ...]
    to_people: int
    thresholds: tuple[float, ...]
    cost_ratio: float | None
    unit: str
    max_risk: float
    certainty: float
    bound: float
    repeated: int = 0

    def __str__(self) -> str:
        return self.text()

    def text(self, language: Code = "en") -> str:
        """Return the report in sentences, as `print` shows it; `language` is "en" or "fr"."""
        words = locale_of(language)
        lines = [
            words.text(
                "{number}. {llm} answers {count} of {rows} {rows:row|rows} ({share}), {wrong} wrong",
                number=number,
                llm=name,
                count=words.number(count),
                rows=words.count(self.rows),
                share=self._share(words, count),
                wrong=words.count(wrong),
            )
            for number, (name, count, wrong) in enumerate(
                zip(self.names, self.answered, self.wrong, strict=True), start=1
            )
        ]
        people, share = words.count(self.to_people), self._share(words, self.to_people)
        lines.append(words.text("people get {rows} {rows:row|rows} ({share})", rows=people, share=share))
        if self.cost_ratio is not None:
            lines.append(
                words.text(
                    "it costs {times} times as much as {llm} alone, in {unit}",
                    times=words.number(self.cost_ratio, 2),
                    llm=self.names[-1],
                    unit=words.text("tokens") if self.unit == "tokens" else words.text("US dollars"),
                )
            )
        if self.repeated:
            lines.append(repeated_rows(words, self.repeated))
        return "\n".join([*lines, promise(words, self.max_risk, self.bound, self.certainty)])

    def _share(self, words: Locale, part: int) -> str:
        return words.percent(part / max(self.rows, 1), 0)


class Cascade(Generic[T]):
    """Tasks in order: each answers what it is sure of; call it for one input, `run` it over many; made by `cascade`.

    `item.steps` has the item of each task that was asked; the item counts their tokens, costs and calls. If no task is
    sure, the item has an AbstainedError with the best guess of the last one.
    """

    def __init__(self, tasks: Sequence[Task[T]], report: CascadeReport) -> None:
        self.tasks = tuple(tasks)
        self.report = report

    @property
    def signature(self) -> type[Signature]:
        """The fields of the inputs and outputs."""
        return self.tasks[0].signature

    def __call__(self, given: Any = _NOT_GIVEN, /, **fields: Any) -> Item[T]:
        """Return the item of one input: a value, a mapping, a record, or the input fields as keywords."""
        return portal().call(self.acall(given, **fields))

    async def acall(self, given: Any = _NOT_GIVEN, /, **fields: Any) -> Item[T]:
        """Return the item of one input, without blocking the event loop; see `__call__`."""
        steps = list[Item[T]]()
        for task in self.tasks:
            steps.append(await (task.acall(**fields) if given is _NOT_GIVEN else task.acall(given, **fields)))
            if not _goes_on(steps[-1]):
                break
        return _joined(steps)

    def run(self, inputs: InputRows, **options: Unpack[RunOptions]) -> Results[T]:
        """Return an item for each input, in order, even where some fail; the options are those of `Task.run`.

        The tasks run one after the other, each over the rows that reach it; a `budget` covers them all.
        """
        return portal().call(self.arun(inputs, **options))

    async def arun(self, inputs: InputRows, **options: Unpack[RunOptions]) -> Results[T]:
        """Return an item for each input, in order, without blocking the event loop; see `run`."""
        first = await self.tasks[0].arun(inputs, **options)
        steps = [[item] for item in first]
        for task in self.tasks[1:]:
            waiting = [number for number, items in enumerate(steps) if _goes_on(items[-1])]
            if not waiting:
                break
            results = await task.arun([steps[number][0].input for number in waiting], **options)
            for number, item in zip(waiting, results, strict=True):
                steps[number].append(item)
        return Results([_joined(items) for items in steps], fields=tuple(self.signature.output_fields))

    def __repr__(self) -> str:
        return f"Cascade({', '.join(map(repr, self.tasks))})"


def _goes_on(item: Item[Any]) -> bool:
    """Return whether the next task is asked: this one abstained or failed, and not because of the input or the
    budget."""
    return item.error is not None and not isinstance(item.error, InputError | BudgetError)


def _joined(steps: Sequence[Item[T]]) -> Item[T]:
    return replace(together(steps[-1], steps), steps=tuple(steps))
