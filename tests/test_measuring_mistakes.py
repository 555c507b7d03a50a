"""Easy mistakes in measuring and searching: the error names what to give instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.errors import ConfigurationError
from llmtasker.evaluation import Report, assert_no_regression, calibrate, compare, evaluate
from llmtasker.optimizers import LabeledFewShot, estimate_search, optimize
from llmtasker.testing import FakeTransport


class Triage(Signature):
    """Say which team takes the message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


BILLING = [{"message": f"invoice {number}", "team": "billing", "site": "A"} for number in range(4)]
DELIVERY = [{"message": f"parcel {number}", "team": "delivery", "site": "B"} for number in range(4)]
SETS: dict[str, Any] = {"train": BILLING, "test": DELIVERY}
Case = Callable[[Any, Report], object]

MISTAKES: dict[str, tuple[Case, str]] = {
    "a path to compare": (lambda _, report: compare(report, "b.json"), "B is of type str, not a report: give what"),  # type: ignore[arg-type]
    "a number to compare": (lambda _, report: compare(3, report), "A is of type int, not a report"),  # type: ignore[arg-type]
    "a metric that was not measured": (
        lambda _, report: compare(report, report, metric="tone"),
        "A measured team, B team: 'tone' is not in both.",
    ),
    "a regression of no metric": (
        lambda _, report: assert_no_regression(report, report, metric="tone"),
        "'tone' is not in both.",
    ),
    "an optimizer by name": (
        lambda task, _: optimize(task, "bootstrap", **SETS),  # type: ignore[arg-type]
        "InstructionSearch(), LabelDescriptions(), GEPA(), not 'bootstrap'.",
    ),
    "an optimizer's class": (
        lambda task, _: optimize(task, LabeledFewShot, **SETS),  # type: ignore[arg-type]
        "the optimizer is the class LabeledFewShot: give LabeledFewShot().",
    ),
    "an estimate of a class": (
        lambda task, _: estimate_search(task, LabeledFewShot, **SETS),  # type: ignore[arg-type]
        "give LabeledFewShot().",
    ),
    "a budget that is a number": (
        lambda task, _: optimize(task, LabeledFewShot(), budget=100, **SETS),  # type: ignore[arg-type]
        "budget takes a Budget, such as Budget(calls=1000), not 100.",
    ),
    "a misspelt set of rows": (
        lambda task, _: optimize(task, LabeledFewShot(), vall=DELIVERY, **SETS),  # type: ignore[call-arg]
        "Did you mean 'val'? Its arguments are train, test, val, budget,",
    ),
    "a search by a bare function": (
        lambda task, _: optimize(task, LabeledFewShot(), metrics=len, **SETS),
        "metrics is a mapping from name to function",
    ),
    "metrics without names": (
        lambda task, _: evaluate(task, BILLING, metrics=[len]),  # type: ignore[arg-type]
        "metrics is a mapping from name to function",
    ),
    "a metric that is no function": (
        lambda task, _: evaluate(task, BILLING, metrics={"exact": "exact"}),  # type: ignore[dict-item]
        "not {'exact': 'exact'}.",
    ),
    "one column as slices": (
        lambda task, _: evaluate(task, BILLING, slices="site"),
        "slices is a list of columns, such as ['site'], not 'site'.",
    ),
    "a list as cluster": (
        lambda task, _: evaluate(task, BILLING, cluster=["site"]),  # type: ignore[arg-type]
        "cluster is the name of a column, not ['site'].",
    ),
    "a misspelt argument": (
        lambda task, _: evaluate(task, BILLING, slice=["site"]),  # type: ignore[call-arg]
        "evaluate has no argument 'slice'. Did you mean 'slices'?",
    ),
    "an argument of an LLM": (
        lambda task, _: evaluate(task, BILLING, temperature=1),  # type: ignore[call-arg]
        "evaluate has no argument 'temperature': it belongs in llm=LLM(\"…\", temperature=…).",
    ),
    "a misspelt risk": (
        lambda task, _: calibrate(task, BILLING, maxrisk=0.1),
        "Did you mean 'max_risk'? Its arguments are max_risk, certainty, method,",
    ),
    "a confidence that was not asked for": (
        lambda task, _: calibrate(task, BILLING + DELIVERY),
        'The task has no confidence=, so "votes" were counted. Another source: task.with_(confidence="stated")',
    ),
    "labels of a field that is not there": (
        lambda _, report: report.labels("tea"),
        "'tea' is not a field that was measured. Did you mean 'team'?",
    ),
    "confusions of a field that is not there": (lambda _, report: report.confusion("tea"), "The fields are team."),
    "the worst of nothing": (lambda _, report: report.worst("tea"), "'tea' was not measured."),
    "flips of nothing": (lambda _, report: report.flips("tea"), "Did you mean 'team'? Measured: team."),
    "a score of nothing": (lambda _, report: report.score("tea"), "'tea' was not measured."),
    "a difference from a text": (
        lambda task, _: task.diff("x"),
        "diff compares a task with another task, not with 'x'.",
    ),
    "a misspelt LLM": (
        lambda _, __: Task(Triage, lm="offline"),  # type: ignore[call-arg]
        "Task has no argument 'lm'. Did you mean 'llm'? Its arguments are llm, signature,",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_with_what_to_give(mistake: str) -> None:
    task = Task(Triage, llm=LLM(transport=FakeTransport({"team": "billing"}), cache=False))
    made, words = MISTAKES[mistake]
    with pytest.raises(ConfigurationError) as caught:
        made(task, evaluate(task, BILLING))
    assert words in str(caught.value)
