"""CalibrationFigures: the fit to labelled rows, and the figures that follow from it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_BINS = 10


class CalibrationPoint(NamedTuple):
    """An answered row: the confidence in its answer before and after calibration, and whether it is right."""

    before: float
    after: float
    right: bool


@dataclass(frozen=True, kw_only=True)
class CalibrationFigures:
    """The fit, the labelled rows, and the promise; `Calibration` describes the fields."""

    temperature: float
    floor: float
    asked: str
    rows: int
    failed: int = 0
    repeated: int = 0
    priors: Mapping[str, float] = field(default_factory=dict[str, float])
    curves: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    thresholds: Mapping[str, float] = field(default_factory=dict[str, float])
    threshold: float | None = None
    max_risk: float | None = None
    certainty: float = 0.9
    bound: float | None = None
    auroc: tuple[float, float, float] | None = None
    points: tuple[CalibrationPoint, ...] = ()

    def apply(self, shares: Mapping[str, float]) -> dict[str, float]:
        """Return the probability of each label, from the shares that a source gives."""
        if self.curves:
            return calibrated_alone(shares, self.curves, self.floor)
        return calibrated(shares, temperature=self.temperature, floor=self.floor, priors=self.priors)

    def chosen(self, found: Mapping[str, float]) -> list[str]:
        """Return, for a field that takes several labels, those that reach their threshold."""
        return [label for label, threshold in self.thresholds.items() if found.get(label, 0.0) >= threshold]

    @property
    def least_shares(self) -> dict[str, float]:
        """The share from which each label is given, for a field that takes several."""
        found = dict[str, float]()
        for label, (offset, slope) in self.curves.items():
            odds = (log_odds(self.thresholds[label], 1e-9) - offset) / slope
            found[label] = 1 / (1 + math.exp(max(min(-odds, 700.0), -700.0)))
        return found

    # ── figures ──

    @property
    def answered(self) -> int:
        """The number of labelled rows that reach the threshold."""
        return sum(self._given(point) for point in self.points)

    @property
    def wrong(self) -> int:
        """The number of these rows that are wrong."""
        return sum(self._given(point) and not point.right for point in self.points)

    def _given(self, point: CalibrationPoint) -> bool:
        return self.threshold is None or point.after >= self.threshold

    @property
    def ece(self) -> tuple[float, float]:
        """The expected calibration error before and after, over 10 bins of equal width."""
        return (
            calibration_error([(point.before, point.right) for point in self.points]),
            calibration_error([(point.after, point.right) for point in self.points]),
        )


def calibrated(
    shares: Mapping[str, float], *, temperature: float, floor: float, priors: Mapping[str, float]
) -> dict[str, float]:
    """Return shares divided by their priors and raised to the power of 1 / temperature, with a sum of 1.

    The temperature is that of Guo et al. 2017, the division the batch calibration of Zhou et al. 2023.

    >>> {label: round(share, 2) for label, share in calibrated({"a": 0.9, "b": 0.1}, temperature=2, floor=0,
    ...     priors={}).items()}
    {'a': 0.75, 'b': 0.25}
    """
    logs = {label: math.log(max(share, floor, 1e-300)) for label, share in shares.items()}
    if priors:
        logs = {label: value - math.log(priors.get(label) or 1.0) for label, value in logs.items()}
    most = max(logs.values(), default=0.0)
    powers = {label: math.exp((value - most) / temperature) for label, value in logs.items()}
    total = math.fsum(powers.values())
    return {label: power / total for label, power in powers.items()}


def calibrated_alone(
    shares: Mapping[str, float], curves: Mapping[str, tuple[float, float]], floor: float
) -> dict[str, float]:
    """Return the probability of each label of a field that takes several: each is present or not, independently.

    A curve is the offset and the slope of the log odds (Platt 1999).

    >>> {label: round(share, 2) for label, share in calibrated_alone({"a": 0.9}, {"a": (0, 0.5), "b": (0, 1)},
    ...     0.1).items()}
    {'a': 0.75, 'b': 0.1}
    """
    found = dict[str, float]()
    for label, (offset, slope) in curves.items():
        odds = offset + slope * log_odds(shares.get(label, 0.0), floor)
        found[label] = 1 / (1 + math.exp(max(min(-odds, 700.0), -700.0)))
    return found


def log_odds(share: float, floor: float) -> float:
    """Return the logarithm of the odds of a share, which is kept between `floor` and 1 - `floor`."""
    inside = min(max(share, floor), 1 - floor)
    return math.log(inside / (1 - inside))


def sure_of_all(answer: Collection[str], found: Mapping[str, float]) -> float:
    """Return the probability that the labels of an answer are present and the others not, each independently.

    >>> round(sure_of_all(["a"], {"a": 0.9, "b": 0.2}), 2)
    0.72
    """
    return math.prod(share if label in answer else 1 - share for label, share in found.items())


def calibration_error(pairs: Sequence[tuple[float, bool]], bins: int = _BINS) -> float:
    """Return the expected calibration error (Naeini et al. 2015) of confidences, over bins of equal width.

    >>> calibration_error([(0.75, True), (0.75, False), (0.95, True), (0.95, True)])
    0.15
    """
    return round(
        sum(part.rows * abs(part.confidence - part.right) for part in reliability(pairs, bins)) / max(len(pairs), 1), 12
    )


class ReliabilityBin(NamedTuple):
    """The rows whose confidence is in a bin: their number, their mean confidence, and the share that is right."""

    rows: int
    confidence: float
    right: float


def reliability(pairs: Sequence[tuple[float, bool]], bins: int = _BINS) -> list[ReliabilityBin]:
    """Return the bins of equal width that contain rows."""
    members: dict[int, list[tuple[float, bool]]] = {}
    for confidence, right in pairs:
        members.setdefault(min(max(int(confidence * bins), 0), bins - 1), []).append((confidence, right))
    return [
        ReliabilityBin(
            len(found),
            math.fsum(confidence for confidence, _ in found) / len(found),
            sum(right for _, right in found) / len(found),
        )
        for _, found in sorted(members.items())
    ]
