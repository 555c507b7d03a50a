"""Easy mistakes in measuring and searching: the error names what to give instead."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import pytest

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.errors import ConfigurationError
from llmtasker.evaluation import Report, assert_no_regression, calibrate, cascade, compare, evaluate, judge
from llmtasker.optimizers import LabeledFewShot, estimate_search, optimize
from llmtasker.testing import FakeTransport


class Triage(Signature):
    """Say which team takes the message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


BILLING = [{"message": f"invoice {number}", "team": "billing", "site": "A"} for number in range(4)]
DELIVERY = [{"message": f"parcel {number}", "team": "delivery", "site": "B"} for number in range(4)]
EXAMPLE: Any = {"message": "invoice 0", "team": "billing"}
SETS: dict[str, Any] = {"train": BILLING, "test": DELIVERY}
Case = Callable[[Any, Report], object]


class Polite(Signature):
    """Say whether the reply is polite."""

    reply: str = InputField()
    polite: bool = OutputField()


REPLIES = Task(Polite, llm="offline")

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
    "rows that are examples of the task": (
        lambda task, _: calibrate(task.with_(examples=[Triage(**EXAMPLE)]), [{**EXAMPLE, "message": "INVOICE 0 "}]),
        "1 labelled row is shown as examples, with the right answers",
    ),
    "a cascade of one": (lambda task, _: cascade(task, BILLING, max_risk=0.1), "needs a list of at least two tasks"),
    "a cascade of names": (
        lambda _, __: cascade(["small", "large"], BILLING, max_risk=0.1),  # type: ignore[list-item]
        "needs a list of at least two tasks",
    ),
    **{
        f"a regression by {by}": (
            lambda _, report, by=by: assert_no_regression(report, report, by=by),  # type: ignore[misc]
            f"by is a difference from 0 on, such as 0.01 for one point, not {by}.",
        )
        for by in (5, -0.1, math.nan)
    },
    "a judge that is no task": (lambda _, __: judge("gpt"), "judge takes a task, not 'gpt'."),  # type: ignore[arg-type]
    "a label without points": (
        lambda task, _: judge(task, points={"billing": 1}),
        "points has no score for the label 'delivery'.",
    ),
    "points of no label": (
        lambda task, _: judge(task, points={"billing": 1, "delivery": 0, "x": 0}),
        "points has 'x', which is not a label: billing, delivery.",
    ),
    "points that are no number": (
        lambda task, _: judge(task, points={"billing": 1, "delivery": math.nan}),
        "the points of 'delivery' are a number, not nan.",
    ),
    "a judge of what is not there": (
        lambda task, _: evaluate(task, BILLING, metrics={"good": judge(REPLIES)}),
        "the judge needs 'reply'; known: message, team, right_team. Give judge(inputs=…).",
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


def test_copies_of_a_row_are_told_beside_a_promise() -> None:
    """They are not so many independent rows, unless inputs repeat so often in the data too."""
    rows = [{**EXAMPLE, "message": f"invoice {number % 30}"} for number in range(90)]
    task = Task(Triage, llm=LLM(transport=FakeTransport({"team": "billing"}), cache=False))
    found = calibrate(task, rows, max_risk=0.05, progress=False).calibration
    assert found is not None
    assert found.repeated == 60
    assert "60 rows have the input of an earlier one" in str(found)
    assert "60 rows have the input" in str(cascade([task, task], rows, max_risk=0.05, progress=False).report)
    assert "earlier" not in str(calibrate(task, rows[:30], progress=False).calibration)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_with_what_to_give(mistake: str) -> None:
    task = Task(Triage, llm=LLM(transport=FakeTransport({"team": "billing"}), cache=False))
    made, words = MISTAKES[mistake]
    with pytest.raises(ConfigurationError) as caught:
        made(task, evaluate(task, BILLING))
    assert words in str(caught.value)
