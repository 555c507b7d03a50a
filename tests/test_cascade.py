"""A cascade: the rows that each task answers, its cost, and the risk that all tasks keep together."""

from __future__ import annotations

import json
import math
from random import Random
from statistics import median
from typing import Any

import pytest

from llmtasker import LLM, Budget, Classification
from llmtasker.errors import AbstainedError, ConfigurationError
from llmtasker.evaluation import Cascade, cascade, evaluate
from llmtasker.evaluation.cascade_stage import cascade_outcome
from llmtasker.evaluation.cascade_thresholds import StageAnswer, cascade_thresholds
from llmtasker.llm.costs import Prices
from llmtasker.testing import FakeTransport
from llmtasker.wire.completion import Completion, Usage
from llmtasker.wire.request import Request
from llmtasker.wire.request_reader import last_user_text

# ── two simulated LLMs: 70 % and 92 % right, prices 1 : 20 ──


def simulated(random: Random, count: int) -> list[list[StageAnswer]]:
    stages: list[list[StageAnswer]] = [[], []]
    for _ in range(count):
        for stage, (a, b, cost) in zip(stages, ((2, 0.86, 1.0), (5, 0.43, 20.0)), strict=True):
            sure = random.betavariate(a, b)
            stage.append(StageAnswer(sure, random.random() < sure, cost))
    return stages


@pytest.mark.parametrize("max_risk", [0.05, 0.12])
def test_a_cascade_keeps_its_risk_for_less(max_risk: float) -> None:
    """40 slices of 500; benchmarks/confidence.py has 500."""
    many = simulated(Random(99), 10_000)
    broken, costs = 0, []
    for number in range(40):
        found = cascade_thresholds(simulated(Random(number), 500), max_risk, 0.9)
        assert found is not None
        answered, wrong, cost = cascade_outcome(many, found.thresholds)
        broken += sum(wrong) > max_risk * sum(answered)
        costs.append(cost / 200_000)
    assert broken <= 4
    assert median(costs) <= (0.75 if max_risk == 0.12 else 0.95)


def test_a_risk_that_cannot_be_kept_has_no_thresholds() -> None:
    assert cascade_thresholds(simulated(Random(0), 100), 0.001, 0.9) is None
    failed = [[StageAnswer(-1.0, False, 1.0)] * 60] * 2
    assert cascade_thresholds(failed, 0.05, 0.9) is None


def test_a_promise_is_kept_where_neither_confidence_says_anything() -> None:
    """Whatever the votes, both are wrong in more than 12 %."""
    kept, slices = 0, 400
    for number in range(slices):
        random = Random(number)
        stages = [
            [StageAnswer(random.choice([1.0, 0.8, 0.6]), random.random() >= 0.123, price) for _ in range(300)]
            for price in (1.0, 20.0)
        ]
        kept += cascade_thresholds(stages, 0.12, 0.9) is not None
    assert kept <= 0.1 * slices, "candidates chosen by a curve fitted to the errors made it one in five"


def test_the_last_task_may_have_no_confidence_and_break_the_risk_alone() -> None:
    random = Random(1)
    small = [
        StageAnswer(sure, random.random() < sure, 1.0) for sure in (random.betavariate(9, 0.5) for _ in range(500))
    ]
    large = [StageAnswer(1.0, random.random() < 0.92, 20.0) for _ in range(500)]
    found = cascade_thresholds([small, large], 0.06, 0.9)
    assert found is not None
    assert found.rows > 350
    assert found.bound <= 0.06


def test_a_task_that_is_of_no_use_is_not_asked() -> None:
    random = Random(3)
    useless = [StageAnswer(0.2 + random.random() / 5, random.random() < 0.3, 1.0) for _ in range(300)]
    good = [StageAnswer(0.5 + number / 1000, True, 20.0) for number in range(300)]
    found = cascade_thresholds([useless, good], 0.02, 0.9)
    assert found is not None
    assert found.thresholds[0] == math.inf
    assert cascade_outcome([useless, good], found.thresholds)[2] == 6_000


# ── tasks ──

LABELS = ["billing", "delivery", "other"]


def coded(share: float) -> Completion:
    top = (("A", math.log(share)), ("B", math.log(1 - share)))
    return Completion(text="A", top_logprobs=top, usage=Usage(input=100, output=1))


def small(request: Request) -> Completion:
    """Sure and right if the number is odd; otherwise a guess."""
    number = int(last_user_text(request).split()[-1])
    return coded(0.97 if number % 2 else 0.55 + number % 10 / 100)


def large(request: Request) -> dict[str, str]:
    """Right except for one row of 100."""
    number = int(last_user_text(request).split()[-1])
    return {"label": "delivery" if number % 4 == 0 and number % 100 else "billing"}


def labelled(count: int) -> list[dict[str, str]]:
    return [{"text": f"message {n}", "label": "delivery" if n % 4 == 0 else "billing"} for n in range(count)]


def pair(prices: bool = True) -> tuple[Classification, Classification, FakeTransport, FakeTransport]:
    fakes = FakeTransport(small), FakeTransport(large)
    costs = [Prices(input=1.0, output=1.0), Prices(input=20.0, output=20.0)] if prices else [None, None]
    models = [
        LLM(name, transport=fake, prices=price) for name, fake, price in zip(("S", "L"), fakes, costs, strict=True)
    ]
    first = Classification(llm=models[0], labels=LABELS, confidence="logprobs")
    return first, Classification(llm=models[1], labels=LABELS), *fakes


def test_what_the_first_is_not_sure_of_goes_to_the_next() -> None:
    first, second, cheap, dear = pair()
    made = cascade([first, second], labelled(300), max_risk=0.05)
    calls = cheap.calls, dear.calls
    assert calls == (300, 300), "all rows are asked of both, once, to choose the thresholds"
    items = made.run(["message 3", "message 4", "message 5"])
    assert (cheap.calls - 300, dear.calls - 300) == (3, 1)
    assert items.outputs == ["billing", "delivery", "billing"]
    assert [len(item.steps) for item in items] == [1, 2, 1]
    assert isinstance(items[1].steps[0].error, AbstainedError)
    assert items[1].attempts == 2
    assert items[1].cost == pytest.approx(sum(step.cost or 0 for step in items[1].steps))
    assert made("message 8").output == "delivery"
    report = made.report
    assert report.answered == (150, 150)
    assert report.to_people == 0
    assert report.cost_ratio is not None
    assert 0.5 < report.cost_ratio < 0.8
    assert report.unit == "US dollars"
    text = str(report)
    assert "1. LLM('S') answers 150 of 300 rows (50 %), 0 wrong" in text
    assert "promised: at most 5 % of the answers wrong; the upper bound is" in text


def test_a_cascade_is_measured_like_a_task() -> None:
    first, second, *_ = pair()
    made = cascade([first, second], labelled(300), max_risk=0.05)
    report = evaluate(made, labelled(100))
    assert report.score("label").right == 99
    assert report.cost is not None


def test_rows_that_nobody_is_sure_of_are_for_people() -> None:
    first, _, cheap, _ = pair()
    made = cascade([first, first], labelled(300), max_risk=0.05)
    item = made("message 4")
    assert isinstance(item.error, AbstainedError)
    assert item.error.guess == "billing"
    assert made.report.to_people == 150
    assert len(made.tasks) == 1, "the second could not answer more"
    assert cheap.calls == 601


def test_without_prices_tokens_are_compared() -> None:
    first, second, *_ = pair(prices=False)
    made = cascade([first, second], labelled(300), max_risk=0.05)
    assert made.report.unit == "tokens"
    assert isinstance(made, Cascade)


def test_a_budget_covers_all_tasks() -> None:
    first, second, *_ = pair()
    made = cascade([first, second], labelled(300), max_risk=0.05)
    budget = Budget(calls=5)
    items = made.run([f"message {n}" for n in range(2, 12, 2)], budget=budget, concurrency=1)
    assert budget.spent["calls"] == 5
    assert {item.error.code for item in items if item.error} == {"budget"}


def test_a_row_that_the_first_fails_on_continues_and_an_unfit_one_does_not() -> None:
    first, second, *_ = pair()
    made = cascade([first, second], labelled(300), max_risk=0.05)
    broken = Cascade(
        [made.tasks[0].with_(llm=LLM("S", transport=FakeTransport("A")), confidence="logprobs"), second], made.report
    )
    assert broken("message 3").output == "billing"
    assert broken.run(["message 3", ""])[1].steps[0].error == broken.run([""])[0].error
    assert len(broken.run([""])[0].steps) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda first, second: ([first], {}), "at least two tasks"),
        (lambda first, second: ([], {}), "at least two tasks"),
        (lambda first, second: ([first, second], {"max_risk": 3}), "max_risk is a share"),
        (lambda first, second: ([first, second], {"max_risk": 0.001}), "can't be promised"),
        (lambda first, second: ([first, second], {"slices": []}), "no argument 'slices'"),
        (lambda first, second: ([first, second.with_(multi_label=True)], {}), "the same output fields"),
    ],
)
def test_wrong_cascades_are_refused(change: Any, message: str) -> None:
    first, second, *_ = pair()
    tasks, options = change(first, second)
    with pytest.raises(ConfigurationError, match=message):
        cascade(tasks, labelled(100), **{"max_risk": 0.05, **options})


def test_an_item_of_a_cascade_is_written_as_json() -> None:
    first, second, *_ = pair()
    made = cascade([first, second], labelled(300), max_risk=0.05)
    assert json.loads(made("message 4").to_json())["steps"][0]["error"]["code"] == "abstained"
