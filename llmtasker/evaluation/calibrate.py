"""calibrate: labelled rows → a task whose confidence is a probability, and which abstains to keep a promised risk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict, TypeVar, Unpack, get_args

from llmtasker.confidence import Calibration, Confidence
from llmtasker.confidence.confident_policy import asked_by, is_whole
from llmtasker.confidence.label_field import LabelField, label_field
from llmtasker.errors import ConfigurationError, counted
from llmtasker.evaluation.calibration_fit import (
    CalibrationMethod,
    ScoredLabels,
    ScoredRow,
    fit_calibration,
    fit_several,
    with_threshold,
)
from llmtasker.evaluation.gold_rows import Gold, GoldRow, gold_rows
from llmtasker.evaluation.measured_task import answered
from llmtasker.evaluation.own_examples import rows_shown
from llmtasker.item import Item
from llmtasker.jobs.row_work import RowWork
from llmtasker.portal import portal
from llmtasker.runner.budget import Budget
from llmtasker.runner.policy import Fresh
from llmtasker.runner.progress import OnProgress
from llmtasker.task import Task
from llmtasker.values.argument_checks import check_choice, check_names, check_share

K = TypeVar("K", bound=Task[Any])


class CalibrationOptions(TypedDict, total=False):
    """The keyword arguments of `calibrate` that `Task.run` also has."""

    concurrency: int | None
    progress: bool | OnProgress | None
    fresh: Fresh
    budget: Budget | None
    columns: Mapping[str, str] | None


def calibrate(
    task: K,
    rows: Gold,
    *,
    max_risk: float | None = None,
    certainty: float = 0.9,
    method: CalibrationMethod = "temperature",
    **options: Unpack[CalibrationOptions],
) -> K:
    """Return the task with its confidence fitted to labelled rows; `print(calibrated.calibration)` shows the fit.

    A temperature makes the numbers probabilities. With `max_risk`, answers below a threshold become an AbstainedError
    that contains the best guess: of the answers given, at most this share is wrong. That promise is kept with a
    probability of `certainty`, on rows that are like the labelled ones and were not used to write the prompt.

    If a field takes several labels, each label gets its own threshold, the one with its best F1 on the rows: the
    answer consists of the labels that reach theirs. It is wrong unless it has all labels of the row and no other.

    Args:
        rows: as for `evaluate`. A task without `confidence=` uses "votes".
        max_risk: the largest share of wrong answers, such as 0.05; None: the task never abstains.
        certainty: the share of such promises that are kept.
        method: "batch" first divides the shares of a label by their mean over the rows, which corrects an LLM that
            prefers some labels, and hurts if the rows do have more of some labels.
        options: those of `Task.run`.

    Raises:
        ConfigurationError: the confidence does not separate right from wrong answers, or there are too few rows
            to promise this risk (the message gives the number that would be enough); or the rows do not fit.
    """
    return portal().call(acalibrate(task, rows, max_risk=max_risk, certainty=certainty, method=method, **options))


async def acalibrate(
    task: K,
    rows: Gold,
    *,
    max_risk: float | None = None,
    certainty: float = 0.9,
    method: CalibrationMethod = "temperature",
    **options: Unpack[CalibrationOptions],
) -> K:
    """Return the task with its confidence fitted to labelled rows, without blocking the event loop; see `calibrate`."""
    check_names("calibrate", options, ("max_risk", "certainty", "method", *CalibrationOptions.__annotations__))
    check_choice("method", method, get_args(CalibrationMethod))
    check_share("certainty", certainty)
    if max_risk is not None:
        check_share("max_risk", max_risk)
    confidence = replace(task.plan.confidence_settings or Confidence(source="votes"), calibration=None)
    asking = task.with_(confidence=confidence)
    labels = measured_labels(asking, confidence)
    asked = options.copy()
    gold = labelled_rows(asking, labels, rows, asked.pop("columns", None))
    results = await answered(asking, gold, **asked)
    try:
        fitted = _fitted(asking, labels, gold, results, confidence, method)
    except ConfigurationError as error:
        if task.plan.confidence_settings is not None:
            raise
        hint = 'The task has no confidence=, so "votes" were counted. Another source: task.with_(confidence="stated").'
        raise ConfigurationError(f"{error} {hint}") from None
    fitted = replace(fitted, repeated=repeats(gold))
    if max_risk is not None:
        fitted = with_threshold(fitted, max_risk, certainty)
    return asking.with_(confidence=replace(confidence, calibration=fitted))


def _fitted(
    task: Task[Any],
    labels: LabelField,
    gold: Sequence[GoldRow],
    results: Iterable[Item[Any]],
    confidence: Confidence,
    method: CalibrationMethod,
) -> Calibration:
    if labels.many:
        if method != "temperature":
            raise ConfigurationError(
                f'method="{method}" is only for a field with one label; {labels.name} takes several.'
            )
        several = _scored_labels(task, labels, gold, results)
        check_answered(several, results)
        sets = [row for row in several if row is not None]
        names = list(labels.values)
        asked = asked_by(task.program, task.llm, confidence)
        return fit_several(sets, names, confidence, failed=len(several) - len(sets), asked=asked)
    scored = scored_rows(task, labels, gold, results)
    check_answered(scored, results)
    return fit_scored(task, scored, confidence, method)


def fit_scored(
    task: Task[Any],
    scored: Sequence[ScoredRow | None],
    confidence: Confidence,
    method: CalibrationMethod = "temperature",
) -> Calibration:
    """Return the fit of a task's confidence in one label to the results of labelled rows; None: a row failed.

    Raises:
        ConfigurationError: the confidence does not separate right from wrong answers.
    """
    known = [row for row in scored if row is not None]
    return fit_calibration(
        known,
        confidence,
        method=method,
        ranks=is_whole(task.program, confidence),
        failed=len(scored) - len(known),
        asked=asked_by(task.program, task.llm, confidence),
    )


def measured_labels(task: Task[Any], confidence: Confidence) -> LabelField:
    """Return the field whose confidence is calibrated.

    Raises:
        ConfigurationError: there is none, or it takes several labels that are not known in advance.
    """
    labels = label_field(task.signature, confidence.field, confidence.source)
    if labels.many and not labels.closed:
        raise ConfigurationError(
            f"{labels.name} takes several labels, including unknown ones: give it a closed set of labels to "
            "calibrate their thresholds."
        )
    return labels


def labelled_rows(
    task: Task[Any], labels: LabelField, rows: Gold, columns: Mapping[str, str] | None
) -> Sequence[GoldRow]:
    """Return the labelled rows.

    Raises:
        ConfigurationError: they do not fit, or have no column for the labels, or are examples of the task.
    """
    gold, _ = gold_rows(task.signature, rows, columns=columns)
    if shown := rows_shown(task, gold):
        raise ConfigurationError(
            f"{counted(shown, 'labelled row is', 'labelled rows are')} shown as examples, with the right answers: they "
            "do not show how sure the answers to other rows are. Leave them out."
        )
    if labels.name not in gold[0].gold:
        raise ConfigurationError(f"the labelled rows have no column {labels.name!r}, whose confidence is calibrated.")
    return gold


def repeats(gold: Sequence[GoldRow]) -> int:
    """Return how many rows have the input of an earlier one."""
    return len(gold) - len({row.key for row in gold})


def scored_rows(
    task: Task[Any], labels: LabelField, gold: Sequence[GoldRow], results: Iterable[Item[Any]]
) -> list[ScoredRow | None]:
    """Return the result of each labelled row; None: it failed."""
    known = _texts_of_labels(task, labels, gold, results)
    return [None if row is None else ScoredRow(row[0], row[1][0], row[2][0]) for row in known]


def _scored_labels(
    task: Task[Any], labels: LabelField, gold: Sequence[GoldRow], results: Iterable[Item[Any]]
) -> list[ScoredLabels | None]:
    known = _texts_of_labels(task, labels, gold, results)
    return [None if row is None else ScoredLabels(row[0], frozenset(row[1]), frozenset(row[2])) for row in known]


def _texts_of_labels(
    task: Task[Any], labels: LabelField, gold: Sequence[GoldRow], results: Iterable[Item[Any]]
) -> Iterator[tuple[Mapping[str, float], list[str], list[str]] | None]:
    """Yield the confidence, the right labels and the answered ones of each row; None: it failed."""
    work = RowWork(task)
    for row, item in zip(gold, results, strict=True):
        right = labels.texts(row.gold[labels.name])
        yield (item.confidence or {}, right, labels.texts(work.answer(item)[labels.name])) if item.ok else None


def check_answered(scored: Sequence[object], results: Iterable[Item[Any]]) -> None:
    """Check that at least one row was answered.

    Raises:
        ConfigurationError: no row was answered.
    """
    if not any(row is not None for row in scored):
        first = next((item.error for item in results if item.error is not None), None)
        raise ConfigurationError(f"no labelled row was answered; the first error is: {first}")
