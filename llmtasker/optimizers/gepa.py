"""GEPA: reflective prompt evolution with the package `gepa`, through the cache, pace and budget of llmtasker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from llmtasker.errors import ConfigurationError
from llmtasker.evaluation.gold_rows import GoldRow
from llmtasker.optimizers.instruction_search import reworded, shown_rows
from llmtasker.optimizers.search import Search, Trial, instructions_of, was_judged
from llmtasker.task import Task
from llmtasker.tasks.instruction import Instruction
from llmtasker.values.argument_checks import check_count

_TEXT = "instructions"
_INVALID = "These instructions are not valid: keep every {name} in braces as it was, and add no others."


@dataclass(frozen=True, kw_only=True)
class GEPA:
    """Improves the instructions by reflection, keeping candidates that are best on some row (extra `[gepa]`).

    Source: Agrawal et al. 2025, "GEPA: Reflective Prompt Evolution Can Outperform Reinforcement Learning". gepa writes
    and reads no files: a search is resumed from the cache.

    Args:
        llm: reflects and writes the instructions; an LLM, or what `LLM.of` accepts. None: that of the task.
        calls: the most rows to measure; the budget of `optimize` applies too.
        batch: rows that a reflection sees.

    Raises:
        ConfigurationError: a number is below 1, or the package is not installed (when the search begins).
    """

    llm: Any = None
    calls: int = 400
    batch: int = 3
    of_steps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("calls", self.calls, "the rows that are measured")
        check_count("batch", self.batch, "the rows of a reflection")

    def check(self, task: Task[Any], train: Sequence[GoldRow]) -> None:
        """Raise a ConfigurationError if the package is not installed."""
        del task, train
        try:
            import gepa  # noqa: F401  # pyright: ignore[reportUnusedImport]
        except ImportError:
            raise ConfigurationError('GEPA needs the package gepa: pip install "llmtasker[gepa]"') from None

    def most_calls(self, task: Task[Any], train: int, val: int) -> int:
        """Return the calls of rows and reflections."""
        del task, train
        return self.calls + val + self.calls // (2 * self.batch)

    def search(self, search: Search) -> None:
        """Run gepa's engine over the search."""
        import gepa.api

        adapter = _Adapter(search)
        writer = Instruction(
            llm=search.task.llm if self.llm is None else self.llm,
            instructions="{text}",
            cache=search.task.plan.cache if self.llm is None else None,
        )

        def reflect(prompt: str | list[dict[str, Any]]) -> str:
            text = prompt if isinstance(prompt, str) else "\n\n".join(str(turn.get("content")) for turn in prompt)
            return str(search.ask(writer, text=text) or "")

        engine: Any = gepa.api
        engine.optimize(
            seed_candidate={_TEXT: instructions_of(search.task)},
            trainset=list(search.train),
            valset=list(search.val),
            adapter=adapter,
            reflection_lm=reflect,
            reflection_minibatch_size=min(self.batch, len(search.train)),
            max_metric_calls=self.calls,
            stop_callbacks=adapter.is_done,
            logger=_Silent(),
            seed=search.seed,
            run_dir=None,
            display_progress_bar=False,
            raise_on_exception=True,
        )


class _Silent:
    def log(self, message: str) -> None:
        """Drop gepa's log lines, because `progress` reports candidates."""


class _Adapter:
    """The interface of gepa to a task: scores, and the text for a reflection."""

    propose_new_texts = None

    def __init__(self, search: Search) -> None:
        self._search = search
        self._val = [row.key for row in search.val]

    def evaluate(self, batch: list[GoldRow], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        """Return the scores of a candidate on some rows; a row whose call failed gets the mean of the others."""
        from gepa.core.adapter import EvaluationBatch

        search = self._search
        task = reworded(search.task, candidate[_TEXT])
        scores, rows = [0.0] * len(batch), list[str]()
        if task is not None:
            trial = self._measured(task, batch)
            scores = [row.scores.get(search.name, 0.0) if was_judged(row) else trial.score for row in trial.report.rows]
            rows = shown_rows(search, trial)
        made: Any = EvaluationBatch
        shown = rows or [_INVALID] * len(batch)
        return made(outputs=shown, scores=scores, trajectories=shown if capture_traces else None)

    def _measured(self, task: Task[Any], batch: Sequence[GoldRow]) -> Trial:
        search = self._search
        whole = [row.key for row in batch] == self._val
        if not whole:
            return search.look(task, batch)
        text = instructions_of(task)
        known = next((trial for trial in search.trials if instructions_of(trial.task) == text), None)
        return known or search.measure(task, f"instructions {len(search.trials)} of gepa")

    def is_done(self, gepa_state: object) -> bool:
        """Return whether nothing can be shown to be better."""
        del gepa_state
        return bool(self._search.trials) and self._search.best.score >= 1

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: Any, components_to_update: list[str]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return the text for a reflection: each row with its answer and the right one."""
        del candidate
        pairs = zip(eval_batch.trajectories, eval_batch.scores, strict=True)
        shown = [{"row": row, "score": score} for row, score in pairs]
        return dict.fromkeys(components_to_update, shown)
