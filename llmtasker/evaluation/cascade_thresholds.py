"""Choose the rows that each task of a cascade answers, so that all answers together keep a risk at the least cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from llmtasker.evaluation.risk_control import RiskTrial, last_to_pass, most_errors, upper_bound

_RANKS = 30  # thresholds of the earlier tasks that are considered
_TARGETS = [0.9**number for number in range(40, -1, -1)]  # target risks, relative to the highest predicted one
_ALMOST = 0.995  # this share of the most rows that can be answered is enough if it costs less
_NEVER = math.inf


class StageAnswer(NamedTuple):
    """The result of a task for a row: its confidence (-1: it failed), whether it is right, and the cost."""

    confidence: float
    right: bool
    cost: float


@dataclass(frozen=True, slots=True)
class CascadeThresholds:
    """The threshold of each task, the labelled rows that are answered, the errors among these, and their upper
    bound."""

    thresholds: tuple[float, ...]
    rows: int
    errors: int
    bound: float


class _Combination(NamedTuple):
    early: float
    last: float
    rows: int
    errors: int
    predicted: float  # errors
    cost: float


def cascade_thresholds(
    stages: Sequence[Sequence[StageAnswer]], max_risk: float, certainty: float
) -> CascadeThresholds | None:
    """Return the thresholds for tasks in order, from the results of each on the same labelled rows.

    The tasks before the last share one threshold. For each of several target risks, the candidates are those that
    should answer the most rows, or nearly as many; the cheapest of them is chosen. The chosen ones are tested in order
    of risk, as in `keep_risk`. None: none keeps the risk.
    """
    found = list[_Combination]()
    all_candidates = _candidates(stages)
    highest = max((one.predicted / one.rows for one in all_candidates), default=0.0)
    for target in _TARGETS:
        fitting = [one for one in all_candidates if one.predicted <= target * highest * one.rows]
        most = max((one.rows for one in fitting), default=0)
        best = min((one for one in fitting if one.rows >= _ALMOST * most), key=lambda one: one.cost, default=None)
        if best is not None and best not in found:
            found.append(best)
    trials = [RiskTrial(one.rows, one.errors, most_errors(one.rows, max_risk, certainty)) for one in found]
    if (at := last_to_pass(trials, len(stages[-1]), max_risk, certainty)) is None:
        return None
    best = found[at]
    thresholds = (*[best.early] * (len(stages) - 1), best.last)
    return CascadeThresholds(thresholds, best.rows, best.errors, upper_bound(best.errors, best.rows, certainty))


def _candidates(stages: Sequence[Sequence[StageAnswer]]) -> list[_Combination]:
    *early, last = stages
    chances = [_chances(stage) for stage in stages]
    confidences = sorted({answer.confidence for stage in early for answer in stage if answer.confidence >= 0})
    step = max(1, len(confidences) // _RANKS)
    found = list[_Combination]()
    for threshold in [*confidences[::step], _NEVER]:
        rows, errors, predicted, cost, rest = 0, 0, 0.0, 0.0, list[int]()
        asked = early if threshold < _NEVER else []  # a task that never answers is not asked
        for number in range(len(last)):
            for stage, chance in zip(asked, chances, strict=False):
                answer = stage[number]
                cost += answer.cost
                if answer.confidence >= threshold:
                    rows, errors, predicted = rows + 1, errors + (not answer.right), predicted + chance[number]
                    break
            else:
                rest.append(number)
        if rows:
            found.append(_Combination(threshold, _NEVER, rows, errors, predicted, cost))
        cost += sum(last[number].cost for number in rest)
        rest.sort(key=lambda number: -last[number].confidence)
        for place, number in enumerate(rest):
            answer = last[number]
            if answer.confidence < 0:
                break
            rows, errors, predicted = rows + 1, errors + (not answer.right), predicted + chances[-1][number]
            if place + 1 == len(rest) or last[rest[place + 1]].confidence < answer.confidence:
                found.append(_Combination(threshold, answer.confidence, rows, errors, predicted, cost))
    return found


def _chances(stage: Sequence[StageAnswer]) -> list[float]:
    """Return the probability of an error in each row, from the confidences themselves; 1 if the task failed.

    A curve fitted to the errors would choose the candidates by luck, and then one promise in five could be broken. For
    a task without a confidence, the share of errors is counted.
    """
    known = [answer for answer in stage if answer.confidence >= 0]
    if len({answer.confidence for answer in known}) == 1:
        share = sum(not answer.right for answer in known) / len(known)
        return [1.0 if answer.confidence < 0 else share for answer in stage]
    return [1 - max(answer.confidence, 0.0) for answer in stage]
