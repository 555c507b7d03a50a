"""The fit to answered rows: probabilities, the thresholds of labels, and the threshold of a promise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from llmtasker.confidence import Calibration, Confidence
from llmtasker.confidence.calibration_figures import (
    CalibrationPoint,
    calibrated,
    calibrated_alone,
    log_odds,
    sure_of_all,
)
from llmtasker.errors import ConfigurationError, counted
from llmtasker.evaluation.confidence_fit import auroc, fit_temperature, logistic_fit
from llmtasker.evaluation.risk_control import keep_risk, why_not

CalibrationMethod = Literal["temperature", "batch"]
_LEAST_SHARE = {"stated": 0.005, "logprobs": 1e-9, "label_scores": 1e-9}
_LEAST_ROWS = 5  # rows with a label, and as many without it, that its own curve and threshold need
_HALF = 0.5


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """An answered row: the share of each label, its right label, and the label that was answered."""

    shares: Mapping[str, float]
    right: str
    answer: str


@dataclass(frozen=True, slots=True)
class ScoredLabels:
    """An answered row of a field that takes several labels: the share of each, those it has, and those answered."""

    shares: Mapping[str, float]
    right: frozenset[str]
    answer: frozenset[str]


def fit_calibration(
    rows: Sequence[ScoredRow],
    confidence: Confidence,
    *,
    method: CalibrationMethod = "temperature",
    ranks: bool = False,
    failed: int = 0,
    asked: str = "",
) -> Calibration:
    """Return the fit to answered rows; `ranks` is whether the most probable label becomes the answer.

    Raises:
        ConfigurationError: the confidence does not separate right from wrong answers.
    """
    floor = _floor(confidence)
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
    found = {"temperature": temperature, "floor": floor, "priors": priors}
    judged = [(point.after, point.right) for point in points]
    return _calibration(points, judged, confidence, found, failed=failed, asked=asked)


def fit_several(
    rows: Sequence[ScoredLabels], labels: Sequence[str], confidence: Confidence, *, failed: int = 0, asked: str = ""
) -> Calibration:
    """Return the fit to answered rows of a field that takes several labels: a curve and a threshold for each.

    A label that few rows have, or nearly all, gets the curve of all labels together. An answer is as sure as all its
    labels together; it is right if it has all labels of the row and no other.

    Raises:
        ConfigurationError: the confidence does not separate right from wrong answers.
    """
    floor = _floor(confidence)
    common = _curve([(row.shares.get(label, 0.0), label in row.right) for row in rows for label in labels], floor)
    if common[1] <= 0:
        raise ConfigurationError(
            f"the confidence ({confidence.source}) is not higher for the labels that a row has. Use another LLM or "
            "prompt."
        )
    curves, thresholds = dict[str, tuple[float, float]](), dict[str, float]()
    for label in labels:
        values = [(row.shares.get(label, 0.0), label in row.right) for row in rows]
        there = sum(has for _, has in values)
        curves[label], thresholds[label] = common, _HALF
        if min(there, len(values) - there) >= _LEAST_ROWS:
            own = _curve(values, floor)
            curves[label] = own if own[1] > 0 else common
            found = [calibrated_alone(row.shares, {label: curves[label]}, floor)[label] for row in rows]
            thresholds[label] = _best_threshold([(one, has) for one, (_, has) in zip(found, values, strict=True)])
    points, judged = list[CalibrationPoint](), list[tuple[float, bool]]()
    for row in rows:
        after = calibrated_alone(row.shares, curves, floor)
        answer = frozenset(label for label in labels if after[label] >= thresholds[label])
        judged += [(after[label], label in row.right) for label in labels]
        before = sure_of_all(row.answer, {label: row.shares.get(label, 0.0) for label in labels})
        points.append(CalibrationPoint(before, sure_of_all(answer, after), answer == row.right))
    what = {"temperature": 1.0, "floor": floor, "curves": curves, "thresholds": thresholds}
    return _calibration(points, judged, confidence, what, failed=failed, asked=asked)


def _curve(values: Sequence[tuple[float, bool]], floor: float) -> tuple[float, float]:
    return logistic_fit([log_odds(share, floor) for share, _ in values], [has for _, has in values])


def _best_threshold(values: Sequence[tuple[float, bool]]) -> float:
    """Return the threshold with the best F1 of a label; of equal ones, the nearest to a half."""
    there = sum(has for _, has in values)
    ordered = sorted(values, reverse=True)
    thresholds = [_HALF, *((low + high) / 2 for high, low in pairwise(dict.fromkeys(value for value, _ in ordered)))]
    given = right = 0
    best = (-1.0, 0.0, _HALF)
    for threshold in sorted(thresholds, reverse=True):
        while given < len(ordered) and ordered[given][0] >= threshold:
            right += ordered[given][1]
            given += 1
        best = max(best, (2 * right / (given + there), -abs(threshold - _HALF), threshold))
    return best[2]


def _floor(confidence: Confidence) -> float:
    return _LEAST_SHARE.get(confidence.source, 0.5 / confidence.samples)


def _calibration(
    points: Sequence[CalibrationPoint],
    judged: Sequence[tuple[float, bool]],
    confidence: Confidence,
    found: Mapping[str, Any],
    *,
    failed: int,
    asked: str,
) -> Calibration:
    """Return the calibration of answered rows; `judged` has the probabilities of what is right and what is not.

    Raises:
        ConfigurationError: the confidence does not separate right from wrong answers.
    """
    area = auroc(judged)
    if area is not None and area.low <= 0.5:
        raise ConfigurationError(
            f"the confidence ({confidence.source}) does not separate right from wrong answers: AUROC {area.value:.2f} "
            f"({area.low:.2f} to {area.high:.2f}) on {counted(len(points), 'row')}, and 0.5 is chance. "
            "Use another source, or more rows."
        )
    if not any(point.right for point in points):
        raise ConfigurationError(f"none of {counted(len(points), 'answer')} is right, so there is nothing to fit.")
    return Calibration(
        asked=asked,
        rows=len(points) + failed,
        failed=failed,
        auroc=None if area is None else (area.value, area.low, area.high),
        points=tuple(points),
        **found,
    )


def _means(shares: Sequence[Mapping[str, float]], floor: float) -> dict[str, float]:
    labels = dict.fromkeys(label for row in shares for label in row)
    return {label: max(math.fsum(row.get(label, 0.0) for row in shares) / len(shares), floor) for label in labels}


def with_threshold(calibration: Calibration, max_risk: float, certainty: float) -> Calibration:
    """Return the calibration with the lowest threshold that keeps a risk.

    Raises:
        ConfigurationError: there are too few rows to show it, or too many answers are wrong.
    """
    points = [(point.after, point.right) for point in calibration.points]
    kept = keep_risk(points, max_risk, certainty)
    if kept is None:
        raise ConfigurationError(why_not(points, max_risk, certainty))
    return replace(calibration, threshold=kept.threshold, max_risk=max_risk, certainty=certainty, bound=kept.bound)
