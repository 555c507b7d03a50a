"""calibrate: labelled rows → a task whose confidence is a probability, and which abstains to keep a promised risk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, TypeVar, Unpack, get_args

from llmtasker.confidence import Calibration, Confidence
from llmtasker.confidence.calibration import CalibrationPoint, calibrated
from llmtasker.confidence.confident_policy import asked_by, is_whole
from llmtasker.confidence.label_field import LabelField, label_field
from llmtasker.errors import ConfigurationError, check_choice, check_names, snippet
from llmtasker.evaluation.confidence_fit import auroc, fit_temperature
from llmtasker.evaluation.gold_rows import Gold, gold_rows
from llmtasker.evaluation.risk_control import keep_risk, least_rows, rows_needed
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
    scored, failed = await _scored(asking, rows, confidence, options)
    fitted = fit_calibration(
        scored,
        confidence,
        method=method,
        ranks=is_whole(asking.program, confidence),
        failed=failed,
        asked=asked_by(asking.program, asking.llm, confidence),
    )
    if max_risk is not None:
        fitted = with_threshold(fitted, max_risk, certainty)
    return asking.with_(confidence=replace(confidence, calibration=fitted))


async def _scored(
    task: Task[Any], rows: Gold, confidence: Confidence, options: CalibrationOptions
) -> tuple[list[ScoredRow], int]:
    """Return the rows that were answered, with their shares, and how many failed."""
    labels = label_field(task.signature, confidence.field, confidence.source)
    if labels.many:
        raise ConfigurationError(f"calibrate takes a field with one label; {labels.name} takes several.")
    asked = options.copy()
    gold, _ = gold_rows(task.signature, rows, columns=asked.pop("columns", None))
    if labels.name not in gold[0].gold:
        raise ConfigurationError(f"the labelled rows have no column {labels.name!r}, whose confidence is calibrated.")
    results = await task.arun([dict(row.given) for row in gold], **asked)
    work, found = RowWork(task), list[ScoredRow]()
    for row, item in zip(gold, results, strict=True):
        if item.ok and item.confidence:
            answer = _text(labels, work.answer(item)[labels.name])
            found.append(ScoredRow(item.confidence, _text(labels, row.gold[labels.name]), answer))
    if not found:
        first = next((item.error for item in results if item.error is not None), None)
        raise ConfigurationError(f"no labelled row was answered; the first error is: {first}")
    return found, len(results) - len(found)


def check_share(name: str, share: object) -> None:
    """Check that an argument is a share between 0 and 1.

    Raises:
        ConfigurationError: it is something else.
    """
    if not isinstance(share, float | int) or not 0 < share < 1:
        raise ConfigurationError(f"{name} is a share between 0 and 1, such as 0.05, not {snippet(repr(share), 40)}.")


def _text(labels: LabelField, value: Any) -> str:
    return labels.texts(value)[0]


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
        least = least_rows(max_risk, certainty)
        promise = f"a risk of at most {100 * max_risk:g} % can't be promised at a certainty of {100 * certainty:g} %"
        if len(points) < least:
            reason = f"that takes at least {least:,} answered rows without an error, and there are {len(points):,}"
        elif (needed := rows_needed(points, max_risk, certainty)) is None:
            reason = (
                f"even the surest answers to these {len(points):,} rows are wrong too often. Allow a higher risk, or "
                "use a better LLM or another source of confidence"
            )
        else:
            reason = f"{len(points):,} answered rows are too few. About {max(needed, len(points) + 1):,} may do"
        raise ConfigurationError(f"{promise}: {reason}.")
    return replace(calibration, threshold=kept.threshold, max_risk=max_risk, certainty=certainty, bound=kept.bound)
