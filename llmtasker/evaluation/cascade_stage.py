"""A task of a cascade: its confidence, fitted to labelled rows, and its results on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from llmtasker.confidence import Calibration, Confidence
from llmtasker.confidence.calibration_figures import CalibrationPoint
from llmtasker.confidence.label_field import LabelField
from llmtasker.errors import ConfigurationError
from llmtasker.evaluation.calibrate import CalibrationOptions, check_answered, fit_scored, scored_rows
from llmtasker.evaluation.cascade_thresholds import StageAnswer
from llmtasker.evaluation.gold_rows import GoldRow
from llmtasker.evaluation.measured_task import MeasuredTask, answered
from llmtasker.task import Task

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class CascadeStage(Generic[T]):
    """A task of a cascade, with its result for each labelled row, and its costs there in dollars and in tokens."""

    task: Task[T]
    points: Sequence[CalibrationPoint | None]
    costs: Sequence[float | None]
    tokens: Sequence[int]

    def answers(self, unit: str) -> list[StageAnswer]:
        """Return the answer to each row, with its cost in a unit."""
        costs = self.tokens if unit == "tokens" else self.costs
        return [
            StageAnswer(-1.0, False, cost or 0.0)
            if point is None
            else StageAnswer(point.after, point.right, cost or 0.0)
            for point, cost in zip(self.points, costs, strict=True)
        ]

    def kept_to(self, threshold: float) -> Task[T]:
        """Return the task that abstains below a threshold."""
        confidence = self.task.plan.confidence_settings
        if confidence is None or confidence.calibration is None:
            return self.task
        calibration = replace(confidence.calibration, threshold=threshold)
        return self.task.with_(confidence=replace(confidence, calibration=calibration))


async def cascade_stage(
    task: Task[T], labels: LabelField, gold: Sequence[GoldRow], options: CalibrationOptions, *, last: bool
) -> CascadeStage[T]:
    """Return a task with its confidence fitted to the rows, and its results on them."""
    confidence = task.plan.confidence_settings or (None if last else Confidence(source="votes"))
    confidence = None if confidence is None else replace(confidence, calibration=None)
    asking = task.with_(confidence=confidence)
    results = await answered(asking, gold, **options)
    scored = scored_rows(asking, labels, gold, results)
    fitted: Calibration | None = None
    try:
        check_answered(scored, results)
        if confidence is not None:
            fitted = fit_scored(asking, scored, confidence)
            asking = asking.with_(confidence=replace(confidence, calibration=fitted))
    except ConfigurationError as error:
        if not last or not any(scored):
            raise ConfigurationError(f"{task.llm!r}: {error}") from None
        asking = asking.with_(confidence=None)  # it answers all rows that reach it
    cost = MeasuredTask.of(asking).cost
    known = iter(fitted.points if fitted is not None else ())
    points = [
        None if row is None else next(known, CalibrationPoint(1.0, 1.0, row.answer == row.right)) for row in scored
    ]
    return CascadeStage(
        task=asking,
        points=points,
        costs=[cost(item) for item in results],
        tokens=[item.answer_usage.total for item in results],
    )


def cascade_outcome(
    answers: Sequence[Sequence[StageAnswer]], thresholds: Sequence[float]
) -> tuple[list[int], list[int], float]:
    """Return how many rows each task answers, how many of these are wrong, and the cost of all rows."""
    answered, wrong, cost = [0] * len(answers), [0] * len(answers), 0.0
    for row in zip(*answers, strict=True):
        for number, (answer, threshold) in enumerate(zip(row, thresholds, strict=True)):
            if threshold == math.inf:
                continue  # it is not asked
            cost += answer.cost
            if answer.confidence >= max(threshold, 0.0):
                answered[number] += 1
                wrong[number] += not answer.right
                break
    return answered, wrong, cost
