"""The fit to the confidences of labelled rows, and how well they separate right from wrong answers."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence

from llmtasker.confidence.calibration_figures import calibrated
from llmtasker.evaluation.intervals import Interval, Z

_COLDEST, _HOTTEST = 1 / 30, 30.0


def fit_temperature(
    rows: Sequence[tuple[Mapping[str, float], str]], floor: float, priors: Mapping[str, float]
) -> float:
    """Return the temperature that makes the right labels most probable, from the shares and the right label of each
    row.

    The mean logarithm of that probability is concave in 1 / temperature, so halving an interval finds its maximum.
    """
    logs = list[tuple[list[float], float]]()
    for shares, right in rows:
        known = {**shares, right: shares.get(right, 0.0)}
        adjusted = calibrated(known, temperature=1.0, floor=floor, priors=priors)
        values = {label: math.log(max(share, 1e-300)) for label, share in adjusted.items()}
        logs.append((list(values.values()), values[right]))

    def slope(power: float) -> float:
        total = 0.0
        for values, right in logs:
            most = max(values) * power
            weights = [math.exp(value * power - most) for value in values]
            mean = sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)
            total += right - mean
        return total

    low, high = math.log(1 / _HOTTEST), math.log(1 / _COLDEST)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(math.exp(middle)) > 0 else (low, middle)
    return math.exp(-(low + high) / 2)


def logistic_fit(values: Sequence[float], right: Sequence[bool]) -> tuple[float, float]:
    """Return offset and slope of the logistic curve of being right over a value, by Newton's method.

    A weak pull towards 0 keeps both finite if the values separate right from wrong.
    """
    offset = slope = 0.0
    for _ in range(50):
        g0, g1, h00, h01, h11 = -1e-3 * offset, -1e-3 * slope, 1e-3, 0.0, 1e-3
        for value, hit in zip(values, right, strict=True):
            share = 1 / (1 + math.exp(-max(min(offset + slope * value, 700), -700)))
            weight = share * (1 - share)
            g0, g1 = g0 + hit - share, g1 + (hit - share) * value
            h00, h01, h11 = h00 + weight, h01 + weight * value, h11 + weight * value * value
        scale = h00 * h11 - h01 * h01
        steps = [(h11 * g0 - h01 * g1) / scale, (h00 * g1 - h01 * g0) / scale]
        steps = [max(min(step, 2.0), -2.0) for step in steps]
        offset, slope = offset + steps[0], slope + steps[1]
        if max(map(abs, steps)) < 1e-9:
            break
    return offset, slope


def auroc(points: Sequence[tuple[float, bool]]) -> Interval | None:
    """Return how often a right answer has more confidence than a wrong one, with its 95 % interval (Hanley, McNeil
    1982).

    None: all answers are right, or all are wrong.

    >>> [round(part, 2) for part in auroc([(0.9, True), (0.8, True), (0.7, False), (0.8, True), (0.6, False)])]
    [1.0, 0.72, 1.0]
    """
    right = [value for value, hit in points if hit]
    wrong = sorted(value for value, hit in points if not hit)
    if not right or not wrong:
        return None
    below = sum(bisect_left(wrong, value) + bisect_right(wrong, value) for value in right) / 2
    pairs = len(right) * len(wrong)
    area = below / pairs
    inner = min(max(area, 0.5 / pairs), 1 - 0.5 / pairs)  # at 0 and 1 the formula gives no width
    first, second = inner / (2 - inner), 2 * inner * inner / (1 + inner)
    variance = inner * (1 - inner) + (len(right) - 1) * (first - inner**2) + (len(wrong) - 1) * (second - inner**2)
    spread = Z * math.sqrt(max(variance, 0.0) / pairs)
    return Interval(area, max(area - spread, 0.0), min(area + spread, 1.0))
