"""calibrate: labelled rows → a task whose confidence is a probability, and which abstains to keep a promised risk."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, TypeVar, Unpack, get_args

from llmtasker.confidence import Calibration, Confidence
from llmtasker.confidence.calibration_figures import CalibrationPoint, calibrated
from llmtasker.confidence.confident_policy import asked_by, is_whole
from llmtasker.confidence.label_field import LabelField, label_field
from llmtasker.errors import ConfigurationError, check_choice, check_names, snippet
from llmtasker.evaluation.confidence_fit import auroc, fit_temperature
from llmtasker.evaluation.gold_rows import Gold, GoldRow, gold_rows
from llmtasker.evaluation.risk_control import keep_risk, why_not
from llmtasker.item import Item
from llmtasker.jobs.row_work import RowWork
from llmtasker.runner.budget import Budget
from llmtasker.runner.policy import Fresh
from llmtasker.runner.progress import OnProgress
from llmtasker.task import Task
from llmtasker.threads import portal

K = TypeVar("K", bound=Task[Any])

CalibrationMethod = Literal["temperature", "batch"]
_LEAST_SHARE = {"stated": 0.005, "logprobs": 1e-9, "label_scores": 1e-9}


class CalibrationOptions(TypedDict, total=False):
    """The keyword arguments of `calibrate` that are those of `Task.run`."""

    concurrency: int
    progress: bool | OnProgress | None
    fresh: Fresh
    budget: Budget | None
    columns: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """An answered row: the share of each label, its right label, and the label that was answered."""

    shares: Mapping[str, float]
    right: str
    answer: str


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
    that holds the best guess: of the answers given, at most this share is wrong. That promise is kept with a
    probability of `certainty`, on rows that are like the labelled ones and were not used to write the prompt.

    Args:
        rows: as for `evaluate`. A task without `confidence=` is asked for "votes".
        max_risk: the largest share of wrong answers, such as 0.05; None: no answer is abstained from.
        certainty: the share of such promises that are kept.
        method: "batch" divides the shares of a label by their mean over the rows first, which corrects an LLM that
            prefers some labels, and hurts where the rows do have more of some labels.
        options: those of `Task.run`.

    Raises:
        ConfigurationError: the confidence does not tell right answers from wrong ones, or the rows are too few to
            promise this risk (it says how many would do); or the rows do not fit.
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
    check_names("calibrate", options, tuple(CalibrationOptions.__annotations__))
    check_choice("method", method, get_args(CalibrationMethod))
    check_share("certainty", certainty)
    if max_risk is not None:
        check_share("max_risk", max_risk)
    confidence = replace(task.plan.sureness or Confidence(source="votes"), calibration=None)
    asking = task.with_(confidence=confidence)
    labels = measured_labels(asking, confidence)
    asked = options.copy()
    gold = labelled_rows(asking, labels, rows, asked.pop("columns", None))
    results = await asking.arun([dict(row.given) for row in gold], **asked)
    scored = scored_rows(asking, labels, gold, results)
    check_answered(scored, results)
    known = [row for row in scored if row is not None]
    fitted = fit_calibration(
        known,
        confidence,
        method=method,
        ranks=is_whole(asking.program, confidence),
        failed=len(scored) - len(known),
        asked=asked_by(asking.program, asking.llm, confidence),
    )
    if max_risk is not None:
        fitted = with_threshold(fitted, max_risk, certainty)
    return asking.with_(confidence=replace(confidence, calibration=fitted))


def measured_labels(task: Task[Any], confidence: Confidence) -> LabelField:
    """Return the field whose confidence is calibrated.

    Raises:
        ConfigurationError: there is none, or it takes several labels.
    """
    labels = label_field(task.signature, confidence.field, confidence.source)
    if labels.many:
        raise ConfigurationError(f"a field with one label can be calibrated; {labels.name} takes several.")
    return labels


def labelled_rows(
    task: Task[Any], labels: LabelField, rows: Gold, columns: Mapping[str, str] | None
) -> Sequence[GoldRow]:
    """Return the labelled rows.

    Raises:
        ConfigurationError: they do not fit, or have no column for the labels.
    """
    gold, _ = gold_rows(task.signature, rows, columns=columns)
    if labels.name not in gold[0].gold:
        raise ConfigurationError(f"the labelled rows have no column {labels.name!r}, whose confidence is calibrated.")
    return gold


def scored_rows(
    task: Task[Any], labels: LabelField, gold: Sequence[GoldRow], results: Iterable[Item[Any]]
) -> list[ScoredRow | None]:
    """Return what came of each labelled row; None: it failed."""
    work, found = RowWork(task), list[ScoredRow | None]()
    for row, item in zip(gold, results, strict=True):
        if item.ok:
            answer = labels.texts(work.answer(item)[labels.name])[0]
            found.append(ScoredRow(item.confidence or {}, labels.texts(row.gold[labels.name])[0], answer))
        else:
            found.append(None)
    return found


def check_answered(scored: Sequence[object], results: Iterable[Item[Any]]) -> None:
    """Check that there is a row that was answered.

    Raises:
        ConfigurationError: there is none.
    """
    if not any(row is not None for row in scored):
        first = next((item.error for item in results if item.error is not None), None)
        raise ConfigurationError(f"no labelled row was answered; the first error is: {first}")


def check_share(name: str, share: object) -> None:
    """Check that an argument is a share between 0 and 1.

    Raises:
        ConfigurationError: it is something else.
    """
    if not isinstance(share, float | int) or not 0 < share < 1:
        raise ConfigurationError(f"{name} is a share between 0 and 1, such as 0.05, not {snippet(repr(share), 40)}.")


def fit_calibration(
    rows: Sequence[ScoredRow],
    confidence: Confidence,
    *,
    method: CalibrationMethod = "temperature",
    ranks: bool = False,
    failed: int = 0,
    asked: str = "",
) -> Calibration:
    """Return what is fitted to answered rows; `ranks` is whether the most probable label becomes the answer.

    Raises:
        ConfigurationError: the confidence does not tell right answers from wrong ones.
    """
    floor = _LEAST_SHARE.get(confidence.source, 0.5 / confidence.samples)
    priors = _means([row.shares for row in rows], floor) if method == "batch" else {}
    labelled = [(row.shares, row.right) for row in rows]
    wrong = any(row.answer != row.right for row in rows)
    temperature = fit_temperature(labelled, floor, priors) if wrong else 1.0
    points = list[CalibrationPoint]()
    for row in rows:
        after = calibrated(row.shares, temperature=temperature, floor=floor, priors=priors)
        # Priors may make another label the most probable one.
        answer = max(after, key=after.__getitem__) if ranks and priors else row.answer
        points.append(CalibrationPoint(row.shares.get(row.answer, 0.0), after.get(answer, 0.0), answer == row.right))
    area = auroc([(point.after, point.right) for point in points])
    if area is not None and area.low <= 0.5:
        raise ConfigurationError(
            f"the confidence ({confidence.source}) does not tell right answers from wrong ones: AUROC {area.value:.2f} "
            f"({area.low:.2f} to {area.high:.2f}) on {len(points):,} rows, and 0.5 is chance. Use another source, or "
            "more rows."
        )
    if not any(point.right for point in points):
        raise ConfigurationError(f"none of the {len(points):,} answers is right, so there is nothing to fit.")
    return Calibration(
        temperature=temperature,
        floor=floor,
        priors=priors,
        asked=asked,
        rows=len(rows) + failed,
        failed=failed,
        auroc=None if area is None else (area.value, area.low, area.high),
        points=tuple(points),
    )


def _means(shares: Sequence[Mapping[str, float]], floor: float) -> dict[str, float]:
    labels = dict.fromkeys(label for row in shares for label in row)
    return {label: max(math.fsum(row.get(label, 0.0) for row in shares) / len(shares), floor) for label in labels}


def with_threshold(calibration: Calibration, max_risk: float, certainty: float) -> Calibration:
    """Return the calibration with the lowest threshold that keeps a risk.

    Raises:
        ConfigurationError: the rows are too few to say so, or the answers too often wrong.
    """
    points = [(point.after, point.right) for point in calibration.points]
    kept = keep_risk(points, max_risk, certainty)
    if kept is None:
        raise ConfigurationError(why_not(points, max_risk, certainty))
    return replace(calibration, threshold=kept.threshold, max_risk=max_risk, certainty=certainty, bound=kept.bound)
