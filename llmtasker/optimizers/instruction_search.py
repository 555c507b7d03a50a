"""InstructionSearch: an LLM reads the mistakes and writes better instructions; worse ones are dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from llmtasker.errors import LLMTaskerError, snippet
from llmtasker.evaluation.figures import ReportRow
from llmtasker.evaluation.gold_rows import GoldRow
from llmtasker.files.cells import cell_json
from llmtasker.item import Item, jsonable
from llmtasker.optimizers.search import Search, Trial, instructions_of, was_judged
from llmtasker.signature.fields import InputField, OutputField
from llmtasker.signature.signature import Signature
from llmtasker.task import Task
from llmtasker.values.argument_checks import check_count
from llmtasker.values.lazy_pattern import lazy_pattern

_LONGEST = 2_000  # characters of a row that a proposer sees
_PLACE = lazy_pattern(r"(?<!\{)\{([^\W\d]\w*)\}(?!\})")


class ImproveInstructions(Signature):
    """You improve the instructions that another language model follows.

    You see its instructions, and inputs that it answered wrongly, each with its answer and the right one. Find out what
    the instructions leave open or get wrong, as general rules that explain the right answers and hold for inputs like
    these, and write the whole instructions again with these rules. Keep what is right in them. Do not repeat the
    inputs, and do not list right answers of single inputs. Keep every {{name}} in braces exactly as it is: a value is
    put there.
    """

    current: str = InputField(description="the instructions as they are")
    mistakes: str = InputField(description="inputs, wrong answers, right answers")
    rejected: str = InputField(description="instructions that were tried and not better", min_length=0)
    improved: str = OutputField(description="the whole instructions, improved", min_length=1)


@dataclass(frozen=True, kw_only=True)
class InstructionSearch:
    """Improves the instructions: in each round an LLM sees mistakes on rows of `train` and proposes others.

    A proposal is first measured on the rows of that round; only if it is better there, on those of `val`.

    Args:
        llm: writes the proposals; an LLM, or what `LLM.of` accepts. None: that of the task.
        rounds: the most proposals.
        batch: rows of train that a round reads.
        patience: rounds without a better proposal after which the search ends.

    Raises:
        ConfigurationError: a number is below 1.
    """

    llm: Any = None
    rounds: int = 12
    batch: int = 6
    patience: int = 6
    of_steps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("rounds", self.rounds, "the proposals")
        check_count("batch", self.batch, "the rows of a round")
        check_count("patience", self.patience, "the rounds without a better proposal")

    def check(self, task: Task[Any], train: Sequence[GoldRow]) -> None:
        """Accept any task."""

    def most_calls(self, task: Task[Any], train: int, val: int) -> int:
        """Return the calls of all rounds."""
        del task
        return self.rounds * (2 * min(self.batch, train) + 1 + val)

    def search(self, search: Search) -> None:
        """Propose and measure, round by round."""
        proposer = proposer_of(ImproveInstructions, self.llm, search.task)
        best, rejected, in_vain = search.begin(), list[str](), 0
        rows = batches(search.train, self.batch, search.seed)
        for number in range(1, self.rounds + 1):
            if best.score >= 1:
                return  # nothing can be shown to be better
            found = _with_mistakes(search, best.task, rows)
            if found is None or in_vain >= self.patience:
                return
            batch, looked = found
            text = search.ask(
                proposer,
                current=instructions_of(best.task),
                mistakes=shown_mistakes(search, looked),
                rejected="\n\n---\n\n".join(rejected[-3:]),
            )
            improved = None if text is None else text.improved
            candidate = None if improved is None else reworded(best.task, improved)
            in_vain += 1
            if candidate is None:
                continue
            trial = None
            if search.look(candidate, batch).score > looked.score:
                trial = search.measure(candidate, f"instructions of round {number}")
            if trial is not None and trial.score > best.score:
                best, rejected, in_vain = trial, [], 0
            else:
                rejected.append(improved or "")


def batches(rows: Sequence[GoldRow], size: int, seed: int) -> list[list[GoldRow]]:
    """Return rows in batches, in a random order."""
    order = Random(seed).sample(list(rows), len(rows))  # noqa: S311 - a draw, not a secret
    return [order[at : at + size] for at in range(0, len(order), size)]


def _with_mistakes(search: Search, task: Task[Any], rows: list[list[GoldRow]]) -> tuple[list[GoldRow], Trial] | None:
    """Return the next measured batch with a mistake; None: the task gets all batches right."""
    for _ in range(len(rows)):
        batch = rows.pop(0)
        rows.append(batch)
        looked = search.look(task, batch)
        if looked.score < 1:
            return batch, looked
    return None


def proposer_of(signature: type[Signature], llm: Any, task: Task[Any]) -> Task[Any]:
    """Return the task that proposes, with its own LLM or with that of the task to improve."""
    own = task.llm if llm is None else llm
    return Task(signature, llm=own, cache=task.plan.cache if llm is None else None)


def shown_mistakes(search: Search, looked: Trial) -> str:
    """Return the rows that are not right, with their answers, for a proposer to read."""
    pairs = zip(looked.report.rows, shown_rows(search, looked), strict=True)
    return "\n\n".join(text for row, text in pairs if was_judged(row) and row.scores.get(search.name, 0.0) < 1)


def shown_rows(search: Search, looked: Trial) -> list[str]:
    """Return each row with its answer and the right one; of a pipeline, with the answers of the step that is improved.

    A row of a pipeline has no right answers of the step: the proposer infers them from that of the whole.
    """
    rows = list(map(shown_row, looked.report.rows))
    if not search.is_step:
        return rows
    calls = ["\n".join(shown_call(call) for call in search.calls_of(looked.task, item)) for item in looked.items]
    return [
        f"{row}\nThese are of a whole program. The instructions are those of one step in it:\n{step or 'not called'}"
        for row, step in zip(rows, calls, strict=True)
    ]


def shown_call(item: Item[Any]) -> str:
    """Return the input of a step with its answer."""
    answer = (
        f"no valid answer: {snippet(item.error.message)}"
        if item.error is not None
        else cell_json(jsonable(item.output))
    )
    return f"Input of the step: {cell_json(jsonable(item.input))[:_LONGEST]}\nAnswer of the step: {answer[:_LONGEST]}"


def shown_row(row: ReportRow) -> str:
    """Return a row with its answer and the right one."""
    failed = "" if row.error is None else f"no valid answer: {snippet(row.error[1])}"
    answer = failed if row.answer is None else cell_json(row.answer)
    given = "\n".join(f"{field}: {str(value)[:_LONGEST]}" for field, value in row.given.items())
    return f"Input:\n{given}\nAnswer: {answer[:_LONGEST]}\nRight answer: {cell_json(row.gold)[:_LONGEST]}"


def reworded(task: Task[Any], instructions: str) -> Task[Any] | None:
    """Return the task with other instructions; None: they lack a {variable}, or have an unknown one."""
    before, after = set(_PLACE.findall(instructions_of(task))), set(_PLACE.findall(instructions))
    if before - after or not instructions.strip():
        return None
    try:
        return task.with_(instructions=instructions)
    except LLMTaskerError:
        return None
