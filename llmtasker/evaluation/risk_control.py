"""The threshold of a confidence that keeps a promised risk, and the exact bounds on which it is based."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from llmtasker.errors import counted
from llmtasker.evaluation.confidence_fit import logistic_fit

_STEP = 1.05  # each threshold that is tried answers this many times the rows of the one before
_FEW = 4  # errors that the first trial allows, if there are enough rows
_LEAST_FIRST, _MOST_FIRST = 0.15, 0.4  # the share of rows that the first trial answers
_LEAST, _MOST = 1e-6, 1 - 1e-6


def at_most(errors: int, rows: int, share: float) -> float:
    """Return the probability of at most this many errors in a number of rows, given the mean share of errors.

    >>> round(at_most(1, 10, 0.1), 6)
    0.736099
    """
    if share <= 0 or errors >= rows:
        return 1.0
    if share >= 1:
        return 0.0
    yes, no = math.log(share), math.log1p(-share)
    chosen = [math.lgamma(rows + 1) - math.lgamma(k + 1) - math.lgamma(rows - k + 1) for k in range(errors + 1)]
    return min(1.0, math.fsum(math.exp(value + k * yes + (rows - k) * no) for k, value in enumerate(chosen)))


def upper_bound(errors: int, rows: int, certainty: float) -> float:
    """Return the one-sided upper bound of a share of errors (Clopper, Pearson 1934).

    >>> round(upper_bound(0, 45, 0.9), 4), round(upper_bound(3, 132, 0.9), 4)
    (0.0499, 0.0499)
    """
    low, high = 0.0, 1.0
    if errors >= rows:
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if at_most(errors, rows, middle) > 1 - certainty else (low, middle)
    return high


def most_errors(rows: int, max_risk: float, certainty: float) -> int:
    """Return the most errors in a number of rows whose upper bound is still `max_risk`; -1: even none is too many."""
    errors = -1
    term, total = rows * math.log1p(-max_risk), 0.0
    while errors < rows:
        total += math.exp(term)
        if total > 1 - certainty:
            return errors
        errors += 1
        term += math.log((rows - errors) / (errors + 1) * max_risk / (1 - max_risk)) if errors < rows else 0.0
    return errors


def least_rows(max_risk: float, certainty: float) -> int:
    """Return how many answers without any error a promise needs.

    >>> least_rows(0.05, 0.9)
    45
    """
    return math.ceil(math.log(1 - certainty) / math.log1p(-max_risk))


@dataclass(frozen=True, slots=True)
class KeptRisk:
    """A threshold, the labelled rows that it answers, the errors among these, and the upper bound of their share."""

    threshold: float
    rows: int
    errors: int
    bound: float


def keep_risk(points: Sequence[tuple[float, bool]], max_risk: float, certainty: float) -> KeptRisk | None:
    """Return the lowest threshold whose upper bound keeps the risk, from (confidence, right) of labelled rows.

    None: no threshold keeps the risk, or there are too few rows to show that one does.
    """
    ordered = sorted(points, key=lambda point: -point[0])
    trials = risk_trials(ordered, max_risk, certainty)
    at = last_to_pass(trials, len(ordered), max_risk, certainty)
    if at is None:
        return None
    rows, errors, _ = trials[at]
    return KeptRisk(ordered[rows - 1][0], rows, errors, upper_bound(errors, rows, certainty))


class RiskTrial(NamedTuple):
    """A choice of thresholds: the labelled rows that are answered, the errors among them, and the errors allowed."""

    rows: int
    errors: int
    allowed: int


def last_to_pass(trials: Sequence[RiskTrial], rows: int, max_risk: float, certainty: float) -> int | None:
    """Return the number of the last trial that keeps the risk; trials are in order, strictest first.

    Trials are tested in a fixed sequence (Angelopoulos et al. 2021, "Learn then test"), and the first failure ends it,
    so testing many does not cost certainty. If the first one fails, none passes.

    Later trials must leave only half the doubt. A promise is checked on a limited number of further rows, which vary as
    the labelled ones did.
    """
    passed = first_trial(trials, rows, max_risk, certainty)
    if passed is None or trials[passed].errors > trials[passed].allowed:
        return None
    surer = (1 + certainty) / 2
    for trial in trials[passed + 1 :]:
        if trial.errors > most_errors(trial.rows, max_risk, surer):
            break
        passed += 1
    return passed


def first_trial(trials: Sequence[RiskTrial], rows: int, max_risk: float, certainty: float) -> int | None:
    """Return the number of the trial that is tested first; None: all have too few rows to allow even no error.

    It is chosen by numbers of rows alone. One chosen by errors would pass more often by luck, and where confidence
    means nothing among the surest rows, one promise in eight would be broken. So, whatever the confidences are, a
    threshold with more than `max_risk` passes in at most 1 - `certainty` of cases: that is how `allowed` is computed.
    """
    start = first_rows(rows, max_risk, certainty)
    able = [at for at, trial in enumerate(trials) if trial.allowed >= 0]
    return min(able, key=lambda at: abs(math.log(trials[at].rows / start)), default=None)


def first_rows(rows: int, max_risk: float, certainty: float) -> int:
    """Return how many of the labelled rows the first trial answers.

    That is enough to allow a few errors, but not most of the rows: among the surest, errors are rarest. With many rows,
    it is a share of them.

    >>> first_rows(100, 0.05, 0.9), first_rows(500, 0.05, 0.9), first_rows(2_000, 0.05, 0.9)
    (45, 158, 306)
    """
    start = max(least_rows(max_risk, certainty), math.ceil(rows * _LEAST_FIRST))
    if most_errors(start, max_risk, certainty) == most_errors(start - 1, max_risk, certainty):
        start = _one_more_allowed(start, max_risk, certainty)
    while most_errors(start, max_risk, certainty) < _FEW:
        following = _one_more_allowed(start, max_risk, certainty)
        if following > rows * _MOST_FIRST:
            break
        start = following
    return start


def _one_more_allowed(rows: int, max_risk: float, certainty: float) -> int:
    """Return the next larger number of rows with which one more error is allowed."""
    allowed = most_errors(rows, max_risk, certainty)
    while most_errors(rows, max_risk, certainty) == allowed:
        rows += 1
    return rows


def risk_trials(ordered: Sequence[tuple[float, bool]], max_risk: float, certainty: float) -> list[RiskTrial]:
    """Return the thresholds to try, strictest first, for rows in the order of their confidence."""
    found, errors, least = list[RiskTrial](), 0, float(least_rows(max_risk, certainty))
    allowed = -1
    for rows, (confidence, right) in enumerate(ordered, start=1):
        errors += not right
        end = rows == len(ordered)
        if not end and ordered[rows][0] == confidence:
            continue  # equal confidences are answered together
        if rows < least and not end:
            continue
        now = most_errors(rows, max_risk, certainty)
        if now > allowed or end:  # more rows without another allowed error would only fail more often
            found.append(RiskTrial(rows, errors, now))
            least, allowed = rows * _STEP, now
    return found


def _predicted(ordered: Sequence[tuple[float, bool]]) -> list[float]:
    """Return the share of errors that a fitted curve predicts among the surest rows, for each number of rows."""
    return [total / number for number, total in enumerate(accumulate(predicted_errors(ordered)), start=1)]


def predicted_errors(points: Sequence[tuple[float, bool]]) -> list[float]:
    """Return the probability of an error in each row, by a curve of two parameters fitted to all of them."""
    logits = [_logit(confidence) for confidence, _ in points]
    offset, slope = logistic_fit(logits, [right for _, right in points])
    return [1 / (1 + math.exp(max(min(offset + slope * logit, 700), -700))) for logit in logits]


def _logit(share: float) -> float:
    inside = min(max(share, _LEAST), _MOST)
    return math.log(inside / (1 - inside))


def rows_needed(points: Sequence[tuple[float, bool]], max_risk: float, certainty: float) -> int | None:
    """Return about how many labelled rows a threshold needs to pass that answers a tenth of them or more.

    None: judging by the confidences, no number of rows would be enough.
    """
    ordered = sorted(points, key=lambda point: -point[0])
    predicted, needed = _predicted(ordered), list[float]()
    for share in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0):
        risk = predicted[max(1, round(share * len(ordered))) - 1]
        if risk >= 0.9 * max_risk:
            continue
        rows = least_rows(max_risk, certainty)
        while most_errors(rows, max_risk, certainty) < risk * rows + math.sqrt(risk * rows):
            rows = math.ceil(rows * 1.1)
        needed.append(rows / share)
    return math.ceil(min(needed)) if needed else None


def why_not(points: Sequence[tuple[float, bool]], max_risk: float, certainty: float) -> str:
    """Return why a risk can't be promised from these rows, and what would help."""
    least = least_rows(max_risk, certainty)
    if len(points) < least:
        reason = f"that takes at least {counted(least, 'answered row')} without an error, and there are {len(points):,}"
    elif (needed := rows_needed(points, max_risk, certainty)) is None:
        reason = (
            f"even the surest answers to these {counted(len(points), 'row')} are wrong too often. Allow a higher "
            "risk, or use a better LLM or another source of confidence"
        )
    else:
        reason = f"{len(points):,} answered rows are too few. About {max(needed, len(points) + 1):,} may be enough"
    return (
        f"a risk of at most {100 * max_risk:g} % can't be promised at a certainty of {100 * certainty:g} %: {reason}."
    )
