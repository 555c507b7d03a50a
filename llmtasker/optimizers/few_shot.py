"""LabeledFewShot and BootstrapFewShot: search among sets of examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from llmtasker.errors import ConfigurationError, counted
from llmtasker.evaluation.gold_rows import GoldRow
from llmtasker.evaluation.metrics import labels_in
from llmtasker.item import Item
from llmtasker.optimizers.search import Search, Trial, was_judged
from llmtasker.signature.signature import Signature
from llmtasker.task import Task
from llmtasker.tasks.classification import Classification
from llmtasker.tasks.instruction import Instruction
from llmtasker.values.argument_checks import check_count

Shown = Mapping[str, Any]
"""An example in the form that the task takes."""


@dataclass(frozen=True, kw_only=True)
class LabeledFewShot:
    """Searches among sets of labelled rows as examples (random search); each set is measured on the rows of `val`.

    Args:
        k: examples in a set; rows with different labels first.
        sets: sets to try.

    Raises:
        ConfigurationError: a number is below 1.
    """

    k: int = 8
    sets: int = 8

    def __post_init__(self) -> None:
        check_count("k", self.k, "the examples of a set")
        check_count("sets", self.sets, "the sets to try")

    def check(self, task: Task[Any], train: Sequence[GoldRow]) -> None:
        """Raise a ConfigurationError if the rows do not have all outputs, so that they can't be shown as examples."""
        needed = {name for name, info in task.signature.output_fields.items() if info.is_required()}
        if missing := needed - train[0].gold.keys():
            raise ConfigurationError(
                f"train has no column for {min(missing)}, so its rows can't be shown as examples: use "
                "BootstrapFewShot, which shows answers of the LLM."
            )

    def most_calls(self, task: Task[Any], train: int, val: int) -> int:
        """Return the calls for all sets."""
        del task, train
        return self.sets * val

    def search(self, search: Search) -> None:
        """Measure each set."""
        shown = [(example_of(search.task, row.given, row.gold), labels_of(row.gold)) for row in search.train]
        for number, drawn in enumerate(draws(shown, self.k, self.sets, search.seed), start=1):
            search.measure(search.task.with_(examples=drawn), f"set {number}, {len(drawn)} labelled rows")


@dataclass(frozen=True, kw_only=True)
class BootstrapFewShot:
    """Searches among sets of examples that an LLM has answered correctly.

    The task answers the rows of `train`; rows with right answers become examples, with their reasoning if the task asks
    for it.
    Each set is measured on `val` (DSPy's BootstrapFewShotWithRandomSearch).

    Args:
        k: examples in a set.
        sets: sets to try.
        teacher: an LLM, or what `LLM.of` accepts, that answers the rows instead of the task's own.

    Raises:
        ConfigurationError: a number is below 1.
    """

    k: int = 4
    sets: int = 8
    teacher: Any = None
    of_steps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("k", self.k, "the examples of a set")
        check_count("sets", self.sets, "the sets to try")

    def check(self, task: Task[Any], train: Sequence[GoldRow]) -> None:
        """Accept any task."""

    def most_calls(self, task: Task[Any], train: int, val: int) -> int:
        """Return the calls for the answers to train, and for all sets."""
        del task
        return train + self.sets * val

    def search(self, search: Search) -> None:
        """Collect right answers, and measure each set of them."""
        teacher = search.task if self.teacher is None else search.task.with_(llm=self.teacher)
        trial = search.look(teacher, search.train)
        shown = list(self._right_answers(search, trial))
        for number, drawn in enumerate(draws(shown, self.k, self.sets, search.seed), start=1):
            shown_as = f"set {number}, {counted(len(drawn), 'row')} answered correctly"
            search.measure(search.task.with_(examples=drawn), shown_as)

    def _right_answers(self, search: Search, trial: Trial) -> Iterator[tuple[Shown, str]]:
        """Yield an example with its labels for each answer in a row that came out right."""
        for row, judged, item in zip(search.train, trial.report.rows, trial.items, strict=True):
            if not was_judged(judged) or judged.scores.get(search.name, 0.0) < 1:
                continue
            for call in search.calls_of(trial.task, item):
                if call.ok:
                    given = search.task.signature.validate_input(call.input).given if search.is_step else row.given
                    right = search.task.answer(call) if search.is_step else row.gold
                    yield self._example(search.task, given, right, call), labels_of(right)

    @staticmethod
    def _example(task: Task[Any], given: Mapping[str, Any], right: Mapping[str, Any], item: Item[Any]) -> Shown:
        outputs = item.output.outputs() if isinstance(item.output, Signature) else right
        example = example_of(task, given, outputs)
        takes_reasoning = task.plan.reasoning and not isinstance(task, Classification | Instruction)
        return {**example, "reasoning": item.reasoning} if takes_reasoning and item.reasoning else example


def example_of(task: Task[Any], given: Mapping[str, Any], outputs: Mapping[str, Any]) -> Shown:
    """Return a row in the form in which a task takes its examples."""
    if isinstance(task, Instruction) and task.plan.as_dict:
        return {**given, "result": dict(outputs)}
    return {**given, **outputs}


def labels_of(answer: Mapping[str, Any]) -> str:
    """Return the property in which a set of examples should vary: the labels of an answer, as a text."""
    return str([sorted(labels_in(value)) for value in answer.values()])


def draws(shown: Sequence[tuple[Shown, str]], k: int, sets: int, seed: int) -> Iterator[list[Shown]]:
    """Yield sets of examples: each drawn at random, with an example of each label before a second one of any."""
    seen = set[tuple[int, ...]]()
    for number in range(sets):
        random = Random(f"{seed} {number}")  # noqa: S311 - a draw, not a secret
        order = random.sample(range(len(shown)), len(shown))
        rounds: dict[str, int] = {}
        places: list[tuple[int, int]] = []
        for rank, at in enumerate(order):
            times = rounds[shown[at][1]] = rounds.get(shown[at][1], 0) + 1
            places.append((times, rank))
        chosen = tuple(order[rank] for _, rank in sorted(places)[:k])
        if chosen and chosen not in seen:
            seen.add(chosen)
            random_order = random.sample(chosen, len(chosen))
            yield [shown[at][0] for at in random_order]
