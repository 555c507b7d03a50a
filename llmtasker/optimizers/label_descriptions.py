"""LabelDescriptions: an LLM describes the labels that are confused with each other, from the rows that show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

from llmtasker.compiler.answer_model import labels_of
from llmtasker.errors import ConfigurationError, LLMTaskerError
from llmtasker.evaluation.gold_rows import GoldRow
from llmtasker.evaluation.metrics import labels_in
from llmtasker.optimizers.instruction_search import proposer_of, shown_row
from llmtasker.optimizers.search import Search, Trial, instructions_of, only_field, was_judged
from llmtasker.signature.fields import InputField, OutputField, label_descriptions, label_text
from llmtasker.signature.signature import Signature
from llmtasker.task import Task
from llmtasker.tasks.classification import Classification
from llmtasker.values.argument_checks import check_count

_MISTAKES = 12  # rows of a confusion that a proposer sees
_BEGIN = "\n\nWhat the labels mean:\n"


class LabelMeaning(BaseModel):
    """A label, and what it means."""

    label: str
    meaning: str = Field(description="one or two sentences: what belongs here, and what does not")


class DescribeLabels(Signature):
    """You define the labels of a classification, so that a language model does not confuse them.

    You see the labels that are confused, with what they mean so far, and texts that got a wrong one. Find the rule by
    which the right answers differ, and define each of these labels again: what belongs to it, and what belongs to
    which other label instead. Do not repeat the texts.
    """

    labels: str = InputField(description="the confused labels, with their meanings so far")
    mistakes: str = InputField(description="inputs, wrong answers, right answers")
    meanings: list[LabelMeaning] = OutputField(description="each of these labels with its new meaning")


@dataclass(frozen=True, kw_only=True)
class LabelDescriptions:
    """Describes the labels that are confused most often, confusion by confusion; each is measured on the rows of `val`.

    A `Classification` gets the meanings with its labels; any other task at the end of its instructions.

    Args:
        llm: writes the descriptions; an LLM, or what `LLM.of` accepts. None: that of the task.
        rounds: the most confusions to read.

    Raises:
        ConfigurationError: a number is below 1.
    """

    llm: Any = None
    rounds: int = 6

    def __post_init__(self) -> None:
        check_count("rounds", self.rounds, "the confusions")

    def check(self, task: Task[Any], train: Sequence[GoldRow]) -> None:
        """Raise a ConfigurationError if the task has no labels that can be described."""
        field = only_field(task, "LabelDescriptions")
        if field not in train[0].gold:
            raise ConfigurationError(f"train has no column for {field}, whose labels are to be described.")
        if isinstance(task, Classification) and isinstance(task.plan.labels, type):
            raise ConfigurationError("labels that are an Enum have no descriptions: give them as a mapping.")

    def most_calls(self, task: Task[Any], train: int, val: int) -> int:
        """Return the calls of all rounds."""
        del task
        return self.rounds * (train + 1 + val)

    def search(self, search: Search) -> None:
        """Describe and measure, confusion by confusion."""
        field = only_field(search.task, "LabelDescriptions")
        proposer = proposer_of(DescribeLabels, self.llm, search.task)
        best, done = search.begin(), set[frozenset[str]]()
        meanings = _meanings(search.task, field)
        for _ in range(self.rounds):
            if best.score >= 1:
                return  # nothing can be shown to be better
            looked = search.look(best.task, search.train)
            pair = _most_confused(looked, field, done)
            if pair is None:
                return
            done.add(pair)
            proposed = self._ask(search, proposer, looked, field, pair, meanings)
            candidate = None if proposed is None else described(search.task, field, {**meanings, **proposed})
            if candidate is None or proposed is None:
                continue
            trial = search.measure(candidate, f"meanings of {' and '.join(sorted(pair))}")
            if trial.score > best.score:
                best, meanings = trial, {**meanings, **proposed}
                done.clear()

    @staticmethod
    def _ask(
        search: Search,
        proposer: Task[Any],
        looked: Trial,
        field: str,
        pair: frozenset[str],
        meanings: Mapping[str, str],
    ) -> dict[str, str] | None:
        wrong = [row for row in looked.report.rows if was_judged(row) and row.scores.get(field, 0.0) < 1]
        shown = [row for row in wrong if labels_in(row.gold[field]) & pair][:_MISTAKES]
        answer = search.ask(
            proposer,
            labels="\n".join(f"- {label}: {meanings.get(label, '')}" for label in sorted(pair)),
            mistakes="\n\n".join(map(shown_row, shown)),
        )
        if answer is None:
            return None
        return {one.label: " ".join(one.meaning.split()) for one in answer.meanings if one.label in meanings} or None


def _meanings(task: Task[Any], field: str) -> dict[str, str]:
    known = label_descriptions(task.signature.output_fields[field])
    return {label: known.get(label, "") for label in labels_of(task.signature.output_model)[field]}


def _most_confused(looked: Trial, field: str, done: set[frozenset[str]]) -> frozenset[str] | None:
    """Return the two labels that are confused most often, either way; None: all were read already."""
    counts = Counter[frozenset[str]]()
    for row in looked.report.rows:
        if was_judged(row) and row.answer is not None:
            right, given = labels_in(row.gold[field]), labels_in(row.answer[field])
            counts.update(frozenset((one, other)) for one in right - given for other in given - right)
    order = sorted(counts, key=lambda pair: (-counts[pair], sorted(pair)))
    return next((pair for pair in order if pair not in done), None)


def described(task: Task[Any], field: str, meanings: Mapping[str, str]) -> Task[Any] | None:
    """Return the task with these meanings of its labels; None: it does not take them."""
    try:
        if isinstance(task, Classification):
            sent = task.plan.sent
            return task.with_(labels={given: meanings.get(label_text(label), "") for label, given in sent.items()})
        lines = "\n".join(f"- {label}: {meaning}" for label, meaning in meanings.items() if meaning)
        head = instructions_of(task).partition(_BEGIN)[0]
        escaped = lines.replace("{", "(").replace("}", ")")  # a meaning has no variables
        return task.with_(instructions=f"{head}{_BEGIN}{escaped}")
    except LLMTaskerError:
        return None
