"""cascade: tasks in order of price; each answers what it is sure of, and the rest goes to the next, then to people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar, Unpack, cast

from llmtasker.confidence import Confidence
from llmtasker.confidence.label_field import LabelField
from llmtasker.errors import ConfigurationError
from llmtasker.evaluation.calibrate import CalibrationOptions, labelled_rows, measured_labels, repeats
from llmtasker.evaluation.cascade_run import Cascade, CascadeReport
from llmtasker.evaluation.cascade_stage import cascade_outcome, cascade_stage
from llmtasker.evaluation.cascade_thresholds import cascade_thresholds
from llmtasker.evaluation.gold_rows import Gold
from llmtasker.evaluation.risk_control import why_not
from llmtasker.portal import portal
from llmtasker.task import Task
from llmtasker.values.argument_checks import check_names, check_share

T = TypeVar("T")


def cascade(
    tasks: Sequence[Task[T]],
    rows: Gold,
    *,
    max_risk: float,
    certainty: float = 0.9,
    **options: Unpack[CalibrationOptions],
) -> Cascade[T]:
    """Return tasks as a cascade: each answers what it is sure of, and the rest goes to the next, then to people.

    Thresholds are chosen on labelled rows, for which all tasks are asked. Of all answers at most `max_risk` is wrong,
    with a probability of `certainty`. Of the thresholds that keep this promise, those that answer the most rows are
    chosen, at the least cost. `print(made.report)` shows how many rows each task answers.

    Args:
        tasks: the cheapest first, all of one signature. Each but the last needs a confidence (default: "votes"); a
            last task without one answers all rows that reach it.
        rows: labelled rows, as for `evaluate`, that were not used to write the prompts.
        options: those of `calibrate`.

    Raises:
        ConfigurationError: a confidence does not separate right from wrong answers, the risk can't be promised
            (the message names what would help), or the tasks do not belong together.
    """
    return portal().call(acascade(tasks, rows, max_risk=max_risk, certainty=certainty, **options))


async def acascade(
    tasks: Sequence[Task[T]],
    rows: Gold,
    *,
    max_risk: float,
    certainty: float = 0.9,
    **options: Unpack[CalibrationOptions],
) -> Cascade[T]:
    """Return tasks as a cascade, without blocking the event loop; see `cascade`."""
    check_names("cascade", options, tuple(CalibrationOptions.__annotations__))
    check_share("max_risk", max_risk)
    check_share("certainty", certainty)
    labels = _labels_of_all(tasks)
    asked = options.copy()
    gold = labelled_rows(tasks[0], labels, rows, asked.pop("columns", None))
    stages = [await cascade_stage(task, labels, gold, asked, last=task is tasks[-1]) for task in tasks]
    unit = "tokens" if any(None in stage.costs for stage in stages) else "US dollars"
    answers = [stage.answers(unit) for stage in stages]
    chosen = cascade_thresholds(answers, max_risk, certainty)
    if chosen is None:
        last = [(answer.confidence, answer.right) for answer in answers[-1] if answer.confidence >= 0]
        raise ConfigurationError(f"with all rows left to the last task, {why_not(last, max_risk, certainty)}")
    made = [
        stage.kept_to(threshold)
        for stage, threshold in zip(stages, chosen.thresholds, strict=True)
        if threshold < math.inf  # else it would never answer
    ]
    answered, wrong, cost = cascade_outcome(answers, chosen.thresholds)
    alone = sum(answer.cost for answer in answers[-1])
    report = CascadeReport(
        names=tuple(repr(task.llm) for task in tasks),
        rows=len(gold),
        answered=tuple(answered),
        wrong=tuple(wrong),
        to_people=len(gold) - sum(answered),
        thresholds=chosen.thresholds,
        cost_ratio=cost / alone if alone else None,
        unit=unit,
        max_risk=max_risk,
        certainty=certainty,
        bound=chosen.bound,
        repeated=repeats(gold),
    )
    return Cascade(made, report)


def _labels_of_all(tasks: Sequence[Task[Any]]) -> LabelField:
    """Return the label field that the tasks answer.

    Raises:
        ConfigurationError: there are fewer than two tasks, or they do not answer the same field with one label.
    """
    listed = isinstance(cast("object", tasks), list | tuple)
    if not (listed and len(tasks) > 1 and all(isinstance(task, Task) for task in cast("Sequence[object]", tasks))):
        raise ConfigurationError("a cascade needs a list of at least two tasks, the cheapest first.")
    labels = measured_labels(tasks[0], tasks[0].plan.confidence_settings or Confidence(source="votes"))
    if labels.many:
        raise ConfigurationError(f"a cascade answers a field with one label; {labels.name} takes several.")
    for task in tasks[1:]:
        if task.signature.output_fields.keys() != tasks[0].signature.output_fields.keys():
            raise ConfigurationError("the tasks of a cascade must have the same output fields; these differ.")
    return labels
